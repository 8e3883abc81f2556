from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from heliodor.data.filaments.geometry import measure_arc, measure_directions
from heliodor.simulation.training_world.filaments.axes import (
    LEAST_WIDTHS,
    POINT_PX,
    AxisLayout,
    draw_axes,
    draw_layout,
    keep_free_parts,
)

LAYOUT = AxisLayout(
    count=6, persistence_widths=50.0, lengths=(0.3, 0.8), apart_widths=0.0, bundles=0.0,
    neighbors=(1, 3), pitch_widths=(1.0, 1.2), breaks=0.0, spread=None,
)  # fmt: skip


def test_points_are_evenly_spaced_and_lengths_are_kept() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        for axis in draw_axes(rng, draw_layout(rng), 300, 12.0):
            steps = np.hypot(*np.diff(axis, axis=0).T)
            np.testing.assert_allclose(steps, POINT_PX, rtol=0.02)
            assert measure_arc(axis)[-1] >= LEAST_WIDTHS * 12.0 - 1.0


def test_stiff_filaments_are_straight_and_others_are_not() -> None:
    def bend(persistence: float) -> float:
        layout = replace(LAYOUT, count=40, persistence_widths=persistence)
        axes = draw_axes(np.random.default_rng(2), layout, 300, 12.0)
        ways = [measure_directions(axis) for axis in axes]
        return float(np.mean([(way[0] * way[-1]).sum() for way in ways]))

    assert bend(1e6) > 0.999
    assert bend(5.0) < 0.6


def test_filaments_apart_stay_apart_and_bundles_lie_side_by_side() -> None:
    apart = draw_axes(np.random.default_rng(3), replace(LAYOUT, apart_widths=1.5), 400, 12.0)
    assert len(apart) >= 2
    for number, axis in enumerate(apart):
        others = np.concatenate([*apart[:number], *apart[number + 1 :]])
        assert cKDTree(others).query(axis)[0].min() >= 1.5 * 12.0 - 2.0
    bundled = replace(LAYOUT, count=1, bundles=1.0, persistence_widths=1e4)
    axes = draw_axes(np.random.default_rng(4), bundled, 400, 12.0)
    assert len(axes) > 1
    gaps = [
        np.median(cKDTree(np.concatenate([*axes[:n], *axes[n + 1 :]])).query(axis)[0])
        for n, axis in enumerate(axes)
    ]
    assert 11.0 < min(gaps) < 15.0


def test_rafts_have_many_filaments_that_touch() -> None:
    rng = np.random.default_rng(6)
    rafts = [one for one in (draw_layout(rng) for _ in range(200)) if one.is_raft]
    assert 30 < len(rafts) < 80
    for layout in rafts[:20]:
        straight = replace(layout, count=1, bundles=1.0, persistence_widths=1e5, breaks=0.0)
        axes = draw_axes(rng, replace(straight, lengths=(1.0, 1.0)), 400, 12.0)
        assert layout.neighbors[0] <= len(axes) - 1 <= layout.neighbors[1]
        ways = np.mean([axis[-1] - axis[0] for axis in axes], axis=0)
        across = np.array([-ways[1], ways[0]]) / np.hypot(*ways)
        places = np.sort([(axis @ across).mean() for axis in axes]) / 12.0
        assert np.diff(places).min() > layout.pitch_widths[0] - 0.1
        assert np.diff(places).max() < layout.pitch_widths[1] + 0.1
        assert layout.pitch_widths[1] < 1.25


def test_a_break_leaves_a_gap() -> None:
    layout = replace(LAYOUT, count=1, persistence_widths=1e6, lengths=(0.8, 0.9))
    (whole,) = draw_axes(np.random.default_rng(5), layout, 400, 12.0)
    parts = draw_axes(np.random.default_rng(5), replace(layout, breaks=1.0), 400, 12.0)
    assert len(parts) == 2
    gap = np.hypot(*(parts[1][0] - parts[0][-1]))
    assert 0.3 * 12.0 - 1.0 < gap < 2.0 * 12.0 + 1.0
    assert sum(map(len, parts)) < len(whole)


def test_filaments_end_before_contaminants() -> None:
    axis = np.column_stack([np.arange(0.0, 200.0, POINT_PX), np.full(400, 50.0)])
    columns = np.arange(200)
    clearance = np.broadcast_to(np.abs(columns - 120.0), (100, 200))
    left, right = keep_free_parts([axis], clearance, 20.0)
    assert left[:, 0].max() < 110.6
    assert right[:, 0].min() > 129.4
    assert keep_free_parts([axis], np.zeros((100, 200)), 20.0) == []
