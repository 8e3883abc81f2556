"""The lock of an output folder: two runs in one would mix their results."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from heliodor.errors import BadInput

#: Locked while a command is at work in its folder; the lock ends with the process, however that
#: ends. What the file says is for people only.
LOCK_FILE = ".heliodor.lock"
#: The locks that this process holds.
_held: set[Path] = set()


@contextmanager
def lock_folder(folder: Path | None) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    Parameters
    ----------
    folder
        It is there; None where nothing is written, and nothing to be alone in.

    Raises
    ------
    BadInput
        If another process is at work in it; nothing in it is touched then.
    """
    if folder is None:
        yield
        return
    try:
        import fcntl
    except ImportError:  # Windows: runs there are not kept apart
        yield
        return
    path = folder / LOCK_FILE
    where = path.absolute()
    if where in _held:  # a job of a host program that runs a command
        yield
        return
    with _locked(path, fcntl) as stream:
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
            path.unlink(missing_ok=True)


def _locked(path: Path, fcntl: Any) -> IO[str]:
    """Open and lock a file, or say who has."""
    while True:
        try:
            stream = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{path} cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            who = stream.read(200).strip() or "another process"
            stream.close()
            raise BadInput(
                f"heliodor is at work in {path.parent} already ({who}); wait for its end or stop"
                " it, or choose another folder"
            ) from error
        except OSError:  # some file systems have no locks
            return stream
        # Who had it before may have removed the file between its being opened and locked.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()
