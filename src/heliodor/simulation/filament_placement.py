"""Random axes of filaments on a field, and the projections of filaments along them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from heliodor.data.filaments.curve import AxisCurve, fit_curve
from heliodor.data.filaments.geometry import crop_axis, direction_angle_deg, measure_length
from heliodor.simulation.filament_kinds import repeat_subunit
from heliodor.simulation.projection import add_projection

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image
    from heliodor.simulation.filament_kinds import FilamentKind
    from heliodor.simulation.scene import Field

#: Distance between the points of an axis.
STEP_ANGSTROM = 50.0
#: Length of a filament, as a share of the micrograph's shorter side.
LENGTHS = (0.25, 1.5)
#: Distance between the axes of neighbors: in a bundle, and at least for filaments apart.
BUNDLE_WIDTHS, APART_WIDTHS = (1.0, 1.15), 1.5
#: Most filaments beside another in a bundle, and widths of the gap in a broken filament.
MOST_NEIGHBORS, GAP_WIDTHS = 3, (0.3, 2.0)
#: Shorter pieces are left out, in widths; on a micrograph, shorter ends are not in the truth.
LEAST_WIDTHS, LEAST_SHOWN_WIDTHS = 2.0, 1.0
#: Times that a place is searched for each filament.
TRIES = 40
#: Length that is drawn at a time as if it were straight.
BLOCK_ANGSTROM = 40.0


@dataclass(frozen=True)
class FilamentLayout:
    """How filaments lie on a micrograph."""

    kind: FilamentKind
    #: Filaments, not counting their neighbors in bundles; fewer where there is no room.
    count: int
    #: Share of filaments with others beside them, and of broken filaments.
    bundles: float
    breaks: float
    #: Whether filaments may cross.
    overlap: bool


def place_filaments(
    rng: np.random.Generator,
    field: Field,
    layout: FilamentLayout,
    clearance: tuple[Image, int],
) -> list[FloatArray]:
    """Place filaments at random where they fit.

    Parameters
    ----------
    rng
        Source of randomness.
    field
        The field of view.
    layout
        How they lie.
    clearance
        The result of `measure_clearance`: filaments end before they reach contaminants.

    Returns
    -------
    list of ndarray
        Points of each axis in pixels of the field, about 50 A apart, shape (n, 2).
    """
    width = layout.kind.width_angstrom / field.pixel_size_angstrom
    placed: list[FloatArray] = []

    def is_free(axis: FloatArray) -> bool:
        return layout.overlap or _is_apart(axis, placed, APART_WIDTHS * width)

    for _ in range(layout.count):
        for _ in range(TRIES):
            axis = _longest_free_part(_draw_axis(rng, field, layout.kind), clearance, layout.kind)
            if _is_long(axis, width) and _shows(axis, field) and is_free(axis):
                break
        else:
            continue
        group = [axis]
        if rng.random() < layout.bundles:
            neighbors = (
                _longest_free_part(beside, clearance, layout.kind)
                for beside in _draw_neighbors(rng, axis, width)
            )
            group += [one for one in neighbors if _is_long(one, width) and is_free(one)]
        placed += [
            piece
            for one in group
            for piece in (_break(rng, one, width) if rng.random() < layout.breaks else [one])
        ]
    return placed


def _draw_axis(rng: np.random.Generator, field: Field, kind: FilamentKind) -> FloatArray:
    """Draw a chain that keeps its direction over the persistence length."""
    pixel = field.pixel_size_angstrom
    length = rng.uniform(*LENGTHS) * min(field.inner) * pixel
    count = max(2, round(length / STEP_ANGSTROM))
    turns = rng.normal(scale=math.sqrt(STEP_ANGSTROM / kind.persistence_angstrom), size=count)
    heading = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(turns) - turns.sum() / 2.0
    steps = STEP_ANGSTROM / pixel * np.column_stack([np.cos(heading), np.sin(heading)])
    chain = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    middle = rng.uniform((0.0, 0.0), (field.inner[1] - 1.0, field.inner[0] - 1.0))
    return np.asarray(chain - chain[count // 2] + middle + field.margin_px)


def _longest_free_part(
    axis: FloatArray, clearance: tuple[Image, int], kind: FilamentKind
) -> FloatArray:
    """Return the longest part inside the field that keeps away from contaminants, if any."""
    distances, step = clearance
    cells = np.floor(axis).astype(int) // step
    inside = np.all((cells >= 0) & (cells < distances.shape[::-1]), axis=1)
    columns, rows = np.where(inside[:, None], cells, 0).T
    free = inside & (distances[rows, columns] >= 0.5 * kind.width_angstrom)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return axis[:0]
    best = int(np.argmax(ends - starts))
    return axis[starts[best] : ends[best]]


def _is_long(axis: FloatArray, width: float) -> bool:
    return len(axis) > 1 and measure_length(axis) >= LEAST_WIDTHS * width


def _is_apart(axis: FloatArray, placed: list[FloatArray], distance_px: float) -> bool:
    if not placed:
        return True
    gaps, _ = cKDTree(np.concatenate(placed)).query(axis)
    return bool(gaps.min() >= distance_px)


def _shows(axis: FloatArray, field: Field) -> bool:
    return bool(field.shows(axis).any())


def _draw_neighbors(rng: np.random.Generator, axis: FloatArray, width: float) -> list[FloatArray]:
    """Draw axes beside another, each a random part of its length, in a layer of a bundle."""
    curve = fit_curve(axis)
    beside, sides = [], {-1: 0.0, 1: 0.0}
    for _ in range(rng.integers(1, MOST_NEIGHBORS + 1)):
        side = int(rng.choice([-1, 1]))
        sides[side] += width * rng.uniform(*BUNDLE_WIDTHS)
        low, high = rng.uniform(0.0, 0.3), rng.uniform(0.7, 1.0)
        along = np.linspace(low, high, max(2, round((high - low) * len(axis)))) * curve.length_px
        normals = curve.directions(along)[:, ::-1] * np.array([-1.0, 1.0])
        beside.append(curve.locate(along) + side * sides[side] * normals)
    return beside


def _break(rng: np.random.Generator, axis: FloatArray, width: float) -> list[FloatArray]:
    """Return the parts of a filament on both sides of a gap, those that are long enough."""
    curve = fit_curve(axis)
    middle = rng.uniform(0.25, 0.75) * curve.length_px
    gap = rng.uniform(*GAP_WIDTHS) * width
    parts = [(0.0, middle - 0.5 * gap), (middle + 0.5 * gap, curve.length_px)]
    spacing = curve.length_px / (len(axis) - 1)
    return [
        curve.locate(np.linspace(low, high, max(2, round((high - low) / spacing) + 1)))
        for low, high in parts
        if high - low >= LEAST_WIDTHS * width
    ]


def find_shown_axes(
    axes: list[FloatArray], field: Field, kind: FilamentKind
) -> tuple[FloatArray, ...]:
    """Return the parts of axes that a micrograph shows, in its pixels.

    Ends shorter than the width of the filament are left out.
    """
    least = LEAST_SHOWN_WIDTHS * kind.width_angstrom / field.pixel_size_angstrom
    pieces = (piece for axis in axes for piece in crop_axis(axis - field.margin_px, field.inner))
    return tuple(piece for piece in pieces if measure_length(piece) >= least)


def add_filament(
    rng: np.random.Generator,
    potential: Image,
    axis: FloatArray,
    kind: FilamentKind,
    pixel_size_angstrom: float,
    scale: float,
) -> None:
    """Add the projection of a filament along an axis, its subunits turned by a random angle.

    Parameters
    ----------
    rng
        Source of randomness: the angle, and the direction.
    potential
        Projected density, changed in place.
    axis
        Points in pixels of `potential`.
    kind
        The filament.
    pixel_size_angstrom
        Sampling of `potential`.
    scale
        Factor on the density.
    """
    subunit, phase = kind.build(), rng.uniform(0.0, 2.0 * math.pi)
    curve = fit_curve(axis[::-1] if rng.random() < 0.5 else axis)
    length = curve.length_px * pixel_size_angstrom
    numbers = np.arange(int(length / kind.rise_angstrom) + 1, dtype=np.float64)
    in_block = max(1, round(BLOCK_ANGSTROM / kind.rise_angstrom))
    for start in range(0, len(numbers), in_block):
        own = numbers[start : start + in_block]
        heights = own * kind.rise_angstrom
        middle = float(heights.mean())
        place, angle = _locate(curve, middle / pixel_size_angstrom)
        turns = phase + math.radians(kind.twist_deg) * own
        blobs = repeat_subunit(subunit, turns, np.asarray(heights - middle))
        # At a tilt of 90 and this psi the z axis lies along the direction of the curve.
        angles = np.array([0.0, 90.0, 180.0 - angle])
        add_projection(potential, blobs, angles, place, pixel_size_angstrom, scale)


def _locate(curve: AxisCurve, along_px: float) -> tuple[FloatArray, float]:
    along = np.array([along_px])
    return curve.locate(along)[0], float(direction_angle_deg(curve.directions(along))[0])
