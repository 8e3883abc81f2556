"""Matching the micrograph names in coordinate tables to micrograph files."""

from __future__ import annotations

import bisect
import itertools
import logging
import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from heliodor.data.micrographs.names import (
    micrograph_stem,
    movie_stem,
    strip_cryosparc_parts,
    use_slashes,
)
from heliodor.data.micrographs.sources import Source, resolve_path
from heliodor.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

#: The agreement of two folders if one of them is the end of the other.
_WHOLE_PATH = 1000


def match_names(
    names: Iterable[str],
    sources: Sequence[Source],
    file_stems: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Source]:
    """Find the micrograph for each name in a coordinate table.

    The whole name is compared first, then its stem (file name without suffix). The folders of
    two paths with the same stem may differ, because data are moved and processed again, but they
    must agree with each other (counted from the last folder) at least as well as with any other
    folder of the table or of the micrographs. For example, the coordinates of ``A/x.mrc`` are
    never used for ``B/x.mrc`` if the table also has coordinates in a folder B. A name without a
    folder matches a micrograph in any folder. If no stem matches, the uid that cryoSPARC puts
    before file names, and the suffix that it puts behind them, are ignored; and if none matches
    then, what other programs append to the stem of the movie, such as ``_DW``, which is logged.
    Paths of Windows are understood.

    Parameters
    ----------
    names
        Micrograph names of the table.
    sources
        The micrographs.
    file_stems
        Of names that were made from those of coordinate files: the whole stems of the files.
        A micrograph whose own stem is the same comes before others: ``a_pick.star`` is of
        ``a_pick.mrc``, if there is one, and otherwise of ``a.mrc``.

    Returns
    -------
    dict
        From name to micrograph; names without a micrograph are omitted.

    Raises
    ------
    BadInput
        If a name matches two micrographs, or two names match the same micrograph.
    """
    names = list(names)
    exact = {source.name: source for source in sources}
    by_path = {resolve_path(source.path): source for source in sources}
    by_stem: dict[str, list[Source]] = {}
    by_plain: dict[str, list[Source]] = {}
    by_movie: dict[str, list[Source]] = {}
    for source in sources:
        by_stem.setdefault(micrograph_stem(source.name), []).append(source)
        by_plain.setdefault(_plain_stem(source.name), []).append(source)
        by_movie.setdefault(movie_stem(_plain_stem(source.name)), []).append(source)
    agreement = _Agreement(names, sources)
    stems = file_stems or {}
    found: dict[str, Source] = {}
    sure: set[str] = set()
    of_movies: list[str] = []
    for name in names:
        match = exact.get(name)
        if match is None and os.path.exists(name):  # resolving a long name takes long
            match = by_path.get(resolve_path(Path(name)))
        if match is not None:
            sure.add(name)
        else:
            same = (
                _find_by_file(name, stems.get(name, ()), by_stem)
                or by_stem.get(micrograph_stem(use_slashes(name)))
                or by_plain.get(_plain_stem(name))
            )
            if not same:
                same = by_movie.get(movie_stem(_plain_stem(name)), [])
                of_movies += [name] if same else []
            candidates = [s for s in same if agreement.allows(name, s)]
            match = _choose_unique(name, candidates)
        if match is not None:
            found[name] = match
    _drop_further_results(found, [name for name in of_movies if name in found])
    of_movies = [name for name in of_movies if name in found]
    if of_movies:
        log.warning(
            f"the coordinates of {len(of_movies)} micrographs are used for others of the same"
            f" movies, by their names (such as those of {of_movies[0]} for"
            f" {found[of_movies[0]].name})"
        )
    _refuse_shared_micrograph(found, sure)
    return found


def _drop_further_results(found: dict[str, Source], of_movies: Sequence[str]) -> None:
    """Drop names that match only by their movie, if another name matches the micrograph too."""
    by_movie = {*of_movies}
    taken = {source for name, source in found.items() if name not in by_movie}
    for name in of_movies:
        if found[name] in taken:
            del found[name]
        else:
            taken.add(found[name])


def _find_by_file(
    name: str, file_stems: Sequence[str], by_stem: Mapping[str, list[Source]]
) -> list[Source]:
    """Return the micrographs whose stem is that of the coordinate file, whole.

    Raises
    ------
    BadInput
        If this is so for some of several files that were joined.
    """
    found = [by_stem.get(micrograph_stem(stem), []) for stem in file_stems]
    if any(found) and not all(found):
        named = next(sources[0] for sources in found if sources)
        raise BadInput(
            f"the coordinate files {' and '.join(file_stems)} would both be of the micrograph"
            f" {name}, but one of them has the name of {named.name}; give these files one at a"
            " time"
        )
    return found[0] if found else []


