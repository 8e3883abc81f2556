from __future__ import annotations

import numpy as np
import pytest

from heliodor.simulation.training_world.filaments.textures import KINDS, STEP_PX, draw_texture


@pytest.mark.parametrize("kind", KINDS)
def test_a_filament_is_as_wide_as_it_says(kind: str) -> None:
    for seed in range(6):
        texture = draw_texture(np.random.default_rng(seed), 24.0, 200.0, kind)
        values = texture.values
        assert values.shape[0] == round(200.0 / STEP_PX)
        assert np.isfinite(values).all()
        profile = values.mean(axis=0)
        away = np.abs(np.arange(len(profile)) * STEP_PX - texture.reach_px)
        # Hardly anything outside, and something in the outer fifth: it is not much narrower.
        assert profile[away > 14.0].sum() < 0.02 * profile.sum()
        assert profile[(away > 7.5) & (away <= 12.0)].sum() > 0.01 * profile.sum()
        assert 0.2 < profile[away <= 12.0].mean() / (0.25 * np.pi * 24.0) < 1.2


def test_filaments_are_drawn_by_the_seed() -> None:
    one, same, other = (draw_texture(np.random.default_rng(s), 12.0, 60.0) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.values, same.values)
    assert one.values.shape != other.values.shape or not np.array_equal(one.values, other.values)
