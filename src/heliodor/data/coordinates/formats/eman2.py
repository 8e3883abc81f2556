"""EMAN2's ``info/<micrograph>_info.json``: the key ``boxes`` lists the centres of particles.

Each is ``[x, y, type]``, perhaps with a score behind; positions need not be whole. EMAN2 calls
an info file by the micrograph's name up to its last dot and then up to its first ``__``, so
``mic.mrc`` and its copy ``mic__ctf_flip.hdf`` share ``mic_info.json``: the name here is ``mic``.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates.formats.validation import validate_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import find_name_fault, micrograph_stem
from heliodor.errors import BadInput
from heliodor.utils.files import write_text
from heliodor.utils.parsing import parse_number

SUFFIX = "_info.json"
#: Extra column of each box's type, which says who made it: "manual", "auto_convnet", ...
TYPE = "eman2_type"
#: The type of boxes that have none. EMAN2 takes any name; when it picks anew it replaces the
#: boxes of its own pickers' types, and leaves others alone.
OWN_TYPE = "auto_heliodor"

_NUMBER = rb"-?\d[\d.eE+-]*"
_BOXES = re.compile(
    rb'"boxes"\s*:\s*\[\s*(?:\]|\[\s*' + _NUMBER + rb"\s*,\s*" + _NUMBER + rb'\s*,\s*")'
)


def looks_like(head: bytes) -> bool:
    """Tell whether a file's beginning is a JSON object with EMAN2's boxes."""
    return head.lstrip().startswith(b"{") and _BOXES.search(head) is not None


def infer_micrograph(path: Path) -> str:
    """Return the stem of the micrograph that an info file is about, as EMAN2 has it."""
    stem = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
    return stem.split("__")[0] or stem


def info_file_name(micrograph: str) -> str:
    """Return the name, without folder, that EMAN2 gives a micrograph's info file."""
    return infer_micrograph(Path(micrograph_stem(micrograph) + SUFFIX)) + SUFFIX


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the boxes of one micrograph, which the file's name says.

    The types of the boxes are in the extra column `eman2_type`. The number behind a type is
    taken for the score; it is the picker's own and need not be a log-odds. An info file
    without the key ``boxes`` is of a micrograph that nobody has picked.

    Raises
    ------
    BadInput
        If the file is not JSON, or a box does not begin with two numbers.
    """
    path = Path(path)
    content = _read(path)
    if "boxes" not in content and not path.name.endswith(SUFFIX):
        raise BadInput(f'{path} has no "boxes": it is not an info file of EMAN2')
    boxes = content.get("boxes", [])
    if not isinstance(boxes, list):
        raise BadInput(f'{path} has no list behind "boxes": it is not an info file of EMAN2')
    for number, box in enumerate(boxes, 1):
        if not (isinstance(box, list) and len(box) >= 2 and all(map(_is_number, box[:2]))):
            raise BadInput(
                f"{path} has {json.dumps(box)[:80]} as box {number}, which does not begin with"
                " two coordinates; mend or remove it"
            )
    name = infer_micrograph(path)
    if not boxes:
        return Picks.empty([name])
    types = [box[2] if len(box) > 2 and box[2] is not None else "manual" for box in boxes]
    for number, kind in enumerate(types, 1):
        if not isinstance(kind, str | int | float) or find_name_fault(str(kind) or "-"):
            raise BadInput(
                f"{path} has {json.dumps(kind)[:80]} as the type of box {number}, which is no word"
                " or number; mend or remove it"
            )
    scores = [float(box[3]) if len(box) > 3 and _is_number(box[3]) else math.nan for box in boxes]
    return Picks.from_columns(
        [name] * len(boxes),
        np.array([box[:2] for box in boxes], dtype=np.float64),
        np.array(scores),
        {TYPE: np.array([*map(str, types)], dtype=object)},
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig") or "{}")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} cannot be read as an info file of EMAN2 ({error}); check the file"
        ) from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object: it is not an info file of EMAN2")
    return content


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(parse_number(value))  # of a whole number beyond all floats, nan


def write_picks(path: Path, picks: Picks) -> None:
    """Write the boxes of one micrograph, in place of those that the file has.

    What else an existing info file knows, as the CTF and the quality, stays.

    Parameters
    ----------
    path
        The file: `info_file_name` tells what EMAN2 wants it to be called.
    picks
        Picks of one micrograph. Their type is the extra column `eman2_type`, else
        "auto_heliodor"; a score that is not known is left out.

    Raises
    ------
    BadInput
        If the file is there but is no info file, or cannot be written.
    """
    content = _read(path) if os.path.exists(path) else {}
    types = picks.extra.get(TYPE, [None] * len(picks))
    content["boxes"] = [
        [float(x), float(y), OWN_TYPE if kind is None else str(kind)]
        + ([] if math.isnan(score) else [float(score)])
        for (x, y), kind, score in zip(picks.xy_px, types, picks.score, strict=True)
    ]
    # EMAN2's own writer leaves nan as it is and sorts the keys, and so boxes come early.
    write_text(path, json.dumps(content, indent=0, sort_keys=True) + "\n")
