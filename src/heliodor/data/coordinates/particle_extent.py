"""The extent of particles: their longest diameter, from the power around labels.

The power of the band-passed image around labels, minus that of the noise, shows how far particles
extend in any orientation: squares do not cancel as the pixels of elongated particles do in an
average. The radius that contains 90% of it is compared with that of a solid ball.

The filter must fit the particle, whose size is unknown: many diameters are tried, with the filter
in proportion to each, and the result is the diameter whose measured diameter is itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.particle_average import (
    RINGS,
    BoxScale,
    bandpass_boxes,
    choose_scale,
    recenter_boxes,
    sum_rings,
)
from heliodor.utils.statistics import robust_deviation

#: The share of the power above the noise within the measured radius.
SHARE = 0.9
#: Twice that radius, in diameters, for a solid ball: it converts a radius to a diameter. A flat
#: disc gives 11% more and a thin rod in random orientations 12% less; other shapes lie between.
BALL = 0.848
#: Standard deviation of the logarithm of the diameter among shapes; see `BALL`.
SHAPE_SPREAD = 0.1
#: Power is summed up to this distance in diameters. The noise is measured from there to one
#: diameter, where neighbors, which touch at half a diameter, contribute little.
REACH = 0.75
#: Factor between successive trial diameters.
STEP = 2.0**0.25
#: Labels with far more power around them than usual are dropped: ice, carbon, gold. In robust
#: deviations.
STRANGE = 4.0
#: Excess power below this share of the power of the particles never leads to dropping.
SLIGHT = 0.1
#: A particle is round if its rotational average has this share of its power.
ROUND = 0.5
#: Bootstrap draws of labels for the uncertainty.
DRAWS = 100

_RING = np.arange(RINGS) / RINGS
_INSIDE, _WITHIN, _BEYOND = _RING < 0.5, _RING <= REACH, _RING >= REACH
#: Area of a complete ring, in ring widths squared.
_AREA = np.where(_RING > 0, 2 * math.pi * _RING * RINGS, math.pi / 4)
#: The noise of a label is known if this share of its outer rings is on the micrograph; a diameter
#: can be tried if that holds for half of the labels.
_SEEN = 0.3


@dataclass(frozen=True)
class DiameterTrial:
    """The rings around all labels for one trial diameter."""

    diameter_angstrom: float
    #: Sums of squares and of pixels, and counts of pixels, shape (n, RINGS).
    squares: FloatArray
    pixels: FloatArray
    counts: FloatArray
    #: Which labels are used, shape (n,).
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class Extent:
    """The longest diameter of labeled particles, in angstrom."""

    diameter_angstrom: float
    #: The 95% confidence interval: chance, from draws of labels, and the variation of shapes.
    low_angstrom: float
    high_angstrom: float
    #: Power around the labels above the noise, in standard errors.
    contrast: float
    #: Number of labels used: those away from ice and edges.
    labels: int
    #: Whether the particles are round, so that labels could be centered.
    round: bool


def try_diameter(
    scales: Sequence[BoxScale], diameter_angstrom: float, center: bool = False
) -> DiameterTrial | None:
    """Measure the rings for one diameter; return None if too few labels have room for it.

    Parameters
    ----------
    scales
        The boxes.
    diameter_angstrom
        The trial diameter.
    center
        Whether the boxes are first aligned to their rotational average.
    """
    scale = choose_scale(scales, diameter_angstrom)
    across = diameter_angstrom / scale.pixel_size_angstrom
    boxes, room = bandpass_boxes(scale, diameter_angstrom), scale.room
    if center:
        boxes, moves = recenter_boxes(boxes, across)
        x, y = moves[:, 0], moves[:, 1]
        room = room + np.stack([-x, x, -y, y], axis=1)
    pixels, squares, counts = sum_rings(boxes, room, across)
    whole = _AREA[_BEYOND].sum() * (across / RINGS) ** 2
    beyond = counts[:, _BEYOND].sum(axis=1)
    seen = beyond > _SEEN * whole
    if np.count_nonzero(seen) < 0.5 * len(seen):
        return None
    power = squares[:, _BEYOND].sum(axis=1) / np.maximum(beyond, 1)
    usual = np.median(power[seen])
    deviation = robust_deviation(power[seen])
    inside = squares[:, _INSIDE].sum(axis=1) / np.maximum(counts[:, _INSIDE].sum(axis=1), 1)
    # Without noise the slightest excess is many deviations, so a slight excess is allowed.
    allowed = max(STRANGE * deviation, SLIGHT * float(np.median(inside[seen])))
    kept = seen & (power <= usual + allowed)
    return DiameterTrial(diameter_angstrom, squares, pixels, counts, kept)


def compute_profiles(
    trial: DiameterTrial, weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the mean of the pixels and the power of the particles in each ring.

    Parameters
    ----------
    trial
        The rings.
    weight
        Weight of each label, shape (n,); 1 by default.

    Returns
    -------
    mean, power
        Shape (RINGS,). Where the mean has the opposite sign of the particle it is the halo of
        the contrast transfer and of the filter, whose power is subtracted.
    """
    use = trial.kept * (1.0 if weight is None else weight)
    number = np.maximum(use @ trial.counts, 1e-9)
    mean, power = use @ trial.pixels / number, use @ trial.squares / number
    own = trial.pixels / np.maximum(trial.counts, 1)
    chance = (use @ (own - mean) ** 2) / max(float(use.sum()) ** 2, 1.0)
    sign = math.copysign(1.0, float((mean * _AREA)[_INSIDE].sum()))
    halo = (mean * sign < 0) & (_RING > 0.25)
    power = power - np.where(halo, np.maximum(0.0, mean**2 - chance), 0.0)
    noise = float((power * number)[_BEYOND].sum() / number[_BEYOND].sum())
    return mean, power - noise


