"""Detect whether a file has changed, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliodor.errors import BadInput

#: Files up to this size are read completely.
SMALL: Final = 2**20
#: Of larger files: bytes read at either end, and number and size of the blocks between.
ENDS, BLOCKS, BLOCK = 2**16, 62, 2**12


def fingerprint_file(path: Path) -> str:
    """Return a hash of the content of a file.

    A file up to 1 MiB is hashed completely. Of a larger one, the size, the first and last 64 KiB
    and 62 evenly spaced blocks of 4 KiB are hashed: 376 KiB, however large the file. That is
    enough for micrographs: another motion correction, dose weighting, gain or binning changes
    every pixel, and a truncated or zero-filled file differs in size or at its end. A change of a
    few pixels by hand may go unnoticed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits (BLAKE2b), the same on every machine.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    hashed = hashlib.blake2b(digest_size=32)
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            hashed.update(size.to_bytes(8, "little"))
            if size <= SMALL:
                hashed.update(stream.read(SMALL))
                return hashed.hexdigest()
            hashed.update(stream.read(ENDS))
            span = size - 2 * ENDS - BLOCK
            for index in range(BLOCKS):
                stream.seek(ENDS + span * index // (BLOCKS - 1))
                hashed.update(stream.read(BLOCK))
            stream.seek(size - ENDS)
            hashed.update(stream.read(ENDS))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error})") from error
    return hashed.hexdigest()


def digest(parts: Iterable[bytes | NDArray[Any]]) -> str:
    """Return a hash of a sequence of bytes and arrays."""
    hashed = hashlib.blake2b(digest_size=32)
    for part in parts:
        content = part if isinstance(part, bytes) else _content(part)
        hashed.update(len(content).to_bytes(8, "little"))
        hashed.update(content)
    return hashed.hexdigest()


def _content(array: NDArray[Any]) -> bytes | memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
