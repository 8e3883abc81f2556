"""Thresholds: the score at which candidates become picks, and the performance to expect there.

With a calibration, candidates have probabilities. If p is the probability of each candidate and N
the number of particles, k picks contain E = sum p of them: precision E / k, recall E / N, F1
2 E / (k + N) (Lewis, SIGIR 1995, on expected F).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray, score_to_probability
from heliodor.evaluation.calibration import (
    Calibration,
    CalibrationCurve,
    SystematicError,
    add_interval,
    to_log_odds,
)
from heliodor.evaluation.score_histogram import SCORE_STEP, ScoreCounts

#: A series of thresholds ends at candidates with this probability.
MIN_SERIES_PROBABILITY = 0.05


@dataclass(frozen=True)
class IntervalEstimate:
    """An estimate and its 90% interval; nan if unknown."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ExpectedPerformance:
    """The performance to expect of the candidates at or above a threshold."""

    threshold: float
    picks: int
    #: Number of particles on the micrographs, picked or not.
    particles: IntervalEstimate
    precision: IntervalEstimate
    recall: IntervalEstimate
    f1: IntervalEstimate

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with None for nan."""
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
    """Return the performance to expect at a threshold; see `predict_performances`."""
    return predict_performances(calibration, scores, [threshold])[0]


def predict_performances(
    calibration: Calibration, scores: ScoreCounts, thresholds: Sequence[float]
) -> list[ExpectedPerformance]:
    """Return the performance to expect at each of several thresholds.

    Parameters
    ----------
    calibration
        Calibration of these micrographs.
    scores
        Scores of all their candidates.
    thresholds
        Log-odds, in any order.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    least = -np.asarray(thresholds, dtype=np.float64)
    bins = np.searchsorted(-falling - SCORE_STEP / 2, least, side="right")
    picks = np.concatenate([[0], np.cumsum(counts)])[bins]

    def measure(curve: CalibrationCurve) -> tuple[FloatArray, float]:
        """Return precision, recall and F1 at each threshold, shape (3, n), and the particles."""
        true_picks = np.concatenate([[0.0], np.cumsum(counts * curve.probability(falling))])[bins]
        particles = _estimate_particles(curve, scores)
        total = np.maximum(particles, true_picks)
        precision = np.where(picks, true_picks / np.maximum(picks, 1), math.nan)
        return np.stack(
            [precision, true_picks / total, 2 * true_picks / (picks + total)]
        ), particles

    best, best_particles = measure(calibration.curve)
    repeats = [measure(curve) for curve in calibration.repeats]
    particles = IntervalEstimate(*add_interval(best_particles, [repeat[1] for repeat in repeats]))
    performances = []
    for n, threshold in enumerate(thresholds):
        precision, recall, f1 = (
            IntervalEstimate(
                *add_interval(float(best[i, n]), [float(repeat[0][i, n]) for repeat in repeats])
            )
            for i in range(3)
        )
        scatter = ExpectedPerformance(threshold, int(picks[n]), particles, precision, recall, f1)
        performances.append(_add_systematic_error(scatter, calibration.systematic))
    return performances


def _add_systematic_error(
    scatter: ExpectedPerformance, error: SystematicError
) -> ExpectedPerformance:
    """Return the performance without the usual lookalikes, and with a systematic error.

    Lower precision means fewer particles, and lower recall means more; F1 is lowest and highest
    where both are.
    """
    usual, most = 1 - error.usual_lookalikes, 1 - error.most_lookalikes
    stated = scatter.precision.value
    precision = _extend(replace(scatter.precision, value=usual * stated), low=most * stated)
    recall = _widen_share(scatter.recall, error.recall_log_odds)
    fewer = precision.low / stated if stated > 0 else 1.0
    more = scatter.recall.value / recall.low if recall.low > 0 else 1.0
    count = scatter.particles
    return replace(
        scatter,
        particles=_extend(
            replace(count, value=usual * count.value),
            low=count.value * fewer,
            high=count.value * more,
        ),
        precision=precision,
        recall=recall,
        f1=_extend(
            replace(scatter.f1, value=_f1(precision.value, recall.value)),
            low=_f1(precision.low, recall.low),
            high=_f1(precision.high, recall.high),
        ),
    )


def _extend(
    estimate: IntervalEstimate, low: float = math.nan, high: float = math.nan
) -> IntervalEstimate:
    """Return an estimate whose interval contains these limits too; nan: none, or unknown."""
    return IntervalEstimate(
        estimate.value,
        float(np.fmin(estimate.low, low)) if math.isfinite(estimate.low) else estimate.low,
        float(np.fmax(estimate.high, high)) if math.isfinite(estimate.high) else estimate.high,
    )


def _widen_share(estimate: IntervalEstimate, log_odds: float) -> IntervalEstimate:
    """Return a share whose interval is wider by an independent error of its log-odds."""
    value, low, high = to_log_odds(
        np.array([estimate.value, estimate.low, estimate.high])
    ).tolist()
    down, up = math.hypot(value - low, log_odds), math.hypot(high - value, log_odds)
    low, high = score_to_probability(np.array([value - down, value + up])).tolist()
    return _extend(estimate, low, high)


