"""The mixture of scores: how many candidates are particles, and at which scores.

Candidates are particles or background. The scores of background are measured with decoys
(target-decoy method, Elias and Gygi, Nature Methods 4, 207 (2007)): micrographs with reversed
contrast contain no particles, but noise, ice and anything else that looks the same dark and bright
gives as many candidates as before. Scores of particles follow a skewed distribution with one peak,
located by the labeled particles. Labels may score higher than other particles, because people
label the easy ones and the network was trained on them; this difference (the "ease") is estimated
too. All parameters are fitted together by maximum likelihood with weak priors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.evaluation.score_histogram import ScoreCounts

#: Scores are measured from the labels' median in units of their spread: width of a histogram bin,
#: and distance of the knots of the piecewise linear log density of the background.
BIN, KNOT = 0.2, 0.5
#: The lowest score used: this, or the score above which there are this many decoys, if lower.
LOWEST_SCORE, MIN_DECOYS = -4.0, 300
#: With fewer labels than this, their spread is shrunk towards `USUAL_SPREAD` log-odds, which
#: counts as `SPREAD_WEIGHT` labels.
ENOUGH_LABELS, USUAL_SPREAD, SPREAD_WEIGHT = 30, 1.2, 5
#: Weight of the lower tail of the particles' scores; 0 would be a Gaussian.
TAIL_WEIGHT = 0.4
#: Distances from a peak are limited to this many widths, whose square is still finite.
MAX_WIDTHS = 1e100
#: Priors, as (mean, standard deviation), in units of the labels' spread (LOG_: of the logarithm).
LOG_LOWER_WIDTH, LOG_UPPER_WIDTH, LOG_LEANING = (0.18, 0.3), (-0.05, 0.3), (0.2, 0.3)
#: How much higher labels score than other particles: mean of the prior, its standard deviation
#: below the mean, and the scale of its exponential tail above.
EASE, EASE_LESS, EASE_MORE = 0.25, 0.15, 0.8
#: Priors of the log ratio of background to decoys, and of its slope with the score.
LOG_LEVEL, SLOPE = (0.0, 0.3), (0.0, 0.12)
#: The score at which this ratio is defined; the slope acts around it.
PIVOT = -1.5
#: Standard deviation of the second difference of the background's log density at the knots.
KNOT_BEND = 0.35
#: Prior of the fraction of the area that particles cover, and the standard deviation of its log.
COVERED_FRACTION, LOG_COVERED_SPREAD = 0.1, 1.0
#: Number of parameters before those of the background's knots.
_FIRST_KNOT = 7


@dataclass(frozen=True)
class ScoreMixtureData:
    """The scores of one set of micrographs, log-odds."""

    #: Scores of all candidates.
    candidates: ScoreCounts
    #: Scores of the decoys, without those beside likely particles.
    decoys: ScoreCounts
    #: Scores of the candidates on labeled particles.
    labels: FloatArray
    #: Expected number of background candidates per decoy: corrects for micrographs on which
    #: decoys were not searched for and for the excluded areas.
    decoy_weight: float
    #: Fraction of the area that one particle covers.
    cover: float
    #: The lowest score down to which all candidates are listed.
    floor: float = -math.inf


@dataclass(frozen=True)
class ScoreMixture:
    """A fitted mixture of scores.

    Attributes
    ----------
    particles
        Number of particles on the micrographs.
    score
        Log-odds, increasing, evenly spaced, shape (n,).
    on_particles, on_background
        Expected number of candidates of each kind in the bin around each score, shape (n,).
    parameters
        The fitted parameters; a start for a similar fit.
    """

    particles: float
    score: FloatArray
    on_particles: FloatArray
    on_background: FloatArray
    parameters: FloatArray = field(repr=False)


def fit_score_mixture(
    data: ScoreMixtureData,
    start: FloatArray | None = None,
    random: np.random.Generator | None = None,
) -> ScoreMixture:
    """Fit the mixture to the scores of a set of micrographs.

    Parameters
    ----------
    data
        The scores; there must be labels.
    start
        Parameters of a similar fit to start from. By default, several guesses are tried and the
        best fit is returned.
    random
        If given, the means of the priors are drawn from the priors, so that fits to resampled
        scores scatter by the whole uncertainty of the parameters.
    """
    # Takes a third of a second to import, and picking one micrograph does not need it.
    import scipy.optimize

    problem = _MixtureProblem(data, random)
    starts = problem.starts() if start is None or len(start) != problem.size else [start]
    best: tuple[float, FloatArray] | None = None
    for guess in starts:
        units = problem.units(guess)

        def cost(
            z: FloatArray, guess: FloatArray = guess, units: FloatArray = units
        ) -> tuple[float, FloatArray]:
            value, gradient = problem.cost(guess + units @ z)
            return value, units.T @ gradient

        result = scipy.optimize.minimize(
            cost, np.zeros_like(guess), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
        )
        if best is None or result.fun < best[0]:
            best = float(result.fun), guess + units @ result.x
    assert best is not None
    return problem.mixture(best[1])


class _MixtureProblem:
    """The cost (negative log posterior) of the mixture's parameters.

    Scores are in units of the labels' spread. The parameters are: the log number of particles;
    the peak of their scores; the logs of its widths below and above; the labels' ease; the log
    ratio of background to decoys and its slope; and the log density of decoys at each knot.
    """

    def __init__(self, data: ScoreMixtureData, random: np.random.Generator | None) -> None:
        labels = np.asarray(data.labels, dtype=np.float64)
        self.middle, self.spread = center_and_spread(labels)
        self.labels = (labels - self.middle) / self.spread
        histograms = (data.candidates, data.decoys)
        candidates, decoys = ((h.values - self.middle) / self.spread for h in histograms)
        weights, decoy_weights = (h.counts for h in histograms)
        lowest = _lowest_counted_score(decoys, decoy_weights)
        low = max(lowest, (data.floor - self.middle) / self.spread)
        high = max(low + 1, self.labels.max(), *(s.max(initial=low) for s in (candidates, decoys)))
        edges = np.arange(low, high + 3 * BIN, BIN)
        self.x = (edges[1:] + edges[:-1]) / 2
        self.counts = np.histogram(candidates, edges, weights=weights)[0].astype(np.float64)
        self.decoys = np.histogram(decoys, edges, weights=decoy_weights)[0].astype(np.float64)
        self.hats = _knot_weights((self.x - low) / KNOT)
        self.size = _FIRST_KNOT + self.hats.shape[1]
        self.log_weight = math.log(data.decoy_weight)
        self.above = np.array([weights[candidates > edge].sum() for edge in (-0.2, -1.0, -2.5)])
        moved = np.zeros(7) if random is None else random.standard_normal(7)
        #: Gaussian priors: index of the parameter, mean, standard deviation.
        cover = math.log(COVERED_FRACTION / data.cover)
        self.priors = [
            (position, mean + move * spread, spread)
            for (position, mean, spread), move in zip(
                (
                    (0, cover, LOG_COVERED_SPREAD),
                    (2, *LOG_LOWER_WIDTH),
                    (3, *LOG_UPPER_WIDTH),
                    (5, *LOG_LEVEL),
                    (6, *SLOPE),
                ),
                moved,
                strict=False,
            )
        ]
        self.leaning = LOG_LEANING[0] + float(moved[5]) * LOG_LEANING[1]
        self.usual_ease = EASE + float(moved[6]) * EASE_LESS

    def starts(self) -> list[FloatArray]:
        """Return several initial guesses, from labels like other particles to much easier ones."""
        weight = np.maximum(self.hats.sum(axis=0), 1e-9)
        density = np.log(np.maximum(self.hats.T @ self.decoys / weight, 0.05) / BIN)
        guesses = zip((0.2, 0.4, 1.0, 2.5), (0.7, 1.0, 0.5, 0.7), (0, 0, 1, 2), strict=True)
        return [
            np.concatenate(
                [
                    [math.log(max(2 * share * self.above[row], 5.0)), -ease, 0.18, -0.05, ease],
                    [LOG_LEVEL[0], 0.0],
                    density,
                ]
            )
            for ease, share, row in guesses
        ]

    def _rates(self, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the expected particles, decoys and background per bin, and the peak's slopes."""
        logs, slopes = skewed_peak_log_density(self.x, p[1], p[2], p[3])
        particles = np.exp(np.clip(p[0] + logs, -40, 40)) * BIN
        decoys = np.exp(np.clip(self.hats @ p[_FIRST_KNOT:], -40, 40)) * BIN
        tilt = p[5] + p[6] * (self.x - PIVOT) + self.log_weight
        return particles, decoys, decoys * np.exp(np.clip(tilt, -20, 20)), slopes

    def cost(self, p: FloatArray) -> tuple[float, FloatArray]:
        """Return the negative log of likelihood times priors, and its gradient."""
        particles, decoys, background, slopes = self._rates(p)
        gradient = np.zeros_like(p)
        rate, decoy_rate = particles + background + 1e-6, decoys + 1e-6
        total = (rate - self.counts * np.log(rate)).sum()
        total += (decoy_rate - self.decoys * np.log(decoy_rate)).sum()
        over, decoys_over = 1 - self.counts / rate, 1 - self.decoys / decoy_rate
        gradient[0] = (over * particles).sum()
        gradient[1:4] = slopes @ (over * particles)
        gradient[5] = (over * background).sum()
        gradient[6] = (over * background * (self.x - PIVOT)).sum()
        gradient[_FIRST_KNOT:] = self.hats.T @ (over * background + decoys_over * decoys)

        logs, slopes = skewed_peak_log_density(self.labels - p[4], p[1], p[2], p[3])
        total -= logs.sum()
        gradient[1:4] -= slopes.sum(axis=1)
        gradient[4] -= slopes[0].sum()
        more = p[4] - self.usual_ease
        if more > 0:
            root = math.sqrt(1 + (more / EASE_MORE) ** 2)
            total += 2 * (root - 1)
            gradient[4] += 2 * more / EASE_MORE**2 / root
        else:
            total += (more / EASE_LESS) ** 2 / 2
            gradient[4] += more / EASE_LESS**2

        for position, mean, spread in self.priors:
            away = (p[position] - mean) / spread
            total += away**2 / 2
            gradient[position] += away / spread
        away = (p[2] - p[3] - self.leaning) / LOG_LEANING[1]
        total += away**2 / 2
        gradient[2:4] += np.array([1, -1]) * away / LOG_LEANING[1]
        bend = np.diff(p[_FIRST_KNOT:], 2)
        total += (bend**2).sum() / KNOT_BEND**2 / 2
        gradient[_FIRST_KNOT:-2] += bend / KNOT_BEND**2
        gradient[_FIRST_KNOT + 1 : -1] -= 2 * bend / KNOT_BEND**2
        gradient[_FIRST_KNOT + 2 :] += bend / KNOT_BEND**2
        return float(total), gradient

    def units(self, p: FloatArray) -> FloatArray:
        """Return parameters' steps that change the cost alike near a point, as columns.

        In these a fit takes a tenth of the evaluations: the square root of the inverse of the
        Fisher information, in which the labels' is that observed.
        """
        particles, decoys, background, slopes = self._rates(p)
        of_rate, of_decoys = np.zeros((2, self.size, len(self.x)))
        of_rate[0], of_rate[1:4] = particles, slopes * particles
        of_rate[5], of_rate[6] = background, background * (self.x - PIVOT)
        of_rate[_FIRST_KNOT:] = self.hats.T * background
        of_decoys[_FIRST_KNOT:] = self.hats.T * decoys
        of_labels = np.zeros((self.size, len(self.labels)))
        of_labels[1:4] = skewed_peak_log_density(self.labels - p[4], p[1], p[2], p[3])[1]
        of_labels[4] = of_labels[1]
        of_bend = np.diff(np.eye(self.size)[:, _FIRST_KNOT:], 2) / KNOT_BEND
        of_leaning = (np.eye(self.size)[:, 2:3] - np.eye(self.size)[:, 3:4]) / LOG_LEANING[1]
        of_rate /= np.sqrt(particles + background + 1e-6)
        of_decoys /= np.sqrt(decoys + 1e-6)
        every = np.concatenate([of_rate, of_decoys, of_labels, of_bend, of_leaning], axis=1)
        # Not as a product of matrices, the last bits of which depend on the number of threads.
        information = np.einsum("ik,jk->ij", every, every)
        own = np.full(self.size, 1e-3)
        own[4] = 1 / (EASE_MORE if p[4] > self.usual_ease else EASE_LESS) ** 2
        for position, _, spread in self.priors:
            own[position] = 1 / spread**2
        # However far out a label lies, what is left is positive definite.
        diagonal = np.diag_indices(self.size)
        information[diagonal] = information[diagonal] * (1 + 1e-8) + own
        return np.asarray(np.linalg.inv(np.linalg.cholesky(information)).T)

    def mixture(self, p: FloatArray) -> ScoreMixture:
        particles, _, background, _ = self._rates(p)
        return ScoreMixture(
            particles=math.exp(p[0]),
            score=self.x * self.spread + self.middle,
            on_particles=particles,
            on_background=background,
            parameters=p,
        )


