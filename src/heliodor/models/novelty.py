"""Novelty: how much of a micrograph does not look like a model's training images.

The scores of a network are unreliable on images unlike those it was trained on, and the scores
themselves do not show it. Here every block of a micrograph, about as wide as the particle, is
described by a few features. A block is unlike training if its features have a lower density under
the training blocks' distribution than nearly all training blocks have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray, Image
from heliodor.data.micrographs.dead_borders import DeadBorder, find_dead_border
from heliodor.errors import BadInput
from heliodor.utils.statistics import robust_deviation

#: Number of bands of detail, each with twice the length scale of the one before, from one pixel.
BANDS = 4
#: Number of features of a block: mean, logarithm of the variance in each band, skewness.
BLOCK_FEATURES = BANDS + 2
#: Fraction of the training blocks that lie beyond the limit.
TRAINING_SHARE_BEYOND = 0.01
#: The minimum standard deviation of each feature (of the mean, in standard deviations of the
#: image), because a few micrographs do not show how much micrographs differ.
MIN_DEVIATION = 0.05
#: The minimum variance of a block, as a fraction of the image's variance.
MIN_VARIANCE_FRACTION = 1e-6
#: Maximum number of images, and of blocks of all images, that are used.
MAX_IMAGES, MAX_BLOCKS = 64, 20000
#: Minimum number of blocks for estimating how they vary.
MIN_BLOCKS = 25
#: Number of Gaussians: for ice with and without particles, and for other areas such as carbon.
GAUSSIANS = 4
#: EM starts with one Gaussian per shell of blocks: quantiles of the distance to the median block.
SHELLS = (0.6, 0.85, 0.96)
EM_STEPS = 40
#: To keep a Gaussian from shrinking to a few blocks: minimum of its variances, relative to those
#: of all blocks, and number of blocks that are added with the variances of all blocks.
MIN_VARIANCE_SHARE, PRIOR_BLOCKS = 0.05, 20.0
#: Length scale of the coarsest band of detail, in pixels.
COARSEST_PX = 8
#: Half the side of the largest block that a model file may have.
MAX_CELL_PX = 2**13
#: Range of the numbers that a model file may have; others would overflow.
SMALLEST, LARGEST = 1e-25, 1e25
#: Every fourth pixel is enough to find dead borders that matter here.
BORDER_STRIDE = 4


@dataclass(frozen=True)
class NoveltyReference:
    """The distribution of the training images' blocks: a mixture of four Gaussians.

    Attributes
    ----------
    cell_px
        Half the side of a block, in working pixels; a multiple of 8.
    weight, center, covariance
        The Gaussians in the six features of a block, shapes (4,), (4, 6) and (4, 6, 6).
    limit
        Minus twice the logarithm of the density below which a block is unlike training.
    """

    cell_px: int
    weight: FloatArray
    centre: FloatArray
    covariance: FloatArray
    limit: float

    @classmethod
    def fit(cls, images: Sequence[Image], diameter_px: float) -> NoveltyReference | None:
        """Fit the distribution to training images by expectation maximization, without randomness.

        Parameters
        ----------
        images
            Normalized working images, each of shape (h, w). Of more than 64, an evenly spaced
            subset is used.
        diameter_px
            Particle diameter in working pixels.

        Returns
        -------
        NoveltyReference or None
            None if the images have fewer than 25 blocks.
        """
        cell = choose_cell_size(diameter_px)
        chosen = np.unique(np.linspace(0, len(images) - 1, MAX_IMAGES).astype(int))
        tables = [
            describe_blocks(images[i], cell).reshape(-1, BLOCK_FEATURES)
            for i in chosen[: len(images)]
        ]
        tables = [table for table in tables if len(table)]
        if sum(map(len, tables)) < MIN_BLOCKS:
            return None
        rows = np.concatenate(tables)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, MAX_BLOCKS).astype(int))]
        usual = np.median(rows, axis=0)
        least = np.full(BLOCK_FEATURES, MIN_DEVIATION)
        least[0] *= math.sqrt(float(np.exp(usual[1:-1]).sum()))
        scale = np.hypot([robust_deviation(column) for column in rows.T], least)
        weight, centre, covariance = _fit_gaussians((rows - usual) / scale)
        weight, centre, covariance = (
            _round_to_six_digits(own)
            for own in (weight, usual + centre * scale, covariance * np.outer(scale, scale))
        )
        rarity = _rarity(rows, weight, centre, covariance)
        half, limit = (
            float(np.quantile(rarity, share)) for share in (0.5, 1 - TRAINING_SHARE_BEYOND)
        )
        # A few images do not show how much images differ, so the limit is raised.
        limit += (limit - half) / len(tables)
        return cls(cell, weight, centre, covariance, float(_round_to_six_digits(np.array(limit))))

    def novel_fraction(self, image: Image) -> float:
        """Return the fraction of an image's area that is unlike training, 0 to 1.

        For training images it is nearly 0, because the 1% of their blocks that lie beyond the
        limit is subtracted. Dead borders do not count.

        Parameters
        ----------
        image
            A normalized working image, shape (h, w).

        Returns
        -------
        float
            nan if the image is smaller than a block.
        """
        rows = describe_blocks(image, self.cell_px).reshape(-1, BLOCK_FEATURES)
        if not len(rows):
            return math.nan
        beyond = _rarity(rows, self.weight, self.centre, self.covariance) > self.limit
        return max(
            0.0, (float(beyond.mean()) - TRAINING_SHARE_BEYOND) / (1 - TRAINING_SHARE_BEYOND)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` needs, ready for JSON."""
        parts = {key: getattr(self, key).tolist() for key in ("weight", "centre", "covariance")}
        return {"cell_px": self.cell_px, **parts, "limit": self.limit}

    @classmethod
    def from_dict(cls, value: Any) -> NoveltyReference:
        """Rebuild from `as_dict`; raise BadInput if the values are invalid."""
        wrong = "its description of the training images has invalid numbers"
        try:
            cell, limit = value["cell_px"], value["limit"]
            weight, centre, covariance = (
                np.array(value[key], dtype=np.float64)
                for key in ("weight", "centre", "covariance")
            )
            shapes = weight.shape, centre.shape, covariance.shape
            whole = shapes == (
                (GAUSSIANS,),
                (GAUSSIANS, BLOCK_FEATURES),
                (GAUSSIANS, BLOCK_FEATURES, BLOCK_FEATURES),
            )
            finite = all(np.isfinite(own).all() for own in (weight, centre, covariance))
            if not (whole and finite and type(cell) is int and type(limit) in (int, float)):
                raise BadInput(wrong)
            if not (0 < cell <= MAX_CELL_PX and cell % COARSEST_PX == 0 and abs(limit) < 1e12):
                raise BadInput(wrong)
            if weight.min() <= 0 or abs(weight.sum() - 1) > 1e-3:
                raise BadInput(wrong)
            if not np.array_equal(covariance, covariance.swapaxes(1, 2)):
                raise BadInput(wrong)
            deviations = np.diagonal(np.linalg.cholesky(covariance), axis1=1, axis2=2)
            if deviations.min() < SMALLEST or max(covariance.max(), abs(centre).max()) > LARGEST:
                raise BadInput(wrong)
        except (KeyError, TypeError, ValueError, OverflowError, np.linalg.LinAlgError) as error:
            raise BadInput(wrong) from error
        return cls(cell, weight, centre, covariance, float(limit))


