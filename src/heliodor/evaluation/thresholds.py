"""The threshold: from which score on candidates are picks, and what to expect of it.

With p the probability of each candidate and N the particles there are, k picks hold E = sum p of
them: precision E / k, recall E / N, F1 2 E / (k + N) (Lewis, SIGIR 1995, on expected F).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import (
    Calibration,
    CalibrationCurve,
    add_interval,
)
from heliodor.evaluation.score_histogram import SCORE_STEP, DatasetScores, ScoreCounts

#: A series of thresholds ends where candidates are particles with this probability.
MIN_SERIES_PROBABILITY = 0.05


@dataclass(frozen=True)
class IntervalEstimate:
    """An estimate and the band of nine in ten around it; nan where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ExpectedPerformance:
    """What to expect of the candidates that score a threshold or more."""

    threshold: float
    picks: int
    #: Number of particles there are, found or not.
    particles: IntervalEstimate
    precision: IntervalEstimate
    recall: IntervalEstimate
    f1: IntervalEstimate

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, None for nan."""
        values = asdict(self)
        for key, value in values.items():
            if isinstance(value, dict):
                values[key] = {
                    k: round(v, 4) if math.isfinite(v) else None for k, v in value.items()
                }
        return values


def predict_performance(
    calibration: Calibration, scores: ScoreCounts, threshold: float
) -> ExpectedPerformance:
    """Return what to expect of a threshold; see `predict_performances`."""
    return predict_performances(calibration, scores, [threshold])[0]


def predict_performances(
    calibration: Calibration, scores: ScoreCounts, thresholds: Sequence[float]
) -> list[ExpectedPerformance]:
    """Return what to expect of each of some thresholds.

    Parameters
    ----------
    calibration
        Of these micrographs.
    scores
        Of all their candidates.
    thresholds
        Log-odds, in any order.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    least = -np.asarray(thresholds, dtype=np.float64)
    bins = np.searchsorted(-falling - SCORE_STEP / 2, least, side="right")
    picks = np.concatenate([[0], np.cumsum(counts)])[bins]

    def figures(curve: CalibrationCurve) -> tuple[FloatArray, float]:
        """Return precision, recall and F1 of each threshold, shape (3, n), and the particles."""
        found = np.concatenate([[0.0], np.cumsum(counts * curve.probability(falling))])[bins]
        there = _estimate_particles(curve, scores)
        number = np.maximum(there, found)
        precision = np.where(picks, found / np.maximum(picks, 1), math.nan)
        return np.stack([precision, found / number, 2 * found / (picks + number)]), there

    best, there = figures(calibration.curve)
    others = [figures(curve) for curve in calibration.repeats]
    particles = IntervalEstimate(*add_interval(there, [other[1] for other in others]))
    found = []
    for n, threshold in enumerate(thresholds):
        precision, recall, f1 = (
            IntervalEstimate(
                *add_interval(float(best[i, n]), [float(other[0][i, n]) for other in others])
            )
            for i in range(3)
        )
        found.append(
            ExpectedPerformance(threshold, int(picks[n]), particles, precision, recall, f1)
        )
    return found


