"""Greedy non-maximum suppression: from a map of scores to separate picks.

The picking step of Bepler et al. 2019 (Topaz), Methods 8 and 9: the best remaining pixel
becomes a pick and its surroundings are removed, until no pixel above the threshold is left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The share of the candidates still alive that each pass ranks. The best few percent usually
#: cover the map with their discs, so most pixels are suppressed before they are ever sorted;
#: the last pass takes all that is left and bounds the work by one full sort.
_PASSES: Final = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

#: Candidates from which the lowest score of a pass is estimated.
_SAMPLE: Final = 4096

#: Ranked candidates between two vectorized removals of those already suppressed.
_CHUNK: Final = 2048


def suppress(
    scores: ArrayLike,
    radius_px: float,
    threshold: float = -math.inf,
    margin_px: int | tuple[int, int] = 0,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Pick local maxima by exact greedy non-maximum suppression.

    Repeatedly takes the pixel of highest score (of equal ones the first in row-major order)
    and excludes every pixel whose center lies within `radius_px` of it. No two picks are
    therefore within `radius_px` of each other, and every candidate is within `radius_px` of
    a pick that scores at least as high. Source: Bepler et al. 2019, Methods 8/9.

    Parameters
    ----------
    scores
        Score per pixel, shape (h, w), used as float32. A NaN is never a pick.
    radius_px
        Euclidean exclusion radius, inclusive, in pixels of this map. Below 1, every pixel
        above the threshold is a pick.
    threshold
        Only pixels with a score strictly above it are candidates.
    margin_px
        Pixels this close to the border are not candidates and suppress nothing: the first and
        last `margin_px` rows and columns, or (rows, columns) if the two differ.

    Returns
    -------
    rows_cols
        (row, column) of the picks in descending order of score, shape (n, 2).
    scores
        Their scores, shape (n,).

    Raises
    ------
    BadInput
        If `scores` is not 2-D, `radius_px` or `margin_px` is negative, or `radius_px` or
        `threshold` is NaN.
    """
    image = np.asarray(scores, dtype=np.float32)
    if image.ndim != 2:
        raise BadInput(f"The score map must be 2-D, but its shape is {image.shape}.")
    if not radius_px >= 0:
        raise BadInput(f"The suppression radius must be 0 or more pixels, not {radius_px}.")
    if math.isnan(threshold):
        raise BadInput("The score threshold must be a number, not NaN.")
    outside = _outside_disc(radius_px, image.shape)
    return _greedy(image, _candidates(image, threshold, margin_px), outside)


def _candidates(
    image: NDArray[np.float32], threshold: float, margin_px: int | tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the mask of the pixels that may become picks."""
    margin_y, margin_x = margin_px if isinstance(margin_px, tuple) else (margin_px, margin_px)
    if margin_y < 0 or margin_x < 0:
        raise BadInput(f"The margin must be 0 or more pixels, not {margin_px}.")
    # A float64 array, as a scalar would be rounded to float32 before the comparison.
    mask = np.greater(image, np.array([[threshold]], dtype=np.float64))
    height, width = image.shape
    for border, margin in ((mask, min(margin_y, height)), (mask.T, min(margin_x, width))):
        border[:margin] = False
        border[len(border) - margin :] = False
    return mask


def _greedy(
    image: NDArray[np.float32], mask: NDArray[np.bool_], outside: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Suppress among the pixels of `mask` with the disc whose complement is `outside`."""
    (height, width), (box_height, box_width) = image.shape, outside.shape
    row_0, col_0 = box_height // 2, box_width // 2
    # A border as wide as the disc, so that no disc needs clipping.
    alive = np.zeros((height + 2 * row_0, width + 2 * col_0), dtype=np.bool_)
    alive[row_0 : row_0 + height, col_0 : col_0 + width] = mask
    stride = alive.shape[1]
    # A candidate is known by the flat index of its disc's top left corner in `alive`; `flat`
    # is shifted so that this index finds the candidate itself.
    flat = alive.reshape(-1)[row_0 * stride + col_0 :]
    corners, values = np.flatnonzero(flat), image[mask]
    if outside.size == 1:
        order = _ranking(values)
        return _rows_cols(corners[order], stride), values[order]

    # Reads one element several times faster than an array does.
    is_alive = flat.data
    picked_corners: list[int] = []
    picked_values: list[NDArray[np.float32]] = []
    for share in _PASSES:
        if corners.size == 0:
            break
        # Whole groups of equal scores pass together, or their order would be lost.
        chosen = values >= _lowest_score(values, share)
        order = _ranking(values[chosen])
        ranked, ranked_values = corners[chosen][order], values[chosen][order]
        for start in range(0, ranked.size, _CHUNK):
            chunk = ranked[start : start + _CHUNK]
            survivors = np.flatnonzero(flat[chunk])
            kept: list[int] = []
            for position, corner in zip(
                survivors.tolist(), chunk[survivors].tolist(), strict=True
            ):
                if is_alive[corner]:
                    row, col = divmod(corner, stride)
                    disc = alive[row : row + box_height, col : col + box_width]
                    np.logical_and(disc, outside, out=disc)
                    kept.append(position)
                    picked_corners.append(corner)
            picked_values.append(ranked_values[start : start + _CHUNK][kept])
        waiting = ~chosen & flat[corners]
        corners, values = corners[waiting], values[waiting]

    picks = _rows_cols(np.array(picked_corners, dtype=np.intp), stride)
    return picks, np.concatenate([np.empty(0, dtype=np.float32), *picked_values])


def _rows_cols(indices: NDArray[np.intp], stride: int) -> NDArray[np.intp]:
    return np.stack(np.divmod(indices, max(stride, 1)), axis=1)


def _ranking(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the order of descending values, equal ones by position.

    The same as a stable argsort, in half the time: it sorts integers of which the upper half
    is the negated value's bits, made to order as integers do, and the lower half its position.
    """
    bits = (np.float32(0) - values).view(np.int32)  # a difference has no negative zero
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = (bits.astype(np.int64) << 32) | np.arange(values.size, dtype=np.int64)
    keys.sort()
    return keys & 0xFFFFFFFF


def _outside_disc(radius_px: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the bounding box of the disc, True outside it, no larger than the map needs."""
    # Every pixel of the map is within height + width: keeps an infinite radius harmless.
    radius_px = min(radius_px, float(sum(shape)))
    reach_y, reach_x = (max(0, min(math.floor(radius_px), side - 1)) for side in shape)
    y = np.arange(-reach_y, reach_y + 1)
    x = np.arange(-reach_x, reach_x + 1)
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 > radius_px**2, dtype=np.bool_)


def _lowest_score(values: NDArray[np.float32], share: float) -> np.float32:
    """Estimate the score that about `share` of the values reach; at least one does."""
    if share >= 1 or values.size <= _SAMPLE:
        return np.float32(values.min())
    sample = np.sort(values[:: values.size // _SAMPLE])
    return np.float32(sample[int(sample.size * (1 - share))])
