"""Ends of the engine that nobody asked for: how many there were, and what it was working on."""

from __future__ import annotations

import time

#: An engine that ends so often within so many seconds is left alone.
MOST_DEATHS, WITHIN = 5, 600.0


class Mishaps:
    """What an engine ended on; the caller holds the lock."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        #: Micrographs that were being scored when it ended, once.
        self._suspects: set[int] = set()
        #: Micrographs that are not scored any more: it ended twice on them, or cannot read them.
        self.left_out: set[int] = set()

    def ended(self) -> int:
        """Note that it ended, and return how often it has lately."""
        now = time.monotonic()
        self._deaths = [then for then in self._deaths if now - then < WITHIN] + [now]
        return len(self._deaths)

    def suspect(self, number: int) -> bool:
        """Note what it was working on as it ended; tell whether that was so once before."""
        twice = number in self._suspects
        if twice:
            self.left_out.add(number)
        self._suspects.add(number)
        return twice

    def clear(self, number: int) -> None:
        """Note that a micrograph went well."""
        self._suspects.discard(number)

    def forget(self, micrographs: bool = False) -> None:
        """Begin to count anew; with all `micrographs` tried again where wanted."""
        self._deaths = []
        if micrographs:
            self.left_out.clear()
