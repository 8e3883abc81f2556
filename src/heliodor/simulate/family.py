"""A family of invented particles without end: what a general model learns from.

Each is drawn from its number alone: domains of protein, put together as molecules are (globules,
chains, rings and barrels, spikes, shells, oligomers of every point group, proteins in a micelle
or a nanodisc, arms about a hinge), filled with blobs of constant density. None is a deposited
structure, and none is one of `PARTICLES`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from heliodor.errors import BadInput
from heliodor.simulate.particles import Blobs, Particle, View, cyclic, dihedral, octahedral

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliodor.conventions import FloatArray

#: Diameters of the family, angstrom.
DIAMETERS = (60.0, 400.0)
#: Blobs of one particle at most.
MOST_BLOBS = 640
#: Least blobs of an asymmetric unit.
FEWEST_BLOBS = 6
#: Blobs of a strand.
STRAND = 4
#: Density of nucleic acid and of detergent, above that of ice, in units of protein's.
NUCLEIC_ACID = 1.8
DETERGENT = 0.3
#: Relative change of intensity inside a particle's disc, per angstrom of its diameter.
CONTRAST_PER_ANGSTROM = 2.0e-4


@dataclass(frozen=True)
class Domain:
    """An ellipsoid of constant density."""

    centre: FloatArray
    #: Half axes, shape (3,).
    semi: FloatArray
    #: Columns are the directions of the half axes.
    turn: FloatArray
    density: float = 1.0

    @property
    def mass(self) -> float:
        """Volume times density."""
        return float(4.0 / 3.0 * math.pi * np.prod(self.semi) * self.density)


@dataclass(frozen=True)
class Plan:
    """An asymmetric unit and the rotations that make a particle of it, shape (m, 3, 3)."""

    domains: list[Domain]
    operators: FloatArray


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
    names, shares = zip(*((name, share) for name, (share, _) in KINDS.items()), strict=True)
    kind = str(rng.choice(names, p=np.array(shares) / sum(shares)))
    seed = int(rng.integers(2**62))
    views = _views(rng)

    @cache
    def build() -> Blobs:
        return _filled(np.random.default_rng(seed), kind, diameter)

    return Particle(
        f"drawn-{number}",
        f"an invented {kind}, {diameter:.0f} A",
        diameter,
        CONTRAST_PER_ANGSTROM * diameter,
        views,
        build,
    )


def _views(rng: np.random.Generator) -> tuple[View, ...]:
    """Draw one to three preferred ways of lying."""
    number = int(rng.integers(1, 4))
    tilts = np.rad2deg(np.arccos(rng.uniform(-1.0, 1.0, number)))
    shares = rng.uniform(0.2, 1.0, number)
    return tuple(
        View(float(share), float(tilt)) for share, tilt in zip(shares, tilts, strict=True)
    )


def _filled(rng: np.random.Generator, kind: str, diameter: float) -> Blobs:
    """Fill the domains of a plan with blobs, and bring it to its size."""
    plan = KINDS[kind][1](rng)
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
        length = STRAND if strands and rough else 1
        seeds = _evenly_in_ball(rng, -(-count // length)) * domain.semi
        along = rng.normal(size=(len(seeds), 1, 3))
        along /= np.linalg.norm(along, axis=2, keepdims=True)
        step = 0.6 * (domain.mass / domain.density / count) ** (1.0 / 3.0)
        beads = step * (np.arange(length) - 0.5 * (length - 1))[:, None] * along
        spread = (seeds[:, None] + beads).reshape(-1, 3)[:count]
        parts.append(spread @ domain.turn.T + domain.centre)
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
    scale = diameter / _extent(positions, sigma)
    for array in (positions := positions * scale, sigma := sigma * scale):
        array.setflags(write=False)
    weight = weight * scale**3
    weight.setflags(write=False)
    return Blobs(positions, sigma, weight)


def _extent(positions: FloatArray, sigma: FloatArray) -> float:
    """Return the longest dimension: the widest of many directions' shadows."""
    index = np.arange(200) + 0.5
    tilt, turn = np.arccos(1.0 - index / 200), math.pi * (1.0 + math.sqrt(5.0)) * index
    ways = np.stack([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)])
    along = positions @ ways
    wide = along.max(axis=0) - along.min(axis=0)
    return float(wide.max() + 3.0 * np.median(sigma))


