"""Micrographs that arrive one after the other, while another program still writes some of them.

Folders and lists are looked at again and again, since no file system on a network tells other
computers what changes on it. A micrograph has arrived when its header can be read, the file has
all data that the header requires, and nothing has changed since the last look.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from heliodor.data.micrographs import sources as listing
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.sources import MicrographInputs, Source, find_sources
from heliodor.errors import BadInput

log = logging.getLogger(__name__)

#: A file that has not changed for so long is complete, even if it cannot be read: it is damaged.
PATIENCE_SECONDS = 60.0
#: Micrographs that arrived less than this long ago are looked at again: a program that first makes
#: a file of the full size may have paused.
RECENT_SECONDS = 300.0

#: Size and time of change of a file.
_State = tuple[int, int]
_MISSING: _State = (-1, -1)


@dataclass(frozen=True)
class Look:
    """What was found when the folders and lists were looked at."""

    #: All micrographs that are there or listed, in order.
    sources: list[Source]
    #: Those that have arrived since the last look.
    arrived: list[Source]
    #: Those that are incomplete, and why.
    incomplete: dict[str, str]
    #: Whether a file was new or has changed since the last look.
    changed: bool


@dataclass
class Arrivals:
    """Looks for micrographs that have arrived.

    Parameters
    ----------
    inputs
        As of `find_sources`; they may name nothing yet.
    is_known
        Returns whether a micrograph was dealt with, in the state in which it is now.
    clock
        Seconds that never go back.
    """

    inputs: MicrographInputs
    is_known: Callable[[Source], bool]
    clock: Callable[[], float] = time.monotonic
    #: When each micrograph was found to be known.
    _known: dict[str, float] = field(default_factory=dict)
    #: The state of each of the others, and since when it has it.
    _waiting: dict[str, tuple[_State, float]] = field(default_factory=dict)
    _sources: list[Source] = field(default_factory=list)
    #: Why nothing could be listed, as it was last said.
    _said: str = ""

    def forget(self) -> None:
        """Ask again of all micrographs whether they are known."""
        self._known.clear()

    def look(self) -> Look:
        """Look at the folders and lists once."""
        now = self.clock()
        sources = self._list()
        arrived, incomplete, changed = list[Source](), dict[str, str](), False
        waiting = dict[str, tuple[_State, float]]()
        for source in sources:
            if now - self._known.get(source.name, now) > RECENT_SECONDS:
                continue
            if self.is_known(source):
                self._known.setdefault(source.name, now)
                continue
            self._known.pop(source.name, None)
            state = _read_state(source)
            before = self._waiting.get(source.name)
            is_same = before is not None and before[0] == state
            since = before[1] if before is not None and is_same else now
            waiting[source.name] = (state, since)
            if state == _MISSING:
                changed |= before is not None and not is_same
                incomplete[source.name] = f"{source.path} does not exist"
            elif not is_same:
                changed = True
                incomplete[source.name] = f"{source.path} was still being written"
            elif (fault := _find_fault(source)) is None or now - since >= PATIENCE_SECONDS:
                arrived.append(source)
            else:
                incomplete[source.name] = fault
        self._waiting = waiting
        return Look(sources, arrived, incomplete, changed or bool(arrived))

    def _list(self) -> list[Source]:
        """Return the micrographs that are there or listed now.

        Those of the last time where a list cannot be read, as it may be being written.
        """
        try:
            with _quiet(repeated=bool(self._sources)):
                self._sources = find_sources(self.inputs)
        except BadInput as error:
            if str(error) != self._said:
                log.info(f"waiting: {error}")
                self._said = str(error)
        return self._sources


@contextmanager
def _quiet(repeated: bool) -> Iterator[None]:
    """Say only the first time what there is to say of the names of micrographs."""
    logger = logging.getLogger(listing.__name__)
    level = logger.level
    if repeated:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_state(source: Source) -> _State:
    """Return the state of a micrograph's file."""
    try:
        found = os.stat(source.path)
    except (OSError, ValueError):
        return _MISSING
    return found.st_size, found.st_mtime_ns


def _find_fault(source: Source) -> str | None:
    """Return why a file is not a complete micrograph, None if its header says that it is."""
    try:
        read_header(source.path)
    except BadInput as error:
        return str(error)
    return None
