"""Shifts that a 2D classification or a refinement found for each particle.

The coordinates in a table of extracted particles are those of their boxes. Programs keep the
distance of the particle from the center of its box in other columns: RELION in angstrom
(``rlnOriginXAngst``) or, before version 3.1, in pixels of the particle images (``rlnOriginX``),
cryoSPARC in pixels of the particle images (``alignments2D/shift``). In both, the center is the
coordinate minus the shift: RELION computes it so when it re-centers particles for extraction, and
so do pyem and cryoSPARC's own tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats.relion_star import OPTICS
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.star_list import DETECTOR
from heliodor.data.micrographs.working_images import find_pixel_size
from heliodor.utils.parsing import parse_number

#: RELION's columns of shifts in angstrom, and in pixels of the particle images.
IN_ANGSTROM, IN_PIXELS = ("rlnOriginXAngst", "rlnOriginYAngst"), ("rlnOriginX", "rlnOriginY")
#: RELION's columns of the pixel size of particle images, where they are kept for each pick.
_IMAGE_PIXEL_SIZES = (f"{OPTICS}rlnImagePixelSize", "rlnImagePixelSize", "rlnPixelSize")
#: cryoSPARC's groups of fields with shifts, in pixels of the particle images, and their size.
#: A refinement replaces the shifts of a classification before it, even if its own are 0.
IN_CRYOSPARC = ("alignments3D", "alignments2D")


class _Shifts(NamedTuple):
    """The shifts of all picks, and where they are from."""

    #: (x, y), shape (n, 2); nan where it is not known in angstrom.
    angstrom: FloatArray
    #: The columns with the shifts.
    columns: tuple[str, ...]

    @property
    def moved(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which picks have a shift other than 0."""
        return np.asarray((self.angstrom != 0).any(axis=1))


def apply_refined_shifts(
    picks: Picks, pixel_sizes: Mapping[str, float] | None = None
) -> tuple[Picks, str | None]:
    """Move picks by their refined shifts, and set those to 0.

    Picks on micrographs of unknown pixel size stay as they are; see `apply_shifts_on`.

    Parameters
    ----------
    picks
        Picks as they were read, with all columns.
    pixel_sizes
        Angstrom per pixel of micrographs, by name; those in the table come first.

    Returns
    -------
    Picks, str or None
        The picks, and a sentence if some were moved.
    """
    shifts = _find_shifts(picks)
    if shifts is None:
        return picks, None
    known = pixel_sizes or {}
    of_micrographs = np.array([known.get(name, np.nan) for name in picks.micrographs])
    sizes = of_micrographs[picks.micrograph_index]
    own = np.array([*map(parse_number, picks.extra.get(PIXEL_SIZE, ()))])
    if len(own):
        sizes = np.where(own > 0, own, sizes)
    with np.errstate(over="ignore", invalid="ignore"):
        moves = shifts.angstrom / sizes[:, None]
    applied = np.isfinite(moves).all(axis=1) & shifts.moved
    if not applied.any():
        return picks, None
    xy = picks.xy_px - np.where(applied[:, None], moves, 0)
    extra = dict(picks.extra)
    for column in shifts.columns:
        extra[column] = extra[column].copy()
        extra[column][applied] = 0
    length = np.median(np.hypot(*shifts.angstrom[applied].T))
    note = (
        f"the refined shifts of {np.count_nonzero(applied)} particles ({shifts.columns[0]}; median"
        f" {length:.1f} Å) are subtracted from their coordinates"
    )
    return replace(picks, xy_px=xy, extra=extra), note