def choose_cell_size(diameter_px: float) -> int:
    """Return half the side of a block that is about as wide as the particle, in pixels."""
    cells = max(1, round(diameter_px / (2 * COARSEST_PX)))
    return min(COARSEST_PX * cells, MAX_CELL_PX)


def describe_blocks(image: Image, cell_px: int) -> FloatArray:
    """Compute the features of an image's blocks, averaged over neighboring blocks.

    Blocks are two cells wide and one cell apart. Their features are averaged over three by three
    blocks, so that small differences become visible.

    Parameters
    ----------
    image
        Shape (h, w), normalized.
    cell_px
        Half the side of a block, a multiple of 8.

    Returns
    -------
    ndarray of float64, shape (rows, columns, 6)
        Mean, logarithm of the variance in four bands of detail from fine to coarse, and skewness
        of the image averaged over 4 x 4 pixels. No rows if the image is smaller than a block.
    """
    border = find_dead_border(image[::BORDER_STRIDE, ::BORDER_STRIDE]).widen(1)
    sides = (
        BORDER_STRIDE * side for side in (border.top, border.bottom, border.left, border.right)
    )
    image = image[DeadBorder(*sides).live_region(image.shape)]
    rows, columns = (side // cell_px for side in image.shape)
    if min(rows, columns) < 2:
        return _no_blocks()
    levels = [np.asarray(image[: rows * cell_px, : columns * cell_px], dtype=np.float32)]
    for _ in range(BANDS - 1):
        upper, lower = levels[-1][::2], levels[-1][1::2]
        pairs = upper + lower
        levels.append(np.float32(0.25) * (pairs[:, ::2] + pairs[:, 1::2]))

    def blocks(values: Image) -> FloatArray:
        side = len(values) // rows
        cells = values.reshape(rows, side, columns * side).sum(axis=1)
        cells = cells.reshape(rows, columns, side).sum(axis=2).astype(np.float64) / side**2
        return _average_neighbors(cells, 2)

    mean = blocks(levels[-1])
    squares = [*(blocks(level * level) for level in levels), mean * mean]
    least = max(MIN_VARIANCE_FRACTION * float(squares[0].mean()), 1e-30)
    # A band's variance is the mean square that averaging two by two pixels removes.
    bands = [np.maximum(fine - coarse, least) for fine, coarse in pairwise(squares)]
    coarse_image = levels[2]
    variance = np.maximum(squares[2] - mean**2, least)
    third = (
        blocks(coarse_image * coarse_image * coarse_image) - 3 * mean * squares[2] + 2 * mean**3
    )
    skewness = np.clip(third / variance**1.5, -3, 3)
    table = np.stack([mean, *(np.log(band) for band in bands), skewness], axis=-1)
    return _average_neighbors(table, min(3, *table.shape[:2]))


def _average_neighbors(table: FloatArray, side: int) -> FloatArray:
    """Average every `side` x `side` square of neighbors; both lengths shrink by `side` - 1."""
    rows, columns = (length - side + 1 for length in table.shape[:2])
    down = np.sum([table[i : rows + i] for i in range(side)], axis=0)
    across = np.sum([down[:, i : columns + i] for i in range(side)], axis=0)
    return np.asarray(across / side**2, dtype=np.float64)


def _fit_gaussians(rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit the Gaussians to standardized rows; return their weights, centers and covariances."""
    distance = (rows**2).sum(axis=1)
    shell = np.searchsorted(np.quantile(distance, SHELLS), distance)
    belongs = np.where(np.arange(GAUSSIANS)[:, None] == shell, 1.0, 1e-6)
    belongs /= belongs.sum(axis=0)
    eye = np.eye(BLOCK_FEATURES)
    for _ in range(EM_STEPS):
        counts = belongs.sum(axis=1) + 1e-3
        centre = belongs @ rows / counts[:, None]
        away = rows - centre[:, None]
        scatter = np.einsum("kn,kni,knj->kij", belongs, away, away, optimize=True)
        # Exactly symmetric.
        scatter = (scatter + scatter.swapaxes(1, 2)) / 2
        covariance = (scatter + PRIOR_BLOCKS * eye) / (counts + PRIOR_BLOCKS)[:, None, None]
        covariance += MIN_VARIANCE_SHARE * eye
        weight = counts / counts.sum()
        logs = _log_densities(rows, weight, centre, covariance)
        belongs = np.exp(logs - np.logaddexp.reduce(logs, axis=0))
    return weight, centre, covariance


def _rarity(
    rows: FloatArray, weight: FloatArray, centre: FloatArray, covariance: FloatArray
) -> FloatArray:
    """Return minus twice the logarithm of a mixture's density at rows, shape (n,)."""
    logs = _log_densities(rows, weight, centre, covariance)
    return np.asarray(-2.0 * np.logaddexp.reduce(logs, axis=0))


def _log_densities(
    rows: FloatArray, weight: FloatArray, centre: FloatArray, covariance: FloatArray
) -> FloatArray:
    """Return each Gaussian's weighted log density at rows, up to a constant, shape (k, n)."""
    lower = np.linalg.cholesky(covariance)
    away = np.linalg.inv(lower) @ (rows - centre[:, None]).swapaxes(1, 2)
    volume = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    peak = np.log(weight) - volume
    return np.asarray(peak[:, None] - 0.5 * np.square(away).sum(axis=1))


def _round_to_six_digits(values: FloatArray) -> FloatArray:
    """Return values rounded to six significant digits, to keep the model card short."""
    rounded = [float(f"{value:.6g}") for value in values.ravel()]
    return np.array(rounded, dtype=np.float64).reshape(values.shape)


def _no_blocks() -> FloatArray:
    return np.zeros((0, 0, BLOCK_FEATURES))
