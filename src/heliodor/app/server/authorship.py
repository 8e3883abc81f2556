"""Who labeled and rejected what, and when, where several people work on a project.

Noted in a file of its own, from the first name that is given: labels.star and negatives.star, and
whatever is exported, have no names.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from heliodor.app.server.annotations import Annotation
from heliodor.utils.files import parse_json

log = logging.getLogger(__name__)

NAME: Final = "authors.jsonl"
#: Longest name of a person.
MAX_NAME: Final = 40
#: The newest entries that the page shows, and those that are read at the start.
SHOWN: Final = 200
#: Changes of one person on one micrograph make one entry if no more than this lies between them.
_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Author:
    """Who made an annotation, and when, in seconds since 1970."""

    name: str
    at: float


@dataclass
class Entry:
    """What one person changed on one micrograph; numbers of annotations."""

    by: str
    micrograph: str
    at: float
    labeled: int = 0
    rejected: int = 0
    removed: int = 0


class Authorship:
    """The authors of annotations by their ids, and the latest changes; any thread may call.

    Parameters
    ----------
    folder
        The project folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._lock = threading.Lock()
        self._authors: dict[str, Author] = {}
        self._entries: list[Entry] = []
        if self._path.is_symlink():  # nothing is written to the file that it leads to
            self._path.unlink()
        self._is_used = self._path.is_file()
        #: Ends a line that was being written when the program was killed.
        self._before = ""
        if self._is_used:
            self._read()

    def _read(self) -> None:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            log.warning(f"{self._path} cannot be read ({error.strerror}); names are not shown")
            return
        self._before = "" if text.endswith("\n") or not text else "\n"
        for line in text.splitlines():
            # A line that is not complete is left out.
            with suppress(ValueError, LookupError, TypeError, AttributeError, OverflowError):
                self._take(parse_json(line))

    def _take(self, value: Mapping[str, Any]) -> None:
        """Take over a change; the caller holds the lock."""
        by, at = str(value["by"])[:MAX_NAME], float(value["at"])
        kinds = {str(key): str(kind) for key, kind in value["add"].items()}
        removed = [str(key) for key in value["remove"]]
        for key in removed:
            self._authors.pop(key, None)
        if by:
            self._authors |= {key: Author(by, at) for key in kinds}
        micrograph, last = str(value["micrograph"]), self._entries[-1:]
        is_same = last and (last[0].by, last[0].micrograph) == (by, micrograph)
        if not is_same or at - last[0].at > _PAUSE_SECONDS:
            self._entries = [*self._entries[1 - SHOWN :], Entry(by, micrograph, at)]
        entry = self._entries[-1]
        entry.at = at
        entry.labeled += sum(kind == "particle" for kind in kinds.values())
        entry.rejected += sum(kind == "negative" for kind in kinds.values())
        entry.removed += len(set(removed) - kinds.keys())

    def note(
        self, by: str, micrograph: str, add: Mapping[str, Annotation], remove: Iterable[str]
    ) -> None:
        """Note a change that has been saved; where the disk is full, go on without it.

        Parameters
        ----------
        by
            The name of who made it; empty if it was not given. Nothing is noted before somebody
            gives a name.
        """
        with self._lock:
            if not by and not self._is_used:
                return
            self._is_used = True
            value = {
                "at": round(time.time(), 1),
                "by": by,
                "micrograph": micrograph,
                "add": {key: annotation.kind for key, annotation in add.items()},
                "remove": [*remove],
            }
            self._take(value)
            with suppress(OSError), self._path.open("a", encoding="utf-8") as stream:
                stream.write(f"{self._before}{json.dumps(value)}\n")
                self._before = ""

    def of(self, key: str) -> Author | None:
        """Return who made an annotation; None if that is not known."""
        with self._lock:
            return self._authors.get(key)

    def list_entries(self) -> list[dict[str, Any]]:
        """Return the latest changes, the newest last, ready for JSON."""
        with self._lock:
            return [asdict(entry) for entry in self._entries]
