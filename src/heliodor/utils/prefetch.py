"""Looking ahead: threads work on the next items while this one is used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from heliodor.utils.signals import Stopped

T = TypeVar("T")
R = TypeVar("R")


#: What the names of the threads begin with.
_NAME = "heliodor-ahead"


def has_running_threads() -> bool:
    """Tell whether threads are still at work that nobody waits for."""
    return any(thread.name.startswith(_NAME) for thread in threading.enumerate())


@contextmanager
def prefetch(
    function: Callable[[T], R], items: Iterable[T], threads: int = 1
) -> Iterator[Iterator[tuple[T, Future[R]]]]:
    """Call a function on items in threads, as many items ahead of the caller as there are threads.

    Reading files and transforming images leave Python to others meanwhile, so micrographs are
    read while earlier ones are scored, and several at a time where there are processors.

    Parameters
    ----------
    function
        What takes long. It is called for no more items than the caller asks for, but for those
        that it is ahead.
    items
        In the order of which the results come.
    threads
        At least 1.

    Yields
    ------
    iterator of (item, Future)
        ``result()`` of the future waits for the function's result or raises what it raised, when
        this item's turn has come and not before. When the block ends, however it ends, nothing
        new is begun and all threads end; they are waited for, unless the process was stopped.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)

    def in_order() -> Iterator[tuple[T, Future[R]]]:
        begun: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            begun.append((item, pool.submit(function, item)))
            if len(begun) > threads:
                yield begun.popleft()
        while begun:
            yield begun.popleft()

    wait = True
    try:
        yield in_order()
    except Stopped:
        # The process is about to end, and what its threads are at is lost: a large micrograph may
        # take longer than a scheduler waits.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
