"""Histograms of scores, in bins of a thousandth, from which scores are calibrated.

The histograms of many micrographs take no more memory than those of a few, and their sums do not
depend on the order in which the micrographs were processed.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from heliodor.conventions import FloatArray, IndexArray

#: Width of a bin, log-odds. Thresholds are multiples of it, so that the printed threshold selects
#: exactly the picks.
SCORE_STEP: Final = 1e-3
#: Micrographs are counted, and resampled, in at most this many groups.
MAX_GROUPS: Final = 64


@dataclass(frozen=True)
class MicrographScores:
    """The scores of one micrograph, log-odds."""

    #: Scores of its candidates.
    candidates: FloatArray
    #: Scores of its decoys, without those beside likely particles; None if not searched for.
    decoys: FloatArray | None
    #: Area without dead borders, in the unit of all areas.
    area: float


class ScoreCounts:
    """A histogram of scores with bins of width `SCORE_STEP`.

    Attributes
    ----------
    bins
        Indices of the bins, increasing, shape (n,); bin k holds scores from k to k + 1 steps.
    counts
        Number of scores in each bin, shape (n,), none of them 0.
    """

    def __init__(self, bins: IndexArray, counts: IndexArray) -> None:
        self.bins, self.counts = bins, counts

    @classmethod
    def from_scores(cls, scores: FloatArray) -> ScoreCounts:
        """Count scores (log-odds) in any order; those that are not finite are ignored."""
        scores = np.asarray(scores, dtype=np.float64)
        # The bin of a score that lies on a step must not depend on rounding.
        steps = np.floor(scores[np.isfinite(scores)] / SCORE_STEP + 1e-6).astype(np.int64)
        return cls(*np.unique(steps, return_counts=True))

    @classmethod
    def sum(cls, parts: Iterable[ScoreCounts]) -> ScoreCounts:
        """Return the sum of several histograms."""
        histograms = list(parts)
        if not histograms:
            return cls.from_scores(np.zeros(0))
        all_bins = np.concatenate([histogram.bins for histogram in histograms])
        bins, inverse = np.unique(all_bins, return_inverse=True)
        counts = np.concatenate([histogram.counts for histogram in histograms])
        return cls(bins, np.bincount(inverse, counts, len(bins)).astype(np.int64))

    @property
    def values(self) -> FloatArray:
        """The lowest score of each bin, increasing, shape (n,)."""
        return np.asarray(self.bins * SCORE_STEP, dtype=np.float64)

    @property
    def total(self) -> int:
        """Number of scores."""
        return int(self.counts.sum())

    def at_least(self, score: float) -> ScoreCounts:
        """Return the histogram of scores at or above `score`."""
        first = int(np.searchsorted(self.values, score - SCORE_STEP / 2))
        return ScoreCounts(self.bins[first:], self.counts[first:])

    def count_above(self, thresholds: FloatArray) -> FloatArray:
        """Return the number of scores at or above each threshold, in the shape of `thresholds`."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        return np.asarray(
            self.total - below[np.searchsorted(self.values, thresholds)], dtype=np.float64
        )

    def __len__(self) -> int:
        return len(self.bins)


@dataclass
class ScoreGroup:
    """The scores of micrographs that are resampled together."""

    candidates: ScoreCounts
    decoys: ScoreCounts
    #: The candidates on the micrographs on which decoys were searched for.
    paired: ScoreCounts
    #: Area of each micrograph, and of those on which decoys were searched for.
    areas: dict[str, float]
    decoy_areas: dict[str, float]

    @property
    def area(self) -> float:
        """Total area of its micrographs."""
        return _sum(self.areas)

    @property
    def decoy_area(self) -> float:
        """Total area of the micrographs on which decoys were searched for."""
        return _sum(self.decoy_areas)


class DatasetScores:
    """The scores of a set of micrographs, which may be added in any order.

    Parameters
    ----------
    names
        Names of all micrographs.
    searched
        Names of those on which decoys are searched for; they are spread evenly over the groups.
    """

    def __init__(self, names: Sequence[str], searched: Container[str]) -> None:
        ranked = sorted(names, key=lambda name: (name not in searched, name))
        count = max(1, min(len(ranked), MAX_GROUPS))
        self._group = {name: rank % count for rank, name in enumerate(ranked)}
        empty = ScoreCounts.from_scores(np.zeros(0))
        self._groups = [ScoreGroup(empty, empty, empty, {}, {}) for _ in range(count)]

    @classmethod
    def from_micrographs(cls, micrographs: Sequence[MicrographScores]) -> DatasetScores:
        """Return the scores of micrographs without names."""
        named = {f"{index:06d}": scores for index, scores in enumerate(micrographs)}
        dataset = cls(list(named), {n for n, s in named.items() if s.decoys is not None})
        for name, scores in named.items():
            dataset.add(name, scores)
        return dataset

    def add(self, name: str, scores: MicrographScores) -> None:
        """Add the scores of one of the micrographs."""
        group = self._groups[self._group[name]]
        candidates = ScoreCounts.from_scores(scores.candidates)
        group.candidates = ScoreCounts.sum([group.candidates, candidates])
        group.areas[name] = scores.area
        if scores.decoys is not None:
            group.decoys = ScoreCounts.sum([group.decoys, ScoreCounts.from_scores(scores.decoys)])
            group.paired = ScoreCounts.sum([group.paired, candidates])
            group.decoy_areas[name] = scores.area

    @property
    def groups(self) -> list[ScoreGroup]:
        """The groups that contain a micrograph."""
        return [group for group in self._groups if group.areas]

    @property
    def names(self) -> list[str]:
        """Names of the micrographs added, sorted."""
        return sorted(name for group in self._groups for name in group.areas)

    @property
    def searched(self) -> list[str]:
        """Names of those on which decoys were searched for, sorted."""
        return sorted(name for group in self._groups for name in group.decoy_areas)

    @property
    def micrographs(self) -> int:
        """Number of micrographs added."""
        return sum(len(group.areas) for group in self._groups)

    @property
    def candidates(self) -> ScoreCounts:
        """Scores of the candidates on all micrographs."""
        return ScoreCounts.sum(group.candidates for group in self._groups)


def smooth_counts(counts: FloatArray, width: float) -> FloatArray:
    """Return the counts in evenly spaced bins, spread by a Gaussian.

    Parameters
    ----------
    counts
        Shape (n,).
    width
        Standard deviation of the Gaussian in bins.
    """
    reach = math.ceil(4 * width)
    kernel = np.exp(-((np.arange(-reach, reach + 1) / width) ** 2) / 2)
    return np.asarray(np.convolve(counts, kernel / kernel.sum())[reach:-reach])


def _sum(areas: dict[str, float]) -> float:
    """Return a sum that does not depend on the order in which the areas were added."""
    return sum(areas[name] for name in sorted(areas))
