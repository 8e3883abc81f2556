"""TIFF files, with checks that none claims more data than it holds."""

from __future__ import annotations

import lzma
import math
import struct
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
#: A tile may be so many times larger than the image that it is a part of.
_MAX_CHUNK_SHARE = 4


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

    _check_tags(path)
    with tifffile.TiffFile(path, is_ome=False) as tiff:
        if len(tiff.pages) > MAX_PAGES:
            raise BadInput(
                f"{path} has more than {MAX_PAGES} images: it is a movie or a stack; use"
                " motion-corrected averages, one image per file"
            )
        yield tiff.series[0]


#: Tags may be so much larger in all than the file, as several may share their values, and so many
#: values may each have: strips or tiles of an image, for example.
_MAX_TAG_SHARE, _MAX_VALUES = 2, 2**20
#: Bytes of a value of each type of tag.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TYPE_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}


def _check_tags(path: Path) -> None:
    """Refuse a file whose first image has tags that are larger than the file.

    Raises
    ------
    BadInput
        If its tags would take much more memory than the file has bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return  # which the reader will report
        is_big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        entry = struct.Struct(f"{order}HHQ8s" if is_big else f"{order}HHI4s")
        place = (
            struct.unpack(f"{order}Q", head[8:])
            if is_big
            else struct.unpack(f"{order}I", head[4:8])
        )
        first = place[0]
        stream.seek(first if first < size else 0)
        count = struct.Struct(f"{order}Q" if is_big else f"{order}H")
        raw = stream.read(count.size)
        if len(raw) < count.size:
            return
        total = 0
        for _ in range(min(count.unpack(raw)[0], size // entry.size)):
            raw = stream.read(entry.size)
            if len(raw) < entry.size:
                return
            code, kind, values, _ = entry.unpack(raw)
            total += values * _TYPE_BYTES.get(kind, 0)
            if total > _MAX_TAG_SHARE * size or (code in _PER_CHUNK and values > _MAX_VALUES):
                raise BadInput(
                    f"{path} has tags that are larger than the file: it is damaged; write it again"
                )


#: Tags with a value for each strip or tile: offsets and sizes.
_PER_CHUNK = (273, 279, 324, 325)


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
    # Decoders make a whole strip or tile, of which only a part may be in the image.
    chunk = math.prod(page.chunks) * series.dtype.itemsize
    if chunk > max(_MAX_CHUNK_SHARE * claimed, MIN_EXPANSION_LIMIT_BYTES):
        raise BadInput(
            f"{path} has strips or tiles that are much larger than its image: it is damaged;"
            " write it again"
        )
    most = max(MIN_EXPANSION_LIMIT_BYTES, MAX_EXPANSION * size) if packed else size
    if claimed > most or sum(page.databytecounts) > size:
        raise BadInput(
            f"{path} has less data than its TIFF header requires: it is truncated or damaged;"
            " copy or write it again"
        )
    decoder = _UNLIMITED.get(int(page.compression))
    if decoder is None:
        return
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
