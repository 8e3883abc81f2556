"""The training world: particles of the family, their projections, and simulated micrographs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from heliodor.errors import BadInput
from heliodor.simulation.optics import Optics, contrast_transfer
from heliodor.simulation.projection import add_projection, euler_matrix
from heliodor.simulation.symmetry import icosahedral, tetrahedral
from heliodor.simulation.training_world.contaminants import grow_blocked
from heliodor.simulation.training_world.generator import CUT_PX, MicrographGenerator
from heliodor.simulation.training_world.imaging import batch_contrast_transfer
from heliodor.simulation.training_world.imaging_conditions import NOMINAL_PX, ImagingConditions
from heliodor.simulation.training_world.particle_plans import PLANS_BY_KIND
from heliodor.simulation.training_world.projection import (
    ParticleLibrary,
    ParticlePlacements,
    add_projections,
    draw_rotations,
)
from heliodor.simulation.training_world.random_particles import draw_particle


@pytest.mark.parametrize(("group", "order"), [(icosahedral, 60), (tetrahedral, 12)])
def test_a_point_group_is_a_group(group, order):
    rotations = group()
    assert rotations.shape == (order, 3, 3)
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9)
    known = rotations.reshape(-1, 9)
    nearest = np.abs(products[:, None] - known[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-9
    assert np.allclose(np.linalg.det(rotations), 1.0)
    assert len(np.unique(known.round(6), axis=0)) == order


@given(number=st.integers(0, 2000))
@settings(max_examples=25, deadline=None)
def test_a_drawn_particle_has_its_diameter_and_lies_at_its_centre(number):
    particle = draw_particle(number)
    blobs = particle.blobs
    centre = (blobs.weights[:, None] * blobs.positions).sum(axis=0) / blobs.weights.sum()
    assert np.abs(centre).max() < 1e-6 * particle.diameter_angstrom
    assert blobs.weights.min() > 0
    assert blobs.sigmas.min() > 0
    ways = np.random.default_rng(0).normal(size=(400, 3))
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    along = blobs.positions @ ways.T
    widest = (along.max(axis=0) - along.min(axis=0)).max() + 3 * np.median(blobs.sigmas)
    assert widest == pytest.approx(particle.diameter_angstrom, rel=0.06)
    again = draw_particle(number).blobs
    assert np.array_equal(again.positions, blobs.positions)


def test_every_kind_is_drawn():
    words = {draw_particle(number).description for number in range(300)}
    for kind in PLANS_BY_KIND:
        assert any(kind in word for word in words), kind


@pytest.mark.parametrize("wrong", [{"number": -1}, {"number": 1, "diameter_angstrom": 3.0}])
def test_particles_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInput):
        draw_particle(**wrong)


@given(
    number=st.integers(0, 200),
    angles=st.tuples(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180)),
    x=st.floats(36, 44),
    y=st.floats(36, 44),
)
@settings(max_examples=20, deadline=None)
def test_stamps_are_the_projections_of_numpy(number, angles, x, y):
    particle = draw_particle(number, 120.0)
    pixel = 120.0 / NOMINAL_PX
    expected = np.zeros((80, 80), np.float32)
    add_projection(expected, particle.blobs, np.array(angles), np.array([x, y]), pixel, pixel**-1)
    one = torch.ones(1)
    stamps = ParticlePlacements(
        image=torch.zeros(1, dtype=torch.int64),
        which=torch.zeros(1, dtype=torch.int64),
        xy_px=torch.tensor([[x, y]], dtype=torch.float32),
        rotations=torch.from_numpy(euler_matrix(*angles)[None]).float(),
        diameter_px=one * NOMINAL_PX,
        scale=one,
        beyond_diameters=-one,
    )
    field = torch.zeros(1, 80, 80)
    add_projections(field, ParticleLibrary.from_particles([particle]), stamps, 72)
    assert field[0].numpy() == pytest.approx(expected, abs=2e-3 * float(expected.max()))


def test_a_stamp_that_leaves_at_one_edge_comes_in_at_the_other():
    library = ParticleLibrary.from_particles([draw_particle(3)])
    one = torch.ones(2)
    where = torch.tensor([[40.0, 40.0], [2.0, 79.0]])
    which = torch.zeros(2, dtype=torch.int64)
    turns = torch.eye(3).repeat(2, 1, 1)
    fields = torch.zeros(2, 80, 80)
    stamps = ParticlePlacements(torch.arange(2), which, where, turns, one * 30, one, -one)
    add_projections(fields, library, stamps, 64)
    moved = torch.roll(fields[0], shifts=(39, -38), dims=(0, 1))
    assert fields[1].numpy() == pytest.approx(moved.numpy(), abs=1e-4)


def test_rotations_are_rotations():
    turns = draw_rotations(50, torch.Generator().manual_seed(1))
    products = turns @ turns.transpose(1, 2)
    assert products.numpy() == pytest.approx(np.tile(np.eye(3), (50, 1, 1)), abs=1e-5)
    assert torch.linalg.det(turns).numpy() == pytest.approx(1.0, abs=1e-5)


@pytest.fixture(scope="module")
def particles():
    return [draw_particle(number) for number in range(6)]


def drawn(particles, seed, monkeypatch, **fixed):
    """Draw a few small scenes with some circumstances fixed."""
    draw = ImagingConditions.draw.__func__

    def changed(cls, rng, diameters, number, side, device):
        given = draw(cls, rng, diameters, number, side, device)
        new = {name: torch.full_like(getattr(given, name), value) for name, value in fixed.items()}
        return dataclasses.replace(given, **new)

    monkeypatch.setattr(ImagingConditions, "draw", classmethod(changed))
    return MicrographGenerator(particles, seed, side_px=192).draw(3)


def test_the_same_seed_draws_the_same_scenes(particles):
    first, second = (MicrographGenerator(particles, 5, side_px=160).draw(2) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.xy_px, second.xy_px)
    assert not torch.equal(
        MicrographGenerator(particles, 6, side_px=160).draw(2).images, first.images
    )


def test_scenes_are_normalised_and_finite(particles):
    scenes = MicrographGenerator(particles, 7, side_px=192).draw(4)
    assert scenes.images.shape == (4, 192 - 2 * CUT_PX, 192 - 2 * CUT_PX)
    assert torch.isfinite(scenes.images).all()
    middle = scenes.images.flatten(1).median(dim=1).values
    assert middle.abs().max() < 0.6


CLEAN = dict.fromkeys(("carbon", "lumps", "gold", "clumps", "fragments", "others"), 0)


def test_particles_are_dark_and_nothing_else_is_there(particles, monkeypatch):
    plain = {"low_pass_px": 0, "blur_px": 0, "levels": 0, "border_px": 0}
    bright = {"energy": 1e5, "wanted": 8, "defocus_angstrom": 15000, "grain": 0.02}
    scenes = drawn(particles, 3, monkeypatch, **CLEAN, **plain, **bright)
    assert not scenes.blocked.any()
    side = scenes.images.shape[-1]
    inside = ((scenes.xy_px > 6) & (scenes.xy_px < side - 6)).all(dim=1)
    assert inside.sum() >= 6
    lattice = scenes.distances_px(0, 1, side)
    on, off = scenes.images[lattice < 6], scenes.images[lattice > 30]
    assert on.mean() < off.mean() - 1.0


def test_empty_micrographs_have_no_particles(particles, monkeypatch):
    scenes = drawn(particles, 4, monkeypatch, **CLEAN, wanted=0)
    assert len(scenes.image_index) == 0
    assert torch.isinf(scenes.distances_px(0, 4, 10)).all()


def test_no_particle_lies_on_what_is_blocked(particles, monkeypatch):
    scenes = drawn(particles, 9, monkeypatch, wanted=40, lumps=4, carbon=1)
    assert scenes.blocked.any()
    xy = scenes.xy_px.round().long()
    side = scenes.images.shape[-1]
    shown = ((xy >= 0) & (xy < side)).all(dim=1)
    owner, xy = scenes.image_index[shown], xy[shown]
    assert not scenes.blocked[owner, xy[:, 1], xy[:, 0]].any()


def test_distances_are_those_to_the_nearest_particle(particles, monkeypatch):
    scenes = drawn(particles, 2, monkeypatch, **CLEAN, wanted=10)
    count, first, step = 12, 5, 7
    found = scenes.distances_px(first, step, count)
    axis = first + step * np.arange(count)
    for image in range(len(scenes.images)):
        xy = scenes.xy_px[scenes.image_index == image].numpy()
        away = np.hypot(
            axis[None, :, None] - xy[:, 0][None, None], axis[:, None, None] - xy[:, 1][None, None]
        )
        assert found[image].numpy() == pytest.approx(away.min(axis=2), abs=1e-3)


@given(
    voltage=st.sampled_from([200.0, 300.0]),
    defocus=st.floats(3e3, 3.5e4),
    astigmatism=st.floats(0.0, 2e3),
    turn=st.floats(0.0, 180.0),
    spherical=st.sampled_from([0.01, 2.7]),
    amplitude=st.floats(0.0, 0.2),
    b_factor=st.floats(0.0, 400.0),
    pixel=st.floats(2.0, 10.0),
)
def test_many_fields_are_transferred_as_one_is(
    voltage: float, defocus: float, astigmatism: float, turn: float,
    spherical: float, amplitude: float, b_factor: float, pixel: float,
) -> None:  # fmt: skip
    side = 48
    u, v = defocus + astigmatism / 2, defocus - astigmatism / 2
    optics = Optics(voltage, spherical, amplitude, u, v, turn, b_factor)
    one = contrast_transfer((side, side), pixel, optics)
    each = {
        "voltage_kv": voltage, "astigmatism_turn": math.radians(turn), "amplitude": amplitude,
        "defocus_angstrom": defocus, "astigmatism_angstrom": astigmatism, "b_factor": b_factor,
        "spherical_mm": spherical,
    }  # fmt: skip
    tensors = {name: torch.tensor([[[value]]]) for name, value in each.items()}
    rows = torch.fft.fftfreq(side, pixel)[None, :, None]
    columns = torch.fft.rfftfreq(side, pixel)[None, None]
    many = batch_contrast_transfer(tensors, rows, columns, rows**2 + columns**2)[0].numpy()
    # The phase is hundreds of radians where defocus is high, and these are single numbers.
    np.testing.assert_allclose(many, one, atol=2e-3)


def neighbors_px(xy):
    """Return the distance of each point to its nearest neighbor."""
    apart = torch.cdist(xy, xy)
    apart.fill_diagonal_(math.inf)
    return apart.amin(dim=1)


@pytest.mark.parametrize("square", [0, 1])
def test_a_monolayer_is_a_lattice(particles, monkeypatch, square):
    scenes = drawn(
        particles, 3, monkeypatch, layer=1, pitch=0.9, scatter=0.0, vacant=0.0, patch=2.0,
        square=square, carbon=0, lumps=0, gold=0, clumps=0, vesicles=0, diameter_px=30.0,
    )  # fmt: skip
    pitch = 0.9 * 30.0
    for index in range(3):
        xy = scenes.xy_px[scenes.image_index == index]
        assert neighbors_px(xy).numpy() == pytest.approx(pitch, abs=1e-3)
        cell = pitch**2 * (1.0 if square else math.sqrt(0.75))
        assert len(xy) == pytest.approx(192**2 / cell, rel=0.15)


def test_a_patch_of_a_monolayer_is_round_and_has_vacancies(particles, monkeypatch):
    fixed = {"layer": 1, "pitch": 1.0, "scatter": 0.0, "square": 0, "patch": 0.3, "carbon": 0}
    fixed |= {"lumps": 0, "gold": 0, "clumps": 0, "vesicles": 0, "diameter_px": 12.0}
    whole = drawn(particles, 4, monkeypatch, vacant=0.0, **fixed)
    half = drawn(particles, 4, monkeypatch, vacant=0.5, **fixed)
    assert len(half.xy_px) == pytest.approx(len(whole.xy_px) / 2, rel=0.3)
    one = whole.xy_px[whole.image_index == 0]
    assert torch.pdist(one).max() < 2 * 0.3 * 192


def test_particles_of_a_monolayer_are_no_contamination(particles, monkeypatch):
    scenes = drawn(
        particles, 5, monkeypatch, layer=1, pitch=1.0, carbon=0, lumps=0, gold=0, clumps=0,
        vesicles=0,
    )  # fmt: skip
    assert len(scenes.xy_px)
    assert not scenes.blocked.any()


def test_vesicles_block_their_walls_only(particles, monkeypatch):
    scenes = drawn(
        particles, 6, monkeypatch, wanted=0, layer=0, carbon=0, lumps=0, gold=0, clumps=0,
        fragments=0, others=0, vesicles=1, pixel_angstrom=5.0,
    )  # fmt: skip
    shares = scenes.blocked.float().mean(dim=(1, 2))
    assert (shares > 0.005).all()
    assert (shares < 0.5).all()


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_grown_masks_are_those_of_a_square(reach, seed):
    mask = np.random.default_rng(seed).random((2, 30, 21)) < 0.01
    square = np.ones((1, 2 * reach + 1, 2 * reach + 1), bool)
    expected = ndimage.binary_dilation(mask, square)
    assert (grow_blocked(torch.from_numpy(mask), reach).numpy() == expected).all()
