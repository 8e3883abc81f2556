"""Workers: a few threads for heavy work, and a line before them that has an end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class QueueFull(Exception):
    """So much work is waiting that this piece was not taken, or was dropped."""


class WorkerPool:
    """Threads that take what is most urgent first, and of that what came last.

    Who scrolls on no longer waits for what came before.

    Parameters
    ----------
    threads
        So many pieces of work at a time.
    most_waiting
        Of more, the least urgent ones are given up.
    """

    def __init__(self, threads: int, most_waiting: int) -> None:
        self._most = most_waiting
        self._count = itertools.count()
        #: (how urgent, when it came) with the work, and where its result goes.
        self._line: dict[tuple[int, int], tuple[Callable[[], Any], Future[Any]]] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"worker {i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], T], urgency: int = 0) -> T:
        """Do something in a thread, and return or raise what it does.

        Raises
        ------
        Full
            If too much that is more urgent waits.
        """
        future: Future[T] = Future()
        given_up = []
        with self._wake:
            self._line[urgency, next(self._count)] = (work, future)
            while len(self._line) > self._most:
                given_up.append(self._line.pop(min(self._line))[1])
            self._wake.notify()
        for other in given_up:
            if other.set_running_or_notify_cancel():
                other.set_exception(QueueFull())
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._line or self._closing)
                if not self._line:
                    return
                work, future = self._line.pop(max(self._line))
            if not future.set_running_or_notify_cancel():
                continue  # who wanted it has gone
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    def close(self) -> None:
        """Give up what waits, and wait for what is being done."""
        with self._wake:
            self._closing = True
            for _, future in self._line.values():
                future.cancel()
            self._line.clear()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
