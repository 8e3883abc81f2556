"""Join the parts of filaments across gaps, and across filaments that they cross.

Coordinates are those of `evidence`: steps of the lattice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.picking.filaments.evidence import DirectionalEvidence
from heliodor.picking.filaments.tracing import Limits, Trace

#: How far parts may be apart if there is evidence between them, as where filaments of nearly the
#: same direction cross; widths of the filament.
CROSSING_WIDTHS = 5.0
#: What ends may deviate from a smooth curve, beside what the curvature allows: sideways in widths,
#: and in direction.
SIDEWAYS_WIDTHS, DEVIATION_DEG = 0.3, 22.0
#: Ends that are nearer, in widths, may have passed each other.
TOUCHING_WIDTHS = 1.2


@dataclass(frozen=True)
class _Bridge:
    """A possible connection of two ends."""

    cost: float
    #: Number of a trace, times two, plus one for its last point.
    one: int
    other: int


def link_traces(
    traces: Sequence[Trace], evidence: DirectionalEvidence, limits: Limits, gap: float
) -> list[FloatArray]:
    """Join traces to the axes of filaments, the most likely connections first.

    Parameters
    ----------
    gap
        The longest part of a filament without evidence.

    Returns
    -------
    list of ndarray
        Points (x, y) of the axes, shape (n, 2).
    """
    if not traces:
        return []
    partner: dict[int, int] = {}
    leader = list(range(len(traces)))

    def find(number: int) -> int:
        while leader[number] != number:
            number = leader[number]
        return number

    for bridge in _find_bridges(traces, evidence, limits, gap):
        one, other = find(bridge.one // 2), find(bridge.other // 2)
        if bridge.one in partner or bridge.other in partner or one == other:
            continue
        partner[bridge.one], partner[bridge.other] = bridge.other, bridge.one
        leader[max(one, other)] = min(one, other)
    return _collect(traces, partner)


def _find_bridges(
    traces: Sequence[Trace], evidence: DirectionalEvidence, limits: Limits, gap: float
) -> list[_Bridge]:
    ends = np.array([point for one in traces for point in (one.axis[0], one.axis[-1])])
    headings = np.array(
        [turn for one in traces for turn in (one.angles[0] + math.pi, one.angles[-1])]
    )
    reach = max(gap, CROSSING_WIDTHS * limits.width)
    bridges = []
    for one, other in sorted(cKDTree(ends).query_pairs(reach)):
        if one // 2 == other // 2:
            continue
        cost = _cost_of(
            ends[one], headings[one], ends[other], headings[other], evidence, limits, gap
        )
        if cost is not None:
            bridges.append(_Bridge(cost, one, other))
    return sorted(bridges, key=lambda bridge: (bridge.cost, bridge.one, bridge.other))


def _cost_of(
    one: FloatArray,
    heading: float,
    other: FloatArray,
    other_heading: float,
    evidence: DirectionalEvidence,
    limits: Limits,
    gap: float,
) -> float | None:
    """Return how unlikely it is that a filament continues from one end to another; None: no."""
    between = other - one
    distance = float(np.hypot(*between))
    turn = abs(_wrap(other_heading + math.pi - heading))
    allowed = math.radians(DEVIATION_DEG) + distance / limits.radius
    if turn > allowed:
        return None
    middle = heading + 0.5 * _wrap(other_heading + math.pi - heading)
    ahead = float(between @ (math.cos(middle), math.sin(middle)))
    aside = abs(float(between @ (-math.sin(middle), math.cos(middle))))
    # An arc that turns as much as this between its ends is symmetric about the middle direction.
    most_aside = SIDEWAYS_WIDTHS * limits.width + max(0.0, ahead) * math.tan(0.5 * allowed) * 0.5
    if ahead < -TOUCHING_WIDTHS * limits.width or aside > most_aside:
        return None
    if ahead < 0.0 and distance > TOUCHING_WIDTHS * limits.width:
        return None
    empty = _measure_gap(one, between, distance, limits, evidence)
    if empty > gap:
        return None
    return (
        empty / max(gap, 1e-6)
        + 0.3 * distance / (CROSSING_WIDTHS * limits.width)
        + (turn / allowed) ** 2
        + (aside / most_aside) ** 2
    )


def _measure_gap(
    start: FloatArray,
    between: FloatArray,
    distance: float,
    limits: Limits,
    evidence: DirectionalEvidence,
) -> float:
    """Return the length of a straight bridge without evidence for a filament along it."""
    count = max(2, math.ceil(distance) + 1)
    xs, ys = start[:, None] + between[:, None] * (np.arange(count) + 0.5) / count
    angle = math.atan2(between[1], between[0])
    turns = np.radians([-10.0, 0.0, 10.0])[:, None]
    values = evidence.at(xs[None], ys[None], angle + turns)
    return float(distance * np.mean(values.max(axis=0) < limits.low))


def _wrap(angle: float) -> float:
    """Return an angle within -180 to 180 degrees, in radians."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def _collect(traces: Sequence[Trace], partner: dict[int, int]) -> list[FloatArray]:
    """Return the axes of the chains of traces, each from its first free end."""
    axes = []
    done: set[int] = set()
    for number in range(len(traces)):
        for first in (2 * number, 2 * number + 1):
            if number in done or first in partner:
                continue
            parts = []
            end: int | None = first
            while end is not None:
                own = traces[end // 2].axis
                done.add(end // 2)
                parts.append(own if end % 2 == 0 else own[::-1])
                end = partner.get(end ^ 1)
            axes.append(_join(parts))
    return axes


def _join(parts: Sequence[FloatArray]) -> FloatArray:
    """Join parts; where two have passed each other, what is behind the other is left out."""
    axis = parts[0]
    for part in parts[1:]:
        while min(len(axis), len(part)) > 2:
            if (part[0] - axis[-1]) @ (axis[-1] - axis[-2]) > 0.0:
                break
            axis, part = axis[:-1], part[1:]
        axis = np.concatenate([axis, part])
    return axis
