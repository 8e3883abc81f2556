"""Contaminants of a micrograph: carbon, ice crystals, gold, aggregates and broken particles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from heliodor.simulation.builtin_particles import GaussianBlobs, Particle
from heliodor.simulation.projection import add_projection, draw_orientations

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image
    from heliodor.simulation.scene import (
        Field,
        Mask,
        Scenery,
    )

#: Expected number in a field of 4096 x 4096 A at level 1.
PER_FIELD = {"crystals": 1.3, "clumps": 1.2, "gold": 0.35, "fragments": 14.0}
REFERENCE_AREA = 4096.0**2

#: Fraction of the micrographs with a carbon edge at level 1.
CARBON_SHARE = 0.25


def draw_count(rng: np.random.Generator, what: str, field: Field, level: float) -> int:
    """Draw the number of contaminants of one kind in a field."""
    return int(rng.poisson(PER_FIELD[what] * level * field.area / REFERENCE_AREA))


def add_carbon(rng: np.random.Generator, field: Field, scenery: Scenery) -> None:
    """Cover part of a field with the carbon film around a hole.

    The film is thick, grainy and darker; the bright and dark fringes along its edge come from
    the contrast transfer of the step.
    """
    pixel = field.pixel_size_angstrom
    height, width = (side * pixel for side in field.inner)
    radius = rng.uniform(6000.0, 10000.0)
    towards = rng.uniform(0.0, 2.0 * math.pi)
    # Distance of the edge from the center of the micrograph.
    reach = rng.uniform(0.45, 0.85) * 0.5 * min(height, width)
    margin = field.margin_px * pixel
    center_x = margin + 0.5 * width + (reach - radius) * math.cos(towards)
    center_y = margin + 0.5 * height + (reach - radius) * math.sin(towards)
    x = (np.arange(field.shape[1], dtype=np.float32) * np.float32(pixel) - np.float32(center_x))[
        None, :
    ]
    y = (np.arange(field.shape[0], dtype=np.float32) * np.float32(pixel) - np.float32(center_y))[
        :, None
    ]
    outside = np.hypot(x, y) - np.float32(radius)
    along = x * np.float32(-math.sin(towards)) + y * np.float32(math.cos(towards))
    for wave in (900.0, 410.0, 170.0, 75.0):
        turn = np.float32(2.0 * math.pi / (wave * rng.uniform(0.8, 1.25)))
        height_of_wave = np.float32(0.035 * wave * rng.uniform(0.3, 1.0))
        outside += height_of_wave * np.sin(along * turn + np.float32(rng.uniform(0.0, 6.28)))
    film = 0.5 * (1.0 + np.tanh(outside / np.float32(8.0)))
    scenery.potential += np.float32(rng.uniform(0.25, 0.5)) * film
    scenery.transmission *= 1.0 - np.float32(rng.uniform(0.02, 0.08)) * film
    scenery.grain *= 1.0 + np.float32(rng.uniform(2.0, 4.0)) * film
    scenery.blocked |= outside > -20.0


def cover_with_carbon(rng: np.random.Generator, scenery: Scenery) -> None:
    """Cover the whole field with carbon film."""
    scenery.potential += np.float32(rng.uniform(0.25, 0.5))
    scenery.transmission *= np.float32(1.0 - rng.uniform(0.02, 0.08))
    scenery.grain *= np.float32(1.0 + rng.uniform(2.0, 4.0))
    scenery.blocked[:] = True


def add_ice_crystal(rng: np.random.Generator, field: Field, scenery: Scenery) -> None:
    """Add crystalline ice: one to four dark lumps, some shaped like hexagonal crystals."""
    middle = _draw_position(rng, field)
    size = float(rng.lognormal(math.log(190.0), 0.45))
    for _ in range(rng.integers(1, 5)):
        radius = size * rng.uniform(0.5, 1.0)
        spot = middle + rng.normal(scale=size * 0.8, size=2) / field.pixel_size_angstrom
        stretch, turn = rng.uniform(0.65, 1.0), rng.uniform(0.0, math.pi)
        dark, step = rng.uniform(0.12, 0.45), rng.uniform(0.2, 0.6)
        edge_share = rng.uniform(0.08, 0.3)
        faceted = rng.random() < 0.5
        faces = turn + np.arange(6) * math.pi / 3.0 + rng.normal(scale=0.06, size=6)
        far = rng.uniform(0.75, 1.05, 6)
        bumps = rng.normal(scale=0.06, size=4)
        phases = rng.uniform(0.0, 2.0 * math.pi, 4)
        texture = rng.normal(scale=0.5, size=(9, 9))
        window = _window(field, spot, 1.6 * radius)
        if window is None:
            continue
        region, x, y = window
        along = x * math.cos(turn) + y * math.sin(turn)
        across = (y * math.cos(turn) - x * math.sin(turn)) / stretch
        if faceted:
            scaled = np.max(
                [
                    (along * math.cos(face - turn) + across * math.sin(face - turn)) / edge
                    for face, edge in zip(faces, far, strict=True)
                ],
                axis=0,
            )
        else:
            angle = np.arctan2(across, along)
            shape = 1.0 + sum(
                bump * np.cos(order * angle + phase)
                for order, bump, phase in zip(range(2, 6), bumps, phases, strict=True)
            )
            scaled = np.hypot(along, across) / shape
        depth = (radius - scaled) / (edge_share * radius)
        thick = np.clip(depth, 0.0, 1.0) * (
            1.0 + 0.4 * _interpolate_texture(texture, x, y, radius)
        )
        _add_material(scenery, region, thick, step, dark, scaled < radius)


def add_gold(rng: np.random.Generator, field: Field, scenery: Scenery) -> None:
    """Add a few gold beads of about 100 A: almost opaque spheres."""
    middle = _draw_position(rng, field)
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(44.0, 56.0)
        spot = middle + rng.normal(scale=160.0, size=2) / field.pixel_size_angstrom
        window = _window(field, spot, radius + 2.0 * field.pixel_size_angstrom)
        if window is None:
            continue
        region, x, y = window
        inside = np.clip(1.0 - (x**2 + y**2) / radius**2, 0.0, None)
        _add_material(scenery, region, np.sqrt(inside), 0.9, 1.6, inside > 0.0)


def add_clump(
    rng: np.random.Generator, field: Field, scenery: Scenery, particle: Particle, scale: float
) -> None:
    """Add an aggregate: several overlapping particles, which are not part of the truth."""
    diameter = particle.diameter_angstrom / field.pixel_size_angstrom
    middle = _draw_position(rng, field)
    count = int(rng.integers(4, 11))
    angles = draw_orientations(rng, count, particle, preferred=False)
    # A chain of neighbors that overlap.
    spots = [middle]
    for _ in range(1, count):
        turn = rng.uniform(0.0, 2.0 * math.pi)
        away = np.array([math.cos(turn), math.sin(turn)]) * rng.uniform(0.25, 0.6) * diameter
        spots.append(spots[int(rng.integers(len(spots)))] + away)
    for spot, angle in zip(spots, angles, strict=True):
        add_projection(
            scenery.potential, particle.blobs, angle, spot, field.pixel_size_angstrom, scale
        )
        window = _window(field, spot, 0.5 * particle.diameter_angstrom)
        if window is not None:
            region, x, y = window
            scenery.blocked[region] |= np.hypot(x, y) < 0.5 * particle.diameter_angstrom


def add_fragments(
    rng: np.random.Generator,
    field: Field,
    scenery: Scenery,
    particle: Particle,
    scale: float,
    taken_px: FloatArray,
    count: int,
) -> None:
    """Add pieces of denatured particles between the particles at `taken_px`, (x, y) of the field.

    A piece consists of the blobs of a random part of the particle, randomly displaced.
    """
    gap = 0.75 * particle.diameter_angstrom / field.pixel_size_angstrom
    blobs = particle.blobs
    for _ in range(count):
        spot = _draw_position(rng, field)
        angle = draw_orientations(rng, 1, particle, preferred=False)[0]
        seed = blobs.positions[rng.integers(len(blobs))]
        share = rng.uniform(0.10, 0.30)
        shaken = rng.normal(scale=5.0, size=blobs.positions.shape)
        if len(taken_px) and np.min(np.hypot(*(taken_px - spot).T)) < gap:
            continue
        if scenery.blocked[int(spot[1]), int(spot[0])]:
            continue
        near = np.linalg.norm(blobs.positions - seed, axis=1)
        kept = near <= np.quantile(near, share)
        places = (blobs.positions + shaken)[kept]
        piece = GaussianBlobs(
            places - places.mean(axis=0), blobs.sigmas[kept], blobs.weights[kept]
        )
        add_projection(scenery.potential, piece, angle, spot, field.pixel_size_angstrom, scale)


def _draw_position(rng: np.random.Generator, field: Field) -> FloatArray:
    return np.asarray(rng.uniform((0.0, 0.0), (field.shape[1] - 1.0, field.shape[0] - 1.0)))


def _window(
    field: Field, spot_px: FloatArray, reach_angstrom: float
) -> tuple[tuple[slice, slice], FloatArray, FloatArray] | None:
    """Return the square around a position, and its x and y in angstrom from that position."""
    reach = math.ceil(reach_angstrom / field.pixel_size_angstrom)
    left, top = (max(0, math.floor(value) - reach) for value in spot_px)
    right = min(field.shape[1], math.ceil(spot_px[0]) + reach + 1)
    bottom = min(field.shape[0], math.ceil(spot_px[1]) + reach + 1)
    if right <= left or bottom <= top:
        return None
    x = (np.arange(left, right) - spot_px[0])[None, :] * field.pixel_size_angstrom
    y = (np.arange(top, bottom) - spot_px[1])[:, None] * field.pixel_size_angstrom
    return (slice(top, bottom), slice(left, right)), x, y


def _interpolate_texture(
    nodes: FloatArray, x: FloatArray, y: FloatArray, radius: float
) -> FloatArray:
    """Interpolate random nodes bilinearly over a square of half-width 1.6 `radius`."""
    last = len(nodes) - 1
    column, row = (np.clip((v / (3.2 * radius) + 0.5) * last, 0, last - 1e-6) for v in (x, y))
    j, i = column.astype(int), row.astype(int)
    u, v = column - j, row - i
    upper = nodes[i, j] * (1 - u) + nodes[i, j + 1] * u
    lower = nodes[i + 1, j] * (1 - u) + nodes[i + 1, j + 1] * u
    return np.asarray(upper * (1 - v) + lower * v)


def _add_material(
    scenery: Scenery,
    region: tuple[slice, slice],
    thickness: FloatArray,
    potential: float,
    absorption: float,
    blocked: Mask,
) -> None:
    thin: Image = thickness.astype(np.float32)
    scenery.potential[region] += np.float32(potential) * thin
    scenery.transmission[region] *= np.exp(np.float32(-absorption) * thin)
    scenery.blocked[region] |= blocked
