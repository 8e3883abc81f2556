"""The threshold, the number of particles and the probabilities that labels alone support.

Let L(t) be the share of the labels that score t or more, and U(t) the number of candidates on the
same micrographs that do. If labels are drawn from the particles, L is the recall, and N L(t) of
the picks are true, where N is the number of particles. At high scores nearly all candidates are
particles, so N = U(t) / L(t) there. With N, the expected F1 at t is 2 N L(t) / (U(t) + N); without
it, L(t)^2 / U(t) is proportional to precision times recall (Lee and Liu, ICML 2003). The highest
F1 is often flat and uneven, so the threshold is the middle of the range with nearly that F1.

Nothing is assumed about the scores of the background, so this holds where a mixture of two
distributions has two explanations. It depends on labels that are typical: easy ones raise the
threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import (
    BOOTSTRAP_REPEATS,
    MIN_LABELS,
    Calibration,
    CalibrationCurve,
    to_log_odds,
)
from heliodor.evaluation.score_histogram import ScoreCounts, smooth_counts
from heliodor.evaluation.score_mixture import center_and_spread

#: Distance between the scores at which labels and candidates are counted, log-odds.
STEP = 0.05
#: Width of the kernel in spreads of the labels for one label; it falls with the fifth root.
KERNEL = 0.63
#: The number of particles is the median of U / L where the recall is in this range: below there
#: are too few labels, above the background begins.
RECALL_RANGE = (0.25, 0.85)
#: Thresholds are as good as the best one if their expected F1 is at least this share of its F1.
AS_GOOD = 0.97


@dataclass(frozen=True)
class LabelEstimate:
    """What labels alone say about the scores of the micrographs they are on.

    Attributes
    ----------
    low, high
        The range of scores at which the expected F1 is nearly as high as anywhere, log-odds.
    curve
        Probabilities, and the number of particles on the labeled micrographs.
    """

    low: float
    high: float
    curve: CalibrationCurve

    @property
    def threshold(self) -> float:
        """The middle of the range, log-odds."""
        return (self.low + self.high) / 2


def estimate_from_labels(labels: FloatArray, candidates: ScoreCounts) -> LabelEstimate | None:
    """Estimate the threshold and the probabilities of candidates from the scores of labels.

    Parameters
    ----------
    labels
        Scores of the candidates that match labels, log-odds, in any order.
    candidates
        Scores of all candidates on the same micrographs.

    Returns
    -------
    LabelEstimate or None
        None if there are too few labels, or no other scores to compare them with.
    """
    from scipy.special import ndtr  # slow to import

    labels = np.sort(np.asarray(labels, dtype=np.float64))
    if len(labels) < MIN_LABELS or not len(candidates) or np.ptp(labels) == 0:
        return None
    width = KERNEL * center_and_spread(labels)[1] * len(labels) ** -0.2
    first = math.floor((labels[0] - 4 * width) / STEP)
    last = math.ceil((max(labels[-1], candidates.values[-1]) + 4 * width) / STEP)
    scores = STEP * np.arange(first, last + 1)
    recall = np.asarray(ndtr((labels[None, :] - scores[:, None]) / width)).mean(axis=1)
    picks = candidates.count_above(scores)
    known = (recall > RECALL_RANGE[0]) & (recall < RECALL_RANGE[1])
    if not known.any():
        return None
    particles = max(float(np.median(picks[known] / recall[known])), float(len(labels)))
    f1 = 2 * particles * recall / (picks + particles)
    good = np.flatnonzero(f1 >= AS_GOOD * f1.max())
    edges = np.concatenate([scores - STEP / 2, [scores[-1] + STEP / 2]])
    on_labels, on_all = (
        smooth_counts(np.histogram(values, edges, weights=weights)[0], width / STEP)
        for values, weights in ((labels, None), (candidates.values, candidates.counts))
    )
    curve = CalibrationCurve.from_counts(
        scores, particles / len(labels) * on_labels, on_all, particles
    )
    return LabelEstimate(float(scores[good[0]]), float(scores[good[-1]]), curve)


def combine_with_labels(
    calibration: Calibration,
    own: LabelEstimate | None,
    labels: FloatArray,
    candidates: ScoreCounts,
    area_share: float,
    seed: int = 0,
) -> Calibration:
    """Return the mean of a calibration and what labels alone say.

    Its repeats are those of both, so that intervals cover both explanations.

    Parameters
    ----------
    calibration
        Of all micrographs.
    own
        What the labels say; None: too little, and the calibration is returned unchanged.
    labels, candidates
        Scores on the labeled micrographs, from which that is; see `estimate_from_labels`.
    area_share
        Area of the labeled micrographs over that of all.
    seed
        Seed of the resampling.
    """
    if own is None:
        return calibration
    random = np.random.default_rng(seed)
    repeats = list(calibration.repeats)
    for _ in range(BOOTSTRAP_REPEATS):
        drawn = estimate_from_labels(random.choice(labels, size=len(labels)), candidates)
        if drawn is not None:
            repeats.append(_for_area(drawn.curve, area_share))
    both = calibration.curve, _for_area(own.curve, area_share)
    scores = np.linspace(
        max(curve.score[0] for curve in both), max(curve.score[-1] for curve in both), 150
    )
    chance = np.mean([curve.probability(scores) for curve in both], axis=0)
    particles = math.sqrt(both[0].particles * both[1].particles)
    curve = CalibrationCurve(scores, to_log_odds(chance), particles)
    return replace(calibration, curve=curve, repeats=tuple(repeats))


def _for_area(curve: CalibrationCurve, share: float) -> CalibrationCurve:
    return CalibrationCurve(curve.score, curve.log_odds, curve.particles / share)
