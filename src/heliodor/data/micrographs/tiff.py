"""TIFF files: opened so that none can ask for more than it holds."""

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

#: More images than this are no averages; to count them all takes its time.
MAX_PAGES = 10_000
#: Compressions, by their numbers in TIFF, whose decoders know no limit of their own.
_UNLIMITED: dict[int, Callable[[], Any]] = {
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
_BLOCK_BYTES = 2**20


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF file and give its first series of images, of tifffile.

    What a file says in XML of other files is not followed.

    Raises
    ------
    Exception
        Many kinds, all meaning that the file is damaged.
    """
    import tifffile

    with tifffile.TiffFile(path, is_ome=False) as tiff:
        if len(tiff.pages) > MAX_PAGES:
            raise BadInput(
                f"{path} holds more than {MAX_PAGES} images: it is a movie or a stack; give"
                " motion-corrected averages, one image a file"
            )
        yield tiff.series[0]


def check_data_size(series: Any, path: Path) -> None:
    """Refuse an image that is larger than its file can hold, before room is made for it.

    Parameters
    ----------
    series
        One image, as `open_tiff` gives it.
    """
    page, size = series.keyframe, path.stat().st_size
    claimed = math.prod(series.shape) * series.dtype.itemsize
    packed = page.compression != 1
    most = max(MIN_EXPANSION_LIMIT_BYTES, MAX_EXPANSION * size) if packed else size
    if claimed > most or sum(page.databytecounts) > size:
        raise BadInput(
            f"{path} holds less data than its TIFF header says: it is truncated or damaged; copy"
            " or write it again"
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
                    f"{path} unpacks to more data than its TIFF header says; write it again"
                )


def _unpacks_to_more(raw: bytes, decoder: Any, most: int) -> bool:
    """Tell whether compressed bytes hold more than they should, without keeping them."""
    total, rest = 0, raw
    while not decoder.eof:
        block = decoder.decompress(rest, _BLOCK_BYTES)
        total += len(block)
        if total > most:
            return True
        rest = getattr(decoder, "unconsumed_tail", b"")
        if not block and not rest:
            return False  # it breaks off, as the reader will find
    return False
