"""Checks of the coordinates that a reader returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import find_name_fault
from heliodor.errors import BadInput
from heliodor.utils.parsing import refuse_damaged

#: Larger than any image; smaller coordinates fit integers.
FARTHEST_PX = 1e9


def validate_picks(read: Callable[[str | Path], Picks]) -> Callable[[str | Path], Picks]:
    """Make a reader of one file raise only `BadInput`, and check the picks that it returns.

    Coordinates must be possible pixels, and names of micrographs must be fit for tables.
    """
    safely = refuse_damaged(read)

    @functools.wraps(read)
    def reading(path: str | Path) -> Picks:
        picks = safely(path)
        _check_picks(picks, path)
        return picks

    return reading


def _check_picks(picks: Picks, path: str | Path) -> None:
    bad = np.flatnonzero(~(np.abs(picks.xy_px) < FARTHEST_PX).all(axis=1))
    if len(bad):
        x, y = picks.xy_px[bad[0]]
        raise BadInput(
            f"{path} has an invalid coordinate ({x:g}, {y:g}); fix or remove that particle"
        )
    for name in picks.micrographs:
        if (fault := find_name_fault(name)) is not None:
            raise BadInput(
                f"{path} calls a micrograph {name[:100]!a}, which {fault}; fix the name"
            )
