"""Calibration: what a score says on one set of micrographs, as a probability that holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliodor.conventions import FloatArray, score_to_probability
from heliodor.evaluation.score_histogram import (
    DatasetScores,
    ScoreCounts,
    ScoreGroup,
)
from heliodor.evaluation.score_mixture import (
    ScoreMixture,
    ScoreMixtureData,
    center_and_spread,
    fit_score_mixture,
)

#: Fits to resampled micrographs and labels, from which the bands follow.
BOOTSTRAP_REPEATS = 24
#: Fewer labels do not say what particles score.
MIN_LABELS = 5
#: With fewer micrographs a model's own calibration, from its training, is the better one.
MIN_MICROGRAPHS = 3
#: At most so many scores of labels are kept with a model.
MAX_LABELS = 500
#: Scores so many spreads of the labels below their median do not matter.
MAX_SPREADS_BELOW = 12.0
#: Probabilities are kept this far from 0 and 1.
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class CalibrationCurve:
    """Probability against score, and the number of particles that goes with it."""

    #: Log-odds, rising, shape (n,).
    score: FloatArray
    #: Log-odds that hold, never falling, shape (n,).
    log_odds: FloatArray
    #: On all micrographs of the set.
    particles: float

    @classmethod
    def from_mixture(cls, mixture: ScoreMixture) -> CalibrationCurve:
        """Return the curve of a mixture, made monotone: a better score never means less."""
        share = mixture.on_particles / (mixture.on_particles + mixture.on_background + 1e-9)
        share = np.clip(np.maximum.accumulate(share), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        return cls(mixture.score, np.log(share / (1 - share)), mixture.particles)

    def probability(self, score: FloatArray) -> FloatArray:
        """Return the probability of being a particle, shape as given."""
        score = np.asarray(score, dtype=np.float64)
        inside = np.interp(score, self.score, self.log_odds)
        # Below the lowest score looked at it goes on falling, at least as scores themselves do.
        first = min(4, len(self.score) - 1)
        slope = (self.log_odds[first] - self.log_odds[0]) / (self.score[first] - self.score[0])
        return score_to_probability(
            inside + max(slope, 1.0) * np.minimum(score - self.score[0], 0.0)
        )


@dataclass(frozen=True)
class Calibration:
    """What scores mean on one set of micrographs.

    Attributes
    ----------
    curve
        The best estimate.
    repeats
        The same from resampled micrographs and labels; their scatter is the uncertainty.
    micrographs
        Number of micrographs it is of.
    labels
        Scores of the labelled particles, shape (n,), to calibrate other micrographs with.
    clear_above
        Candidates that score more than this are too likely particles for decoys beside them.
    """

    curve: CalibrationCurve
    repeats: tuple[CalibrationCurve, ...]
    micrographs: int
    labels: FloatArray
    clear_above: float

    def probability(self, score: FloatArray) -> FloatArray:
        """Return the probability of being a particle, shape as given."""
        return self.curve.probability(score)

    def for_other_micrographs(self) -> Calibration:
        """Return the same for other micrographs, of which the number of particles is not known."""
        curve = CalibrationCurve(self.curve.score, self.curve.log_odds, 0.0)
        return Calibration(curve, (), 0, self.labels, self.clear_above)

    @property
    def particles(self) -> tuple[float, float, float]:
        """Number of particles on all micrographs: estimate, and band of nine in ten."""
        return add_interval(self.curve.particles, [curve.particles for curve in self.repeats])

    def as_dict(self) -> dict[str, Any]:
        """Return what a model keeps of it, ready for JSON."""
        return {
            "score": _rounded(self.curve.score),
            "log_odds": _rounded(self.curve.log_odds),
            "particles": round(self.curve.particles, 2),
            "micrographs": self.micrographs,
            "labels": _rounded(self.labels),
            "clear_above": round(self.clear_above, 4),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what `as_dict` wrote, without repeats.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            arrays = [np.array(values[key], dtype=np.float64) for key in ("score", "log_odds")]
            labels = np.array(values["labels"], dtype=np.float64)
            numbers = [float(values[key]) for key in ("particles", "clear_above")]
            micrographs = int(values["micrographs"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("the calibration is not whole") from error
        score, log_odds = arrays
        whole = score.ndim == labels.ndim == 1 and score.shape == log_odds.shape
        if not whole or len(score) < 2 or len(labels) < 1:
            raise ValueError("the calibration has another shape")
        finite = all(np.isfinite(part).all() for part in (*arrays, labels, np.array(numbers)))
        if not finite or (np.diff(score) <= 0).any() or (np.diff(log_odds) < 0).any():
            raise ValueError("the calibration is not a rising curve")
        return cls(
            CalibrationCurve(score, log_odds, numbers[0]), (), micrographs, labels, numbers[1]
        )


def calibrate_scores(
    sheet: DatasetScores,
    labels: FloatArray,
    particle_area: float,
    cleared_area: float,
    clear_above: float,
    floor: float = -math.inf,
    seed: int = 0,
) -> Calibration | None:
    """Calibrate the scores of a set of micrographs.

    Parameters
    ----------
    sheet
        Scores of the micrographs; decoys on some of them are enough.
    labels
        Scores of the candidates on labelled particles, on these or on other micrographs.
    particle_area, cleared_area
        What one particle covers, and the disc around a likely particle without decoys, in the
        unit of the micrographs' areas.
    clear_above
        Candidates that score more than this had no decoys beside them.
    floor
        The lowest score at which all candidates are listed.
    seed
        Of the resampling.

    Returns
    -------
    Calibration or None
        None where there is too little to go by: few labels, no decoys, few candidates.
    """
    labels = np.sort(np.asarray(labels, dtype=np.float64))
    groups = sheet.groups
    if len(labels) < MIN_LABELS or not sum(group.decoy_area for group in groups):
        return None
    middle, spread = center_and_spread(labels)
    low = max(floor, middle - MAX_SPREADS_BELOW * spread)

    def evidence(chosen: Sequence[ScoreGroup], own_labels: FloatArray) -> ScoreMixtureData | None:
        area = sum(group.area for group in chosen)
        decoy_area = sum(group.decoy_area for group in chosen)
        candidates = ScoreCounts.sum(group.candidates.at_least(low) for group in chosen)
        if not decoy_area or not len(candidates):
            return None
        decoys = ScoreCounts.sum(group.decoys.at_least(low) for group in chosen)
        # Of background that scores as much, decoys were left out too.
        above = int(decoys.counts[decoys.values > clear_above].sum())
        weight = area / decoy_area * math.exp(min(above / decoy_area * cleared_area, 1.0))
        return ScoreMixtureData(
            candidates, decoys, own_labels, weight, particle_area / area, floor
        )

    whole = evidence(groups, labels)
    if whole is None:
        return None
    best = fit_score_mixture(whole)
    random = np.random.default_rng(seed)
    repeats = []
    for _ in range(BOOTSTRAP_REPEATS):
        chosen = [groups[i] for i in random.integers(len(groups), size=len(groups))]
        own = random.choice(labels, size=len(labels))
        part = evidence(chosen, np.sort(own))
        if part is None or np.ptp(own) == 0:
            continue
        # As many particles as there would be were all micrographs as those drawn.
        share = sum(own.area for own in groups) / sum(own.area for own in chosen)
        curve = CalibrationCurve.from_mixture(fit_score_mixture(part, best.parameters, random))
        repeats.append(CalibrationCurve(curve.score, curve.log_odds, curve.particles * share))
    if len(labels) > MAX_LABELS:
        labels = np.quantile(labels, (np.arange(MAX_LABELS) + 0.5) / MAX_LABELS)
    return Calibration(
        CalibrationCurve.from_mixture(best), tuple(repeats), sheet.micrographs, labels, clear_above
    )


def add_interval(estimate: float, repeats: Sequence[float]) -> tuple[float, float, float]:
    """Return an estimate with the band in which nine of ten repeats lie, and it too."""
    finite = [value for value in repeats if math.isfinite(value)]
    if not finite:
        return estimate, math.nan, math.nan
    low, high = np.quantile(finite, (0.05, 0.95))
    return estimate, min(float(low), estimate), max(float(high), estimate)


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 4) for value in values]
