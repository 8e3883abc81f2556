"""Move traced axes to where the points beside them say that the axis is, and find their ends.

Coordinates are those of `evidence`: steps of the lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import logit

from heliodor.conventions import FloatArray
from heliodor.data.filaments.curve import fit_curve
from heliodor.data.filaments.geometry import locate, measure_arc
from heliodor.picking.filaments.evidence import LatticePoints

#: Distance between the points of an axis, in widths of the filament.
SPACING_WIDTHS = 0.5
#: Half of the width within which points of the lattice belong to an axis.
BESIDE_WIDTHS = 0.4
#: Distance along the axis over which its position is averaged (standard deviation, widths).
SMOOTHING_WIDTHS = 1.6
#: Accuracy of offsets (widths of the filament) and of angles that the two are weighted by.
OFFSET_WIDTHS, DIRECTION_DEG = 0.12, 10.0
#: How often an axis is moved, and how far at most each time, in widths.
ROUNDS, MOST_WIDTHS = 3, 0.25
#: Distance along the axis over which its score is averaged (standard deviation, widths).
SCORE_WIDTHS = 0.5
#: The largest probability, so that scores are finite.
SUREST = 0.998
#: How far ends are looked for beyond where the trace ends, in widths.
BEYOND_WIDTHS = 1.0


@dataclass(frozen=True, eq=False)
class ScoredAxis:
    """An axis with the log-odds of a filament at its points."""

    #: Points (x, y) at equal distances, shape (n, 2), n at least 2.
    axis: FloatArray
    #: Shape (n,).
    scores: FloatArray

    @property
    def score(self) -> float:
        """The mean log-odds, the score of the filament."""
        return float(np.mean(self.scores))


class _Samples(NamedTuple):
    """Many points of an axis, so that the nearest one is found quickly."""

    tree: cKDTree
    axis: FloatArray
    along: FloatArray
    angle: FloatArray

    @classmethod
    def of(cls, axis: FloatArray) -> _Samples:
        """Return points half a step of the lattice apart."""
        arc = measure_arc(axis)
        along = np.linspace(0.0, arc[-1], max(2, math.ceil(2.0 * arc[-1])))
        edge = np.clip(np.searchsorted(arc, along, side="right") - 1, 0, len(arc) - 2)
        edges = np.diff(axis, axis=0)
        places = locate(axis, along)
        return cls(cKDTree(places), places, along, np.arctan2(edges[edge, 1], edges[edge, 0]))


@dataclass(frozen=True, eq=False)
class _Beside:
    """Points of the lattice beside an axis."""

    along: FloatArray
    #: Where the axis is, sideways; to the right of the direction of the axis where y points down.
    aside: FloatArray
    #: Tangent of the angle between the axis and the direction at the point.
    slope: FloatArray
    probability: FloatArray
    #: How far the direction is known, 0 to 1.
    confidence: FloatArray


def refine(axis: FloatArray, points: LatticePoints, width: float) -> ScoredAxis | None:
    """Return the smooth axis with its scores, None if nothing is left of it."""
    spacing = SPACING_WIDTHS * width
    axis = _extend(fit_curve(axis).resample(spacing), BEYOND_WIDTHS * width, points, spacing)
    for number in range(ROUNDS):
        # What is averaged are positions relative to the axis, so it must be smooth itself.
        axis = _smooth(axis, SMOOTHING_WIDTHS * width)
        beside = _find_beside(axis, points, width)
        if len(beside.along) == 0:
            return None
        arc = measure_arc(axis)
        shift = _regress(arc, beside, width)
        if number == 0:
            kept = _find_ends(arc, beside, width)
            if kept is None:
                return None
            axis, arc, shift = axis[kept], arc[kept], shift[kept]
        normals = _normals(axis)
        limit = MOST_WIDTHS * width
        axis = axis + np.clip(shift, -limit, limit)[:, None] * normals
        curve = fit_curve(axis)
        if curve.length_px < 0.5 * spacing:
            return None
        axis = curve.resample(spacing)
    scores = score_along(axis, points, width)
    return ScoredAxis(axis, scores)


def score_along(axis: FloatArray, points: LatticePoints, width: float) -> FloatArray:
    """Return the log-odds of a filament at the points of an axis.

    One point of the lattice per step lies within half a step of a straight line. The sum of the
    probabilities beside an axis therefore is the number of steps with a filament, however well
    its position across is known.
    """
    arc = measure_arc(axis)
    beside = _find_beside(axis, points, width)
    return _to_scores(_density(arc, beside, width))


def _to_scores(density: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(density, 1.0 - SUREST, SUREST)))


def _density(arc: FloatArray, beside: _Beside, width: float) -> FloatArray:
    """Return the sum of the probabilities per step, at positions along the axis."""
    sigma = SCORE_WIDTHS * width
    kernel = np.exp(-0.5 * ((beside.along[None] - arc[:, None]) / sigma) ** 2)
    # The share of the kernel that lies along the axis.
    fine = np.arange(0.5, max(1.0, arc[-1]))
    whole = np.exp(-0.5 * ((fine[None] - arc[:, None]) / sigma) ** 2).sum(axis=1)
    sums = (kernel * beside.probability[None]).sum(axis=1)
    return np.asarray(sums / np.maximum(whole, 1e-9))


def _find_beside(axis: FloatArray, points: LatticePoints, width: float) -> _Beside:
    """Return the points whose nearest axis may be this one."""
    reach = BESIDE_WIDTHS * width
    height, columns = points.probability.shape
    low = np.maximum(np.floor(axis.min(axis=0) - reach).astype(int), 0)
    high = np.minimum(np.ceil(axis.max(axis=0) + reach).astype(int) + 1, (columns, height))
    if np.any(high <= low):
        return _Beside(*(np.zeros(0) for _ in range(5)))
    xs, ys = np.arange(low[0], high[0]), np.arange(low[1], high[1])
    near = _mask_near(axis, xs, ys, reach + 1.0)
    rows, cols = (index[near] for index in np.meshgrid(ys, xs, indexing="ij"))
    nearest = points.nearest[:, rows, cols].T
    places = np.column_stack([cols, rows]).astype(np.float64)
    samples = _Samples.of(axis)
    _, aside, direction = _project(nearest, samples)
    own_along, own_aside, _ = _project(places, samples)
    double = points.double_angle[:, rows, cols]
    confidence = np.hypot(*double)
    own = 0.5 * np.arctan2(double[1], double[0])
    turn = (own - direction + 0.5 * math.pi) % math.pi - 0.5 * math.pi
    # What has another direction belongs to a filament that crosses.
    agrees = 1.0 - confidence * (1.0 - np.exp(-0.5 * (np.degrees(turn) / 20.0) ** 2))
    probability = points.probability[rows, cols]
    is_beside = np.abs(own_aside) <= reach
    is_beside &= (own_along > 0.0) & (own_along < measure_arc(axis)[-1])
    slope = np.tan(np.clip(turn, -1.0, 1.0))
    keep = is_beside & (probability > 1e-4)
    return _Beside(
        own_along[keep],
        np.clip(aside, -reach, reach)[keep],
        slope[keep],
        (probability * agrees)[keep],
        confidence[keep],
    )


def _mask_near(axis: FloatArray, xs: FloatArray, ys: FloatArray, reach: float) -> FloatArray:
    """Return which points of a rectangle are near the points of an axis, shape (rows, columns)."""
    mask = np.zeros((len(ys), len(xs)), dtype=bool)
    step = float(np.hypot(*np.diff(axis, axis=0).T).max(initial=0.0))
    radius = math.hypot(reach, 0.5 * step) + 0.5
    whole = math.ceil(radius)
    offsets = np.mgrid[-whole : whole + 1, -whole : whole + 1].reshape(2, -1)
    offsets = offsets[:, np.hypot(*offsets) <= radius + 0.71]
    rows = (np.rint(axis[:, 1]).astype(int) - ys[0])[:, None] + offsets[0]
    cols = (np.rint(axis[:, 0]).astype(int) - xs[0])[:, None] + offsets[1]
    is_inside = (rows >= 0) & (rows < len(ys)) & (cols >= 0) & (cols < len(xs))
    mask[rows[is_inside], cols[is_inside]] = True
    return mask


def _project(places: FloatArray, samples: _Samples) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return position along an axis, signed position aside and direction of the axis there."""
    _, index = samples.tree.query(places)
    direction = samples.angle[index]
    offset = places - samples.axis[index]
    cos, sin = np.cos(direction), np.sin(direction)
    along = samples.along[index] + cos * offset[:, 0] + sin * offset[:, 1]
    return along, cos * offset[:, 1] - sin * offset[:, 0], direction


