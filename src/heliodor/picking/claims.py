"""Claims: which of several processes, on any hosts, does a piece of work.

Each process has a small file, its presence, in a folder that all of them see, and renews the time
of that file while it works. It claims a piece of work by a hard link to that file, under the name
of the work: the file system lets only one succeed, on NFS too, and the link costs no file. Where
there are no hard links, a file is created that must not exist, with the same content. No locks are
needed.

A claim holds while the presence of its holder is renewed. If the holder ends, its presence is
removed; if it is killed, the presence is no longer renewed, and the claim expires. Ages are
measured by the clock of the file system, as those of hosts differ. The next claim on the same work
has the next number, so that again only one process can make it. Work that is done twice, for
example because a process was suspended for a while, must be harmless.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from heliodor.errors import BadInput
from heliodor.utils.crash_recovery import command_id, is_supervised
from heliodor.utils.files import is_running, link_or_copy

log = logging.getLogger(__name__)

#: A process whose presence has not been renewed for so long is taken for dead. Clients of NFS may
#: see a new time only a minute later.
EXPIRY_SECONDS: Final = 300.0
#: How often it is renewed.
RENEWAL_SECONDS: Final = 30.0
#: What the names of presences end with.
ENDING: Final = ".json"
#: Characters of host names that are not used in the names of files.
_ODD = re.compile("[^A-Za-z0-9.-]")
#: A larger file is no presence.
_LONGEST = 2**16


@dataclass(frozen=True)
class Member:
    """One of the processes that share the work."""

    #: Its name, different from that of any other process.
    name: str
    host: str
    #: The process to stop it by.
    process: int
    #: What its process number is unique in; empty if unknown.
    machine: str
    #: What it does, for people.
    task: str

    @classmethod
    def this_process(cls, task: str) -> Member:
        """Return the member that this process is.

        One that was restarted after a crash is the same member as before.
        """
        process = os.getppid() if is_supervised() else os.getpid()
        host = socket.gethostname()
        name = f"{_ODD.sub('_', host)[:64]}-{process}-{command_id()}"
        return cls(name, host, process, _machine(), task)

    @classmethod
    def read(cls, path: Path) -> Member | None:
        """Read a presence or a claim; None if it is incomplete or gone."""
        try:
            with path.open("rb") as stream:
                value = json.loads(stream.read(_LONGEST))
            member = cls(**{each.name: value[each.name] for each in fields(cls)})
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        is_valid = isinstance(member.process, int) and all(
            isinstance(text, str)
            for text in (member.name, member.host, member.machine, member.task)
        )
        return member if is_valid and _ODD.sub("_", member.name) == member.name else None

    def is_of_this_machine(self) -> bool:
        """Return whether its process can be seen from here."""
        return self.machine != "" and self.machine == _machine()

    def is_known_to_have_ended(self) -> bool:
        """Return whether it ran on this machine and is not running any more."""
        return self.is_of_this_machine() and not is_running(self.process)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def _machine() -> str:
    """Return what identifies the running system, and the container, that numbers processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


