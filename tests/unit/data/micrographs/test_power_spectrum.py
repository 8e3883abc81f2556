from __future__ import annotations

import numpy as np
import pytest

from heliodor.data.micrographs.power_spectrum import average_power, flatten_spectrum


@pytest.mark.parametrize("shape", [(300, 400), (256, 256), (64, 900), (5, 3)])
def test_a_wave_is_at_its_frequency_and_the_spectrum_is_symmetric(shape):
    rows, columns = np.indices(shape)
    wave = np.cos(2 * np.pi * (0.25 * rows + 0.125 * columns)).astype(np.float32)
    power = average_power(wave)
    side = len(power)
    assert power.shape == (side, side)
    assert side % 2 == 0
    # Frequency zero is in the middle, and the spectrum of real images is the same on both sides.
    inner = power[1:, 1:]
    np.testing.assert_allclose(inner, inner[::-1, ::-1], rtol=1e-4, atol=1e-6 * power.max())
    if side >= 64:
        peak = np.unravel_index(np.argmax(power), power.shape)
        steps = (np.array(peak) - side // 2) / side
        np.testing.assert_allclose(np.abs(steps), [0.25, 0.125], atol=1 / side)


def test_noise_has_the_same_power_at_all_frequencies():
    noise = np.random.default_rng(3).normal(0, 2, (700, 800)).astype(np.float32)
    power = average_power(noise)
    middle = power[8:-8, 8:-8]
    halves = [middle[:60].mean(), middle[-60:].mean(), middle[90:150, 90:150].mean()]
    assert np.ptp(halves) / np.mean(halves) < 0.15


def test_a_steep_background_is_flattened_and_rings_stay():
    side = 256
    steps = np.arange(side) - side // 2
    radius = np.hypot(steps[:, None], steps)
    rng = np.random.default_rng(1)
    rings = 1 + 0.8 * np.cos(2 * np.pi * radius / 12)
    power = rings * (1e4 / (1 + radius**2) + 1) * rng.gamma(20, 1 / 20, (side, side))
    flat = flatten_spectrum(power.astype(np.float32))
    bright = np.abs(radius % 12 - 0) < 2
    dark = np.abs(radius % 12 - 6) < 2
    for low, high in ((24, 60), (60, 120)):
        ring = (radius > low) & (radius < high)
        assert flat[ring & bright].mean() > flat[ring & dark].mean() + 1
        assert abs(flat[ring].mean()) < 0.25
        assert flat[ring].std() == pytest.approx(1, abs=0.3)
