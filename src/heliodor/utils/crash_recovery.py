"""The guard: a crash of the process that works costs a retry, not the run.

Out of memory, or in a library's compiled code, a process dies with no chance to say so. So a long
command works in a process of its own, and this one waits. When that dies by such a signal, it is
started again, told how often that has happened: it goes on from what is on disk, fewer micrographs
at a time, those that were under way alone; one that crashes it alone is reported as failed.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from heliodor.utils.signals import SIGNAL_EXIT_BASE

log = logging.getLogger(__name__)

#: What a process dies of that nobody told to end.
CRASHES: Final = tuple(
    getattr(signal, name)
    for name in ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)
#: Says to the process that works that it is guarded, and how often one before it crashed.
CRASH_COUNT_VARIABLE: Final = "HELIODOR_CRASHES"
#: Crashes after which it is left alone: something is wrong with the machine.
MAX_CRASHES: Final = 20
#: What is passed on.
_FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


def crash_count() -> int:
    """Return how often the process that did this work before has crashed."""
    said = os.environ.get(CRASH_COUNT_VARIABLE, "")
    return int(said) if said.isdecimal() else 0


def is_supervised() -> bool:
    """Tell whether this process is one that works for a guard."""
    return CRASH_COUNT_VARIABLE in os.environ


def has_crashed(code: int) -> bool:
    """Return whether the exit code of `run_supervised` means that the last attempt crashed."""
    return code - SIGNAL_EXIT_BASE in CRASHES


def run_supervised(command: Sequence[str]) -> int:
    """Run a command in a process of its own until it ends by itself, and return its exit code.

    Parameters
    ----------
    command
        That can be started again to go on.
    """
    for crash in range(MAX_CRASHES + 1):
        child = subprocess.Popen(
            command,
            env={**os.environ, CRASH_COUNT_VARIABLE: str(crash)},
            preexec_fn=_die_with_parent,
        )
        code = _wait(child)
        if code >= 0:
            return code
        if -code not in CRASHES:
            return SIGNAL_EXIT_BASE - code
        if crash == MAX_CRASHES:
            break
        log.warning(
            f"the process that worked died of {signal.Signals(-code).name}"
            f"{' (out of memory?)' if -code == signal.SIGKILL else ''}; going on from what it had"
            " done, fewer micrographs at a time"
        )
    log.error(f"heliodor: it died {MAX_CRASHES + 1} times; what was done is kept")
    return SIGNAL_EXIT_BASE - code


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a process, pass on what this one is told, and return its code or minus a signal."""
    before = {number: signal.getsignal(number) for number in (*_FORWARDED, signal.SIGINT)}
    try:
        for number in _FORWARDED:
            if before[number] == signal.SIG_DFL:
                signal.signal(number, lambda told, _: child.send_signal(told))
        # Ctrl-C reaches both; the other says what there is to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Let this process, just begun, end with its parent (Linux)."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
