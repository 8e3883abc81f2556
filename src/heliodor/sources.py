"""Sources: which micrographs the user means, and what each is called.

A micrograph's identity is its path as it was given. Two micrographs of one file name in two
folders are two micrographs; names are never shortened where that would confuse them.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from heliodor.errors import BadInput
from heliodor.formats import star
from heliodor.micrograph import COMPRESSIONS, MRC_SUFFIXES, TIFF_SUFFIXES, is_micrograph_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What tables of coordinates may call a micrograph's file; anything else behind a dot is a part
#: of the name, as in mic.001.
_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, ".eer", ".png", ".jpg", ".jpeg")
#: How well two folders agree where one is wholly the end of the other.
_WHOLLY = 1000
_JOB_FOLDER = re.compile(r"^[^/]+/job\d+/")


@dataclass(frozen=True)
class Source:
    """One micrograph the user named."""

    #: What results call it: the name in the STAR file, or the path as it was given.
    name: str
    #: Where the file lies.
    path: Path
    #: Where its results lie below an output folder, without suffix, e.g. ``Movies/mic_001``.
    output_stem: str
    #: From the STAR file's optics group, angstrom per pixel.
    pixel_size_angstrom: float | None = None


def find_sources(inputs: str | Path | Sequence[str | Path]) -> list[Source]:
    """Resolve what a user typed into micrographs.

    Parameters
    ----------
    inputs
        One or more of: a file, a folder (its MRC and TIFF files), a glob pattern, a RELION
        micrographs STAR, or ``@list.txt`` with one of these a line.

    Returns
    -------
    list of Source
        In the order given (folders and globs sorted), each file, name and stem once.

    Raises
    ------
    BadInput
        If something named does not exist or holds no micrograph.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    sources: list[Source] = []
    for text in inputs:
        if not str(text).strip():  # as from a variable of the shell that is not set
            raise BadInput("an empty name was given for micrographs; name files or a folder")
        sources.extend(_expand(str(text)))
    for source in sources:
        _check_text(source.name)
    unique: dict[Path, Source] = {}
    for source in sources:
        unique.setdefault(_canonical(source.path), source)
    if not unique:
        raise BadInput("no micrographs were given; name files, a folder or a STAR file")
    return _with_distinct_stems(_with_distinct_names(list(unique.values())))


def _check_text(name: str) -> None:
    """Refuse a name that no result file could hold: bytes that are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode(errors="replace")
        raise BadInput(f"the name of {shown} is not in UTF-8; rename the file") from error


def _expand(text: str, lists: tuple[Path, ...] = ()) -> list[Source]:
    if text.startswith("@"):
        return _from_list(Path(text[1:]), lists)
    path = Path(text)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix.lower() == ".star":
        return _from_star(path)
    if path.exists() or not glob.has_magic(text):
        if not path.exists():
            raise BadInput(f"{path} does not exist; check the spelling and the current folder")
        return [_typed(path, path.parent)]
    matches = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if is_micrograph_name(p)]
    matches = [match for match in matches if not match.is_dir()]
    if not matches:
        raise BadInput(f"no MRC or TIFF file matches {text}; check the pattern")
    fixed = PurePosixPath(text[: glob.escape(text).find("[")])
    base = Path(fixed if text[: glob.escape(text).find("[")].endswith("/") else fixed.parent)
    return [_typed(match, base) for match in matches]


def _from_folder(folder: Path) -> list[Source]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_micrograph_name(p.name))
    if not files:
        raise BadInput(
            f"the folder {folder} holds no MRC or TIFF file; for those in folders below it give"
            f" '{folder}/**/*.mrc'"
        )
    return [_typed(file, folder) for file in files]


def _from_list(path: Path, lists: tuple[Path, ...]) -> list[Source]:
    if path in lists:
        raise BadInput(f"the list {path} names itself; remove that line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list {path} cannot be read as text ({error})") from error
    entries = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
    if not entries:
        raise BadInput(f"the list {path} is empty; put one micrograph a line into it")
    return [source for entry in entries for source in _expand(entry, (*lists, path))]


def _from_star(path: Path) -> list[Source]:
    rows = star.read_micrographs(path)
    sources = []
    for name, pixel_size in rows:
        sources.append(Source(name, _locate(name, path), _relion_stem(name), pixel_size))
    if not any(source.path.exists() for source in sources):
        raise BadInput(
            f"none of the {len(sources)} micrographs in {path} exists (the first is"
            f" {sources[0].name}); run from the RELION project's folder"
        )
    return sources


def _locate(name: str, star_path: Path) -> Path:
    """Find a STAR file's micrograph: from here, beside the STAR, or any folder above it."""
    if Path(name).exists():
        return Path(name)
    for folder in star_path.absolute().parents:
        if (folder / name).exists():
            return folder / name
    return Path(name)


