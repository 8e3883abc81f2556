"""Finding the micrographs that a user names, and naming their results.

A micrograph is identified by its path as it was given. Files of the same name in two folders are
two micrographs; names are never shortened if that would confuse them.
"""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from heliodor.data.micrographs import cs_list, star_list
from heliodor.data.micrographs.names import (
    describe_other_image,
    find_name_fault,
    is_by_product,
    is_gain_reference,
    is_micrograph_name,
    micrograph_stem,
    movie_stem,
    strip_image_suffix,
)
from heliodor.errors import BadInput
from heliodor.utils.files import find_referenced_file, has_namesake_here
from heliodor.utils.parsing import read_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_JOB_FOLDER, _CRYOSPARC_JOB = re.compile(r"^[^/]+/job\d+/"), re.compile(r"^J\d+/")
#: Suffixes of files that may be lists of micrographs.
_LIST_SUFFIXES = (".txt", ".lst", ".list")
#: How deep lists may name other lists.
_MAX_LIST_DEPTH = 20
#: Longer patterns, and those with more '**', could take forever.
_MAX_PATTERN_LENGTH, _MAX_RECURSIONS = 4096, 3


#: How micrographs can be given; see `find_sources`.
MicrographInputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Source:
    """One micrograph that the user named."""

    #: Its name in results: the name in the STAR file, or the path as it was given.
    name: str
    #: The path of the file.
    path: Path
    #: The path of its results in an output folder, without suffix, e.g. ``Movies/mic_001``.
    output_stem: str
    #: From the STAR file's optics group, angstrom per pixel.
    pixel_size_angstrom: float | None = None
    #: Its pixels, shape (h, w), if it is an array and not a file.
    pixels: NDArray[Any] | None = field(default=None, repr=False, compare=False)


def find_sources(inputs: MicrographInputs) -> list[Source]:
    """Find the micrographs that a user names.

    Parameters
    ----------
    inputs
        One or more of: a file, a folder (its MRC and TIFF files), a glob pattern, a STAR file of
        RELION or a .cs file of cryoSPARC that lists micrographs, or ``@list.txt`` with one of
        these per line. Hidden files (whose names
        start with a dot) in folders and matches of patterns are ignored, and so are the power
        spectra and other by-products of motion correction beside their micrographs.

    Returns
    -------
    list of Source
        In the order given (folders and globs sorted), each file, name and stem once.

    Raises
    ------
    BadInput
        If an input does not exist or contains no micrograph.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    sources: list[Source] = []
    lists = _ListState()
    for text in inputs:
        if not str(text).strip():  # for example from an unset shell variable
            raise BadInput("an empty name was given for micrographs; name files or a folder")
        sources.extend(_expand_input(str(text), lists))
    for source in sources:
        _check_name(source.name)
    unique: dict[Path, Source] = {}
    links = []
    for source in sources:
        first = unique.setdefault(resolve_path(source.path), source)
        if os.path.abspath(first.path) != os.path.abspath(source.path):
            links.append((source, first))
    if links:
        source, first = links[0]
        log.warning(
            f"{len(links)} of the micrographs are links to others that are given too (such as"
            f" {source.name} to {first.name}); each file is used once"
        )
    if not unique:
        raise BadInput("no micrographs were given; name files, a folder or a STAR file")
    _log_versions(list(unique.values()))
    return _with_distinct_stems(_with_distinct_names(list(unique.values())))


def read_names(path: str | Path) -> frozenset[str]:
    """Read the names of micrographs in a text file, one per line.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    return frozenset(line.strip() for line in read_lines(path))


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file that are not empty.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list {path} cannot be read as text ({error})") from error
    return [line for line in lines if line.strip()]


def leave_out_listed(sources: Sequence[Source], path: str | Path) -> list[Source]:
    """Return the micrographs without those that a text file names, one per line.

    Raises
    ------
    BadInput
        If the file cannot be read, or no micrograph remains.
    """
    names = read_names(path)
    known = {source.name for source in sources}
    unknown = sorted(name for name in names - known if not name.startswith("#"))
    if unknown:
        log.warning(
            f"{len(unknown)} of the names in {path} are of no micrograph given and exclude none"
            f" (such as {unknown[0]}); names are like {sources[0].name}"
        )
    return leave_out(sources, names)


def leave_out(sources: Sequence[Source], names: Container[str]) -> list[Source]:
    """Return the micrographs without those of some names.

    Raises
    ------
    BadInput
        If none remains.
    """
    rest = [source for source in sources if source.name not in names]
    if not rest:
        raise BadInput("all micrographs are excluded; include some of them")
    return rest


def _check_name(name: str) -> None:
    """Raise BadInput for a name that result files cannot contain."""
    fault = find_name_fault(name)
    if fault is not None:
        shown = name.encode(errors="surrogateescape").decode(errors="replace")
        raise BadInput(f"the micrograph name {shown!r} {fault}; rename the file")


@dataclass
class _ListState:
    """The lists being read, each named by the one before it, and all lists read so far."""

    open: list[Path] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)


def _expand_input(text: str, lists: _ListState) -> list[Source]:
    if (
        "\0" in text
        or len(text) > _MAX_PATTERN_LENGTH
        or text.split("/").count("**") > _MAX_RECURSIONS
    ):
        raise BadInput(f"{text} is not a valid file name or pattern; fix or remove it")
    if text.startswith("@"):
        return _from_list(Path(text[1:]), lists)
    path = Path(text)
    if os.path.isdir(path):
        return _from_folder(path)
    if path.suffix.lower() == ".star":
        return _from_table(path, star_list.read_micrographs(path), "RELION")
    if path.suffix.lower() == ".cs":
        return _from_table(path, cs_list.read_micrographs(path), "cryoSPARC")
    # Unlike Path.exists, os.path.exists does not raise for a name that is too long.
    if os.path.exists(path) or not glob.has_magic(text):
        if not os.path.exists(path):
            raise BadInput(f"{path} does not exist; check the spelling and the current folder")
        if path.suffix.lower() in _LIST_SUFFIXES:
            raise BadInput(
                f"{path} is not a micrograph; if it is a list of micrographs, write @{path}"
            )
        if path.suffix.lower() == ".csg":
            raise BadInput(
                f"{path} is a group of cryoSPARC; give the .cs file that it names (see `heliodor"
                " check`)"
            )
        return [_source_from_path(path, path.parent)]
    matches = [Path(found) for found in sorted(glob.glob(text, recursive=True))]
    matches = [match for match in matches if _is_listed(match) and not match.is_dir()]
    if not matches:
        raise BadInput(f"no MRC or TIFF file matches {text}; check the pattern")
    matches = _without_by_products(matches)
    fixed = PurePosixPath(text[: glob.escape(text).find("[")])
    base = Path(fixed if text[: glob.escape(text).find("[")].endswith("/") else fixed.parent)
    return [_source_from_path(match, base) for match in matches]


def _from_folder(folder: Path) -> list[Source]:
    # A link to a file that is gone is a micrograph that cannot be read, and is reported as such.
    files = sorted(
        p
        for p in folder.iterdir()
        if _is_listed(p) and (os.path.isfile(p) or not os.path.exists(p))
    )
    if not files:
        what = f"the folder {folder} contains no MRC or TIFF file"
        for path in sorted(folder.iterdir()):
            if (other := describe_other_image(path.name)) is not None and path.is_file():
                raise BadInput(f"{what}: {path} {other}")
        if (listed := _find_list(folder)) is not None:
            raise BadInput(f"{what}; give the list of micrographs in it, {listed}")
        raise BadInput(f"{what}; to include its subfolders give '{folder}/**/*.mrc'")
    return [_source_from_path(file, folder) for file in _without_by_products(files)]


def _find_list(folder: Path) -> Path | None:
    """Return a table in a job's folder that lists micrographs, judging by its name."""
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".star", ".cs"))
    return next((p for p in tables if "micrographs" in p.name or "exposures" in p.name), None)


def _without_by_products(files: list[Path]) -> list[Path]:
    """Leave out power spectra and the like beside their micrographs, and gain references."""
    stems = {file: micrograph_stem(file) for file in files}
    micrographs = {
        _movie(file)
        for file, stem in stems.items()
        if not is_by_product(stem) and not is_gain_reference(stem)
    }
    spectra = [f for f, stem in stems.items() if is_by_product(stem) and _movie(f) in micrographs]
    gains = [f for f, stem in stems.items() if is_gain_reference(stem) and micrographs]
    how = "left out; to use them, give their names or a pattern that matches only them"
    if spectra:
        log.warning(
            f"{len(spectra)} files are by-products of motion correction beside their micrographs"
            f" (such as {spectra[0]}), and are {how}"
        )
    if gains:
        log.warning(
            f"{len(gains)} files have the name of a gain reference (such as {gains[0]}), and are"
            f" {how}"
        )
    left_out = {*spectra, *gains}
    return [file for file in files if file not in left_out]


def _movie(path: Path) -> tuple[Path, str]:
    """Return what the files of one movie have in common: the folder, and part of the stem."""
    return path.parent, movie_stem(micrograph_stem(path))


