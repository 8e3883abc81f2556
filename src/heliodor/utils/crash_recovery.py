"""Restart a long command that crashed.

A process that runs out of memory, or crashes in compiled code, is killed without warning. A long
command therefore runs in a child process. If a crash kills it, it is started again and resumes
from the files on disk, with fewer micrographs in parallel and those that were in progress one at
a time; a micrograph that crashes the process by itself is reported as failed.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from heliodor.utils.signals import (
    HANDLED_SIGNALS,
    SIGNAL_EXIT_BASE,
    hold_signals,
    release_signals,
)

log = logging.getLogger(__name__)

#: Signals of a crash, as opposed to a request to stop.
CRASHES: Final = tuple(
    getattr(signal, name)
    for name in ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)
#: Environment variable of the child process: how often an earlier one has crashed.
CRASH_COUNT_VARIABLE: Final = "HELIODOR_CRASHES"
#: Environment variable of the child process: the same for all that run one command.
COMMAND_VARIABLE: Final = "HELIODOR_COMMAND"
#: Crashes after which it is not restarted.
MAX_CRASHES: Final = 20


def crash_count() -> int:
    """Return how often earlier processes of this command have crashed."""
    value = os.environ.get(CRASH_COUNT_VARIABLE, "")
    return int(value) if value.isdecimal() else 0


def is_supervised() -> bool:
    """Return whether this is the child process of `run_supervised`."""
    return CRASH_COUNT_VARIABLE in os.environ


def command_id() -> str:
    """Return what distinguishes a command from all others that run at the same time.

    In the child process of `run_supervised` it is the same after each restart; otherwise it is
    another for each call.
    """
    value = os.environ.get(COMMAND_VARIABLE, "")
    return value if is_supervised() and value.isalnum() else secrets.token_hex(4)


def has_crashed(code: int) -> bool:
    """Return whether the exit code of `run_supervised` means that the last attempt crashed."""
    return code - SIGNAL_EXIT_BASE in CRASHES


def run_supervised(command: Sequence[str]) -> int:
    """Run a command in a child process, restart it after crashes, and return its exit code.

    Parameters
    ----------
    command
        It must resume when it is started again. It must also call `release_signals` or
        `handle_signals`, as it does not receive signals before.
    """
    identity = secrets.token_hex(4)
    for crash in range(MAX_CRASHES + 1):
        hold_signals()  # the child handles those that arrive before it is ready
        child = subprocess.Popen(
            command,
            env={
                **os.environ,
                CRASH_COUNT_VARIABLE: str(crash),
                COMMAND_VARIABLE: identity,
            },
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
            f"worker process killed by {signal.Signals(-code).name}"
            f"{' (out of memory?)' if -code == signal.SIGKILL else ''}; resuming with fewer"
            " micrographs in parallel"
        )
    log.error(
        f"heliodor: the worker process crashed {MAX_CRASHES + 1} times; finished work is kept"
    )
    return SIGNAL_EXIT_BASE - code


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a child, pass signals on to it, and return its exit code or minus its signal."""
    before = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    try:
        for number, handler in before.items():
            # Ctrl-C reaches both processes, so the child receives it twice, and heeds it once.
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, lambda received, _: child.send_signal(received))
        release_signals()
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Let this new process be killed when its parent ends (Linux)."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
