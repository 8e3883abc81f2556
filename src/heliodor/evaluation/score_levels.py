"""Levels of scores: what makes the scores of micrographs comparable, without labels.

Where particles have more contrast, by more defocus or thinner ice, the general model gives higher
scores to particles, but also to what lies between them, so the best threshold of such a
micrograph is higher. The threshold that follows from a single micrograph's candidates and decoys
says so, but it scatters. What scatters little is how widely the scores of a micrograph's
candidates are spread, so it is asked on some micrographs how their thresholds follow from it, and
only as far as they do, scores are moved: by a line through these thresholds, whose slope is
multiplied by the adjusted share of the variance that it explains. Where thresholds do not follow
from the spread, nothing is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from heliodor.conventions import FloatArray

#: The spread of a micrograph's scores is the distance of these quantiles of its candidates.
QUANTILES: Final = (0.1, 0.9)
#: Fewer micrographs, and micrographs with fewer candidates, say nothing.
FEWEST_MICROGRAPHS, FEWEST_CANDIDATES = 5, 20
#: No scores are moved by more than this, log-odds.
MOST: Final = 1.0


@dataclass(frozen=True)
class LevelRule:
    """How the level of a micrograph's scores follows from their spread."""

    #: Log-odds by which the threshold rises with the spread.
    slope: float
    #: The spread where scores stay as they are, and the lowest and highest that were seen.
    middle: float
    lowest: float
    highest: float

    @classmethod
    def fit(cls, spreads: Sequence[float], thresholds: Sequence[float]) -> LevelRule | None:
        """Return the rule that follows from some micrographs, None if there is none.

        Parameters
        ----------
        spreads
            Of the scores of these micrographs; see `measure_spread`.
        thresholds
            That each of them would have by itself, log-odds.
        """
        count = len(spreads)
        if count < FEWEST_MICROGRAPHS:
            return None
        spread, threshold = (np.asarray(own, np.float64) for own in (spreads, thresholds))
        from_middle, from_mean = spread - spread.mean(), threshold - threshold.mean()
        both = float((from_middle * from_mean).sum())
        variation = float((from_middle**2).sum()), float((from_mean**2).sum())
        if both <= 0 or min(variation) < 1e-9:
            return None
        explained = both**2 / (variation[0] * variation[1])
        trusted = 1 - (1 - explained) * (count - 1) / (count - 2)
        if trusted <= 0:
            return None
        return cls(
            trusted * both / variation[0],
            float(spread.mean()),
            float(spread.min()),
            float(spread.max()),
        )

    def level(self, scores: FloatArray) -> float:
        """Return what is added to the scores of a micrograph, log-odds, to the thousandth.

        Micrographs whose spread is out of the range that was seen are taken to be at its end;
        scores of few candidates stay as they are.

        Parameters
        ----------
        scores
            Of all its candidates, log-odds, shape (n,).
        """
        spread = measure_spread(scores)
        if spread is None:
            return 0.0
        seen = min(max(spread, self.lowest), self.highest)
        moved = -self.slope * (seen - self.middle)
        return round(min(max(moved, -MOST), MOST), 3)


def measure_spread(scores: FloatArray) -> float | None:
    """Return how widely the scores of a micrograph's candidates are spread, None if few.

    Parameters
    ----------
    scores
        Log-odds of all its candidates, shape (n,).
    """
    if len(scores) < FEWEST_CANDIDATES:
        return None
    low, high = np.quantile(scores, QUANTILES)
    return float(high - low)
