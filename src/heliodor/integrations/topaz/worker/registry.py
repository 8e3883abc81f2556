"""Slots: where clients find a suitable worker, without interfering with each other.

A slot is a lock file and a socket in a folder that only this user can open. Its name is a digest
of everything that a worker must share with its client, and a number, so that simultaneous
clients find one worker each: every client takes the first free slot. Only the process that holds
the lock may use, start and remove the worker of a slot. The system releases the locks of a
process that dies, so no slot stays locked, and a socket that nobody listens to is stale.

The folder is not that of the job: jobs lie on network file systems, where locks and sockets are
unreliable and visible to several computers, and whose paths may exceed the 100 bytes or so that
the address of a socket may have.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from contextlib import suppress
from typing import NamedTuple

from heliodor.utils.locking import try_lock

#: Maximum length of the address of a socket, on the system with the lowest limit.
LONGEST_BYTES = 103


def max_workers() -> int:
    """Return the maximum number of workers per user; further clients do their own work."""
    return max(4, os.cpu_count() or 1)


class WorkerSlot(NamedTuple):
    """The lock file and socket of one worker."""

    #: Path of its files without suffix.
    stem: str

    @property
    def lock(self) -> str:
        """Return the path of the lock file."""
        return f"{self.stem}.lock"

    @property
    def address(self) -> str:
        """Return the path of the worker's socket."""
        return f"{self.stem}.sock"

    def acquire(self) -> int | None:
        """Lock the slot and return the descriptor of the lock; None if another process has it.

        Raises
        ------
        OSError
            If the file cannot be created.
        """
        return try_lock(self.lock, mode=0o600, follow_links=False)

    def remove(self) -> None:
        """Remove the files; only the process that holds the lock may call this."""
        for path in (self.address, self.lock):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def connect(self) -> socket.socket | None:
        """Return a connection to the worker, or None if there is none."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(1.0)
            connection.connect(self.address)
        except OSError:
            connection.close()
            return None
        return connection

    def listen(self) -> socket.socket:
        """Return a listening socket at the address, to which only this user may write."""
        with suppress(FileNotFoundError):
            os.unlink(self.address)
        listening = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            listening.bind(self.address)
            listening.listen(16)
        except BaseException:
            listening.close()
            raise
        finally:
            os.umask(mask)
        return listening


def find_slot_folder() -> str | None:
    """Return this user's folder of slots, created if necessary; None if no safe folder exists.

    It is in $XDG_RUNTIME_DIR, or otherwise in /tmp.
    """
    user = os.geteuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        path = os.path.join(base, f"heliodor-{user}")
        if not os.path.isabs(path) or len(os.fsencode(path)) > LONGEST_BYTES - 40:
            continue
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            status = os.lstat(path)
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == user
            if is_own and not status.st_mode & 0o077:
                return path
    return None


def list_slots(place: str, key: object) -> list[WorkerSlot]:
    """Return the slots of a key, in the order in which they are tried."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode("ascii")).hexdigest()
    return [
        WorkerSlot(os.path.join(place, f"{digest[:24]}-{number}"))
        for number in range(max_workers())
    ]


def is_full(place: str) -> bool:
    """Return whether this user already has the maximum number of workers, of all keys."""

    def count_workers() -> int:
        return sum(name.endswith(".sock") for name in os.listdir(place))

    if count_workers() < max_workers():
        return False
    remove_stale_slots(place)
    return count_workers() >= max_workers()


def remove_stale_slots(place: str) -> None:
    """Remove the files of workers that were killed."""
    for name in os.listdir(place):
        stem, suffix = os.path.splitext(name)
        slot = WorkerSlot(os.path.join(place, stem))
        if suffix != ".lock" or (lock := slot.acquire()) is None:
            continue
        try:
            connection = slot.connect()
            if connection is None:
                slot.remove()
            else:
                connection.close()
        finally:
            os.close(lock)
