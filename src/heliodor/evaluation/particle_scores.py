"""How particles score, and how many there are, from candidates and decoys without any label.

Where particles and background score alike, counts above a threshold cannot tell them apart, but
the shape of what lies above does: scores of particles have one peak with a usual width on either
side. In each bin of scores, N particles of which a share g score there, and background that is
rho times as frequent as decoys, give

    candidates ~ Poisson(N g + rho b),    decoys ~ Poisson(b),

where b is eliminated by maximum likelihood. Particles leave background less room than decoys
have (see `decoy_threshold`): log rho = -N A / area + d, less where decoys are so dense that they
keep each other away. N, the widths and d are fitted for each of several places of the peak, with
weak priors, and the fits are weighed by how well they explain the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.evaluation.score_histogram import smooth_counts

#: No background candidate lies closer to a particle, in diameters.
REACH: Final = math.sqrt(3.0) / 2
#: Scores are used down to this one, or down to where there are this many decoys in the square of a
#: diameter if that is higher: denser candidates keep each other away.
LOWEST_SCORE, MOST_DENSE = -5.0, 0.6
#: At this number of decoys in the square of a diameter, particles take only half of the room.
HALF_ROOM: Final = 0.7
#: Width of a bin, log-odds.
BIN: Final = 0.25
#: The places of the peak that are tried, log-odds, and their prior (mean, standard deviation).
PEAKS: Final = np.arange(-3.0, 9.1, 0.75)
PEAK = (1.0, 2.2)
#: Priors, of the logarithms: of the widths below and above the peak in log-odds, of the number of
#: particles in the square of a diameter, and of the ratio of background to decoys.
LOWER_WIDTH, UPPER_WIDTH = (math.log(1.3), 0.35), (-0.15, 0.4)
DENSITY, LEVEL = (math.log(0.15), 1.2), (0.0, 0.25)
#: Their limits.
LOWER_LIMITS, UPPER_LIMITS = (math.log(0.25), math.log(5.0)), (math.log(0.2), math.log(4.0))
LEVEL_LIMITS, MOST_PARTICLES = (-1.5, 1.0), 3.0
#: This share of the particles scatters more widely below the peak, by this factor.
TAIL_SHARE, TAIL_WIDTH = 0.1, 2.5
#: Counts of n micrographs tell as much as those of n to this power: on each, something differs
#: from what is assumed here, which more micrographs do not average out.
MICROGRAPHS_POWER: Final = 0.5
#: The likelihood of a fit is raised to this power before it is a weight.
WEIGHT_POWER: Final = 0.3
#: Width of the kernel by which decoys are spread, log-odds.
SPREAD: Final = 0.7


@dataclass(frozen=True)
class ParticleScores:
    """What candidates and decoys say of the particles.

    Attributes
    ----------
    expected_f1
        F1 that is expected at each threshold, shape (n,); 0 below the lowest score used.
    true_picks, picks
        Particles, and candidates, that are expected at or above each threshold, shape (n,).
    particles
        Number of particles.
    evidence
        By how much the log likelihood of the best fit exceeds that of background alone.
    """

    expected_f1: FloatArray
    true_picks: FloatArray
    picks: FloatArray
    particles: float
    evidence: float


def fit_particle_scores(
    threshold: FloatArray, picks: FloatArray, decoys: FloatArray, square: float, micrographs: int
) -> ParticleScores:
    """Fit the distribution of the particles' scores.

    Parameters
    ----------
    threshold
        Log-odds, increasing, evenly spaced, shape (n,).
    picks, decoys
        Numbers of candidates and decoys at or above each threshold, shape (n,).
    square
        Square of the particle's diameter over the area of the micrographs.
    micrographs
        Number of micrographs that were counted.
    """
    step = round(BIN / float(threshold[1] - threshold[0]))
    usable = (decoys * square <= MOST_DENSE) & (threshold >= LOWEST_SCORE - 1e-9)
    first = int(np.argmax(usable)) if usable.any() else len(threshold) - 1
    at = slice(first, None, step)
    room = 1 / (1 + (decoys * square / HALF_ROOM) ** 2)
    candidates, found = (-np.diff(numbers[at], append=0.0) for numbers in (picks, decoys))
    weight = micrographs ** (MICROGRAPHS_POWER - 1)
    counts = _BinnedCounts(threshold[at], candidates, found, room[at], square, weight)
    fitted, losses = counts.fit()
    weights = np.exp(-WEIGHT_POWER * (losses - losses.min()))
    weights /= weights.sum()
    numbers = np.exp(fitted[:, 0]) / square
    share = 1 - _share_below(threshold, PEAKS[:, None], *np.exp(fitted[:, 1:3].T[..., None]))
    true = numbers[:, None] * share
    own = smooth_counts(-np.diff(decoys, append=0.0), SPREAD / float(threshold[1] - threshold[0]))
    level = _log_level(fitted)[:, None]
    false = np.cumsum((own * np.exp(room * level))[:, ::-1], axis=1)[:, ::-1]
    f1 = 2 * true / (true + false + numbers[:, None])
    f1[:, :first] = 0.0
    return ParticleScores(
        weights @ f1, weights @ true, weights @ (true + false), float(weights @ numbers),
        float(counts.loss_without_particles() - losses.min()),
    )  # fmt: skip


@dataclass(frozen=True)
class _BinnedCounts:
    """Numbers of candidates and decoys in bins of scores, and how much they weigh."""

    #: Lower edges of the bins, log-odds, shape (n,); the last bin has no upper edge.
    edge: FloatArray
    candidates: FloatArray
    decoys: FloatArray
    #: How much less room particles leave, relative to where candidates are rare.
    room: FloatArray
    square: float
    weight: float

    def fit(self) -> tuple[FloatArray, FloatArray]:
        """Fit the number of particles, two widths and the level for each peak of `PEAKS`.

        Returns
        -------
        parameters
            Logarithms of the particles in the square of a diameter, of the lower and the upper
            width and of the level, shape (peaks, 4).
        losses
            Shape (peaks,).
        """
        from scipy.optimize import minimize  # slow to import

        above = np.cumsum((self.candidates - 0.8 * self.decoys)[::-1])[::-1]
        at = np.minimum(np.searchsorted(self.edge, PEAKS), len(self.edge) - 1)
        start = np.empty((len(PEAKS), 4))
        start[:, 0] = np.minimum(np.log(2 * np.maximum(above[at], 3.0) * self.square), math.log(2))
        start[:, 1:] = LOWER_WIDTH[0], UPPER_WIDTH[0], LEVEL[0]
        bounds = [(None, math.log(MOST_PARTICLES)), LOWER_LIMITS, UPPER_LIMITS, LEVEL_LIMITS]
        found = minimize(
            _sum_with_slopes(self.losses), start.ravel(), jac=True, method="L-BFGS-B",
            bounds=bounds * len(PEAKS), options={"maxiter": 400, "maxfun": 800, "maxcor": 30},
        )  # fmt: skip
        parameters = found.x.reshape(start.shape)
        return parameters, self.losses(parameters[None])[0]

    def losses(self, parameters: FloatArray) -> FloatArray:
        """Return the negative log posterior of each peak; parameters of shape (..., peaks, 4)."""
        particles, lower, upper, level = np.moveaxis(parameters, -1, 0)
        below = _share_below(
            self.edge, PEAKS[:, None], np.exp(lower)[..., None], np.exp(upper)[..., None]
        )
        share = np.diff(below, append=1.0)
        own = np.exp(particles)[..., None] / self.square * np.maximum(share, 1e-12)
        ratio = np.exp(self.room * _log_level(parameters)[..., None])
        priors = (
            (particles, DENSITY), (lower, LOWER_WIDTH), (upper, UPPER_WIDTH), (level, LEVEL),
            (PEAKS, PEAK),
        )  # fmt: skip
        penalty = sum(((value - mean) / deviation) ** 2 for value, (mean, deviation) in priors)
        return np.asarray(self._explain(own, ratio) + 0.5 * penalty)

    def loss_without_particles(self) -> float:
        """Return the lowest negative log posterior of background alone."""
        levels = np.linspace(*LEVEL_LIMITS, 51)
        ratio = np.exp(self.room * levels[:, None])
        penalty = 0.5 * ((levels - LEVEL[0]) / LEVEL[1]) ** 2
        return float((self._explain(np.full_like(ratio, 1e-9), ratio) + penalty).min())

    def _explain(self, own: FloatArray, ratio: FloatArray) -> FloatArray:
        """Return the negative log likelihood of the counts, summed over the last axis.

        Parameters
        ----------
        own
            Expected number of particles in each bin.
        ratio
            Expected number of background candidates per decoy in each bin.
        """
        both = self.candidates + self.decoys
        # The most likely background solves a quadratic equation.
        half = ((1 + ratio) * own - ratio * both) / (2 * (1 + ratio) * ratio)
        last = self.decoys * own / ((1 + ratio) * ratio)
        background = np.maximum(-half + np.sqrt(half**2 + last), 1e-9)
        expected = own + ratio * background
        likelihood = self.candidates * np.log(expected) - expected
        likelihood += self.decoys * np.log(background) - background
        return np.asarray(-self.weight * likelihood.sum(axis=-1))


def _log_level(parameters: FloatArray) -> FloatArray:
    """Return the log ratio of background to decoys where candidates are rare."""
    density, level = parameters[..., 0], parameters[..., 3]
    return np.asarray(level - math.pi * REACH**2 * np.exp(density))


def _share_below(
    score: FloatArray, peak: FloatArray, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    """Return the share of the particles that score less, for a peak with two widths."""
    return np.asarray(
        (1 - TAIL_SHARE) * _split_normal(score - peak, lower, upper)
        + TAIL_SHARE * _split_normal(score - peak, TAIL_WIDTH * lower, upper)
    )


def _split_normal(distance: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return the cumulative distribution of a normal with one width below its peak, one above."""
    from scipy.special import ndtr  # slow to import

    share = lower / (lower + upper)
    below = 2 * share * ndtr(np.minimum(distance, 0.0) / lower)
    above = (1 - share) * (1 - 2 * ndtr(-np.maximum(distance, 0.0) / upper))
    return np.asarray(below + above)


def _sum_with_slopes(
    losses: Callable[[FloatArray], FloatArray], step: float = 1e-5
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Return a function of all parameters: the sum of the losses, and its slopes by differences.

    The losses of different peaks share no parameter, so one parameter of each peak is moved at
    the same time.
    """
    moves: NDArray[np.float64] = step * np.concatenate([np.eye(4), -np.eye(4)])[:, None, :]

    def measure(flat: FloatArray) -> tuple[float, FloatArray]:
        parameters = flat.reshape(-1, 4)
        moved = losses(parameters + moves)
        slopes = (moved[:4] - moved[4:]) / (2 * step)
        return float(losses(parameters[None]).sum()), slopes.T.ravel()

    return measure
