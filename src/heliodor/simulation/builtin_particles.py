"""Five built-in synthetic particles, each a sum of 3-D Gaussian blobs with point-group symmetry.

None is a deposited structure: the shapes copy the overall dimensions and the symmetry of the
molecules they resemble. The blobs are drawn from a fixed seed, so a particle looks irregular at
the resolution that matters for picking and is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.simulation.symmetry import (
    cyclic,
    dihedral,
    octahedral,
    rotation_about_z,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heliodor.conventions import FloatArray


@dataclass(frozen=True)
class GaussianBlobs:
    """A density: ``sum_i weights[i] * Gaussian(r - positions[i], sigmas[i])``."""

    positions: FloatArray
    """Centers (x, y, z) in angstrom, shape (n, 3); their weighted mean is the origin."""
    sigmas: FloatArray
    """Standard deviations in angstrom, shape (n,)."""
    weights: FloatArray
    """Integrals of the blobs, arbitrary units, shape (n,)."""

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class PreferredView:
    """One preferred orientation in the ice."""

    share: float
    """Relative frequency."""
    tilt_deg: float
    """Angle between the particle's z axis and the beam."""
    rot_deg: float | None = None
    """Rotation about the particle's z axis; None leaves it free."""


@dataclass(frozen=True)
class Particle:
    """A particle that can be simulated."""

    name: str
    """Name on the command line."""
    description: str
    """One line of description."""
    diameter_angstrom: float
    """Longest dimension."""
    contrast: float
    """Standard deviation of the relative intensity inside the particle's disc."""
    views: tuple[PreferredView, ...]
    """The orientations that ``orientations="preferred"`` draws from."""
    build: Callable[[], GaussianBlobs]
    """Function that makes the density; `blobs` caches its result."""

    @property
    def blobs(self) -> GaussianBlobs:
        """Return the density, made once."""
        return _build_cached(self.build)


@lru_cache(maxsize=64)
def _build_cached(build: Callable[[], GaussianBlobs]) -> GaussianBlobs:
    return build()


def _apply_symmetry(
    positions: FloatArray, sigmas: FloatArray, weights: FloatArray, operators: FloatArray
) -> GaussianBlobs:
    """Apply the symmetry operators, shape (m, 3, 3), and move the center of mass to the origin."""
    copies = np.einsum("mij,nj->mni", operators, positions).reshape(-1, 3)
    sigmas, weights = np.tile(sigmas, len(operators)), np.tile(weights, len(operators))
    copies -= (weights[:, None] * copies).sum(axis=0) / weights.sum()
    for array in (copies, sigmas, weights):
        array.setflags(write=False)
    return GaussianBlobs(copies, sigmas, weights)


def draw_globule(
    rng: np.random.Generator, count: int, center: tuple[float, float, float], semi: FloatArray
) -> FloatArray:
    """Draw points in an ellipsoid, each the farthest from the others of a few candidates.

    This fills the domain evenly enough to hold together and leaves the grooves and lumps of a
    folded chain.
    """
    points = np.empty((count, 3))
    for index in range(count):
        raw = rng.normal(size=(6, 3))
        raw *= (rng.random(6) ** (1 / 3) / np.linalg.norm(raw, axis=1))[:, None]
        if index == 0:
            points[0] = raw[0]
            continue
        gaps = np.linalg.norm(raw[:, None] - points[None, :index], axis=2).min(axis=1)
        points[index] = raw[np.argmax(gaps)]
    return np.asarray(points * semi + np.asarray(center))


def _points_along_rod(start: FloatArray, end: FloatArray, step: float = 5.0) -> FloatArray:
    """Return points along the axis of a helix."""
    count = max(2, round(float(np.linalg.norm(end - start)) / step) + 1)
    return np.asarray(start + np.linspace(0.0, 1.0, count)[:, None] * (end - start))


