"""Random filaments: projections of straight filaments that lie flat, along and across their axis.

None is a deposited structure, and none is one of `heliodor.simulation.filament_kinds.FILAMENTS`.
Lengths are in working pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from heliodor.conventions import FloatArray, Image

#: Distance between the samples of a texture, pixels.
STEP_PX = 0.5
#: Mean thickness of the densest filaments over that of a solid rod.
DENSITIES = (0.25, 1.1)


@dataclass(frozen=True)
class FilamentTexture:
    """The projection of a straight filament."""

    #: Thickness of solid protein in pixels, shape (along, across); the middle column is the axis.
    values: Image
    #: Width of the filament, pixels.
    width_px: float

    @property
    def reach_px(self) -> float:
        """Distance of the outermost columns from the axis."""
        return float(STEP_PX * (self.values.shape[1] // 2))


@dataclass(frozen=True)
class _Blobs:
    """Points of a filament of radius 1 (half its width) whose axis is z."""

    #: Shape (n,) each; z is in pixels.
    x: FloatArray
    y: FloatArray
    z: FloatArray
    weight: FloatArray


def draw_texture(
    rng: np.random.Generator, width_px: float, length_px: float, kind: str | None = None
) -> FilamentTexture:
    """Draw a random filament and project it.

    Parameters
    ----------
    rng
        Source of randomness.
    width_px
        Outer width.
    length_px
        Length of the projection.
    kind
        One of `KINDS`; None draws one.
    """
    if kind is None:
        shares = np.array([share for share, _ in KINDS.values()])
        kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
    blobs = KINDS[kind][1](rng, width_px, length_px)
    half = 0.5 * width_px
    sigma = max(0.6, width_px * rng.uniform(0.02, 0.09))
    radius = half - min(1.2 * sigma, 0.3 * half)
    reach = math.ceil((half + 2.5 * sigma) / STEP_PX)
    rows = round(length_px / STEP_PX)
    # A slow change of the width, as of tubes of membrane and of uneven bundles of protofilaments.
    wide = np.ones_like(blobs.z)
    if rng.random() < 0.2:
        waves, phases = rng.uniform(4.0, 20.0, 2) * width_px, rng.uniform(0.0, 6.3, 2)
        slow = np.sin(2.0 * math.pi * blobs.z[:, None] / waves + phases)
        wide = 1.0 + rng.uniform(0.02, 0.06) * slow.sum(axis=1)
    values = _bin(blobs.z / STEP_PX, blobs.x * radius * wide / STEP_PX + reach, blobs.weight, rows,
                  2 * reach + 1)  # fmt: skip
    values = gaussian_filter(values, sigma / STEP_PX, mode=("wrap", "constant"), truncate=3.0)
    if rng.random() < 0.25:
        # Uneven decoration, oxidation or damage along the filament.
        length = rng.uniform(0.5, 4.0) * width_px / STEP_PX
        uneven = gaussian_filter(rng.standard_normal(rows), length, mode="wrap")
        values *= np.exp(rng.uniform(0.1, 0.4) * uneven / uneven.std())[:, None]
    inner = round(half / STEP_PX)
    mean = values[:, reach - inner : reach + inner + 1].mean()
    solid = 0.25 * math.pi * width_px
    values *= solid * math.exp(rng.uniform(*np.log(DENSITIES))) / mean
    return FilamentTexture(values.astype(np.float32), width_px)


def _bin(
    rows: FloatArray, columns: FloatArray, weights: FloatArray, height: int, width: int
) -> FloatArray:
    """Return weights shared among the four nearest samples; rows wrap, columns are clipped."""
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = rows - top, columns - left
    out = np.zeros(height * width)
    for step, share in ((0, 1.0 - down), (1, down)):
        row = (top + step) % height
        for side, part in ((0, 1.0 - right), (1, right)):
            column = np.clip(left + side, 0, width - 1)
            out += np.bincount(row * width + column, weights * share * part, height * width)
    return out.reshape(height, width)


def _turn(x: FloatArray, y: FloatArray, angle: FloatArray) -> tuple[FloatArray, FloatArray]:
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def _extrude(
    rng: np.random.Generator,
    points: tuple[FloatArray, FloatArray, FloatArray],
    length_px: float,
    pitch_px: float,
) -> _Blobs:
    """Repeat a cross-section along the axis, turned once over the pitch."""
    z = np.arange(0.0, length_px, STEP_PX)
    turn = rng.choice([-1.0, 1.0]) * 2.0 * math.pi * z / pitch_px
    turn = turn + rng.uniform(0.0, 2.0 * math.pi)
    if rng.random() < 0.3:
        # The crossover of real ribbons varies.
        turn = turn + rng.uniform(0.05, 0.4) * np.cumsum(rng.standard_normal(len(z))) * math.sqrt(
            STEP_PX / pitch_px
        )
    x, y, weight = points
    px, py = _turn(x[None], y[None], turn[:, None])
    shape = px.shape
    return _Blobs(
        px.ravel(),
        py.ravel(),
        np.broadcast_to(z[:, None], shape).ravel(),
        np.broadcast_to(weight[None], shape).ravel(),
    )


def _fit(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scale points so that the outermost is at radius 1."""
    most = np.hypot(x, y).max()
    return x / most, y / most


