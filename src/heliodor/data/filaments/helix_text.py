"""Texts of points along helices: those of EMAN2 and SPHIRE, and pairs of ends without a header.

EMAN2's helix boxer, SPHIRE's and crYOLO's box manager write for each helix a line
``#helix: (x1, y1),(x2, y2),width`` with the centers of its ends, and below it the centers of its
segments, all in pixels. A line ``#micrograph:`` at the top names the image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.formats.validation import FARTHEST_PX
from heliodor.data.coordinates.picks import Picks
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import remove_repeated_points
from heliodor.data.micrographs.names import find_name_fault, is_micrograph_name
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number, read_text

_HELIX, _MICROGRAPH = "#helix:", "#micrograph:"
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
#: What EMAN2 and SPHIRE append to the name of a micrograph.
_SUFFIXES = ("_helix_ptcl_coords", "_ptcl_coords", "_boxes")


def read_helices(path: Path) -> tuple[Filaments, int]:
    """Read the helices of one micrograph.

    The axis of a helix runs from its first end through its segments to its other end. Its width
    is the side of its boxes. The micrograph is the one that the file names, or the one that the
    name of the file indicates.

    Returns
    -------
    Filaments, int
        The filaments, and the number of helices without length.

    Raises
    ------
    BadInput
        If the file cannot be read, or a line is not as it should be.
    """
    name = infer_micrograph(path)
    helices: list[tuple[list[float], list[list[float]]]] = []
    for number, line in enumerate(_read_lines(path), 1):
        values = [float(word) for word in _NUMBER.findall(line)]
        if line.startswith(_HELIX):
            if len(values) != 5 or not 0.0 < values[4] < FARTHEST_PX:
                raise BadInput(
                    f"{path}, line {number}, has {line.strip()[:80]!r} where two ends and a width"
                    " are expected; fix the line"
                )
            helices.append((values, []))
        elif line.startswith(_MICROGRAPH):
            named = line.removeprefix(_MICROGRAPH).strip()
            name = named if is_micrograph_name(named) else name
        elif line.strip() and not line.startswith("#"):
            words = line.split()
            if len(words) != 2 or len(values) != 2 or not helices:
                raise _wrong_line(path, number, line)
            helices[-1][1].append([parse_number(word) for word in words])
    if (fault := find_name_fault(name)) is not None:
        raise BadInput(f"{path} calls a micrograph {name[:100]!a}, which {fault}; fix the name")
    filaments = []
    for tube, (helix, between) in enumerate(helices, 1):
        axis = remove_repeated_points(np.array([helix[:2], *between, helix[2:4]]))
        if not (np.abs(axis) < FARTHEST_PX).all():
            raise BadInput(f"{path} has an invalid coordinate in helix {tube}; fix or remove it")
        if len(axis) > 1:
            filaments.append(Filament(name, axis, tube, box_px=helix[4]))
    return Filaments((name,), tuple(filaments)), len(helices) - len(filaments)


def render_helices(name: str, filaments: Sequence[Filament], box_px: float) -> str:
    """Return the helices of one micrograph as text.

    Parameters
    ----------
    name
        The micrograph.
    box_px
        The width of all helices in pixels.
    """
    side = f"{box_px:g}"
    lines = [f"{_MICROGRAPH} {name}", f"#segment length: {side}", f"#segment width: {side}"]
    for one in filaments:
        (x1, y1), (x2, y2) = one.axis_px[[0, -1]].tolist()
        lines.append(f"{_HELIX} ({x1!r}, {y1!r}),({x2!r}, {y2!r}),{side}")
        lines += [f"{x!r}\t{y!r}" for x, y in one.axis_px.tolist()]
    return "".join(f"{line}\n" for line in lines)


def read_pairs(path: Path) -> Picks:
    """Read a text whose lines are x and y of points, without a header.

    Raises
    ------
    BadInput
        If the file cannot be read, or a line is not two numbers.
    """
    points = []
    for number, line in enumerate(_read_lines(path), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            values = [parse_number(word) for word in line.split()]
            if len(values) != 2 or not all(abs(value) < FARTHEST_PX for value in values):
                raise _wrong_line(path, number, line)
            points.append(values)
    xy: FloatArray = np.array(points, dtype=np.float64).reshape(-1, 2)
    return Picks.on(infer_micrograph(path), xy)


def _wrong_line(path: Path, number: int, line: str) -> BadInput:
    return BadInput(
        f"{path}, line {number}, has {line.strip()[:80]!r} where x and y of a point of a helix are"
        " expected; fix or remove the line"
    )


def infer_micrograph(path: Path) -> str:
    """Return the stem of the micrograph to which a text belongs by its name."""
    found = (path.stem.removesuffix(end) for end in _SUFFIXES if path.stem.endswith(end))
    return next(found, "") or relion_star.infer_micrograph(path)


def _read_lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as text ({error}); check the file") from error
