"""Random axes of filaments on a square field: sparse, crossing, in bundles, rafts or mats, broken.

A raft is a bundle of many filaments that touch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.data.filaments.geometry import measure_directions

#: Distance between the points of an axis, pixels.
POINT_PX = 0.5
#: The direction changes over steps of this length; in between the curvature is constant.
TURN_PX = 6.0
#: Shortest filament, in widths.
LEAST_WIDTHS = 2.0
#: Widths of the gap in a broken filament.
GAP_WIDTHS = (0.3, 2.0)
#: Relative frequency of each layout, and most filaments of it, not counting those beside them.
STYLES = {
    "sparse": (0.22, 7),
    "crossing": (0.22, 12),
    "bundled": (0.2, 6),
    "raft": (0.26, 6),
    "mat": (0.1, 26),
}


@dataclass(frozen=True)
class AxisLayout:
    """How the filaments of one field lie."""

    #: Filaments, not counting those beside them in bundles.
    count: int
    #: Distance over which a filament keeps its direction, in widths.
    persistence_widths: float
    #: Lengths in sides of the field.
    lengths: tuple[float, float]
    #: Smallest distance between the axes of different groups in widths; 0 lets them cross.
    apart_widths: float
    #: Share of filaments with others beside them, least and most of these, and their distance in
    #: widths.
    bundles: float
    neighbors: tuple[int, int]
    pitch_widths: tuple[float, float]
    #: Share of broken filaments.
    breaks: float
    #: Spread of the directions about a common one in radians; None for any direction.
    spread: float | None
    #: Whether they are rafts.
    is_raft: bool = False


def draw_layout(rng: np.random.Generator) -> AxisLayout:
    """Draw how filaments lie."""
    shares = np.array([share for share, _ in STYLES.values()])
    style = str(rng.choice(list(STYLES), p=shares / shares.sum()))
    count = max(1, round(math.exp(rng.uniform(0.0, math.log(STYLES[style][1])))))
    low = rng.uniform(0.1, 0.9)
    spread = rng.uniform(0.03, 0.5) if rng.random() < (0.6 if style == "mat" else 0.12) else None
    bundles = rng.uniform(0.4, 1.0) if style == "bundled" else 0.1 * (style != "sparse")
    layout = AxisLayout(
        count=count,
        persistence_widths=math.exp(rng.uniform(math.log(9.0), math.log(4000.0))),
        lengths=(low, low + rng.uniform(0.1, 2.0)),
        apart_widths=0.0 if style != "sparse" else rng.uniform(1.15, 2.0),
        bundles=bundles,
        neighbors=(1, int(rng.choice([1, 2, 3, 4, 7]))),
        pitch_widths=(0.95, rng.uniform(1.0, 1.4)),
        breaks=rng.uniform(0.1, 0.6) if rng.random() < 0.3 else 0.0,
        spread=spread,
    )
    return _draw_raft(rng, layout) if style == "raft" else layout


def _draw_raft(rng: np.random.Generator, layout: AxisLayout) -> AxisLayout:
    """Return the same layout with dense bundles of many filaments, often broken."""
    least = int(rng.integers(2, 6))
    pitch = rng.uniform(0.92, 1.08)
    return replace(
        layout,
        bundles=rng.uniform(0.6, 1.0),
        neighbors=(least, least + int(rng.integers(0, 6))),
        pitch_widths=(pitch, pitch + rng.uniform(0.0, 0.15)),
        breaks=rng.uniform(0.1, 0.7) if rng.random() < 0.5 else 0.0,
        is_raft=True,
    )


def draw_axes(
    rng: np.random.Generator, layout: AxisLayout, side_px: int, width_px: float
) -> list[FloatArray]:
    """Draw axes, which may leave the field.

    Parameters
    ----------
    rng
        Source of randomness.
    layout
        How they lie.
    side_px, width_px
        Side of the field, and width of the filaments.

    Returns
    -------
    list of ndarray
        Points (x, y) every `POINT_PX`, shape (n, 2).
    """
    placed: list[FloatArray] = []
    common = rng.uniform(0.0, math.pi)
    for _ in range(layout.count):
        for _ in range(6):
            axis = _draw_axis(rng, layout, side_px, width_px, common)
            group = [axis]
            if rng.random() < layout.bundles:
                group += _draw_neighbors(rng, layout, axis, width_px)
            if layout.apart_widths == 0.0 or not placed:
                break
            tree = cKDTree(np.concatenate([one[::4] for one in placed]))
            nearest = min(float(tree.query(one[::4])[0].min()) for one in group)
            if nearest >= layout.apart_widths * width_px:
                break
        else:
            continue
        placed += group
    pieces = []
    for axis in placed:
        pieces += _break(rng, axis, width_px) if rng.random() < layout.breaks else [axis]
    return pieces


def keep_free_parts(
    axes: list[FloatArray], clearance: FloatArray, width_px: float
) -> list[FloatArray]:
    """Return the parts of axes that keep half a width away from contaminants.

    Parameters
    ----------
    axes
        Points (x, y), shape (n, 2) each.
    clearance
        Distance of each pixel from the nearest blocked one, shape (h, w); outside, the nearest
        pixel counts.
    width_px
        Width of the filaments; shorter parts than `LEAST_WIDTHS` are left out.
    """
    kept = []
    height, width = clearance.shape
    for axis in axes:
        column = np.clip(np.rint(axis[:, 0]).astype(int), 0, width - 1)
        row = np.clip(np.rint(axis[:, 1]).astype(int), 0, height - 1)
        free = clearance[row, column] >= 0.5 * width_px
        if free.all():
            kept.append(axis)
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if (end - start) * POINT_PX >= LEAST_WIDTHS * width_px:
                kept.append(axis[start:end])
    return kept


def _draw_axis(
    rng: np.random.Generator, layout: AxisLayout, side_px: int, width_px: float, common: float
) -> FloatArray:
    """Draw a curve whose direction is a smooth random walk."""
    length = max(rng.uniform(*layout.lengths) * side_px, (LEAST_WIDTHS + 0.5) * width_px)
    turns = math.ceil(length / TURN_PX) + 1
    persistence = layout.persistence_widths * width_px
    heading = np.cumsum(rng.normal(scale=math.sqrt(TURN_PX / persistence), size=turns))
    heading = gaussian_filter1d(heading, 1.0, mode="nearest")
    start = rng.uniform(0.0, 2.0 * math.pi)
    if layout.spread is not None:
        start = common + rng.normal(scale=layout.spread) + rng.choice([0.0, math.pi])
    heading += start - heading[turns // 2]
    points = np.arange(0.0, length, POINT_PX)
    heading = np.interp(points, TURN_PX * np.arange(turns), heading)
    steps = POINT_PX * np.column_stack([np.cos(heading), np.sin(heading)])
    chain = np.cumsum(steps, axis=0)
    middle = int(rng.integers(len(chain)))
    return np.asarray(chain - chain[middle] + rng.uniform(0.0, side_px, 2))


def _draw_neighbors(
    rng: np.random.Generator, layout: AxisLayout, axis: FloatArray, width_px: float
) -> list[FloatArray]:
    """Draw axes beside another, each a part of its length."""
    found, sides = [], {-1: 0.0, 1: 0.0}
    normals = measure_directions(axis)[:, ::-1] * np.array([-1.0, 1.0])
    for _ in range(int(rng.integers(layout.neighbors[0], layout.neighbors[1] + 1))):
        side = int(rng.choice([-1, 1]))
        sides[side] += width_px * rng.uniform(*layout.pitch_widths)
        low, high = rng.uniform(0.0, 0.35), rng.uniform(0.65, 1.0)
        own = slice(int(low * len(axis)), int(high * len(axis)))
        beside = axis[own] + side * sides[side] * normals[own]
        # Where the curve is too tight its neighbor would fold back on itself.
        ways = np.diff(beside, axis=0) * np.diff(axis[own], axis=0)
        if len(beside) > 2 and (ways.sum(axis=1) > 0.0).all():
            found.append(_resample(beside))
    return [one for one in found if len(one) * POINT_PX >= LEAST_WIDTHS * width_px]


def _resample(axis: FloatArray) -> FloatArray:
    """Return points at equal distances along a polyline."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(axis, axis=0).T))])
    along = np.arange(0.0, arc[-1], POINT_PX)
    return np.column_stack([np.interp(along, arc, side) for side in axis.T])


def _break(rng: np.random.Generator, axis: FloatArray, width_px: float) -> list[FloatArray]:
    """Return the parts of a filament on both sides of a gap."""
    middle = rng.uniform(0.2, 0.8) * len(axis)
    half = 0.5 * rng.uniform(*GAP_WIDTHS) * width_px / POINT_PX
    parts = (axis[: max(0, int(middle - half))], axis[int(middle + half) :])
    return [part for part in parts if len(part) * POINT_PX >= LEAST_WIDTHS * width_px]