def _draw_disc(
    rng: np.random.Generator, count: int, inner: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    radius = np.sqrt(rng.uniform(inner**2, 1.0, count))
    angle = rng.uniform(0.0, 2.0 * math.pi, count)
    return radius * np.cos(angle), radius * np.sin(angle)


def _draw_ribbon(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw one to four flat or folded protofilaments that twist about their axis."""
    fold = int(rng.choice([1, 2, 2, 2, 3, 4]))
    count = int(rng.integers(8, 24))
    # One protofilament: a chain that folds back and forth in a box.
    box = np.array([rng.uniform(0.5, 1.0), rng.uniform(0.15, 0.7)])
    corners = rng.uniform(-1.0, 1.0, (int(rng.integers(3, 8)), 2)) * box
    steps = np.linspace(0.0, len(corners) - 1.0, count)
    x, y = (np.interp(steps, np.arange(len(corners)), side) for side in corners.T)
    apart = 0.0 if fold == 1 else rng.uniform(0.3, 1.1)
    x = x + apart * rng.choice([1.0, rng.uniform(0.3, 1.0)])
    parts = [_turn(x, y, np.full(count, 2.0 * math.pi * n / fold)) for n in range(fold)]
    px, py = _fit(*(np.concatenate(side) for side in zip(*parts, strict=True)))
    weight = np.tile(rng.uniform(0.5, 1.5, count), fold)
    # Twice a crossover; some do not twist at all.
    pitch = 2.0 * width * math.exp(rng.uniform(math.log(2.0), math.log(40.0)))
    pitch = 1e9 if rng.random() < 0.12 else pitch
    return _extrude(rng, (px, py, weight), length, pitch)


def _draw_rod(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw a solid rod, smooth or slightly uneven."""
    count = int(rng.integers(24, 60))
    x, y = _fit(*_draw_disc(rng, count))
    weight = rng.uniform(0.6, 1.4, count)
    return _extrude(rng, (x, y, weight), length, width * math.exp(rng.uniform(0.0, 3.0)))


def _draw_tube(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw a smooth hollow tube with a thin or thick wall, sometimes of two layers."""
    inner = rng.uniform(0.25, 0.9)
    x, y = _draw_disc(rng, 48, inner)
    weight = np.ones(len(x))
    if rng.random() < 0.35:
        # A membrane: two layers of head groups.
        gap = rng.uniform(0.15, 0.4)
        radius, angle = np.repeat([1.0, 1.0 - gap], 24), np.tile(np.arange(24) * math.pi / 12, 2)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        weight = radius.copy()
    return _extrude(rng, (x, y, weight), length, width * rng.uniform(1.0, 20.0))


def _draw_lattice_tube(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw a tube of protofilaments of subunits on a helical lattice."""
    count = int(rng.integers(5, 40))
    rise = width * math.exp(rng.uniform(math.log(0.1), math.log(0.7)))
    levels = np.arange(0.0, length, rise)
    stagger = rng.uniform(-2.0, 2.0) * rise / count
    twist = rng.choice([0.0, rng.uniform(-1.0, 1.0)]) * 2.0 * math.pi / (width * 10.0)
    wall = rng.uniform(0.12, 0.6)
    members = int(rng.integers(1, 7))
    own_radius = 1.0 - wall * rng.random(members)
    own_angle = rng.normal(scale=0.8 / count, size=members)
    own_z = rng.uniform(-0.4, 0.4, members) * rise
    weight = rng.uniform(0.5, 1.5, members)
    z = levels[:, None, None] + stagger * np.arange(count)[None, :, None] + own_z
    angle = 2.0 * math.pi * np.arange(count)[None, :, None] / count + own_angle + twist * z
    radius = np.broadcast_to(own_radius, z.shape)
    weight = np.broadcast_to(weight, z.shape)
    kept = np.ones(z.shape[1], bool)
    if rng.random() < 0.1:
        kept[: int(rng.integers(1, max(2, count // 3)))] = False  # an open sheet
    z, angle, radius, weight = (own[:, kept].ravel() for own in (z, angle, radius, weight))
    return _Blobs(radius * np.cos(angle), radius * np.sin(angle), z, weight)


def _draw_helix(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw any helix: subunits of some domains, related by a rise and a twist."""
    rise = width * math.exp(rng.uniform(math.log(0.06), math.log(0.8)))
    twist = rng.uniform(-math.pi, math.pi)
    starts = int(rng.choice([1, 1, 1, 2, 3, 4, 6]))
    members = int(rng.integers(3, 14))
    center = rng.uniform(0.0, 0.8)
    tall = max(rise * rng.uniform(0.5, 2.5), 0.15 * width)
    x = center + rng.normal(scale=rng.uniform(0.1, 0.4), size=members)
    y = rng.normal(scale=rng.uniform(0.1, 0.4), size=members)
    z = rng.uniform(-0.5, 0.5, members) * tall
    weight = rng.uniform(0.4, 1.6, members)
    x, y = _fit(x, y)
    number = np.arange(math.ceil(length / rise))
    angle = (twist * number)[:, None] + 2.0 * math.pi * np.arange(starts) / starts
    px, py = _turn(x, y, angle[..., None])
    pz = np.broadcast_to((rise * number)[:, None, None] + z, px.shape)
    return _Blobs(
        px.ravel(), py.ravel(), pz.ravel(), np.broadcast_to(weight, px.shape).ravel().copy()
    )


def _draw_beads(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw a chain of beads, one or two side by side, that touch or nearly so."""
    spacing = width * rng.uniform(0.35, 1.3)
    number = np.arange(math.ceil(length / spacing))
    members = 24
    size = rng.uniform(0.45, 1.0)
    away = 1.0 - size
    x, y = _draw_disc(rng, members)
    z = rng.uniform(-0.5, 0.5, members) * min(spacing * 1.1, width * size)
    turn = number * rng.choice([math.pi, rng.uniform(0.0, math.pi)])
    angle = np.broadcast_to(turn[:, None], (len(number), members))
    px, py = _turn(size * x + away, size * y, angle)
    pz = (number * spacing)[:, None] + z
    if rng.random() < 0.4:
        pz = pz + spacing * rng.uniform(0.02, 0.12) * rng.standard_normal((len(number), 1))
    weight = np.broadcast_to(rng.uniform(0.6, 1.4, (len(number), 1)), px.shape)
    return _Blobs(px.ravel(), py.ravel(), pz.ravel(), weight.ravel())


def _draw_decorated(rng: np.random.Generator, width: float, length: float) -> _Blobs:
    """Draw a core that is decorated with domains, on all or some of its sites."""
    name = str(rng.choice(["ribbon", "rod", "helix", "tube", "lattice tube"]))
    core = KINDS[name][1](rng, width, length)
    inner = rng.uniform(0.4, 0.75)
    rise = width * rng.uniform(0.15, 1.2)
    number = np.arange(math.ceil(length / rise))
    number = number[rng.random(len(number)) < rng.choice([1.0, rng.uniform(0.2, 0.9)])]
    members = 10
    x, y = _draw_disc(rng, members)
    half = 0.5 * (1.0 - inner)
    angle = np.broadcast_to((rng.uniform(0.0, math.pi) * number)[:, None], (len(number), members))
    px, py = _turn(inner + half + half * x, half * y, angle)
    z = (number * rise)[:, None] + rng.uniform(-0.5, 0.5, members) * width * half
    share = core.weight.sum() / max(1, len(number) * members)
    outer = np.full(px.size, share * rng.uniform(0.15, 0.8))
    return _Blobs(
        np.concatenate([core.x * inner, px.ravel()]),
        np.concatenate([core.y * inner, py.ravel()]),
        np.concatenate([core.z, z.ravel()]),
        np.concatenate([core.weight, outer]),
    )


#: Relative frequency and function of each kind of filament.
KINDS: dict[str, tuple[float, Callable[[np.random.Generator, float, float], _Blobs]]] = {
    "ribbon": (2.5, _draw_ribbon),
    "rod": (0.8, _draw_rod),
    "tube": (1.5, _draw_tube),
    "lattice tube": (2.2, _draw_lattice_tube),
    "helix": (2.5, _draw_helix),
    "beads": (0.8, _draw_beads),
    "decorated": (0.8, _draw_decorated),
}
