"""The extent of particles: their longest diameter, from the power around labels.

The power of the band-passed picture around labels, less that of the noise, says how far particles
reach in any orientation: squares do not cancel as the pixels of elongated particles do in an
average. The radius that holds nine tenths of it is compared with that of a solid ball.

A filter must fit the particle, and the particle is not known: so each of many diameters is tried,
with everything in proportion to it, and the one that gives itself is the answer.
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

#: The radius looked for holds this share of the power above the noise.
SHARE = 0.9
#: Twice that radius, in diameters, for a solid ball whose diameter is tried: what makes a radius
#: a diameter. A flat disc gives 11 % more and a thin rod in random orientations 12 % less, and
#: shapes between them lie between.
BALL = 0.848
#: How far shapes lie apart, as a standard deviation of the logarithm; see `BALL`.
SHAPE_SPREAD = 0.1
#: Power is summed out to this distance in diameters; from there to one diameter is noise, and
#: neighbours, which touch at half a diameter, have not yet much share in it.
REACH = 0.75
#: Successive diameters tried differ by this factor.
STEP = 2.0**0.25
#: Labels around which there is far more power than usual are left out: ice, carbon, gold. In
#: usual deviations.
STRANGE = 4.0
#: More power than usual by this share of what is at the particles is never left out.
SLIGHT = 0.1
#: A particle is round where this share of its power is in the rotational average.
ROUND = 0.5
#: Draws of labels for the uncertainty.
DRAWS = 100

_RING = np.arange(RINGS) / RINGS
_INSIDE, _WITHIN, _BEYOND = _RING < 0.5, _RING <= REACH, _RING >= REACH
#: Pixels of a ring that is seen all round, in ring widths squared.
_AREA = np.where(_RING > 0, 2 * math.pi * _RING * RINGS, math.pi / 4)
#: A label's noise is known where it sees this share of the rings outside, and a diameter can be
#: tried where half of the labels do.
_SEEN = 0.3


@dataclass(frozen=True)
class DiameterTrial:
    """The rings around all labels for one diameter that is tried."""

    diameter_angstrom: float
    #: Sums of squares and of pixels, and counts of pixels, shape (n, RINGS).
    squares: FloatArray
    pixels: FloatArray
    counts: FloatArray
    #: Which labels are used, shape (n,).
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class Extent:
    """The longest diameter of labelled particles, in angstrom."""

    diameter_angstrom: float
    #: In some 95 of 100 cases the particle's longest diameter lies between these: chance, from
    #: draws of labels, and what shapes may differ.
    low_angstrom: float
    high_angstrom: float
    #: How far the power around the labels stands out of the noise, in standard errors.
    contrast: float
    #: Labels used: those with their surroundings on the micrograph, away from ice and edges.
    labels: int
    #: Whether the particles look the same from all sides, so that labels could be centred.
    round: bool


def try_diameter(
    scales: Sequence[BoxScale], diameter_angstrom: float, centre: bool = False
) -> DiameterTrial | None:
    """Measure the rings for one diameter; None where too few labels have room for it.

    Parameters
    ----------
    scales
        The boxes.
    diameter_angstrom
        What is tried.
    centre
        Whether the boxes are moved onto their rotational average first.
    """
    scale = choose_scale(scales, diameter_angstrom)
    across = diameter_angstrom / scale.pixel_size_angstrom
    boxes, room = bandpass_boxes(scale, diameter_angstrom), scale.room
    if centre:
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
    # Without noise the least bit is many deviations: a bit is not what is strange.
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
        How often each label counts, shape (n,); by default once.

    Returns
    -------
    mean, power
        Shape (RINGS,). Where the mean is of the other sign than the particle it is the halo of
        the contrast transfer and of the filter, and its power is not the particle's.
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
    """Return the diameter that the rings show, as a multiple of the one tried."""
    _, power = compute_profiles(trial, weight)
    total = np.cumsum((power * _AREA)[_WITHIN])
    first = int(np.argmax(total >= SHARE * total[-1]))
    before = total[first - 1] if first else 0.0
    step = total[first] - before
    part = (SHARE * total[-1] - before) / step if step > 0 else 1.0
    return 2 * max(first - 0.5 + part, 0.5) / RINGS / BALL


def compute_contrast(trial: DiameterTrial) -> float:
    """Return how far the power within the diameter stands out of that outside."""
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
    """Return the share of the power within the diameter that is in the rotational average."""
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
    """Find the longest diameter of what is at the labels.

    Parameters
    ----------
    scales
        Boxes around labels, from `cut_scales`.
    least_angstrom, most_angstrom
        Diameters to look among.
    seed
        Of the draws for the uncertainty.
    draws
        How many; with 0 the uncertainty is that of the shape alone.

    Returns
    -------
    Extent or None
        None where no diameter gives itself: there is nothing at the labels, or it is larger or
        smaller than that.
    """
    number = max(2, math.ceil(math.log(most_angstrom / least_angstrom) / math.log(STEP)) + 1)
    wanted = np.geomspace(least_angstrom, most_angstrom, number)
    trials = [trial for one in wanted if (trial := try_diameter(scales, one)) is not None]
    found = _find_crossing(trials, [compute_contrast(trial) for trial in trials])
    if found is None:
        return None
    centred = try_diameter(scales, found[0], centre=True)
    is_round = centred is not None and compute_roundness(centred) > ROUND
    near = [
        t.diameter_angstrom for t in trials if abs(math.log(t.diameter_angstrom / found[0])) < 1
    ]
    if is_round:
        moved = [t for one in near if (t := try_diameter(scales, one, centre=True)) is not None]
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
    # Draws in which no diameter gives itself say that it is less certain than the others tell.
    chance = float(high - low) / 2 * math.sqrt(draws / max(len(known), 1))
    factor = math.exp(1.96 * math.hypot(chance, SHAPE_SPREAD))
    diameter, stands_out = found
    nearest = min(trials, key=lambda t: abs(math.log(t.diameter_angstrom / diameter)))
    labels = int(nearest.kept.sum())
    return Extent(diameter, diameter / factor, diameter * factor, stands_out, labels, is_round)


def _find_crossing(
    trials: Sequence[DiameterTrial], contrasts: Sequence[float], weight: FloatArray | None = None
) -> tuple[float, float] | None:
    """Return the diameter that gives itself, and its contrast; of several, the plainest."""
    relative = [math.log(compute_relative_diameter(trial, weight)) for trial in trials]
    found: list[tuple[float, float]] = []
    for i in range(len(trials) - 1):
        if relative[i] >= 0 > relative[i + 1]:
            part = relative[i] / (relative[i] - relative[i + 1])
            low, high = (trials[j].diameter_angstrom for j in (i, i + 1))
            diameter = low * (high / low) ** part
            found.append((diameter, (1 - part) * contrasts[i] + part * contrasts[i + 1]))
    return max(found, key=lambda one: one[1], default=None)