def _typed(path: Path, base: Path) -> Source:
    below = path.relative_to(base).as_posix()
    return Source(str(path), path, _contained(_without_suffix(below)))


def _relion_stem(name: str) -> str:
    """RELION keeps the folders below the job's own: MotionCorr/job002/Movies/a -> Movies/a."""
    return _contained(_without_suffix(_JOB_FOLDER.sub("", name)))


def _contained(name: str) -> str:
    """Drop what would lead out of the output folder: a root or '..'."""
    parts = [part for part in name.split("/") if part not in ("", "..", ".")]
    return "/".join(parts) or "micrograph"


def _without_suffix(name: str) -> str:
    for suffixes in (COMPRESSIONS, _SUFFIXES):
        for suffix in suffixes:
            if name.lower().endswith(suffix) and len(PurePosixPath(name).name) > len(suffix):
                name = name[: -len(suffix)]
                break
    return name


def _canonical(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _with_distinct_names(sources: list[Source]) -> list[Source]:
    """Call micrographs by their path where two projects' STAR files call two of them the same."""
    number = Counter(source.name for source in sources)
    return [replace(s, name=str(s.path)) if number[s.name] > 1 else s for s in sources]


def _with_distinct_stems(sources: list[Source]) -> list[Source]:
    """Give micrographs whose results would overwrite each other their whole path."""
    number = Counter(source.output_stem for source in sources)
    taken = {stem for stem, count in number.items() if count == 1}
    changed = []
    for source in sources:
        stem = source.output_stem
        if number[stem] > 1:
            base = _contained(str(_canonical(source.path))).replace(".", "_")
            numbered = (f"{base}_{i}" for i in itertools.count(2))
            stem = next(s for s in itertools.chain([base], numbered) if s not in taken)
            taken.add(stem)
        changed.append(replace(source, output_stem=stem))
    return changed


def match_names(names: Iterable[str], sources: Sequence[Source]) -> dict[str, Source]:
    """Find the micrograph that each name in a table of coordinates means.

    A name is compared as a whole first. Else it means the micrograph of its stem (file name
    without suffix), whose folder need not be the same: data are moved and processed again.
    But a folder of the table and a folder of micrographs that agree better with another one,
    counted from the last part of their paths, are two folders, and nothing passes between
    them: where ``B/x.mrc`` is given, the coordinates of ``A/x.mrc`` never go there beside
    coordinates in a folder B. A name without a folder may mean a micrograph in any.

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
    by_path = {_canonical(source.path): source for source in sources}
    by_stem: dict[str, list[Source]] = {}
    for source in sources:
        by_stem.setdefault(_stem(source.name), []).append(source)
    agreement = _Agreement(names, sources)
    found: dict[str, Source] = {}
    sure: set[str] = set()
    for name in names:
        match = exact.get(name) or by_path.get(_canonical(Path(name)))
        if match is not None:
            sure.add(name)
        else:
            candidates = [s for s in by_stem.get(_stem(name), []) if agreement.allows(name, s)]
            match = _only(name, candidates)
        if match is not None:
            found[name] = match
    _refuse_shared(found, sure)
    return found


def _stem(name: str) -> str:
    return PurePosixPath(_without_suffix(name)).name


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

        It is `_WHOLLY` where one of the two is all of the other's end.
        """
        ends = [path[i:] for i in range(len(path))]
        if path in self._ends or any(end in self._paths for end in ends):
            return _WHOLLY
        return next((len(end) for end in ends if end in self._ends), 0)


def _folders(name: str | Path) -> tuple[str, ...]:
    """Return the folders of a path without those that only say where it is seen from."""
    return tuple(p for p in PurePosixPath(os.path.normpath(name)).parts[:-1] if p != "..")


def _folders_of(source: Source) -> set[tuple[str, ...]]:
    """Return the folders of a micrograph, as given and with symbolic links followed."""
    if not source.path.exists():
        return {_folders(source.name)}
    return {_folders(os.path.abspath(source.path)), _folders(_canonical(source.path))}


def _only(name: str, candidates: list[Source]) -> Source | None:
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


def _refuse_shared(found: dict[str, Source], sure: set[str]) -> None:
    """Refuse two names of one micrograph unless both are sure to be its own."""
    owner: dict[Source, str] = {}
    for name, source in found.items():
        other = owner.setdefault(source, name)
        if _folders(other) != _folders(name) and not {other, name} <= sure:
            raise BadInput(
                f"the coordinates of {other} and of {name} both fit the micrograph"
                f" {source.name}; give both micrographs, or only the labels of one"
            )
