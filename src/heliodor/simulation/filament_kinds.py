"""Four built-in filaments: drawn subunits, repeated by the rise and twist of a helix.

None is a deposited structure: the shapes copy the dimensions and the helical symmetry of what they
resemble. The blobs of a subunit are drawn from a fixed seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.simulation.builtin_particles import (
    GaussianBlobs,
    Particle,
    PreferredView,
    draw_globule,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from heliodor.conventions import FloatArray

#: The stretch by which the contrast is measured is as many times longer than it is wide.
STRETCH_WIDTHS = 3.0


@dataclass(frozen=True)
class FilamentKind:
    """A filament that can be simulated; its axis is z."""

    name: str
    """Name on the command line."""
    description: str
    """One line of description."""
    width_angstrom: float
    """Outer diameter."""
    rise_angstrom: float
    """Distance along the axis between a subunit and the next."""
    twist_deg: float
    """Rotation about the axis from a subunit to the next; positive is right-handed."""
    persistence_angstrom: float
    """Distance over which it keeps its direction."""
    contrast: float
    """Standard deviation of the relative intensity inside discs of its width."""
    build: Callable[[], GaussianBlobs]
    """Function that makes one subunit, at its place beside the axis."""

    def as_particle(self) -> Particle:
        """Return a straight stretch, with its width as the diameter, lying flat."""
        return Particle(
            self.name,
            self.description,
            self.width_angstrom,
            self.contrast,
            (PreferredView(1.0, 90.0),),
            partial(self.build_stretch, STRETCH_WIDTHS * self.width_angstrom),
        )

    def build_stretch(self, length_angstrom: float) -> GaussianBlobs:
        """Return the blobs of a straight stretch around the origin."""
        half = max(1, math.ceil(0.5 * length_angstrom / self.rise_angstrom))
        numbers = np.arange(-half, half + 1)
        return repeat_subunit(
            self.build(),
            np.asarray(np.radians(self.twist_deg) * numbers),
            self.rise_angstrom * numbers.astype(np.float64),
        )


def repeat_subunit(
    subunit: GaussianBlobs, turns: FloatArray, heights: FloatArray
) -> GaussianBlobs:
    """Return copies of a subunit, turned about z and moved along it.

    Parameters
    ----------
    subunit
        Blobs at their place beside the axis.
    turns
        Angles in radians, shape (n,).
    heights
        Along z in angstrom, shape (n,).
    """
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    x, y, z = subunit.positions.T
    places = np.stack(
        [cos * x - sin * y, sin * x + cos * y, z + np.asarray(heights)[:, None]], axis=2
    )
    count = len(turns)
    return GaussianBlobs(
        places.reshape(-1, 3), np.tile(subunit.sigmas, count), np.tile(subunit.weights, count)
    )


def _build_amyloid() -> GaussianBlobs:
    # One layer: two chains that fold back and forth in the plane, related by a half turn.
    rng = np.random.default_rng(11)
    turns = np.array([[6, -30], [6, 22], [16, 26], [18, -18], [28, -22], [29, 14]], dtype=float)
    steps = np.linspace(0.0, len(turns) - 1.0, 26)
    chain = np.column_stack([np.interp(steps, np.arange(len(turns)), c) for c in turns.T])
    chain += rng.normal(scale=0.7, size=chain.shape)
    flat = np.concatenate([chain, -chain])
    positions = np.column_stack([flat, rng.uniform(-1.2, 1.2, len(flat))])
    return GaussianBlobs(positions, np.full(len(flat), 2.6), rng.uniform(0.7, 1.3, len(flat)))


def _build_microtubule() -> GaussianBlobs:
    # Three tubulin monomers of one protofilament: a turn of the helix climbs 120 A, and 13
    # protofilaments with monomers every 40 A make three such helices.
    rng = np.random.default_rng(13)
    monomer = draw_globule(rng, 10, (104.0, 0.0, 0.0), np.array([17.0, 20.0, 17.0]))
    positions = np.concatenate([monomer + np.array([0.0, 0.0, 40.0 * n]) for n in (-1, 0, 1)])
    weights = np.tile(rng.uniform(0.6, 1.4, len(monomer)), 3)
    return GaussianBlobs(positions, np.full(len(positions), 6.5), weights)


def _build_actin() -> GaussianBlobs:
    # Two domains, the outer one smaller.
    rng = np.random.default_rng(28)
    inner = draw_globule(rng, 26, (10.0, 2.0, 0.0), np.array([13.0, 17.0, 25.0]))
    outer = draw_globule(rng, 18, (29.0, -4.0, -2.0), np.array([11.0, 14.0, 20.0]))
    positions = np.concatenate([inner, outer])
    weights = rng.uniform(0.6, 1.4, len(positions))
    return GaussianBlobs(positions, rng.uniform(3.4, 5.0, len(positions)), weights)


def _build_tube() -> GaussianBlobs:
    # A narrow protein that reaches from the hollow middle to the surface.
    rng = np.random.default_rng(22)
    radii = np.linspace(26.0, 82.0, 7)
    positions = np.column_stack([radii, *rng.normal(scale=4.0, size=(2, 7))])
    return GaussianBlobs(positions, np.full(7, 6.0), rng.uniform(0.5, 1.5, 7))


FILAMENTS: Final[Mapping[str, FilamentKind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            FilamentKind(
                "amyloid",
                "like an amyloid fibril: two chains in each layer, 70 Å wide, crossing over"
                " every 710 Å",
                70.0,
                4.75,
                -1.2,
                3e4,
                0.022,
                _build_amyloid,
            ),
            FilamentKind(
                "microtubule",
                "like a microtubule: 13 protofilaments, 250 Å wide, hollow",
                250.0,
                9.23,
                -27.69,
                1e7,
                0.030,
                _build_microtubule,
            ),
            FilamentKind(
                "actin",
                "like F-actin: two strands, 80 Å wide",
                80.0,
                27.5,
                -166.7,
                9e4,
                0.024,
                _build_actin,
            ),
            FilamentKind(
                "tube",
                "like a tobacco mosaic virus: a rigid hollow rod, 180 Å wide",
                180.0,
                1.408,
                22.03,
                1e7,
                0.034,
                _build_tube,
            ),
        )
    }
)
"""The built-in filaments by name."""
