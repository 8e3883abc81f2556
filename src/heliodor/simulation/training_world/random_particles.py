"""Random synthetic particles, on which the general model is trained.

Each is determined by its number: an architecture of `particle_plans`, filled with blobs of
constant density. None is a deposited structure, and none is one of `PARTICLES`.
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

#: Range of the diameters, angstrom.
DIAMETERS = (60.0, 400.0)
#: Maximum number of blobs per particle.
MOST_BLOBS = 640
#: Minimum number of blobs per asymmetric unit.
FEWEST_BLOBS = 6
#: Blobs per strand.
BLOBS_PER_STRAND = 4
#: Contrast of a particle (see `Particle.contrast`) per angstrom of its diameter.
CONTRAST_PER_ANGSTROM = 2.0e-4


def draw_particle(number: int, diameter_angstrom: float | None = None) -> Particle:
    """Draw a random particle.

    Parameters
    ----------
    number
        Number of the particle, 0 or more; it is the same on every machine.
    diameter_angstrom
        Longest dimension; None draws it log-uniformly from `DIAMETERS`.

    Raises
    ------
    BadInput
        If the number is negative, or the diameter is not between 20 and 2000 A.
    """
    if number < 0:
        raise BadInput(f"the number of a drawn particle must be 0 or more, not {number}")
    rng = np.random.default_rng(np.random.SeedSequence(number, spawn_key=(7,)))
    drawn = float(math.exp(rng.uniform(*np.log(DIAMETERS))))
    diameter = drawn if diameter_angstrom is None else diameter_angstrom
    if not 20.0 <= diameter <= 2000.0:
        raise BadInput(f"the diameter must be between 20 and 2000 Å, not {diameter:g}")
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
        f"a synthetic {kind}, {diameter:.0f} Å",
        diameter,
        CONTRAST_PER_ANGSTROM * diameter,
        views,
        build,
    )


def _draw_preferred_views(rng: np.random.Generator) -> tuple[PreferredView, ...]:
    """Draw one to three preferred views."""
    number = int(rng.integers(1, 4))
    tilts = np.rad2deg(np.arccos(rng.uniform(-1.0, 1.0, number)))
    shares = rng.uniform(0.2, 1.0, number)
    return tuple(
        PreferredView(float(share), float(tilt)) for share, tilt in zip(shares, tilts, strict=True)
    )


def _fill_plan(rng: np.random.Generator, kind: str, diameter: float) -> GaussianBlobs:
    """Draw a plan, fill its domains with blobs, and scale it to its diameter."""
    plan = PLANS_BY_KIND[kind][1](rng)
    copies = len(plan.operators)
    masses = np.array([domain.mass for domain in plan.domains])
    room = max(FEWEST_BLOBS, MOST_BLOBS // copies)
    counts = np.maximum(1, np.floor(room * masses / masses.sum())).astype(int)
    # From smooth to as rough as particles with helices of nucleic acid.
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
    # The width of a blob follows from its part of the domain's volume.
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
    """Return the longest dimension, as the widest extent over many directions."""
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
