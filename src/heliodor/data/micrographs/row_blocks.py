"""Reading the pixels of a stored image in blocks of rows.

A micrograph is read, converted and transformed block by block: a block stays in the processor's
cache from one step to the next, and a large image never has to be in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Image, Shape
from heliodor.data.micrographs.headers import PixelLayout, truncated_mrc_error
from heliodor.errors import BadInput

#: Pixels of a block: 1 MiB of float32 and as much of its transform.
BLOCK_PX = 2**18
#: Minimum number of rows of a block: the transforms process several at once.
MIN_ROWS = 16


class BlockReader(Protocol):
    """An image whose rows can be read in any order."""

    @property
    def shape(self) -> Shape:
        """(height, width)."""

    def read(self, first_row: int, out: Image) -> None:
        """Fill `out`, shape (n, width), with the n rows starting at `first_row`.

        Doubles beyond the range of float32 become infinite.

        Raises
        ------
        BadInput
            If the file has become too short or cannot be read.
        """


@dataclass(frozen=True)
class ArrayBlockReader:
    """An image in memory: one that had to be decoded as a whole, or an array."""

    data: NDArray[Any]

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        height, width = self.data.shape
        return height, width

    def read(self, first_row: int, out: Image) -> None:
        """Copy rows; see `BlockReader`."""
        with np.errstate(over="ignore"):
            np.copyto(out, self.data[first_row : first_row + len(out)], casting="unsafe")


@dataclass(frozen=True)
class FileBlockReader:
    """An image whose rows are stored one after the other in an open file."""

    stream: BufferedReader
    layout: PixelLayout
    #: For messages.
    path: Path

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        return self.layout.shape

    def read(self, first_row: int, out: Image) -> None:
        """Read rows; see `BlockReader`."""
        dtype, width = self.layout.dtype, self.layout.shape[1]
        # Pixels of the right type are read directly into `out`.
        direct = dtype == out.dtype and out.flags.c_contiguous
        stored = out if direct else np.empty(out.shape, dtype)
        try:
            self.stream.seek(self.layout.offset + first_row * width * dtype.itemsize)
            bytes_read = self.stream.readinto(stored.data.cast("B"))
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be read ({error.strerror or error}); copy it again"
            ) from error
        if bytes_read != stored.nbytes:
            raise truncated_mrc_error(self.path)
        if not direct:
            np.copyto(out, stored, casting="unsafe")


def split_into_row_blocks(shape: Shape) -> Iterator[slice]:
    """Yield the slices of rows that divide an image into blocks, from first to last."""
    height, width = shape
    rows = max(MIN_ROWS, BLOCK_PX // width // MIN_ROWS * MIN_ROWS)
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))


def read_all_rows(reader: BlockReader) -> Image:
    """Read all pixels, shape (h, w)."""
    image = np.empty(reader.shape, dtype=np.float32)
    for rows in split_into_row_blocks(reader.shape):
        reader.read(rows.start, image[rows])
    return image
