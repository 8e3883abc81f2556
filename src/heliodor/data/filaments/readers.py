"""Read files of filaments; the format is detected from the content."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from heliodor.data.coordinates.formats import (
    HEAD_BYTES,
    find_files,
    find_reader,
    is_empty_coordinate_file,
    read_picks,
)
from heliodor.data.coordinates.formats.filament_columns import (
    describe_filaments,
    is_helix_text,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.data.filaments import helix_text
from heliodor.data.filaments.filament import Filaments
from heliodor.data.filaments.grouping import group_points
from heliodor.errors import BadInput

log = logging.getLogger(__name__)

#: What a file is whose format also holds particles.
_FORMATS = {
    "star": "filaments in a RELION STAR file; centers",
    "cbox": "filaments in a crYOLO CBOX file; corners of boxes, converted to centers",
    "box": "EMAN helix boxes; corners of boxes, converted to centers",
    "cs": "filaments of cryoSPARC; fractions of the micrograph's width and height",
}


def describe_filament_formats(files: Sequence[Path], start_end: bool = False) -> str:
    """Return which formats files of filaments have, and what their coordinates are.

    Parameters
    ----------
    start_end
        As for `read_filaments`.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    filled = [file for file in files if not is_empty_coordinate_file(file)] or files
    return " and ".join(dict.fromkeys(_describe_format(file, start_end) for file in filled))


def _describe_format(path: Path, start_end: bool) -> str:
    if _is_helix_text(path):
        return "EMAN2 or SPHIRE helices; centers"
    if start_end and _is_pair_text(path):
        return "pairs of points without a header; centers"
    reader = find_reader(path)
    return _FORMATS.get(reader.name, f"filaments in {reader.description}")


def read_filaments(where: str | Path | Sequence[str | Path], start_end: bool = False) -> Filaments:
    """Read filaments from files, every coordinate file of a folder, or a glob pattern.

    Parameters
    ----------
    where
        As for `heliodor.data.coordinates.formats.read_picks`.
    start_end
        Whether the rows are pairs of starts and ends. RELION's manual picking writes such files,
        which look like those of particles.

    Raises
    ------
    BadInput
        If there is no such file, its format is unknown, or it holds no filaments.
    """
    files = find_files(where)
    tables, left_out = [], 0
    for file in files:
        if len(files) > 1 and is_empty_coordinate_file(file):
            tables.append(Filaments(read_picks([file]).micrographs, ()))
            continue
        table, short = _read_one(file, start_end)
        tables.append(table)
        left_out += short
    if left_out:
        log.warning(f"{left_out} filaments with only one point are left out")
    return Filaments.concatenate(tables)


def _read_one(file: Path, start_end: bool) -> tuple[Filaments, int]:
    if _is_helix_text(file):
        return helix_text.read_helices(file)
    picks: Picks
    if start_end and _is_pair_text(file):
        picks = helix_text.read_pairs(file)
    else:
        picks = read_picks([file], filaments=True)
    if len(picks) and not start_end and describe_filaments(picks) is None:
        raise BadInput(
            f"{file} holds particles, not filaments; if its rows are pairs of starts and ends,"
            " give --start-end"
        )
    return group_points(picks, file, start_end)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); check the name") from error


def _is_helix_text(path: Path) -> bool:
    return is_helix_text(_read_head(path))


def _is_pair_text(path: Path) -> bool:
    """Return whether the first row of a text is two numbers."""
    head = _read_head(path)
    if b"\0" in head:
        return False
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    row = next((one for one in lines if one.strip() and not one.lstrip().startswith("#")), "")
    try:
        return len([float(word) for word in row.split()]) == 2
    except ValueError:
        return False
