"""The contamination of micrographs on which filaments are traced."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from heliodor.conventions import FloatArray, Shape
from heliodor.models.filament_maps import FilamentMaps
from heliodor.picking.contamination import ContaminationMask

#: Smaller areas than a disc of the filament's width times this are not shown.
LEAST_DISCS = 1.0


def describe_contamination(
    maps: FilamentMaps,
    blocked: NDArray[np.bool_] | None,
    shape: Shape,
    pixel_size_angstrom: float,
    width_angstrom: float,
) -> ContaminationMask | None:
    """Return where contamination is: that of the user, or where it is more likely than not.

    Parameters
    ----------
    maps
        Of one micrograph.
    blocked
        Points of the lattice in the user's contamination; None: what the network detects.
    shape
        (height, width) of the micrograph in pixels.
    width_angstrom
        Of the filaments; smaller areas are left out, except in what the user gave.

    Returns
    -------
    ContaminationMask or None
        None if the network detects none on any micrograph.
    """
    size = maps.spacing_px * pixel_size_angstrom
    if blocked is not None:
        where = blocked
    elif maps.contaminant is not None:
        least = LEAST_DISCS * math.pi / 4 * (width_angstrom / size) ** 2
        where = _without_small(maps.contaminant >= 0.0, least)
    else:
        return None
    mask = _from_corner(where, maps, shape)
    return ContaminationMask(mask, size, float(mask.mean()))


def _without_small(where: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Return only areas of as many points or more."""
    areas, _ = label(where)
    large = np.bincount(areas.ravel()) >= least
    large[0] = False
    return np.asarray(large[areas])


def _from_corner(where: NDArray[np.bool_], maps: FilamentMaps, shape: Shape) -> NDArray[np.bool_]:
    """Return points of a lattice that begins at the first pixel of the micrograph."""
    counts = [math.floor((side - 1) / maps.spacing_px) + 1 for side in shape]
    rows, columns = (
        np.clip(np.rint(_places(count, maps, first)), 0, most - 1).astype(np.intp)
        for count, first, most in zip(counts, maps.first_px[::-1], where.shape, strict=True)
    )
    return np.asarray(where[np.ix_(rows, columns)])


def _places(count: int, maps: FilamentMaps, first_px: float) -> FloatArray:
    """Return where points at whole steps from the first pixel lie on the lattice of maps."""
    return np.asarray(np.arange(count) - first_px / maps.spacing_px)
