from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from heliodor.errors import BadInput
from heliodor.picking import nms
from heliodor.picking.nms import suppress

if TYPE_CHECKING:
    from numpy.typing import NDArray


def naive(
    scores: NDArray[np.float32],
    radius: float,
    threshold: float = -math.inf,
    margin: tuple[int, int] = (0, 0),
) -> list[tuple[int, int]]:
    height, width = scores.shape
    free = {
        (row, col): float(scores[row, col])
        for row in range(margin[0], height - margin[0])
        for col in range(margin[1], width - margin[1])
        if float(scores[row, col]) > threshold
    }
    picks = []
    while free:
        best = min(free, key=lambda pixel: (-free[pixel], pixel))
        picks.append(best)
        free = {
            (row, col): score
            for (row, col), score in free.items()
            if (row - best[0]) ** 2 + (col - best[1]) ** 2 > radius**2
        }
    return picks


def check(
    image: NDArray[np.float32],
    radius: float,
    threshold: float = -math.inf,
    margin: tuple[int, int] = (0, 0),
) -> None:
    picks, scores = suppress(image, radius, threshold, margin)
    assert [tuple(pick) for pick in picks.tolist()] == naive(image, radius, threshold, margin)
    assert picks.dtype == np.intp
    assert picks.shape == (len(scores), 2)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, image[picks[:, 0], picks[:, 1]])


@st.composite
def images(draw: st.DrawFn) -> NDArray[np.float32]:
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = random.standard_normal(shape)
    levels = draw(st.sampled_from([0, 0.5, 2, 10]))
    image = np.round(image * levels) / 2 if levels else image
    for special in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))):
        image[random.random(shape) < 0.1] = special
    return image.astype(np.float32)


@given(
    image=images(),
    radius=st.one_of(st.floats(0, 25), st.sampled_from([0, 1, math.sqrt(2), math.sqrt(5), 3])),
    threshold=st.sampled_from([-math.inf, -1.0, 0.0, 0.5, math.inf]),
    margin=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_equals_the_naive_reference(
    image: NDArray[np.float32], radius: float, threshold: float, margin: tuple[int, int]
) -> None:
    check(image, radius, threshold, margin)


@settings(max_examples=30)
@given(image=images(), radius=st.floats(0, 4), chunk=st.integers(1, 5), sample=st.integers(1, 20))
def test_passes_and_chunks_do_not_change_the_result(
    image: NDArray[np.float32], radius: float, chunk: int, sample: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "_CHUNK", chunk)
        patch.setattr(nms, "_SAMPLE", sample)
        check(image, radius)


@pytest.mark.parametrize("kind", ["noise", "smooth", "ties", "ramp"])
@pytest.mark.parametrize("radius", [2.5, 7.0])
def test_properties_on_a_larger_map(kind: str, radius: float) -> None:
    noise = np.random.default_rng(3).standard_normal((70, 90)).astype(np.float32)
    image = {
        "noise": noise,
        "smooth": gaussian_filter(noise, 5) * 20,
        "ties": np.round(noise),
        "ramp": np.arange(noise.size, dtype=np.float32).reshape(noise.shape),
    }[kind]
    threshold = float(np.quantile(image, 0.2))
    picks, scores = suppress(image, radius, threshold)
    assert np.all(np.diff(scores) <= 0)
    between = np.sum((picks[:, None] - picks[None]) ** 2, axis=2)
    assert np.all(between[~np.eye(len(picks), dtype=bool)] > radius**2)
    pixels = np.argwhere(image > threshold)
    near = np.sum((pixels[:, None] - picks[None]) ** 2, axis=2) <= radius**2
    as_high = scores[None] >= image[pixels[:, 0], pixels[:, 1]][:, None]
    assert np.all(np.any(near & as_high, axis=1))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (5, 23)])
def test_thin_images(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 4, shape).astype(np.float32)
    for radius in (0, 0.9, 1, 2.2, 50):
        check(image, radius)


def test_does_not_wrap_around_the_border() -> None:
    image = np.full((6, 8), -1.0, dtype=np.float32)
    image[2, 7], image[3, 0], image[0, 4], image[5, 4] = 4, 3, 2, 1
    picks, _ = suppress(image, 2, threshold=0)
    assert picks.tolist() == [[2, 7], [3, 0], [0, 4], [5, 4]]


@pytest.mark.parametrize("radius", [9.9, 1e6, 1e200, math.inf])
def test_radius_larger_than_the_image_leaves_the_maximum(radius: float) -> None:
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    picks, scores = suppress(image, radius)
    assert picks.tolist() == [[5, 7]]
    assert scores.tolist() == [47]


def test_radius_is_inclusive() -> None:
    image = np.array([[3, 0, 0, 2, 0, 0, 0, 1]], dtype=np.float32)
    assert suppress(image, 3, 0)[0].tolist() == [[0, 0], [0, 7]]
    assert suppress(image, 2.999, 0)[0].tolist() == [[0, 0], [0, 3], [0, 7]]


def test_radius_zero_keeps_every_pixel_above_the_threshold() -> None:
    image = np.array([[1, 2, np.nan], [2, 0, 3]], dtype=np.float32)
    picks, scores = suppress(image, 0, 0)
    assert picks.tolist() == [[1, 2], [0, 1], [1, 0], [0, 0]]
    assert scores.tolist() == [3, 2, 2, 1]


def test_threshold_is_strict_and_not_rounded() -> None:
    image = np.array([[0.1, 0.5]], dtype=np.float32)
    assert suppress(image, 0, 0.5)[0].tolist() == []
    # The float32 nearest to 0.1 is a little larger than the float64.
    assert suppress(image, 0, 0.1)[0].tolist() == [[0, 1], [0, 0]]
    assert suppress(image, 0, 1e300)[0].tolist() == []


def test_pixels_in_the_margin_do_not_suppress() -> None:
    image = np.array([[1, 2, 3, 2.5, 9]], dtype=np.float32)
    assert suppress(image, 1, margin_px=(0, 1))[0].tolist() == [[0, 2]]
    assert suppress(image, 1, margin_px=(0, 2))[0].tolist() == [[0, 2]]
    for margin in (1, (0, 3), 99):
        assert suppress(image, 1, margin_px=margin)[0].shape == (0, 2)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 3)])
def test_nothing_to_pick(shape: tuple[int, int]) -> None:
    for radius in (0, 2):
        picks, scores = suppress(np.full(shape, np.nan, dtype=np.float32), radius)
        assert picks.shape == (0, 2)
        assert picks.dtype == np.intp
        assert scores.shape == (0,)
        assert scores.dtype == np.float32


def test_the_map_is_left_as_it_was() -> None:
    image = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    image.flags.writeable = False
    suppress(image, 2, margin_px=1)


@pytest.mark.parametrize("radius", [-1, -0.001, math.nan])
def test_bad_radius(radius: float) -> None:
    with pytest.raises(BadInput, match="radius"):
        suppress(np.zeros((3, 3), dtype=np.float32), radius)


def test_other_bad_input() -> None:
    image = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(BadInput, match="threshold"):
        suppress(image, 1, math.nan)
    with pytest.raises(BadInput, match="margin"):
        suppress(image, 1, margin_px=(0, -1))
    with pytest.raises(BadInput, match="2-D"):
        suppress(image[0], 1)
