"""Scores counted: how many lie in each thousandth, which is all that calibration asks for.

Counts of many micrographs take as much memory as those of a few, and their sums are the same in
whatever order the micrographs were done.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from heliodor.conventions import FloatArray, IndexArray

#: Log-odds in a bin. Thresholds are chosen in steps of it, so that what is printed selects what
#: was picked.
SCORE_STEP: Final = 1e-3
#: More micrographs than this are counted, and resampled, in so many groups.
MAX_GROUPS: Final = 64


@dataclass(frozen=True)
class MicrographScores:
    """The scores of one micrograph, log-odds."""

    #: Of its candidates.
    candidates: FloatArray
    #: Of its cleared decoys (`decoys.cleared`); None where none were looked for.
    decoys: FloatArray | None
    #: Without dead borders, in the unit of all areas.
    area: float


class ScoreCounts:
    """Numbers of scores by bins of `SCORE_STEP`.

    Attributes
    ----------
    bins
        Rising, shape (n,); bin k holds scores from k steps on to below k + 1 steps.
    counts
        Shape (n,), none of them 0.
    """

    def __init__(self, bins: IndexArray, counts: IndexArray) -> None:
        self.bins, self.counts = bins, counts

    @classmethod
    def from_scores(cls, scores: FloatArray) -> ScoreCounts:
        """Count finite scores, log-odds, in any order; others are passed over."""
        scores = np.asarray(scores, dtype=np.float64)
        # The bin that a score which lies on a step falls in must not hang on a rounding.
        steps = np.floor(scores[np.isfinite(scores)] / SCORE_STEP + 1e-6).astype(np.int64)
        return cls(*np.unique(steps, return_counts=True))

    @classmethod
    def sum(cls, parts: Iterable[ScoreCounts]) -> ScoreCounts:
        """Return all parts counted together."""
        own = list(parts)
        if not own:
            return cls.from_scores(np.zeros(0))
        bins, inverse = np.unique(np.concatenate([p.bins for p in own]), return_inverse=True)
        counts = np.concatenate([p.counts for p in own])
        return cls(bins, np.bincount(inverse, counts, len(bins)).astype(np.int64))

    @property
    def values(self) -> FloatArray:
        """The lowest score of each bin, rising, shape (n,)."""
        return np.asarray(self.bins * SCORE_STEP, dtype=np.float64)

    @property
    def total(self) -> int:
        """How many scores there are."""
        return int(self.counts.sum())

    def at_least(self, score: float) -> ScoreCounts:
        """Return those that score so much or more."""
        first = int(np.searchsorted(self.values, score - SCORE_STEP / 2))
        return ScoreCounts(self.bins[first:], self.counts[first:])

    def __len__(self) -> int:
        return len(self.bins)


@dataclass
class ScoreGroup:
    """Micrographs that are resampled together."""

    candidates: ScoreCounts
    decoys: ScoreCounts
    #: Of each micrograph, and of those where decoys were looked for.
    areas: dict[str, float]
    decoy_areas: dict[str, float]

    @property
    def area(self) -> float:
        """Of all its micrographs."""
        return _sum(self.areas)

    @property
    def decoy_area(self) -> float:
        """Of those where decoys were looked for."""
        return _sum(self.decoy_areas)


class DatasetScores:
    """The scores of a set of micrographs, as they are done, in any order.

    Parameters
    ----------
    names
        Of all micrographs, in the order that decides on their groups.
    searched
        Those on which decoys are looked for, which are spread evenly over the groups.
    """

    def __init__(self, names: Sequence[str], searched: Container[str]) -> None:
        ranked = sorted(names, key=lambda name: (name not in searched, name))
        number = max(1, min(len(ranked), MAX_GROUPS))
        self._group = {name: rank % number for rank, name in enumerate(ranked)}
        nothing = ScoreCounts.from_scores(np.zeros(0))
        self._groups = [ScoreGroup(nothing, nothing, {}, {}) for _ in range(number)]

    @classmethod
    def from_micrographs(cls, micrographs: Sequence[MicrographScores]) -> DatasetScores:
        """Return the sheet of some micrographs without names."""
        named = {f"{number:06d}": own for number, own in enumerate(micrographs)}
        sheet = cls(list(named), {n for n, own in named.items() if own.decoys is not None})
        for name, own in named.items():
            sheet.add(name, own)
        return sheet

    def add(self, name: str, scores: MicrographScores) -> None:
        """Count the scores of one of the micrographs."""
        group = self._groups[self._group[name]]
        group.candidates = ScoreCounts.sum(
            [group.candidates, ScoreCounts.from_scores(scores.candidates)]
        )
        group.areas[name] = scores.area
        if scores.decoys is not None:
            group.decoys = ScoreCounts.sum([group.decoys, ScoreCounts.from_scores(scores.decoys)])
            group.decoy_areas[name] = scores.area

    @property
    def groups(self) -> list[ScoreGroup]:
        """The groups that hold a micrograph."""
        return [group for group in self._groups if group.areas]

    @property
    def micrographs(self) -> int:
        """How many were counted."""
        return sum(len(group.areas) for group in self._groups)

    @property
    def candidates(self) -> ScoreCounts:
        """Of all micrographs together."""
        return ScoreCounts.sum(group.candidates for group in self._groups)


def _sum(areas: dict[str, float]) -> float:
    """Return a sum that is the same in whatever order the areas came."""
    return sum(areas[name] for name in sorted(areas))
