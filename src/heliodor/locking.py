"""The lock of an output folder: two runs in one would mix their results."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heliodor.errors import BadInput

#: Locked while a command is at work in its folder; the lock ends with the process, however that
#: ends. What the file says is for people only.
NAME = ".heliodor.lock"
#: The locks that this process holds.
_held: set[Path] = set()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    Parameters
    ----------
    folder
        It is there.

    Raises
    ------
    BadInput
        If another process is at work in it; nothing in it is touched then.
    """
    try:
        import fcntl
    except ImportError:  # Windows: runs there are not kept apart
        yield
        return
    path = folder / NAME
    where = path.absolute()
    if where in _held:  # a job of a host program that runs a command
        yield
        return
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror})") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            who = stream.read(200).strip() or "another process"
            raise BadInput(
                f"heliodor is at work in {folder} already ({who}); wait for its end or stop it,"
                " or choose another folder"
            ) from error
        except OSError:  # some file systems have no locks
            pass
        try:
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            stream.flush()
        except OSError as error:
            raise BadInput(f"{path} cannot be written ({error.strerror})") from error
        _held.add(where)
        try:
            yield
        finally:
            _held.remove(where)
