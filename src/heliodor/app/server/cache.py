"""What is kept in memory for its next use, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: Nothing larger than this share of the whole is kept: it would drive all the rest out.
MAX_SHARE = 0.5


class Cache:
    """Values by key; those used longest ago are forgotten first.

    Any thread may ask. Where several ask for a value that is not there, one makes it and the
    others wait for it.

    Parameters
    ----------
    most_bytes
        All values together take no more than this.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        #: Of what is being made, with the number of those who want it.
        self._making: dict[Hashable, tuple[Lock, int]] = {}

    @property
    def bytes(self) -> int:
        """Return how much is kept."""
        return self._bytes

    def peek(self, key: Hashable) -> Any | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what is kept under a key, made now if need be.

        Parameters
        ----------
        key
            Of one value for ever.
        make
            Makes it; what it raises is raised, and nothing kept.
        size
            Tells its bytes.
        """
        with self._one_at_a_time(key):
            found: T | None = self.peek(key)
            if found is None:
                found = make()
                self._keep(key, found, size(found))
            return found

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        if size > MAX_SHARE * self.most_bytes:
            return
        with self._lock:
            if key in self._kept:
                self._bytes -= self._kept.pop(key)[1]
            self._kept[key] = (value, size)
            self._bytes += size
            while self._bytes > self.most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1][1]

    @contextmanager
    def _one_at_a_time(self, key: Hashable) -> Iterator[None]:
        with self._lock:
            lock, users = self._making.get(key, (Lock(), 0))
            self._making[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._making.pop(key)
                if users > 1:
                    self._making[key] = (lock, users - 1)
