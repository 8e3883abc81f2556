"""RELION's auto-picking folder: one coordinate file per micrograph, and the list of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.data.coordinates.formats.relion_star import COORDINATE_FILE, SCORE, X, Y
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.star_list import NAME, OPTICS_GROUP
from heliodor.data.star import render_blocks, write_blocks
from heliodor.utils.files import write_text


def write_autopick_list(
    folder: Path,
    files: Mapping[str, Path],
    comments: Sequence[str] = (),
    whole_paths: bool = False,
    project: RelionProject | None = None,
) -> None:
    """Write ``autopick.star``, RELION's list of micrographs and their coordinate files.

    Paths are relative to the current folder, which must be that of the RELION project, unless
    whole paths are wanted.

    Parameters
    ----------
    folder
        Where the list goes.
    files
        The coordinate file of each micrograph, in order. Leave out micrographs without picks,
        as RELION does.
    comments
        Comment lines for the beginning of the list.
    whole_paths
        Whether to write absolute paths of the coordinate files, which are valid wherever the
        names of the micrographs are.
    project
        Where it is known, micrographs and files are named as in this RELION project.
    """
    if project is not None:
        write_text(folder / "autopick.star", render_autopick_list(files, project, comments))
        return
    paths = [
        str(file.absolute()) if whole_paths else _relative_to_project(file)
        for file in files.values()
    ]
    write_coordinate_files(folder / "autopick.star", list(files), paths, comments)


def render_autopick_list(
    files: Mapping[str, Path], project: RelionProject, comments: Sequence[str] = ()
) -> str:
    """Return the list of micrographs and coordinate files with the paths of a RELION project."""
    names = [project.names.get(name, name) for name in files]
    paths = [project.relative(file) for file in files.values()]
    table = {NAME: names, COORDINATE_FILE: paths}
    return render_blocks({"coordinate_files": table}, comments)


def write_one_autopick(path: Path, picks: Picks, comments: Sequence[str] = ()) -> None:
    """Write the picks of one micrograph as RELION's auto-picker does; see `render_autopick`."""
    write_text(path, render_autopick(picks, comments))


def render_autopick(picks: Picks, comments: Sequence[str] = ()) -> str:
    """Return the picks of one micrograph as RELION's auto-picker writes them.

    Comments are lines at the beginning of the file, which programs ignore. Other columns of the
    picks, such as those of helical segments, are written too, except those of optics groups,
    which do not belong in coordinate files.
    """
    table: dict[str, Any] = {X: picks.xy_px[:, 0], Y: picks.xy_px[:, 1]}
    scored = not len(picks) or not np.isnan(picks.score).all()
    if scored:
        table[SCORE] = picks.score
    table["rlnClassNumber"] = np.zeros(len(picks), dtype=int)
    table["rlnAnglePsi"] = np.zeros(len(picks))
    if scored:
        table["rlnParticleFigureOfMerit"] = np.round(picks.probability, 6)
    for name, values in picks.extra.items():
        if can_store(name, values):
            table[name] = values
    return render_blocks({"": table}, comments)


def can_store(name: str, values: NDArray[Any]) -> bool:
    """Return whether a column of picks is written to the coordinate file of a micrograph."""
    return name.startswith("rln") and name != OPTICS_GROUP and values.ndim == 1


def write_coordinate_files(
    path: Path, names: Sequence[str], files: Sequence[str], comments: Sequence[str] = ()
) -> None:
    """Write the list that pairs micrographs with their coordinate files."""
    write_blocks(path, {"coordinate_files": {NAME: names, COORDINATE_FILE: files}}, comments)


def _relative_to_project(path: Path) -> str:
    """Return a path relative to the current folder, or an absolute one if it lies outside."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative
