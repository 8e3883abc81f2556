"""How long work on many micrographs still takes, from its pace so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: The pace is that of the last so many micrographs, and known from so many on.
_MOST, _LEAST = 40, 3


class Pace:
    """The pace of work on many micrographs; the caller holds the lock.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: When how many were done.
        self._points: deque[tuple[float, int]] = deque(maxlen=_MOST)

    def restart(self) -> None:
        """Forget the pace, as other work begins."""
        self._points.clear()

    def note(self, done: int) -> None:
        """Record how many are done now."""
        if not self._points or done > self._points[-1][1]:
            self._points.append((self._clock(), done))
        elif done < self._points[-1][1]:
            self.restart()

    def seconds_left(self, left: int) -> float | None:
        """Return the seconds that so many more will take; None while the pace is not known."""
        if left <= 0 or len(self._points) < _LEAST:
            return None
        (start, first), (end, last) = self._points[0], self._points[-1]
        each = (end - start) / (last - first)
        return max(0.0, left * each - (self._clock() - end))
