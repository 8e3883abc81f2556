"""A small project as the hosts of Topaz lay it out, and its outputs as they read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray, Shape
from heliodor.integrations.topaz.extract import extract, segment
from heliodor.integrations.topaz.main import parse_arguments
from heliodor.integrations.topaz.train import train
from helpers.networks import (
    discs,
    scattered,
    write_mrc,
)

COMMANDS = {"train": train, "extract": extract, "segment": segment}


def run(*words: str | Path | int) -> int:
    """Run a host's command line; words may hold several."""
    argv = [part for word in words for part in str(word).split(" ") if part]
    args = parse_arguments(argv)
    return COMMANDS[args.command](args)


@dataclass(frozen=True)
class Project:
    """Images of discs, all of which are known, and lists of them."""

    folder: Path
    images: list[Path]
    #: Names in the lists, one an image.
    names: list[str]
    xy: list[FloatArray]

    def lists(self, part: str, chosen: list[int], names: list[str] | None = None) -> str:
        """Write the lists of some images, and return the options that name them."""
        listed = self.names if names is None else names
        rows = [f"{listed[i]}\t{self.images[i].absolute()}" for i in chosen]
        images = self.folder / "proc" / f"image_list_{part}.txt"
        images.write_text("\n".join(["image_name\tpath", *rows]) + "\n")
        targets = self.folder / "proc" / f"target_list_{part}.txt"
        rows = [f"{self.names[i]}\t{x:.0f}\t{y:.0f}" for i in chosen for x, y in self.xy[i]]
        targets.write_text("\n".join(["image_name\tx_coord\ty_coord", *rows]) + "\n")
        return f"--{part}-images={images} --{part}-targets={targets}"


def make(
    folder: Path, number: int = 4, shape: Shape = (96, 80), particles: int = 8, depth: float = 5
) -> Project:
    """RELION's layout: ``proc/mic000000.mrc`` and so on."""
    images, coordinates = [], []
    for i in range(number):
        xy = scattered(shape, particles, 9, i)
        path = folder / "proc" / f"mic{i:06d}.mrc"
        write_mrc(path, discs(shape, xy, depth, seed=i))
        images.append(path)
        coordinates.append(xy)
    return Project(folder, images, [path.stem for path in images], coordinates)


def as_relion(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read x, y and the score as RELION does: columns by name, until a line is too short."""
    lines = path.read_text().split("\n")
    header = lines[0].split()
    assert len(header) >= 3
    place = [header.index(name) for name in ("x_coord", "y_coord", "score")]
    rows = []
    for line in lines[1:]:
        if len(line) < 2:
            break
        words = line.split()
        rows.append([float(words[i]) for i in place])
    table = np.array(rows).reshape(-1, 3)
    return table[:, :2], table[:, 2]


def as_scipion(path: Path) -> dict[int, list[tuple[float, float, float]]]:
    """Read the picks of each micrograph as Scipion does: by position, names are numbers."""
    found: dict[int, list[tuple[float, float, float]]] = {}
    for line in path.read_text().splitlines()[1:]:
        row = line.split("\t")
        x, y, score = map(float, row[1:4])
        found.setdefault(int(row[0]), []).append((x, y, score))
    return found


def curve(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a learning curve: its columns and its rows."""
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert all(len(row) == len(header) for row in rows)
    return header, [dict(zip(header, row, strict=True)) for row in rows]
