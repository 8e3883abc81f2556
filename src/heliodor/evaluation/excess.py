"""How many candidates are more than chance, where no label says what a particle scores.

Decoys, the peaks on the reversed image, stand for what background scores (`decoys`). What there is
of candidates beyond as many decoys are particles: from that follow, at every threshold, how many
picks are right and how many particles are missed, and so where the F1 is highest. It is the
target-decoy method of mass spectrometry (Elias and Gygi 2007, Nat. Methods 4, 207-214).
"""

from __future__ import annotations

import math

import numpy as np

from heliodor.evaluation.score_histogram import ScoreCounts, ScoreSheet

#: Candidates of a model without a calibration that score more have no decoys beside them.
CLEAR_ABOVE = 1.5
#: So many standard deviations of chance there must be more of candidates than of decoys; and
#: decoys, for contaminants are dark and never bright, may be wrong by this share.
SIGNIFICANT, WRONG_BY = 4.0, 0.1
#: Where there are no particles, picks begin so far above the best decoy, log-odds.
BEYOND = 0.5


def threshold(
    sheet: ScoreSheet,
    cleared_area: float,
    max_fdr: float | None = None,
    least: float = -math.inf,
) -> float | None:
    """Return the log-odds from which candidates are picks.

    Parameters
    ----------
    sheet
        Scores of candidates, and of decoys on some micrographs, cleared above `CLEAR_ABOVE`.
    cleared_area
        Of the disc around a likely particle without decoys, in the unit of the sheet's areas.
    max_fdr
        The largest share of false picks; None takes the highest F1.
    least
        Thresholds below are not looked at.

    Returns
    -------
    float or None
        None where no decoys were looked for, or nothing was found.
    """
    groups = sheet.groups
    area, decoy_area = (sum(getattr(g, name) for g in groups) for name in ("area", "decoy_area"))
    found = sheet.candidates.at_least(least)
    if not decoy_area or not len(found):
        return None
    decoys = ScoreCounts.sum(group.decoys for group in groups)
    above = int(decoys.counts[decoys.values > CLEAR_ABOVE].sum())
    weight = area / decoy_area * math.exp(min(above / decoy_area * cleared_area, 1.0))
    values = found.values[::-1]
    picks = np.cumsum(found.counts[::-1])
    chance = np.array([decoys.at_least(value).total for value in values], dtype=np.float64)
    false = weight * chance
    # The more picks, the more of them are right: what chance takes away again is not real.
    right = np.maximum.accumulate(np.clip(picks - false, 0.0, None))
    scatter = np.sqrt(picks + weight**2 * (chance + 1.0) + (WRONG_BY * false) ** 2)
    real = right / scatter >= SIGNIFICANT
    if not real.any():
        best = decoys.values[-1] if len(decoys) else values[0]
        return float(max(best, least) + BEYOND)
    right = np.minimum(right, picks)
    if max_fdr is not None:
        kept = np.flatnonzero(real & (right >= (1.0 - max_fdr) * picks))
        return float(values[kept[-1]]) if len(kept) else float(values[0] + BEYOND)
    f1 = np.where(real, 2.0 * right / (picks + right[real][-1]), 0.0)
    return float(values[int(np.argmax(f1))])
