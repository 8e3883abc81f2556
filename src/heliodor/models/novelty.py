"""Novelty: how much of a micrograph looks like nothing that a model was trained on.

What a network says of a picture of which it has seen no like is worth little, and its scores do
not tell. Here every block of a micrograph, about as wide as the particle, is described by a few
numbers, and a block is unlike training where these lie farther from those of the training's
blocks than nearly all of them do.
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

#: Bands of detail, each of twice the length of the one before, from single pixels on.
BANDS = 4
#: What describes a block: its mean, the logarithm of its variance in each band, its skewness.
BLOCK_FEATURES = BANDS + 2
#: This share of the training's own blocks lies beyond the limit.
TRAINING_SHARE_BEYOND = 0.01
#: Micrographs differ, and a few do not show by how much: the least standard deviation of each
#: number (of the mean, in spreads of the image), whatever the training's blocks have.
MIN_DEVIATION = 0.05
#: Where a block has no variance at all its logarithm is that of this share of the image's.
MIN_VARIANCE_FRACTION = 1e-6
#: More images, and more blocks of all of them, than these add nothing.
MAX_IMAGES, MAX_BLOCKS = 64, 20000
#: How fewer vary is not to be known.
MIN_BLOCKS = 25
#: Gaussians: ice with particles and without, and what else there is, carbon say, for itself.
GAUSSIANS = 4
#: They start as the blocks nearest to the usual one, the farther ones, and so on.
SHELLS = (0.6, 0.85, 0.96)
EM_STEPS = 40
#: What a Gaussian's variances are at least, in those of all blocks, and so many of its blocks are
#: taken to vary as all do, lest it shrink to a few.
MIN_VARIANCE_SHARE, PRIOR_BLOCKS = 0.05, 20.0
#: Blocks are averaged over so many pixels where their coarsest detail is told.
COARSEST_PX = 8
#: No block of a model's file is larger than twice this.
MAX_CELL_PX = 2**13
#: Nor are its numbers beyond these, with which there is no computing.
SMALLEST, LARGEST = 1e-25, 1e25
#: Every fourth pixel is enough to find dead borders as wide as matter here.
BORDER_STRIDE = 4


@dataclass(frozen=True)
class NoveltyReference:
    """What the blocks of a model's training images look like: a mixture of four Gaussians.

    Attributes
    ----------
    cell_px
        Half the side of a block, in working pixels; a multiple of 8.
    weight, centre, covariance
        (4,), (4, 6) and (4, 6, 6), of the Gaussians in the six numbers of a block.
    limit
        Minus twice the logarithm of the density from which on a block is unlike training.
    """

    cell_px: int
    weight: FloatArray
    centre: FloatArray
    covariance: FloatArray
    limit: float

    @classmethod
    def fit(cls, images: Sequence[Image], diameter_px: float) -> NoveltyReference | None:
        """Describe a training set; expectation maximisation, nothing of it at random.

        Parameters
        ----------
        images
            Normalised working images, each of shape (h, w). Beyond 64 an evenly spaced choice
            is used.
        diameter_px
            The particle's diameter in working pixels.

        Returns
        -------
        Reference or None
            None where the images are too small to tell: where they have fewer than 25 blocks.
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
        # A few images do not show how much images differ.
        limit += (limit - half) / len(tables)
        return cls(cell, weight, centre, covariance, float(_round_to_six_digits(np.array(limit))))

    def novel_fraction(self, image: Image) -> float:
        """Return the share of an image's area that is unlike training, 0 to 1.

        Of training images it is nearly 0: the one block of a hundred that lies beyond the limit
        there too is taken off. Dead borders do not count.

        Parameters
        ----------
        image
            A normalised working image, shape (h, w).

        Returns
        -------
        float
            nan where the image is smaller than a block.
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
        """Rebuild from `as_dict`; raises BadInput where the values describe no training."""
        wrong = "what its training images look like is not told by numbers that can be"
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
    """Describe an image block by block, each number averaged over the blocks around.

    Blocks are two cells wide and one cell apart, and the numbers of three by three of them are
    averaged, which makes them steady enough for small differences to show.

    Parameters
    ----------
    image
        Shape (h, w), normalised.
    cell_px
        Half the side of a block, a multiple of 8.

    Returns
    -------
    ndarray of float64, shape (rows, columns, 6)
        Mean, logarithm of the variance in four bands of detail from fine to coarse, skewness of
        the image averaged over 4 x 4 pixels. Without rows where the image is smaller than a block.
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
    # What averaging two by two pixels takes away from the mean square is the band's variance.
    bands = [np.maximum(fine - coarse, least) for fine, coarse in pairwise(squares)]
    of = levels[2]
    variance = np.maximum(squares[2] - mean**2, least)
    third = blocks(of * of * of) - 3 * mean * squares[2] + 2 * mean**3
    skewness = np.clip(third / variance**1.5, -3, 3)
    table = np.stack([mean, *(np.log(band) for band in bands), skewness], axis=-1)
    return _average_neighbors(table, min(3, *table.shape[:2]))


def _average_neighbors(table: FloatArray, side: int) -> FloatArray:
    """Average every square of `side` by `side` neighbours; the table is less by `side` - 1."""
    rows, columns = (length - side + 1 for length in table.shape[:2])
    down = np.sum([table[i : rows + i] for i in range(side)], axis=0)
    across = np.sum([down[:, i : columns + i] for i in range(side)], axis=0)
    return np.asarray(across / side**2, dtype=np.float64)


def _fit_gaussians(rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit the Gaussians to standardised rows; return their weights, centres and covariances."""
    distance = (rows**2).sum(axis=1)
    shell = np.searchsorted(np.quantile(distance, SHELLS), distance)
    belongs = np.where(np.arange(GAUSSIANS)[:, None] == shell, 1.0, 1e-6)
    belongs /= belongs.sum(axis=0)
    eye = np.eye(BLOCK_FEATURES)
    for _ in range(EM_STEPS):
        own = belongs.sum(axis=1) + 1e-3
        centre = belongs @ rows / own[:, None]
        away = rows - centre[:, None]
        scatter = np.einsum("kn,kni,knj->kij", belongs, away, away, optimize=True)
        # Symmetric to the last bit.
        scatter = (scatter + scatter.swapaxes(1, 2)) / 2
        covariance = (scatter + PRIOR_BLOCKS * eye) / (own + PRIOR_BLOCKS)[:, None, None]
        covariance += MIN_VARIANCE_SHARE * eye
        weight = own / own.sum()
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
    """Return the logarithm of each Gaussian's weighted density at rows, shape (k, n).

    But for a constant that is the same for all.
    """
    lower = np.linalg.cholesky(covariance)
    away = np.linalg.inv(lower) @ (rows - centre[:, None]).swapaxes(1, 2)
    volume = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    peak = np.log(weight) - volume
    return np.asarray(peak[:, None] - 0.5 * np.square(away).sum(axis=1))


def _round_to_six_digits(values: FloatArray) -> FloatArray:
    """Return values to six digits, as many as are worth their place in a model's card."""
    spelt = [float(f"{value:.6g}") for value in values.ravel()]
    return np.array(spelt, dtype=np.float64).reshape(values.shape)


def _no_blocks() -> FloatArray:
    return np.zeros((0, 0, BLOCK_FEATURES))
