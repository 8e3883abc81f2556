"""Random architectures of synthetic particles: domains of protein, assembled like real molecules.

Globules, chains, rings and barrels, spikes, shells, oligomers of every point group, proteins in a
micelle or a nanodisc, and arms about a hinge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heliodor.simulation.symmetry import (
    POINT_GROUPS,
    cyclic,
    dihedral,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliodor.conventions import FloatArray

#: Density of nucleic acid and of detergent, above that of ice, in units of protein's.
NUCLEIC_ACID = 1.8
DETERGENT = 0.3


@dataclass(frozen=True)
class ProteinDomain:
    """An ellipsoid of constant density."""

    center: FloatArray
    #: Half axes, shape (3,).
    semi: FloatArray
    #: Columns are the directions of the half axes, shape (3, 3).
    rotation: FloatArray
    density: float = 1.0

    @property
    def mass(self) -> float:
        """Return volume times density."""
        return float(4.0 / 3.0 * math.pi * np.prod(self.semi) * self.density)


@dataclass(frozen=True)
class ParticlePlan:
    """An asymmetric unit and the rotations that build a particle from it, shape (m, 3, 3)."""

    domains: list[ProteinDomain]
    operators: FloatArray


def _draw_rotation(rng: np.random.Generator) -> FloatArray:
    """Draw a uniformly distributed rotation."""
    matrix, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    return np.asarray(matrix * np.sign(np.linalg.det(matrix)))


def _draw_domain(
    rng: np.random.Generator, center: FloatArray | tuple[float, float, float], size: float
) -> ProteinDomain:
    """Draw a domain of about a given radius."""
    semi = size * rng.uniform(0.65, 1.3, 3)
    return ProteinDomain(np.asarray(center, dtype=float), semi, _draw_rotation(rng))


def _grow_domains(
    rng: np.random.Generator, number: int, size: float, spread: float
) -> list[ProteinDomain]:
    """Grow a molecule: each domain touches an earlier one."""
    domains = [_draw_domain(rng, (0.0, 0.0, 0.0), size)]
    for _ in range(number - 1):
        own = _draw_domain(rng, (0.0, 0.0, 0.0), size * rng.uniform(*((1.0 / spread), spread)))
        beside = domains[int(rng.integers(len(domains)))]
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        reach = 0.8 * (beside.semi.mean() + own.semi.mean())
        domains.append(ProteinDomain(beside.center + reach * way, own.semi, own.rotation))
    return domains


def _plan_globule(rng: np.random.Generator) -> ParticlePlan:
    return ParticlePlan(_grow_domains(rng, int(rng.integers(1, 5)), 1.0, 1.3), np.eye(3)[None])


def _plan_complex(rng: np.random.Generator) -> ParticlePlan:
    return ParticlePlan(_grow_domains(rng, int(rng.integers(4, 13)), 1.0, 1.6), np.eye(3)[None])


def _plan_two_parts(rng: np.random.Generator) -> ParticlePlan:
    """Draw two large irregular parts with a cleft, either of which may be nucleic acid."""
    parts: list[ProteinDomain] = []
    for side, size in ((-1.0, 1.0), (1.0, rng.uniform(0.55, 1.0))):
        dense = NUCLEIC_ACID if rng.random() < 0.6 else 1.0
        for own in _grow_domains(rng, int(rng.integers(3, 7)), 0.6 * size, 1.4):
            middle = own.center * 0.8 + np.array([side * 0.95 * size, 0.0, 0.0])
            parts.append(ProteinDomain(middle, own.semi, own.rotation, dense))
    return ParticlePlan(parts, np.eye(3)[None])


def _plan_ring(rng: np.random.Generator) -> ParticlePlan:
    """Draw a ring or a barrel: a stack of rings with the same number of subunits."""
    fold = int(rng.integers(3, 18))
    layers = int(rng.choice([1, 1, 2, 2, 3, 4]))
    radius = rng.uniform(0.9, 1.25) / math.sin(math.pi / max(fold, 3)) * 0.5
    unit = rng.uniform(0.42, 0.6)
    height = 2.0 * unit * rng.uniform(0.7, 1.3)
    domains = []
    mirrored = layers % 2 == 0 and rng.random() < 0.7
    own_layers = layers // 2 if mirrored else layers
    for layer in range(own_layers):
        z = (layer + 0.5) * height if mirrored else (layer - 0.5 * (layers - 1)) * height
        angle = rng.uniform(0.0, 2.0 * math.pi / fold)
        out = radius * rng.uniform(0.9, 1.1)
        center = np.array([out * math.cos(angle), out * math.sin(angle), z])
        domains.append(_draw_domain(rng, center, unit))
        if rng.random() < 0.5:  # a protrusion outwards, or into the channel
            way = rng.uniform(0.5, 1.5)
            lump = np.array([out * way * math.cos(angle + 0.1), out * way * math.sin(angle), z])
            domains.append(_draw_domain(rng, lump, 0.5 * unit))
    return ParticlePlan(domains, dihedral(fold) if mirrored else cyclic(fold))


def _plan_spike(rng: np.random.Generator) -> ParticlePlan:
    """Draw a few long subunits about an axis, with a head and a stalk."""
    fold = int(rng.integers(2, 7))
    length = rng.uniform(2.0, 5.0)
    domains = []
    for z in np.linspace(0.0, length, int(rng.integers(3, 6))):
        out, angle = rng.uniform(0.25, 1.1), rng.uniform(0.0, 2.0 * math.pi)
        center = np.array([out * math.cos(angle), out * math.sin(angle), z])
        domains.append(_draw_domain(rng, center, rng.uniform(0.35, 0.8)))
    return ParticlePlan(domains, cyclic(fold))


def _plan_shell(rng: np.random.Generator) -> ParticlePlan:
    """Draw a closed shell of a cubic group, hollow or filled."""
    operators = POINT_GROUPS[str(rng.choice(["T", "O", "I"]))]()
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    wide = 2.0 * math.sqrt(1.0 / len(operators))
    semi = wide * np.array([1.2, 0.9, 0.55]) * rng.uniform(0.75, 1.2, 3)
    axes = np.linalg.qr(np.stack([way, rng.normal(size=3), rng.normal(size=3)], axis=1))[0]
    domains = [ProteinDomain(way, semi, axes[:, [1, 2, 0]])]
    if rng.random() < 0.4:
        domains.append(
            ProteinDomain(way * rng.uniform(0.8, 1.25), 0.6 * semi, _draw_rotation(rng))
        )
    filled = rng.random()
    if filled < 0.3:  # a genome or a cargo: the part of one asymmetric unit
        inner = rng.uniform(0.5, 0.8)
        core = ProteinDomain(way * inner * 0.6, np.full(3, inner * 0.35), np.eye(3), NUCLEIC_ACID)
        domains.append(core)
    return ParticlePlan(domains, operators)


def _plan_oligomer(rng: np.random.Generator) -> ParticlePlan:
    """Draw a compact oligomer of any point group that is not a ring."""
    group = str(rng.choice(["C2", "C3", "C4", "D2", "D2", "D3", "D4", "D5", "T", "O"]))
    unit = _grow_domains(rng, int(rng.integers(1, 5)), 1.0, 1.4)
    operators = POINT_GROUPS[group]()
    away = np.asarray(rng.normal(size=3))
    away *= rng.uniform(0.9, 1.7) * len(operators) ** (1.0 / 3.0) / np.linalg.norm(away)
    return ParticlePlan(
        [ProteinDomain(d.center + away, d.semi, d.rotation) for d in unit], operators
    )


def _plan_rod(rng: np.random.Generator) -> ParticlePlan:
    """Draw a rod or a bent chain of domains."""
    number = int(rng.integers(3, 10))
    bend, twist = rng.uniform(0.0, 0.35), rng.uniform(0.0, 2.0 * math.pi)
    step, thick = rng.uniform(1.4, 2.2), rng.uniform(0.6, 1.3)
    place, way, domains = np.zeros(3), np.array([0.0, 0.0, 1.0]), []
    side = np.array([math.cos(twist), math.sin(twist), 0.0])
    for _ in range(number):
        long = np.array([thick, thick, step * 0.75]) * rng.uniform(0.85, 1.15, 3)
        axes = np.stack([side, np.cross(way, side), way], axis=1)
        domains.append(ProteinDomain(place.copy(), long, np.linalg.qr(axes)[0]))
        way = way + bend * side * rng.uniform(0.3, 1.5)
        way /= np.linalg.norm(way)
        place = place + step * way
    fold = int(rng.choice([1, 1, 1, 2]))
    shifted = [ProteinDomain(d.center + (fold - 1) * side, d.semi, d.rotation) for d in domains]
    return ParticlePlan(shifted, cyclic(fold))


def _plan_membrane_protein(rng: np.random.Generator) -> ParticlePlan:
    """Draw a membrane protein: helices in a micelle or nanodisc, and domains outside."""
    fold = int(rng.choice([1, 2, 3, 4, 5, 6]))
    core = rng.uniform(0.5, 0.8) * math.sqrt(fold)
    out = 0.0 if fold == 1 else 0.6 * core
    half = 17.0 / 20.0  # half of a membrane's 34 A in units of 20 A
    helices = ProteinDomain(
        np.array([out, 0.0, 0.0]),
        np.array([core / math.sqrt(fold), core / math.sqrt(fold), half * 1.1]),
        np.eye(3),
    )
    domains = [helices]
    for side in (-1.0, 1.0):
        if rng.random() < 0.65:
            tall = rng.uniform(0.5, 1.6)
            center = np.array([out * rng.uniform(0.6, 1.4), 0.0, side * (half + 0.8 * tall)])
            domains.append(ProteinDomain(center, np.array([0.8, 0.8, tall]), _draw_rotation(rng)))
    belt = core + rng.uniform(0.8, 2.6)  # a micelle is narrow, a nanodisc wide
    pieces = max(1, 12 // fold)
    middle = 0.5 * (core + belt)
    for piece in range(pieces):
        angle = 2.0 * math.pi * piece / (pieces * fold)
        center = np.array([middle * math.cos(angle), middle * math.sin(angle), 0.0])
        thick = 0.5 * (belt - core) + 0.25
        wide = math.pi * middle / 12.0 + 0.2
        axes = np.array(
            [
                [math.cos(angle), -math.sin(angle), 0.0],
                [math.sin(angle), math.cos(angle), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )
        semi = np.array([thick, wide, half])
        domains.append(ProteinDomain(center, semi, axes, DETERGENT))
    return ParticlePlan(domains, cyclic(fold))


def _plan_arms(rng: np.random.Generator) -> ParticlePlan:
    """Draw two to four arms about a hinge."""
    domains = []
    for _ in range(int(rng.integers(2, 5))):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        for step in np.arange(0.8, rng.uniform(2.2, 4.5), 1.2):
            domains.append(_draw_domain(rng, way * step, rng.uniform(0.6, 0.95)))
    return ParticlePlan(domains, np.eye(3)[None])


#: Relative frequency and function of each architecture.
PLANS_BY_KIND: dict[str, tuple[float, Callable[[np.random.Generator], ParticlePlan]]] = {
    "globule": (1.0, _plan_globule),
    "complex": (1.5, _plan_complex),
    "two-part complex": (1.0, _plan_two_parts),
    "ring": (1.8, _plan_ring),
    "spike": (1.2, _plan_spike),
    "shell": (1.2, _plan_shell),
    "oligomer": (1.8, _plan_oligomer),
    "rod": (2.0, _plan_rod),
    "membrane protein": (1.5, _plan_membrane_protein),
    "many-armed complex": (1.0, _plan_arms),
}
