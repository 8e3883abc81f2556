from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.filaments.geometry import (
    axial_difference_deg,
    crop_axis,
    direction_angle_deg,
    join_axes,
    locate,
    measure_arc,
    measure_length,
    project_on_axis,
    remove_repeated_points,
    simplify_axis,
    split_axis,
)

numbers = st.floats(-500, 1500).map(lambda value: round(value, 3))
axes = (
    st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8)
    .map(lambda points: remove_repeated_points(np.array(points)))
    .filter(lambda axis: len(axis) > 1)
)


@given(axes, st.floats(-180, 180), st.tuples(numbers, numbers))
def test_length_is_the_same_after_a_rotation_shift_or_reversal(axis, angle, shift):
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = axis @ np.array([[cos, sin], [-sin, cos]]) + shift
    assert measure_length(turned) == pytest.approx(measure_length(axis), rel=1e-9, abs=1e-9)
    assert measure_length(axis[::-1]) == pytest.approx(measure_length(axis))


@given(axes, st.lists(st.floats(0, 1), max_size=4))
def test_pieces_join_to_the_whole(axis, shares):
    cuts = np.array(shares) * measure_length(axis)
    pieces = split_axis(axis, cuts)
    assert sum(map(measure_length, pieces)) == pytest.approx(measure_length(axis))
    np.testing.assert_array_equal(pieces[0][0], axis[0])
    np.testing.assert_array_equal(pieces[-1][-1], axis[-1])
    for one, other in itertools.pairwise(pieces):
        np.testing.assert_array_equal(one[-1], other[0])


@given(st.booleans(), st.booleans())
def test_the_closest_ends_are_joined(turn_one, turn_other):
    one, other = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[12.0, 1.0], [30.0, 2.0]])
    joined = join_axes(one[:: -1 if turn_one else 1], other[:: -1 if turn_other else 1])
    np.testing.assert_array_equal(joined, [[0, 0], [10, 0], [12, 1], [30, 2]])


@given(axes, st.floats(0, 1))
def test_a_point_of_the_axis_is_nearest_to_itself(axis, share):
    along = share * measure_length(axis)
    nearest = project_on_axis(locate(axis, np.array([along])), axis)
    assert nearest.distance_px[0] < 1e-6


def test_distances_from_a_corner():
    axis = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    points = np.array([[5.0, 2.0], [-3.0, -4.0], [13.0, 5.0], [10.0, 12.0]])
    distance, along = project_on_axis(points, axis)
    np.testing.assert_allclose(distance, [2, 5, 3, 2])
    np.testing.assert_allclose(along, [5, 0, 15, 20])


@given(axes)
def test_what_is_inside_stays_to_the_last_bit(axis):
    inside = np.clip(axis, 0.0, [799.0, 599.0])
    inside = remove_repeated_points(inside)
    if len(inside) > 1:
        (piece,) = crop_axis(inside, (600, 800))
        np.testing.assert_array_equal(piece, inside)


@given(axes)
def test_cropped_pieces_are_inside_and_on_the_axis(axis):
    for piece in crop_axis(axis, (600, 800)):
        assert (piece >= 0).all()
        assert (piece <= [799, 599]).all()
        assert project_on_axis(piece, axis).distance_px.max() < 1e-6
    # Points inside are on one of the pieces.
    along = np.linspace(0, measure_length(axis), 50)
    points = locate(axis, along)
    inside = points[((points > 1e-6) & (points < [799 - 1e-6, 599 - 1e-6])).all(axis=1)]
    if len(inside):
        pieces = crop_axis(axis, (600, 800))
        gaps = np.min([project_on_axis(inside, piece).distance_px for piece in pieces], axis=0)
        assert gaps.max() < 1e-6


def test_an_axis_that_leaves_and_returns_is_two_pieces():
    axis = np.array([[10.0, 10.0], [10.0, -10.0], [20.0, -10.0], [20.0, 10.0]])
    first, second = crop_axis(axis, (100, 100))
    np.testing.assert_allclose(first, [[10, 10], [10, 0]])
    np.testing.assert_allclose(second, [[20, 0], [20, 10]])


def test_angles_grow_from_x_to_y():
    directions = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, -1.0]])
    np.testing.assert_allclose(direction_angle_deg(directions), [0, 90, 180, -45])


@given(st.floats(-720, 720), st.floats(-720, 720))
def test_axes_have_no_polarity(one, other):
    difference = axial_difference_deg(np.array(one), np.array(other))
    assert 0 <= difference <= 90
    turned = axial_difference_deg(np.array(one + 180), np.array(other))
    assert turned == pytest.approx(difference, abs=1e-9)


def test_arc_length():
    np.testing.assert_allclose(
        measure_arc(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])), [0, 5, 6]
    )


@given(st.integers(2, 40), st.floats(0.1, 20.0), st.integers(0, 10))
def test_a_simplified_axis_is_near_all_points(count: int, tolerance: float, seed: int) -> None:
    axis = np.cumsum(np.random.default_rng(seed).uniform(0.1, 9.0, (count, 2)), axis=0)
    simple = simplify_axis(axis, tolerance)
    assert project_on_axis(axis, simple).distance_px.max() <= tolerance + 1e-9
    np.testing.assert_array_equal(simple[[0, -1]], axis[[0, -1]])
    assert len(simplify_axis(np.linspace([0, 0], [50, 20], count), tolerance)) == 2
