from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliodor.conventions import disc_area_px
from heliodor.data.coordinates.labels import (
    LabeledImage,
    class_prior,
    disc_pixels,
    guess_particles,
    make_label_mask,
    mask_outside,
    mask_repeated,
)
from heliodor.training.sampler import Sampler

shapes = st.tuples(st.integers(1, 15), st.integers(1, 15))
points = st.lists(
    st.tuples(
        st.floats(-5, 20) | st.integers(-10, 40).map(lambda i: i / 2),
        st.floats(-5, 20) | st.integers(-10, 40).map(lambda i: i / 2),
    ),
    max_size=5,
)


@given(points, shapes, st.floats(0, 6) | st.integers(0, 6))
def test_discs_by_asking_every_pixel(xy, shape, radius):
    flat = disc_pixels(np.array(xy, dtype=float).reshape(-1, 2), shape, radius)
    assert (np.diff(flat) > 0).all()  # sorted, each once
    got = {(int(i) // shape[1], int(i) % shape[1]) for i in flat}
    near, nearest = set(), set()
    for x, y in xy:
        square = {
            (row, column): (column - x) ** 2 + (row - y) ** 2
            for row in range(shape[0])
            for column in range(shape[1])
        }
        near |= {pixel for pixel, value in square.items() if value <= radius**2}
        if -0.5 <= x <= shape[1] - 0.5 and -0.5 <= y <= shape[0] - 0.5:
            least = min(square.values())
            # Between two pixels both are nearest, and either will do.
            own = {pixel for pixel, value in square.items() if value <= least + 1e-9}
            assert own & got
            nearest |= own
    assert near <= got <= near | nearest


def test_a_disc_by_hand():
    # x is the column, y the row.
    assert make_label_mask(np.array([[2.0, 1.0]]), (4, 5), 1.0).astype(int).tolist() == [
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("radius", [0.0, 1.0, 2.5, 3.125])
def test_a_whole_disc_has_the_area_of_a_disc(radius):
    assert len(disc_pixels(np.array([[20.0, 10.0]]), (30, 40), radius)) == disc_area_px(radius)


@pytest.mark.parametrize("point", [(-0.5, -0.5), (3.5, 2.5), (4.5, 3.5), (0.4, 0.4)])
def test_every_point_inside_has_its_pixel(point):
    shape = (4, 5)
    assert not mask_outside(np.array([point]), shape).any()
    assert len(disc_pixels(np.array([point]), shape, 0.1)) == 1


def test_overlapping_discs_count_once():
    apart = disc_pixels(np.array([[10.0, 10.0], [30.0, 10.0]]), (40, 40), 3)
    together = disc_pixels(np.array([[10.0, 10.0], [10.0, 10.0]]), (40, 40), 3)
    touching = disc_pixels(np.array([[10.0, 10.0], [13.0, 10.0]]), (40, 40), 3)
    assert len(apart) == 2 * disc_area_px(3)
    assert len(together) == disc_area_px(3)
    assert disc_area_px(3) < len(touching) < 2 * disc_area_px(3)


def test_no_points_are_no_pixels():
    assert len(disc_pixels(np.zeros((0, 2)), (10, 10), 3)) == 0
    assert not make_label_mask(np.zeros((0, 2)), (10, 12), 3).any()
    assert make_label_mask(np.zeros((0, 2)), (10, 12), 3).shape == (10, 12)


@given(points, shapes)
def test_outside(xy, shape):
    told = mask_outside(np.array(xy, dtype=float).reshape(-1, 2), shape)
    height, width = shape
    expected = [not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5) for x, y in xy]
    assert told.tolist() == expected


def test_guess_particles_by_hand():
    # 15 % of 1000 x 1000 A in discs of 100 A diameter, 7854 A^2 each.
    assert guess_particles(1e6, 100, 0) == pytest.approx(0.15e6 / 7853.98, rel=1e-5)
    assert guess_particles(1e6, 100, 57) == 57
    assert guess_particles(1e3, 100, 0) == 1


def blank(shape: tuple[int, int], *xy: tuple[float, float]) -> LabeledImage:
    return LabeledImage(np.zeros(shape, np.float32), np.array(xy, float).reshape(-1, 2))


def test_class_prior_by_hand():
    # 10 particles expected on 100 x 50 pixels, discs of 29 pixels.
    assert disc_area_px(3) == 29
    one = blank((100, 50), (20, 20), (30, 60))
    assert class_prior(10, [one], 3) == pytest.approx((290 - 58) / (5000 - 58))
    # Images count in proportion to their labels: those without any are not drawn from.
    other = blank((50, 100), (20, 20))
    both = (2 * (290 - 58) / (5000 - 58) + (290 - 29) / (5000 - 29)) / 3
    assert class_prior(10, [one, other, blank((9, 9))], 3) == pytest.approx(both)


def test_the_class_prior_is_that_of_the_image_without_its_margin():
    own = LabeledImage(np.zeros((50, 100), np.float32), np.array([[40, 25]]), margin_px=5)
    inner = LabeledImage(np.zeros((40, 90), np.float32), np.array([[35, 20]]))
    assert class_prior(10, [own], 3) == class_prior(10, [inner], 3)


def test_the_class_prior_is_the_fraction_that_the_sampler_draws():
    random = np.random.default_rng(0)
    truth = [np.sort(random.permutation(10_000)[:400]) for _ in range(2)]
    places = [np.column_stack([t % 100, t // 100]).astype(float) for t in truth]
    # One micrograph is labeled almost completely, the other hardly.
    images = [blank((100, 100), *xy[:n]) for xy, n in zip(places, (360, 40), strict=True)]
    # And with picks that count as labels, on the one with few labels.
    picked = [images[0], replace(images[1], picked_xy_px=places[1][40:340])]
    for own in (images, picked):
        drawn = Sampler(own, 0, 1, seed=0)._draw_unlabelled(200_000).numpy()
        positive = np.concatenate([truth[0], 10_000 + truth[1]])
        share = np.isin(drawn, positive).mean()
        assert class_prior(400, own, 0) == pytest.approx(share, rel=0.05)


def test_class_prior_stays_between_its_margins():
    full = blank((100, 100), *[(x, y) for x in range(5, 100, 10) for y in range(5, 100, 10)])
    assert class_prior(100, [full], 3) == 1e-4  # all labeled already
    assert class_prior(1, [full], 3) == 1e-4  # more labeled than expected
    assert class_prior(1e6, [full], 3) == 1 - 1e-4
    assert 0 < class_prior(1, [blank((5, 5), (2, 2))], 30) < 1  # nothing is left unlabeled


@given(st.floats(0, 1e5), st.lists(shapes, min_size=1, max_size=4), st.floats(0, 9))
def test_the_class_prior_is_always_one_to_take_logarithms_of(expected, shapes, radius):
    prior = class_prior(expected, [blank(shape, (1, 1)) for shape in shapes], radius)
    assert 1e-4 <= prior <= 1 - 1e-4
    assert math.isfinite(math.log(prior) + math.log1p(-prior))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 20), st.just(2)), elements=st.integers(0, 4)),
    st.floats(-0.4, 0.4),
)
def test_one_label_of_each_pixel_remains(xy, offset):
    kept = xy[~mask_repeated(xy + offset)]
    assert len({tuple(one) for one in kept.tolist()}) == len(kept)
    assert {tuple(one) for one in kept.tolist()} == {tuple(one) for one in xy.tolist()}
    firsts = [one for n, one in enumerate(xy.tolist()) if one not in xy.tolist()[:n]]
    assert kept.tolist() == firsts
