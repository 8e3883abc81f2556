"""Wishes: what is to be done next, told by one thread and asked for by another."""

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
    """What the server wants that has not been begun yet.

    Of projects and queues only the last one told of counts. Micrographs are taken from the queue
    one by one, that in focus first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: OpenRequest | None = None
        self._train: TrainRequest | None = None
        self._queue: deque[int] = deque()
        self._focus: int | None = None
        self._focus_waits = False
        self._training = False
        self._cancelled = False
        self._closed = False

    def add(self, request: Request) -> bool:
        """Take a request; return False for a training that has to be refused: one is under way."""
        with self._changed:
            if isinstance(request, OpenRequest):
                # A training that waits is not dropped, but cancelled, so that its end is told.
                self._open = request
                self._queue.clear()
                self._focus, self._focus_waits = None, False
                self._cancelled = self._training
            elif isinstance(request, ScoreRequest):
                self._queue = deque(dict.fromkeys(request.ids))
                self._focus_waits = self._focus in self._queue
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
        """Say that nothing more will come: all is to end."""
        with self._changed:
            self._closed = self._cancelled = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether all is to end."""
        return self._closed

    @property
    def cancelled(self) -> bool:
        """Whether the training under way, or the next, is to end."""
        return self._cancelled

    @property
    def urgent(self) -> bool:
        """Whether something else than scoring is to be done."""
        return self._closed or self._open is not None or self._train is not None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until there is something to do, or that long."""
        with self._changed:
            self._changed.wait_for(lambda: self.urgent or self._waiting(), seconds)

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def take_open(self) -> OpenRequest | None:
        """Return the project to begin with, once."""
        with self._changed:
            taken, self._open = self._open, None
            return taken

    def take_train(self) -> TrainRequest | None:
        """Return the training to begin, once; `trained` says that it has ended."""
        with self._changed:
            taken, self._train = self._train, None
            return taken

    def finish_training(self) -> None:
        """Say that the training has ended, however; what is in focus is to be scored anew."""
        with self._changed:
            self._training = False
            self._cancelled = self._closed
            self._focus_waits = self._focus is not None

    def take_id(self) -> int | None:
        """Return the next micrograph to score; None where there is none."""
        with self._changed:
            if self._focus_waits and self._focus is not None:
                self._focus_waits = False
                if self._focus in self._queue:
                    self._queue.remove(self._focus)
                return self._focus
            return self._queue.popleft() if self._queue else None

    def _waiting(self) -> bool:
        return self._focus_waits or bool(self._queue)
