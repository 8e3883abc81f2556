"""Stop or save a command when a signal asks for it.

A scheduler, a closed terminal or Ctrl-C ends a command by a signal. It is raised in the main
thread as `Stopped`: immediately, or inside `defer_stop` at the next `raise_if_stopped`. SIGUSR1,
which SLURM can send as a warning, asks to save a checkpoint and continue.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

#: Signals that ask to stop: from schedulers, Ctrl-C, closed terminals.
STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
#: Signals that the program handles: also the one that asks to save.
HANDLED_SIGNALS: Final = (
    *STOP_SIGNALS,
    *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []),
)
#: A command that a signal ended exits with this plus the signal number, as in a shell.
SIGNAL_EXIT_BASE: Final = 128


class Stopped(SystemExit):
    """A signal asked the command to stop; `code` is the exit code that a shell reports."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNAL_EXIT_BASE + number)
        self.number = number
        self.code: int = SIGNAL_EXIT_BASE + number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


class _SignalState:
    """The signals received; signals belong to the process, so there is one instance."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self.deferred = False
        #: A second signal must not interrupt the shutdown.
        self.stopped = False


_state = _SignalState()


def hold_signals() -> None:
    """Keep signals that arrive until `handle_signals` or `release_signals`.

    A process that this one starts keeps them too. They are neither lost nor do they end a
    process that cannot handle them yet.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


def release_signals() -> None:
    """Receive the signals that `hold_signals` kept, and later ones."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)


@contextmanager
def handle_signals(restore_after_stop: bool = True) -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the process to stop; note SIGUSR1.

    Signals can be handled only in the main thread; in others this does nothing. A signal that is
    ignored, as with nohup, stays ignored.

    Parameters
    ----------
    restore_after_stop
        Whether the earlier handlers are restored after a stop too. A process that then ends does
        better without: a second signal, such as another Ctrl-C, would interrupt its end.
    """
    global _state
    before = _state
    _state = _SignalState()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            handlers: list[tuple[int, Callable[[int, FrameType | None], None]]]
            handlers = [
                (number, _stop if number in STOP_SIGNALS else _save) for number in HANDLED_SIGNALS
            ]
            for number, handler in handlers:
                previous = signal.getsignal(number)
                if previous in (signal.SIG_DFL, signal.default_int_handler):
                    stack.callback(signal.signal, number, previous)
                    signal.signal(number, handler)
        has_stopped = False
        try:
            release_signals()
            yield
        except Stopped:
            has_stopped = True
            raise
        finally:
            _state.stopped = True
            if has_stopped and not restore_after_stop:
                stack.pop_all()
            else:
                stack.close()
                if has_stopped:  # nor may a second signal interrupt the end of an outer block
                    before.stop, before.stopped = _state.stop, True
                _state = before


@contextmanager
def defer_stop() -> Iterator[None]:
    """Delay stop signals until the block ends or calls `raise_if_stopped`."""
    outer = _state.deferred
    _state.deferred = True
    try:
        yield
    finally:
        _state.deferred = outer
    if not outer:
        raise_if_stopped()


def stop_requested() -> bool:
    """Return whether a stop signal has arrived in a `defer_stop` block."""
    return _state.stop is not None and not _state.stopped


def raise_if_stopped() -> None:
    """Raise `Stopped` if a stop signal has arrived."""
    if _state.stop is not None and not _state.stopped:
        _state.stopped = True
        raise Stopped(_state.stop)


def take_save_request() -> bool:
    """Return whether SIGUSR1 has arrived since the last call."""
    requested, _state.save = _state.save, False
    return requested


def _stop(number: int, frame: FrameType | None) -> None:
    if _state.stop is None:
        _state.stop = number
    if not _state.deferred:
        raise_if_stopped()


def _save(number: int, frame: FrameType | None) -> None:
    _state.save = True
