"""The valley between contaminants and particles in the scores of candidates.

Dark contaminants have no counterpart among decoys, so they count as particles. But most of them
score worse than particles do, and where there is a gap between the two, it shows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from heliodor.conventions import FloatArray

#: Candidates within this distance of a score are counted, log-odds.
HALF_WINDOW: Final = 0.5
#: The depth of a valley is the share by which it has fewer candidates than some score below it and
#: than some score above it have, after this many standard deviations of the difference are left
#: out.
DEVIATIONS: Final = 1.0
#: A valley of this depth is certain.
CERTAIN: Final = 0.4
#: Of the candidates above the first threshold at least this share must lie above the valley.
LEAST_SHARE: Final = 0.1


class Valley(NamedTuple):
    """Where few candidates score."""

    #: Log-odds.
    score: float
    #: From 0 to 1. It grows with the depth, so that a few micrographs more or less change little.
    certainty: float


def find_valley(score: FloatArray, picks: FloatArray, lowest: float) -> Valley | None:
    """Return the deepest valley, None if there is none.

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
    surplus = side - counts - DEVIATIONS * np.sqrt(side + counts)
    depth = surplus / np.maximum(side, 1.0)
    depth[picks[middle] < LEAST_SHARE * picks[middle[0]]] = 0.0
    deepest = int(np.argmax(depth))
    if depth[deepest] <= 0:
        return None
    return Valley(float(score[middle[deepest]]), min(1.0, float(depth[deepest]) / CERTAIN))
