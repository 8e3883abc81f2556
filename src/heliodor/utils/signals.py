"""Stopping: how a command ends when it is told to, and saves what it has when it is asked to.

A scheduler, a closed terminal or Ctrl-C ends a command by a signal. It is raised in the main
thread as `Stopped`, at once where nothing can be half done, else at the next `check`. SLURM's
warning, SIGUSR1, asks to save what there is and go on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

#: What ends a program: schedulers, Ctrl-C, closed terminals.
ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
#: The exit code of a command that a signal ended is this and the signal's number, as in a shell.
SIGNALLED: Final = 128


class Stopped(SystemExit):
    """The command was told to stop. Its code is the exit code, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALLED + number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


class _Wishes:
    """What the process has been told; signals are the process's, so there is one of it."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self.deferred = False
        #: A second signal must not interrupt the ending.
        self.stopped = False


_wishes = _Wishes()


@contextmanager
def listening() -> Iterator[None]:
    """Raise `Stopped` in the block when the process is told to stop; heed SIGUSR1.

    Only in the main thread can a signal be listened to; elsewhere nothing changes. A signal that
    is ignored, as with nohup, stays so.
    """
    global _wishes
    before = _wishes
    _wishes = _Wishes()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            handlers: list[tuple[int, Callable[[int, FrameType | None], None]]]
            handlers = [(number, _stop) for number in ENDING]
            if hasattr(signal, "SIGUSR1"):
                handlers.append((signal.SIGUSR1, _save))
            for number, handler in handlers:
                previous = signal.getsignal(number)
                if previous in (signal.SIG_DFL, signal.default_int_handler):
                    stack.callback(signal.signal, number, previous)
                    signal.signal(number, handler)
        try:
            yield
        finally:
            _wishes.stopped = True
            stack.close()
            _wishes = before


@contextmanager
def deferred() -> Iterator[None]:
    """Let the block end by itself or at `check`; what tells to stop waits until then."""
    outer = _wishes.deferred
    _wishes.deferred = True
    try:
        yield
    finally:
        _wishes.deferred = outer
    if not outer:
        check()


def stop_wanted() -> bool:
    """Tell whether the process has been told to stop, in a deferred block."""
    return _wishes.stop is not None and not _wishes.stopped


def check() -> None:
    """Raise `Stopped` if the process has been told to stop."""
    if _wishes.stop is not None and not _wishes.stopped:
        _wishes.stopped = True
        raise Stopped(_wishes.stop)


def save_wanted() -> bool:
    """Tell whether to save what there is has been asked since the last call."""
    wanted, _wishes.save = _wishes.save, False
    return wanted


def _stop(number: int, frame: FrameType | None) -> None:
    if _wishes.stop is None:
        _wishes.stop = number
    if not _wishes.deferred:
        check()


def _save(number: int, frame: FrameType | None) -> None:
    _wishes.save = True
