"""The guard of the readers: what a file does to them is said of the file.

Files come from many programs, and some are damaged in ways that nobody has thought of. A reader
says what it knows to be wrong; whatever else happens in it or in a library is refused here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.headers import fault_of_name
from heliodor.errors import BadInput

Read = TypeVar("Read")

#: No image has a pixel as far out, and whole numbers hold what is nearer.
FARTHEST_PX = 1e9


def guarded(read: Callable[[str | Path], Read]) -> Callable[[str | Path], Read]:
    """Let a reader of one file raise nothing but `BadInput`.

    Picks that it returns have coordinates that can be pixels, and names that can be written
    wherever names are written.
    """

    @functools.wraps(read)
    def reading(path: str | Path) -> Read:
        try:
            with np.errstate(all="ignore"):  # what overflows is infinite, and refused as that
                found = read(path)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"{path} cannot be read ({error or type(error).__name__}); check the file"
            ) from error
        if isinstance(found, Picks):
            _check(found, path)
        return found

    return reading


def _check(picks: Picks, path: str | Path) -> None:
    bad = np.flatnonzero(~(np.abs(picks.xy_px) < FARTHEST_PX).all(axis=1))
    if len(bad):
        x, y = picks.xy_px[bad[0]]
        raise BadInput(
            f"{path} has a particle at {x:g}, {y:g}, which is no place; mend or remove it"
        )
    for name in picks.micrographs:
        if (fault := fault_of_name(name)) is not None:
            raise BadInput(
                f"{path} calls a micrograph {name[:100]!a}, which {fault}; mend the name"
            )
