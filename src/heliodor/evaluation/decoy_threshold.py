"""The threshold without labels: how many candidates are particles, from candidates and decoys.

Decoys are the candidates on micrographs with inverted contrast. Noise gives as many candidates of
any score dark as bright (target-decoy method, Elias and Gygi, Nature Methods 4, 207 (2007)), but
it does so only where there are no particles: on a crowded micrograph background candidates have
less room than decoys have, which lie on particles and between them. If no background candidate
comes within `REACH` diameters of a particle, and the T particles with scores above t lie at
random, a share exp(-T A / area) of the room is left, where A is the area of the disc around a
particle. So of the U candidates and R decoys above t,

    T = U - R exp(-T A / area),

whose smallest solution is found by iteration from T = U - R.

This counts what is seen, and takes the particles among many decoys for none or for too many. So
the threshold is the mean of the one that follows from these numbers and of the one that follows
from the shape of the particles' scores (`particle_scores`).

Both take dark contaminants for particles. If candidates above this threshold are of two groups
(`score_valley`), those with the lower scores may be contaminants, or particles seen from a side on
which they score worse. So the threshold is moved half of the way to the valley between them, or
less if it is not deep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import Calibration, CalibrationCurve
from heliodor.evaluation.particle_scores import REACH, ParticleScores, fit_particle_scores
from heliodor.evaluation.score_histogram import DatasetScores, ScoreCounts, smooth_counts
from heliodor.evaluation.score_valley import find_valley

#: Thresholds that are considered, and their step, log-odds.
LOWEST, HIGHEST, STEP = -5.5, 8.0, 0.05
#: The number of particles is estimated cautiously, this many standard deviations low.
CAUTION = 1.5
#: The threshold that follows from these numbers has at most so many decoys in the square of a
#: diameter: denser ones keep each other away, and the solution for T runs away.
MOST_DENSE = 0.5
#: Width of the kernel by which counts are spread before the threshold is chosen, log-odds: chance
#: makes single counts rise and fall.
SPREAD = 0.7
#: Width of the kernel with which densities of candidates and decoys are compared, log-odds.
KERNEL = 0.8
#: Thresholds are averaged with this power of their expected F1 as weight: the highest F1 alone is
#: often one of several that are nearly as high.
SHARPNESS = 20.0
#: Particles are evident if somewhere among the highest share of decoys the candidates outnumber
#: them by so many standard deviations and by this factor: a little more dark than bright dirt does
#: not count.
UPPER_SHARE, MIN_DEVIATIONS, MIN_RATIO = 0.1, 4.0, 1.2
#: Particles are evident, too, if their scores explain the counts better than background alone by
#: this log likelihood.
MIN_EVIDENCE = 4.0
#: No threshold lies lower than the score of this share of the decoys.
MOST_DECOYS = 0.35
#: The threshold where no particles are evident: such a candidate is likely by the model alone.
WITHOUT_EVIDENCE = 1.0
#: The reach and the deviations of the estimates that bound the interval.
BOUNDS = ((0.5, 2.0), (1.0, -2.0))
#: The iteration ends once no number changes by more than this.
CHANGE, MOST_STEPS = 0.01, 500


@dataclass(frozen=True)
class DecoyEstimate:
    """What candidates and decoys say.

    Attributes
    ----------
    threshold
        Log-odds.
    calibration
        Probabilities and numbers of particles; None if no particles are evident.
    """

    threshold: float
    calibration: Calibration | None


@dataclass(frozen=True)
class _Counts:
    """Numbers of candidates and decoys at or above each threshold."""

    threshold: FloatArray
    picks: FloatArray
    decoys: FloatArray
    #: Square of the particle's diameter over the area of the micrographs.
    square: float

    @classmethod
    def of(cls, candidates: ScoreCounts, decoys: ScoreCounts, square: float) -> _Counts:
        steps = np.arange(round(LOWEST / STEP), round(HIGHEST / STEP) + 1)
        thresholds = STEP * steps.astype(np.float64)
        picks, found = (counts.count_above(thresholds) for counts in (candidates, decoys))
        return cls(thresholds, picks, found, square)

    def usable(self, most_decoys: float, most_dense: float = math.inf) -> _Counts:
        """Return the counts without thresholds that have too many decoys, or mostly background."""
        few = (self.decoys <= most_decoys) & (self.decoys * self.square <= most_dense)
        first = max(_find_lowest(self.threshold, self.picks, self.decoys), int(np.argmax(few)))
        return _Counts(
            self.threshold[first:], self.picks[first:], self.decoys[first:], self.square
        )

    def evident(self, most_decoys: float) -> bool:
        """Return whether there are particles, by thresholds with at most so many decoys."""
        usable = (self.decoys <= most_decoys) & (self.picks >= MIN_RATIO * self.decoys)
        excess = (self.picks - self.decoys) / np.sqrt(np.maximum(self.picks + self.decoys, 1.0))
        return bool(excess[usable].max(initial=0.0) >= MIN_DEVIATIONS)

    def spread(self) -> _Counts:
        """Return the counts with their densities smoothed, their totals unchanged."""
        picks, decoys = (_spread_counts(numbers) for numbers in (self.picks, self.decoys))
        return _Counts(self.threshold, picks, decoys, self.square)

    def true_picks(self, reach: float, deviations: float) -> FloatArray:
        """Return the number of particles at or above each threshold, never increasing.

        Parameters
        ----------
        reach
            See `REACH`.
        deviations
            By how many standard deviations of the counts the number is lowered.
        """
        disc = math.pi * reach**2 * self.square
        seen = self.picks - deviations * np.sqrt(self.picks + self.decoys)
        true = np.clip(seen - self.decoys, 0.0, self.picks)
        for _ in range(MOST_STEPS):
            before = true
            true = np.clip(seen - self.decoys * np.exp(-disc * true), 0.0, self.picks)
            if np.abs(true - before).max(initial=0.0) < CHANGE:
                break
        # The number of true picks cannot fall with the threshold; a fall is noise.
        return np.minimum(np.maximum.accumulate(true[::-1])[::-1], self.picks)


def estimate_from_decoys(scores: DatasetScores, diameter: float) -> DecoyEstimate | None:
    """Estimate the threshold and the probabilities of candidates without labels.

    Parameters
    ----------
    scores
        Scores of micrographs; decoys on some of them are enough.
    diameter
        The particle's, in the unit of length of the areas.

    Returns
    -------
    DecoyEstimate or None
        None if there are no decoys, as none were searched for.
    """
    groups = scores.groups
    area = sum(group.decoy_area for group in groups)
    if not area:
        return None
    candidates = ScoreCounts.sum(group.paired for group in groups)
    decoys = ScoreCounts.sum(group.decoys for group in groups)
    every = _Counts.of(candidates, decoys, diameter**2 / area)
    shape = fit_particle_scores(
        every.threshold, every.picks, every.decoys, every.square,
        sum(len(group.decoy_areas) for group in groups),
    )  # fmt: skip
    seen = _choose_by_counts(every, decoys.total)
    if seen is None and shape.evidence < MIN_EVIDENCE:
        return DecoyEstimate(WITHOUT_EVIDENCE, None)
    threshold = _weigh(every.threshold, shape.expected_f1)
    if seen is not None:
        threshold = (threshold + seen) / 2
    valley = find_valley(every.threshold, every.picks, threshold)
    if valley is not None:
        way = valley.certainty * (valley.score - threshold)
        end = threshold + way
        threshold += way / 2
    scale = sum(group.area for group in groups) / area
    curves = [_shape_curve(every.threshold, shape, scale)]
    if seen is not None:
        counts = every.usable(MOST_DECOYS * decoys.total)
        by_counts = [
            _to_curve(counts, counts.true_picks(reach, deviations), scale)
            for reach, deviations in ((REACH, 0.0), *BOUNDS)
        ]
        # Precision by what is counted; the number of particles by both.
        particles = math.sqrt(by_counts[0].particles * curves[0].particles)
        curves = [replace(by_counts[0], particles=particles), *by_counts[1:], *curves]
        if valley is not None:
            # What if there are no particles below it?
            true = counts.true_picks(REACH, 0.0)
            most = float(np.interp(end, counts.threshold, true))
            curves.append(_to_curve(counts, np.minimum(true, most), scale))
    calibration = Calibration(
        curves[0], tuple(curves[1:]), scores.micrographs, np.zeros(0), math.inf
    )
    return DecoyEstimate(round(threshold, 3), calibration)


def choose_by_counts(candidates: ScoreCounts, decoys: ScoreCounts, square: float) -> float | None:
    """Return the threshold that follows from numbers alone; None if no particles are evident.

    Parameters
    ----------
    candidates, decoys
        Their scores, log-odds.
    square
        Square of the particle's diameter over the area of the micrographs.
    """
    return _choose_by_counts(_Counts.of(candidates, decoys, square), decoys.total)


def _choose_by_counts(every: _Counts, decoys: int) -> float | None:
    """Return the threshold of the highest F1 by counts; None if no particles are evident.

    Parameters
    ----------
    decoys
        Number of all decoys.
    """
    counts = every.usable(MOST_DECOYS * decoys, MOST_DENSE)
    spread = counts.spread()
    cautious = spread.true_picks(REACH, CAUTION)
    if not (counts.evident(UPPER_SHARE * decoys) and cautious.any()):
        return None
    return _weigh(counts.threshold, 2 * cautious / (spread.picks + cautious[0]))


def _weigh(threshold: FloatArray, f1: FloatArray) -> float:
    """Return the mean of thresholds, weighed by a power of the F1 that is expected there."""
    weight = (f1 / f1.max()) ** SHARPNESS
    return float((threshold * weight).sum() / weight.sum())


def _to_curve(counts: _Counts, true: FloatArray, scale: float) -> CalibrationCurve:
    """Return the probabilities that follow from the number of particles above each threshold.

    Parameters
    ----------
    true
        Number of particles at or above each threshold, shape (n,).
    scale
        From the counted micrographs to all.
    """
    own, every = (-np.diff(numbers, append=0.0) for numbers in (true, counts.picks))
    middle = counts.threshold + STEP / 2
    return CalibrationCurve.from_counts(middle, own, every, float(true[0]) * scale)


def _shape_curve(threshold: FloatArray, shape: ParticleScores, scale: float) -> CalibrationCurve:
    """Return the probabilities that follow from the shape of the particles' scores."""
    own, every = (-np.diff(numbers, append=0.0) for numbers in (shape.true_picks, shape.picks))
    return CalibrationCurve.from_counts(threshold + STEP / 2, own, every, shape.particles * scale)


def _spread_counts(above: FloatArray) -> FloatArray:
    """Return smoothed numbers at or above each threshold, with the same number above the first."""
    density = smooth_counts(-np.diff(above, append=0.0), SPREAD / STEP)
    numbers = np.cumsum(density[::-1])[::-1]
    return numbers * (above[0] / numbers[0] if numbers[0] > 0 else 1.0)


def _find_lowest(thresholds: FloatArray, picks: FloatArray, decoys: FloatArray) -> int:
    """Return the index of the threshold at which decoys outnumber candidates the most.

    Below it background prevails: there the two differ only by what they are made of.
    """
    densities = [
        smooth_counts(-np.diff(numbers, append=0.0), KERNEL / STEP) + 0.1
        for numbers in (decoys, picks)
    ]
    ratio = densities[0] / densities[1]
    first = round((-5.0 - LOWEST) / STEP)
    # Far up there are a few of either at most, whose ratio means nothing.
    known = np.cumsum(densities[0][::-1])[::-1] > 20
    return first + int(np.argmax((ratio * known)[first:]))
