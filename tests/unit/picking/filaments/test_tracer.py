"""Tracing, on maps that are made from true axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.conventions import FloatArray
from heliodor.data.filaments.geometry import locate, measure_length, project_on_axis
from heliodor.models.filament_maps import FilamentMaps
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.tracer import Geometry, trace_filaments
from helpers.filament_maps import make_maps

WIDTH = 20.0
SHAPE = (400, 480)
GEOMETRY = Geometry(WIDTH, 2.0 * WIDTH, 4.0 * WIDTH, 3.0 * WIDTH)


def line(start: tuple[float, float], end: tuple[float, float]) -> FloatArray:
    return np.linspace(start, end, 9)


def trace(maps: FilamentMaps, geometry: Geometry = GEOMETRY) -> list[ScoredAxis]:
    return trace_filaments(maps, geometry, SHAPE)


def largest_distance(found: FloatArray, true: FloatArray) -> float:
    """Return how far points of one axis are from another."""
    return float(project_on_axis(found, true).distance_px.max())


def covered(true: FloatArray, found: list[ScoredAxis]) -> float:
    """Return the share of an axis that others lie on."""
    points = locate(true, np.linspace(0.0, measure_length(true), 200))
    near = [project_on_axis(points, one.axis).distance_px < 0.25 * WIDTH for one in found]
    return float(np.mean(np.any(near, axis=0))) if near else 0.0


@settings(max_examples=6)
@given(st.floats(0.0, 180.0), st.floats(2.5, 6.0))
def test_a_line_is_found_where_it_is(angle: float, points_per_width: float) -> None:
    half = 130.0 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    true = np.array([240.0, 200.0]) + np.linspace(-1.0, 1.0, 7)[:, None] * half
    (found,) = trace(make_maps([true], SHAPE, WIDTH, points_per_width))
    assert largest_distance(found.axis, true) < 0.35 * WIDTH
    assert measure_length(found.axis) == pytest.approx(260.0, abs=WIDTH)
    middle = found.axis[2:-2]
    assert largest_distance(middle, true) < 0.05 * WIDTH
    slope = np.degrees(np.arctan2(*np.diff(middle, axis=0).T[::-1]))
    turn = np.abs((slope - angle + 90.0) % 180.0 - 90.0)
    assert turn.max() < 1.5
    assert np.median(found.scores) > 2.0


def flip(maps: FilamentMaps, x: bool, y: bool, swap: bool) -> FilamentMaps:
    """Return the maps of the mirrored micrograph."""
    axis, double, offset = maps.axis, maps.double_angle.copy(), maps.offset_px.copy()
    first, (height, width) = list(maps.first_px), maps.axis.shape
    if x:
        axis, double, offset = axis[:, ::-1], double[..., ::-1], offset[..., ::-1]
        double, offset = double * [[[1]], [[-1]]], offset * [[[-1]], [[1]]]
        first[0] = SHAPE[1] - 1 - (first[0] + maps.spacing_px * (width - 1))
    if y:
        axis, double, offset = axis[::-1], double[:, ::-1], offset[:, ::-1]
        double, offset = double * [[[1]], [[-1]]], offset * [[[1]], [[-1]]]
        first[1] = SHAPE[0] - 1 - (first[1] + maps.spacing_px * (height - 1))
    if swap:
        axis = axis.T
        double = np.swapaxes(double, 1, 2) * [[[-1]], [[1]]]
        offset = np.swapaxes(offset, 1, 2)[::-1]
        first = first[::-1]
    return replace(
        maps, axis=axis, double_angle=double, offset_px=offset, first_px=(first[0], first[1])
    )


@pytest.mark.parametrize(
    ("x", "y", "swap"),
    [(True, False, False), (False, True, False), (True, True, False), (False, False, True)],
)
def test_turning_and_mirroring_maps_does_so_to_the_axes(x: bool, y: bool, swap: bool) -> None:
    true = [
        line((30, 50), (440, 300)),
        line((60, 330), (400, 90)),
        np.array([[40, 380], [150, 340], [260, 350], [380, 385]], dtype=float),
    ]
    maps = make_maps(true, SHAPE, WIDTH, 4.0, noise=1.0, seed=3)
    before = trace(maps)
    shape = SHAPE[::-1] if swap else SHAPE
    after = trace_filaments(flip(maps, x, y, swap), GEOMETRY, shape)
    assert len(before) == len(after) == 3
    for one in before:
        moved = one.axis.copy()
        if x:
            moved[:, 0] = SHAPE[1] - 1 - moved[:, 0]
        if y:
            moved[:, 1] = SHAPE[0] - 1 - moved[:, 1]
        if swap:
            moved = moved[:, ::-1]
        nearest = min(after, key=lambda other: largest_distance(moved, other.axis))
        assert largest_distance(moved, nearest.axis) < 0.25 * WIDTH
        assert np.mean(one.scores) == pytest.approx(np.mean(nearest.scores), abs=0.3)


@settings(max_examples=5)
@given(st.floats(25.0, 90.0), st.floats(0.0, 180.0))
def test_a_crossing_gives_two_filaments(between: float, turn: float) -> None:
    middle = np.array([240.0, 200.0])
    true = []
    for angle in np.radians([turn, turn + between]):
        half = 170.0 * np.array([np.cos(angle), np.sin(angle)])
        true.append(middle + np.linspace(-1, 1, 9)[:, None] * half)
    found = trace(make_maps(true, SHAPE, WIDTH))
    assert len(found) == 2
    for one in true:
        assert max(covered(one, [own]) for own in found) > 0.93


def test_neighbors_in_a_bundle_are_all_found() -> None:
    true = [line((40, y), (440, y + 30)) for y in (100.0, 121.0, 142.0, 163.0)]
    found = trace(make_maps(true, SHAPE, WIDTH))
    assert len(found) == 4
    assert min(covered(one, found) for one in true) > 0.95


@pytest.mark.parametrize(("gap", "pieces"), [(1.2, 1), (4.0, 2)])
def test_a_gap_is_bridged_up_to_a_limit(gap: float, pieces: int) -> None:
    half = 0.5 * gap * WIDTH
    true = [line((30, 200), (240 - half, 200)), line((240 + half, 200), (450, 200))]
    found = trace(make_maps(true, SHAPE, WIDTH))
    assert len(found) == pieces


def test_the_gap_is_an_argument() -> None:
    true = [line((30, 200), (200, 200)), line((280, 200), (450, 200))]
    maps = make_maps(true, SHAPE, WIDTH)
    assert len(trace(maps)) == 2
    assert len(trace(maps, replace(GEOMETRY, gap_px=5.0 * WIDTH))) == 1
    bent = [line((30, 200), (200, 200)), line((250, 220), (250, 390))]
    wide = replace(GEOMETRY, gap_px=5.0 * WIDTH)
    assert len(trace(make_maps(bent, SHAPE, WIDTH), wide)) == 2


def test_filaments_that_join_are_not_found_twice_along_the_same_part() -> None:
    stem = line((30, 200), (240, 200))
    branch = np.concatenate([line((30, 200), (240, 200)), line((242, 201), (440, 290))])
    found = trace(make_maps([line((30, 200), (450, 190)), branch], SHAPE, WIDTH))
    on_stem = [np.mean(project_on_axis(one.axis, stem).distance_px < 0.2 * WIDTH) *
               measure_length(one.axis) for one in found]  # fmt: skip
    assert sum(on_stem) < 1.2 * 210


def test_without_gaps_nothing_is_joined() -> None:
    true = [line((30, 200), (210, 200)), line((270, 200), (450, 200))]
    assert len(trace(make_maps(true, SHAPE, WIDTH), replace(GEOMETRY, gap_px=0.0))) == 2


def test_bends_sharper_than_the_limit_are_not_followed() -> None:
    turn = np.linspace(0.0, np.pi, 20)
    radius = 3.0 * WIDTH
    arc = np.column_stack([240 + radius * np.sin(turn), 200 - radius * np.cos(turn)])
    bent = np.concatenate([line((60, 140), (239, 140)), arc, line((239, 260), (60, 260))])
    maps = make_maps([bent], SHAPE, WIDTH)
    whole = trace(maps, replace(GEOMETRY, radius_px=2.0 * WIDTH))
    assert len(whole) == 1
    assert covered(bent, whole) > 0.95
    straight = trace(maps, replace(GEOMETRY, radius_px=12.0 * WIDTH))
    assert len(straight) > 1


def test_nothing_gives_nothing() -> None:
    empty = make_maps([], SHAPE, WIDTH)
    assert trace(empty) == []
    assert trace(make_maps([], SHAPE, WIDTH, noise=1.5, seed=1)) == []
    everywhere = replace(empty, axis=np.full_like(empty.axis, -np.inf))
    assert trace(everywhere) == []


def test_short_filaments_are_left_out() -> None:
    maps = make_maps([line((200, 200), (280, 200))], SHAPE, WIDTH)
    assert len(trace(maps)) == 1
    assert trace(maps, replace(GEOMETRY, least_length_px=6.0 * WIDTH)) == []


def test_filaments_end_at_blocked_points_and_at_the_edge() -> None:
    true = line((-60, 150), (540, 250))
    maps = make_maps([true], SHAPE, WIDTH)
    (whole,) = trace(maps)
    assert whole.axis.min() >= 0.0
    assert np.all(whole.axis.max(axis=0) <= (SHAPE[1] - 1, SHAPE[0] - 1))
    assert np.ptp(whole.axis[:, 0]) > SHAPE[1] - WIDTH
    blocked = np.zeros(maps.axis.shape, dtype=bool)
    blocked[:, blocked.shape[1] // 2 :] = True
    (part,) = trace_filaments(maps, GEOMETRY, SHAPE, blocked)
    assert part.axis[:, 0].max() < SHAPE[1] / 2 + WIDTH


def test_a_ring_ends() -> None:
    turn = np.linspace(0.0, 2.0 * np.pi, 60)
    ring = np.column_stack([240 + 150 * np.cos(turn), 200 + 150 * np.sin(turn)])
    found = trace(make_maps([ring], SHAPE, WIDTH))
    length = sum(measure_length(one.axis) for one in found)
    assert length == pytest.approx(2 * np.pi * 150, rel=0.08)
    assert covered(ring, found) > 0.95


def test_the_same_maps_give_the_same_axes() -> None:
    true = [line((30, 50), (440, 300)), line((60, 330), (400, 90))]
    maps = make_maps(true, SHAPE, WIDTH, noise=2.5, blobs=4, seed=5)
    one, other = trace(maps), trace(maps)
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.axis, second.axis)
        np.testing.assert_array_equal(first.scores, second.scores)