def _log_versions(sources: Sequence[Source]) -> None:
    """Log that some micrographs are of the same movie, so that particles may be picked twice."""
    first: dict[tuple[Path, str], Source] = {}
    twice = []
    for source in sources:
        other = first.setdefault(_movie(source.path), source)
        if other is not source:
            twice.append((other.name, source.name))
    if twice:
        one, other_name = twice[0]
        log.warning(
            f"{len(twice)} micrographs seem to be of the same movies as others (such as {one} and"
            f" {other_name}); all are used"
        )


def _is_listed(path: Path) -> bool:
    """Return whether a file is a visible micrograph; hidden files may be incomplete or macOS's."""
    return is_micrograph_name(path.name) and not path.name.startswith(".")


def _from_list(path: Path, lists: _ListState) -> list[Source]:
    real = resolve_path(path)
    if real in lists.open:
        raise BadInput(f"the list {path} names itself; remove that line")
    if real in lists.seen:
        return []  # a few lists that name each other twice would be read exponentially often
    if len(lists.open) >= _MAX_LIST_DEPTH:
        raise BadInput(f"the list {path} is nested in more than {_MAX_LIST_DEPTH - 1} other lists")
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the list {path} cannot be read as text ({error})") from error
    entries = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
    if not entries:
        raise BadInput(f"the list {path} is empty; write one micrograph per line")
    lists.seen.add(real)
    lists.open.append(real)
    found = []
    for entry in entries:
        # As in tables of other programs, paths may be relative to the list.
        beside = path.parent / entry
        is_beside = not os.path.exists(entry) and os.path.exists(beside)
        found += _expand_input(str(beside) if is_beside else entry, lists)
    lists.open.pop()
    return found


def _from_table(
    path: Path, rows: Sequence[tuple[str, float | None]], program: str
) -> list[Source]:
    """Return the micrographs that a table of a program lists with their pixel sizes."""
    sources = []
    namesakes = []
    for name, pixel_size in rows:
        _check_name(name)
        found = find_referenced_file(name, path) or Path(name)
        namesakes += [found] if has_namesake_here(name, found) else []
        below = name if program == "RELION" else _CRYOSPARC_JOB.sub("", name)
        sources.append(Source(name, found, relion_output_stem(below), pixel_size))
    if namesakes:
        log.warning(
            f"{len(namesakes)} of the micrographs in {path} are also in the current folder by"
            f" name; those of the list's own project are used (such as {namesakes[0]})"
        )
    if not any(os.path.exists(source.path) for source in sources):
        raise BadInput(
            f"none of the {len(sources)} micrographs in {path} exists (the first is"
            f" {sources[0].name}); run in the {program} project folder"
        )
    return sources


def _source_from_path(path: Path, base: Path) -> Source:
    below = path.relative_to(base).as_posix()
    return Source(str(path), path, _strip_outer_parts(strip_image_suffix(below)))


def relion_output_stem(name: str) -> str:
    """Return a name without RELION's job folder: MotionCorr/job002/Movies/a -> Movies/a."""
    return _strip_outer_parts(strip_image_suffix(_JOB_FOLDER.sub("", name)))


def _strip_outer_parts(name: str) -> str:
    """Remove parts of a path that would lead out of the output folder: a root or '..'."""
    parts = [part for part in name.split("/") if part not in ("", "..", ".")]
    return "/".join(parts) or "micrograph"


def are_named_from_here(sources: Sequence[Source]) -> bool:
    """Return whether the names of micrographs are their paths from the current folder."""
    return all(source.path == Path(source.name) for source in sources)


def resolve_path(path: Path) -> Path:
    """Return the absolute path of a file with symbolic links resolved."""
    return Path(os.path.realpath(path))


def _with_distinct_names(sources: list[Source]) -> list[Source]:
    """Name micrographs by their path if STAR files of two projects give them the same name."""
    number = Counter(source.name for source in sources)
    return [replace(s, name=str(s.path)) if number[s.name] > 1 else s for s in sources]


def _with_distinct_stems(sources: list[Source]) -> list[Source]:
    """Use the whole path as output stem of micrographs whose results would collide."""
    number = Counter(source.output_stem for source in sources)
    taken = {stem for stem, count in number.items() if count == 1}
    changed = []
    for source in sources:
        stem = source.output_stem
        if number[stem] > 1:
            base = _strip_outer_parts(str(resolve_path(source.path))).replace(".", "_")
            numbered = (f"{base}_{i}" for i in itertools.count(2))
            stem = next(s for s in itertools.chain([base], numbered) if s not in taken)
            taken.add(stem)
        changed.append(replace(source, output_stem=stem))
    return changed
