"""Sources: which micrographs the user means, and what each is called.

A micrograph's identity is its path as it was given. Two micrographs of one file name in two
folders are two micrographs; names are never shortened where that would confuse them.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from heliodor.errors import BadInput
from heliodor.formats import star
from heliodor.micrograph import COMPRESSIONS, is_micrograph_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        In the order given (folders and globs sorted), each file once.

    Raises
    ------
    BadInput
        If something named does not exist or holds no micrograph.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    sources: list[Source] = []
    for text in inputs:
        sources.extend(_expand(str(text)))
    unique: dict[Path, Source] = {}
    for source in sources:
        unique.setdefault(_canonical(source.path), source)
    if not unique:
        raise BadInput("no micrographs were given; name files, a folder or a STAR file")
    return _with_distinct_stems(list(unique.values()))


def _expand(text: str) -> list[Source]:
    if text.startswith("@"):
        return _from_list(Path(text[1:]))
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


def _from_list(path: Path) -> list[Source]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list {path} cannot be read as text ({error})") from error
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not entries:
        raise BadInput(f"the list {path} is empty; put one micrograph a line into it")
    return [source for entry in entries for source in _expand(entry)]


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
    return Source(str(path), path, _without_suffix(str(path.relative_to(base).as_posix())))


def _relion_stem(name: str) -> str:
    """RELION keeps the folders below the job's own: MotionCorr/job002/Movies/a -> Movies/a."""
    return _without_suffix(_contained(_JOB_FOLDER.sub("", name)))


def _contained(name: str) -> str:
    """Drop what would lead out of the output folder: a root, a drive, '..'."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return "/".join(parts) or "micrograph"


def _without_suffix(name: str) -> str:
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name


def _canonical(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _with_distinct_stems(sources: list[Source]) -> list[Source]:
    """Give micrographs whose results would overwrite each other their whole path."""
    stems = [source.output_stem for source in sources]
    if len(set(stems)) == len(stems):
        return sources
    repeated = {stem for stem in stems if stems.count(stem) > 1}
    changed = [
        replace(s, output_stem=_contained(str(_canonical(s.path))).replace(".", "_"))
        if s.output_stem in repeated
        else s
        for s in sources
    ]
    return changed


def match_names(names: Iterable[str], sources: Sequence[Source]) -> dict[str, Source]:
    """Find the micrograph that each name in a table of coordinates means.

    A name is compared as a whole first, then by its last folders as far as both are given,
    then by its stem (file name without suffix, also of tables that carry no folder). A step
    counts only where it leaves exactly one micrograph, and no micrograph answers to two names.

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
    exact = {source.name: source for source in sources}
    by_path = {str(_canonical(source.path)): source for source in sources}
    by_stem: dict[str, list[Source]] = {}
    for source in sources:
        by_stem.setdefault(PurePosixPath(_without_suffix(source.name)).name, []).append(source)
    found: dict[str, Source] = {}
    for name in names:
        match = exact.get(name) or by_path.get(str(_canonical(Path(name))))
        if match is None:
            stem = PurePosixPath(_without_suffix(name)).name
            # A bare stem may hold a dot that is no suffix.
            candidates = by_stem.get(stem) or by_stem.get(PurePosixPath(name).name) or []
            match = _closest(name, candidates)
        if match is not None:
            found[name] = match
    _refuse_shared(found)
    return found


def _closest(name: str, candidates: list[Source]) -> Source | None:
    """Choose among micrographs of one stem by the folders that agree, or refuse to guess."""
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    folders = PurePosixPath(name).parts[-2::-1]

    def agreement(source: Source) -> int:
        own = PurePosixPath(source.path.as_posix()).parts[-2::-1]
        agree = [a == b for a, b in zip(folders, own, strict=False)]
        return agree.index(False) if False in agree else len(agree)

    ranked = sorted(candidates, key=agreement, reverse=True)
    if agreement(ranked[0]) == agreement(ranked[1]):
        raise BadInput(
            f"the coordinates name {name}, which could be {ranked[0].name} or"
            f" {ranked[1].name}; write the folder into the coordinate file's micrograph names"
        )
    return ranked[0]


def _refuse_shared(found: dict[str, Source]) -> None:
    owner: dict[Path, str] = {}
    for name, source in found.items():
        other = owner.setdefault(source.path, name)
        if other != name and _same_file_name(other, name):
            raise BadInput(
                f"the coordinates of {other} and of {name} both fit the micrograph"
                f" {source.name}; give both micrographs, or only the labels of one"
            )


def _same_file_name(a: str, b: str) -> bool:
    return PurePosixPath(a).parent != PurePosixPath(b).parent
