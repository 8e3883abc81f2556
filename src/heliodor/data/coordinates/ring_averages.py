"""Averages of images over rings around points, and how far they are from chance.

Around particles the average of the image over each of several rings differs from that around
random points. The averages over neighboring rings are correlated, because images are smooth, so
the differences are compared with the covariance of the averages around all pixels of the image
(the squared Mahalanobis distance). This needs to know neither the size nor the shape of particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from heliodor.conventions import FloatArray, Image, IndexArray, Shape
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.utils.statistics import robust_deviation

#: Pixels along the longer side of the images used: particles are then 8 to 40 pixels wide.
SIDE_PX = 512
#: Number and width of the rings; particles have random orientations.
RINGS, RING_PX = 10, 1.5
#: Standard deviation of the Gaussian average that is subtracted as background.
BACKGROUND_PX = 12.0
#: Share of the variance that is added: covariances of very smooth images are nearly singular.
RIDGE = 1e-3
#: Points in one square of this side see nearly the same surroundings, and count as one.
SAME_PX = 8
#: Median of the squared distance by chance: that of the chi-squared law with `RINGS` degrees.
USUAL = 9.342


@dataclass(frozen=True)
class RingMaps:
    """The averages over the rings around each pixel of a small image."""

    #: Deviation 1, without background, outliers and dead borders, shape (h, w).
    image: Image
    #: Minus their mean over the image, shape (h, w, RINGS).
    rings: NDArray[np.float32]
    #: Of the rings around a random pixel, shape (RINGS, RINGS).
    covariance: FloatArray

    @classmethod
    def from_image(cls, image: Image) -> Self:
        """Measure an image at any sampling."""
        small, alive = _prepare_image(image)
        rings = _average_rings(small)
        inside = rings[alive].reshape(-1, RINGS)
        mean = inside.mean(axis=0, dtype=np.float64)
        # Neighboring pixels are alike: a quarter of them is enough.
        some = rings[alive][::2, ::2].reshape(-1, RINGS).astype(np.float64) - mean
        covariance = some.T @ some / max(len(some), 1)
        covariance += np.eye(RINGS) * max(RIDGE * np.trace(covariance) / RINGS, 1e-12)
        return cls(small, rings - mean.astype(np.float32), covariance)

    @property
    def shape(self) -> Shape:
        """(height, width) of the small image."""
        height, width = self.image.shape
        return height, width


def _prepare_image(image: Image) -> tuple[Image, tuple[slice, slice]]:
    """Return a small image with deviation 1 without background, and its rows and columns alive."""
    factor = min(1.0, SIDE_PX / max(image.shape))
    shape = (max(1, round(side * factor)) for side in image.shape)
    small = fourier_crop(image, (next(shape), next(shape)))
    small -= np.float32(small.mean(dtype=np.float64))
    small -= gaussian_filter(small, BACKGROUND_PX)
    rows, columns = find_dead_border(small).widen(4).live_region(small.shape)
    alive = small[rows, columns]
    alive = alive - np.median(alive)
    spread = robust_deviation(alive, 0.0) or 1.0
    out = np.zeros_like(small)
    out[rows, columns] = np.clip(alive / np.float32(spread), -3, 3)
    out[rows, columns] -= out[rows, columns].mean()
    return out, (rows, columns)


def _average_rings(image: Image) -> NDArray[np.float32]:
    height, width = image.shape
    margin = int(RINGS * RING_PX)
    padded = tuple(scipy.fft.next_fast_len(side + margin, True) for side in (height, width))
    spectrum = scipy.fft.rfft2(image.astype(np.float64), padded)
    out = np.empty((height, width, RINGS), dtype=np.float32)
    for ring, own in enumerate(ring_spectra((padded[0], padded[1]))):
        out[:, :, ring] = scipy.fft.irfft2(spectrum * own, padded)[:height, :width]
    return out


@cache
def ring_spectra(shape: Shape) -> NDArray[np.complexfloating]:
    """Return the spectra of the averages over rings, for images of a shape with padding."""
    rows, columns = (scipy.fft.fftfreq(side, 1 / side) for side in shape)
    ring = np.floor(np.hypot(rows[:, None], columns[None, :]) / RING_PX)
    kernels = (ring == np.arange(RINGS)[:, None, None]).astype(np.float64)
    return np.asarray(scipy.fft.rfft2(kernels / kernels.sum(axis=(1, 2), keepdims=True)))


def measure_distances(
    maps: Sequence[RingMaps], xy: Sequence[FloatArray], displacements: IndexArray
) -> FloatArray:
    """Return how far the averages around points are from chance, for common displacements.

    Parameters
    ----------
    maps
        The images.
    xy
        The points (x, y) on each, in pixels of the small image, shape (n, 2).
    displacements
        (x, y) by which all points are moved, in the same pixels, shape (k, 2). Points that are
        moved out of the image do not count.

    Returns
    -------
    ndarray
        Squared distances, shape (k,). For independent random points they have the chi-squared law
        with `RINGS` degrees of freedom; points next to each other are not independent, see
        `count_coincidence`.
    """
    total = np.zeros((len(displacements), RINGS))
    covariance = np.zeros((len(displacements), RINGS, RINGS))
    for own, points in zip(maps, xy, strict=True):
        if not len(points):
            continue
        last = np.array(own.shape[::-1]) - 1
        nearest = np.minimum(np.rint(points).astype(np.intp), last)
        moved = nearest[None] + displacements[:, None]
        inside = ((moved >= 0) & (moved <= last)).all(axis=2)
        moved = np.clip(moved, 0, last)
        for k, (at, kept) in enumerate(zip(moved, inside, strict=True)):
            rings = own.rings[at[kept, 1], at[kept, 0]]
            total[k] += rings.sum(axis=0, dtype=np.float64)
        weight = inside.sum(axis=1) * count_coincidence(nearest)
        covariance += weight[:, None, None] * own.covariance
    return _square(total, covariance)


def count_coincidence(xy: FloatArray | IndexArray) -> float:
    """Return by how much points next to each other increase the variance of a sum over all.

    1 if no two of n points lie in one square of `SAME_PX`, n if all do: for example if all
    coordinates lie in one corner.

    Parameters
    ----------
    xy
        Pixels of the small image, shape (n, 2).
    """
    if not len(xy):
        return 1.0
    squares = np.floor_divide(xy, SAME_PX).astype(np.int64)
    counts = np.unique(squares, axis=0, return_counts=True)[1]
    return float((counts.astype(np.float64) ** 2).sum() / len(xy))


def _square(total: FloatArray, covariance: FloatArray) -> FloatArray:
    known = np.trace(covariance, axis1=1, axis2=2) > 0
    out = np.zeros(len(total))
    solved = np.linalg.solve(covariance[known], total[known][:, :, None])[:, :, 0]
    out[known] = (total[known] * solved).sum(axis=1)
    return out


def standardize_distance(square: float) -> float:
    """Return a squared distance in standard deviations above chance.

    The cube root of a chi-squared variable is nearly normal: Wilson & Hilferty, PNAS 17 (1931)
    684-688.
    """
    variance = 2 / (9 * RINGS)
    return float((np.cbrt(square / RINGS) - (1 - variance)) / np.sqrt(variance))