def choose_threshold(
    calibration: Calibration, scores: ScoreCounts, max_fdr: float | None = None
) -> float:
    """Choose the threshold.

    Parameters
    ----------
    calibration
        Of these micrographs.
    scores
        Of all their candidates.
    max_fdr
        The largest share of picks that may be expected to be no particles; None takes the
        threshold at which the expected F1 is highest.

    Returns
    -------
    float
        Log-odds. Where nothing is good enough, just above the best candidate.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    if not len(falling):
        return 0.0
    there = _estimate_particles(calibration.curve, scores)
    # No more are found than there are: the curve says little below the scores it was fitted to,
    # where background scores far below particles.
    found = np.minimum(np.cumsum(counts * calibration.curve.probability(falling)), there)
    number = np.cumsum(counts)
    if max_fdr is None:
        last = int(np.argmax(found / (number + there)))
    else:
        # The share of false ones only grows: probabilities fall with the score.
        last = int(np.count_nonzero(1 - found / number <= max_fdr)) - 1
        if last < 0:
            return _round_to_step(float(falling[0]) + SCORE_STEP)
    return _round_to_step(float(falling[last]))


def choose_threshold_series(
    calibration: Calibration | None, scores: ScoreCounts, chosen: float, number: int
) -> list[float]:
    """Choose thresholds for nested sets of picks, from the surest to far too many.

    The numbers of picks grow by the same factor each time, from a quarter of those at the
    chosen threshold to where one more pick in twenty is a particle, or to four times as many
    where that is not known; the chosen threshold is one of them.

    Parameters
    ----------
    calibration
        Of these micrographs, if it is known.
    scores
        Of all candidates.
    chosen
        The threshold in force.
    number
        At least 2.

    Returns
    -------
    list of float
        Falling; fewer where candidates are too few to tell them apart.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    number_from = np.cumsum(counts)
    picks = scores.at_least(chosen).total
    if not picks:
        return [chosen]
    if calibration is None:
        last = 4 * picks
    else:
        last = int(counts[calibration.probability(falling) >= MIN_SERIES_PROBABILITY].sum())
    last = min(max(last, round(1.5 * picks)), scores.total)
    wanted = np.geomspace(max(1, picks // 4), last, number)
    wanted[np.argmin(np.abs(np.log(wanted / picks)))] = picks
    series = [
        chosen
        if want == picks
        else _round_to_step(falling[np.searchsorted(number_from, round(want))])
        for want in wanted
    ]
    return sorted(set(series), reverse=True)


def _round_to_step(score: float) -> float:
    """Return the step that a score of a bin is, without the digits of its arithmetic."""
    return round(score, 6)


def describe_threshold(
    outlook: ExpectedPerformance, given: float | None, max_fdr: float | None
) -> list[str]:
    """Return what a user should read of a threshold, a line each."""
    if given is not None:
        how = "as given"
    elif max_fdr is not None:
        how = f"so that no more than {max_fdr:.0%} of the picks are expected to be false"
    else:
        how = "where the expected F1 is highest"
    return [
        f"threshold {outlook.threshold:.3f} (log-odds), {how}",
        f"expected precision {format_estimate(outlook.precision)},"
        f" recall {format_estimate(outlook.recall)}",
        f"estimated particles {format_estimate(outlook.particles, '{:.0f}')}",
    ]


def format_estimate(estimate: IntervalEstimate, form: str = "{:.2f}") -> str:
    """Return an estimate with its band, in words."""
    value = form.format(estimate.value)
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return value
    return f"{value} ({form.format(estimate.low)} to {form.format(estimate.high)})"


def _estimate_particles(curve: CalibrationCurve, scores: ScoreCounts) -> float:
    """Return the number of particles: the curve's, or where it has none the candidates' sum."""
    if curve.particles > 0:
        return curve.particles
    found = scores.at_least(float(curve.score[0]))
    return max(float((found.counts * curve.probability(found.values)).sum()), 1e-9)


#: Candidates of a model without a calibration that score more have no decoys beside them.
CLEAR_ABOVE = 1.5


#: So many standard deviations of chance there must be more of candidates than of decoys; and
#: decoys, for contaminants are dark and never bright, may be wrong by this share.
MIN_SIGNIFICANCE, DECOY_ERROR = 4.0, 0.1


#: Where there are no particles, picks begin so far above the best decoy, log-odds.
ABOVE_BEST_DECOY = 0.5


def find_decoy_threshold(
    sheet: DatasetScores,
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
    scatter = np.sqrt(picks + weight**2 * (chance + 1.0) + (DECOY_ERROR * false) ** 2)
    real = right / scatter >= MIN_SIGNIFICANCE
    if not real.any():
        best = decoys.values[-1] if len(decoys) else values[0]
        return float(max(best, least) + ABOVE_BEST_DECOY)
    right = np.minimum(right, picks)
    if max_fdr is not None:
        kept = np.flatnonzero(real & (right >= (1.0 - max_fdr) * picks))
        return float(values[kept[-1]]) if len(kept) else float(values[0] + ABOVE_BEST_DECOY)
    f1 = np.where(real, 2.0 * right / (picks + right[real][-1]), 0.0)
    return float(values[int(np.argmax(f1))])
