"""Bounds on CPU time that hold on slow and busy machines alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


def _reference_seconds() -> float:
    """Return the CPU seconds of a fixed piece of Python work: about 0.05 on a core of 2020."""
    start = time.thread_time()
    total = 0
    for number in range(600_000):
        total += number & 7
    assert total
    return time.thread_time() - start


@contextmanager
def at_most_reference_work(times: float) -> Iterator[None]:
    """Require that a block takes at most some times the CPU time of the reference work.

    Other processes do not count, and a slow core is as slow in the reference.
    """
    before = _reference_seconds()
    start = time.thread_time()
    yield
    seconds = time.thread_time() - start
    if seconds > times * before:
        before = max(before, _reference_seconds())
    assert seconds <= times * before, (
        f"{seconds:.2f} s, {seconds / before:.0f} times the reference"
    )
