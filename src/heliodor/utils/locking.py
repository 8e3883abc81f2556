"""Lock an output folder: two runs in one folder would mix their results.

Locks are those of ``flock``. The system releases them when their process ends, however it ends,
so no lock is ever stale. They hold on local disks and between the processes of one computer; on
NFS they hold between computers too if the server supports it (NFS 4, or NFS 3 with its lock
service), and on Lustre if it is mounted with ``-o flock``. Where a file system has no locks,
commands work without one.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from heliodor.errors import BadInput
from heliodor.utils.files import LINK, LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The locks that this process holds.
_held: set[Path] = set()


class LockingUnsupported(OSError):
    """The file system, or the operating system, has no locks."""


@contextmanager
def lock_folder(folder: Path | None) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    Parameters
    ----------
    folder
        An existing folder; None if nothing is written, so that nothing is locked. A folder that
        this process has locked already may be locked again.

    Raises
    ------
    BadInput
        If another process works in it; nothing in it is changed then.
    """
    if folder is None:
        yield
        return
    path = folder / LOCK_FILE
    absolute = path.absolute()
    if absolute in _held:  # a job of a host program that runs a command
        yield
        return
    descriptor = _lock(path)
    try:
        _write_owner(path, descriptor)
        _held.add(absolute)
        try:
            yield
        finally:
            _held.remove(absolute)
            with suppress(FileNotFoundError, PermissionError):
                path.unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Lock a folder's file; return the descriptor, None where there are no locks."""
    if path.is_symlink():
        raise BadInput(LINK.format(link=path))
    try:
        descriptor = try_lock(path, follow_links=False)
    except LockingUnsupported:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror})") from error
    if descriptor is None:
        raise BadInput(
            f"heliodor is already running in {path.parent} ({_read_owner(path)}); wait until it"
            " has finished, stop it, or choose another folder"
        )
    return descriptor


def _write_owner(path: Path, descriptor: int | None) -> None:
    """Write into the lock's file which process holds it, for people only."""
    text = f"process {os.getpid()} on {socket.gethostname()}\n"
    try:
        if descriptor is None:
            path.write_text(text, encoding="utf-8")
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror})") from error


def _read_owner(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        if text := path.read_text(encoding="utf-8")[:200].strip():
            return text
    return "another process"


def try_lock(path: str | Path, mode: int = 0o666, follow_links: bool = True) -> int | None:
    """Lock a file, which its holder may remove before it releases the lock.

    Parameters
    ----------
    path
        The file; it is created if necessary.
    mode
        Permissions of a new file.
    follow_links
        Whether the file may be a symbolic link.

    Returns
    -------
    int or None
        A descriptor, which holds the lock until it is closed; None if another has it.

    Raises
    ------
    OSError
        If the file cannot be opened, or (`LockingUnsupported`) there are no locks.
    """
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise LockingUnsupported(str(error)) from error
    flags = os.O_RDWR | os.O_CREAT | (0 if follow_links else os.O_NOFOLLOW)
    while True:
        descriptor = os.open(path, flags, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file between its being opened and locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise LockingUnsupported(error.errno, error.strerror) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