def apply_shifts_on(
    picks: Picks, found: Mapping[str, Source], pixel_size_angstrom: float | None = None
) -> tuple[Picks, list[str]]:
    """Move picks by those refined shifts that need the pixel sizes of the micrographs.

    Parameters
    ----------
    picks
        Picks with all columns.
    found
        The micrographs, by their names in the table.
    pixel_size_angstrom
        Of all micrographs; None takes those in the STAR file or the headers.

    Returns
    -------
    Picks, list of str
        The picks, and sentences about what was moved, and what could not be.
    """
    shifts = _find_shifts(picks)
    if shifts is None or not shifts.moved.any():
        return picks, []
    shifted = {picks.micrographs[i] for i in np.unique(picks.micrograph_index[shifts.moved])}
    sizes = {
        name: find_pixel_size(source, pixel_size_angstrom)
        for name, source in found.items()
        if name in shifted
    }
    known = {name: size for name, size in sizes.items() if size is not None}
    moved, note = apply_refined_shifts(picks, known)
    return moved, [one for one in (note, describe_unknown_shifts(moved)) if one is not None]


def describe_unknown_shifts(picks: Picks) -> str | None:
    """Return a sentence about refined shifts that could not be applied, if there are any."""
    shifts = _find_shifts(picks)
    if shifts is None or not shifts.moved.any():
        return None
    first = picks.micrographs[picks.micrograph_index[shifts.moved][0]]
    reason = (
        "the table has no pixel size of the particle images"
        if np.isnan(shifts.angstrom[shifts.moved]).any()
        else f"the pixel size of {first} is not known; give --pixel-size, or the micrographs"
    )
    return (
        f"the refined shifts of {np.count_nonzero(shifts.moved)} particles ({shifts.columns[0]})"
        f" are not subtracted from their coordinates: {reason}"
    )


def _find_shifts(picks: Picks) -> _Shifts | None:
    """Return the refined shifts of picks, if their table has columns of them."""
    extra = picks.extra
    for group in IN_CRYOSPARC:
        column = f"{group}/shift"
        shift = np.asarray(extra.get(column, ()))
        if shift.shape == (len(picks), 2) and shift.dtype.kind in "fiu":
            sizes = [extra.get(f"{group}/psize_A"), extra.get("blob/psize_A")]
            size = _first_positive(len(picks), *sizes)
            return _Shifts(_scale(shift.astype(np.float64), size), (column,))
    for columns in (IN_ANGSTROM, IN_PIXELS):
        if not set(columns) <= extra.keys():
            continue
        numbers = np.array([[*map(parse_number, extra[column])] for column in columns]).T
        numbers = np.nan_to_num(numbers.reshape(-1, 2), nan=0.0, posinf=0.0, neginf=0.0)
        if columns == IN_PIXELS:
            sizes = [*(extra.get(column) for column in _IMAGE_PIXEL_SIZES), _detector_sizes(picks)]
            numbers = _scale(numbers, _first_positive(len(picks), *sizes))
            return _Shifts(numbers, columns)
        both = tuple(c for c in (*IN_ANGSTROM, *IN_PIXELS) if c in extra)
        return _Shifts(numbers, both)
    return None


def _scale(shift_px: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return shifts in angstrom; 0 is 0 even if the pixel size is not known."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinite shifts are not applied
        return np.where(shift_px == 0, 0.0, shift_px * sizes[:, None])


def _detector_sizes(picks: Picks) -> FloatArray | None:
    """Return the pixel sizes of particle images in RELION 3.0."""
    if not set(DETECTOR) <= picks.extra.keys():
        return None
    detector, times = (
        np.array([*map(parse_number, picks.extra[column])], dtype=np.float64)
        for column in DETECTOR
    )
    sizes = np.full(len(picks), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(1e4 * detector, times, out=sizes, where=times > 0)
    return sizes


def _first_positive(number: int, *columns: object) -> FloatArray:
    """Return the first positive number in each row of columns, some of which may be None."""
    found = np.full(number, np.nan)
    for column in columns:
        if column is not None:
            values = np.array([*map(parse_number, np.asarray(column))], dtype=np.float64)
            found = np.where(np.isnan(found) & (values > 0), values, found)
    return found
