"""Keep large arrays in memory up to a limit, and beyond it in temporary files."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heliodor.errors import BadInput

Array = TypeVar("Array", bound=NDArray[Any])

#: Bytes written at a time where a file system cannot reserve space.
_PIECE: Final = 2**20


class ArrayStore:
    """Allocates arrays in memory up to a number of bytes, then in files.

    The files have no name, so they disappear with the process, however it ends. Results do not
    depend on where an array is.

    Parameters
    ----------
    folder
        The files are on the disk of this folder.
    budget_bytes
        Size of the arrays that may be in memory at a time.
    """

    def __init__(self, folder: Path | None = None, budget_bytes: float = math.inf) -> None:
        self._folder, self.budget_bytes = folder, budget_bytes
        self._used = 0
        self._mapped: list[weakref.ref[mmap.mmap]] = []

    def allocate(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return a new array to be filled.

        Raises
        ------
        BadInput
            If neither the memory budget nor the disk has room for it.
        """
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not self._fits(nbytes):
            return self._in_file(nbytes, shape, dtype)
        array = np.empty(shape, dtype)
        self._count(array)
        return array

    def add(self, array: Array) -> Array:
        """Return an array with the same values that counts towards the budget or is in a file."""
        if self._fits(array.nbytes):
            self._count(array)
            return array
        stored = self._in_file(array.nbytes, array.shape, array.dtype)
        stored[...] = array
        self.release_pages()
        return stored  # type: ignore[return-value]

    def release_pages(self) -> None:
        """Let the system free the memory in which it caches the files.

        The data stays in the files and is read again when it is used.
        """
        self._mapped = [reference for reference in self._mapped if reference() is not None]
        for reference in self._mapped:
            mapped = reference()
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def _fits(self, nbytes: int) -> bool:
        return nbytes == 0 or self._folder is None or self._used + nbytes <= self.budget_bytes

    def _count(self, array: NDArray[Any]) -> None:
        if self._folder is not None:
            self._used += array.nbytes
            weakref.finalize(array, self._give_back, array.nbytes).atexit = False

    def _give_back(self, nbytes: int) -> None:
        self._used -= nbytes

    def _in_file(
        self, nbytes: int, shape: int | tuple[int, ...], dtype: DTypeLike
    ) -> NDArray[Any]:
        try:
            with tempfile.TemporaryFile(dir=self._folder) as stream:
                # Reserve all space now: a disk full later would kill the process by a signal.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, nbytes)
                else:
                    for first in range(0, nbytes, _PIECE):
                        stream.write(bytes(min(_PIECE, nbytes - first)))
                    stream.flush()
                mapped = mmap.mmap(stream.fileno(), nbytes)
        except OSError as error:
            raise BadInput(
                f"{self._folder} has no room for {nbytes / 1e9:.2g} GB of images that exceed"
                f" --memory ({error.strerror or error}); free disk space, or increase --memory"
            ) from error
        self._mapped.append(weakref.ref(mapped))
        return np.frombuffer(mapped, dtype).reshape(shape)
