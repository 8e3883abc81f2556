"""The diameter from labels: shapes whose diameter is known, and the command that tells it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from heliodor.conventions import (
    TRAINING_RADIUS_FRACTION,
    FloatArray,
    Image,
)
from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.particle_average import (
    RINGS,
    SIDE_PX,
    BoxScale,
    LabeledView,
    cut_scales,
    recenter_boxes,
    sum_rings,
)
from heliodor.data.coordinates.particle_diameter import (
    FAINT,
    PLAIN,
    find_diameter_conflict,
    measure_geometry,
    measure_label_distance,
    sample_labels,
)
from heliodor.data.coordinates.particle_extent import (
    compute_relative_diameter,
    measure_extent,
    try_diameter,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.errors import BadInput
from heliodor.simulation import SimulationSettings, simulate_micrograph
from helpers.cli import call, done
from helpers.networks import noise, scattered

FINER = 4


def ball(x: FloatArray, y: FloatArray, across: float) -> FloatArray:
    """The projection of a solid ball, 1 in its middle."""
    return np.sqrt(np.maximum(0.0, 1.0 - 4 * (x**2 + y**2) / across**2))


def disc(x: FloatArray, y: FloatArray, across: float) -> FloatArray:
    return (np.hypot(x, y) <= across / 2).astype(np.float64)


def rod(x: FloatArray, y: FloatArray, across: float, tilt_rad: float) -> FloatArray:
    """A rod a twelfth as thick as long, tilted out of the plane; all of it is seen."""
    length = max(across * math.sin(tilt_rad), across / 12)
    shown = (np.abs(x) <= length / 2) & (np.abs(y) <= across / 24)
    return shown * across / length


def rendered(shape: tuple[int, int], xy: tuple[float, float], draw) -> Image:
    """Draw a shape, each pixel being the mean of 16 points in it."""
    fine = (np.arange(FINER) + 0.5) / FINER - 0.5
    rows = (np.arange(shape[0])[:, None] + fine).ravel() - xy[1]
    columns = (np.arange(shape[1])[:, None] + fine).ravel() - xy[0]
    drawn = draw(columns[None, :], rows[:, None])
    return drawn.reshape(shape[0], FINER, shape[1], FINER).mean(axis=(1, 3)).astype(np.float32)


def scene(across_px: float, number=30, sd=0.3, off_px=0.0, seed=0, side=700, shape=ball):
    """A micrograph of dark particles, and labels that are off their centers."""
    random = np.random.default_rng(seed)
    xy = scattered((side, side), number, 2 * across_px, seed, edge=round(across_px))
    xy += random.uniform(-0.5, 0.5, xy.shape)
    image = sd * noise((side, side), seed)
    half = math.ceil(across_px)
    for x, y in xy:
        left, top = round(x) - half, round(y) - half
        one = rendered(
            (2 * half + 1, 2 * half + 1),
            (x - left, y - top),
            lambda u, v: shape(u, v, across_px),
        )
        image[max(0, top) : top + 2 * half + 1, max(0, left) : left + 2 * half + 1] -= one[
            max(0, -top) :, max(0, -left) :
        ][: side - max(0, top), : side - max(0, left)]
    return image, xy + random.normal(0, off_px, xy.shape)


def boxes_of(images: list[Image]) -> list[BoxScale]:
    room = np.full((len(images), 4), SIDE_PX)
    return [BoxScale(1.0, np.array(images), room)]


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [("ball", 0.99, 1.01), ("disc", 1.09, 1.13), ("rod", 0.84, 0.91)],
)
def test_the_one_constant_is_a_balls(shape, least, most):
    """It makes a ball's diameter right; a flat disc and a thin rod lie a tenth off, either way."""
    middle = (SIDE_PX // 2, SIDE_PX // 2)
    tilts = np.arccos((np.arange(24) + 0.5) / 24)
    draws = {
        "ball": [lambda x, y: ball(x, y, 24.0)],
        "disc": [lambda x, y: disc(x, y, 24.0)],
        "rod": [lambda x, y, t=t: rod(x, y, 24.0, t) for t in tilts],
    }[shape]
    trial = try_diameter(boxes_of([rendered((SIDE_PX, SIDE_PX), middle, d) for d in draws]), 24.0)
    assert trial is not None
    assert least < compute_relative_diameter(trial) < most


def ball_extent(across_px, pixel=1.0, off=0.04, level=0.0, gain=1.0, seed=0, draws=0):
    """The extent of balls from 12 labels, which are off by a share of the diameter."""
    image, xy = scene(across_px, 12, 0.2, off * across_px, seed, side=round(14 * across_px))
    view = LabeledView((gain * image + level).astype(np.float32), pixel, xy)
    scales = cut_scales([view], 4 * across_px * pixel)
    return measure_extent(scales, 10 * pixel, 4 * across_px * pixel, draws=draws)


@settings(max_examples=12)
@given(
    st.floats(24, 60),
    st.floats(0.8, 9.0),
    st.floats(0, 0.08),
    st.floats(-1e4, 1e4),
    st.sampled_from([-1.0, 0.01, 1.0, 300.0]),
    st.integers(0, 99),
)
def test_balls_give_their_diameter(across_px, pixel, off, level, gain, seed):
    """Whatever the sampling, the labels' errors, the gray level, the contrast and its sign."""
    extent = ball_extent(across_px, pixel, off, level, gain, seed)
    assert extent is not None
    assert extent.diameter_angstrom == pytest.approx(across_px * pixel, rel=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("across_px", [14.0, 16.0, 20.0])
def test_small_balls_give_theirs_within_what_is_said(across_px):
    """Of few labels on few pixels a diameter scatters, as it says; it is right on average."""
    extents = [ball_extent(across_px, gain=-1.0, seed=seed, draws=30) for seed in range(24, 34)]
    found = np.array([extent.diameter_angstrom for extent in extents])
    assert np.exp(np.log(found).mean()) == pytest.approx(across_px, rel=0.12)
    between = [extent.low_angstrom <= across_px <= extent.high_angstrom for extent in extents]
    assert sum(between) >= 9


@pytest.mark.parametrize("shape", [ball, disc])
def test_balls_and_discs_in_noise(shape):
    image, xy = scene(30, 40, sd=1.0, off_px=2, shape=shape)
    geometry = measure_geometry([LabeledView(image, 5.0, xy)], 5.0)
    extent = geometry.extent
    assert extent.diameter_angstrom == pytest.approx(150, rel=0.2)
    assert extent.low_angstrom < 150 < extent.high_angstrom
    assert extent.contrast > 4
    assert not geometry.notes
    assert geometry.training_radius_angstrom == pytest.approx(
        extent.diameter_angstrom * TRAINING_RADIUS_FRACTION, abs=0.1
    )


def test_the_same_labels_give_the_same_figures():
    view = LabeledView(*(lambda image, xy: (image, 5.0, xy))(*scene(30, 24, sd=1.0)))
    one, other = (measure_geometry([view], 5.0, seed=3) for _ in range(2))
    assert one.as_dict() == other.as_dict()
    assert np.array_equal(one.average, other.average)


def test_a_label_at_the_edge_counts_what_is_there():
    """Beyond the edge there are no pixels, whatever the mirror shows."""
    box = np.ones((1, SIDE_PX, SIDE_PX), np.float32)
    room = np.array([[0, 99, 99, 99]])
    pixels, squares, counts = sum_rings(2 * box, room, 32.0)
    whole = sum_rings(2 * box, np.array([[99, 99, 99, 99]]), 32.0)[2]
    np.testing.assert_allclose(pixels, 2 * counts)
    np.testing.assert_allclose(squares, 4 * counts)
    far = slice(RINGS // 2, None)
    np.testing.assert_allclose(counts[:, far].sum() / whole[:, far].sum(), 0.5, atol=0.02)
    # With pixels as fine as the rings, a ring of radius r has about 2 pi r of them.
    fine = sum_rings(box, np.array([[99, 99, 99, 99]]), float(RINGS))[2][0]
    assert fine[1:].sum() == pytest.approx(math.pi * (RINGS - 0.5) ** 2, rel=0.01)


def test_boxes_are_moved_onto_their_particles():
    random = np.random.default_rng(0)
    off = random.integers(-4, 5, (30, 2))
    middle = SIDE_PX // 2
    boxes = np.array(
        [
            rendered((SIDE_PX,) * 2, (middle + x, middle + y), lambda u, v: -ball(u, v, 24.0))
            for x, y in off
        ]
    )
    boxes -= boxes.mean()
    moved, moves = recenter_boxes(boxes + 0.2 * noise(boxes.shape), 24.0)
    assert (moves + off).std() < 0.3 * off.std()
    assert np.hypot(*(moves + off).mean(axis=0)) < 1
    assert moved.mean(axis=0).min() < 0.95 * boxes.mean(axis=0).min()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_no_particle(seed):
    xy = scattered((700, 700), 40, 20, seed, edge=40)
    view = LabeledView(noise((700, 700), seed), 4.0, xy)
    extent = measure_extent(cut_scales([view], 1000.0), 40.0, 1000.0)
    if extent is not None and extent.contrast >= FAINT:
        assert extent.contrast < PLAIN
        assert any(
            "particle signal at these labels is weak" in note
            for note in measure_geometry([view], 4.0).notes
        )
    else:
        with pytest.raises(BadInput, match="no clear particle signal"):
            measure_geometry([view], 4.0)


def test_few_labels_say_so():
    image, xy = scene(30, 12)
    geometry = measure_geometry([LabeledView(image, 5.0, xy)], 5.0)
    assert any(note.startswith("12 labels give only rough estimates") for note in geometry.notes)
    with pytest.raises(BadInput, match="4 labels are too few"):
        measure_geometry([LabeledView(image, 5.0, xy[:4])], 5.0)


def test_labels_side_by_side_ask_for_a_smaller_radius():
    image, xy = scene(30, 40)
    lone = measure_geometry([LabeledView(image, 5.0, xy)], 5.0)
    near = measure_geometry([LabeledView(image, 5.0, np.concatenate([xy, xy[:20] + 9]))], 5.0)
    half = lone.extent.diameter_angstrom / 2
    assert lone.exclusion_radius_angstrom == pytest.approx(half, abs=0.1)
    assert near.exclusion_radius_angstrom == pytest.approx(5 * 9 * math.sqrt(2), rel=0.01)
    assert any("next to each other" in note for note in near.notes)


def test_the_distance_of_labels():
    grid = 10.0 * np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2)
    view = LabeledView(noise((64, 64)), 2.0, grid)
    assert measure_label_distance([view], 100.0) == pytest.approx(20.0)
    assert measure_label_distance([view], 200.0) is None  # nearer than 25 A: labeled twice
    assert measure_label_distance([LabeledView(view.image, 2.0, grid[:1])] * 30, 100.0) is None


def test_labels_are_chosen_from_the_fullest_micrographs():
    views = [LabeledView(noise((40, 40)), 4.0, np.zeros((n, 2))) for n in (3, 0, 9, 5)]
    chosen = sample_labels(views, 100, 2, seed=0)
    assert [len(view.xy_px) for view in chosen] == [9, 5]
    assert sum(len(view.xy_px) for view in sample_labels(views, 6, 40, seed=0)) == 6


@pytest.mark.parametrize(("diameter", "doubted"), [(90, True), (150, False), (290, True)])
def test_a_wrong_diameter_is_doubted(diameter, doubted):
    image, xy = scene(30, 40, sd=1.0)
    sentence = find_diameter_conflict([LabeledImage(image, xy)], 5.0, diameter)
    assert (sentence is not None) == doubted
    if sentence is not None:
        assert f"the given diameter is {diameter} Å" in sentence
        assert "heliodor suggest" in sentence
    assert find_diameter_conflict([LabeledImage(image, xy[:19])], 5.0, diameter) is None


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """Two micrographs of simulated particles of 150 A, and labels on them."""
    folder = tmp_path_factory.mktemp("barrels")
    tables = []
    for index in range(2):
        settings = SimulationSettings(shape=(768, 768), snr=0.2, contaminants=0.0, seed=1)
        one = simulate_micrograph(settings, index)
        write_mrc(folder / f"m{index}.mrc", one.image, 4.0)
        tables.append(Picks.on(f"m{index}.mrc", one.xy_px[:25]))
    relion_star.write_picks(folder / "labels.star", Picks.concatenate(tables))
    return folder


def test_the_command(simulated, tmp_path):
    given = ["--micrographs", simulated / "m*.mrc", "--labels", simulated / "labels.star"]
    said = done("suggest", *given, "-o", tmp_path)
    assert "longest diameter" in said.out
    assert "heliodor run --micrographs" in said.out
    kept = json.loads((tmp_path / "geometry.json").read_text())["geometry"]
    assert kept["diameter_angstrom"] == pytest.approx(150, rel=0.2)
    assert kept["diameter_low_angstrom"] < 150 < kept["diameter_high_angstrom"]
    assert f"--diameter {kept['diameter_angstrom']:g} " in said.out
    with Pillow.open(tmp_path / "average.png") as picture:
        assert picture.size[0] > 2 * picture.size[1]
        grey = np.asarray(picture.convert("L"), dtype=float)
    assert grey.std() > 20
    first = (tmp_path / "average.png").read_bytes()
    again = json.loads(done("suggest", *given, "-o", tmp_path, "--json").out)
    assert again == kept
    assert (tmp_path / "average.png").read_bytes() == first


def test_the_command_without_enough_labels(simulated, tmp_path):
    picks = Picks.on("m0.mrc", np.array([[100.0, 100.0], [300.0, 200.0]]))
    relion_star.write_picks(tmp_path / "few.star", picks)
    refused = call(
        "suggest", "--micrographs", simulated / "m*.mrc", "--labels", tmp_path / "few.star"
    )
    assert refused.code == 2
    assert "few.star: 2 labels are too few" in refused.sentence
    assert call("suggest", "--micrographs", simulated / "m*.mrc").code == 2


@pytest.mark.parametrize(("diameter", "noted"), [(150, False), (400, True)])
def test_training_notes_a_diameter_that_labels_deny(simulated, tmp_path, diameter, noted):
    done(
        *("train", "--micrographs", simulated / "m*.mrc", "--labels", simulated / "labels.star"),
        *("--diameter", diameter, "-o", tmp_path, "--width", 4, "--epochs", 1),
        *("--epoch-updates", 1, "--expected-particles", 30, "--device", "cpu"),
    )
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert any("the labels show particles of about" in note for note in notes) == noted


@pytest.mark.slow
def test_real_labels(real_data):
    data = real_data / "betagal"
    given = ["--micrographs", data / "test.star", "--labels", data / "manual_positive.star"]
    found = json.loads(done("suggest", *given, "--json").out)
    assert found["diameter_angstrom"] == pytest.approx(165, rel=0.15)
    assert found["diameter_low_angstrom"] < 180
    assert found["diameter_high_angstrom"] > 150
