"""Conventions for units, axes and the origin, in one place.

* Arrays are indexed (row, column) and their shapes are (height, width).
* Coordinates are (x, y) = (column, row) of a particle's center, 0-based, in pixels of the
  ORIGINAL micrograph file; row 0 is the first row stored in that file. The center of the
  first pixel is (0.0, 0.0).
* A *working* image is the micrograph after Fourier cropping. Pixel 0 stays aligned, so
  ``x_original = x_working * (width_original / width_working)`` exactly, without a half-pixel
  shift; the same holds for y and the heights.
* Lengths are in angstrom unless a name ends in ``_px``.
* A score is a log-odds: ``probability = 1 / (1 + exp(-score))``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]
FloatArray = NDArray[np.float64]
Image = NDArray[np.float32]

#: The default particle diameter in working pixels for each network. The receptive field (31 pixels
#: for conv31, 71 for resnet8, 91 for resnet16) must cover the particle and some surroundings.
WORKING_DIAMETER_PX: Final = {
    "conv31": 25.0,
    "conv63": 40.0,
    "conv127": 70.0,
    "resnet8": 35.0,
    "resnet16": 40.0,
}

#: The training radius as a fraction of the particle diameter (a quarter of its radius).
TRAINING_RADIUS_FRACTION: Final = 1.0 / 8.0


def working_shape(
    shape: Shape,
    pixel_size_angstrom: float,
    working_pixel_size_angstrom: float,
    finer: bool = False,
) -> Shape:
    """Return the shape of the working image.

    Parameters
    ----------
    shape
        (height, width) of the original micrograph in pixels.
    pixel_size_angstrom, working_pixel_size_angstrom
        Sampling of the original and of the working image, angstrom per pixel.
    finer
        Whether the working image may be larger than the original.

    Returns
    -------
    tuple of int
        (height, width) of the working image, each at least 1.
    """
    factor = pixel_size_angstrom / working_pixel_size_angstrom
    if not finer:
        factor = min(1.0, factor)
    height, width = (max(1, round(side * factor)) for side in shape)
    return height, width


def to_working(xy_px: FloatArray, original: Shape, working: Shape) -> FloatArray:
    """Map (x, y) from original to working pixels.

    Parameters
    ----------
    xy_px
        Coordinates in original pixels, shape (n, 2), columns x and y.
    original, working
        (height, width) of the two images.
    """
    return np.asarray(xy_px, dtype=np.float64) * _factor(working, original)


def to_original(xy_px: FloatArray, original: Shape, working: Shape) -> FloatArray:
    """Map (x, y) from working to original pixels: the inverse of `to_working`."""
    return np.asarray(xy_px, dtype=np.float64) * _factor(original, working)


def _factor(target: Shape, source: Shape) -> FloatArray:
    return np.array([target[1] / source[1], target[0] / source[0]])


def score_to_probability(score: FloatArray) -> FloatArray:
    """Return the probability of a log-odds score; nan stays nan."""
    score = np.asarray(score, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(-np.logaddexp(0.0, -score)), dtype=np.float64)


def disc_area_px(radius_px: float) -> int:
    """Count the pixels within `radius_px` (inclusive) of a pixel's center."""
    reach = math.floor(radius_px)
    offsets = np.arange(-reach, reach + 1)
    return int(np.count_nonzero(offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius_px**2))


IndexArray = NDArray[np.intp]
