"""A few threads for slow work, with a priority queue of limited length."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class QueueFull(Exception):
    """Too many tasks are waiting, so this one was dropped."""


class WorkerPool:
    """Threads that take the most urgent task first, and of equal ones the newest.

    After scrolling, what is on the screen now comes before what was there earlier.

    Parameters
    ----------
    threads
        The number of threads.
    most_waiting
        Most tasks that wait; of more, the least urgent ones are dropped.
    """

    def __init__(self, threads: int, most_waiting: int) -> None:
        self._most = most_waiting
        self._count = itertools.count()
        #: The tasks and their futures by (urgency, running number).
        self._queue: dict[tuple[int, int], tuple[Callable[[], Any], Future[Any]]] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"worker {i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], T], urgency: int = 0) -> T:
        """Run a function in a thread, and return or raise what it does.

        Raises
        ------
        Full
            If too many more urgent tasks are waiting.
        """
        future: Future[T] = Future()
        dropped = []
        with self._wake:
            self._queue[urgency, next(self._count)] = (work, future)
            while len(self._queue) > self._most:
                dropped.append(self._queue.pop(min(self._queue))[1])
            self._wake.notify()
        for other in dropped:
            if other.set_running_or_notify_cancel():
                other.set_exception(QueueFull())
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                work, future = self._queue.pop(max(self._queue))
            if not future.set_running_or_notify_cancel():
                continue  # the request was canceled
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    def close(self) -> None:
        """Drop all waiting tasks, and wait for the running ones."""
        with self._wake:
            self._closing = True
            for _, future in self._queue.values():
                future.cancel()
            self._queue.clear()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
