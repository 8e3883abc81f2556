"""Correction of bad pixels: NaN and infinite pixels are replaced, hot pixels are clipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Image
from heliodor.data.micrographs.row_blocks import (
    BlockReader,
    read_all_rows,
    split_into_row_blocks,
)
from heliodor.errors import BadInput

#: Up to this share of NaN or infinite pixels is replaced by the median.
MAX_NON_FINITE_FRACTION = 0.05
#: Pixels further from the median than this many robust standard deviations are clipped: hot
#: pixels and X-rays would otherwise ring through the Fourier crop.
CLIP_AT_SD = 25.0
#: The usual range of values is estimated from about this many evenly spaced rows and columns.
SAMPLED_ROWS = 512


def correct_bad_pixels(image: Image, path: Path) -> None:
    """Replace non-finite pixels of an image and clip extreme ones, in place.

    Parameters
    ----------
    image
        Shape (h, w).
    path
        The image's file, for messages.

    Raises
    ------
    BadInput
        If the image is blank, or more than 5% of it is NaN or infinite.
    """
    low, high = _extremes(image)
    if not (np.isfinite(low) and np.isfinite(high)):
        _replace_non_finite(image, path)
        low, high = _extremes(image)
    _check_not_blank(low, high, path)
    # A sample is enough to find the usual range; clipping applies to every pixel.
    least, most = _clip_limits(
        image[:: _sample_step(image.shape[0]), :: _sample_step(image.shape[1])]
    )
    if low < least or high > most:
        np.clip(image, least, most, out=image)


def correct_bad_pixels_in_blocks(reader: BlockReader, path: Path) -> Iterator[tuple[slice, Image]]:
    """Correct an image block by block, with the same result as `correct_bad_pixels`.

    The clipping limits are known only after the whole image has been read. Nearly always nothing
    has to be clipped; otherwise the affected blocks are yielded again at the end, clipped, and
    replace the earlier ones. If any pixel is not finite, all blocks are yielded again.

    Parameters
    ----------
    reader
        The image as it is stored.
    path
        The image's file, for messages.

    Yields
    ------
    slice, ndarray of float32
        The rows and their pixels. Blocks share one buffer: use each before asking for the next.

    Raises
    ------
    BadInput
        As `correct_bad_pixels`, at the end, and if the file cannot be read.
    """
    height, width = reader.shape
    row_step, column_step = _sample_step(height), _sample_step(width)
    samples: list[Image] = []
    seen: list[tuple[slice, np.float32, np.float32]] = []
    buffer = np.empty((next(split_into_row_blocks(reader.shape)).stop, width), dtype=np.float32)
    for rows in split_into_row_blocks(reader.shape):
        block = buffer[: rows.stop - rows.start]
        reader.read(rows.start, block)
        low, high = _extremes(block)
        if not (np.isfinite(low) and np.isfinite(high)):
            yield from _correct_whole_image(reader, path)
            return
        samples.append(block[-rows.start % row_step :: row_step, ::column_step].copy())
        seen.append((rows, low, high))
        yield rows, block
    _check_not_blank(min(low for _, low, _ in seen), max(high for *_, high in seen), path)
    least, most = _clip_limits(np.concatenate(samples))
    for rows, low, high in seen:
        if low < least or high > most:
            block = buffer[: rows.stop - rows.start]
            reader.read(rows.start, block)
            yield rows, np.clip(block, least, most, out=block)


def _correct_whole_image(reader: BlockReader, path: Path) -> Iterator[tuple[slice, Image]]:
    """Correct an image that has non-finite pixels, for which its median is needed."""
    image = read_all_rows(reader)
    correct_bad_pixels(image, path)
    for rows in split_into_row_blocks(image.shape):
        yield rows, image[rows]


def _extremes(image: Image) -> tuple[np.float32, np.float32]:
    """Return the smallest and largest pixel; one is not finite if any pixel is not."""
    with np.errstate(invalid="ignore"):
        return image.min(), image.max()


def _replace_non_finite(image: Image, path: Path) -> None:
    """Replace non-finite pixels with the median of the finite ones."""
    finite = np.isfinite(image)
    bad = image.size - int(np.count_nonzero(finite))
    if bad > MAX_NON_FINITE_FRACTION * image.size:
        raise BadInput(
            f"{path} has {100 * bad / image.size:.0f}% NaN or infinite pixels; motion-correct"
            " it again or leave it out"
        )
    image[~finite] = np.median(image[finite])


def _check_not_blank(low: np.float32, high: np.float32, path: Path) -> None:
    if low == high:
        raise BadInput(f"{path} is blank: every pixel is {low:g}; leave it out")


def _sample_step(side: int) -> int:
    return max(1, side // SAMPLED_ROWS)


def _clip_limits(sample: NDArray[Any]) -> tuple[np.float64, np.float64]:
    """Return the smallest and largest value a pixel may have."""
    low, median, high = np.percentile(sample.astype(np.float64), [15.9, 50.0, 84.1])
    spread = CLIP_AT_SD * (high - low) / 2
    if spread > 0:
        return median - spread, median + spread
    return np.float64(-np.inf), np.float64(np.inf)
