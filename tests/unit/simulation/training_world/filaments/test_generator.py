from __future__ import annotations

import numpy as np
import pytest
import torch

from heliodor.simulation.training_world.filaments import generator as module
from heliodor.simulation.training_world.filaments.axes import POINT_PX
from heliodor.simulation.training_world.filaments.generator import (
    CUT_PX,
    WIDTH_PX,
    FilamentBatch,
    FilamentGenerator,
    add_texture,
)
from heliodor.simulation.training_world.filaments.textures import draw_texture
from heliodor.simulation.training_world.random_particles import draw_particle


@pytest.fixture(scope="module")
def batch() -> FilamentBatch:
    return FilamentGenerator([draw_particle(n) for n in range(3)], 5, 192).draw(6)


def test_fields_have_the_truth_they_say(batch: FilamentBatch) -> None:
    side = 192 - 2 * CUT_PX
    assert batch.images.shape == batch.blocked.shape == (6, side, side)
    assert torch.isfinite(batch.images).all()
    assert sum(map(len, batch.axes_px)) > 3
    for axes in batch.axes_px:
        for axis in axes:
            assert (axis >= 0.0).all()
            assert (axis <= side - 1.0).all()
            assert len(axis) * POINT_PX >= WIDTH_PX
    truth = batch.targets(1.5, 4, side // 4)
    for index, axes in enumerate(batch.axes_px):
        assert bool(torch.isinf(truth.distance_px[index]).all()) == (not axes)
    near = truth.distance_px < 3.0
    length = truth.offset_px.norm(dim=1)
    torch.testing.assert_close(length[near], truth.distance_px[near])
    torch.testing.assert_close(
        truth.double_angle.norm(dim=1)[near], torch.ones(int(near.sum())), atol=1e-4, rtol=0
    )


def test_filaments_are_dark_where_they_are_strong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIGNAL_TO_NOISE", (20.0, 21.0))
    monkeypatch.setattr(module, "WITH_PARTICLES", 0.0)
    world = FilamentGenerator([draw_particle(0)], 8, 192)
    batch = world.draw(10)
    truth = batch.targets(0.0, 1, batch.images.shape[-1])
    free = truth.blocked == 0
    inside, outside = truth.distance_px < 4.0, truth.distance_px > 20.0
    darker = [
        float(image[on & own].mean() - image[off & own].mean())
        for image, on, off, own in zip(batch.images, inside, outside, free, strict=True)
        if (on & own).any() and (off & own).any()
    ]
    assert len(darker) >= 5
    assert np.mean(np.array(darker) < 0.0) >= 0.8


def test_fields_of_particles_alone_have_no_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EMPTY", 1.0)
    monkeypatch.setattr(module, "WITH_OTHERS", 0.0)
    drawn = []
    monkeypatch.setattr(module, "add_projections", lambda *given: drawn.append(len(given[2])))
    monkeypatch.setattr(module, "WITH_PARTICLES_ALONE", 1.0)
    fields = FilamentGenerator([draw_particle(0)], 4, 128).draw(4)
    assert fields.axes_px == [[], [], [], []]
    assert len(drawn) >= 3
    assert min(drawn) >= 1
    monkeypatch.setattr(module, "WITH_PARTICLES_ALONE", 0.0)
    drawn.clear()
    FilamentGenerator([draw_particle(0)], 4, 128).draw(4)
    assert drawn == []


def test_the_seed_fixes_the_fields() -> None:
    images = [
        FilamentGenerator([draw_particle(0)], seed, 128).draw(2).images for seed in (1, 1, 2)
    ]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_a_bent_filament_keeps_its_mass_and_its_axis() -> None:
    texture = draw_texture(np.random.default_rng(1), 12.0, 400.0, "rod")
    turn = np.arange(0.0, 1.2, POINT_PX / 100.0)
    axis = np.array([20.0, 20.0]) + 100.0 * np.column_stack([np.sin(turn), 1.0 - np.cos(turn)])
    image = np.zeros((160, 160))
    add_texture(image, axis, texture, 7)
    expected = texture.values[7 : 7 + len(axis)].sum() * POINT_PX**2
    assert image.sum() == pytest.approx(expected, rel=1e-3)
    rows, columns = np.indices(image.shape)
    radius = np.hypot(columns - 20.0, rows - 120.0)
    assert (image * radius).sum() / image.sum() == pytest.approx(100.0, abs=0.6)
