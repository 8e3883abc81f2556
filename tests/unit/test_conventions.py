from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliodor.conventions import (
    disc_area_px,
    score_to_probability,
    to_original,
    to_working,
    working_shape,
)

sides = st.integers(1, 12000)
shapes = st.tuples(sides, sides)
coordinates = st.lists(st.tuples(st.floats(-100, 12100), st.floats(-100, 12100)), max_size=5).map(
    lambda xy: np.array(xy, dtype=float).reshape(-1, 2)
)


@given(coordinates, shapes, shapes)
@example(np.array([[3.0, 5.0]]), (4096, 4095), (511, 512))
def test_to_original_undoes_to_working(xy, original, working):
    there = to_working(xy, original, working)
    np.testing.assert_allclose(to_original(there, original, working), xy, rtol=1e-14, atol=1e-12)
    back = to_original(xy, original, working)
    np.testing.assert_allclose(to_working(back, original, working), xy, rtol=1e-14, atol=1e-12)


def test_x_goes_with_the_width_and_y_with_the_height():
    np.testing.assert_array_equal(
        to_working(np.array([[100.0, 100.0]]), (200, 1000), (100, 250)), [[25.0, 50.0]]
    )
    np.testing.assert_array_equal(
        to_original(np.array([[25.0, 50.0]]), (200, 1000), (100, 250)), [[100.0, 100.0]]
    )


def test_pixel_zero_stays_where_it_is_without_a_half_pixel():
    zero = np.zeros((1, 2))
    np.testing.assert_array_equal(to_original(zero, (4096, 4096), (512, 512)), zero)
    np.testing.assert_array_equal(to_original(zero + 1, (4096, 4096), (512, 512)), [[8.0, 8.0]])


@given(shapes, st.floats(0.1, 20), st.floats(0.1, 20))
def test_a_working_image_is_never_larger_than_the_original_nor_empty(shape, size, wanted):
    working = working_shape(shape, size, wanted)
    assert all(1 <= small <= big for small, big in zip(working, shape, strict=True))
    if wanted <= size:
        assert working == shape


def test_the_working_shape_keeps_height_and_width_apart():
    assert working_shape((4092, 5760), 0.83, 6.64) == (512, 720)  # 511.5 to even


def test_probabilities_at_the_extremes():
    scores = np.array([-np.inf, -1e308, -800.0, 0.0, 800.0, 1e308, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = score_to_probability(scores)
        assert math.isnan(score_to_probability(np.array([np.nan]))[0])
    np.testing.assert_array_equal(p, [0, 0, 0, 0.5, 1, 1, 1])


@given(st.floats(-30, 30))
def test_probability_is_the_sigmoid(score):
    p = float(score_to_probability(np.array(score)))
    assert p == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-12)
    assert p + float(score_to_probability(np.array(-score))) == pytest.approx(1, abs=1e-12)


@given(st.floats(0, 12))
@example(0.0)
@example(1.0)
@example(5.0)
@example(math.sqrt(2))
def test_disc_area_by_counting(radius):
    reach = range(-13, 14)
    count = sum(x * x + y * y <= radius**2 for x in reach for y in reach)
    assert disc_area_px(radius) == count
