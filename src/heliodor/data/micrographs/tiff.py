"""TIFF files, with checks that none claims more data than it holds."""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heliodor.data.micrographs.compression import MAX_EXPANSION, MIN_EXPANSION_LIMIT_BYTES
from heliodor.errors import BadInput

#: A file with more images than this is a movie or a stack; counting them all would take long.
MAX_PAGES = 10_000
#: TIFF compression numbers whose decoders have no output limit of their own.
_UNLIMITED: dict[int, Callable[[], Any]] = {
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
_BLOCK_BYTES = 2**20


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF file and yield its first series of images, as tifffile reads it.

    References to other files in OME-XML are not followed.

    Raises
    ------
    Exception
        Of many types, if the file is damaged.
    """
    import tifffile

    with tifffile.TiffFile(path, is_ome=False) as tiff:
        if len(tiff.pages) > MAX_PAGES:
            raise BadInput(
                f"{path} has more than {MAX_PAGES} images: it is a movie or a stack; use"
                " motion-corrected averages, one image per file"
            )
        yield tiff.series[0]


def check_data_size(series: Any, path: Path) -> None:
    """Raise BadInput for an image larger than its file can hold, before memory is allocated.

    Parameters
    ----------
    series
        One image, as `open_tiff` yields it.
    """
    page, size = series.keyframe, path.stat().st_size
    claimed = math.prod(series.shape) * series.dtype.itemsize
    packed = page.compression != 1
    most = max(MIN_EXPANSION_LIMIT_BYTES, MAX_EXPANSION * size) if packed else size
    if claimed > most or sum(page.databytecounts) > size:
        raise BadInput(
            f"{path} has less data than its TIFF header requires: it is truncated or damaged;"
            " copy or write it again"
        )
    decoder = _UNLIMITED.get(int(page.compression))
    if decoder is None:
        return
    chunk = math.prod(page.chunks) * series.dtype.itemsize
    with path.open("rb") as stream:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            if _unpacks_to_more(stream.read(count), decoder(), chunk):
                raise BadInput(
                    f"{path} decompresses to more data than its TIFF header gives; write it again"
                )


def _unpacks_to_more(raw: bytes, decoder: Any, most: int) -> bool:
    """Return whether bytes decompress to more than `most`, without keeping the result."""
    total, rest = 0, raw
    while not decoder.eof:
        block = decoder.decompress(rest, _BLOCK_BYTES)
        total += len(block)
        if total > most:
            return True
        rest = getattr(decoder, "unconsumed_tail", b"")
        if not block and not rest:
            return False  # truncated, which the reader will report
    return False
