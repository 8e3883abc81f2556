"""The process of the engine, as the server runs it: requests to it and events from it."""

from __future__ import annotations

import logging
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path

from heliodor.app.protocol import Event, Request, read_event, write_message
from heliodor.errors import BadInput
from heliodor.utils.import_path import python_command

log = logging.getLogger(__name__)

#: The command of the engine; tests use another.
COMMAND = python_command("-m", "heliodor.app.engine.main")
#: Most bytes of a line.
_MAX_LINE = 2**24
#: Seconds to wait for the engine to end after its input ended, and again after SIGTERM.
STOP_SECONDS = 3.0
#: An engine that ends more often than this within so many seconds is not restarted.
MAX_FAILURES, FAILURE_WINDOW = 5, 600.0
#: Seconds after which a micrograph is tried again whose failure was a temporary one.
RETRY_SECONDS = 60.0


class EngineClient:
    """One engine process, from its start to its end.

    Parameters
    ----------
    on_event
        Called with each event, one after the other, on a thread of its own.
    on_exit
        Called once with the exit code, on the same thread, unless `stop` was called.
    log_file
        Receives what the process writes to standard error.
    command
        The command to run.

    Raises
    ------
    BadInput
        If the log file cannot be opened.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        on_exit: Callable[[int], None],
        log_file: Path,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._on_event, self._on_exit = on_event, on_exit
        self._stopping = False
        with _open_log(log_file) as errors:
            now = datetime.now().astimezone().isoformat(" ", "seconds")
            with suppress(OSError):  # the disk may be full
                errors.write(f"-- {now}  the engine was started\n".encode())
            # In a session of its own: Ctrl-C goes to the server, which then stops the engine.
            self._process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Send a request without waiting; it is lost if the engine has ended."""
        self._out.put(write_message(request).encode() + b"\n")

    def _write(self) -> None:
        assert self._process.stdin is not None
        # What is written after the process has ended is lost: `_read` reports the end.
        with suppress(OSError, ValueError), self._process.stdin as pipe:
            while (line := self._out.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while line := pipe.readline(_MAX_LINE):
                try:
                    event = read_event(line)
                except BadInput as error:
                    log.warning(f"the engine sent an {error}")
                    continue
                if not self._stopping:
                    self._on_event(event)
        code = self._process.wait()
        self._out.put(None)
        if not self._stopping:
            self._on_exit(code)

    def stop(self) -> None:
        """Stop the process, by ending its input and then by signals, and wait for its end."""
        self._stopping = True
        self._out.put(None)
        for end in (self._process.terminate, self._process.kill):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
            end()
        self._process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_SECONDS)


def _open_log(path: Path) -> FileIO:
    """Open the file for what the engine prints, to append to it; what is written is not kept back.

    Raises
    ------
    BadInput
        If it cannot be opened.
    """
    try:
        if path.is_symlink():  # nothing is written to the file that it leads to
            path.unlink()
        return path.open("ab", buffering=0)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror}); rename it") from error


class EngineFailures:
    """The crashes of the engine, and micrographs that failed; the caller holds the lock.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._exit_times: list[float] = []
        #: Micrographs that were being scored when the engine crashed, once.
        self._suspects: set[int] = set()
        #: Micrographs that are not scored: they cannot be read, or crashed the engine twice; and
        #: the version of the file that did, empty if it was missing.
        self.skipped: dict[int, str] = {}
        #: Micrographs that could be scored, as when there is room on the disk again.
        self.postponed: set[int] = set()
        self._retry_at = 0.0

    def record_exit(self) -> int:
        """Record that the engine ended, and return how often it did lately."""
        now = self._clock()
        self._exit_times = [t for t in self._exit_times if now - t < FAILURE_WINDOW] + [now]
        return len(self._exit_times)

    def record_suspect(self, number: int, stamp: str) -> bool:
        """Record the micrograph being scored at a crash; return whether it is the second time.

        Parameters
        ----------
        stamp
            The version of its file.
        """
        twice = number in self._suspects
        if twice:
            self.skipped[number] = stamp
        self._suspects.add(number)
        return twice

    def postpone(self, number: int) -> None:
        """Record that a micrograph failed for a reason that may be gone later."""
        self.postponed.add(number)
        self._retry_at = self._clock() + RETRY_SECONDS

    def take_due(self) -> int | None:
        """Return a postponed micrograph that is to be tried now, once; None if there is none.

        One shows whether the others would succeed too.
        """
        if not self.postponed or self._clock() < self._retry_at:
            return None
        self._retry_at = self._clock() + RETRY_SECONDS
        return min(self.postponed)

    def forget(self, number: int) -> None:
        """Forget that a micrograph failed."""
        self._suspects.discard(number)
        self.postponed.discard(number)
        self.skipped.pop(number, None)

    def reset(self, micrographs: bool = False) -> None:
        """Forget the crashes, and with `micrographs` also which ones failed."""
        self._exit_times = []
        if micrographs:
            self.skipped.clear()
            self.postponed.clear()
