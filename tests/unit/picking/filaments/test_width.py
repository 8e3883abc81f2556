from __future__ import annotations

import numpy as np
import pytest

from heliodor.picking.filaments.width import measure_profile, measure_width, profile_positions

WIDTH = 24.0


def draw(width_px: float, noise: float, hollow: bool = False) -> np.ndarray:
    """Return an image with a dark band along a slope, and noise."""
    y, x = np.mgrid[:300, :300].astype(float)
    aside = (y - 150 - 0.5 * (x - 150)) / np.hypot(1, 0.5)
    inside = 1.0 / (1.0 + np.exp((np.abs(aside) - width_px / 2) / 0.8))
    if hollow:
        inside -= 0.7 / (1.0 + np.exp((np.abs(aside) - width_px / 4) / 0.8))
    rng = np.random.default_rng(1)
    return (100.0 - inside + noise * rng.standard_normal(x.shape)).astype(np.float32)


AXIS = np.array([[20.0, 85.0], [150.0, 150.0], [280.0, 215.0]])


@pytest.mark.parametrize("hollow", [False, True])
@pytest.mark.parametrize("width", [18.0, 24.0, 31.0])
def test_the_width_of_a_band_is_found(width: float, hollow: bool) -> None:
    profile = measure_profile(draw(width, 0.5, hollow), [AXIS], WIDTH)
    found = measure_width(profile) * WIDTH
    # The slopes of the edges, and the smoothing, are about three pixels wide on each side.
    assert width < found < width + 6.5


def test_noise_has_no_width() -> None:
    image = np.random.default_rng(2).standard_normal((300, 300)).astype(np.float32)
    assert np.isnan(measure_width(measure_profile(image, [AXIS], WIDTH)))
    assert np.isnan(measure_width(measure_profile(image, [], WIDTH)))


def test_the_profile_is_along_the_axis() -> None:
    profile = measure_profile(draw(WIDTH, 0.0), [AXIS], WIDTH)
    positions = profile_positions()
    assert profile.shape == positions.shape
    assert np.all(profile[np.abs(positions) < 0.3] < 99.2)
    assert np.all(profile[np.abs(positions) > 0.7] > 99.9)
    turned = measure_profile(draw(WIDTH, 0.0), [AXIS[::-1]], WIDTH)
    np.testing.assert_allclose(turned, profile[::-1], atol=1e-3)
