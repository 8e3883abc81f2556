"""Calibration: from scores on a set of micrographs to probabilities of being a particle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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

#: Number of fits to resampled micrographs and labels, for the intervals.
BOOTSTRAP_REPEATS = 24
#: Minimum number of labels for a calibration.
MIN_LABELS = 5
#: Maximum number of label scores stored with a model.
MAX_LABELS = 500
#: Repeats stored with a model, and the number of points of each.
MAX_REPEATS, REPEAT_POINTS = 24, 60
#: Scores more than this many spreads of the labels below their median are ignored.
MAX_SPREADS_BELOW = 12.0
#: Estimated shares become probabilities between these.
PROBABILITIES = (1e-4, 1 - 1e-4)
#: Probabilities of mixtures are kept this far from 0 and 1.
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class CalibrationCurve:
    """Calibrated log-odds as a function of the score, and the number of particles."""

    #: Scores (log-odds of the network), increasing, shape (n,).
    score: FloatArray
    #: Calibrated log-odds, never decreasing, shape (n,).
    log_odds: FloatArray
    #: Number of particles on all micrographs of the set.
    particles: float

    @classmethod
    def from_mixture(cls, mixture: ScoreMixture) -> CalibrationCurve:
        """Return the curve of a mixture, made monotone: a higher score is never less probable."""
        share = mixture.on_particles / (mixture.on_particles + mixture.on_background + 1e-9)
        share = np.clip(np.maximum.accumulate(share), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        return cls(mixture.score, np.log(share / (1 - share)), mixture.particles)

    @classmethod
    def from_counts(
        cls, score: FloatArray, true: FloatArray, every: FloatArray, particles: float
    ) -> CalibrationCurve:
        """Return the share of particles among candidates of each score, made monotone.

        Parameters
        ----------
        score
            Log-odds, increasing, shape (n,).
        true, every
            Number or density of particles and of all candidates at each score, shape (n,).
        particles
            Number of particles.
        """
        from scipy.optimize import isotonic_regression  # slow to import

        weight = np.maximum(every, 1e-9)
        rising = isotonic_regression(np.minimum(true / weight, 1.0), weights=weight).x
        return cls(score, to_log_odds(rising), particles)

    def probability(self, score: FloatArray) -> FloatArray:
        """Return the probability of being a particle, in the shape of `score`."""
        score = np.asarray(score, dtype=np.float64)
        inside = np.interp(score, self.score, self.log_odds)
        # Extrapolate below the lowest score, with a slope of at least 1.
        first = min(4, len(self.score) - 1)
        slope = (self.log_odds[first] - self.log_odds[0]) / (self.score[first] - self.score[0])
        return score_to_probability(
            inside + max(slope, 1.0) * np.minimum(score - self.score[0], 0.0)
        )


class SystematicError(NamedTuple):
    """By how much estimates may be wrong beyond what resampling shows, at 90% confidence.

    Chosen on real micrographs with known particles; see docs/thresholds.md.

    Attributes
    ----------
    usual_lookalikes, most_lookalikes
        Share of the expected true picks that are usually false, and may be false, although nothing
        shows it: dirt that looks like particles has no counterpart among labels or in reversed
        contrast.
    recall_log_odds
        Half the width of the interval of the recall, log-odds.
    """

    usual_lookalikes: float
    most_lookalikes: float
    recall_log_odds: float


#: Of estimates from labels, and from decoys alone.
FROM_LABELS, FROM_DECOYS = SystematicError(0.0, 0.2, 1.0), SystematicError(0.1, 0.4, 1.75)


@dataclass(frozen=True)
class Calibration:
    """The calibration of scores on one set of micrographs.

    Attributes
    ----------
    curve
        The best estimate.
    repeats
        Curves from resampled micrographs and labels; their scatter is the uncertainty.
    micrographs
        Number of micrographs in the set.
    labels
        Scores of the labeled particles, shape (n,); empty without labels.
    clear_above
        Decoys beside candidates with higher scores are not counted, because those candidates
        are probably particles.
    """

    curve: CalibrationCurve
    repeats: tuple[CalibrationCurve, ...]
    micrographs: int
    labels: FloatArray
    clear_above: float

    def probability(self, score: FloatArray) -> FloatArray:
        """Return the probability of being a particle, in the shape of `score`."""
        return self.curve.probability(score)

    @property
    def systematic(self) -> SystematicError:
        """By how much it may be wrong beyond the scatter of its repeats."""
        return FROM_LABELS if len(self.labels) else FROM_DECOYS

    def for_other_micrographs(self) -> Calibration:
        """Return the calibration for other micrographs, whose number of particles is unknown."""
        curve, *repeats = (
            CalibrationCurve(own.score, own.log_odds, 0.0) for own in (self.curve, *self.repeats)
        )
        return Calibration(curve, tuple(repeats), 0, self.labels, self.clear_above)

    @property
    def particles(self) -> tuple[float, float, float]:
        """Number of particles on all micrographs: estimate and 90% interval (low, high)."""
        estimate, low, high = add_interval(
            self.curve.particles, [curve.particles for curve in self.repeats]
        )
        usual, most, _ = self.systematic
        return (
            (1 - usual) * estimate,
            min(low, (1 - most) * estimate),
            max(high, (1 + most) * estimate),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the values that a model file stores, ready for JSON."""
        score = np.linspace(self.curve.score[0], self.curve.score[-1], REPEAT_POINTS)
        return {
            "score": _rounded(self.curve.score),
            "log_odds": _rounded(self.curve.log_odds),
            "particles": round(self.curve.particles, 2),
            "micrographs": self.micrographs,
            "labels": _rounded(self.labels),
            "clear_above": round(self.clear_above, 4),
            "repeats": [
                [round(float(own), 2) for own in np.interp(score, repeat.score, repeat.log_odds)]
                for repeat in self.repeats[:: -(-len(self.repeats) // MAX_REPEATS) or 1]
            ],
            "repeat_score": _rounded(score),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], min_labels: int = 1) -> Calibration:
        """Rebuild from `as_dict`, with the stored repeats.

        Parameters
        ----------
        min_labels
            Fewest labels that it must have: none if it may come from decoys alone.

        Raises
        ------
        ValueError
            If the values are invalid.
        """
        try:
            arrays = [np.array(values[key], dtype=np.float64) for key in ("score", "log_odds")]
            labels = np.array(values["labels"], dtype=np.float64)
            numbers = [float(values[key]) for key in ("particles", "clear_above")]
            micrographs = int(values["micrographs"])
            repeats = np.array(values.get("repeats", []), dtype=np.float64)
            repeat_score = np.array(values.get("repeat_score", []), dtype=np.float64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("the calibration is incomplete") from error
        score, log_odds = arrays
        whole = score.ndim == labels.ndim == 1 and score.shape == log_odds.shape
        if not whole or len(score) < 2 or len(labels) < min_labels:
            raise ValueError("the calibration has the wrong shape")
        if len(repeats) and repeats.shape != (len(repeats), len(repeat_score)):
            raise ValueError("the calibration has the wrong shape")
        parts = (*arrays, labels, np.array(numbers), repeats, repeat_score)
        finite = all(np.isfinite(part).all() for part in parts)
        if not finite or (np.diff(score) <= 0).any() or (np.diff(log_odds) < 0).any():
            raise ValueError("the calibration curve is not increasing")
        if len(repeats) and (len(repeat_score) < 2 or (np.diff(repeat_score) <= 0).any()):
            raise ValueError("the calibration curve is not increasing")
        curves = (CalibrationCurve(repeat_score, own, 0.0) for own in repeats)
        return cls(
            CalibrationCurve(score, log_odds, numbers[0]),
            tuple(curves),
            micrographs,
            labels,
            numbers[1],
        )


@dataclass(frozen=True)
class _FitOptions:
    """What the mixtures of one calibration have in common; see `calibrate_scores`."""

    particle_area: float
    cleared_area: float
    clear_above: float
    floor: float
    #: The lowest score that matters for the fit.
    low: float


def calibrate_scores(
    scores: DatasetScores,
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
    scores
        Scores of the micrographs; decoys on some of them are enough.
    labels
        Scores of the candidates on labeled particles, on these or on other micrographs.
    particle_area, cleared_area
        Area of one particle, and of the disc around a likely particle without decoys, in the
        unit of the micrographs' areas.
    clear_above
        Decoys beside candidates with higher scores were not counted.
    floor
        The lowest score down to which all candidates are listed.
    seed
        Seed of the resampling.

    Returns
    -------
    Calibration or None
        None if there are too few data: few labels, no decoys, or few candidates.
    """
    labels = np.sort(np.asarray(labels, dtype=np.float64))
    groups = scores.groups
    if len(labels) < MIN_LABELS or not sum(group.decoy_area for group in groups):
        return None
    middle, spread = center_and_spread(labels)
    low = max(floor, middle - MAX_SPREADS_BELOW * spread)
    options = _FitOptions(particle_area, cleared_area, clear_above, floor, low)
    data = _mixture_data(groups, labels, options)
    if data is None:
        return None
    best = fit_score_mixture(data)
    repeats = _bootstrap_curves(groups, labels, options, best, seed)
    if len(labels) > MAX_LABELS:
        labels = np.quantile(labels, (np.arange(MAX_LABELS) + 0.5) / MAX_LABELS)
    curve = CalibrationCurve.from_mixture(best)
    return Calibration(curve, repeats, scores.micrographs, labels, clear_above)


def _mixture_data(
    groups: Sequence[ScoreGroup], labels: FloatArray, options: _FitOptions
) -> ScoreMixtureData | None:
    """Collect the scores of groups for a fit; None without decoys or candidates."""
    area = sum(group.area for group in groups)
    decoy_area = sum(group.decoy_area for group in groups)
    candidates = ScoreCounts.sum(group.candidates.at_least(options.low) for group in groups)
    if not decoy_area or not len(candidates):
        return None
    decoys = ScoreCounts.sum(group.decoys.at_least(options.low) for group in groups)
    # Decoys beside background candidates with such scores were excluded as well.
    above = int(decoys.counts[decoys.values > options.clear_above].sum())
    excluded = min(above / decoy_area * options.cleared_area, 1.0)
    weight = area / decoy_area * math.exp(excluded)
    cover = options.particle_area / area
    return ScoreMixtureData(candidates, decoys, labels, weight, cover, options.floor)


def _bootstrap_curves(
    groups: Sequence[ScoreGroup],
    labels: FloatArray,
    options: _FitOptions,
    best: ScoreMixture,
    seed: int,
) -> tuple[CalibrationCurve, ...]:
    """Return calibration curves of resampled groups and labels."""
    random = np.random.default_rng(seed)
    curves = []
    for _ in range(BOOTSTRAP_REPEATS):
        drawn_groups = [groups[i] for i in random.integers(len(groups), size=len(groups))]
        drawn_labels = random.choice(labels, size=len(labels))
        data = _mixture_data(drawn_groups, np.sort(drawn_labels), options)
        if data is None or np.ptp(drawn_labels) == 0:
            continue
        curve = CalibrationCurve.from_mixture(fit_score_mixture(data, best.parameters, random))
        # Scale the number of particles from the drawn groups to the area of all micrographs.
        area = sum(group.area for group in groups)
        scale = area / sum(group.area for group in drawn_groups)
        curves.append(CalibrationCurve(curve.score, curve.log_odds, curve.particles * scale))
    return tuple(curves)


def to_log_odds(share: FloatArray) -> FloatArray:
    """Return the log-odds of estimated shares, which are kept within `PROBABILITIES`."""
    chance = np.clip(share, *PROBABILITIES)
    return np.asarray(np.log(chance / (1 - chance)))


def add_interval(estimate: float, repeats: Sequence[float]) -> tuple[float, float, float]:
    """Return an estimate with the 90% interval of repeats, widened to contain the estimate."""
    finite = [value for value in repeats if math.isfinite(value)]
    if not finite:
        return estimate, math.nan, math.nan
    low, high = np.quantile(finite, (0.05, 0.95))
    return estimate, min(float(low), estimate), max(float(high), estimate)


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 4) for value in values]
