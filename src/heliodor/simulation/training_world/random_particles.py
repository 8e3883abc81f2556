"""A family of invented particles without end: what a general model learns from.

Each is drawn from its number alone: a plan of `plans`, filled with blobs of constant density. None
is a deposited structure, and none is one of `PARTICLES`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from heliodor.errors import BadInput
from heliodor.simulation.builtin_particles import (
    GaussianBlobs,
    Particle,
    PreferredView,
)
from heliodor.simulation.training_world.particle_plans import DETERGENT, PLANS_BY_KIND

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray

#: Diameters of the family, angstrom.
DIAMETERS = (60.0, 400.0)
#: Blobs of one particle at most.
MOST_BLOBS = 640
#: Least blobs of an asymmetric unit.
FEWEST_BLOBS = 6
#: Blobs of a strand.
BLOBS_PER_STRAND = 4
#: Relative change of intensity inside a particle's disc, per angstrom of its diameter.
CONTRAST_PER_ANGSTROM = 2.0e-4


def draw_particle(number: int, diameter_angstrom: float | None = None) -> Particle:
    """Draw a particle of the family.

    Parameters
    ----------
    number
        Which one, 0 or more; the same on every machine.
    diameter_angstrom
        Its longest dimension; None draws it, evenly in its logarithm, from `DIAMETERS`.

    Raises
    ------
    BadInput
        If the number is negative, or the diameter not within 20 and 2000 A.
    """
    if number < 0:
        raise BadInput(f"The number of a drawn particle must be 0 or more, not {number}.")
    rng = np.random.default_rng(np.random.SeedSequence(number, spawn_key=(7,)))
    drawn = float(math.exp(rng.uniform(*np.log(DIAMETERS))))
    diameter = drawn if diameter_angstrom is None else diameter_angstrom
    if not 20.0 <= diameter <= 2000.0:
        raise BadInput(f"A particle's diameter must be within 20 and 2000 A, not {diameter:g}.")
    names, shares = zip(
        *((name, share) for name, (share, _) in PLANS_BY_KIND.items()), strict=True
    )
    kind = str(rng.choice(names, p=np.array(shares) / sum(shares)))
    seed = int(rng.integers(2**62))
    views = _draw_preferred_views(rng)

    @cache
    def build() -> GaussianBlobs:
        return _fill_plan(np.random.default_rng(seed), kind, diameter)

    return Particle(
        f"drawn-{number}",
        f"an invented {kind}, {diameter:.0f} A",
        diameter,
        CONTRAST_PER_ANGSTROM * diameter,
        views,
        build,
    )


def _draw_preferred_views(rng: np.random.Generator) -> tuple[PreferredView, ...]:
    """Draw one to three preferred ways of lying."""
    number = int(rng.integers(1, 4))
    tilts = np.rad2deg(np.arccos(rng.uniform(-1.0, 1.0, number)))
    shares = rng.uniform(0.2, 1.0, number)
    return tuple(
        PreferredView(float(share), float(tilt)) for share, tilt in zip(shares, tilts, strict=True)
    )


def _fill_plan(rng: np.random.Generator, kind: str, diameter: float) -> GaussianBlobs:
    """Fill the domains of a plan with blobs, and bring it to its size."""
    plan = PLANS_BY_KIND[kind][1](rng)
    copies = len(plan.operators)
    masses = np.array([domain.mass for domain in plan.domains])
    room = max(FEWEST_BLOBS, MOST_BLOBS // copies)
    counts = np.maximum(1, np.floor(room * masses / masses.sum())).astype(int)
    # From smooth to as rough as helices of nucleic acid and the gaps between them make a particle.
    lumpy, narrow = rng.uniform(0.1, 1.0), rng.uniform(0.24, 0.56)
    strands = rng.random() < 0.4
    parts, weights = [], []
    for domain, count in zip(plan.domains, counts, strict=True):
        rough = domain.density > DETERGENT
        length = BLOBS_PER_STRAND if strands and rough else 1
        seeds = _draw_in_ball(rng, -(-count // length)) * domain.semi
        along = rng.normal(size=(len(seeds), 1, 3))
        along /= np.linalg.norm(along, axis=2, keepdims=True)
        step = 0.6 * (domain.mass / domain.density / count) ** (1.0 / 3.0)
        beads = step * (np.arange(length) - 0.5 * (length - 1))[:, None] * along
        spread = (seeds[:, None] + beads).reshape(-1, 3)[:count]
        parts.append(spread @ domain.rotation.T + domain.center)
        share = np.exp(rng.normal(0.0, lumpy * rough, len(seeds))).repeat(length)[:count]
        weights.append(domain.mass * share / share.sum())
    positions, weight = np.concatenate(parts), np.concatenate(weights)
    positions = np.einsum("mij,nj->mni", plan.operators, positions).reshape(-1, 3)
    weight = np.tile(weight, copies)
    # Their width follows from the share of a domain's volume that each fills.
    volumes = [
        domain.mass / domain.density / n for domain, n in zip(plan.domains, counts, strict=True)
    ]
    sigma = narrow * np.cbrt(np.tile(np.repeat(volumes, counts), copies))
    positions -= (weight[:, None] * positions).sum(axis=0) / weight.sum()
    scale = diameter / _longest_dimension(positions, sigma)
    for array in (positions := positions * scale, sigma := sigma * scale):
        array.setflags(write=False)
    weight = weight * scale**3
    weight.setflags(write=False)
    return GaussianBlobs(positions, sigma, weight)


def _longest_dimension(positions: FloatArray, sigma: FloatArray) -> float:
    """Return the longest dimension: the widest of many directions' shadows."""
    index = np.arange(200) + 0.5
    tilt, turn = np.arccos(1.0 - index / 200), math.pi * (1.0 + math.sqrt(5.0)) * index
    ways = np.stack([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)])
    along = positions @ ways
    wide = along.max(axis=0) - along.min(axis=0)
    return float(wide.max() + 3.0 * np.median(sigma))


def _draw_in_ball(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw points in the unit ball, each the farthest from the others of a few candidates."""
    points = np.empty((count, 3))
    raw = rng.normal(size=(count, 5, 3))
    raw *= np.cbrt(rng.random((count, 5)))[..., None] / np.linalg.norm(raw, axis=2)[..., None]
    points[0] = raw[0, 0]
    for index in range(1, count):
        gaps = raw[index][:, None] - points[None, :index]
        points[index] = raw[index][np.argmax((gaps**2).sum(axis=2).min(axis=1))]
    return points
