"""Slots: where a client finds a worker that suits it, and why no two of them quarrel over it.

A slot is a lock file and a socket beside it, in a folder that only this user can open. Its name
is a digest of all that a worker must share with its client, and a number, so that as many clients
as call at once find a worker each: the first free slot is theirs. Whoever holds the lock is alone
in using, starting and removing the worker behind it. The system drops the lock of a process that
dies, so no slot is ever locked for good, and a socket that nobody listens to is known to be stale.

The folder is not that of the job: jobs lie on network file systems, which several computers see
and on which sockets and locks are not to be relied on, and a path there may be longer than the
some 100 bytes that a socket's may have.
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

#: The longest path that the address of a socket takes, on the system with the shortest.
LONGEST_BYTES = 103


def max_workers() -> int:
    """Return how many workers a user may have: clients behind them work for themselves."""
    return max(4, os.cpu_count() or 1)


class WorkerSlot(NamedTuple):
    """The place of one worker."""

    #: What its files are called, without the suffix.
    stem: str

    @property
    def lock(self) -> str:
        """The file that is locked."""
        return f"{self.stem}.lock"

    @property
    def address(self) -> str:
        """The path of the worker's socket."""
        return f"{self.stem}.sock"

    def acquire(self) -> int | None:
        """Lock the slot and return the descriptor that holds it; None where another has it.

        Raises
        ------
        OSError
            If the file cannot be made.
        """
        return try_lock(self.lock, mode=0o600, follow_links=False)

    def remove(self) -> None:
        """Remove the files; only for who has taken the slot."""
        for path in (self.address, self.lock):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def connect(self) -> socket.socket | None:
        """Return a connection to the worker, or None where there is none."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(1.0)
            connection.connect(self.address)
        except OSError:
            connection.close()
            return None
        return connection

    def listen(self) -> socket.socket:
        """Return a socket at the address, which only this user may write to."""
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
    """Return this user's folder of slots, made if need be; None where none is safe.

    It is in $XDG_RUNTIME_DIR, or in /tmp where there is none.
    """
    user = os.geteuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        path = os.path.join(base, f"heliodor-{user}")
        if not os.path.isabs(path) or len(os.fsencode(path)) > LONGEST_BYTES - 40:
            continue
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.lstat(path)
            own = stat.S_ISDIR(found.st_mode) and found.st_uid == user
            if own and not found.st_mode & 0o077:
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
    """Tell whether there are as many workers as may be, of all keys."""

    def there() -> int:
        return sum(name.endswith(".sock") for name in os.listdir(place))

    if there() < max_workers():
        return False
    remove_stale_slots(place)
    return there() >= max_workers()


def remove_stale_slots(place: str) -> None:
    """Remove what workers left behind that were killed."""
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
