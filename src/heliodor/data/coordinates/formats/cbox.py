"""CBOX files of crYOLO 1.8 and later: all candidates of a micrograph with their confidences.

A CBOX file is a STAR file with the blocks ``global`` (the version), ``cryolo`` (the boxes) and
``cryolo_include`` (the labeled slices of a tomogram, empty for micrographs). Coordinates are those
of the corner of the box with the lowest column and row of the MRC file, and need not be integers.
crYOLO calls that corner the lower left one, since it draws row 0 at the bottom.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, score_to_probability
from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import (
    BOX,
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
)
from heliodor.data.star import read_blocks
from heliodor.errors import BadInput
from heliodor.utils.files import write_text

#: The columns that crYOLO writes and expects, in this order.
COLUMNS: Final = (
    "CoordinateX",
    "CoordinateY",
    "CoordinateZ",
    "Width",
    "Height",
    "Depth",
    "EstWidth",
    "EstHeight",
    "Confidence",
    "NumBoxes",
    "Angle",
)
#: Columns that `Picks` holds in another form.
_OWN: Final = ("CoordinateX", "CoordinateY", "Width", "Height", "Confidence")

_BLOCK = re.compile(rb"^[ \t]*data_cryolo[ \t\r]*$", re.MULTILINE)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file is that of a CBOX file in STAR format."""
    return _BLOCK.search(head) is not None and b"_CoordinateX" in head


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read all candidates of one micrograph, whose name is taken from the file name.

    Centers are ``corner + width / 2``. The score is the log-odds of the confidence, which is a
    probability, or nan where it is not between 0 and 1. The longer side of the box is in the extra
    column `box_px`; all other columns with a value are kept.

    Raises
    ------
    BadInput
        If the columns are missing, a number is missing, or the file belongs to a tomogram.
    """
    path = Path(path)
    table = read_blocks(path).get("cryolo")
    missing = [c for c in _OWN[:4] if table is None or c not in table]
    if table is None or missing:
        raise BadInput(
            f"{path} has no column _{missing[0]} in a block data_cryolo: it is not a CBOX file of"
            " crYOLO 1.8 or later"
        )
    numbers = {
        c: relion_star.parse_numbers(table, c, path, finite=c in _OWN[:4]) for c in table.columns
    }
    if len(np.unique(_drop_nan(numbers.get("CoordinateZ", np.zeros(0))))) > 1:
        raise BadInput(
            f"{path} has boxes at several heights (_CoordinateZ): it belongs to a tomogram; give"
            " CBOX files of micrographs"
        )
    name = relion_star.infer_micrograph(path)
    if not len(table):
        return Picks.empty([name])
    corner = np.column_stack([numbers["CoordinateX"], numbers["CoordinateY"]])
    size = np.column_stack([numbers["Width"], numbers["Height"]])
    extra = {c: v for c, v in numbers.items() if c not in _OWN and len(_drop_nan(v))}
    confidence = numbers.get("Confidence", np.full(len(table), np.nan))
    return Picks.from_columns(
        [name] * len(table), corner + size / 2, _logit(confidence), extra | {BOX: size.max(1)}
    )


def _drop_nan(values: FloatArray) -> FloatArray:
    return values[~np.isnan(values)]


def _logit(probabilities: FloatArray) -> FloatArray:
    """Return log-odds, finite for 0 and 1, and nan for values that are not probabilities."""
    margin = 2.0**-53
    inside = np.where(
        (probabilities >= 0) & (probabilities <= 1),
        np.clip(probabilities, margin, 1 - margin),
        np.nan,
    )
    return np.asarray(np.log(inside) - np.log1p(-inside))


def write_picks(path: Path, picks: Picks, box_px: int) -> None:
    """Write the candidates of one micrograph.

    Columns of numbers are written under their names. A particle whose size was never estimated
    gets the size of the box, since programs that filter by size would drop it otherwise.

    Parameters
    ----------
    path
        The file.
    picks
        Candidates of one micrograph with log-odds.
    box_px
        Side of the box in pixels.

    Raises
    ------
    BadInput
        If the box size is not positive, or the file cannot be written.
    """
    if box_px <= 0:
        raise BadInput(
            f"{path} cannot be written with boxes of {box_px} pixels; give a positive box size"
        )
    n = len(picks)
    side = np.full(n, float(box_px))
    columns: dict[str, FloatArray] = dict.fromkeys(COLUMNS, np.full(n, np.nan))
    columns |= {"EstWidth": side, "EstHeight": side, "NumBoxes": np.ones(n)}
    for key, values in picks.extra.items():
        if key != BOX and can_store(key, values):
            columns[key] = np.asarray(values).astype(np.float64)
    columns |= {
        "CoordinateX": picks.xy_px[:, 0] - box_px / 2,
        "CoordinateY": picks.xy_px[:, 1] - box_px / 2,
        "Width": side,
        "Height": side,
        "Confidence": score_to_probability(picks.score),
    }
    rows = [" ".join(map(_format_cell, row)) for row in zip(*columns.values(), strict=True)]
    slices = [_format_cell(z) for z in np.unique(_drop_nan(columns["CoordinateZ"]))]
    write_text(
        path,
        "\ndata_global\n\n_cbox_format_version   1.0\n"
        + _format_block("cryolo", list(columns), rows)
        + _format_block("cryolo_include", ["slice_index"], slices),
    )


def can_store(key: str, values: NDArray[Any]) -> bool:
    """Return whether a column of picks holds numbers that floats represent exactly."""
    if key in (*_OWN, PIXEL_SIZE, HEIGHT, WIDTH):
        return False
    if np.asarray(values).dtype.kind == "c":
        return False
    try:
        numbers = np.asarray(values).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return numbers.ndim == 1 and not (np.abs(numbers) > 2.0**53).any()


def _format_cell(value: float) -> str:
    return "<NA>" if np.isnan(value) else repr(float(value))


def _format_block(name: str, columns: list[str], rows: list[str]) -> str:
    header = [f"_{column} #{number}" for number, column in enumerate(columns, 1)]
    return "\n".join([f"\ndata_{name}\n\nloop_", *header, *rows, ""])
