"""The warm worker: runs calls of `extract` one after another, with the model in memory.

It computes, returns what a separate process would print, and writes nothing. It exits when it has
been idle for a while, or when the folder of the last results, its socket or its program files have
been removed or replaced.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import sys
import threading
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from heliodor.integrations.topaz.main import run_command
from heliodor.integrations.topaz.worker import messages
from heliodor.integrations.topaz.worker.client import ALIVE_TIMEOUT_S, read_idle_timeout
from heliodor.integrations.topaz.worker.registry import WorkerSlot, remove_stale_slots
from heliodor.utils import console

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds between checks of an idle worker whether it is still needed.
CHECK_INTERVAL_S = 1.0
#: Seconds between the reports of a worker that it is alive.
ALIVE_INTERVAL_S = 1.0


class Worker:
    """Serve one slot.

    Parameters
    ----------
    listening
        The socket at the slot's address.
    slot
        The slot.
    idle_s
        Seconds to wait for the next call.
    """

    def __init__(self, listening: socket.socket, slot: WorkerSlot, idle_s: float) -> None:
        self._listening, self._slot, self._idle_s = listening, slot, idle_s
        self._job = os.sep
        self._socket = _socket_identity(slot)
        self._code: dict[str, int] = {}
        self._exiting = False

    def serve(self) -> None:
        """Run calls until it is time to exit."""
        until = time.monotonic() + self._idle_s
        while not self._exiting:
            left = until - time.monotonic()
            self._listening.settimeout(max(0.01, min(CHECK_INTERVAL_S, left)))
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                if left <= 0 or self._is_orphan():
                    self._exiting = self._try_exit()
                continue
            with connection, suppress(OSError, ValueError):  # the client was killed
                if self._answer(connection):
                    until = time.monotonic() + self._idle_s

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one client, and return whether there was one."""
        connection.settimeout(ALIVE_TIMEOUT_S)
        if not messages.is_same_user(connection):
            return False
        # The slot stays locked during the work, even if the client is killed.
        lock = messages.receive_lock(connection)
        if lock is None:
            return False
        try:
            request = messages.receive(connection)
            with _report_alive(connection):
                answer = self._perform(request)
        finally:
            # Before the answer, since the next client may come right after it.
            os.close(lock)
        messages.send(connection, answer)
        return True

    def _perform(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a call and return its output, or only that it failed."""
        args, self._job = argparse.Namespace(**request["args"]), request["job"]
        out, err = io.StringIO(), io.StringIO()
        try:
            if self._has_changed():
                raise RuntimeError("the program files have changed (another version)")
            os.chdir(request["cwd"])
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                code = run_command(args)
        except Exception as error:
            # The client repeats the call in its own process; this one may be broken.
            self._exiting = True
            self._remove()
            return {"failed": repr(error)}
        finally:
            os.chdir("/")  # so that the folder can be removed
        return {"code": code, "out": out.getvalue(), "err": err.getvalue()}

    def _has_changed(self) -> bool:
        """Return whether a file of this program has changed since it was imported."""
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if path and name.partition(".")[0] == "heliodor":
                changed = os.stat(path).st_mtime_ns
                if self._code.setdefault(path, changed) != changed:
                    return True
        return False

    def _is_orphan(self) -> bool:
        return _socket_identity(self._slot) != self._socket or not os.path.isdir(self._job)

    def _try_exit(self) -> bool:
        """Remove this worker's files, unless a client is about to call; return whether it did."""
        lock = self._slot.acquire()
        if lock is None:
            return False
        try:
            self._remove()
        finally:
            os.close(lock)
        return True

    def _remove(self) -> None:
        """Remove the slot's files, unless a client gave up this worker and started another."""
        if _socket_identity(self._slot) == self._socket:
            self._slot.remove()


def _socket_identity(slot: WorkerSlot) -> tuple[int, int] | None:
    """Return what identifies the socket of a slot, or None if there is none."""
    try:
        status = os.stat(slot.address)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


@contextmanager
def _report_alive(connection: socket.socket) -> Iterator[None]:
    """Report to the client every second that its worker is alive."""
    done = threading.Event()

    def report_alive() -> None:
        with suppress(OSError):  # if the client is gone, finish its work silently
            while True:
                messages.send(connection, {"alive": os.getpid()})
                if done.wait(ALIVE_INTERVAL_S):
                    break

    thread = threading.Thread(target=report_alive, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Serve the slot that the command line names, in a separate process."""
    console.show_messages()
    descriptor, stem = sys.argv[1:]
    if os.fork():
        os._exit(0)
    slot = WorkerSlot(stem)
    with socket.socket(fileno=int(descriptor)) as listening:
        Worker(listening, slot, read_idle_timeout()).serve()
    remove_stale_slots(os.path.dirname(stem))


if __name__ == "__main__":
    main()