def _evenly_in_ball(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw points in the unit ball, each the farthest from the others of a few candidates."""
    points = np.empty((count, 3))
    raw = rng.normal(size=(count, 5, 3))
    raw *= np.cbrt(rng.random((count, 5)))[..., None] / np.linalg.norm(raw, axis=2)[..., None]
    points[0] = raw[0, 0]
    for index in range(1, count):
        gaps = raw[index][:, None] - points[None, :index]
        points[index] = raw[index][np.argmax((gaps**2).sum(axis=2).min(axis=1))]
    return points


def _turn(rng: np.random.Generator) -> FloatArray:
    """Draw a rotation, evenly over all."""
    matrix, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    return np.asarray(matrix * np.sign(np.linalg.det(matrix)))


def _lump(
    rng: np.random.Generator, centre: FloatArray | tuple[float, float, float], size: float
) -> Domain:
    """Draw a domain of about a radius."""
    semi = size * rng.uniform(0.65, 1.3, 3)
    return Domain(np.asarray(centre, dtype=float), semi, _turn(rng))


def _grown(rng: np.random.Generator, number: int, size: float, spread: float) -> list[Domain]:
    """Grow a molecule: each domain touches one that is there already."""
    domains = [_lump(rng, (0.0, 0.0, 0.0), size)]
    for _ in range(number - 1):
        own = _lump(rng, (0.0, 0.0, 0.0), size * rng.uniform(*((1.0 / spread), spread)))
        beside = domains[int(rng.integers(len(domains)))]
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        reach = 0.8 * (beside.semi.mean() + own.semi.mean())
        domains.append(Domain(beside.centre + reach * way, own.semi, own.turn))
    return domains


def _globule(rng: np.random.Generator) -> Plan:
    return Plan(_grown(rng, int(rng.integers(1, 5)), 1.0, 1.3), np.eye(3)[None])


def _complex(rng: np.random.Generator) -> Plan:
    return Plan(_grown(rng, int(rng.integers(4, 13)), 1.0, 1.6), np.eye(3)[None])


def _two_halves(rng: np.random.Generator) -> Plan:
    """Draw two large lumpy parts with a cleft, one of them with much nucleic acid."""
    parts: list[Domain] = []
    for side, size in ((-1.0, 1.0), (1.0, rng.uniform(0.55, 1.0))):
        dense = NUCLEIC_ACID if rng.random() < 0.6 else 1.0
        for own in _grown(rng, int(rng.integers(3, 7)), 0.6 * size, 1.4):
            middle = own.centre * 0.8 + np.array([side * 0.95 * size, 0.0, 0.0])
            parts.append(Domain(middle, own.semi, own.turn, dense))
    return Plan(parts, np.eye(3)[None])


def _ring(rng: np.random.Generator) -> Plan:
    """Draw a ring or a barrel: a stack of rings of as many subunits each."""
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
        centre = np.array([out * math.cos(angle), out * math.sin(angle), z])
        domains.append(_lump(rng, centre, unit))
        if rng.random() < 0.5:  # what sticks out of a subunit, or into the channel
            way = rng.uniform(0.5, 1.5)
            lump = np.array([out * way * math.cos(angle + 0.1), out * way * math.sin(angle), z])
            domains.append(_lump(rng, lump, 0.5 * unit))
    return Plan(domains, dihedral(fold) if mirrored else cyclic(fold))


def _spike(rng: np.random.Generator) -> Plan:
    """Draw a few long subunits about an axis, with a head and a stalk."""
    fold = int(rng.integers(2, 7))
    length = rng.uniform(2.0, 5.0)
    domains = []
    for z in np.linspace(0.0, length, int(rng.integers(3, 6))):
        out, angle = rng.uniform(0.25, 1.1), rng.uniform(0.0, 2.0 * math.pi)
        centre = np.array([out * math.cos(angle), out * math.sin(angle), z])
        domains.append(_lump(rng, centre, rng.uniform(0.35, 0.8)))
    return Plan(domains, cyclic(fold))


def _shell(rng: np.random.Generator) -> Plan:
    """Draw a closed shell of a cubic group, hollow or filled."""
    operators = GROUPS[str(rng.choice(["T", "O", "I"]))]()
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    wide = 2.0 * math.sqrt(1.0 / len(operators))
    semi = wide * np.array([1.2, 0.9, 0.55]) * rng.uniform(0.75, 1.2, 3)
    axes = np.linalg.qr(np.stack([way, rng.normal(size=3), rng.normal(size=3)], axis=1))[0]
    domains = [Domain(way, semi, axes[:, [1, 2, 0]])]
    if rng.random() < 0.4:
        domains.append(Domain(way * rng.uniform(0.8, 1.25), 0.6 * semi, _turn(rng)))
    filled = rng.random()
    if filled < 0.3:  # a genome, or a cargo; one copy's share of it
        inner = rng.uniform(0.5, 0.8)
        core = Domain(way * inner * 0.6, np.full(3, inner * 0.35), np.eye(3), NUCLEIC_ACID)
        domains.append(core)
    return Plan(domains, operators)


def _oligomer(rng: np.random.Generator) -> Plan:
    """Draw a compact oligomer of any point group that is not a ring."""
    group = str(rng.choice(["C2", "C3", "C4", "D2", "D2", "D3", "D4", "D5", "T", "O"]))
    unit = _grown(rng, int(rng.integers(1, 5)), 1.0, 1.4)
    operators = GROUPS[group]()
    away = np.asarray(rng.normal(size=3))
    away *= rng.uniform(0.9, 1.7) * len(operators) ** (1.0 / 3.0) / np.linalg.norm(away)
    return Plan([Domain(d.centre + away, d.semi, d.turn) for d in unit], operators)


def _rod(rng: np.random.Generator) -> Plan:
    """Draw a rod or a bent chain of domains."""
    number = int(rng.integers(3, 10))
    bend, twist = rng.uniform(0.0, 0.35), rng.uniform(0.0, 2.0 * math.pi)
    step, thick = rng.uniform(1.4, 2.2), rng.uniform(0.6, 1.3)
    place, way, domains = np.zeros(3), np.array([0.0, 0.0, 1.0]), []
    side = np.array([math.cos(twist), math.sin(twist), 0.0])
    for _ in range(number):
        long = np.array([thick, thick, step * 0.75]) * rng.uniform(0.85, 1.15, 3)
        axes = np.stack([side, np.cross(way, side), way], axis=1)
        domains.append(Domain(place.copy(), long, np.linalg.qr(axes)[0]))
        way = way + bend * side * rng.uniform(0.3, 1.5)
        way /= np.linalg.norm(way)
        place = place + step * way
    fold = int(rng.choice([1, 1, 1, 2]))
    shifted = [Domain(d.centre + (fold - 1) * side, d.semi, d.turn) for d in domains]
    return Plan(shifted, cyclic(fold))


def _membrane(rng: np.random.Generator) -> Plan:
    """Draw a membrane protein: helices in a micelle or a nanodisc, and domains outside."""
    fold = int(rng.choice([1, 2, 3, 4, 5, 6]))
    core = rng.uniform(0.5, 0.8) * math.sqrt(fold)
    out = 0.0 if fold == 1 else 0.6 * core
    half = 17.0 / 20.0  # half of a membrane's 34 A in units of 20 A
    helices = Domain(
        np.array([out, 0.0, 0.0]),
        np.array([core / math.sqrt(fold), core / math.sqrt(fold), half * 1.1]),
        np.eye(3),
    )
    domains = [helices]
    for side in (-1.0, 1.0):
        if rng.random() < 0.65:
            tall = rng.uniform(0.5, 1.6)
            centre = np.array([out * rng.uniform(0.6, 1.4), 0.0, side * (half + 0.8 * tall)])
            domains.append(Domain(centre, np.array([0.8, 0.8, tall]), _turn(rng)))
    belt = core + rng.uniform(0.8, 2.6)  # a micelle is narrow, a nanodisc wide
    pieces = max(1, 12 // fold)
    middle = 0.5 * (core + belt)
    for piece in range(pieces):
        angle = 2.0 * math.pi * piece / (pieces * fold)
        centre = np.array([middle * math.cos(angle), middle * math.sin(angle), 0.0])
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
        domains.append(Domain(centre, semi, axes, DETERGENT))
    return Plan(domains, cyclic(fold))


def _arms(rng: np.random.Generator) -> Plan:
    """Draw two to four arms about a hinge."""
    domains = []
    for _ in range(int(rng.integers(2, 5))):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        for step in np.arange(0.8, rng.uniform(2.2, 4.5), 1.2):
            domains.append(_lump(rng, way * step, rng.uniform(0.6, 0.95)))
    return Plan(domains, np.eye(3)[None])


def tetrahedral() -> FloatArray:
    """Return the 12 rotations of the tetrahedron: even signed permutations, (12, 3, 3)."""
    kept = [m for m in octahedral() if np.prod(m[m != 0.0]) > 0.0]
    return np.stack(kept)


@cache
def icosahedral() -> FloatArray:
    """Return the 60 rotations of the icosahedron, shape (60, 3, 3).

    Those that map its twelve corners, (0, 1, golden) and their even permutations and signs, onto
    themselves, put together from all pairs of neighbours.
    """
    golden = (1.0 + math.sqrt(5.0)) / 2.0
    corners = np.array(
        [
            np.roll([0.0, one, other * golden], turn)
            for one, other in product((1.0, -1.0), repeat=2)
            for turn in range(3)
        ]
    )
    near = np.abs(corners @ corners.T - golden) < 1e-9
    pairs = [(i, j) for i, j in permutations(range(12), 2) if near[i, j]]

    def frame(pair: tuple[int, int]) -> FloatArray:
        first, second = corners[pair[0]], corners[pair[1]]
        return np.stack([first, second, np.cross(first, second)], axis=1)

    start = np.linalg.inv(frame(pairs[0]))
    return np.stack([frame(pair) @ start for pair in pairs])


GROUPS: dict[str, Callable[[], FloatArray]] = {
    **{f"C{fold}": (lambda fold=fold: cyclic(fold)) for fold in (2, 3, 4)},  # type: ignore[misc]
    **{f"D{fold}": (lambda fold=fold: dihedral(fold)) for fold in (2, 3, 4, 5)},  # type: ignore[misc]
    "T": tetrahedral,
    "O": octahedral,
    "I": icosahedral,
}

#: How often each kind is drawn, and how.
KINDS: dict[str, tuple[float, Callable[[np.random.Generator], Plan]]] = {
    "globule": (1.0, _globule),
    "complex": (1.5, _complex),
    "two-part complex": (1.0, _two_halves),
    "ring": (1.8, _ring),
    "spike": (1.2, _spike),
    "shell": (1.2, _shell),
    "oligomer": (1.8, _oligomer),
    "rod": (2.0, _rod),
    "membrane protein": (1.5, _membrane),
    "many-armed complex": (1.0, _arms),
}
