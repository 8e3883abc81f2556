"""Read files of filaments; the format is detected from the content."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import (
    HEAD_BYTES,
    find_files,
    find_reader,
    infer_micrograph,
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
from heliodor.utils.console import count_of

log = logging.getLogger(__name__)

#: An axis steps aside where a step is longer than its middle step by this factor, and turns from
#: both of its neighbors by more than the angle with this cosine.
JUMP_STEPS, JUMP_COSINE = 3.0, 0.5
#: Longer than any filament, in pixels: several times around the largest micrographs.
LONGEST_PX = 1e6
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
            tables.append(Filaments((helix_text.infer_micrograph(file),), ()))
            continue
        table, short = _read_one(file, start_end)
        tables.append(table)
        left_out += short
    if left_out:
        log.warning(f"{left_out} filaments with only one point are left out")
    table = Filaments.concatenate(_qualify_names(files, tables))
    for one in table:
        if one.length_px > LONGEST_PX:
            raise BadInput(
                f"filament {one.tube_id} on {one.micrograph} is {one.length_px:.3g} pixels long,"
                " longer than on any micrograph; fix or remove its points"
            )
    _warn_of_shared_numbers(table)
    return table


def _qualify_names(files: Sequence[Path], tables: Sequence[Filaments]) -> list[Filaments]:
    """Note which micrographs are named after their file, with its folder if names are shared."""
    own: list[str | None] = []
    folders: dict[str | None, set[Path]] = {}
    for file, table in zip(files, tables, strict=True):
        inferred = infer_micrograph(file), helix_text.infer_micrograph(file)
        own.append(next((name for name in inferred if table.micrographs == (name,)), None))
        folders.setdefault(own[-1], set()).add(file.parent)
    named = []
    for file, table, name in zip(files, tables, own, strict=True):
        if name is not None:
            full = (file.parent / name).as_posix() if len(folders[name]) > 1 else name
            renamed = table.rename_micrographs({name: full})
            table = replace(renamed, file_stems={full: (file.stem,)})
        named.append(table)
    return named


def _warn_of_shared_numbers(table: Filaments) -> None:
    """Warn of axes that step aside, as if two filaments had one number."""
    found = [one for one in table if _steps_aside(one.axis_px)]
    if found:
        log.warning(
            f"{count_of(len(found), 'filament')} with a long step aside between two points (such"
            f" as number {found[0].tube_id} on {found[0].micrograph}): rows with one number are"
            " one filament; if they are of two, give these different numbers"
        )


def _steps_aside(axis_px: FloatArray) -> bool:
    """Return whether an axis has a long step across the directions before and after it."""
    steps = np.diff(axis_px, axis=0)
    lengths = np.hypot(*steps.T)
    if len(steps) < 3:
        return False
    units = steps / lengths[:, None]
    across = np.sum(units[1:] * units[:-1], axis=1) < JUMP_COSINE
    inside = across[:-1] & across[1:]
    return bool(np.any(inside & (lengths[1:-1] > JUMP_STEPS * np.median(lengths))))


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
