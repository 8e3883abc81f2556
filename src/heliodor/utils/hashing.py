"""Fingerprints: whether a file is still the one it was, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliodor.errors import BadInput

#: Files up to this size are read whole.
SMALL: Final = 2**20
#: Of larger ones these bytes at either end, and so many blocks of this size between them.
ENDS, BLOCKS, BLOCK = 2**16, 62, 2**12


def fingerprint_file(path: Path) -> str:
    """Return what tells one content of a file from another.

    A file up to 1 MiB counts whole. Of a larger one count the size, the first and the last
    64 KiB, and 62 blocks of 4 KiB spread evenly between them: 376 KiB, however large the file.
    That is enough for micrographs. Another alignment or dose weighting of a movie, another gain
    or binning changes every pixel; a file that was cut short or filled with zeros from some
    point on differs in size or at its end. A change of a few pixels by hand may go unnoticed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits, BLAKE2b's, the same on every machine.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    found = hashlib.blake2b(digest_size=32)
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            found.update(size.to_bytes(8, "little"))
            if size <= SMALL:
                found.update(stream.read(SMALL))
                return found.hexdigest()
            found.update(stream.read(ENDS))
            room = size - 2 * ENDS - BLOCK
            for number in range(BLOCKS):
                stream.seek(ENDS + room * number // (BLOCKS - 1))
                found.update(stream.read(BLOCK))
            stream.seek(size - ENDS)
            found.update(stream.read(ENDS))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error})") from error
    return found.hexdigest()


def digest(parts: Iterable[bytes | NDArray[Any]]) -> str:
    """Return what tells one sequence of parts, bytes or arrays, from another, likewise."""
    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        own = part if isinstance(part, bytes) else _content(part)
        found.update(len(own).to_bytes(8, "little"))
        found.update(own)
    return found.hexdigest()


def _content(array: NDArray[Any]) -> bytes | memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