def _regress(arc: FloatArray, beside: _Beside, width: float) -> FloatArray:
    """Return how far the axis lies aside at positions along it.

    A straight line is fitted to offsets and directions around each position.
    """
    sigma = SMOOTHING_WIDTHS * width
    u = (beside.along[None] - arc[:, None]) / sigma
    weight = np.exp(-0.5 * u**2) * beside.probability[None]
    of_offset = (width * OFFSET_WIDTHS) ** -2
    of_slope = beside.confidence[None] ** 2 * (sigma * math.tan(math.radians(DIRECTION_DEG))) ** -2
    v, slope = beside.aside[None], beside.slope[None] * sigma
    # A weak preference for where the axis is now, for positions without points.
    s00 = (weight * of_offset).sum(axis=1) + 0.05 * of_offset
    s01 = (weight * u * of_offset).sum(axis=1)
    s11 = (weight * (u**2 * of_offset + of_slope)).sum(axis=1) + 0.05 * of_offset
    t0 = (weight * v * of_offset).sum(axis=1)
    t1 = (weight * (u * v * of_offset + slope * of_slope)).sum(axis=1)
    determinant = s00 * s11 - s01**2
    return np.asarray((t0 * s11 - t1 * s01) / determinant)


def _smooth(axis: FloatArray, sigma: float) -> FloatArray:
    """Return the axis after a local fit of a parabola to its points."""
    arc = measure_arc(axis)
    u = (arc[None] - arc[:, None]) / sigma
    weight = np.exp(-0.5 * u**2)
    degree = min(2, len(axis) - 1)
    powers = np.stack([u**n for n in range(degree + 1)], axis=2)
    weighted = weight[..., None] * powers
    normal = np.einsum("ijk,ijl->ikl", weighted, powers) + 1e-9 * np.eye(degree + 1)
    moment = np.einsum("ijk,jc->ikc", weighted, axis)
    return np.asarray(np.linalg.solve(normal, moment)[:, 0])


