"""Naming: which micrograph a name in a table of coordinates means."""

from __future__ import annotations

import itertools
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from heliodor.data.micrographs.names import micrograph_stem, strip_cryosparc_uid
from heliodor.data.micrographs.sources import Source, resolve_path
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: How well two folders agree where one is wholly the end of the other.
_WHOLE_PATH = 1000


def match_names(names: Iterable[str], sources: Sequence[Source]) -> dict[str, Source]:
    """Find the micrograph that each name in a table of coordinates means.

    A name is compared as a whole first. Else it means the micrograph of its stem (file name
    without suffix), whose folder need not be the same: data are moved and processed again.
    But a folder of the table and a folder of micrographs that agree better with another one,
    counted from the last part of their paths, are two folders, and nothing passes between
    them: where ``B/x.mrc`` is given, the coordinates of ``A/x.mrc`` never go there beside
    coordinates in a folder B. A name without a folder may mean a micrograph in any. Where no
    stem is the same, the uid that cryoSPARC puts before names does not count.

    Parameters
    ----------
    names
        Micrograph names of the table.
    sources
        The micrographs.

    Returns
    -------
    dict
        From name to micrograph; names that mean none of them are left out.

    Raises
    ------
    BadInput
        If a name could be two micrographs, or two names one micrograph.
    """
    names = list(names)
    exact = {source.name: source for source in sources}
    by_path = {resolve_path(source.path): source for source in sources}
    by_stem: dict[str, list[Source]] = {}
    by_plain: dict[str, list[Source]] = {}
    for source in sources:
        by_stem.setdefault(micrograph_stem(source.name), []).append(source)
        by_plain.setdefault(micrograph_stem(strip_cryosparc_uid(source.name)), []).append(source)
    agreement = _Agreement(names, sources)
    found: dict[str, Source] = {}
    sure: set[str] = set()
    for name in names:
        match = exact.get(name) or by_path.get(resolve_path(Path(name)))
        if match is not None:
            sure.add(name)
        else:
            same = by_stem.get(micrograph_stem(name)) or by_plain.get(
                micrograph_stem(strip_cryosparc_uid(name)), []
            )
            candidates = [s for s in same if agreement.allows(name, s)]
            match = _choose_unique(name, candidates)
        if match is not None:
            found[name] = match
    _refuse_shared_micrograph(found, sure)
    return found


class _Agreement:
    """How far the folders of names and of micrographs agree, counted from the last one."""

    def __init__(self, names: Sequence[str], sources: Sequence[Source]) -> None:
        self._names = {name: _folders(name) for name in names}
        self._sources = {source: _folders_of(source) for source in sources}
        own = _Folders(self._names.values())
        given = _Folders(itertools.chain.from_iterable(self._sources.values()))
        self._best = {name: given.best(folders) for name, folders in self._names.items()}
        self._best_of_source = {
            source: max(map(own.best, spellings)) for source, spellings in self._sources.items()
        }

    def allows(self, name: str, source: Source) -> bool:
        """Tell whether neither folder agrees better with another one."""
        if not self._names[name]:
            return True
        here = _Folders(self._sources[source]).best(self._names[name])
        return here == self._best[name] == self._best_of_source[source]


class _Folders:
    """A set of paths of folders, to find the one that agrees best with another."""

    def __init__(self, paths: Iterable[tuple[str, ...]]) -> None:
        self._paths = {path for path in paths if path}
        self._ends = {path[i:] for path in self._paths for i in range(len(path))}

    def best(self, path: tuple[str, ...]) -> int:
        """Count the folders at the end that `path` shares with the one that agrees best.

        It is `_WHOLE_PATH` where one of the two is all of the other's end.
        """
        ends = [path[i:] for i in range(len(path))]
        if path in self._ends or any(end in self._paths for end in ends):
            return _WHOLE_PATH
        return next((len(end) for end in ends if end in self._ends), 0)


def _folders(name: str | Path) -> tuple[str, ...]:
    """Return the folders of a path without those that only say where it is seen from."""
    return tuple(p for p in PurePosixPath(os.path.normpath(name)).parts[:-1] if p != "..")


def _folders_of(source: Source) -> set[tuple[str, ...]]:
    """Return the folders of a micrograph, as given and with symbolic links followed."""
    if not source.path.exists():
        return {_folders(source.name)}
    return {_folders(os.path.abspath(source.path)), _folders(resolve_path(source.path))}


def _choose_unique(name: str, candidates: list[Source]) -> Source | None:
    """Return the one candidate, or refuse to guess."""
    if len(candidates) > 1:
        own = PurePosixPath(name).name
        same = [source for source in candidates if PurePosixPath(source.name).name == own]
        candidates = same or candidates
    if len(candidates) > 1:
        raise BadInput(
            f"the coordinates name {name}, which could be {candidates[0].name} or"
            f" {candidates[1].name}; write the folder into the coordinate file's micrograph names"
        )
    return candidates[0] if candidates else None


def _refuse_shared_micrograph(found: dict[str, Source], sure: set[str]) -> None:
    """Refuse two names of one micrograph unless both are sure to be its own."""
    owner: dict[Source, str] = {}
    for name, source in found.items():
        other = owner.setdefault(source, name)
        if _folders(other) != _folders(name) and not {other, name} <= sure:
            raise BadInput(
                f"the coordinates of {other} and of {name} both fit the micrograph"
                f" {source.name}; give both micrographs, or only the labels of one"
            )
