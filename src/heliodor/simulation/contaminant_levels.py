"""How much of each kind of contaminant a micrograph has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from heliodor.errors import BadInput

ContaminantKind = Literal["carbon", "crystals", "gold", "clumps", "fragments"]

CONTAMINANT_KINDS: tuple[ContaminantKind, ...] = get_args(ContaminantKind)
"""The kinds of contaminants, in the order in which they are drawn."""

#: Words that Python parses as numbers but that are not levels.
_NOT_FINITE = {"nan", "inf", "infinity"}

#: The highest level of any kind.
HIGHEST_LEVEL = 10.0


@dataclass(frozen=True)
class ContaminantLevels:
    """A level for each kind of contaminant: 0 is none, 1 is usual, 2 is twice as many.

    A kind whose level is None has the level of `others`.

    Raises
    ------
    BadInput
        If a level is not between 0 and 10.
    """

    others: float = 1.0
    """Level of the kinds without a level of their own."""
    carbon: float | None = None
    """Edges of holes in the carbon film: a fraction of ``0.25 * carbon`` of the micrographs shows
    one; from 4 on, every micrograph does."""
    crystals: float | None = None
    """Ice crystals."""
    gold: float | None = None
    """Gold beads."""
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
                    f"The level of {what} must be between 0 and {HIGHEST_LEVEL:g}, not {level!r}.",
                    parameter="contaminants",
                )

    def level_of(self, kind: ContaminantKind) -> float:
        """Return the level of a kind."""
        level: float | None = getattr(self, kind)
        return self.others if level is None else level


def parse_contaminant_levels(text: str) -> float | ContaminantLevels:
    """Parse contaminant levels: ``2``, or ``carbon=4,crystals=0``, or ``0,gold=3``.

    Parameters
    ----------
    text
        A level for all kinds, levels by kind, or first the former and then the latter, separated
        by commas. Kinds that are not named have the level for all kinds, or 1.

    Returns
    -------
    float or Levels
        A float if no kind is named.

    Raises
    ------
    BadInput
        If the text cannot be parsed.
    """
    if text.strip().lower().lstrip("+-") in _NOT_FINITE:
        raise BadInput(
            f"contaminants must be a finite number, not {text}", parameter="contaminants"
        )
    levels: dict[str, float] = {}
    for place, part in enumerate(text.split(",")):
        before, equals, after = (piece.strip() for piece in part.partition("="))
        kind, value = (before, after) if equals else ("others", before)
        known = kind in CONTAMINANT_KINDS if equals else place == 0
        level = _parse_number(value)
        if level is None or not known or kind in levels:
            raise BadInput(
                "contaminants must be a number or levels by kind, as in carbon=4,crystals=0 or"
                f" 0,gold=2 (kinds: {', '.join(CONTAMINANT_KINDS)}), not {text!r}",
                parameter="contaminants",
            )
        levels[kind] = level
    return levels["others"] if set(levels) == {"others"} else ContaminantLevels(**levels)


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
