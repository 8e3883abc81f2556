"""Small jobs of the command line on simulated shells, and readers of their results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import starfile
from numpy.typing import NDArray

PIXEL, DIAMETER, WORKING = 6.0, 120.0, 7.5


SHELLS = ("--particle", "shell", "--pixel-size", PIXEL, "--contaminants", 0, "--snr", 0.5)


#: Neither side becomes a whole number of working pixels, and the two differ.
WIDTH, HEIGHT = 401, 389


RECIPE = (
    *("--diameter", DIAMETER, "--expected-particles", 12, "--working-pixel-size", WORKING),
    *("--network", "conv31"),
)


SMALL = ("--width", 8, "--epochs", 2, "--epoch-updates", 40)


#: Learns nothing; for what must hold of any training.
TINY = ("--width", 2, "--epochs", 1, "--epoch-updates", 3)


MODEL = "model.safetensors"


Rows = list[dict[str, str]]


def training_data(folder: Path) -> tuple[object, ...]:
    return "--micrographs", folder / "micrographs.star", "--labels", folder / "labels.star"


def two_of(folder: Path) -> tuple[object, ...]:
    """What to learn from where two micrographs are as good as six."""
    mics = (first(folder, number) for number in (1, 2))
    return "--micrographs", *mics, "--labels", folder / "labels.star"


def first(folder: Path, number: int = 1) -> Path:
    return folder / "micrographs" / f"shell_{number:04d}.mrc"


def rows(path: Path) -> Rows:
    head, *lines = path.read_text().splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def numbers(path: Path) -> list[list[str]]:
    """All of a ``picks.tsv`` but the names, in the order of the file."""
    return [list(row.values())[1:] for row in rows(path)]


def xy_of(table: Rows) -> NDArray[np.float64]:
    return np.array([[float(r["x_px"]), float(r["y_px"])] for r in table]).reshape(-1, 2)


def chosen(table: Rows, name: str) -> Rows:
    return [r for r in table if r["selected"] == "1" and Path(r["micrograph"]).name == name]


def image_of(path: Path) -> NDArray[Any]:
    with mrcfile.open(path) as mrc:
        return np.array(mrc.data)


def true_xy(folder: Path, number: int = 1) -> NDArray[np.float64]:
    table = starfile.read(folder / "truth.star")["particles"]
    own = table[table["rlnMicrographName"] == f"micrographs/{first(folder, number).name}"]
    return own[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
