from __future__ import annotations

import numpy as np
import pytest
import torch

from heliodor.training.filaments.targets import FilamentTargets, measure_targets

SIDE = 64


def curve() -> np.ndarray:
    """Return the points of a curve that no turn maps to itself."""
    x = np.arange(5.0, 50.0, 0.4)
    return np.column_stack([x, 20.0 + 0.01 * (x - 10.0) ** 2])


def targets_of(axis: np.ndarray) -> FilamentTargets:
    values = measure_targets([axis], 1.5, 4.0, (SIDE // 4, SIDE // 4))
    distance, angle, offset = (torch.from_numpy(value)[None] for value in values)
    return FilamentTargets(distance, angle, offset, (distance < 5.0).float())


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_targets_are_those_of_the_turned_axis(quarters: int, mirror: bool) -> None:
    x, y = curve().T
    for _ in range(quarters):
        x, y = y, SIDE - 1.0 - x
    if mirror:
        x = SIDE - 1.0 - x
    expected = targets_of(np.column_stack([x, y]))
    found = targets_of(curve()).turn(quarters, mirror)
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, atol=1e-4, rtol=1e-4)


def test_targets_are_the_geometry_of_the_axis() -> None:
    axis = np.column_stack([np.arange(0.0, 64.0, 0.5), np.full(128, 20.0)])
    distance, angle, offset = measure_targets([axis], 1.5, 4.0, (16, 16))
    y = 1.5 + 4.0 * np.arange(16)
    np.testing.assert_allclose(distance, np.abs(y - 20.0)[:, None] + np.zeros(16), atol=1e-5)
    np.testing.assert_allclose(offset[1], (20.0 - y)[:, None] + np.zeros(16), atol=1e-5)
    np.testing.assert_allclose(angle[0], 1.0)
    np.testing.assert_allclose(angle[1], 0.0, atol=1e-6)
    distance, angle, offset = measure_targets([], 1.5, 4.0, (2, 3))
    assert np.isinf(distance).all()
    assert angle.shape == offset.shape == (2, 2, 3)
