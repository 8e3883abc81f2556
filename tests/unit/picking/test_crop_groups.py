"""Groups of crops that look alike: particles apart from junk, however they are rotated."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate

from heliodor.picking.crop_groups import (
    DIAMETER_PX,
    SIDE_PX,
    as_gray,
    average_crops,
    cut_crops,
    group_crops,
)

RADIUS = np.hypot(*(np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2))


def _ring() -> NDArray[np.float64]:
    return -1.0 * (np.abs(RADIUS - DIAMETER_PX / 3) < 2)


def _disc() -> NDArray[np.float64]:
    return -1.0 * (RADIUS < DIAMETER_PX / 6)


def _bar() -> NDArray[np.float64]:
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2
    return -1.0 * ((np.abs(row) < 3) & (np.abs(column) < DIAMETER_PX / 2))


def _noisy(image: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, 0.4, (count, SIDE_PX, SIDE_PX))
    return (image + noise).astype(np.float32)


def _same_partition(group: NDArray[np.intp], kind: NDArray[np.intp]) -> bool:
    """Return whether hardly a crop is in a group of mostly another kind."""
    return sum(np.bincount(kind[group == g]).max() for g in set(group)) >= 0.95 * len(kind)


def test_what_looks_different_is_in_different_groups() -> None:
    crops = np.concatenate(
        [_noisy(_ring(), 60, 1), _noisy(_disc(), 30, 2), _noisy(0 * _disc(), 30, 3)]
    )
    kind = np.repeat([0, 1, 2], [60, 30, 30])
    found = group_crops(crops, groups=6)
    assert _same_partition(found.group, kind)
    assert found.counts.tolist() == sorted(np.bincount(found.group), reverse=True)
    assert found.counts.sum() == len(crops)


def test_features_separate_what_looks_the_same() -> None:
    crops, kind = _noisy(_ring(), 80, 1), np.arange(80) % 2
    features = np.random.default_rng(2).normal(0, 0.2, (80, 6)) + 4.0 * kind[:, None]
    assert _same_partition(group_crops(crops, features, groups=2).group, kind)


def test_features_are_compared_in_units_of_their_noise() -> None:
    random = np.random.default_rng(2)
    crops, kind = _noisy(_ring(), 120, 1), np.arange(120) % 2
    # Many features vary together and say nothing, one with little variance says it.
    mixing = random.normal(0, 1, (3, 12))
    mixing[:, 0] = 0

    def vary(count: int) -> NDArray[np.float64]:
        return random.normal(0, 3, (count, 3)) @ mixing + random.normal(0, 0.05, (count, 12))

    features = vary(120)
    features[:, 0] += 8.0 * kind
    assert not _same_partition(group_crops(crops, features, groups=4).group, kind)
    found = group_crops(crops, features, groups=4, noise=vary(200))
    assert _same_partition(found.group, kind)


def test_scores_separate_what_looks_the_same() -> None:
    crops, kind = _noisy(_ring(), 120, 1), np.arange(120) % 2
    features = np.random.default_rng(2).normal(0, 1, (120, 6)) * 1e-3
    scores = 8.0 * kind + np.random.default_rng(3).normal(0, 0.1, 120)
    found = group_crops(crops, features, groups=40, scores=scores)
    assert _same_partition(found.group, kind)
    assert not _same_partition(group_crops(crops, features, groups=40).group, kind)


def test_more_groups_than_the_crops_need_are_left_out() -> None:
    crops = np.concatenate([_noisy(_ring(), 30, 1), np.repeat(_noisy(_disc(), 1, 2), 30, axis=0)])
    counts = group_crops(crops, groups=40).counts
    assert counts.sum() == 60
    assert (counts > 0).all()
    assert counts.max() >= 30


def test_groups_do_not_depend_on_the_rotation_of_the_crops() -> None:
    crops = np.concatenate([_noisy(_bar(), 40, 1), _noisy(_ring(), 40, 2)])
    turned = np.stack([np.rot90(crop[1:, 1:], i % 4) for i, crop in enumerate(crops)])
    crops[:, 1:, 1:] = turned
    assert _same_partition(group_crops(crops, groups=2).group, np.repeat([0, 1], 40))


def test_the_average_of_a_group_is_sharper_than_that_of_unrotated_crops() -> None:
    random = np.random.default_rng(3)
    bars = [rotate(_bar(), random.uniform(0, 360), reshape=False, order=1) for _ in range(60)]
    crops = np.stack([b + random.normal(0, 0.5, b.shape) for b in bars]).astype(np.float32)
    found = group_crops(crops, groups=1)
    inside = RADIUS < DIAMETER_PX / 2

    def spread(image: NDArray[np.float32]) -> float:
        return float(gaussian_filter(image, 1)[inside].std())

    assert spread(found.averages[0]) > 1.3 * spread(average_crops(crops))


def test_the_same_seed_gives_the_same_groups() -> None:
    crops = _noisy(_ring(), 50, 1)
    one, two = (group_crops(crops, groups=6, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.group, two.group)
    np.testing.assert_array_equal(one.averages, two.averages)


def test_there_are_not_more_groups_than_different_crops() -> None:
    crops = np.repeat(_noisy(_ring(), 2, 1), 3, axis=0)
    assert len(group_crops(crops, groups=20).counts) <= 2


@pytest.mark.parametrize("count", [0, 3])
def test_crops_and_features_must_fit(count: int) -> None:
    with pytest.raises(ValueError, match="one row"):
        group_crops(_noisy(_ring(), count, 1), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="a score"):
        group_crops(_noisy(_ring(), count, 1), scores=np.zeros(2))


@pytest.mark.parametrize("pixel_size", [2.0, 12.0])
def test_crops_have_the_particle_in_their_middle_at_any_sampling(pixel_size: float) -> None:
    diameter, side = 24 * 5.0, round(1200 / pixel_size)
    row, column = np.mgrid[:side, :side] * pixel_size
    xy = np.array([[400.0, 300.0], [700.0, 900.0], [5.0, 8.0]]) / pixel_size
    image = np.random.default_rng(5).normal(0, 1, (side, side))
    for x, y in xy * pixel_size:
        image -= 20 * (np.hypot(row - y, column - x) < 45)
    crops = cut_crops(image.astype(np.float32), pixel_size, xy, diameter)
    assert crops.shape == (3, SIDE_PX, SIDE_PX)
    for crop in crops[:2]:
        weight = np.clip(-crop, 0, None) * (RADIUS < 16)
        middle = (
            np.array([(weight * axis).sum() for axis in np.indices(crop.shape)]) / weight.sum()
        )
        np.testing.assert_allclose(middle, SIDE_PX // 2, atol=1.0)


def test_averages_become_gray_images() -> None:
    gray = as_gray(np.stack([_ring(), 0 * _ring()]).astype(np.float32))
    assert gray.dtype == np.uint8
    assert np.ptp(gray[0]) > 100
    assert (gray[1] == 128).all()
