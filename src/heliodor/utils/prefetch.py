"""Prepare the next items in threads while the current one is used."""

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


#: Prefix of the names of the threads.
_NAME = "heliodor-ahead"


def has_running_threads() -> bool:
    """Return whether threads of a stopped `prefetch` are still running."""
    return any(thread.name.startswith(_NAME) for thread in threading.enumerate())


@contextmanager
def prefetch(
    function: Callable[[T], R], items: Iterable[T], threads: int = 1
) -> Iterator[Iterator[tuple[T, Future[R]]]]:
    """Call a function on items in threads, as many items ahead of the caller as there are threads.

    Reading files and Fourier transforms release the interpreter lock, so micrographs are read
    while earlier ones are scored, and several at a time.

    Parameters
    ----------
    function
        The slow part. It is called only for items that the caller asks for, and those ahead.
    items
        Results come in the same order.
    threads
        At least 1.

    Yields
    ------
    iterator of (item, Future)
        ``result()`` of the future waits for the function's result or raises what it raised, when
        the item's turn has come. When the block ends, no new calls begin and all threads end;
        they are waited for, unless the process was stopped.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)

    def in_order() -> Iterator[tuple[T, Future[R]]]:
        pending: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > threads:
                yield pending.popleft()
        while pending:
            yield pending.popleft()

    wait = True
    try:
        yield in_order()
    except Stopped:
        # The process is about to end, and a large micrograph may take longer than a scheduler
        # waits.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