def _f1(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else math.nan


def choose_threshold(
    calibration: Calibration, scores: ScoreCounts, max_fdr: float | None = None
) -> float:
    """Choose the threshold from the calibrated probabilities of candidates.

    Parameters
    ----------
    calibration
        Calibration of these micrographs.
    scores
        Scores of all their candidates.
    max_fdr
        The largest expected fraction of false picks; None maximizes the expected F1. Where the
        usual lookalikes alone are more (see `SystematicError`), the others may be half of it.

    Returns
    -------
    float
        Log-odds. If no candidate is good enough, just above the best one.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    if not len(falling):
        return 0.0
    particles = _estimate_particles(calibration.curve, scores)
    # No more picks can be true than there are particles. The curve is unreliable below the scores
    # it was fitted to, where background scores far below particles.
    true_picks = np.minimum(np.cumsum(counts * calibration.curve.probability(falling)), particles)
    picks = np.cumsum(counts)
    if max_fdr is None:
        last = int(np.argmax(true_picks / (picks + particles)))
    else:
        lookalikes = calibration.systematic.usual_lookalikes
        allowed = max(1 - (1 - max_fdr) / (1 - lookalikes), max_fdr / 2 if lookalikes else 0.0)
        # The false fraction can only grow, because probabilities decrease with the score.
        last = int(np.count_nonzero(1 - true_picks / picks <= allowed)) - 1
        if last < 0:
            return _round_to_step(float(falling[0]) + SCORE_STEP)
    return _round_to_step(float(falling[last]))


def choose_strict_threshold(
    calibration: Calibration, scores: ScoreCounts, max_fdr: float, usual: float
) -> float:
    """Choose the threshold for a largest fraction of false picks, with the usual one known.

    Parameters
    ----------
    calibration, scores, max_fdr
        See `choose_threshold`.
    usual
        The threshold without `max_fdr`, log-odds. The other one is not lower unless fewer false
        picks than allowed are expected at it.
    """
    threshold = choose_threshold(calibration, scores, max_fdr)
    expected = predict_performance(calibration, scores, usual)
    if expected.picks and 1 - expected.precision.value > max_fdr:
        return max(threshold, usual)
    return threshold


def choose_threshold_series(
    calibration: Calibration | None, scores: ScoreCounts, chosen: float, number: int
) -> list[float]:
    """Choose thresholds for nested sets of picks, from the most certain to far too many.

    The numbers of picks grow by a constant factor, from a quarter of those at the chosen threshold
    to where one additional pick in twenty is a particle, or to four times as many without a
    calibration. The chosen threshold is one of the series.

    Parameters
    ----------
    calibration
        Calibration of these micrographs, if known.
    scores
        Scores of all candidates.
    chosen
        The threshold in use.
    number
        Number of thresholds, at least 2.

    Returns
    -------
    list of float
        Decreasing; fewer than `number` if there are too few candidates.
    """
    falling, counts = scores.values[::-1], scores.counts[::-1]
    cumulative = np.cumsum(counts)
    picks = scores.at_least(chosen).total
    if not picks:
        return [chosen]
    if calibration is None:
        last = 4 * picks
    else:
        last = int(counts[calibration.probability(falling) >= MIN_SERIES_PROBABILITY].sum())
    last = min(max(last, round(1.5 * picks)), scores.total)
    targets = np.geomspace(max(1, picks // 4), last, number)
    targets[np.argmin(np.abs(np.log(targets / picks)))] = picks
    series = [
        chosen
        if target == picks
        else _round_to_step(falling[np.searchsorted(cumulative, round(target))])
        for target in targets
    ]
    return sorted(set(series), reverse=True)


def describe_threshold(
    performance: ExpectedPerformance, given: float | None, max_fdr: float | None
) -> list[str]:
    """Return what a user should know about a threshold, one line per item.

    Parameters
    ----------
    performance
        The performance to expect at the threshold.
    given, max_fdr
        The threshold and the largest fraction of false picks that the user set, if any.
    """
    if given is not None:
        how = "set by the user"
    elif max_fdr is not None:
        how = f"at most {max_fdr:.0%} of the picks expected to be false"
    else:
        how = "highest expected F1"
    false = 1 - performance.precision.value
    lines = []
    if given is None and max_fdr is not None and performance.picks and false > max_fdr + 0.005:
        lines = [
            f"at most {max_fdr:.0%} false picks cannot be expected of any threshold here; labels"
            " of some particles would tell more"
        ]
    return [
        *lines,
        f"threshold {performance.threshold:.3f} (log-odds; {how})",
        f"expected precision {format_estimate(performance.precision)},"
        f" recall {format_estimate(performance.recall)}",
        f"estimated particles {format_estimate(performance.particles, '{:.0f}')}",
    ]


def format_estimate(estimate: IntervalEstimate, form: str = "{:.2f}") -> str:
    """Return an estimate with its interval as text."""
    value = form.format(estimate.value)
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return value
    return f"{value} ({form.format(estimate.low)} to {form.format(estimate.high)})"


def _estimate_particles(curve: CalibrationCurve, scores: ScoreCounts) -> float:
    """Return the number of particles: the curve's, or the sum of the candidates' probabilities."""
    if curve.particles > 0:
        return curve.particles
    candidates = scores.at_least(float(curve.score[0]))
    return max(float((candidates.counts * curve.probability(candidates.values)).sum()), 1e-9)


def _round_to_step(score: float) -> float:
    """Return a score that is a multiple of `SCORE_STEP`, without floating-point noise."""
    return round(score, 6)
