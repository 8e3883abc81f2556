"""What looks like filaments and is none: cracks, straight edges, lattice lines, scratches.

Each function changes one field: images of shape (h, w) in place. Lengths are in working pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from heliodor.conventions import FloatArray, Image


@dataclass
class FieldScenery:
    """Views of one field of a `SceneryBatch`, shape (h, w) each."""

    potential: Image
    transmission: Image
    grain: Image
    blocked: NDArray[np.bool_]


def add_straight_film(rng: np.random.Generator, field: FieldScenery, width_px: float) -> None:
    """Add film with straight edges: a half plane, or a wide strip."""
    side = len(field.potential)
    angle = rng.uniform(0.0, math.pi)
    axis = np.arange(side) - 0.5 * side
    across = math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]
    across = across - rng.uniform(-0.4, 0.4) * side
    if rng.random() < 0.4:
        across = 0.5 * rng.uniform(3.0, 8.0) * width_px - np.abs(across)
    edge = rng.uniform(0.3, 2.5)
    film = 1.0 / (1.0 + np.exp(-np.clip(across / edge, -30.0, 30.0)))
    if rng.random() < 0.4:
        # The edge curls up, and is darker.
        film = film * (1.0 + rng.uniform(0.3, 1.5) * np.exp(-0.5 * (across / edge - 1.0) ** 2))
    field.potential += (rng.uniform(0.1, 0.5) * film).astype(np.float32)
    field.transmission *= (1.0 - rng.uniform(0.01, 0.1) * film).astype(np.float32)
    field.grain *= (1.0 + rng.uniform(1.0, 4.0) * film).astype(np.float32)
    field.blocked |= across > -1.0


def add_crack(rng: np.random.Generator, field: FieldScenery, width_px: float) -> None:
    """Add a crack in the ice or a fold of the film: a bright or dark line with kinks."""
    side = len(field.potential)
    bright = rng.random() < 0.6
    width = rng.choice([rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.2), rng.uniform(2.0, 4.0)])
    width = width * width_px
    straight = bright or width < 0.4 * width_px or width > 2.0 * width_px
    kink = rng.uniform(0.05, 0.5) if straight and rng.random() < 0.5 else rng.uniform(0.5, 1.2)
    steps = rng.uniform(0.8, 3.0, 60) * width_px
    heading = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(
        kink * rng.choice([-1.0, 1.0], 60) * rng.uniform(0.4, 1.2, 60)
        if kink > 0.5 else rng.normal(scale=kink, size=60)
    )  # fmt: skip
    way = np.column_stack([np.cos(heading), np.sin(heading)]) * steps[:, None]
    corners = np.cumsum(way, axis=0)
    corners += rng.uniform(0.1, 0.9, 2) * side - corners[30]
    arc = np.concatenate([[0.0], np.cumsum(steps[1:])])
    along = np.arange(0.0, arc[-1], 0.5)
    line = np.column_stack([np.interp(along, arc, own) for own in corners.T])
    last = rng.uniform(0.3, 1.0)
    line = line[: int(last * len(line))]
    cells = np.rint(line).astype(int)
    inside = np.all((cells >= 0) & (cells < side), axis=1)
    if not inside.any():
        return
    thick = np.zeros((side, side), np.float32)
    uneven = np.exp(0.4 * rng.standard_normal(8))
    level = np.interp(np.arange(len(line)), np.linspace(0, len(line), 8), uneven)
    np.maximum.at(thick, (cells[inside, 1], cells[inside, 0]), level[inside].astype(np.float32))
    thick = gaussian_filter(thick, max(0.6, 0.25 * width))
    thick /= thick.max()
    field.potential += np.float32((-1.0 if bright else 1.0) * rng.uniform(0.05, 0.5)) * thick
    field.transmission *= np.exp(
        np.float32((1.0 if bright else -1.0) * rng.uniform(0.0, 0.1)) * thick
    )
    field.blocked |= thick > 0.4


def add_lattice(rng: np.random.Generator, field: FieldScenery, width_px: float) -> None:
    """Add a patch with the stripes of a crystal, in one direction or several."""
    side = len(field.potential)
    axis = np.arange(side, dtype=np.float64)
    x, y = axis[None], axis[:, None]
    ways = int(rng.choice([1, 2, 3]))
    most = 0.6 if ways == 1 else 1.3
    period = width_px * rng.uniform(0.2, most)
    turn = rng.uniform(0.0, math.pi)
    waves = np.zeros((side, side))
    for way in range(ways):
        angle = turn + way * math.pi / ways
        phase = rng.uniform(0.0, 6.3)
        waves += np.cos(2.0 * math.pi / period * (math.cos(angle) * x + math.sin(angle) * y)
                        + phase)  # fmt: skip
    bumps = gaussian_filter(rng.standard_normal((side // 8, side // 8)), 2.5)
    patch = _enlarge(bumps / bumps.std(), side) + rng.uniform(-1.5, 0.3)
    patch = 1.0 / (1.0 + np.exp(-4.0 * np.clip(patch, -5.0, 5.0)))
    field.potential += (rng.uniform(0.02, 0.2) / ways * patch * waves).astype(np.float32)
    field.potential += (rng.uniform(0.0, 0.2) * patch).astype(np.float32)
    field.blocked |= patch > 0.5


def add_scratches(rng: np.random.Generator, image: Image) -> None:
    """Add faulty rows and columns of a detector to an image of mean 0 and deviation 1."""
    side = len(image)
    for _ in range(int(rng.integers(1, 4))):
        place, wide = int(rng.integers(side)), int(rng.integers(1, 3))
        strip = (slice(place, place + wide), slice(None))
        level = rng.normal(scale=1.5)
        view = image if rng.random() < 0.5 else image.T
        view[strip] += level


def _enlarge(coarse: FloatArray, side: int) -> FloatArray:
    """Return an image enlarged by linear interpolation along both sides."""
    to = np.linspace(0.0, len(coarse) - 1.0, side)
    wide = np.stack([np.interp(to, np.arange(len(row)), row) for row in coarse])
    return np.stack([np.interp(to, np.arange(len(wide)), own) for own in wide.T], axis=1)


def draw_kinds(rng: np.random.Generator) -> tuple[Any, ...]:
    """Draw which of these functions act on the potential of a field."""
    kinds = ((add_straight_film, 0.06), (add_crack, 0.09), (add_lattice, 0.06))
    return tuple(add for add, share in kinds if rng.random() < share)
