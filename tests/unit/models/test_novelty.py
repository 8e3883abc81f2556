"""Novelty: blocks as they are described, and what of a micrograph is unlike training."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.stats import multivariate_normal, skew

from heliodor.conventions import Image
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.models.novelty import (
    BLOCK_FEATURES,
    GAUSSIANS,
    NoveltyReference,
    choose_cell_size,
    describe_blocks,
)
from heliodor.simulation import SimulationSettings, simulate_micrograph
from helpers.networks import (
    discs,
    noise,
    scattered,
)

DIAMETER_PX = 30.0
SIDE = 384


def ordinary(seed: int) -> Image:
    """Dark discs on white noise."""
    return discs((SIDE, SIDE), scattered((SIDE, SIDE), 60, 12, seed), depth=2.0, seed=seed)


def with_film(seed: int) -> Image:
    """An ordinary micrograph of which the left 40 % is of a grainier film."""
    image = ordinary(seed)
    image[:, : SIDE * 2 // 5] += 1.5 * gaussian_filter1d(noise((SIDE, SIDE * 2 // 5), 90), 2)
    image[:, : SIDE * 2 // 5] += 1.2 * noise((SIDE, SIDE * 2 // 5), seed + 50)
    return image


@pytest.fixture(scope="module")
def reference() -> NoveltyReference:
    found = NoveltyReference.fit([ordinary(seed) for seed in range(4)], DIAMETER_PX)
    assert found is not None
    return found


def test_the_numbers_of_a_block_are_those_of_its_pixels() -> None:
    image = noise((16, 16), 3) + np.float32(0.3)
    table = describe_blocks(image, 8)
    assert table.shape == (1, 1, BLOCK_FEATURES)
    mean, *bands, skewness = table[0, 0]
    averages = [image.reshape(16 // k, k, 16 // k, k).mean(axis=(1, 3)) for k in (1, 2, 4, 8)]
    assert mean == pytest.approx(image.mean(), abs=1e-6)
    # Each band: how the pixels vary within those that are twice as large.
    for number, log in enumerate(bands[:3]):
        coarse = np.kron(averages[number + 1], np.ones((2, 2)))
        assert log == pytest.approx(math.log(np.var(averages[number] - coarse)), abs=1e-4)
    assert bands[3] == pytest.approx(math.log(np.var(averages[3])), abs=1e-4)
    assert skewness == pytest.approx(skew(averages[2].ravel()), abs=1e-4)


def test_blocks_overlap_by_half_and_are_averaged_by_three() -> None:
    image = noise((16 * 8, 16 * 6), 1)
    assert describe_blocks(image, 8).shape == (13, 9, BLOCK_FEATURES)
    # A place's numbers depend on the blocks around it, and on no others.
    changed = image.copy()
    changed[:8] += 5
    one, other = describe_blocks(image, 8), describe_blocks(changed, 8)
    assert not np.allclose(one[0], other[0])
    np.testing.assert_array_equal(one[1:, :, 1:5], other[1:, :, 1:5])


@given(st.integers(2, 70), st.integers(2, 70), st.sampled_from([8, 16, 24]))
def test_any_size_of_image(height: int, width: int, cell_px: int) -> None:
    table = describe_blocks(noise((height, width), 2), cell_px)
    assert np.isfinite(table).all()
    assert (table.size > 0) == (min(height, width) >= 2 * cell_px)


@pytest.mark.parametrize(("diameter_px", "cell_px"), [(1, 8), (6, 8), (25, 16), (35, 16), (40, 16),
                                                      (70, 32), (1e9, 2**13)])  # fmt: skip
def test_a_block_is_about_a_diameter_wide(diameter_px: float, cell_px: int) -> None:
    assert choose_cell_size(diameter_px) == cell_px


def test_the_limit_is_one_of_a_hundred_and_more_for_few_images(
    reference: NoveltyReference,
) -> None:
    rows = np.concatenate(
        [
            describe_blocks(ordinary(seed), reference.cell_px).reshape(-1, BLOCK_FEATURES)
            for seed in range(4)
        ]
    )
    # An independent density.
    density = sum(
        weight * multivariate_normal(centre, covariance, allow_singular=False).pdf(rows)
        for weight, centre, covariance in zip(
            reference.weight, reference.centre, reference.covariance, strict=True
        )
    )
    rarity = -2 * (np.log(density) + 0.5 * BLOCK_FEATURES * math.log(2 * math.pi))
    half, most = np.quantile(rarity, [0.5, 0.99])
    assert reference.limit == pytest.approx(most + (most - half) / 4, rel=1e-4)


def test_ordinary_ones_are_like_training_and_others_are_not(reference: NoveltyReference) -> None:
    assert max(reference.novel_fraction(ordinary(seed)) for seed in range(10, 16)) < 0.01
    assert 0.35 < reference.novel_fraction(with_film(20)) < 0.55
    assert reference.novel_fraction(gaussian_filter1d(ordinary(21), 3, axis=0)) > 0.95
    assert reference.novel_fraction(3 * ordinary(22)) > 0.95
    half = ordinary(23)
    half[: SIDE // 2] *= 0.05  # where hardly an electron came through
    assert 0.4 < reference.novel_fraction(half) < 0.65


def test_what_training_had_is_not_unlike_it() -> None:
    known = NoveltyReference.fit(
        [ordinary(0), ordinary(1), with_film(2), with_film(3)], DIAMETER_PX
    )
    assert known is not None
    assert known.novel_fraction(with_film(20)) < 0.05
    assert known.novel_fraction(ordinary(10)) < 0.01
    # Nor does it make all else look familiar.
    assert known.novel_fraction(gaussian_filter1d(ordinary(21), 3, axis=0)) > 0.95


def test_dead_borders_do_not_count(reference: NoveltyReference) -> None:
    whole = ordinary(11)
    barred = whole.copy()
    barred[:48] = barred[48]
    assert reference.novel_fraction(barred) < 0.02
    dead = whole.copy()
    dead[SIDE // 2 - 40 : SIDE // 2 + 40] = 0  # not along an edge
    assert reference.novel_fraction(dead) > 0.1


def test_too_small_for_a_block(reference: NoveltyReference) -> None:
    assert math.isnan(reference.novel_fraction(noise((31, 400), 1)))
    assert 0 <= reference.novel_fraction(noise((32, 32), 1)) <= 1
    assert NoveltyReference.fit([noise((31, 400), 1)], DIAMETER_PX) is None
    assert NoveltyReference.fit([], DIAMETER_PX) is None
    assert NoveltyReference.fit([noise((31, 31), 1), noise((64, 64), 1)], DIAMETER_PX) is None
    small = NoveltyReference.fit([noise((31, 31), 1), noise((128, 128), 1)], DIAMETER_PX)
    assert small is not None
    assert small.novel_fraction(noise((128, 128), 5)) < 0.2


def test_blank_parts_are_finite(reference: NoveltyReference) -> None:
    assert reference.novel_fraction(np.zeros((SIDE, SIDE), np.float32)) == 1
    blank = NoveltyReference.fit([np.zeros((SIDE, SIDE), np.float32)], DIAMETER_PX)
    assert blank is not None
    assert (
        NoveltyReference.from_dict(blank.as_dict()).novel_fraction(
            np.zeros((SIDE, SIDE), np.float32)
        )
        == 0
    )
    assert blank.novel_fraction(ordinary(1)) == 1


def test_the_same_training_gives_the_same_numbers_and_they_survive_json(
    reference: NoveltyReference,
) -> None:
    again = NoveltyReference.fit([ordinary(seed) for seed in range(4)], DIAMETER_PX)
    assert again is not None
    assert again.as_dict() == reference.as_dict()
    text = json.dumps(reference.as_dict(), allow_nan=False)
    assert len(text) < 4000
    read = NoveltyReference.from_dict(json.loads(text))
    for seed in (10, 20):
        assert read.novel_fraction(with_film(seed)) == reference.novel_fraction(with_film(seed))


def put(value: dict[str, Any], key: str, *where: Any) -> dict[str, Any]:
    """Change one entry of a part."""
    *path, last, new = where
    target = value[key]
    for step in path:
        target = target[step]
    target[last] = new
    return value


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: None,
        lambda v: [],
        lambda v: "novelty",
        lambda v: {},
        lambda v: v | {"cell_px": 16.0},
        lambda v: v | {"cell_px": True},
        lambda v: v | {"cell_px": 0},
        lambda v: v | {"cell_px": 12},
        lambda v: v | {"cell_px": 2**40},
        lambda v: v | {"limit": math.nan},
        lambda v: v | {"limit": math.inf},
        lambda v: v | {"limit": "1"},
        lambda v: v | {"limit": None},
        lambda v: v | {"limit": 10**400},
        lambda v: v | {"weight": [1.0]},
        lambda v: v | {"weight": [-1.0, 1.0, 0.5, 0.5]},
        lambda v: v | {"weight": [1.0] * 4},
        lambda v: v | {"centre": v["centre"][0]},
        lambda v: v | {"centre": [[[]]]},
        lambda v: v | {"covariance": v["centre"]},
        lambda v: v | {"covariance": [[[0.0] * BLOCK_FEATURES] * BLOCK_FEATURES] * GAUSSIANS},
        lambda v: put(v, "centre", 1, 2, math.nan),
        lambda v: put(v, "centre", 1, 2, 1e200),
        lambda v: put(v, "centre", 1, 2, {}),
        lambda v: put(v, "covariance", 0, 0, 0, math.inf),
        lambda v: put(v, "covariance", 0, 0, 0, -1.0),
        lambda v: put(v, "covariance", 0, 0, 0, 1e300),
        lambda v: put(v, "covariance", 0, 0, 1, 0.1),
        lambda v: v | {"covariance": (1e-90 * np.array(v["covariance"])).tolist()},
    ],
)
def test_a_reference_that_is_none_is_refused(reference: NoveltyReference, spoil: Any) -> None:
    with pytest.raises(BadInput, match="description of the training images"):
        NoveltyReference.from_dict(spoil(copy.deepcopy(reference.as_dict())))


@pytest.mark.slow
def test_contaminants_that_training_had_none_of() -> None:
    clean = SimulationSettings(particle="shell", contaminants=0.0, snr=0.12, seed=5)
    normalizer = Normalizer("micrograph", flatten_px=0.6 * DIAMETER_PX)

    def seen(settings: SimulationSettings, index: int) -> Image:
        return normalizer.apply(simulate_micrograph(settings, index).image)

    found = NoveltyReference.fit([seen(clean, i) for i in range(4)], DIAMETER_PX)
    assert found is not None
    assert max(found.novel_fraction(seen(clean, i)) for i in range(4, 8)) < 0.01
    dirty = replace(clean, contaminants=2.0, seed=7)
    covered, shares = [], []
    for i in range(8):
        micrograph = simulate_micrograph(dirty, i)
        covered.append(micrograph.blocked.mean())
        shares.append(found.novel_fraction(normalizer.apply(micrograph.image)))
    assert np.corrcoef(covered, shares)[0, 1] > 0.9
    assert np.median(shares) > 0.2
