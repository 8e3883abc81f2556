"""Coordinate files: one module per family of formats, each with its reader and writer."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.data.coordinates.formats import (
    box,
    cbox,
    cryosparc,
    eman2,
    relion_star,
    relion_suffix,
    via,
)
from heliodor.data.coordinates.formats import (
    tables as text,
)
from heliodor.data.coordinates.formats.filament_columns import (
    HoldsFilaments,
    describe_filaments,
    is_helix_text,
)
from heliodor.data.coordinates.formats.unknown import describe_unknown
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.refined_shifts import apply_refined_shifts
from heliodor.data.cryosparc_table import read_header
from heliodor.data.star import is_blank
from heliodor.errors import BadInput
from heliodor.utils.parsing import detect_encoding

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """A format that can be read."""

    name: str
    #: What its coordinates are, as part of a sentence.
    description: str
    #: Whether the first bytes of a file have this format.
    looks_like: Callable[[bytes], bool]
    read: Callable[[Path], Picks]


#: In the order in which they are tried: a CBOX file is also a STAR file, and the name of a
#: micrograph in a table may begin with data_, as a block of a STAR file does.
READERS = (
    Reader(
        "cs",
        "cryoSPARC; centers as fractions of the micrograph's width and height",
        cryosparc.looks_like,
        cryosparc.read_picks,
    ),
    Reader("via", "VGG Image Annotator; centers of regions", via.looks_like, via.read_picks),
    Reader("eman2", "EMAN2 info; centers", eman2.looks_like, eman2.read_picks),
    Reader(
        "table",
        "a table (heliodor, Topaz, CSV, TSV); centers",
        text.looks_like,
        text.read_picks,
    ),
    Reader(
        "cbox",
        "crYOLO CBOX; corners of boxes, converted to centers",
        cbox.looks_like,
        cbox.read_picks,
    ),
    Reader("star", "RELION STAR; centers", relion_star.looks_like, relion_star.read_picks),
    Reader(
        "box",
        "EMAN1 box; corners of boxes, converted to centers",
        box.looks_like,
        box.read_picks,
    ),
)
#: It is found by its name, as it has the content of any text.
_SUFFIX_READER = Reader(
    "suffix", "RELION 3.1's coordinates; centers", lambda _: False, relion_suffix.read_picks
)
#: Suffixes of the coordinate files in a folder. Only the first group with any files is read, so
#: that the same picks in two formats are not read twice.
SUFFIXES = ((".star", ".tsv", ".csv", ".txt"), (".box",), (".cbox",), (eman2.SUFFIX,), (".cs",))
#: Suffixes of files that may hold the coordinates of one micrograph.
_OF_ONE_MICROGRAPH = tuple(suffix for group in SUFFIXES[:-1] for suffix in group)
#: Lists that stand for all coordinate files of their folder.
LISTS = ("autopick.star", "manualpick.star")
#: The table of heliodor with all candidates, the picks among them.
CANDIDATES = "picks.tsv"
#: Bytes at the beginning of a file from which its format is detected.
HEAD_BYTES = 65536


def read_picks(
    where: str | Path | Sequence[str | Path], candidates: bool = False, filaments: bool = False
) -> Picks:
    """Read coordinates from files, every coordinate file of a folder, or a glob pattern.

    The format is detected from the content, not from the name. Where the micrograph is only known
    from the name of a file, the folder is added if files in two folders share a name. An empty
    file among others belongs to a micrograph without picks, as RELION writes them.
    Refined shifts are subtracted from coordinates, where the file has the pixel sizes for that.
    Of ``picks.tsv`` only the selected picks are read, unless `candidates` asks for all: then the
    ``picks.tsv`` of a folder is read in place of its other files. Points of filaments, which are
    not particles, are only read if `filaments` asks for them.

    Raises
    ------
    BadInput
        If there is no such file, or its format is unknown; `HoldsFilaments` if it holds filaments.
    """
    files = find_files(where, candidates)
    tables: list[Picks] = []
    notes: list[str] = []
    for file in files:
        if len(files) > 1 and is_empty_coordinate_file(file):
            tables.append(Picks.empty([infer_micrograph(file)]))
            continue
        table, note = apply_refined_shifts(find_reader(file).read(file))
        if not filaments and (why := describe_filaments(table)) is not None:
            raise HoldsFilaments(file, why)
        tables.append(table)
        notes += [f"{file}: {note}"] if note is not None else []
    if notes:
        log.warning(notes[0] + (f" (and of {len(notes) - 1} more files)" * (len(notes) > 1)))
    picks = Picks.concatenate(_qualify_names(files, tables))
    return picks if candidates else picks.select(mask_selected(picks))


def find_files(where: str | Path | Sequence[str | Path], candidates: bool = False) -> list[Path]:
    """Return the coordinate files for names of files and folders, or glob patterns.

    Raises
    ------
    BadInput
        If there are none.
    """
    if not isinstance(where, str | Path):
        return list(dict.fromkeys(file for one in where for file in find_files(one, candidates)))
    path = Path(where)
    if path.is_dir():
        files = _find_in_folder(path, candidates)
    elif path.exists() or not glob.has_magic(str(where)):
        files = [path]
    else:
        files = [Path(p) for p in sorted(glob.glob(str(where), recursive=True))]
    if not files:
        message = f"{where} contains no coordinate file (STAR, TSV, box, CBOX, JSON, cs)"
        if path.is_dir() and any(one.is_dir() for one in path.iterdir()):
            message += f"; for those in its subfolders give a pattern, such as '{where}/**/*.star'"
        raise BadInput(message)
    return files


def _find_in_folder(folder: Path, candidates: bool) -> list[Path]:
    there = sorted(p for p in folder.iterdir() if p.name[0] != ".")
    groups = [[p for p in there if p.name.lower().endswith(group)] for group in SUFFIXES]
    # A list of coordinate files stands for all of them, and so does a table of candidates.
    listed = [p for p in groups[0] if p.name in LISTS]
    listed = listed or [p for p in groups[0] if relion_suffix.has_its_name(p)]
    whole = [p for p in groups[0] if candidates and p.name == CANDIDATES] or listed
    if whole:
        return whole
    others = [p for group in groups for p in group if _has_no_coordinates(p)]
    filled = [own for group in groups if (own := [p for p in group if p not in {*others}])]
    if not filled:
        # Nothing to read: the first file says why, and otherwise the folder is empty.
        return next((group for group in groups if group), [])
    if others:
        log.warning(
            f"{len(others)} files in {folder} have no coordinates, and are left out (such as"
            f" {others[0].name})"
        )
    if len(filled) > 1:
        log.warning(
            f"{sum(map(len, filled[1:]))} files in {folder} are not read, as it has coordinates in"
            f" several formats (such as {filled[0][0].name} and {filled[1][0].name}); give a"
            f" pattern to read others, such as '{folder}/*{filled[1][0].suffix}'"
        )
    return filled[0]


def _has_no_coordinates(path: Path) -> bool:
    """Return whether a file surely holds no coordinates, although its name has such a suffix.

    In the folder of a job there are also its settings, the micrographs, notes. Files that may be
    damaged count as coordinates, so that their reader reports them.
    """
    if is_empty_coordinate_file(path):
        return False
    try:
        if path.suffix.lower() == ".cs":
            return cryosparc.X not in read_header(path).fields
        head = _read_head(path)
    except BadInput:
        return False
    if b"\0" in head or len(head) >= HEAD_BYTES or not head.strip():
        return False
    reader = _detect(path, head)
    if reader is None:
        is_text = path.suffix.lower() in (".txt", ".csv", ".tsv")
        return is_text and not is_helix_text(head)
    if reader.name != "star":
        return False
    return not any(
        label.encode() in head for label in (relion_star.X, relion_star.COORDINATE_FILE)
    )


def is_empty_coordinate_file(path: Path) -> bool:
    """Return whether a file has no content, and the name of the coordinates of one micrograph."""
    is_list = path.name in (*LISTS, CANDIDATES) or relion_suffix.has_its_name(path)
    if is_list or not path.name.lower().endswith(_OF_ONE_MICROGRAPH):
        return False
    try:
        return path.is_file() and is_blank(path) and not is_helix_text(_read_head(path))
    except OSError:
        return False  # its reader reports why


def infer_micrograph(path: Path) -> str:
    """Return the stem of the micrograph to which a coordinate file belongs by its name."""
    if path.name.endswith(eman2.SUFFIX):
        return eman2.infer_micrograph(path)
    return relion_star.infer_micrograph(path)


def mask_selected(picks: Picks) -> NDArray[np.bool_]:
    """Return which rows of a table are picks: all but those with 0 in the column `selected`."""
    marks = picks.extra.get("selected", ())
    if not len(marks):
        return np.ones(len(picks), dtype=bool)
    return np.array([str(mark).strip() not in ("0", "0.0") for mark in marks], dtype=bool)


def _qualify_names(files: Sequence[Path], tables: Sequence[Picks]) -> list[Picks]:
    """Note which micrographs are named after their file, with its folder if names are shared."""
    own = [
        table.micrographs[0]
        if table.micrographs
        in ((relion_star.infer_micrograph(file),), (eman2.infer_micrograph(file),))
        else None
        for file, table in zip(files, tables, strict=True)
    ]
    folders: dict[str | None, set[Path]] = {}
    for file, name in zip(files, own, strict=True):
        folders.setdefault(name, set()).add(file.parent)
    return [
        table if name is None else _name_after_file(table, file, name, len(folders[name]) > 1)
        for file, table, name in zip(files, tables, own, strict=True)
    ]


def _name_after_file(table: Picks, file: Path, name: str, in_folders: bool) -> Picks:
    full = (file.parent / name).as_posix() if in_folders else name
    return replace(table, micrographs=(full,), file_stems={full: (file.stem,)})


def describe_formats(files: Sequence[Path]) -> str:
    """Return which formats files have, and what their coordinates are."""
    filled = [file for file in files if not is_empty_coordinate_file(file)] or files
    return " and ".join(dict.fromkeys(find_reader(file).description for file in filled))


def find_reader(path: Path) -> Reader:
    """Return the reader for a file, detected from its content.

    Raises
    ------
    BadInput
        If the file is missing or cannot be read, or its format is unknown.
    """
    head = _read_head(path)
    found = _detect(path, head)
    if found is not None:
        return found
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        # Box files without particles are empty.
        if path.suffix.lower() == ".box":
            return READERS[-1]
        raise BadInput(f"{path} is empty; label some particles first")
    if is_helix_text(head):
        raise HoldsFilaments(path, "it has lines #helix")
    raise BadInput(f"{path} {describe_unknown(path, head)}")


def _read_head(path: Path) -> bytes:
    """Return the first bytes of a file, in UTF-8 if it is text."""
    if not path.is_file():
        why = (
            "is not a regular file; save it as one first"
            if path.exists()
            else "does not exist; check the name"
        )
        raise BadInput(f"the coordinate file {path} {why}")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error
    if detect_encoding(head) == "utf-16":
        return head.decode("utf-16", errors="ignore").encode(errors="ignore")
    return head


def _detect(path: Path, head: bytes) -> Reader | None:
    """Return the reader for a file that begins with these bytes, if there is one."""
    if relion_suffix.has_its_name(path) and head.strip() and not relion_star.looks_like(head):
        return _SUFFIX_READER
    found = next((reader for reader in READERS if reader.looks_like(head)), None)
    if found is None and path.name.endswith(eman2.SUFFIX) and eman2.is_json_object(head):
        # EMAN2 keeps a file of each micrograph from its import on, and boxes once it is picked.
        found = next(reader for reader in READERS if reader.name == "eman2")
    return found
