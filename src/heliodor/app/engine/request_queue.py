"""The queue between the thread that reads requests and the one that serves them."""

from __future__ import annotations

import threading
from collections import deque

from heliodor.app.protocol import (
    CancelRequest,
    FocusRequest,
    OpenRequest,
    Request,
    ScoreRequest,
    TrainRequest,
)


class RequestQueue:
    """The requests of the server that have not been started.

    Only the latest project and the latest list of micrographs count. Micrographs are taken from
    the list one by one, the one in focus first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: OpenRequest | None = None
        self._train: TrainRequest | None = None
        self._queue: deque[int] = deque()
        self._focus: int | None = None
        self._focus_waits = False
        #: Whether a list of micrographs has come since `take_end_of` was true.
        self._list_waits = False
        self._training = False
        self._cancelled = False
        self._closed = False

    def add(self, request: Request) -> bool:
        """Add a request; return False for a training that is refused because one is running."""
        with self._changed:
            if isinstance(request, OpenRequest):
                # A waiting training is canceled rather than dropped, so that its end is reported.
                self._open = request
                self._queue.clear()
                self._focus, self._focus_waits, self._list_waits = None, False, False
                self._cancelled = self._training
            elif isinstance(request, ScoreRequest):
                self._queue = deque(dict.fromkeys(request.ids))
                self._focus_waits = self._focus in self._queue
                self._list_waits = True
            elif isinstance(request, FocusRequest):
                self._focus, self._focus_waits = request.id, True
            elif isinstance(request, CancelRequest):
                self._cancelled = self._training
            elif self._training:
                return False
            else:
                self._train, self._training, self._cancelled = request, True, False
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Note that no more requests will come: everything is to end."""
        with self._changed:
            self._closed = self._cancelled = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether everything is to end."""
        return self._closed

    @property
    def cancelled(self) -> bool:
        """Whether the running training, or the next one, is canceled."""
        return self._cancelled

    @property
    def urgent(self) -> bool:
        """Whether a request other than scoring is waiting."""
        return self._closed or self._open is not None or self._train is not None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until there is something to do, at most this many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.urgent or self._has_micrographs(), seconds)

    def take_open(self) -> OpenRequest | None:
        """Return the project to open, once."""
        with self._changed:
            taken, self._open = self._open, None
            return taken

    def take_train(self) -> TrainRequest | None:
        """Return the training to start, once; call `finish_training` when it has ended."""
        with self._changed:
            taken, self._train = self._train, None
            return taken

    def finish_training(self) -> None:
        """Note that the training has ended; the micrograph in focus is to be scored again."""
        with self._changed:
            self._training = False
            self._cancelled = self._closed
            self._focus_waits = self._focus is not None

    def take_id(self, until: frozenset[int] | None = None) -> int | None:
        """Return the number of the next micrograph to score; None if there is none.

        Parameters
        ----------
        until
            Where it is given, there is none either once none of these is in the list.
        """
        with self._changed:
            if self._focus_waits and self._focus is not None:
                self._focus_waits = False
                if self._focus in self._queue:
                    self._queue.remove(self._focus)
                return self._focus
            if until is not None and until.isdisjoint(self._queue):
                return None
            return self._queue.popleft() if self._queue else None

    def take_end_of(self, numbers: frozenset[int]) -> bool:
        """Return, once for each list, whether it has come and none of some is in it any more."""
        with self._changed:
            ended = self._list_waits and numbers.isdisjoint(self._queue)
            if ended:
                self._list_waits = False
            return ended

    def _has_micrographs(self) -> bool:
        return self._focus_waits or bool(self._queue) or self._list_waits
