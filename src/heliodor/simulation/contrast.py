"""The strength of a particle's signal after the contrast transfer function."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from heliodor.simulation.optics import apply_transfer, contrast_transfer
from heliodor.simulation.projection import add_projection, draw_orientations

if TYPE_CHECKING:
    from heliodor.simulation.builtin_particles import Particle
    from heliodor.simulation.optics import Optics

#: Pixel size at which the signal-to-noise ratio is defined.
REFERENCE_PIXEL_ANGSTROM = 4.0

#: Number of orientations over which the signal is averaged.
CALIBRATION_VIEWS = 64


@lru_cache(maxsize=64)
def signal_deviation(kind: Particle, preferred: bool, optics: Optics) -> float:
    """Return the standard deviation of a particle's image within discs of its diameter.

    Parameters
    ----------
    kind
        The particle; its density is used as it is.
    preferred
        Use the particle's preferred views instead of all orientations.
    optics
        Parameters of the contrast transfer function.
    """
    pixel = REFERENCE_PIXEL_ANGSTROM
    rng = np.random.default_rng(1)
    side = 2 * math.ceil(1.5 * kind.diameter_angstrom / pixel)
    transfer = contrast_transfer((side, side), pixel, optics)
    middle = np.array([0.5 * side, 0.5 * side])
    rows, columns = np.indices((side, side)) - 0.5 * side
    disc = np.hypot(rows, columns) <= 0.5 * kind.diameter_angstrom / pixel
    values = []
    for angles in draw_orientations(rng, CALIBRATION_VIEWS, kind, preferred):
        box = np.zeros((side, side), np.float32)
        add_projection(box, kind.blobs, angles, middle, pixel)
        values.append(apply_transfer(box, transfer)[disc])
    return float(np.std(np.concatenate(values)))
