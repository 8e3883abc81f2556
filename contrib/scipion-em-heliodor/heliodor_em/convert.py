"""From Scipion's micrographs and coordinates to the files of heliodor, and back.

A coordinate is the center of a particle in pixels of the micrograph in both programs, counted from
the first pixel of the first row of the file; nothing is flipped or scaled. Scipion's coordinates
are whole numbers, so heliodor's are rounded to the nearest pixel.
"""

from __future__ import annotations

import csv
import math
import os
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

#: The columns of heliodor's tables of picks that are read, and written for labels.
MICROGRAPH, X, Y, SCORE, SELECTED = "micrograph", "x_px", "y_px", "log_odds", "selected"
PICKS, FAILED = "picks.tsv", "failed.tsv"


class Pick(NamedTuple):
    """A pick: its center in pixels of the micrograph, and its score (log-odds)."""

    x: float
    y: float
    score: float


def write_micrograph_list(path: str, micrographs: Iterable[Any]) -> None:
    """Write the files of micrographs, one per line, as heliodor reads them after an @."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(f"{mic.getFileName()}\n" for mic in micrographs)


def write_labels(path: str, coordinates: Iterable[Any], files: dict[int, str]) -> int:
    """Write coordinates as a table for training.

    Parameters
    ----------
    path
        The table.
    coordinates
        Scipion's coordinates.
    files
        The file of each micrograph by its identifier. Coordinates on others are left out.

    Returns
    -------
    int
        The number of coordinates in the table.
    """
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow([MICROGRAPH, X, Y])
        for coordinate in coordinates:
            file = files.get(coordinate.getMicId())
            if file is not None:
                table.writerow([file, *coordinate.getPosition()])
                count += 1
    return count


def split_picks(folder: str, paths: dict[str, str]) -> None:
    """Write the picks of each micrograph of a run to a table of its own.

    Scipion asks for the coordinates of a few micrographs at a time, and a run may have thousands.

    Parameters
    ----------
    folder
        The output folder of ``heliodor pick``.
    paths
        The table of each micrograph by the micrograph's file; of those without picks as well.
    """
    rows: dict[str, list[list[str]]] = {file: [] for file in paths}
    for row in _read_table(os.path.join(folder, PICKS)):
        if row[SELECTED] == "1":
            rows[row[MICROGRAPH]].append([row[X], row[Y], row[SCORE]])
    for file, path in paths.items():
        with open(path + ".new", "w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, delimiter="\t", lineterminator="\n")
            table.writerows([[X, Y, SCORE], *rows[file]])
        os.replace(path + ".new", path)


def read_picks(path: str) -> list[Pick]:
    """Read a table that `split_picks` wrote; an empty list if there is none."""
    return [Pick(float(row[X]), float(row[Y]), float(row[SCORE])) for row in _read_table(path)]


def to_pixel(position: float) -> int:
    """Return the pixel that contains a position, counted from 0; pixel 3 reaches from 2.5 to 3.5.

    Scipion would truncate, which moves particles by half a pixel on average.
    """
    return math.floor(position + 0.5)


def read_failures(folder: str) -> list[tuple[str, str]]:
    """Return the micrographs that heliodor could not use, and why."""
    return [(row[MICROGRAPH], row["reason"]) for row in _read_table(os.path.join(folder, FAILED))]


def default_box_size(diameter: float, pixel_size: float) -> int:
    """Return a box size in pixels: an even number, at least 1.5 times the particle's diameter.

    Parameters
    ----------
    diameter
        In angstrom.
    pixel_size
        In angstrom.
    """
    return 2 * math.ceil(0.75 * diameter / pixel_size)


def describe_failures(failures: Sequence[tuple[str, str]], most: int = 10) -> list[str]:
    """Return lines on the micrographs that could not be used, the first few with reasons."""
    if not failures:
        return []
    count = len(failures)
    lines = [f"*{count} micrograph{'s' * (count > 1)} could not be used:*"]
    lines += [f"{name}: {reason}" for name, reason in failures[:most]]
    if count > most:
        lines.append(f"and {count - most} more, listed in failed.tsv in the extra folder")
    return lines


def _read_table(path: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table, or nothing if there is no such file."""
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
