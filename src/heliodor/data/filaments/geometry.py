"""Geometry of axes: polylines of points (x, y) in pixels, shape (n, 2), from the start to the end.

Angles are those of the direction of the axis in the image, in degrees: 0 along x (to the right
where row 0 is at the top), 90 along y (downwards).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from heliodor.conventions import FloatArray, Shape


class Nearest(NamedTuple):
    """The points of an axis that are nearest to some points, shape (m,) each."""

    #: Distance from the axis, pixels.
    distance_px: FloatArray
    #: Position along the axis, pixels from its start.
    along_px: FloatArray


def measure_arc(axis_px: FloatArray) -> FloatArray:
    """Return the distance of each point from the start along the polyline, shape (n,)."""
    steps = np.hypot(*np.diff(axis_px, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def measure_length(axis_px: FloatArray) -> float:
    """Return the length of a polyline in pixels."""
    return float(measure_arc(axis_px)[-1])


def remove_repeated_points(axis_px: FloatArray) -> FloatArray:
    """Return a polyline without points that are equal to the one before them."""
    changed = np.any(np.diff(axis_px, axis=0) != 0.0, axis=1)
    return np.asarray(axis_px[np.concatenate([[True], changed])])


def direction_angle_deg(directions: FloatArray) -> FloatArray:
    """Return the angles of directions (x, y), within (-180, 180], shape (n,).

    Parameters
    ----------
    directions
        Shape (n, 2), of any length but 0.
    """
    return np.asarray(np.degrees(np.arctan2(directions[:, 1], directions[:, 0])))


def measure_directions(axis_px: FloatArray) -> FloatArray:
    """Return the direction (x, y) of a polyline at each of its points, of length 1, shape (n, 2).

    Inner points have that from the point before to the point after.
    """
    slopes = np.gradient(axis_px, axis=0)
    lengths = np.maximum(np.hypot(*slopes.T), np.finfo(float).tiny)
    return np.asarray(slopes / lengths[:, None])


def axial_difference_deg(one_deg: FloatArray, other_deg: FloatArray) -> FloatArray:
    """Return the angle between axes without polarity, within 0 to 90 degrees."""
    difference = np.abs(np.asarray(one_deg) - np.asarray(other_deg)) % 180.0
    return np.minimum(difference, 180.0 - difference)


def project_on_axis(points_px: FloatArray, axis_px: FloatArray) -> Nearest:
    """Find the points of an axis that are nearest to some points.

    Parameters
    ----------
    points_px
        Shape (m, 2).
    axis_px
        Shape (n, 2), at least two points.
    """
    starts, edges = axis_px[:-1], np.diff(axis_px, axis=0)
    squared = np.maximum((edges**2).sum(axis=1), np.finfo(float).tiny)
    offsets = points_px[:, None] - starts[None]
    share = np.clip((offsets * edges).sum(axis=2) / squared, 0.0, 1.0)
    distances = np.hypot(*np.moveaxis(offsets - share[..., None] * edges, 2, 0))
    best = distances.argmin(axis=1)
    rows = np.arange(len(points_px))
    lengths = np.sqrt(squared)
    along = measure_arc(axis_px)[best] + share[rows, best] * lengths[best]
    return Nearest(distances[rows, best], along)


def locate(axis_px: FloatArray, along_px: FloatArray) -> FloatArray:
    """Return the points of a polyline at distances along it, shape (m, 2)."""
    arc = measure_arc(axis_px)
    return np.column_stack([np.interp(along_px, arc, axis_px[:, side]) for side in (0, 1)])


def split_axis(axis_px: FloatArray, along_px: FloatArray) -> list[FloatArray]:
    """Cut a polyline at distances along it; cuts at its ends, and repeated cuts, are ignored.

    Returns
    -------
    list of ndarray
        The pieces in their order; neighbors share the point of the cut.
    """
    arc = measure_arc(axis_px)
    cuts = np.unique(along_px)
    cuts = cuts[(cuts > 0.0) & (cuts < arc[-1])]
    points = locate(axis_px, cuts)
    limits = np.concatenate([[0.0], cuts, [arc[-1]]])
    ends = np.concatenate([axis_px[:1], points, axis_px[-1:]])
    pieces = []
    for place, (low, high) in enumerate(itertools.pairwise(limits)):
        between = axis_px[(arc > low) & (arc < high)]
        piece = np.concatenate([ends[place : place + 1], between, ends[place + 1 :][:1]])
        # A cut at a point may differ from it by the rounding of the lengths alone.
        pieces.append(remove_repeated_points(piece))
    return pieces


def join_axes(one_px: FloatArray, other_px: FloatArray) -> FloatArray:
    """Join two polylines at the ends that are closest to each other by a straight line.

    The result begins at the far end of `one_px` and keeps its direction, unless only its start
    is near the other axis.
    """
    gaps = {
        (turn_one, turn_other): float(
            np.hypot(*(one_px[0 if turn_one else -1] - other_px[-1 if turn_other else 0]))
        )
        for turn_one in (False, True)
        for turn_other in (False, True)
    }
    turn_one, turn_other = min(gaps, key=gaps.__getitem__)
    first = one_px[::-1] if turn_one else one_px
    second = other_px[::-1] if turn_other else other_px
    return remove_repeated_points(np.concatenate([first, second]))


def crop_axis(axis_px: FloatArray, shape: Shape) -> list[FloatArray]:
    """Return the pieces of a polyline between the centers of the outermost pixels of an image.

    Parameters
    ----------
    shape
        (height, width) of the image.
    """
    last = np.array([shape[1] - 1.0, shape[0] - 1.0])
    pieces: list[list[FloatArray]] = []
    open_end = False
    for start, end in itertools.pairwise(axis_px):
        limits = _clip_edge(start, end, last)
        if limits is None:
            open_end = False
            continue
        low, high = limits
        # The ends themselves stay as they are, to the last bit.
        first = start if low == 0.0 else np.clip(start + low * (end - start), 0.0, last)
        second = end if high == 1.0 else np.clip(start + high * (end - start), 0.0, last)
        if not (open_end and low == 0.0):
            pieces.append([first])
        pieces[-1].append(second)
        open_end = high == 1.0
    joined = (remove_repeated_points(np.array(piece)) for piece in pieces)
    return [piece for piece in joined if len(piece) > 1]


def _clip_edge(start: FloatArray, end: FloatArray, last: FloatArray) -> tuple[float, float] | None:
    """Return which part of an edge lies within 0 to `last`, as shares of it (Liang and Barsky)."""
    low, high = 0.0, 1.0
    sides = zip(start.tolist(), (end - start).tolist(), last.tolist(), strict=True)
    for position, step, most in sides:
        if step == 0.0:
            if not 0.0 <= position <= most:
                return None
            continue
        enters, leaves = sorted([-position / step, (most - position) / step])
        low, high = max(low, enters), min(high, leaves)
    return (low, high) if low <= high else None


def simplify_axis(axis_px: FloatArray, tolerance_px: float) -> FloatArray:
    """Return a polyline with fewer points, from which the left out ones are not far.

    Parameters
    ----------
    tolerance_px
        The largest distance of a point that is left out (Douglas and Peucker 1973).
    """
    kept = np.zeros(len(axis_px), dtype=bool)
    kept[[0, -1]] = True
    parts = [(0, len(axis_px) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        inner = axis_px[first + 1 : last]
        distance = project_on_axis(inner, axis_px[[first, last]]).distance_px
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance_px:
            middle = first + 1 + farthest
            kept[middle] = True
            parts += [(first, middle), (middle, last)]
    return np.asarray(axis_px[kept])
