"""Averages over rings around points, and how far they are from chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from heliodor.data.coordinates.ring_averages import (
    RING_PX,
    RINGS,
    SIDE_PX,
    USUAL,
    RingMaps,
    count_coincidence,
    measure_distances,
    standardize_distance,
)
from helpers.networks import discs, noise, scattered

HERE = np.zeros((1, 2), dtype=np.intp)


@settings(max_examples=10)
@given(st.integers(60, 200), st.integers(60, 200), st.integers(0, 99))
def test_rings_are_averages_of_the_image(height, width, seed):
    maps = RingMaps.from_image(noise((height, width), seed))
    row, column = height // 2, width // 2
    distance = np.hypot(*np.ogrid[-row : height - row, -column : width - column])
    ring = np.floor(distance / RING_PX)
    expected = np.array([maps.image[ring == k].mean() for k in range(RINGS)])
    # The mean over the image, nearly 0, is subtracted.
    np.testing.assert_allclose(maps.rings[row, column], expected, rtol=0, atol=0.05)


def test_random_points_have_the_chi_squared_law():
    maps = [RingMaps.from_image(noise((400, 500), seed)) for seed in range(2)]
    random = np.random.default_rng(0)
    found = [
        measure_distances(maps, [random.uniform(20, 380, (40, 2)) for _ in maps], HERE)[0]
        for _ in range(200)
    ]
    assert stats.kstest(found, stats.chi2(RINGS).cdf).pvalue > 0.01
    assert stats.chi2(RINGS).median() == pytest.approx(USUAL, abs=1e-3)


@given(st.floats(0.001, 0.999))
def test_standard_deviations_above_chance(share):
    square = stats.chi2(RINGS).ppf(share)
    assert standardize_distance(square) == pytest.approx(stats.norm.ppf(share), abs=0.1)


def test_particles_are_far_from_chance_only_where_they_are():
    xy = scattered((400, 500), 40, 14, 0)
    maps = RingMaps.from_image(discs((400, 500), xy, depth=1.0, seed=0))
    here, there = measure_distances([maps], [xy], np.array([[0, 0], [7, 31]]))
    assert standardize_distance(here) > 8
    assert standardize_distance(there) < 4
    assert here == pytest.approx(measure_distances([maps], [xy - 5], HERE + 5)[0], rel=0.1)


def test_points_on_top_of_each_other_count_once():
    maps = RingMaps.from_image(noise((400, 500), 0))
    xy = 20 + 40.0 * np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2)
    once = measure_distances([maps], [xy], HERE)
    assert count_coincidence(xy) == 1
    assert count_coincidence(np.repeat(xy, 5, axis=0)) == 5
    assert count_coincidence(xy / 400) == len(xy)
    assert measure_distances([maps], [np.repeat(xy, 5, axis=0)], HERE) == pytest.approx(once)


def test_points_moved_out_of_the_image_do_not_count():
    maps = RingMaps.from_image(noise((200, 200), 0))
    xy = np.array([[10.0, 10.0], [150.0, 150.0]])
    one, none = measure_distances([maps], [xy], np.array([[100, 100], [300, 0]]))
    assert one == pytest.approx(measure_distances([maps], [xy[:1] + 100], HERE)[0])
    assert none == 0


@pytest.mark.parametrize("shape", [(3, 40), (700, 900)])
def test_images_of_any_size(shape):
    maps = RingMaps.from_image(noise(shape))
    assert max(maps.shape) == min(max(shape), SIDE_PX)
    assert np.isfinite(maps.rings).all()


def test_a_constant_image_is_chance():
    maps = RingMaps.from_image(np.full((200, 200), 3.0, dtype=np.float32))
    assert measure_distances([maps], [np.full((30, 2), 90.0)], HERE)[0] == pytest.approx(0)
