"""The frame of coordinates: the pictures tell flips, swaps, scales and displacements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from heliodor.data.coordinates.formats import read_picks, relion_star
from heliodor.data.coordinates.frame_detection import (
    FACTORS,
    FRAMES,
    REACH_PX,
    UNCHANGED,
    Frame,
    ImageCoordinates,
    _sum_around,
    find_scale_by_extent,
    judge_frame,
)
from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources
from heliodor.simulation.micrograph import simulate_micrograph
from heliodor.simulation.settings import SimulationSettings
from helpers.cli import call, done
from helpers.networks import (
    discs,
    noise,
    scattered,
    write_mrc,
)

SHAPE = (420, 560)


def inverse(frame: Frame) -> list[Frame]:
    """The frames that undo a frame on a square image: swap last instead of first."""
    flips = (frame.flip_y, frame.flip_x) if frame.swap else (frame.flip_x, frame.flip_y)
    return [Frame(frame.swap, *flips, 1 / frame.scale)]


def views(frame: Frame = UNCHANGED, shift=(0, 0), number=40, shape=SHAPE, shown=True):
    for seed in range(2):
        xy = scattered(shape, number, 14, seed)
        image = discs(shape, xy if shown else xy[:0], depth=1.0, seed=seed)
        yield ImageCoordinates(image, shape, frame.apply(xy, shape) + np.array(shift))


shapes = st.tuples(st.integers(2, 3000), st.integers(2, 3000))


@given(shapes, st.sampled_from(FRAMES), st.lists(st.tuples(st.floats(0, 999), st.floats(0, 999))))
def test_a_frame_undone(shape, frame, xy):
    """Swapping, scaling and flipping forth and back gives what was there, on square images."""
    side = (shape[0], shape[0])
    there = Frame(frame.swap, frame.flip_x, frame.flip_y).apply(np.array(xy).reshape(-1, 2), side)
    back = inverse(replace(frame, scale=1.0))[0].apply(there, side)
    np.testing.assert_allclose(back, np.array(xy).reshape(-1, 2), rtol=0, atol=1e-9)


def test_a_flip_keeps_the_first_pixel_in_the_image():
    assert Frame(flip_y=True).apply(np.zeros((1, 2)), (7, 5)).tolist() == [[0, 6]]
    assert Frame(flip_x=True).apply(np.zeros((1, 2)), (7, 5)).tolist() == [[4, 0]]
    assert Frame(swap=True, scale=2).apply(np.array([[1, 3]])).tolist() == [[6, 2]]
    with pytest.raises(ValueError, match="shape"):
        Frame(flip_x=True).apply(np.zeros((1, 2)))


@settings(max_examples=20)
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 12), st.integers(0, 99))
def test_sums_around_picks_are_correlations(shape, number, seed):
    random = np.random.default_rng(seed)
    height, width = shape
    xy = random.integers((width, height), size=(number, 2))
    picks = np.zeros(shape)
    np.add.at(picks, (xy[:, 1], xy[:, 0]), 1)
    image = noise(shape, seed)
    found = _sum_around(np.pad(image.astype(np.float64), REACH_PX), xy + random.uniform(-0.4, 0.4))
    # Beyond this no displaced pick is in the image.
    rows, columns = (min(side - 1, REACH_PX) for side in shape)
    inner = (slice(REACH_PX - rows, REACH_PX + rows + 1),)
    inner += (slice(REACH_PX - columns, REACH_PX + columns + 1),)
    for own, there in zip(found, (image, np.ones(shape)), strict=True):
        whole = correlate(there.astype(np.float64), picks, method="fft")
        expected = whole[height - 1 - rows : height + rows, width - 1 - columns : width + columns]
        np.testing.assert_allclose(own[inner], expected, rtol=0, atol=1e-9)
        assert own.sum() == pytest.approx(own[inner].sum(), abs=1e-9)


def test_of_very_many_coordinates_some_are_enough():
    view = next(views())
    many = replace(view, xy_px=np.repeat(view.xy_px, 30, axis=0))
    assert judge_frame([many]).fit == pytest.approx(judge_frame([view]).fit, rel=1e-6)


def test_coordinates_on_their_particles_fit():
    verdict = judge_frame(views())
    assert verdict.frame == UNCHANGED
    assert verdict.is_decided
    assert not verdict.is_wrong
    assert str(verdict).startswith("the coordinates match the images (")


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (Frame(flip_y=True), Frame(flip_y=True)),
        (Frame(flip_x=True, flip_y=True), Frame(flip_x=True, flip_y=True)),
        (Frame(swap=True), Frame(swap=True)),
        (Frame(scale=0.5), Frame(scale=2.0)),
        (Frame(scale=4.0), Frame(scale=0.25)),
        (Frame(scale=1 / 1.5), Frame(scale=1.5)),
        (Frame(scale=1 / 16), Frame(scale=16.0)),
        (Frame(scale=3.0), Frame(scale=1 / 3)),
    ],
    ids=str,
)
def test_planted_frames_are_named(planted, found):
    verdict = judge_frame(views(planted))
    assert verdict.is_wrong
    assert verdict.is_transformed
    assert verdict.frame == found
    assert str(found) in str(verdict)
    assert f"heliodor convert {found.options}" in str(verdict)


def test_options_of_convert():
    assert UNCHANGED.options == ""
    assert str(Frame(scale=1 / 12)) == "scaled by 1/12"
    frame = Frame(swap=True, flip_y=True, scale=1 / 1.5)
    assert str(frame) == "x and y swapped, scaled by 1/1.5, y flipped"
    assert frame.options == "--swap-xy --scale 0.666667 --flip-y"


@settings(max_examples=60)
@given(st.sampled_from(FACTORS), st.integers(0, 99), st.booleans())
def test_the_extent_of_coordinates_shows_their_factor(factor, seed, larger):
    """All of them in one corner of every micrograph, or most outside, are not chance."""
    random = np.random.default_rng(seed)
    shape = (900, 1200)
    scale = factor if larger else 1 / factor
    xy = [random.uniform(30, (1170, 870), (60, 2)) for _ in range(3)]
    found = find_scale_by_extent([(own * scale, shape) for own in xy])
    assert found is not None
    assert found.scale == pytest.approx(1 / scale)
    assert find_scale_by_extent([(own, shape) for own in xy]) is None
    assert find_scale_by_extent([(own[:9] * scale, shape) for own in xy]) is None
    if not larger:  # one user may have labeled one corner of one micrograph
        assert find_scale_by_extent([(xy[0] * scale, shape)]) is None


def test_swapped_coordinates_outside_are_not_taken_for_scaled_ones():
    random = np.random.default_rng(0)
    xy = random.uniform(0, (2000, 500), (200, 2))
    assert find_scale_by_extent([(xy[:, ::-1], (500, 2000))]) is None


def test_particles_that_cannot_be_seen_leave_the_extent():
    views_ = [
        ImageCoordinates(
            noise(SHAPE, seed), SHAPE, np.random.default_rng(seed).uniform(5, 50, (20, 2))
        )
        for seed in range(3)
    ]
    verdict = judge_frame(views_)
    assert verdict.by_extent
    assert verdict.is_wrong
    assert verdict.frame == Frame(scale=8.0)
    assert "heliodor convert --scale 8" in str(verdict)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (2, -1), (1, 2)])
def test_an_inaccuracy_of_clicks_is_no_displacement(shift):
    """Even on a lattice, where displaced coordinates fit too."""
    rows, columns = np.mgrid[20:400:20, 20:540:20]
    xy = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    xy += np.random.default_rng(0).normal(0, 1.0, xy.shape)
    image = discs(SHAPE, xy, depth=1.0, seed=0)
    verdict = judge_frame([ImageCoordinates(image, SHAPE, xy + np.array(shift))])
    assert not verdict.is_wrong
    assert verdict.fit_unchanged > 8


def test_corners_of_boxes_are_named():
    verdict = judge_frame(views(shift=(-20, -20), number=60))
    assert verdict.is_wrong
    assert verdict.displacement_px is not None
    np.testing.assert_allclose(verdict.displacement_px, (20, 20), atol=2)
    assert "corners" in str(verdict)


@pytest.mark.parametrize("seed", range(2))
def test_points_at_random_decide_nothing(seed):
    random = np.random.default_rng(seed)
    scenes = [replace(view, xy_px=random.uniform(0, 420, (80, 2))) for view in views(number=60)]
    verdict = judge_frame(scenes)
    assert not verdict.is_wrong
    assert verdict.is_chance
    assert "no better than random positions" in str(verdict)
    few = judge_frame([replace(view, xy_px=view.xy_px[:30]) for view in scenes])
    assert not few.is_chance
    assert few.may_be_chance
    assert "do not show" in str(few)
    assert not judge_frame([replace(view, xy_px=view.xy_px[:9]) for view in scenes]).may_be_chance


def test_a_handful_of_points_never_speaks_against_coordinates():
    """Between ice crystals and gold, a few points fit one of the frames by chance."""
    settings = SimulationSettings(shape=(512, 512), pixel_size_angstrom=8.0, contaminants=3.0)
    image = simulate_micrograph(settings, 0).image
    for seed in (0, 7, 10):
        xy = np.random.default_rng(seed).uniform(0, 511, (5, 2))
        verdict = judge_frame([ImageCoordinates(image, (512, 512), xy)])
        assert not verdict.is_wrong
        assert not verdict.is_decided


def test_pictures_without_particles_decide_nothing():
    assert not judge_frame(views(Frame(flip_y=True), shown=False)).is_decided


def test_small_pictures_and_none_decide_nothing():
    assert not judge_frame([]).is_decided
    assert not judge_frame(views(Frame(flip_y=True), shape=(120, 400), number=15)).is_decided


def real(folder: Path, labels: str, number: int | None):
    """The eight fullest micrographs of a set with some of their labels."""
    sources = find_sources(folder / "micrographs")
    labelled, _ = assign_labels(read_picks(folder / labels), sources)
    fullest = sorted(labelled, key=lambda item: -len(item.xy_px))[:8]
    random = np.random.default_rng(0)
    for item in fullest:
        image = read_micrograph(item.source.path).image
        xy = item.xy_px
        if number is not None:
            xy = xy[random.permutation(len(xy))[:number]]
        yield ImageCoordinates(image, (image.shape[0], image.shape[1]), xy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "labels", "number"),
    [
        ("betagal", "manual_positive.star", 5),
        ("betagal", "manual_positive.star", None),
        ("t20s", "weak_autopicks.star", 4),  # many of them wrong
        ("apoferritin", "truth.star", 3),
        ("apoferritin", "truth.star", None),
        ("apoferritin", "second_annotator.star", None),
        ("ribosome80s", "truth.star", 3),
        ("ribosome80s", "truth.star", None),
        ("trpv1", "truth.star", 4),
        ("trpv1", "truth.star", None),
    ],
)
def test_real_micrographs(real_data, folder, labels, number):
    scenes = list(real(real_data / folder, labels, number))
    plain = judge_frame(scenes)
    assert plain.frame == UNCHANGED
    assert plain.is_decided
    assert not plain.is_wrong
    flip = Frame(flip_y=True)
    flipped = [replace(v, xy_px=flip.apply(v.xy_px, v.original_shape)) for v in scenes]
    verdict = judge_frame(flipped)
    assert verdict.is_wrong
    assert verdict.frame == flip


def test_training_refuses_labels_in_a_wrong_frame(tmp_path):
    tables = []
    for number, view in enumerate(views(Frame(flip_y=True))):
        write_mrc(tmp_path / "mics" / f"m{number}.mrc", view.image)
        tables.append(Picks.on(f"m{number}.mrc", view.xy_px))
    relion_star.write_picks(tmp_path / "labels.star", Picks.concatenate(tables))
    arguments = ["train", "--micrographs", tmp_path / "mics", "--diameter", 100]
    arguments += ["--labels", tmp_path / "labels.star", "-o", tmp_path / "out"]
    arguments += ["--network", "conv31", "--width", 2, "--epochs", 1, "--epoch-updates", 1]
    arguments += ["--expected-particles", 40]
    refused = call(*arguments)
    assert refused.code == 2
    assert "y flipped" in refused.sentence
    assert "--trust-labels" in refused.sentence
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert call(*arguments, "--trust-labels").code == 0


def test_training_warns_of_labels_no_better_than_chance(tmp_path):
    tables = []
    for number, view in enumerate(views(number=60)):
        write_mrc(tmp_path / "mics" / f"m{number}.mrc", view.image)
        xy = np.random.default_rng(number).uniform(10, 410, (60, 2))
        tables.append(Picks.on(f"m{number}.mrc", xy))
    relion_star.write_picks(tmp_path / "labels.star", Picks.concatenate(tables))
    given_ = ["--micrographs", tmp_path / "mics"]
    trained = done(
        "train", *given_, "--diameter", 100, "--labels", tmp_path / "labels.star",
        "-o", tmp_path / "out", "--network", "conv31", "--width", 2, "--epochs", 1,
        "--epoch-updates", 1, "--expected-particles", 60,
    )  # fmt: skip
    assert "no better than random positions" in trained.err
    checked = call("check", tmp_path / "labels.star", *given_)
    assert "no better than random positions" in checked.out


@pytest.mark.slow
@pytest.mark.parametrize("at_particles", [True, False])
def test_fewer_labels_are_enough_where_the_general_model_finds_nothing_either(
    tmp_path, at_particles
):
    tables = []
    for number, view in enumerate(views(number=60)):
        write_mrc(tmp_path / "mics" / f"m{number}.mrc", view.image)
        xy = np.random.default_rng(number).uniform(10, 410, (20, 2))
        tables.append(Picks.on(f"m{number}.mrc", view.xy_px[:20] if at_particles else xy))
    relion_star.write_picks(tmp_path / "labels.star", Picks.concatenate(tables))
    trained = done(
        "train", "--micrographs", tmp_path / "mics", "--labels", tmp_path / "labels.star",
        "--diameter", 100, "-o", tmp_path / "out", "--epochs", 1, "--epoch-updates", 1,
        "--expected-particles", 60,
    )  # fmt: skip
    assert ("no better than random positions" in trained.err) is not at_particles
