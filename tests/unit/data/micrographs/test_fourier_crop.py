from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from heliodor.conventions import to_working
from heliodor.data.micrographs import fourier_crop as resample
from heliodor.data.micrographs import row_blocks
from heliodor.data.micrographs.fourier_crop import FourierCrop, fourier_crop


@st.composite
def crops(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    shape = draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    seed = draw(st.integers(0, 2**32 - 1))
    offset = draw(st.sampled_from([0.0, 100.0, -100.0]))
    image = np.random.default_rng(seed).normal(offset, 1, (height, width))
    return image.astype(np.float32), shape


@given(crops())
def test_agrees_with_scipy_on_both_axes(crop):
    image, (h, w) = crop
    expected = scipy.signal.resample(image.astype(float), w, axis=1)
    expected = scipy.signal.resample(expected, h, axis=0)
    small = fourier_crop(image, (h, w))
    assert small.shape == (h, w)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, expected, atol=3e-6 * np.abs(image).max())


def plain_crop(image, shape):
    """Crop one axis after the other, all of it transformed, in double precision."""
    for axis, small in enumerate(shape):
        big = image.shape[axis]
        if small < big:
            spectrum = np.moveaxis(np.fft.fft(image, axis=axis), axis, 0)
            kept = np.concatenate([spectrum[: (small + 1) // 2], spectrum[big - small // 2 :]])
            if small % 2 == 0:
                kept[small // 2] += spectrum[small // 2]
            image = np.fft.ifft(np.moveaxis(kept, 0, axis), axis=axis).real * (small / big)
    return image


@given(crops(), st.sampled_from([1, 100, 2**18]))
def test_blocks_in_any_order_make_the_plain_formula(crop, block_px):
    image, shape = crop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_blocks, "BLOCK_PX", block_px)
        patch.setattr(row_blocks, "MIN_ROWS", 3)
        patch.setattr(resample, "BLOCK_PX", block_px)
        blocks = list(row_blocks.split_into_row_blocks(image.shape))
        crop = FourierCrop(image.shape, shape)
        for rows in blocks[::-1]:
            crop.add(rows, image[rows] + np.float32(1))
        for rows in blocks:  # those that come again replace what they were
            crop.add(rows, image[rows])
        small = crop.image()
    atol = 3e-6 * np.abs(image).max()
    np.testing.assert_allclose(small, plain_crop(image.astype(float), shape), atol=atol)
    np.testing.assert_array_equal(crop.image(), small)
    np.testing.assert_allclose(fourier_crop(image, shape), small, atol=atol)


@given(crops())
def test_the_mean_is_kept_and_the_image_not_touched(crop):
    image, shape = crop
    before = image.copy()
    small = fourier_crop(image, shape)
    np.testing.assert_allclose(
        small.mean(dtype=float), image.mean(dtype=float), atol=1e-6 * np.abs(image).max()
    )
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(small, image)


def band_limited(shape, limit, rows, columns):
    """Sample a fixed trigonometric polynomial, all its frequencies below `limit`, at points."""
    rng = np.random.default_rng(3)
    image = np.zeros(np.broadcast_shapes(rows.shape, columns.shape))
    for ky in range(-limit[0] + 1, limit[0]):
        for kx in range(limit[1]):
            amplitude, phase = rng.normal(), rng.uniform(0, 2 * np.pi)
            wave = ky * rows / shape[0] + kx * columns / shape[1]
            image += amplitude * np.cos(2 * np.pi * wave + phase)
    return image


@pytest.mark.parametrize("big", [(30, 44), (31, 45), (30, 45), (64, 33)])
@pytest.mark.parametrize("small", [(10, 16), (11, 17), (10, 17), (11, 16)])
def test_a_band_limited_image_is_sampled_exactly(big, small):
    limit = (5, 8)  # below half of either small side
    rows, columns = np.arange(big[0])[:, None], np.arange(big[1])[None, :]
    image = band_limited(big, limit, rows, columns)
    rows = np.arange(small[0])[:, None] * (big[0] / small[0])
    columns = np.arange(small[1])[None, :] * (big[1] / small[1])
    expected = band_limited(big, limit, rows, columns)
    got = fourier_crop(image.astype(np.float32), small)
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(image).max())


@pytest.mark.parametrize("original", [(120, 160), (121, 161), (97, 200), (200, 97)])
@pytest.mark.parametrize("factor", [1.0, 1.7, 4.0])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.37, 0.61), (0.7, 0.3)])
def test_a_blob_appears_where_to_working_says(original, factor, place):
    height, width = original
    working = (round(height / factor), round(width / factor))
    x, y = place[0] * width, place[1] * height
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2)).astype(np.float32)
    small = fourier_crop(blob, working).astype(float)
    rows, columns = np.arange(working[0])[:, None], np.arange(working[1])[None, :]
    centroid = [(columns * small).sum() / small.sum(), (rows * small).sum() / small.sum()]
    expected = to_working(np.array([[x, y]]), original, working)[0]
    np.testing.assert_allclose(centroid, expected, atol=0.05)


def test_the_same_size_is_a_copy(noise):
    same = fourier_crop(noise, noise.shape)
    np.testing.assert_array_equal(same, noise)
    assert not np.shares_memory(same, noise)


def test_integers_and_large_offsets():
    image = np.random.default_rng(0).integers(30000, 30200, (64, 96)).astype(np.uint16)
    expected = scipy.signal.resample(scipy.signal.resample(image * 1.0, 24, axis=1), 16, axis=0)
    np.testing.assert_allclose(fourier_crop(image, (16, 24)), expected, atol=0.02)


def test_threads_change_nothing(noise):
    np.testing.assert_array_equal(
        fourier_crop(noise, (13, 21)), fourier_crop(noise, (13, 21), workers=2)
    )


@pytest.mark.parametrize("shape", [(0, 10), (10, 0), (41, 60), (40, 61), (-1, 10)])
def test_shapes_that_are_no_crop(noise, shape):
    with pytest.raises(ValueError, match="cannot crop an image of 40 x 60"):
        fourier_crop(noise, shape)
