"""Bounds on CPU time that hold on slow and busy machines alike."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager


def _measure_reference() -> float:
    """Return the CPU seconds of a fixed piece of Python work: about 0.05 on a core of 2020."""
    start = time.thread_time()
    total = 0
    for number in range(1_600_000):
        total += number & 7
    assert total
    return time.thread_time() - start


_reference_seconds = functools.cache(_measure_reference)


@contextmanager
def at_most_reference_work(times: float) -> Iterator[None]:
    """Require that a block takes at most some times the CPU time of the reference work.

    Other processes do not count, and a slow core is as slow in the reference.
    """
    reference = _reference_seconds()
    start = time.thread_time()
    yield
    seconds = time.thread_time() - start
    if seconds > times * reference:  # the machine may have become slower since
        reference = max(reference, _measure_reference())
    assert seconds <= times * reference, f"{seconds:.2f} s is {seconds / reference:.0f} references"
