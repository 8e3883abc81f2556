"""Where particles lie beside filaments: scattered, in chains, or close together in layers.

Particles in a row look like a filament and are none. Lengths are in working pixels.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from heliodor.conventions import FloatArray

#: Relative frequency of scattered particles, of chains and of layers.
SCATTERED, CHAINS, LAYERS = 0.45, 0.25, 0.3
#: Scattered particles are up to this share of a close packing, and all at most as many.
MOST_COVERED, MOST_SCATTERED, MOST_CLOSE = 0.25, 150, 400
#: Particles of a chain, chains of a field, and spread of the turns between them in radians.
CHAIN_PARTICLES, MOST_CHAINS, CHAIN_TURNS = (2, 9), 16, (0.1, 1.0)
#: Distance between neighbors in a chain or a layer over their diameter.
CLOSE_DIAMETERS = (0.8, 1.3)
#: Deviation from the lattice of a layer in its spacing, and the share of missing particles.
LAYER_DEVIATION, MOST_MISSING = (0.03, 0.3), 0.4


def draw_positions(rng: np.random.Generator, side_px: int, diameter_px: float) -> FloatArray:
    """Draw how particles lie on a field.

    Parameters
    ----------
    rng
        Source of randomness.
    side_px
        Side of the field.
    diameter_px
        Of the particles.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Centers (x, y) inside the field.
    """
    shares = np.array([SCATTERED, CHAINS, LAYERS])
    kinds = (draw_scattered, draw_chains, draw_layer)
    draw = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    xy = draw(rng, side_px, diameter_px)
    return xy[np.all((xy >= 0.0) & (xy < side_px), axis=1)]


def draw_scattered(rng: np.random.Generator, side_px: int, diameter_px: float) -> FloatArray:
    """Draw positions that do not depend on each other."""
    most = MOST_COVERED * _count_close_packed(side_px, diameter_px)
    count = math.ceil(math.exp(rng.uniform(0.0, math.log(max(2.0, most)))))
    return rng.uniform(0.0, side_px, (min(MOST_SCATTERED, count), 2))


def draw_chains(rng: np.random.Generator, side_px: int, diameter_px: float) -> FloatArray:
    """Draw short chains of particles that touch or nearly so, with a kink at each."""
    spread = rng.uniform(*CHAIN_TURNS)
    spacing = diameter_px * rng.uniform(*CLOSE_DIAMETERS)
    chains = []
    for _ in range(int(rng.integers(1, MOST_CHAINS + 1))):
        count = int(rng.integers(CHAIN_PARTICLES[0], CHAIN_PARTICLES[1] + 1))
        heading = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(rng.normal(scale=spread, size=count))
        steps = spacing * np.column_stack([np.cos(heading), np.sin(heading)])
        chains.append(rng.uniform(0.0, side_px, 2) + np.cumsum(steps, axis=0))
    return np.concatenate(chains)[:MOST_CLOSE]


def draw_layer(rng: np.random.Generator, side_px: int, diameter_px: float) -> FloatArray:
    """Draw one layer of particles side by side, regular or not, on a part of the field or all."""
    spacing = diameter_px * rng.uniform(*CLOSE_DIAMETERS)
    count = math.ceil(side_px / spacing) + 2
    rows, columns = np.mgrid[-count : count + 1, -count : count + 1]
    lattice = spacing * np.stack(
        [columns + 0.5 * (rows % 2), rows * math.sqrt(0.75)], axis=-1
    ).reshape(-1, 2)
    angle = rng.uniform(0.0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    xy = lattice @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(0.0, side_px, 2)
    xy = xy + spacing * rng.uniform(*LAYER_DEVIATION) * rng.standard_normal(xy.shape)
    xy = xy[np.all((xy >= 0.0) & (xy < side_px), axis=1)]
    # The densest parts of a smooth random field are covered, so that layers have edges.
    smooth = gaussian_filter(rng.standard_normal((48, 48)), rng.uniform(3.0, 10.0), mode="wrap")
    level = map_coordinates(smooth, (xy[:, ::-1] * 47.0 / side_px).T, order=1)
    share = rng.uniform(0.15, 1.3)
    kept = int(min(share, 1.0) * min(len(xy), MOST_CLOSE))
    xy = xy[np.argsort(-level, kind="stable")[:kept]]
    return np.asarray(xy[rng.random(len(xy)) >= rng.uniform(0.0, MOST_MISSING)])


def _count_close_packed(side_px: int, diameter_px: float) -> float:
    return side_px**2 / (math.sqrt(0.75) * diameter_px**2)
