"""EMAN1 ``.box`` files: one line a particle, ``x y width height``, of the box's corner.

The corner is the one at the lowest column and row, in pixels of the micrograph. A fifth column
may hold a tag (-1, -2: the two ends of a helix, -3: a particle) or a score.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.formats.relion_star import infer_micrograph
from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import BOX, Picks
from heliodor.errors import BadInput
from heliodor.utils.files import write_text

#: Extra column of the fifth column's tags: -1, -2 or -3, None for a line without one.
TAG = "box_tag"

#: Written as whole numbers: a score that happens to be -1 is written as -1.0.
_TAG = re.compile(r"-[123]")
#: A file's beginning that is shorter than this is the whole file.
_HEAD_BYTES = 65536


def looks_like(head: bytes) -> bool:
    """Tell whether a file's beginning is nothing but rows of boxes.

    A file without a row says nothing: it may be of any format.
    """
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    if len(head) >= _HEAD_BYTES:
        del lines[-1:]  # cut off anywhere
    rows = [line for line in lines if line.strip()]
    return bool(rows) and all(_parse_row(row) is not None for row in rows)


def _parse_row(line: str) -> list[float] | None:
    """Return the numbers of a row, or None where it is no box. Only a score may be unknown."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    if len(values) not in (4, 5) or not all(map(math.isfinite, values[:4])):
        return None
    return values if min(values[2:4]) > 0 else None


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the boxes of one micrograph, which the file's name says.

    Centres are ``corner + width // 2``, as RELION has them. The side of the box (the longer
    one) is in the extra column `box_px`, tags are in `box_tag`, where there are any. A file
    without a line is of a micrograph without particles.

    Raises
    ------
    BadInput
        If the file cannot be read, or a line is not four or five numbers.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a box file ({error}); check the file") from error
    boxes, scores, tags = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = _parse_row(line)
        if values is None:
            raise BadInput(
                f"{path}, line {number}, has {line.strip()[:80]!r} where a box file has x, y,"
                " width and height; mend or remove the line"
            )
        last = line.split()[-1]
        tagged = len(values) == 5 and _TAG.fullmatch(last) is not None
        boxes.append(values[:4])
        tags.append(int(last) if tagged else None)
        scores.append(values[4] if len(values) == 5 and not tagged else math.nan)
    name = infer_micrograph(path)
    if not boxes:
        return Picks.empty([name])
    corner, size = np.split(np.array(boxes), 2, axis=1)
    extra = {BOX: size.max(axis=1)}
    if any(tag is not None for tag in tags):
        extra[TAG] = np.array(tags, dtype=object)
    return Picks.from_columns(
        [name] * len(boxes), corner + size // 2, np.array(scores, dtype=np.float64), extra
    )


def write_picks(path: Path, picks: Picks, box_px: int) -> None:
    """Write the boxes of one micrograph.

    Corners are whole pixels, so that centres are kept to half a pixel. The fifth column is
    there if a pick has a tag, which comes first, or a score.

    Parameters
    ----------
    path
        The file.
    picks
        Picks of one micrograph.
    box_px
        Side of the box, an even number of pixels.

    Raises
    ------
    BadInput
        If the box is odd or not positive, or the file cannot be written.
    """
    if box_px <= 0 or box_px % 2:
        raise BadInput(
            f"{path} cannot be written with boxes of {box_px} pixels, as the centre of a box"
            " file's box is a whole pixel; give an even number"
        )
    corners = np.floor(picks.xy_px - box_px / 2 + 0.5).astype(int)
    tags = picks.extra.get(TAG, [None] * len(picks))
    fifth = [
        str(int(tag)) if tag in (-1, -2, -3) else repr(float(score))
        for tag, score in zip(tags, picks.score, strict=True)
    ]
    # All lines have as many columns, since readers of tables want that.
    ends = [f"\t{last}" for last in fifth] if set(fifth) - {"nan"} else [""] * len(picks)
    lines = [
        f"{x}\t{y}\t{box_px}\t{box_px}{end}\n" for (x, y), end in zip(corners, ends, strict=True)
    ]
    write_text(path, "".join(lines))
