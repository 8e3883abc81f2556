"""Positions without particles, whose images show how junk is classified.

False picks look like random positions far from all picks only if a picker picks at random. Those
of a real picker look like particles to it, and so do the candidates that it finds on micrographs
with reversed contrast, where there are no particles.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.spatial import KDTree

from heliodor.conventions import FloatArray, IndexArray
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.errors import BadInput
from heliodor.evaluation.particle_scores import REACH
from heliodor.reconstruction.micrograph_table import JudgedMicrograph
from heliodor.reconstruction.particles import RANDOM, Positions

#: Random positions per pick, and how many there are at least and at most.
PER_PICK: Final = 0.5
FEWEST, MOST = 200, 20_000
#: Their smallest distance from a pick in particle diameters; the second where there is no room.
DISTANCES: Final = (1.0, 0.6)
#: Positions that are tried for each one that is wanted.
_TRIES = 60
#: The share of them that must be found.
_ENOUGH = 0.25


def draw_random_positions(
    micrographs: list[JudgedMicrograph],
    index: IndexArray,
    xy_px: FloatArray,
    box_px: int,
    diameter_px: float,
    seed: int,
) -> Positions:
    """Draw positions that are far from all picks.

    Parameters
    ----------
    micrographs
        On which there are picks.
    index, xy_px
        The micrograph of each pick, shape (n,), and its center, shape (n, 2).
    box_px
        Their boxes are whole.
    diameter_px
        Of the particle.
    seed
        Of the draw.

    Raises
    ------
    BadInput
        If picks leave no room for them.
    """
    count = int(np.clip(PER_PICK * len(xy_px), FEWEST, MOST))
    shares = np.full(len(micrographs), count // len(micrographs))
    shares[: count % len(micrographs)] += 1
    for distance in DISTANCES:
        rng = np.random.default_rng(seed)
        found = [
            _draw(m, xy_px[index == i], int(n), box_px, distance * diameter_px, rng)
            for i, (m, n) in enumerate(zip(micrographs, shares, strict=True))
        ]
        total = sum(map(len, found))
        if total >= _ENOUGH * count:
            places = np.repeat(np.arange(len(found)), [*map(len, found)])
            nothing = np.full(total, np.nan)
            return Positions.of_kind(RANDOM, places, np.concatenate(found), nothing)
    raise BadInput(
        "the picks leave no room for positions without particles, with which they are compared;"
        " judge fewer picks, or check the diameter"
    )


def _draw(
    micrograph: JudgedMicrograph,
    picks: FloatArray,
    count: int,
    box_px: int,
    distance_px: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return at most `count` positions on a micrograph, at whole pixels, shape (n, 2)."""
    sides = np.array(micrograph.shape[::-1])
    tried = rng.integers(0, sides, size=(_TRIES * count, 2)).astype(np.float64)
    tried = tried[mask_whole_boxes(tried, micrograph.shape, box_px)]
    if len(picks) and len(tried):
        tried = tried[KDTree(picks).query(tried)[0] >= distance_px]
    return tried[:count]


def count_particles(
    picks: float, reversed_picks: float, particles_above: float, diameter: float, area: float
) -> float:
    """Return how many picks between two thresholds are particles.

    False ones are as many as with reversed contrast, where the particles with higher scores leave
    room for them; see `heliodor.evaluation.decoy_threshold`. Those between the thresholds do not
    count for that: where most picks are false, the number would support itself.

    Parameters
    ----------
    picks, reversed_picks
        Numbers of picks between the thresholds, and of those with reversed contrast.
    particles_above
        The number of particles with higher scores.
    diameter
        Of the particle.
    area
        Of the micrographs, in the square of the diameter's unit.
    """
    disc = math.pi * (REACH * diameter) ** 2 / area
    return min(max(picks - reversed_picks * math.exp(-disc * particles_above), 0.0), picks)