def center_and_spread(labels: FloatArray) -> tuple[float, float]:
    """Return the median and spread of label scores; with few labels the spread is shrunk."""
    middle = float(np.median(labels))
    if len(labels) < ENOUGH_LABELS:
        squares = len(labels) * float(np.var(labels)) + SPREAD_WEIGHT * USUAL_SPREAD**2
        return middle, math.sqrt(squares / (len(labels) + SPREAD_WEIGHT))
    low, high = np.quantile(labels, (0.16, 0.84))
    return middle, max(float(high - low) / 2, 0.3)


def skewed_peak_log_density(
    x: FloatArray, position: float, log_lower: float, log_upper: float
) -> tuple[FloatArray, FloatArray]:
    """Return the log density of a skewed peak, and its derivatives.

    Above the peak it is half a Gaussian; below, a Gaussian that turns into an exponential.

    Parameters
    ----------
    x
        Positions, shape (n,).
    position
        Position of the peak.
    log_lower, log_upper
        Logarithms of its widths below and above.

    Returns
    -------
    log_density, slopes
        Shapes (n,) and (3, n): derivatives by the position and the two log widths.
    """
    # A fit may try any width; absurd ones only have to stay finite.
    lower, upper = (math.exp(min(max(log, -100.0), 100.0)) for log in (log_lower, log_upper))
    below = x < position
    width = np.where(below, lower, upper)
    v = np.clip((x - position) / width, -MAX_WIDTHS, MAX_WIDTHS)
    root = np.sqrt(1 + 2 * TAIL_WEIGHT * v**2)
    value = np.where(below, (1 - root) / (2 * TAIL_WEIGHT), -(v**2) / 2)
    slope = np.where(below, -v / root, -v)
    areas = lower * _lower_half_area(), upper * math.sqrt(math.pi / 2)
    area = sum(areas)
    slopes = np.stack(
        [
            -slope / width,
            np.where(below, -slope * v, 0.0) - areas[0] / area,
            np.where(below, 0.0, -slope * v) - areas[1] / area,
        ]
    )
    return value - math.log(area), slopes


def _lowest_counted_score(decoys: FloatArray, counts: IndexArray) -> float:
    """Return the lowest score, in units of the labels' spread, that the fit uses."""
    if not len(decoys):
        return LOWEST_SCORE
    enough = np.flatnonzero(np.cumsum(counts[::-1]) >= MIN_DECOYS)
    return min(LOWEST_SCORE, float(decoys[::-1][enough[0]] if len(enough) else decoys[0]))


@cache
def _lower_half_area() -> float:
    """Return the integral of the lower half of a peak with width 1."""
    v = np.linspace(0, 200, 200_001)
    values = np.exp((1 - np.sqrt(1 + 2 * TAIL_WEIGHT * v**2)) / (2 * TAIL_WEIGHT))
    return float(np.trapezoid(values, v))


def _knot_weights(position: FloatArray) -> FloatArray:
    """Return the interpolation weights of the knots at each position, shape (n, knots)."""
    knots = max(4, math.ceil(position.max()) + 1)
    weights = 1 - np.abs(position[:, None] - np.arange(knots))
    return np.asarray(np.maximum(weights, 0.0))
