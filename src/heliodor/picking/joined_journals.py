"""The journals of all processes that pick into one folder, read as one.

A process that picks alone writes ``.picking.jsonl``. Those that pick at the same time each write a
journal of their own in ``.picking``, so that each file has a single writer and only grows. They
all read what the others have found.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.journal import NAME, Codec, Journal, JournalReader
from heliodor.utils.files import LINK
from heliodor.utils.hashing import FileVersion

R = TypeVar("R")

#: The folder, in that of the picks, of the processes that pick at the same time.
FOLDER = ".picking"
#: What the names of their journals end with.
ENDING = ".jsonl"
#: Files in the folder: what they pick together, and that it has been merged.
JOB, MERGED = "job.json", "merged.json"
#: What the names of folders of claims begin with.
CLAIMS = "claims-"


def list_part_journals(folder: Path) -> list[Path]:
    """Return the journals of the processes that pick at the same time, sorted by name.

    Parameters
    ----------
    folder
        Of the picks.

    Raises
    ------
    BadInput
        If the folder of the journals is a link.
    """
    where = folder / FOLDER
    if where.is_symlink():
        raise BadInput(LINK.format(link=where))
    return sorted(p for p in where.glob(f"[!.]*{ENDING}") if not p.is_symlink())


def forget_job(folder: Path) -> None:
    """Remove what processes that picked at the same time agreed on; what they found is kept.

    None of them must be at work.
    """
    where = folder / FOLDER
    for name in (JOB, MERGED):
        (where / name).unlink(missing_ok=True)
    for claims in where.glob(f"{CLAIMS}*"):
        shutil.rmtree(claims, ignore_errors=True)
    if where.is_dir() and not any(where.iterdir()):
        where.rmdir()


def discard_parts(folder: Path) -> None:
    """Remove all that processes that picked at the same time have left."""
    where = folder / FOLDER
    if where.is_symlink():
        raise BadInput(LINK.format(link=where))
    if where.is_dir():
        shutil.rmtree(where)


class JournalReaders(Generic[R]):
    """Reads the journals of a folder that were made with the same values.

    Parameters
    ----------
    folder
        Of the picks.
    made_with, codec
        As of `JournalReader`.
    but
        A journal that is left out.
    """

    def __init__(
        self,
        folder: Path,
        made_with: Mapping[str, Any] | None,
        codec: Codec[R] | None,
        but: Path | None = None,
    ) -> None:
        self._folder, self._made_with, self._codec, self._but = folder, made_with, codec, but
        self._readers: dict[Path, JournalReader[R]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what was added to the journals, and those that are new."""
        main = self._folder / NAME
        for path in [main, *list_part_journals(self._folder)]:
            if path != self._but and path not in self._readers and path.is_file():
                self._readers[path] = JournalReader(path, self._made_with, self._codec)
        for reader in self._readers.values():
            reader.refresh()

    def remove_unusable(self) -> None:
        """Remove the journals of parts that were made with other values."""
        for path, reader in [*self._readers.items()]:
            if path.parent != self._folder and reader.is_made_with_other():
                path.unlink(missing_ok=True)
                del self._readers[path]

    def __iter__(self) -> Iterator[JournalReader[R]]:
        return (reader for reader in self._readers.values() if reader.head is not None)


class JoinedJournals(Generic[R]):
    """The results of all journals of a folder; this process adds to one of them.

    Parameters
    ----------
    folder
        Of the picks.
    made_with, codec, overwrite
        As of `Journal`.
    name
        The journal of this process, relative to the folder.
    """

    def __init__(
        self,
        folder: Path,
        made_with: Mapping[str, Any],
        codec: Codec[R],
        overwrite: bool = False,
        name: str = NAME,
    ) -> None:
        own = Path(name)
        self.own = Journal(folder / own.parent, made_with, codec, overwrite, own.name)
        self._others = JournalReaders(folder, made_with, codec, but=self.own.path)
        #: Which journal has the result of a micrograph.
        self._chosen: dict[str, JournalReader[R]] = {}

    def refresh(self) -> None:
        """Read what other processes have added."""
        self._others.refresh()

    def remove_unusable(self) -> None:
        """Remove the journals of parts that were made with other values.

        No process must be picking parts with those values.
        """
        self._others.remove_unusable()

    @property
    def readers(self) -> Iterator[JournalReader[R]]:
        """All journals, that of this process first."""
        yield self.own
        yield from self._others

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done and its file has not changed since."""
        found = [journal for journal in self.readers if journal.has(source)]
        if not found:
            return False
        # As part of another set it may not have been searched for decoys.
        searched = (journal for journal in found if journal.has_decoys(source.name))
        self._chosen[source.name] = next(searched, found[0])
        return True

    def has_failed(self, source: Source) -> bool:
        """Return whether a micrograph could not be used and its file has not changed since."""
        return any(journal.has_failed(source) for journal in self.readers)

    def has_decoys(self, name: str) -> bool:
        """Return whether decoys were looked for on a micrograph that is done, or need not be."""
        return self._chosen[name].has_decoys(name)

    def has_crashed(self, source: Source) -> bool:
        """Return whether the program crashed twice on a micrograph that is still the same."""
        return any(journal.has_crashed(source) for journal in self.readers)

    def get(self, name: str) -> R:
        """Return the result of a micrograph that is done."""
        return self._chosen[name].get(name)

    def add(self, source: Source, finished: R, version: FileVersion | None) -> None:
        """Note that a micrograph is done."""
        self.own.add(source, finished, version)
        self._chosen[source.name] = self.own

    def add_failure(self, source: Source, reason: str) -> None:
        """Note that a micrograph cannot be used."""
        self.own.add_failure(source, reason)

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started, by itself or beside others; from any thread."""
        self.own.mark_started(name, alone)

    def list_interrupted(self) -> list[str]:
        """Return the micrographs that were unfinished when this process was started again."""
        return self.own.list_interrupted()

    def record_crash(self, sources: Iterable[Source]) -> None:
        """Note that the program crashed on the micrograph started last, if it ran by itself."""
        self.own.record_crash(sources)

    def write(self, path: Path, text: str) -> bool:
        """Write a file of picks, unless it was changed since; see `Journal.write`."""
        return self.own.write(path, text)
