"""CSV files of the VGG Image Annotator (VIA): one line per region of an image.

The shape of a region is JSON, in pixels of the image from its upper left corner; an image without
a region has one line with a count of 0. Picking programs use points, and store a score in the
attributes of the region. Source: VIA's user guide, "Import and export annotations as CSV".
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number, read_text

COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file is the header line of VIA."""
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    return bool(lines) and {"filename", "region_shape_attributes"} <= set(_split_header(lines[0]))


def _split_header(line: str) -> list[str]:
    return [title.strip().strip('"').lstrip("#") for title in line.split(",")]


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the centers of the points, circles, ellipses and boxes of each image.

    An image ``mic.png`` shows the micrograph ``mic``, whatever its format. The attribute
    ``score`` is the score. Images without a region stay listed.

    Raises
    ------
    BadInput
        If the file cannot be read, columns are missing, or a region has another shape.
    """
    path = Path(path)
    try:
        text = read_text(path)
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a CSV file of VIA ({error})") from error
    titles = [title.strip().lstrip("#") for title in rows[0]] if rows else []
    if not {"filename", "region_shape_attributes"} <= set(titles):
        raise BadInput(f"{path} has no columns filename and region_shape_attributes of VIA")
    images: list[str] = []
    names: list[str] = []
    centers: list[tuple[float, float]] = []
    scores: list[float] = []
    # A row may lack its last cells; filling them in would let a wide header exhaust memory.
    places = {title: place for place, title in enumerate(titles) if title in COLUMNS}
    for line, cells in enumerate(rows[1:], 2):
        row = {title: cells[place] for title, place in places.items() if place < len(cells)}
        name = row.get("filename", "")
        shape = _parse_json(row.get("region_shape_attributes"), path, line)
        images.append(name)
        if not shape:
            continue  # the line of an image without a region
        names.append(name)
        centers.append(_find_center(shape, path, line))
        scores.append(
            parse_number(_parse_json(row.get("region_attributes"), path, line).get("score"))
        )
    regions = Picks.from_columns(names, np.array(centers), np.array(scores))
    return Picks.concatenate([Picks.empty(dict.fromkeys(images)), regions])


def _parse_json(text: str | None, path: Path, line: int) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path}, line {line}, has {(text or '')[:80]!r} where VIA has JSON"
        ) from error
    return value if isinstance(value, dict) else {}


def _find_center(shape: dict[str, Any], path: Path, line: int) -> tuple[float, float]:
    try:
        if "cx" in shape:
            x, y = float(shape["cx"]), float(shape["cy"])
        else:
            x = float(shape["x"]) + float(shape["width"]) // 2
            y = float(shape["y"]) + float(shape["height"]) // 2
    except (KeyError, TypeError, ValueError, OverflowError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise BadInput(
            f"{path}, line {line}, has a region {json.dumps(shape)[:80]} without a center; mark"
            " particles with points, circles or boxes"
        )
    return x, y
