"""A cache with a limit on its bytes, in which each value is made by one thread only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: Larger values, as a share of the limit, are not cached: they would displace all others.
MAX_SHARE = 0.5


class Cache:
    """Values by key; the least recently used ones are dropped first.

    Any thread may call. If several need a value that is not cached, one makes it and the others
    wait for it.

    Parameters
    ----------
    most_bytes
        Most bytes of all values together.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        #: The locks of values that are being made, and the number of threads that need each.
        self._making: dict[Hashable, tuple[Lock, int]] = {}

    @property
    def bytes(self) -> int:
        """The bytes of all cached values."""
        return self._bytes

    def peek(self, key: Hashable) -> Any | None:
        """Return the cached value of a key, or None."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the value of a key, and make it if it is not cached.

        Parameters
        ----------
        key
            A key always has the same value.
        make
            Returns the value; if it raises, nothing is cached.
        size
            Returns the bytes of the value.
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