def compute_relative_diameter(trial: DiameterTrial, weight: FloatArray | None = None) -> float:
    """Return the diameter measured from the rings, in trial diameters."""
    _, power = compute_profiles(trial, weight)
    total = np.cumsum((power * _AREA)[_WITHIN])
    first = int(np.argmax(total >= SHARE * total[-1]))
    before = total[first - 1] if first else 0.0
    step = total[first] - before
    part = (SHARE * total[-1] - before) / step if step > 0 else 1.0
    return 2 * max(first - 0.5 + part, 0.5) / RINGS / BALL


def compute_contrast(trial: DiameterTrial) -> float:
    """Return the power within the diameter minus that outside, in standard errors."""
    kept = trial.kept
    inside, beyond = (
        trial.squares[kept][:, part].sum(axis=1)
        / np.maximum(trial.counts[kept][:, part].sum(axis=1), 1)
        for part in (_INSIDE, _BEYOND)
    )
    more = inside - beyond
    error = float(more.std()) / math.sqrt(len(more))
    return float(more.mean()) / error if error > 0 else 0.0


def compute_roundness(trial: DiameterTrial) -> float:
    """Return the share of the rotational average in the power within the diameter."""
    mean, power = compute_profiles(trial)
    total = float((power * _AREA)[_INSIDE].sum())
    return float((mean**2 * _AREA)[_INSIDE].sum()) / total if total > 0 else 0.0


def measure_extent(
    scales: Sequence[BoxScale],
    least_angstrom: float,
    most_angstrom: float,
    seed: int = 0,
    draws: int = DRAWS,
) -> Extent | None:
    """Find the longest diameter of the particles at the labels.

    Parameters
    ----------
    scales
        Boxes around labels, from `cut_scales`.
    least_angstrom, most_angstrom
        Range of trial diameters.
    seed
        Seed of the draws for the uncertainty.
    draws
        Number of draws; with 0 the uncertainty is that of the shape alone.

    Returns
    -------
    Extent or None
        None if no trial diameter is confirmed: there is nothing at the labels, or its diameter is
        outside the range.
    """
    number = max(2, math.ceil(math.log(most_angstrom / least_angstrom) / math.log(STEP)) + 1)
    wanted = np.geomspace(least_angstrom, most_angstrom, number)
    trials = [trial for one in wanted if (trial := try_diameter(scales, one)) is not None]
    found = _find_crossing(trials, [compute_contrast(trial) for trial in trials])
    if found is None:
        return None
    centered = try_diameter(scales, found[0], center=True)
    is_round = centered is not None and compute_roundness(centered) > ROUND
    near = [
        t.diameter_angstrom for t in trials if abs(math.log(t.diameter_angstrom / found[0])) < 1
    ]
    if is_round:
        moved = [t for one in near if (t := try_diameter(scales, one, center=True)) is not None]
        again = _find_crossing(moved, [compute_contrast(trial) for trial in moved])
        is_round = again is not None
        found, trials = again or found, moved if again else trials
    trials = [trial for trial in trials if trial.diameter_angstrom in near]
    contrasts = [compute_contrast(trial) for trial in trials]
    random = np.random.default_rng(seed)
    n = len(trials[0].kept)
    drawn: list[float] = []
    for _ in range(draws):
        weight = random.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
        one = _find_crossing(trials, contrasts, weight)
        drawn.append(math.log(one[0]) if one else math.nan)
    known = [value for value in drawn if value == value]
    low, high = np.quantile(known, [0.16, 0.84]) if known else (0.0, 0.0)
    # Draws that confirm no diameter show that it is less certain than the others suggest.
    chance = float(high - low) / 2 * math.sqrt(draws / max(len(known), 1))
    factor = math.exp(1.96 * math.hypot(chance, SHAPE_SPREAD))
    diameter, stands_out = found
    nearest = min(trials, key=lambda t: abs(math.log(t.diameter_angstrom / diameter)))
    labels = int(nearest.kept.sum())
    return Extent(diameter, diameter / factor, diameter * factor, stands_out, labels, is_round)


def _find_crossing(
    trials: Sequence[DiameterTrial], contrasts: Sequence[float], weight: FloatArray | None = None
) -> tuple[float, float] | None:
    """Return the diameter that its trial confirms, with the highest contrast, and the contrast."""
    relative = [math.log(compute_relative_diameter(trial, weight)) for trial in trials]
    found: list[tuple[float, float]] = []
    for i in range(len(trials) - 1):
        if relative[i] >= 0 > relative[i + 1]:
            part = relative[i] / (relative[i] - relative[i + 1])
            low, high = (trials[j].diameter_angstrom for j in (i, i + 1))
            diameter = low * (high / low) ** part
            found.append((diameter, (1 - part) * contrasts[i] + part * contrasts[i + 1]))
    return max(found, key=lambda one: one[1], default=None)
