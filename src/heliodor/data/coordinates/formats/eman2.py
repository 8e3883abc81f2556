"""EMAN2's ``info/<micrograph>_info.json``: the key ``boxes`` lists the centers of particles.

Each is ``[x, y, type]``, optionally followed by a score; positions need not be integers. EMAN2
names an info file after the micrograph, up to the last dot and then up to the first ``__``, so
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
from heliodor.utils.parsing import parse_number, read_text

SUFFIX = "_info.json"
#: Extra column with the type of each box, its origin: "manual", "auto_convnet", ...
TYPE = "eman2_type"
#: The type of boxes that have none. EMAN2 accepts any name; when it picks again it replaces the
#: boxes with the types of its own pickers, and keeps others.
OWN_TYPE = "auto_heliodor"

_NUMBER = rb"-?\d[\d.eE+-]*"
_BOXES = re.compile(
    rb'"boxes"\s*:\s*\[\s*(?:\]|\[\s*' + _NUMBER + rb"\s*,\s*" + _NUMBER + rb'\s*,\s*")'
)


def looks_like(head: bytes) -> bool:
    """Return whether the beginning of a file is a JSON object with EMAN2's boxes."""
    return is_json_object(head) and _BOXES.search(head) is not None


def is_json_object(head: bytes) -> bool:
    """Return whether the beginning of a file is that of a JSON object."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def infer_micrograph(path: Path) -> str:
    """Return the stem of the micrograph to which an info file belongs in EMAN2."""
    stem = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
    return stem.split("__")[0] or stem


def info_file_name(micrograph: str) -> str:
    """Return the name, without folder, that EMAN2 gives a micrograph's info file."""
    return infer_micrograph(Path(micrograph_stem(micrograph) + SUFFIX)) + SUFFIX


@validate_picks
def read_picks(path: str | Path) -> Picks:
    """Read the boxes of one micrograph, whose name is taken from the file name.

    The types of the boxes are in the extra column `eman2_type`. The number after a type is the
    score; its meaning depends on the picker, and it need not be a log-odds. An info file without
    the key ``boxes`` belongs to a micrograph without picks.

    Raises
    ------
    BadInput
        If the file is not JSON, or a box does not begin with two numbers.
    """
    path = Path(path)
    content = _read(path)
    if "boxes" not in content and not path.name.endswith(SUFFIX):
        raise BadInput(f'{path} has no "boxes": it is not an info file of EMAN2')
    if "boxes" not in content and content.get("boxes_3d"):
        raise BadInput(
            f'{path} has "boxes_3d": it belongs to a tomogram; give info files of micrographs'
        )
    boxes = content["boxes"] if content.get("boxes") is not None else []
    if not isinstance(boxes, list):
        raise BadInput(
            f'the value of "boxes" in {path} is not a list: it is not an info file of EMAN2'
        )
    for number, box in enumerate(boxes, 1):
        if not (isinstance(box, list) and len(box) >= 2 and all(map(_is_number, box[:2]))):
            raise BadInput(
                f"{path} has {json.dumps(box)[:80]} as box {number}, which does not begin with"
                " two coordinates; fix or remove it"
            )
    name = infer_micrograph(path)
    if not boxes:
        return Picks.empty([name])
    types = [box[2] if len(box) > 2 and box[2] is not None else "manual" for box in boxes]
    for number, kind in enumerate(types, 1):
        if not isinstance(kind, str | int | float) or find_name_fault(str(kind) or "-"):
            raise BadInput(
                f"{path} has {json.dumps(kind)[:80]} as the type of box {number}, which must be a"
                " word or a number; fix or remove it"
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
        content = json.loads(read_text(path) or "{}")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} cannot be read as an info file of EMAN2 ({error}); check the file"
        ) from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} does not contain a JSON object: it is not an info file of EMAN2")
    return content


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(parse_number(value))  # nan for integers above all floats


def write_picks(path: Path, picks: Picks) -> None:
    """Write the boxes of one micrograph, replacing those in the file.

    All other content of an existing info file, such as the CTF and the quality, is kept.

    Parameters
    ----------
    path
        The file; `info_file_name` returns the name that EMAN2 expects.
    picks
        Picks of one micrograph. Their type is taken from the extra column `eman2_type`, with the
        default "auto_heliodor"; unknown scores are not written.

    Raises
    ------
    BadInput
        If the file exists but is not an info file, or cannot be written.
    """
    content = _read(path) if os.path.exists(path) else {}
    types = picks.extra.get(TYPE, [None] * len(picks))
    content["boxes"] = [
        [float(x), float(y), OWN_TYPE if kind is None else str(kind)]
        + ([] if math.isnan(score) else [float(score)])
        for (x, y), kind, score in zip(picks.xy_px, types, picks.score, strict=True)
    ]
    # EMAN2 also writes nan and sorts the keys, so that boxes come early.
    write_text(path, json.dumps(content, indent=0, sort_keys=True) + "\n")