def _plain_stem(name: str) -> str:
    # File systems of macOS decompose letters with accents.
    plain = unicodedata.normalize("NFC", use_slashes(name))
    return strip_cryosparc_parts(micrograph_stem(plain))


class _Agreement:
    """How well the folders of names and micrographs agree, counted from the last folder."""

    def __init__(self, names: Sequence[str], sources: Sequence[Source]) -> None:
        self._names = {name: _folders(name) for name in names}
        self._sources = {source: _folders_of(source) for source in sources}
        of_names = _Folders(self._names.values())
        of_sources = _Folders(itertools.chain.from_iterable(self._sources.values()))
        self._best = {name: of_sources.best(folders) for name, folders in self._names.items()}
        self._best_of_source = {
            source: max(map(of_names.best, spellings))
            for source, spellings in self._sources.items()
        }

    def allows(self, name: str, source: Source) -> bool:
        """Return whether neither of the two folders agrees better with another one."""
        if not self._names[name]:
            return True
        here = _Folders(self._sources[source]).best(self._names[name])
        return here == self._best[name] == self._best_of_source[source]


class _Folders:
    """A set of folder paths, for finding the one that agrees best with a given path."""

    def __init__(self, paths: Iterable[tuple[str, ...]]) -> None:
        #: From the last folder to the first, so that neighbors in this list agree best.
        self._backwards = sorted({path[::-1] for path in paths if path})
        #: Of each, the length of the shortest of them that it begins with.
        self._shortest: list[int] = []
        start: tuple[str, ...] = ()
        for own in self._backwards:
            if not start or own[: len(start)] != start:
                start = own
            self._shortest.append(len(start))

    def best(self, path: tuple[str, ...]) -> int:
        """Return the number of last folders that `path` shares with its best match.

        It is `_WHOLE_PATH` if one of the two paths is the end of the other.
        """
        wanted, most = path[::-1], 0
        place = bisect.bisect_left(self._backwards, wanted)
        for number in range(max(place - 1, 0), min(place + 1, len(self._backwards))):
            shared = _count_shared(self._backwards[number], wanted)
            if wanted and (shared == len(wanted) or self._shortest[number] <= shared):
                return _WHOLE_PATH
            most = max(most, shared)
        return most


def _count_shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return the number of first parts that two paths share."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    return next((number for number, (own, its) in pairs if own != its), shorter)


def _folders(name: str | Path) -> tuple[str, ...]:
    """Return the folders of a path without leading '..'."""
    path = unicodedata.normalize("NFC", os.path.normpath(use_slashes(str(name))))
    return tuple(part for part in PurePosixPath(path).parts[:-1] if part != "..")


def _folders_of(source: Source) -> set[tuple[str, ...]]:
    """Return the folders of a micrograph, both as given and with symbolic links resolved."""
    if not source.path.exists():
        return {_folders(source.name)}
    return {_folders(os.path.abspath(source.path)), _folders(resolve_path(source.path))}


def _choose_unique(name: str, candidates: list[Source]) -> Source | None:
    """Return the only candidate; raise BadInput if there are several."""
    if len(candidates) > 1:
        file_name = PurePosixPath(name).name
        same = [source for source in candidates if PurePosixPath(source.name).name == file_name]
        candidates = same or candidates
    if len(candidates) > 1:
        raise BadInput(
            f"the micrograph {name} of the coordinates could be {candidates[0].name} or"
            f" {candidates[1].name}; add the folder to the micrograph names in the coordinate file"
        )
    return candidates[0] if candidates else None


def _refuse_shared_micrograph(found: dict[str, Source], sure: set[str]) -> None:
    """Raise BadInput if two names match one micrograph, unless both are certain matches."""
    owner: dict[Source, str] = {}
    for name, source in found.items():
        other = owner.setdefault(source, name)
        if _folders(other) != _folders(name) and not {other, name} <= sure:
            raise BadInput(
                f"the coordinates of {other} and of {name} both match the micrograph"
                f" {source.name}; give both micrographs, or the coordinates of only one"
            )
