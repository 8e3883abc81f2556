"""Files of coordinates: one module a format family, each with its reader and writer."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.errors import BadInput
from heliodor.formats import star, text
from heliodor.picks import Picks

SUFFIXES = (".star", ".tsv", ".csv", ".txt")
#: Files that stand for all those of their folder.
LISTS = ("autopick.star", "manualpick.star")
#: Our own table of picks and of the candidates below the threshold.
CANDIDATES = "picks.tsv"
#: How much of a file is looked at to tell its format.
HEAD_BYTES = 65536


def read_picks(where: str | Path, candidates: bool = False) -> Picks:
    """Read coordinates from a file, every coordinate file of a folder, or a glob pattern.

    The format is told by the content, not by the name. Where files name no micrograph but by
    their own name, two of one name in two folders are told apart by the folder. Of our own
    ``picks.tsv`` only the selected picks are read, unless all candidates are asked for: those
    of a folder are in its ``picks.tsv``, where it has one.

    Raises
    ------
    BadInput
        If nothing is there, or a file is of no known format.
    """
    path = Path(where)
    if path.is_dir():
        files = sorted(
            p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."
        )
        # A list of coordinate files stands for all of them, and so does a table of candidates.
        listed = [p for p in files if p.name in LISTS]
        files = [p for p in files if candidates and p.name == CANDIDATES] or listed or files
    elif path.exists() or not glob.has_magic(str(where)):
        files = [path]
    else:
        files = [Path(p) for p in sorted(glob.glob(str(where), recursive=True))]
    if not files:
        raise BadInput(f"{where} holds no coordinate file (STAR, TSV)")
    tables = [_read_file(file) for file in files]
    picks = Picks.concatenate(_told_apart(files, tables))
    return picks if candidates else picks.select(selected(picks))


def selected(picks: Picks) -> NDArray[np.bool_]:
    """Tell which of a table's rows are picks: all but those with 0 in its column `selected`."""
    marks = picks.extra.get("selected", ())
    if not len(marks):
        return np.ones(len(picks), dtype=bool)
    return np.array([str(mark).strip() not in ("0", "0.0") for mark in marks], dtype=bool)


def _told_apart(files: Sequence[Path], tables: Sequence[Picks]) -> list[Picks]:
    """Put the folder before micrographs that are named as their file where folders share one."""
    names = [star.micrograph_of(file) for file in files]
    by_file = [table.micrographs == (name,) for table, name in zip(tables, names, strict=True)]
    folders: dict[str, set[Path]] = {}
    for file, name, own in zip(files, names, by_file, strict=True):
        if own:
            folders.setdefault(name, set()).add(file.parent)
    return [
        replace(table, micrographs=((file.parent / name).as_posix(),))
        if own and len(folders[name]) > 1
        else table
        for file, table, name, own in zip(files, tables, names, by_file, strict=True)
    ]


def _read_file(path: Path) -> Picks:
    if not path.is_file():
        raise BadInput(f"the coordinate file {path} does not exist; check the name")
    try:
        with path.open("rb") as stream:
            raw = stream.read(HEAD_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error
    if b"\0" in raw:
        raise BadInput(f"{path} is not a text file: it holds no coordinates")
    head = raw.decode("utf-8-sig", errors="replace")
    if not head.strip():
        raise BadInput(f"{path} is empty; label some particles first")
    # The table first: a micrograph's name in it may begin with data_ too.
    if text.looks_like_table(head):
        return text.read_picks(path)
    if any(line.strip().startswith("data_") for line in head.splitlines()):
        return star.read_picks(path)
    raise BadInput(
        f"{path} is of no known coordinate format; give a RELION STAR file or a table with"
        " the columns image_name, x_coord, y_coord"
    )
