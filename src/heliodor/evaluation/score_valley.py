"""The valley between contaminants and particles in the scores of candidates.

Dark contaminants have no counterpart among decoys, so they count as particles. But most of them
score worse than particles do, and where there is a gap between the two, it shows.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from heliodor.conventions import FloatArray

#: Candidates within this distance of a score are counted, log-odds.
HALF_WINDOW: Final = 0.5
#: A valley has fewer candidates than some score below it and than some score above it has, by this
#: many standard deviations of the difference.
DEEP: Final = 2.0
#: Of the candidates above the first threshold at least this share must lie above the valley.
LEAST_SHARE: Final = 0.1


def find_valley(score: FloatArray, picks: FloatArray, lowest: float) -> float | None:
    """Return the score at which a valley is deepest, None if there is none.

    Parameters
    ----------
    score
        Increasing, evenly spaced, shape (n,).
    picks
        Number of candidates at or above each score, shape (n,).
    lowest
        The valley, and what lies below it, are above this score.
    """
    near = round(HALF_WINDOW / float(score[1] - score[0]))
    first = max(near, int(np.searchsorted(score, lowest)))
    middle = np.arange(first, len(score) - near)
    if not len(middle):
        return None
    counts = picks[middle - near] - picks[middle + near]
    below = np.maximum.accumulate(counts)
    above = np.maximum.accumulate(counts[::-1])[::-1]
    side = np.minimum(below, above)
    depth = (side - counts) / np.sqrt(np.maximum(side + counts, 1.0))
    depth[picks[middle] < LEAST_SHARE * picks[middle[0]]] = 0.0
    deepest = int(np.argmax(depth))
    return float(score[middle[deepest]]) if depth[deepest] >= DEEP else None
