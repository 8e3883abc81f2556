"""A command of heliodor beside the server, that stops when the server ends.

``python -m heliodor.app.server.child_process pick ...`` runs ``heliodor pick ...`` and sends
itself SIGTERM when its standard input ends, which also happens when the server is killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from heliodor.utils.import_path import python_command

#: The command; tests use another.
COMMAND = python_command("-m", "heliodor.app.server.child_process")
#: Seconds to wait for the process to end after SIGTERM.
_STOP_SECONDS = 20.0


def start_command(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process, and append what it says to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )


def watch_command(process: subprocess.Popen[bytes], look: Callable[[], None], every: float) -> int:
    """Wait for the end of a command; return its exit code.

    Parameters
    ----------
    look
        Called again and again meanwhile, and once after the end.
    every
        Seconds between two calls.
    """
    code = None
    while code is None:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(every)
        look()
    close_input(process)
    return code


def close_input(process: subprocess.Popen[bytes]) -> None:
    """Close the standard input of a command that has ended."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()


def await_end(process: subprocess.Popen[bytes] | None, watcher: threading.Thread | None) -> None:
    """Wait for a process that was told to stop, and for the thread that watches it."""
    if process is not None:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    if watcher is not None:
        watcher.join()


def _end_with_parent() -> None:
    # Not through `sys.stdin`: it cannot be closed at exit while a thread reads from it.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run ``python -m heliodor`` until it ends or the parent does."""
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    runpy.run_module("heliodor", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
