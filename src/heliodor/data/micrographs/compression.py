"""Compressed files (gzip, bzip2), decompressed in memory up to a plausible size."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import IO

from heliodor.errors import BadInput

#: The first bytes of gzip and bzip2 files.
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
#: An image with any noise does not compress to less than a hundredth of its size. A file that
#: would expand further, and to more than this many bytes, is rejected before it fills the memory.
MAX_EXPANSION, MIN_EXPANSION_LIMIT_BYTES = 100, 2**25
_BLOCK_BYTES = 2**20


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed with gzip or bzip2, judging by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(3).startswith((_GZIP, _BZIP2))


def read_first_bytes(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed; fewer if the file is shorter.

    Raises
    ------
    OSError, EOFError, zlib.error
        If the file is damaged.
    """
    return bytes(decompress(path, size, size)[:size])


def decompress(path: Path, wanted: int, most: int) -> bytearray:
    """Return the decompressed contents of a file, which need not be compressed.

    Parameters
    ----------
    wanted
        Number of bytes the file should hold.
    most
        Number of bytes to read at most, rounded up to the next MiB.

    Raises
    ------
    BadInput
        If `wanted` is more than an image of this compressed size can hold.
    OSError, EOFError, zlib.error
        If the file is damaged.
    """
    size = path.stat().st_size
    content = bytearray()
    if is_compressed(path) and wanted > max(MIN_EXPANSION_LIMIT_BYTES, MAX_EXPANSION * size):
        raise BadInput(
            f"{path} has {size} bytes, but its header gives an uncompressed size of {wanted},"
            " which is not plausible for an image; compress the micrograph again"
        )
    with _open_decompressing(path) as stream:
        while len(content) < most and (block := stream.read(min(_BLOCK_BYTES, most))):
            content += block
    return content


def _open_decompressing(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as stream:
        start = stream.read(3)
    if start.startswith(_GZIP):
        return gzip.open(path)
    return bz2.open(path) if start.startswith(_BZIP2) else path.open("rb")