class Presence:
    """The presence of this process in a folder.

    Parameters
    ----------
    folder
        An existing folder, on a file system that all processes see.
    member
        This process.
    """

    def __init__(self, folder: Path, member: Member) -> None:
        self.folder, self.member = folder, member
        self.path = folder / f"{member.name}{ENDING}"
        self._ended = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[Presence]:
        """Be present while the block runs.

        Raises
        ------
        BadInput
            If the file cannot be written.
        """
        try:
            # One that was restarted after a crash finds its own, to which its claims are linked.
            with suppress(FileExistsError), self.path.open("x", encoding="utf-8") as stream:
                json.dump(asdict(self.member), stream)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise BadInput(f"{self.path} cannot be written ({error.strerror})") from error
        self.renew()
        renewing = threading.Thread(target=self._renew, name="heliodor-presence", daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            self._ended.set()
            self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            self.renew()

    def renew(self) -> None:
        """Set the time of the presence to the present time of the file system."""
        try:
            os.utime(self.path)
        except OSError as error:  # the next renewal may succeed, and if not, another does the work
            log.debug(f"{self.path} cannot be renewed ({error.strerror})")

    def now(self) -> float:
        """Return the present time of the file system, in seconds since 1970."""
        self.renew()
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def read_renewal(self, member: Member) -> float:
        """Return when another process renewed its presence, by the clock of the file system."""
        with suppress(FileNotFoundError):
            return (self.folder / f"{member.name}{ENDING}").stat().st_mtime
        return 0.0

    def refresh_folder(self) -> None:
        """Let this host see which files there are in the folder now.

        Clients of NFS keep the list of a folder for a while, unless they change it themselves.
        """
        probe = self.path.with_suffix(".new")
        try:
            probe.touch()
        except OSError as error:
            raise BadInput(f"{probe} cannot be written ({error.strerror})") from error
        probe.unlink(missing_ok=True)

    def list_others(self) -> list[Member]:
        """Return the other processes that are at work in the folder."""
        others = (m for m in list_members(self.folder).values() if m.name != self.member.name)
        return [member for member in others if not self.is_gone(member)]

    def is_gone(self, member: Member) -> bool:
        """Return whether another process has ended, or is taken for dead."""
        if (renewed := self.read_renewal(member)) == 0.0 or member.is_known_to_have_ended():
            return True
        return self.now() - renewed > EXPIRY_SECONDS


def list_members(folder: Path) -> dict[Path, Member]:
    """Return the processes that are present in a folder, or were when they were killed."""
    found = {path: Member.read(path) for path in sorted(folder.glob(f"[!.]*-*-*{ENDING}"))}
    return {path: member for path, member in found.items() if member is not None}


def find_active(folder: Path) -> Member | None:
    """Return one of the processes at work in a folder of presences; None if there are none.

    Raises
    ------
    BadInput
        If the folder cannot be written to.
    """
    if not list_members(folder):
        return None
    with Presence(folder, Member.this_process("")).kept() as presence:
        return next(iter(presence.list_others()), None)


class Claims:
    """The claims on pieces of work, which are known by names without dots.

    Parameters
    ----------
    folder
        Of the claims; it is created if necessary, beside the presences.
    presence
        That of this process.
    """

    def __init__(self, folder: Path, presence: Presence) -> None:
        self.folder, self.presence = folder, presence
        self._create()
        #: The number of the last claim on each piece of work, as far as they have been read.
        self._last: dict[str, int] = {}
        self._own: set[str] = set()
        self.refresh()

    def _create(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(f"{self.folder} cannot be created ({error.strerror})") from error

    def refresh(self) -> None:
        """Read which claims there are."""
        with suppress(FileNotFoundError):  # removed when all work is done
            for entry in os.listdir(self.folder):
                name, _, number = entry.rpartition(".")
                if name and number.isdecimal() and len(number) < 10:
                    self._last[name] = max(int(number), self._last.get(name, -1))

    def take_free(self, names: Iterable[str]) -> str | None:
        """Claim the first of some pieces of work that nobody has claimed; None if there is none.

        Raises
        ------
        BadInput
            If claims cannot be written.
        """
        for name in names:
            if name not in self._last:
                if self._take(name, 0):
                    return name
                self.refresh()
        return None

    def take_abandoned(self, names: Iterable[str]) -> str | None:
        """Claim the first of some pieces of work whose holder is gone; None if there is none.

        Raises
        ------
        BadInput
            If claims cannot be written.
        """
        gone: dict[str, bool] = {}
        for name in names:
            number = self._last.get(name)
            if name in self._own or number is None:
                continue
            if self._is_abandoned(name, number, gone) and self._take(name, number + 1):
                return name
        return None

    def take(self, name: str) -> bool:
        """Claim one piece of work, free or abandoned; return whether this process has it now."""
        self._create()  # it may have been removed when all work was done
        self.refresh()
        return (
            name in self._own
            or self.take_free([name]) is not None
            or self.take_abandoned([name]) is not None
        )

    def release(self, name: str) -> None:
        """Give up a claim, so that another process can do the work again."""
        if name in self._own:
            self._own.remove(name)
            self._path(name, self._last[name]).unlink(missing_ok=True)
            del self._last[name]

    def holder(self, name: str) -> Member | None:
        """Return the process that has claimed a piece of work last; None if it is not known."""
        return Member.read(self._path(name, self._last.get(name, 0)))

    def remove(self) -> None:
        """Remove all claims, when all work is done."""
        # Nobody must find some of them gone and claim that work again.
        aside = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            self.folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.{number}"

    def _is_abandoned(self, name: str, number: int, gone: dict[str, bool]) -> bool:
        """Return whether the holder of a claim is gone; `gone` keeps what is known of each."""
        path = self._path(name, number)
        holder = Member.read(path)
        if holder is None:  # its holder was killed before it could write into it
            with suppress(FileNotFoundError):
                return self.presence.now() - path.stat().st_mtime > EXPIRY_SECONDS
            return True
        if holder.name == self.presence.member.name:
            return True  # of this process, before it was restarted after a crash
        if holder.name not in gone:
            gone[holder.name] = self.presence.is_gone(holder)
        return gone[holder.name]

    def _take(self, name: str, number: int) -> bool:
        """Make a claim; return whether this process has made it."""
        path, own = self._path(name, number), self.presence.path
        try:
            is_made = link_or_copy(own, path)
        except FileNotFoundError:
            return False  # all work is done, and the claims have been removed
        except OSError as error:
            raise BadInput(f"{path} cannot be written ({error.strerror})") from error
        self._last[name] = max(number, self._last.get(name, -1))
        if is_made:
            self._own.add(name)
        return is_made
