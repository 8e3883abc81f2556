"""The engine's process as the server has it: lines of JSON to it and from it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: What the engine is, beside a test's own.
COMMAND = (sys.executable, "-m", "heliodor.app.engine.main")
#: Bytes of a line; a longer one is none of the engine's.
_MAX_LINE = 2**24
#: Seconds that the engine has to end once its input has ended, and again after SIGTERM.
STOP_SECONDS = 3.0


class EngineClient:
    """One process, from its start to its end.

    Parameters
    ----------
    on_message
        Is called with each message, on a thread of its own, one after the other.
    ended
        Is called once, on the same thread, with the exit code, unless `stop` was called.
    log
        File for what it says on standard error.
    command
        What to run.
    """

    def __init__(
        self,
        on_message: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None],
        log: Path,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._on_message, self._on_exit = on_message, on_exit
        self._stopping = False
        with log.open("ab") as errors:
            # In a session of its own: Ctrl-C is for the server, which then ends this one.
            self._process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=own, name=own.__name__, daemon=True)
            for own in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; the caller never waits. To an engine that has ended it is lost."""
        self._out.put(json.dumps(message, allow_nan=False).encode() + b"\n")

    def _write(self) -> None:
        assert self._process.stdin is not None
        # What is written into a pipe of a process that has ended is lost: `_read` tells of it.
        with suppress(OSError, ValueError), self._process.stdin as pipe:
            while (line := self._out.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while line := pipe.readline(_MAX_LINE):
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # something a library printed
                if isinstance(message, dict) and not self._stopping:
                    self._on_message(message)
        code = self._process.wait()
        self._out.put(None)
        if not self._stopping:
            self._on_exit(code)

    def stop(self) -> None:
        """End the process: by the end of its input, else by signals; and wait for it."""
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


#: An engine that ends so often within so many seconds is left alone.
MAX_FAILURES, FAILURE_WINDOW = 5, 600.0


class EngineFailures:
    """What an engine ended on; the caller holds the lock."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        #: Micrographs that were being scored when it ended, once.
        self._suspects: set[int] = set()
        #: Micrographs that are not scored any more: it ended twice on them, or cannot read them.
        self.skipped: set[int] = set()

    def record_exit(self) -> int:
        """Note that the engine ended, and return how often it has lately."""
        now = time.monotonic()
        self._deaths = [then for then in self._deaths if now - then < FAILURE_WINDOW] + [now]
        return len(self._deaths)

    def record_suspect(self, number: int) -> bool:
        """Note what it was working on as it ended; tell whether that was so once before."""
        twice = number in self._suspects
        if twice:
            self.skipped.add(number)
        self._suspects.add(number)
        return twice

    def clear_suspect(self, number: int) -> None:
        """Note that a micrograph went well."""
        self._suspects.discard(number)

    def reset(self, micrographs: bool = False) -> None:
        """Begin to count anew; with all `micrographs` tried again where wanted."""
        self._deaths = []
        if micrographs:
            self.skipped.clear()
