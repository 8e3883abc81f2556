"""Follow filaments through the evidence for them, from the surest place in both directions.

Coordinates are those of `evidence`: steps of the lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.picking.filaments.evidence import DIRECTIONS, DirectionalEvidence

#: A step along a filament, and how far it may move sideways, in widths of the filament.
STEP_WIDTHS, SIDE_WIDTHS = 0.35, 0.12
#: Directions and positions sideways that are tried for a step.
TURNS, SIDES = 7, 5
#: How much evidence the largest turn of a step costs.
TURN_COST = 0.12
#: Half of the width, and the angle on both sides, within which a traced filament is the only one.
CLAIM_WIDTHS, CLAIM_DEG = 0.55, 32.0
#: Steps without evidence after which a filament has ended.
MOST_EMPTY = 2
#: A filament that comes back to where it was, after as many widths, has ended.
LOOP_WIDTHS = 4.0


@dataclass(frozen=True)
class Limits:
    """What a filament is, in steps of the lattice."""

    width: float
    #: The smallest radius of curvature.
    radius: float
    #: Evidence with which a filament begins to be traced, and without which it ends.
    high: float
    low: float


class Claims:
    """Positions and directions of the filaments that have been traced."""

    def __init__(self, evidence: DirectionalEvidence, width: float) -> None:
        height, columns = evidence.shape
        reach = CLAIM_WIDTHS * width
        self._taken: NDArray[np.bool_] = np.zeros((DIRECTIONS, height, columns), dtype=bool)
        whole = math.ceil(reach) + 1
        offsets = np.mgrid[-whole : whole + 1, -whole : whole + 1].reshape(2, -1)
        self._offsets = offsets[:, np.hypot(*offsets) <= reach + 0.5]
        turns = round(CLAIM_DEG * DIRECTIONS / 180.0)
        self._turns = np.arange(-turns, turns + 1)

    def has(self, direction: int, row: int, column: int) -> bool:
        """Return whether a point of the lattice belongs to a filament of this direction."""
        return bool(self._taken[direction, row, column])

    def has_at(self, x: float, y: float, angle: float) -> bool:
        """Return whether the nearest point of the lattice belongs to one; angle in radians."""
        _, height, width = self._taken.shape
        row = min(max(round(y), 0), height - 1)
        column = min(max(round(x), 0), width - 1)
        return self.has(round(angle * DIRECTIONS / math.pi) % DIRECTIONS, row, column)

    def add(self, axis: FloatArray, angles: FloatArray) -> None:
        """Claim the surroundings of an axis.

        Parameters
        ----------
        axis
            Points (x, y) not more than a step or two apart, shape (n, 2).
        angles
            Directions in radians, shape (n,).
        """
        _, height, width = self._taken.shape
        for (x, y), angle in zip(axis, angles, strict=True):
            rows, columns = np.rint(y) + self._offsets[0], np.rint(x) + self._offsets[1]
            is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            own = (round(angle * DIRECTIONS / math.pi) + self._turns) % DIRECTIONS
            self._taken[
                own[:, None],
                rows[is_inside].astype(np.intp),
                columns[is_inside].astype(np.intp),
            ] = True


@dataclass(frozen=True, eq=False)
class Trace:
    """A part of a filament that was followed without a gap."""

    #: Points (x, y), shape (n, 2), n at least 2.
    axis: FloatArray
    #: Directions from each point to the next, radians, shape (n,).
    angles: FloatArray


def trace_all(evidence: DirectionalEvidence, limits: Limits) -> list[Trace]:
    """Follow all filaments, from the surest to the least sure."""
    claims = Claims(evidence, limits.width)
    least_steps = max(2, math.ceil(1.0 / STEP_WIDTHS))
    traces = []
    for direction, row, column in evidence.find_seeds(limits.high):
        if claims.has(direction, row, column):
            continue
        angle = direction * math.pi / DIRECTIONS
        trace = _trace_from(evidence, claims, limits, float(column), float(row), angle)
        # A seed is used up also if nothing was followed from it.
        claims.add(trace.axis, trace.angles)
        if len(trace.axis) > least_steps:
            traces.append(trace)
    return traces


def _trace_from(
    evidence: DirectionalEvidence,
    claims: Claims,
    limits: Limits,
    x: float,
    y: float,
    angle: float,
) -> Trace:
    x, y = _center(evidence, limits, x, y, angle)
    ahead, ahead_angles, is_ring = _follow(evidence, claims, limits, x, y, angle)
    behind, behind_angles = list[tuple[float, float]](), list[float]()
    if not is_ring:
        behind, behind_angles, _ = _follow(evidence, claims, limits, x, y, angle + math.pi)
    axis = np.array([*behind[::-1], (x, y), *ahead])
    angles = np.array([*(a - math.pi for a in behind_angles[::-1]), angle, *ahead_angles])
    return Trace(axis, angles)


def _center(
    evidence: DirectionalEvidence, limits: Limits, x: float, y: float, angle: float
) -> tuple[float, float]:
    """Move a seed sideways to where the evidence is largest."""
    side = np.linspace(-1.0, 1.0, 9) * SIDE_WIDTHS * limits.width
    xs, ys = x - side * math.sin(angle), y + side * math.cos(angle)
    best = int(np.argmax(evidence.at(xs, ys, np.full(len(side), angle))))
    return float(xs[best]), float(ys[best])


def _follow(
    evidence: DirectionalEvidence,
    claims: Claims,
    limits: Limits,
    x: float,
    y: float,
    angle: float,
) -> tuple[list[tuple[float, float]], list[float], bool]:
    """Follow a filament in one direction.

    Returns
    -------
    list, list, bool
        The points after the first one, their directions, and whether it came back to a part of
        itself.
    """
    step = STEP_WIDTHS * limits.width
    sharpest = step / limits.radius
    turns = np.linspace(-1.0, 1.0, TURNS)[:, None]
    sides = np.linspace(-1.0, 1.0, SIDES)[None, :] * SIDE_WIDTHS * limits.width
    cost = TURN_COST * turns**2
    points: list[tuple[float, float]] = []
    angles: list[float] = []
    empty, came_back = 0, False
    height, width = evidence.shape
    most = math.ceil(4.0 * (height + width) / step)
    loop = math.ceil(LOOP_WIDTHS / STEP_WIDTHS)
    for _ in range(most):
        headings = angle + sharpest * turns
        # Along an arc, the chord has half of the turn.
        chords = angle + 0.5 * sharpest * turns
        xs = x + step * np.cos(chords) - sides * np.sin(chords)
        ys = y + step * np.sin(chords) + sides * np.cos(chords)
        values = evidence.at(xs, ys, np.broadcast_to(headings, xs.shape))
        turn, side = np.unravel_index(int(np.argmax(values - cost)), values.shape)
        x, y = float(xs[turn, side]), float(ys[turn, side])
        angle = float(headings[turn, 0])
        if not evidence.contains(x, y) or claims.has_at(x, y, angle):
            break
        empty = empty + 1 if values[turn, side] < limits.low else 0
        came_back = _returns(points, angles, x, y, angle, limits.width, loop)
        if empty > MOST_EMPTY or came_back:
            break
        points.append((x, y))
        angles.append(angle)
    if empty:
        del points[max(0, len(points) - empty) :], angles[max(0, len(angles) - empty) :]
    return points, angles, came_back


def _returns(
    points: list[tuple[float, float]],
    angles: list[float],
    x: float,
    y: float,
    angle: float,
    width: float,
    loop: int,
) -> bool:
    """Return whether a filament comes back to an earlier part of itself, in its direction."""
    if len(points) <= loop:
        return False
    earlier = np.array(points[:-loop])
    near = np.hypot(*(earlier - (x, y)).T) < CLAIM_WIDTHS * width
    if not near.any():
        return False
    turned = np.cos(np.array(angles[:-loop])[near] - angle)
    return bool((turned > math.cos(math.radians(CLAIM_DEG))).any())
