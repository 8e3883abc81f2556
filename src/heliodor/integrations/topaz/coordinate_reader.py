"""Read coordinate files with Topaz's micrograph names: without suffix, with the file's folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from heliodor.data.coordinates import formats
from heliodor.data.coordinates.formats import (
    box,
    eman2,
    via,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import strip_image_suffix
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number

Format = Literal["coord", "csv", "star", "json", "box"]

SUFFIXES: dict[str, Format] = {
    ".txt": "coord",
    ".tab": "coord",
    ".tsv": "coord",
    ".coord": "coord",
    ".star": "star",
    ".box": "box",
    ".json": "json",
    ".csv": "csv",
}
#: Topaz's names of the formats; formats that it does not know count as its own table.
_KINDS: dict[str, Format] = {
    "via": "csv",
    "table": "coord",
    "cbox": "coord",
    "cs": "coord",
    "star": "star",
    "box": "box",
    "eman2": "json",
}
#: STAR column of the score in older files.
_OLD_SCORE = "rlnParticleScore"


def detect_format(path: str | Path) -> Format:
    """Detect the format of a coordinate file by its content, otherwise by its name.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    path = Path(path)
    head = _read_head(path)
    found = next((r.name for r in formats.READERS if r.looks_like(head)), "")
    return _KINDS.get(found) or SUFFIXES.get(path.suffix.lower(), "coord")


def read_coordinates(path: str | Path, form: str = "auto") -> Picks:
    """Read one coordinate file.

    Parameters
    ----------
    path
        The file.
    form
        Its format, or ``auto``.

    Returns
    -------
    Picks
        Micrograph names are without image suffix; an older score column is read as the score. An
        empty file belongs to a micrograph without particles.

    Raises
    ------
    BadInput
        If the file cannot be read in its format.
    """
    path = Path(path)
    kind = detect_format(path) if form == "auto" else form
    if kind == "box":
        # Read directly: an empty file (a micrograph without particles) is valid too, and the
        # micrograph is named by the whole stem.
        picks = replace(box.read_picks(path), micrographs=(path.stem,))
    elif formats.is_empty_coordinate_file(path):
        picks = Picks.empty([formats.infer_micrograph(path)])
    elif kind == "csv" and via.looks_like(_read_head(path)):
        picks = via.read_picks(path)
    elif kind == "json":
        picks = eman2.read_picks(path)
    else:
        # As Topaz does, conversions take the points of filaments as they are.
        picks = formats.read_picks(path, filaments=True)
    return _use_old_score_column(
        picks.rename_micrographs([strip_image_suffix(name) for name in picks.micrographs])
    )


def read_star(path: str | Path, image_ext: str) -> Picks:
    """Read a STAR file with all its columns and its micrograph names.

    Parameters
    ----------
    image_ext
        Suffix to append to micrograph names without one.
    """
    path = Path(path)
    if formats.is_empty_coordinate_file(path):
        picks = Picks.empty([formats.infer_micrograph(path)])
    else:
        picks = _use_old_score_column(formats.find_reader(path).read(path))
    names = [
        name if strip_image_suffix(name) != name else name + image_ext
        for name in picks.micrographs
    ]
    return replace(picks, micrographs=tuple(names))


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(formats.HEAD_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); check the name") from error


def _use_old_score_column(picks: Picks) -> Picks:
    if _OLD_SCORE not in picks.extra or not np.isnan(picks.score).all():
        return picks
    extra = dict(picks.extra)
    score = np.array([*map(parse_number, extra.pop(_OLD_SCORE))], dtype=np.float64)
    return replace(picks, score=score, extra=extra)


def keep_above(picks: Picks, threshold: float) -> Picks:
    """Keep the picks at or above the threshold; picks without scores are all kept."""
    if threshold == -np.inf or np.isnan(picks.score).all():
        return picks
    return picks.select(picks.score >= threshold)


def scale_picks(picks: Picks, factor: float) -> Picks:
    """Multiply coordinates by a factor."""
    return replace(picks, xy_px=picks.xy_px * factor)


def round_to_pixels(picks: Picks) -> Picks:
    """Round coordinates to integer pixels."""
    return replace(picks, xy_px=np.rint(picks.xy_px) + 0.0)
