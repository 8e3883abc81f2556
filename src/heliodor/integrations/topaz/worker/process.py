"""The warm worker: does calls of `extract` one after another, with the model in memory.

It computes, says what a process of its own would say, and writes nothing. It leaves when it has
had nothing to do for a while, and also when the folder of the last results, its socket or the
program it was started from is gone or another one.
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

#: How often a worker with nothing to do looks whether it is still wanted.
CHECK_INTERVAL_S = 1.0
#: How often a client hears that its worker is alive.
ALIVE_INTERVAL_S = 1.0


class Worker:
    """Serves one slot.

    Parameters
    ----------
    listening
        The socket at the slot's address.
    slot
        The slot.
    idle_s
        How long to wait for the next call.
    """

    def __init__(self, listening: socket.socket, slot: WorkerSlot, idle_s: float) -> None:
        self._listening, self._slot, self._idle_s = listening, slot, idle_s
        self._job = os.sep
        self._own = _socket_identity(slot)
        self._code: dict[str, int] = {}
        self._leaving = False

    def serve(self) -> None:
        """Do calls until it is time to leave."""
        until = time.monotonic() + self._idle_s
        while not self._leaving:
            left = until - time.monotonic()
            self._listening.settimeout(max(0.01, min(CHECK_INTERVAL_S, left)))
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                if left <= 0 or self._is_orphan():
                    self._leaving = self._leave()
                continue
            with connection, suppress(OSError, ValueError):  # a client that is killed, or lost
                if self._answer(connection):
                    until = time.monotonic() + self._idle_s

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one client, and tell whether there was one."""
        connection.settimeout(ALIVE_TIMEOUT_S)
        if not messages.is_same_user(connection):
            return False
        # The slot stays taken while this works for a client that may be killed.
        lock = messages.receive_lock(connection)
        if lock is None:
            return False
        try:
            request = messages.receive(connection)
            with _report_alive(connection):
                answer = self._perform(request)
        finally:
            # Before the answer, as the next client may come before this process does.
            os.close(lock)
        messages.send(connection, answer)
        return True

    def _perform(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do a call and return what it said; nothing but that it failed where it did."""
        args, self._job = argparse.Namespace(**request["args"]), request["job"]
        out, err = io.StringIO(), io.StringIO()
        try:
            if self._has_changed():
                raise RuntimeError("the program is another one")
            os.chdir(request["cwd"])
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                code = run_command(args)
        except Exception as error:
            # The client meets the same in its own process, or does not: this one may be broken.
            self._leaving = True
            self._remove()
            return {"failed": repr(error)}
        finally:
            os.chdir("/")  # so that no folder is kept from being removed
        return {"code": code, "out": out.getvalue(), "err": err.getvalue()}

    def _has_changed(self) -> bool:
        """Tell whether a file of this program is not the one that was read."""
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if path and name.partition(".")[0] == "heliodor":
                changed = os.stat(path).st_mtime_ns
                if self._code.setdefault(path, changed) != changed:
                    return True
        return False

    def _is_orphan(self) -> bool:
        return _socket_identity(self._slot) != self._own or not os.path.isdir(self._job)

    def _leave(self) -> bool:
        """Remove what is this worker's, unless a client is about to call."""
        lock = self._slot.acquire()
        if lock is None:
            return False
        try:
            self._remove()
        finally:
            os.close(lock)
        return True

    def _remove(self) -> None:
        """Remove the slot's files, unless a client took this worker for lost and began anew."""
        if _socket_identity(self._slot) == self._own:
            self._slot.remove()


def _socket_identity(slot: WorkerSlot) -> tuple[int, int] | None:
    """Return what tells a slot's socket from one that was made later; None where there is none."""
    try:
        status = os.stat(slot.address)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


@contextmanager
def _report_alive(connection: socket.socket) -> Iterator[None]:
    """Tell the client every second that its worker is alive."""
    done = threading.Event()

    def tell() -> None:
        with suppress(OSError):  # where the client has gone, its work is finished in silence
            while True:
                messages.send(connection, {"alive": os.getpid()})
                if done.wait(ALIVE_INTERVAL_S):
                    break

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Serve the slot that the command line names, from a process of its own."""
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