def _build_barrel() -> GaussianBlobs:
    rng = np.random.default_rng(20)
    # Each half has a beta subunit next to the equator and an alpha subunit outside; a loop of
    # the alpha subunit towards the axis narrows the entrance. The rings are staggered.
    beta = draw_globule(rng, 44, (37.5, 0.0, 19.0), np.array([17.5, 15.5, 15.5]))
    alpha = draw_globule(rng, 44, (37.0, 0.0, 55.5), np.array([16.5, 15.5, 15.0]))
    loop = draw_globule(rng, 6, (19.0, 3.0, 62.0), np.array([6.0, 5.0, 4.0]))
    alpha = np.concatenate([alpha, loop]) @ rotation_about_z(np.pi / 7).T
    positions = np.concatenate([beta, alpha])
    weights = rng.uniform(0.6, 1.4, len(positions))
    return _apply_symmetry(positions, rng.uniform(3.4, 5.4, len(positions)), weights, dihedral(7))


def _build_ribosome() -> GaussianBlobs:
    rng = np.random.default_rng(70)
    domains: list[tuple[int, tuple[float, float, float], tuple[float, float, float]]] = [
        (430, (-30.0, 0.0, -8.0), (58.0, 82.0, 72.0)),  # large subunit
        (30, (-22.0, 5.0, 76.0), (20.0, 24.0, 26.0)),  # central protuberance
        (22, (-12.0, 92.0, 44.0), (14.0, 24.0, 18.0)),  # L1 stalk
        (20, (-8.0, -98.0, 22.0), (12.0, 26.0, 14.0)),  # L7/L12 stalk
        (130, (50.0, 2.0, -36.0), (34.0, 52.0, 62.0)),  # body of the small subunit
        (70, (54.0, -6.0, 58.0), (32.0, 42.0, 36.0)),  # its head
        (34, (42.0, 46.0, 6.0), (22.0, 26.0, 30.0)),  # its platform
        (16, (64.0, -8.0, -106.0), (12.0, 14.0, 16.0)),  # its spur
    ]
    parts, strengths, widths = [], [], []
    for count, center, semi in domains:
        seeds = draw_globule(rng, count, center, np.array(semi))
        # A smooth background of protein connects the lumps.
        loose = draw_globule(rng, max(4, count // 4), center, 0.8 * np.array(semi))
        parts.append(loose)
        strengths.append(np.full(len(loose), 4.0))
        widths.append(np.full(len(loose), 11.0))
        # Nucleic acid: dense rods in a random direction through about half of the seeds.
        for seed in seeds:
            if rng.random() < 0.45:
                axis = rng.normal(size=3)
                half = axis / np.linalg.norm(axis) * rng.uniform(6.0, 14.0)
                rod = _points_along_rod(seed - half, seed + half, step=6.5)
                parts.append(rod)
                strengths.append(np.full(len(rod), rng.uniform(1.0, 1.7)))
                widths.append(np.full(len(rod), rng.uniform(4.5, 6.5)))
            else:
                parts.append(seed[None])
                strengths.append(np.array([rng.uniform(0.5, 1.1)]))
                widths.append(np.array([rng.uniform(4.0, 6.0)]))
    positions, weights, sigmas = (np.concatenate(each) for each in (parts, strengths, widths))
    # The gap between the subunits, where the transfer RNAs pass.
    kept = np.abs(positions[:, 0] - 20.0 - 0.05 * positions[:, 2]) > 4.0
    return _apply_symmetry(positions[kept], sigmas[kept], weights[kept], np.eye(3)[None])


def _build_trimer() -> GaussianBlobs:
    rng = np.random.default_rng(3)
    head = draw_globule(rng, 60, (19.5, 4.0, 42.0), np.array([18.0, 16.5, 22.0]))
    lobe = draw_globule(rng, 14, (17.0, -8.0, 16.0), np.array([10.0, 9.0, 12.0]))
    long_helix = _points_along_rod(np.array([8.0, 0.0, 18.0]), np.array([6.0, 6.0, -52.0]))
    short_helix = _points_along_rod(np.array([17.0, 4.0, 0.0]), np.array([12.0, -8.0, -46.0]))
    foot = draw_globule(rng, 16, (14.0, 2.0, -56.0), np.array([10.0, 10.0, 8.0]))
    positions = np.concatenate([head, lobe, long_helix, short_helix, foot])
    positions = positions + rng.normal(scale=0.8, size=positions.shape)
    weights = rng.uniform(0.6, 1.4, len(positions))
    return _apply_symmetry(positions, rng.uniform(3.0, 4.5, len(positions)), weights, cyclic(3))


def _build_shell() -> GaussianBlobs:
    rng = np.random.default_rng(24)
    # A four-helix bundle lying on the sphere, between a two-, a three- and a four-fold axis.
    outwards = np.array([0.86, 0.45, 0.22])
    outwards /= np.linalg.norm(outwards)
    along = np.cross(outwards, np.array([0.2, -0.3, 1.0]))
    along /= np.linalg.norm(along)
    across = np.cross(outwards, along)
    rods = []
    for radius, side in ((45.0, -5.5), (45.0, 5.5), (54.0, -5.5), (54.0, 5.5)):
        for angle in np.linspace(-24.0, 24.0, 12) / radius:
            direction = np.cos(angle) * outwards + np.sin(angle) * along
            rods.append(radius * direction + side * across)
    positions = np.stack(rods) + rng.normal(scale=1.0, size=(len(rods), 3))
    weights = rng.uniform(0.7, 1.3, len(positions))
    return _apply_symmetry(positions, rng.uniform(2.6, 3.6, len(positions)), weights, octahedral())


def _build_stick() -> GaussianBlobs:
    rng = np.random.default_rng(6)
    parts = []
    for angle in np.linspace(-0.5, 0.5, 6):
        # Six domains on an arc of 150 A.
        radius = 152.0
        center = (radius * (np.cos(angle) - 1.0), rng.normal(scale=2.0), radius * np.sin(angle))
        parts.append(draw_globule(rng, 34, center, np.array([9.0, 8.5, 16.0])))
    positions = np.concatenate(parts)
    weights = rng.uniform(0.6, 1.4, len(positions))
    return _apply_symmetry(
        positions, rng.uniform(2.6, 3.8, len(positions)), weights, np.eye(3)[None]
    )


PARTICLES: Final[Mapping[str, Particle]] = MappingProxyType(
    {
        particle.name: particle
        for particle in (
            Particle(
                "barrel",
                "like the 20S proteasome: four stacked rings of seven, hollow, D7, 150 x 115 Å",
                150.0,
                0.030,
                (PreferredView(0.70, 90.0), PreferredView(0.22, 0.0), PreferredView(0.08, 45.0)),
                _build_barrel,
            ),
            Particle(
                "ribosome",
                "like a bacterial ribosome: two lumpy subunits, no symmetry, about 250 Å",
                250.0,
                0.050,
                (
                    PreferredView(0.4, 70.0, 20.0),
                    PreferredView(0.35, 110.0, -100.0),
                    PreferredView(0.25, 25.0, 60.0),
                ),
                _build_ribosome,
            ),
            Particle(
                "trimer",
                "like a viral spike: a wide head on a narrow stalk, C3, 135 x 75 Å",
                135.0,
                0.026,
                (PreferredView(0.75, 90.0), PreferredView(0.20, 0.0), PreferredView(0.05, 50.0)),
                _build_trimer,
            ),
            Particle(
                "shell",
                "like apoferritin: a hollow round shell, octahedral, 120 Å outside, 80 Å inside",
                120.0,
                0.028,
                (PreferredView(0.5, 0.0, 0.0), PreferredView(0.5, 54.7, 45.0)),
                _build_shell,
            ),
            Particle(
                "stick",
                "like a clustered protocadherin: a gently curved chain of six domains, 180 x 25 Å",
                180.0,
                0.020,
                (PreferredView(0.9, 90.0), PreferredView(0.1, 60.0)),
                _build_stick,
            ),
        )
    }
)
"""The built-in particles by name."""
