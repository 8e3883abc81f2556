"""How much of each kind of contaminant a micrograph has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from heliodor.errors import BadInput

ContaminantKind = Literal["carbon", "crystals", "gold", "clumps", "fragments"]

CONTAMINANT_KINDS: tuple[ContaminantKind, ...] = get_args(ContaminantKind)
"""The kinds of contaminants, in the order in which they are put on a micrograph."""

#: What Python takes for numbers and no level means.
_NOT_FINITE = {"nan", "inf", "infinity"}

#: The highest level of any kind.
HIGHEST_LEVEL = 10.0


@dataclass(frozen=True)
class ContaminantLevels:
    """A level for each kind of contaminant: 0 is none, 1 usual, 2 twice as many.

    None leaves a kind at the level of `others`.

    Raises
    ------
    BadInput
        If one is not within 0 and 10.
    """

    others: float = 1.0
    """The level of the kinds that have none of their own."""
    carbon: float | None = None
    """The edge of a hole in the carbon film. A share of ``0.25 * carbon`` of the micrographs has
    one; from 4 on, each has."""
    crystals: float | None = None
    """Crystals of ice."""
    gold: float | None = None
    """Beads of gold."""
    clumps: float | None = None
    """Aggregates of particles."""
    fragments: float | None = None
    """Pieces of denatured particles."""

    def __post_init__(self) -> None:
        for kind in ("others", *CONTAMINANT_KINDS):
            level = getattr(self, kind)
            if level is not None and not 0.0 <= level <= HIGHEST_LEVEL:
                what = "contaminants" if kind == "others" else f"contaminants ({kind})"
                raise BadInput(
                    f"The level of {what} must be within 0 and {HIGHEST_LEVEL:g}, not {level!r}."
                )

    def level_of(self, kind: ContaminantKind) -> float:
        """Return the level of a kind."""
        own: float | None = getattr(self, kind)
        return self.others if own is None else own


def parse_contaminant_levels(text: str) -> float | ContaminantLevels:
    """Read what a user writes: ``2``, or ``carbon=4,crystals=0``, or ``0,gold=3``.

    Parameters
    ----------
    text
        A level for all kinds, or levels by kind, or first the one and then the others, separated
        by commas. Kinds that are not named have the level of all, or the usual one.

    Returns
    -------
    float or Levels
        A number if no kind is named.

    Raises
    ------
    BadInput
        If it cannot be read so.
    """
    if text.strip().lower().lstrip("+-") in _NOT_FINITE:
        raise BadInput(f"--contaminants must be a finite number, not {text}")
    found: dict[str, float] = {}
    for place, part in enumerate(text.split(",")):
        before, equals, after = (piece.strip() for piece in part.partition("="))
        kind, value = (before, after) if equals else ("others", before)
        known = kind in CONTAMINANT_KINDS if equals else place == 0
        level = _parse_number(value)
        if level is None or not known or kind in found:
            raise BadInput(
                "--contaminants must be a number, or levels of kinds as in carbon=4,crystals=0 or"
                f" 0,gold=2 (kinds: {', '.join(CONTAMINANT_KINDS)}), not {text!r}"
            )
        found[kind] = level
    return found["others"] if set(found) == {"others"} else ContaminantLevels(**found)


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
