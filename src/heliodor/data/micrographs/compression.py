"""Compressed files, unpacked in memory: no further than an image can be packed."""

from __future__ import annotations

import bz2
import gzip
from io import BytesIO
from pathlib import Path
from typing import IO

from heliodor.errors import BadInput

#: How gzip and bzip2 files begin.
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
#: A picture with any noise in it is not packed to less than a hundredth; what unpacks to more,
#: and to more than this, would only fill the memory.
MAX_EXPANSION, MIN_EXPANSION_LIMIT_BYTES = 100, 2**25
_BLOCK_BYTES = 2**20


def is_compressed(path: Path) -> bool:
    """Tell a file that gzip or bzip2 has written by its beginning."""
    with path.open("rb") as stream:
        return stream.read(3).startswith((_GZIP, _BZIP2))


def read_first_bytes(path: Path, size: int) -> bytes:
    """Return the first bytes of what a file holds, compressed or not; fewer if it is shorter.

    Raises
    ------
    OSError, EOFError, zlib.error
        If it is damaged.
    """
    return decompress(path, size, size).getvalue()[:size]


def decompress(path: Path, wanted: int, most: int) -> BytesIO:
    """Return what a file holds.

    Parameters
    ----------
    wanted
        The bytes that it should hold.
    most
        No more than these are looked at, to the next MiB.

    Raises
    ------
    BadInput
        If it is to unpack to more than an image can be packed to.
    OSError, EOFError, zlib.error
        If it is damaged.
    """
    size = path.stat().st_size
    content = BytesIO()
    if is_compressed(path) and wanted > max(MIN_EXPANSION_LIMIT_BYTES, MAX_EXPANSION * size):
        raise BadInput(
            f"{path} has {size} bytes, but its header says that it unpacks to {wanted}: that is"
            " not an image; compress the micrograph again"
        )
    with _open_decompressing(path) as stream:
        while content.tell() < most and (block := stream.read(min(_BLOCK_BYTES, most))):
            content.write(block)
    return content


def _open_decompressing(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as stream:
        start = stream.read(3)
    if start.startswith(_GZIP):
        return gzip.open(path)
    return bz2.open(path) if start.startswith(_BZIP2) else path.open("rb")
