"""The shelf: large arrays lie in memory while they fit, and beyond in files without a name."""

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

#: Written at a time where a file system cannot reserve space.
_PIECE: Final = 2**20


class ArrayStore:
    """Gives room for arrays, in memory up to a number of bytes, then in files.

    The files have no name, so they end with the process, however that ends. What is computed
    from an array is the same wherever it lies.

    Parameters
    ----------
    folder
        On whose disk the files lie.
    budget_bytes
        Bytes of arrays that may lie in memory at a time.
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
            If there is neither memory left in the budget nor space on the disk.
        """
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not self._fits(nbytes):
            return self._in_file(nbytes, shape, dtype)
        array = np.empty(shape, dtype)
        self._count(array)
        return array

    def store(self, array: Array) -> Array:
        """Return an array of the same values that counts to the budget or lies in a file."""
        if self._fits(array.nbytes):
            self._count(array)
            return array
        there = self._in_file(array.nbytes, array.shape, array.dtype)
        there[...] = array
        self.release_pages()
        return there  # type: ignore[return-value]

    def release_pages(self) -> None:
        """Let the system take back the memory in which it holds parts of the files.

        What was written stays; it is read again when it is wanted.
        """
        self._mapped = [own for own in self._mapped if own() is not None]
        for own in self._mapped:
            mapped = own()
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
                # All of it at once: a disk that is full later would end the process by a signal.
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
                f" --memory ({error.strerror or error}); free some, or give more memory"
            ) from error
        self._mapped.append(weakref.ref(mapped))
        return np.frombuffer(mapped, dtype).reshape(shape)