def _find_ends(arc: FloatArray, beside: _Beside, width: float) -> slice | None:
    """Return the part of an axis between the outermost positions with a filament."""
    density = _density(arc, beside, width)
    usual = min(1.0, float(np.median(density)))
    # Half of the kernel still reaches the filament where it ends.
    inside = np.flatnonzero(density >= 0.5 * usual)
    if len(inside) < 2:
        return None
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _extend(axis: FloatArray, length: float, points: LatticePoints, spacing: float) -> FloatArray:
    """Return an axis with straight ends that are as much longer, as far as the lattice reaches."""
    height, width = points.probability.shape
    count = max(1, round(length / spacing))
    steps = spacing * np.arange(1, count + 1)[:, None]
    parts = [axis]
    for end, before, place in ((axis[0], axis[1], 0), (axis[-1], axis[-2], 2)):
        direction = (end - before) / np.hypot(*(end - before))
        more = end + steps * direction
        inside = np.all((more >= -0.5) & (more <= (width - 0.5, height - 0.5)), axis=1)
        count_inside = int(np.argmin(inside)) if not inside.all() else len(inside)
        more = more[:count_inside]
        parts.insert(place, more[::-1] if place == 0 else more)
    return np.concatenate(parts)


def _normals(axis: FloatArray) -> FloatArray:
    """Return the directions to the right of an axis (y points down) at its points."""
    slopes = np.gradient(axis, axis=0)
    unit = slopes / np.maximum(np.hypot(*slopes.T), 1e-9)[:, None]
    return np.column_stack([-unit[:, 1], unit[:, 0]])
