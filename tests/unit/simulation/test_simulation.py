"""Simulated micrographs: the optics, the particles, the scene, and what is written."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from heliodor.data.micrographs.ctf import wavelength_angstrom
from heliodor.errors import BadInput
from heliodor.simulation import (
    PARTICLES,
    SimulationSettings,
    simulate,
    simulate_layers,
    simulate_micrograph,
)
from heliodor.simulation import contaminants as junk
from heliodor.simulation.dataset import choose_labels
from heliodor.simulation.optics import (
    Optics,
    apply_transfer,
    contrast_transfer,
)
from heliodor.simulation.projection import (
    add_projection,
    draw_orientations,
    euler_matrix,
)
from heliodor.simulation.scene import (
    Field,
    draw_ice,
    measure_clearance,
    place_particles,
)

if TYPE_CHECKING:
    from pathlib import Path

    from heliodor.conventions import FloatArray, Image

SMALL = SimulationSettings(shape=(200, 256), pixel_size_angstrom=6.0, particles_per_micrograph=12)
OPTICS = Optics(300.0, 2.7, 0.1, 15000.0, 15000.0, 0.0, 0.0)


def projection(
    name: str, angles: tuple[float, float, float], side: int = 160, pixel: float = 2.0
) -> Image:
    image = np.zeros((side, side), np.float32)
    middle = np.array([side // 2, side // 2], dtype=np.float64)
    add_projection(image, PARTICLES[name].blobs, np.array(angles), middle, pixel)
    return image


def centre_of_mass(image: Image) -> FloatArray:
    row, column = ndimage.center_of_mass(image.astype(np.float64))
    return np.array([column, row])


def correlation(one: Image, other: Image) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


# ---- particles ----


@pytest.mark.parametrize("name", PARTICLES)
def test_particle_is_as_long_as_it_says(name: str) -> None:
    particle = PARTICLES[name]
    positions = particle.blobs.positions
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    longest = float(gaps.max() + 4.0 * np.median(particle.blobs.sigmas))
    # A cylinder's diagonal is longer than its length, which is what people quote.
    assert 0.95 * particle.diameter_angstrom < longest < 1.3 * particle.diameter_angstrom
    mass = (particle.blobs.weights[:, None] * positions).sum(axis=0)
    assert np.allclose(mass, 0.0, atol=1e-6)


@pytest.mark.parametrize(("name", "fold"), [("barrel", 7), ("trimer", 3), ("shell", 4)])
def test_turn_about_the_axis_leaves_the_projection(name: str, fold: int) -> None:
    still = projection(name, (10.0, 63.0, 20.0))
    turned = projection(name, (10.0 + 360.0 / fold, 63.0, 20.0))
    halfway = projection(name, (10.0 + 180.0 / fold, 63.0, 20.0))
    assert np.allclose(still, turned, atol=1e-5 * still.max())
    assert not np.allclose(still, halfway, atol=0.05 * still.max())


def test_barrel_is_the_same_upside_down() -> None:
    # Its two-fold axis is x: half a turn about it is the Euler triple (180, 180, 0).
    flip = euler_matrix(180.0, 180.0, 0.0)
    assert np.allclose(flip, np.diag([1.0, -1.0, -1.0]), atol=1e-12)
    positions = PARTICLES["barrel"].blobs.positions
    gaps = np.linalg.norm((positions @ flip.T)[:, None] - positions[None], axis=2)
    assert gaps.min(axis=1).max() < 1e-9


def test_ribosome_has_no_symmetry() -> None:
    still = projection("ribosome", (0.0, 60.0, 0.0))
    for rot in range(20, 360, 20):
        assert correlation(still, projection("ribosome", (float(rot), 60.0, 0.0))) < 0.97


@pytest.mark.parametrize("name", ["shell", "barrel"])
def test_hollow_particles_have_nothing_in_the_middle(name: str) -> None:
    blobs = PARTICLES[name].blobs
    radius = np.linalg.norm(blobs.positions, axis=1)
    assert radius.min() > (38.0 if name == "shell" else 18.0)
    if name == "shell":
        assert np.average(radius, weights=blobs.weights) == pytest.approx(50.0, abs=3.0)
        assert radius.max() < 62.0


def test_barrel_at_tilt_zero_is_a_ring_seen_along_the_axis() -> None:
    image = projection("barrel", (0.0, 0.0, 0.0))
    rows, columns = np.indices(image.shape) - 80
    radius = 2.0 * np.hypot(rows, columns)
    assert image[radius < 8.0].mean() < 0.2 * image[(radius > 30.0) & (radius < 45.0)].mean()
    assert image[radius > 64.0].max() < 0.05 * image.max()


def test_barrel_from_the_side_shows_four_rings() -> None:
    profile = projection("barrel", (0.0, 90.0, 0.0)).sum(axis=0)
    # Tilt turns z towards -x, so the axis lies along the columns.
    inside = profile[30:130]
    peaks = (inside[1:-1] > inside[:-2]) & (inside[1:-1] >= inside[2:])
    assert np.count_nonzero(peaks & (inside[1:-1] > 0.3 * inside.max())) == 4


# ---- projection ----


def test_psi_turns_the_projection_as_in_relion() -> None:
    # RELION: x' = cos(psi) x + sin(psi) y, y' = -sin(psi) x + cos(psi) y, y growing with rows.
    assert np.allclose(euler_matrix(0.0, 0.0, 90.0)[:2] @ [1.0, 0.0, 0.0], [0.0, -1.0])
    flat = projection("ribosome", (25.0, 70.0, 0.0), side=161)
    # Up on a screen with row 0 at the top: what np.rot90 does, counter-clockwise.
    turned = projection("ribosome", (25.0, 70.0, 90.0), side=161)
    assert np.allclose(turned, np.rot90(flat), atol=1e-4 * flat.max())


def test_euler_matrix_is_relions() -> None:
    rot, tilt, psi = np.deg2rad([30.0, 50.0, -110.0])
    ca, cb, cg, sa, sb, sg = (f(a) for f in (np.cos, np.sin) for a in (rot, tilt, psi))
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    assert np.allclose(euler_matrix(30.0, 50.0, -110.0), expected)


@pytest.mark.parametrize("name", PARTICLES)
def test_projection_is_centred_and_keeps_its_mass_at_any_pixel(name: str) -> None:
    blobs = PARTICLES[name].blobs
    for pixel, centre in ((1.5, (130.3, 141.8)), (7.0, (31.25, 28.6))):
        image = np.zeros((270, 260), np.float32)
        add_projection(image, blobs, np.array([40.0, 75.0, 10.0]), np.array(centre), pixel)
        assert np.allclose(centre_of_mass(image), centre, atol=0.01)
        assert image.sum(dtype=np.float64) * pixel**2 == pytest.approx(
            blobs.weights.sum(), rel=1e-4
        )


def test_projection_outside_the_field_is_clipped() -> None:
    whole = np.zeros((90, 90), np.float32)
    part = np.zeros((40, 50), np.float32)
    blobs, angles = PARTICLES["trimer"].blobs, np.array([0.0, 90.0, 30.0])
    add_projection(whole, blobs, angles, np.array([43.0, 45.0]), 3.0)
    add_projection(part, blobs, angles, np.array([3.0, 5.0]), 3.0)
    assert np.allclose(part, whole[40:80, 40:90], atol=1e-6)
    add_projection(part, blobs, angles, np.array([-500.0, 5.0]), 3.0)
    assert np.allclose(part, whole[40:80, 40:90], atol=1e-6)


def test_random_orientations_cover_the_sphere_and_preferred_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    evenly = draw_orientations(rng, 4000, PARTICLES["barrel"], preferred=False)
    assert abs(np.cos(np.deg2rad(evenly[:, 1])).mean()) < 0.03
    assert np.abs(evenly[:, 1] - 90.0).max() > 80.0
    around = draw_orientations(rng, 4000, PARTICLES["barrel"], preferred=True)
    assert ((around[:, 1] >= 0.0) & (around[:, 1] <= 180.0)).all()
    assert (np.abs(around[:, [0, 2]]) <= 180.0).all()
    assert np.mean(np.abs(around[:, 1] - 90.0) < 25.0) > 0.65
    assert np.mean(np.abs(evenly[:, 1] - 90.0) < 25.0) < 0.46


# ---- optics ----


@pytest.mark.parametrize(
    ("voltage", "wavelength"), [(100.0, 0.03701), (200.0, 0.02508), (300.0, 0.01969)]
)
def test_wavelength(voltage: float, wavelength: float) -> None:
    assert wavelength_angstrom(voltage) == pytest.approx(wavelength, abs=1e-5)


def test_contrast_transfer_against_a_formula_written_per_frequency() -> None:
    optics = Optics(200.0, 2.0, 0.07, 16000.0, 14000.0, 25.0, 80.0)
    transfer = contrast_transfer((48, 60), 1.5, optics)
    assert transfer.shape == (48, 31)
    length = 0.0250793
    for row, column in [(0, 0), (3, 7), (40, 11), (24, 30), (47, 0)]:
        ky = (row if row < 24 else row - 48) / (48 * 1.5)
        kx = column / (60 * 1.5)
        k = math.hypot(kx, ky)
        angle = math.atan2(ky, kx) - math.radians(25.0)
        defocus = 16000.0 * math.cos(angle) ** 2 + 14000.0 * math.sin(angle) ** 2
        chi = math.pi * length * defocus * k**2 - 0.5 * math.pi * 2e7 * length**3 * k**4
        value = -(math.sqrt(1 - 0.07**2) * math.sin(chi) + 0.07 * math.cos(chi))
        value *= math.exp(-80.0 * k * k / 4.0)
        # The Nyquist row is both +k and -k, where astigmatism makes the two differ.
        if row != 24:
            assert transfer[row, column] == pytest.approx(value, abs=2e-4)


def test_first_zero_of_the_contrast_transfer() -> None:
    profile = contrast_transfer((64, 4096), 1.0, replace(OPTICS, spherical_aberration_mm=0.0))
    first = int(np.flatnonzero(np.diff(np.sign(profile[0])))[0])
    # sin(pi lambda d k^2 + asin(A)) = 0
    expected = math.sqrt((math.pi - math.asin(0.1)) / (math.pi * 0.019687 * 15000.0)) * 4096
    assert first == pytest.approx(expected, abs=1.0)
    assert profile[0, 0] == pytest.approx(-0.1)


@pytest.mark.parametrize("name", PARTICLES)
def test_protein_is_dark_at_underfocus_and_bright_at_overfocus(name: str) -> None:
    image = projection(name, (0.0, 60.0, 0.0), side=256)
    inside = image > 0.3 * image.max()
    phase_only = replace(OPTICS, amplitude_contrast=0.0)
    over = replace(phase_only, defocus_u_angstrom=-15e3, defocus_v_angstrom=-15e3)
    dark, bright = (
        apply_transfer(image, contrast_transfer(image.shape, 2.0, optics))
        for optics in (phase_only, over)
    )
    assert dark[inside].mean() < dark[~inside].mean()
    assert bright[inside].mean() > bright[~inside].mean()


# ---- scene ----


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 60), st.floats(20.0, 400.0), st.floats(1.0, 12.0))
def test_placement_keeps_its_distances(
    seed: int, wanted: int, spacing: float, pixel: float
) -> None:
    rng = np.random.default_rng(seed)
    field = Field.around((90, 130), 60.0, pixel)
    blocked = np.zeros(field.shape, np.bool_)
    blocked[:, : field.shape[1] // 3] = True
    places = place_particles(rng, field, wanted, spacing, measure_clearance(field, blocked), 50.0)
    assert np.count_nonzero(field.shows(places)) <= wanted
    for index, xy in enumerate(places):
        gaps = np.linalg.norm(places[index + 1 :] - xy, axis=1)
        assert (gaps * pixel >= spacing - 1e-9).all()
        assert (xy[0] - (field.shape[1] // 3 - 1)) * pixel > 50.0 - pixel


def test_particles_keep_apart_unless_they_may_overlap() -> None:
    crowd = replace(SMALL, particles_per_micrograph=200, contaminants=0.0)
    apart = simulate_micrograph(crowd, 0).xy_px
    gaps = np.linalg.norm(apart[:, None] - apart[None], axis=2)[np.triu_indices(len(apart), 1)]
    assert gaps.min() * 6.0 >= 150.0
    assert 20 < len(apart) < 200
    together = simulate_micrograph(replace(crowd, overlap=True), 0).xy_px
    assert len(together) == 200


def test_number_of_particles_is_what_was_asked_for() -> None:
    for index in range(3):
        assert len(simulate_micrograph(SMALL, index).xy_px) == 12
    assert len(simulate_micrograph(replace(SMALL, particles_per_micrograph=0), 0).xy_px) == 0
    assert SimulationSettings().particles_to_place == 119


def test_no_truth_on_carbon_gold_crystals_or_clumps() -> None:
    rng = np.random.default_rng(4)
    field = Field.around((300, 300), 100.0, 5.0)
    for add in (junk.add_carbon, junk.add_gold, junk.add_ice_crystal):
        scenery = draw_ice(rng, field)
        add(rng, field, scenery)
        if add is junk.add_carbon:
            assert scenery.blocked.any()
            dark = scenery.transmission[scenery.blocked].mean()
            assert dark < scenery.transmission[~scenery.blocked].mean()
    dirty = replace(SMALL, contaminants=8.0, shape=(400, 400), particles_per_micrograph=60)
    seen = 0
    for index in range(4):
        made = simulate_micrograph(dirty, index)
        assert made.blocked.any()
        columns, rows = np.round(made.xy_px).astype(int).T
        distance = ndimage.distance_transform_edt(~made.blocked) * 6.0
        assert (distance[rows, columns] > 70.0).all()
        seen += len(made.xy_px)
    assert seen > 20


def test_clean_micrographs_have_nothing_but_particles() -> None:
    clean = replace(SMALL, contaminants=0.0)
    assert not simulate_micrograph(clean, 0).blocked.any()


# ---- micrographs ----


@pytest.mark.parametrize("name", PARTICLES)
def test_signal_is_centred_on_the_truth_and_dark(name: str) -> None:
    # More amplitude contrast than protein has: the sum is then not nearly nothing.
    alone = replace(
        SMALL, particle=name, particles_per_micrograph=1, contaminants=0.0, amplitude_contrast=0.3
    )
    for index in range(40):
        layers = simulate_layers(alone, index)
        contrast = layers.signal / layers.transmission
        edges = np.concatenate([contrast[[0, -1]].ravel(), contrast[:, [0, -1]].ravel()])
        # Neighbors in the margin reach in; take one that is alone and far from the border.
        if np.abs(edges).max() < 1e-3 * np.abs(contrast).max():
            break
    else:
        pytest.fail("no micrograph with a particle away from the border")
    assert np.allclose(centre_of_mass(contrast), layers.micrograph.xy_px[0], atol=0.1)
    assert contrast.sum() < 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("pixel", "shape"), [(4.0, (512, 512)), (2.0, (1024, 1024))])
def test_snr_is_as_defined_at_any_pixel(pixel: float, shape: tuple[int, int]) -> None:
    wanted = SimulationSettings(
        shape=shape,
        pixel_size_angstrom=pixel,
        snr=0.2,
        defocus_min_um=1.5,
        defocus_max_um=1.5,
        contaminants=0.0,
        particles_per_micrograph=45,
    )
    layers = simulate_layers(wanted, 1)
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, np.bool_)
    for x, y in layers.micrograph.xy_px:
        inside |= np.hypot(columns - x, rows - y) * pixel <= 75.0
    mean = layers.transmission
    signal = np.var((layers.signal / mean)[inside])
    # The shot noise of a 4 A pixel in ice of average thickness.
    noise = np.var(layers.shot / np.sqrt(mean)) * (pixel / 4.0) ** 2
    assert signal / noise == pytest.approx(0.2, rel=0.2)


def test_layers_add_up() -> None:
    layers = simulate_layers(SMALL, 2)
    whole = 1000.0 * (layers.background + layers.signal + layers.shot)
    assert np.allclose(whole, layers.micrograph.image, rtol=1e-5, atol=1e-2)
    assert np.array_equal(layers.micrograph.image, simulate_micrograph(SMALL, 2).image)


def test_infinite_snr_leaves_the_shot_noise_out() -> None:
    assert not simulate_layers(replace(SMALL, snr=math.inf), 0).shot.any()


def test_same_seed_same_bytes_and_only_the_seed_and_the_index_count() -> None:
    first, again = (simulate_micrograph(SMALL, 3) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    longer = simulate_micrograph(replace(SMALL, count=50, labels=3), 3)
    assert first.image.tobytes() == longer.image.tobytes()
    assert first.image.tobytes() != simulate_micrograph(SMALL, 2).image.tobytes()
    assert first.image.tobytes() != simulate_micrograph(replace(SMALL, seed=1), 3).image.tobytes()
    noisier = simulate_micrograph(replace(SMALL, snr=0.01), 3)
    assert np.array_equal(first.xy_px, noisier.xy_px)


def test_rectangular_micrographs() -> None:
    made = simulate_micrograph(SMALL, 0)
    assert made.image.shape == made.blocked.shape == (200, 256)
    assert made.image.dtype == np.float32
    assert np.isfinite(made.image).all()
    assert made.angles_deg.shape == (12, 3)
    wide = simulate_micrograph(replace(SMALL, shape=(64, 700), contaminants=0.0), 0).xy_px
    assert wide[:, 0].max() > 256.0
    assert (wide >= 0.0).all()
    assert wide[:, 1].max() <= 63.0


def test_defocus_stays_in_its_range_and_underfocus_is_positive() -> None:
    for index in range(5):
        narrow = replace(SMALL, defocus_min_um=1.2, defocus_max_um=1.4)
        optics = simulate_micrograph(narrow, index).optics
        assert optics.defocus_u_angstrom >= optics.defocus_v_angstrom
        mean = 0.5 * (optics.defocus_u_angstrom + optics.defocus_v_angstrom)
        assert 12000.0 <= mean <= 14000.0


def test_negative_index_is_refused() -> None:
    with pytest.raises(BadInput, match="negative"):
        simulate_micrograph(SMALL, -1)


# ---- settings ----


@pytest.mark.parametrize(
    "bad",
    [
        {"particle": "cat"},
        {"count": 0},
        {"count": 2.5},
        {"shape": (512,)},
        {"shape": (512, 8)},
        {"shape": (512, 30000)},
        {"pixel_size_angstrom": 0.0},
        {"pixel_size_angstrom": math.nan},
        {"pixel_size_angstrom": 50.0},
        {"particles_per_micrograph": -1},
        {"snr": 0.0},
        {"snr": math.nan},
        {"defocus_min_um": 2.0, "defocus_max_um": 1.0},
        {"defocus_min_um": -1.0},
        {"defocus_max_um": math.nan},
        {"voltage_kv": 0.0},
        {"spherical_aberration_mm": -1.0},
        {"amplitude_contrast": 1.5},
        {"b_factor": -1.0},
        {"contaminants": -0.5},
        {"orientations": "sideways"},
        {"mean_counts": 0.0},
        {"labels": -1},
        {"seed": -1},
    ],
)
def test_bad_settings_are_refused_in_one_sentence(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        SimulationSettings(**bad)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


# ---- files ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "out"
    steps: list[tuple[int, int]] = []
    wanted = replace(SMALL, count=3, labels=10)
    result = simulate(out, wanted, lambda done, of: steps.append((done, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (result.micrograph_count, result.particle_count, result.label_count) == (3, 36, 10)
    assert result.truth_star == out / "truth.star"
    assert result.micrographs_star == out / "micrographs.star"
    assert result.labels_star == out / "labels.star"
    return out


def test_micrographs_on_disk(made: Path) -> None:
    names = sorted(path.name for path in (made / "micrographs").iterdir())
    assert names == [f"barrel_{number:04d}.mrc" for number in (1, 2, 3)]
    with mrcfile.open(made / "micrographs" / names[1]) as mrc:
        expected = simulate_micrograph(SMALL, 1).image
        assert mrc.data.tobytes() == expected.tobytes()
        assert float(mrc.voxel_size.x) == pytest.approx(6.0)
        assert float(mrc.voxel_size.y) == pytest.approx(6.0)
        assert float(mrc.header.dmean) == pytest.approx(float(expected.mean()), rel=1e-4)
        assert float(mrc.header.dmax) == pytest.approx(float(expected.max()))
    assert mrcfile.validate(made / "micrographs" / names[1])


def test_files_are_the_same_every_time(made: Path, tmp_path: Path) -> None:
    simulate(tmp_path, replace(SMALL, count=2, labels=4))
    for name in ("barrel_0001.mrc", "barrel_0002.mrc"):
        again = (tmp_path / "micrographs" / name).read_bytes()
        assert again == (made / "micrographs" / name).read_bytes()


def test_star_files_read_back(made: Path) -> None:
    micrographs = starfile.read(made / "micrographs.star")
    assert list(micrographs) == ["optics", "micrographs"]
    optics = micrographs["optics"].iloc[0]
    assert optics["rlnMicrographPixelSize"] == pytest.approx(6.0)
    assert optics["rlnVoltage"] == pytest.approx(300.0)
    assert optics["rlnSphericalAberration"] == pytest.approx(2.7)
    assert optics["rlnAmplitudeContrast"] == pytest.approx(0.1)
    assert optics["rlnOpticsGroupName"] == "opticsGroup1"
    table = micrographs["micrographs"]
    assert all((made / name).is_file() for name in table["rlnMicrographName"])
    assert list(table["rlnOpticsGroup"]) == [1, 1, 1]

    truth = starfile.read(made / "truth.star")["particles"]
    second = simulate_micrograph(SMALL, 1)
    rows = truth[truth["rlnMicrographName"] == "micrographs/barrel_0002.mrc"]
    xy = rows[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()
    angles = rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    assert np.allclose(xy, second.xy_px, atol=1e-4)
    assert np.allclose(angles, second.angles_deg, atol=1e-4)
    assert np.allclose(rows["rlnDefocusU"], second.optics.defocus_u_angstrom, atol=1e-3)
    assert np.allclose(table["rlnDefocusV"][1], second.optics.defocus_v_angstrom, atol=1e-3)
    assert np.allclose(rows["rlnDefocusAngle"], second.optics.defocus_angle_deg, atol=1e-3)


def test_labels_are_part_of_the_truth(made: Path) -> None:
    truth = starfile.read(made / "truth.star")["particles"]
    labels = starfile.read(made / "labels.star")["particles"]
    keys = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"]
    assert len(labels) == 10
    assert len(labels.merge(truth, on=keys)) == 10
    # Fewer than twenty: all on one micrograph.
    assert labels["rlnMicrographName"].nunique() == 1


def test_labels_are_spread_over_micrographs() -> None:
    images = [image for image, _ in choose_labels([50] * 8, 100, 3)]
    assert sorted(Counter(images).values()) == [20] * 5
    images = [image for image, _ in choose_labels([50, 5, 30], 70, 3)]
    # Twenty, five and twenty, and the rest in a second round.
    assert Counter(images)[1] == 5
    assert min(Counter(images)[0], Counter(images)[2]) >= 20


def test_no_labels_and_no_particles_still_make_files(tmp_path: Path) -> None:
    result = simulate(tmp_path, replace(SMALL, count=1, particles_per_micrograph=0))
    assert result.labels_star is None
    assert not (tmp_path / "labels.star").exists()
    assert "_rlnCoordinateX" in result.truth_star.read_text()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 100), st.integers(0))
def test_labels_are_distinct_and_as_many_as_possible(
    counts: list[int], wanted: int, seed: int
) -> None:
    chosen = choose_labels(counts, wanted, seed)
    assert len(set(chosen)) == len(chosen) == min(wanted, sum(counts))
    assert all(0 <= row < counts[image] for image, row in chosen)


def test_a_set_is_never_overwritten(made: Path) -> None:
    with pytest.raises(BadInput, match="already exists"):
        simulate(made, SMALL)


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match="cannot be created"):
        simulate(tmp_path / "file", SMALL)


def test_import_is_light() -> None:
    code = "import sys, heliodor.simulation; print({'torch', 'pandas'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
