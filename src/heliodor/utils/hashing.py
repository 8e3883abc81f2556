"""Detect whether a file has changed, without reading all of it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from heliodor.errors import BadInput

T = TypeVar("T")

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
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would never end
            raise BadInput(f"{path} cannot be read (it is not a regular file)")
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


def stamp_file(path: Path) -> str:
    """Return the size and the modification time of a file, which change when it is replaced.

    It takes no time, as nothing is read. Empty if the path is not one of a regular file.
    """
    status = _read_status(path)
    return "" if status is None else _stamp(status)


def read_file_state(path: Path) -> list[int]:
    """Return what changes when a file is written or replaced, the same on all hosts that see it.

    It takes no time, as nothing is read: inode, size, and times in nanoseconds, that of the last
    change of the inode included, which no program can set. Empty if the path is not one of a
    regular file.
    """
    status = _read_status(path)
    return [] if status is None else _state(status)


def _state(status: tuple[int, ...]) -> list[int]:
    return list(status[1:])  # without the device, whose number is another on each host


def _stamp(status: tuple[int, ...]) -> str:
    return f"{status[2]}-{status[3]}"


@dataclass(frozen=True)
class FileVersion:
    """The content that a file had when it was read."""

    path: Path
    #: As `fingerprint_file` returns it.
    fingerprint: str
    #: Device, inode, size and times in nanoseconds.
    status: tuple[int, ...]

    @property
    def stamp(self) -> str:
        """As `stamp_file` returned it when the file was read."""
        return _stamp(self.status)

    @property
    def state(self) -> list[int]:
        """As `read_file_state` returned it when the file was read."""
        return _state(self.status)

    def is_current(self) -> bool:
        """Return whether the file still has this content."""
        status = _read_status(self.path)
        if status == self.status:
            return True
        try:
            return status is not None and fingerprint_file(self.path) == self.fingerprint
        except BadInput:
            return False


#: How often a file that changes while it is read is read.
_ATTEMPTS: Final = 3


def read_unchanged(path: Path, read: Callable[[], T]) -> tuple[T, FileVersion | None]:
    """Call a function that reads a file, and again if the file changed in the meantime.

    Parameters
    ----------
    path
        The file.
    read
        Reads it, and raises `BadInput` if it cannot.

    Returns
    -------
    object, FileVersion
        What the function returned, and the content that it read; None in place of the latter if
        the path is not one of a regular file.

    Raises
    ------
    BadInput
        If the file cannot be read, or changed each time.
    """
    for _ in range(_ATTEMPTS):
        status = _read_status(path)
        if status is None:
            return read(), None
        version = FileVersion(path, fingerprint_file(path), status)
        try:
            result = read()
        except BadInput:
            if version.is_current():
                raise
            continue
        if version.is_current():
            return result, version
    raise BadInput(
        f"{path} changed each of the {_ATTEMPTS} times that it was read; run the command again"
        " when it is complete"
    )


def _read_status(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced; None if it is not a regular file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
