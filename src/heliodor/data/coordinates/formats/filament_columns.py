"""Columns by which formats of coordinates say that their rows are points of filaments.

Such rows are not particles: two of them may be the ends of one filament.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from heliodor.data.coordinates.formats import box
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput

#: RELION's identity of a filament on its micrograph, and the direction and place of a segment.
TUBE: Final = "rlnHelicalTubeID"
PSI_PRIOR: Final = "rlnAnglePsiPrior"
TRACK_LENGTH: Final = "rlnHelicalTrackLengthAngst"
#: crYOLO's identity of a filament, which numbers those of a micrograph from 0.
CBOX_FILAMENT: Final = "filamentid"
#: cryoSPARC's identity of a filament among all of a dataset.
CS_FILAMENT: Final = "filament/filament_uid"

_HELIX_LINE = re.compile(rb"^#helix:", re.MULTILINE)
_MARKS: Final = {
    TUBE: "it has _rlnHelicalTubeID",
    CBOX_FILAMENT: "it has _filamentid",
    CS_FILAMENT: "it has the field filament/filament_uid",
}


class HoldsFilaments(BadInput):
    """A file of filaments was given where particles are read."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(
            f"{path} holds filaments, not particles ({why}); use a file of particles here, or"
            " --filaments in `heliodor train`"
        )


def is_helix_text(head: bytes) -> bool:
    """Return whether a file begins as a text of EMAN2's helix boxer, with lines ``#helix:``."""
    return b"\0" not in head and _HELIX_LINE.search(head) is not None


def describe_filaments(picks: Picks) -> str | None:
    """Return how a table shows that its rows are points of filaments, None if it does not."""
    for column, why in _MARKS.items():
        if column in picks.extra:
            return why
    tags = picks.extra.get(box.TAG, np.zeros(0))
    return "its boxes have the tags -1 and -2" if any(t in (-1, -2) for t in tags) else None
