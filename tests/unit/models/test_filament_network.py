from __future__ import annotations

import numpy as np
import pytest

from heliodor.errors import BadInput
from heliodor.models import filament_network
from heliodor.models.filament_network import (
    DEAD,
    apply_network,
    choose_working_shape,
    predict_filament_maps,
)
from heliodor.models.filament_unet import LATTICE_FIRST_PX, LATTICE_STEP_PX
from heliodor.models.pretrained import load_filament_model_or_general
from heliodor.simulation.training_world.filaments.axes import POINT_PX
from heliodor.simulation.training_world.filaments.generator import add_texture
from heliodor.simulation.training_world.filaments.textures import draw_texture
from helpers.filaments import random_filament_model


def test_tiles_give_the_result_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_filament_model().network
    image = np.random.default_rng(1).normal(size=(530, 90)).astype(np.float32)
    whole = apply_network(network, image)
    monkeypatch.setattr(filament_network, "TILE_PX", 48)
    np.testing.assert_allclose(apply_network(network, image), whole, atol=1e-4)
    last = LATTICE_FIRST_PX + LATTICE_STEP_PX * (np.array(whole.shape[1:]) - 1)
    assert (last <= np.array(image.shape) - 1).all()
    assert (last + LATTICE_STEP_PX > np.array(image.shape) - 1).all()


def picture_of_a_filament(angle_deg: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with one dark filament that is 24 pixels wide, and its axis."""
    rng = np.random.default_rng(2)
    texture = draw_texture(rng, 24.0, 3.0 * side, "rod")
    way = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    along = np.arange(-1.5 * side, 1.5 * side, POINT_PX)[:, None]
    axis = np.array([0.45 * side, 0.55 * side]) + along * way
    image = np.zeros((side, side))
    add_texture(image, axis, texture, 0)
    noise = rng.normal(scale=0.5, size=image.shape)
    return (noise - image / image.max()).astype(np.float32), axis


@pytest.mark.parametrize("angle_deg", [20.0, 110.0, 155.0])
def test_the_general_filament_model_finds_a_filament_and_its_direction(angle_deg: float) -> None:
    image, axis = picture_of_a_filament(angle_deg, 480)
    model = load_filament_model_or_general(None)
    # 24 pixels of 3 A are 72 A.
    maps = predict_filament_maps(model, image, 3.0, 72.0)
    rows, columns = np.indices(maps.axis.shape)
    points = np.stack([columns, rows], axis=-1) * maps.spacing_px + maps.first_px
    normal = np.array([-np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
    away = (points - axis[0]) @ normal
    inner = (np.minimum(points, 480 - points) > 60).all(axis=-1)
    on, off = inner & (np.abs(away) < 2.0), np.abs(away) > 24.0
    assert np.median(maps.axis[on]) > 1.0
    assert np.quantile(maps.axis[off], 0.95) < -2.0
    cos, sin = maps.double_angle
    found = np.degrees(np.arctan2(sin, cos))[on] / 2.0
    error = (found - angle_deg + 90.0) % 180.0 - 90.0
    assert np.median(np.abs(error)) < 5.0
    beside = inner & (np.abs(away) < 8.0)
    reached = away[beside] + maps.offset_px[:, beside].T @ normal
    assert np.median(np.abs(reached)) < 2.0
    again = predict_filament_maps(model, image, 3.0, 72.0)
    np.testing.assert_array_equal(maps.axis, again.axis)


def test_dead_borders_have_no_filaments() -> None:
    image = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32)
    image[:, -33:] = 1.5
    maps = predict_filament_maps(random_filament_model(), image, 5.0, 60.0)
    x = maps.first_px[0] + maps.spacing_px * np.arange(maps.axis.shape[1])
    dead = (maps.axis == DEAD).all(axis=0)
    assert dead[x > 272].all()
    assert not dead[x < 260].any()


def test_the_scale_follows_from_the_width() -> None:
    assert choose_working_shape((1000, 2000), 1.0, 60.0, 12.0) == (200, 400)
    assert choose_working_shape((100, 200), 10.0, 60.0, 12.0) == (200, 400)
    with pytest.raises(BadInput, match="too coarse"):
        choose_working_shape((100, 200), 13.0, 60.0, 12.0)
    with pytest.raises(BadInput, match="too small"):
        choose_working_shape((100, 200), 1.0, 60.0, 12.0)
