"""EMAN1 ``.box`` files: one line per particle, ``x y width height``, of the corner of its box.

The corner is the one with the lowest column and row, in pixels of the micrograph. A fifth column
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
from heliodor.utils.parsing import read_text

#: Extra column with the tags: -1, -2 or -3, and None for lines without a tag.
TAG = "box_tag"

#: Tags are integers: a score that happens to be -1 is written as -1.0.
_TAG = re.compile(r"-[123]")
#: If the beginning of a file is shorter than this, it is the whole file.
_HEAD_BYTES = 65536


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file consists of rows of boxes.

    False for a file without rows, which may have any format.
    """
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    if len(head) >= _HEAD_BYTES:
        del lines[-1:]  # cut off anywhere
    rows = [line for line in lines if not _is_skipped(line)]
    return bool(rows) and all(_parse_row(row) is not None for row in rows)


def _is_skipped(line: str) -> bool:
    """Return whether a line is blank or a comment, as programs for helices write them."""
    return not line.strip() or line.lstrip().startswith("#")


def _parse_row(line: str) -> list[float] | None:
    """Return the numbers of a row, or None if it is not a box; only the score may be nan."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    if len(values) not in (4, 5) or not all(map(math.isfinite, values[:4])):
        return None
    return values if min(values[2:4]) > 0 else None


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the boxes of one micrograph, whose name is taken from the file name.

    Centers are ``corner + width // 2``, as in RELION. The longer side of the box is in the extra
    column `box_px`, and tags, if any, are in `box_tag`. An empty file belongs to a micrograph
    without particles.

    Raises
    ------
    BadInput
        If the file cannot be read, or a line is not four or five numbers.
    """
    path = Path(path)
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a box file ({error}); check the file") from error
    boxes, scores, tags = [], [], []
    for number, line in enumerate(lines, 1):
        if _is_skipped(line):
            continue
        values = _parse_row(line)
        if values is None:
            raise BadInput(
                f"{path}, line {number}, has {line.strip()[:80]!r} where a box file has x, y,"
                " width and height; fix or remove the line"
            )
        last = line.split()[-1]
        tagged = len(values) == 5 and _TAG.fullmatch(last) is not None
        boxes.append(values[:4])
        tags.append(int(last) if tagged else None)
        scores.append(values[4] if len(values) == 5 and not tagged else math.nan)
    name = infer_micrograph(path)
    if not boxes and (comment := next(filter(str.strip, lines), None)) is not None:
        raise BadInput(
            f"{path} has no boxes, only comments such as {comment.strip()[:80]!r}; check the file"
        )
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

    Corners are integers, so centers are exact to half a pixel. The fifth column is written if any
    pick has a tag, which takes precedence, or a score.

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
            f"{path} cannot be written with boxes of {box_px} pixels, as the center of a box"
            " must be a whole pixel; give a positive even number"
        )
    corners = np.floor(picks.xy_px - box_px / 2 + 0.5).astype(int)
    tags = picks.extra.get(TAG, [None] * len(picks))
    fifth = [
        str(int(tag)) if tag in (-1, -2, -3) else repr(float(score))
        for tag, score in zip(tags, picks.score, strict=True)
    ]
    # All lines have the same number of columns, as readers of tables expect.
    ends = [f"\t{last}" for last in fifth] if set(fifth) - {"nan"} else [""] * len(picks)
    lines = [
        f"{x}\t{y}\t{box_px}\t{box_px}{end}\n" for (x, y), end in zip(corners, ends, strict=True)
    ]
    write_text(path, "".join(lines))
