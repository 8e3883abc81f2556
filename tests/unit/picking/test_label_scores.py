"""What the general model makes of labels, and of micrographs with inverted contrast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.picks import Picks
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.label_scores import (
    ENOUGH_LABELS,
    FEWEST_LABELS,
    LabelScores,
    _rank,
    measure_label_scores,
)
from heliodor.simulation.micrograph import simulate_micrograph
from heliodor.simulation.settings import SimulationSettings
from helpers.cli import done
from helpers.networks import write_mrc

DIAMETER = 150.0


@pytest.fixture(scope="module")
def model():
    return load_model_for_picking(None, DIAMETER)


@pytest.fixture(scope="module")
def labeled(model):
    size = model.card.working_pixel_size_angstrom
    scene = SimulationSettings(shape=(480, 480), pixel_size_angstrom=size, contaminants=0.0)
    made = [simulate_micrograph(scene, index) for index in range(2)]
    return [LabeledImage(model.normalizer.apply(one.image), one.xy_px[:30]) for one in made], size


def test_labels_on_particles_fit_and_others_do_not(model, labeled):
    images, size = labeled
    right = measure_label_scores(model, images, size)
    assert right.fits
    assert not right.is_inverted
    assert right.describe_contrast() is None
    random = np.random.default_rng(0)
    moved = [LabeledImage(i.image, random.uniform(20, 460, (40, 2))) for i in images]
    anywhere = measure_label_scores(model, moved, size)
    assert not anywhere.fits
    assert not anywhere.is_inverted


def test_enough_labels_are_scored_and_no_more(model, labeled):
    images, size = labeled
    many = LabeledImage(images[0].image, np.tile(images[0].xy_px, (7, 1)))
    told = []
    scores = measure_label_scores(
        model, [images[1], many], size, progress=lambda *steps: told.append(steps)
    )
    assert told == [(1, 1)]
    assert len(scores.rank) == len(many.xy_px) >= ENOUGH_LABELS
    measure_label_scores(model, images, size, progress=lambda *steps: told.append(steps))
    assert told[1:] == [(1, 2), (2, 2)]


def test_inverted_contrast_is_noticed(model, labeled):
    images, size = labeled
    negatives = [LabeledImage(-i.image, i.xy_px) for i in images]
    found = measure_label_scores(model, negatives, size)
    assert found.is_inverted
    said = found.describe_contrast()
    assert said is not None
    assert "--from scratch" in said
    right = measure_label_scores(model, images, size)
    np.testing.assert_allclose(found.inverted_rank, right.rank)
    few = LabelScores(found.rank[: FEWEST_LABELS - 1], found.inverted_rank[: FEWEST_LABELS - 1])
    assert not few.is_inverted


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(100, 400))
def test_ranks_of_random_positions_are_uniform(seed, number):
    random = np.random.default_rng(seed)
    score = random.normal(size=(120, 100)).astype(np.float32)
    rank = _rank(score, random.uniform(0, (99, 119), (number, 2)))
    assert ((rank >= 0) & (rank <= 1)).all()
    assert abs(rank.mean() - 0.5) < 5 / np.sqrt(12 * number) + 0.02


def test_no_labels_conclude_nothing():
    none = LabelScores(np.zeros(0), np.zeros(0))
    assert not none.fits
    assert not none.is_inverted


@pytest.mark.slow
def test_the_commands_warn_of_inverted_contrast(tmp_path):
    tables = []
    for index in range(3):
        scene = SimulationSettings(shape=(640, 640), pixel_size_angstrom=4.3, contaminants=0.0)
        one = simulate_micrograph(scene, index)
        write_mrc(tmp_path / "dark" / f"m{index}.mrc", one.image, 4.3)
        write_mrc(tmp_path / "bright" / f"m{index}.mrc", -one.image, 4.3)
        tables.append(Picks.on(f"m{index}.mrc", one.xy_px[:20]))
    relion_star.write_picks(tmp_path / "labels.star", Picks.concatenate(tables))
    for name in ("dark", "bright"):
        given_ = ["--micrographs", tmp_path / name, "--diameter", DIAMETER]
        trained = done(
            "train", *given_, "--labels", tmp_path / "labels.star", "-o", tmp_path / "model",
            "--effort", "quick", "--epochs", 1, "--epoch-updates", 1, "--resume", "never",
        )  # fmt: skip
        picked = done("pick", *given_, "-o", tmp_path / f"{name}_picks")
        for said in (trained.err, picked.err):
            assert ("contrast" in said) == (name == "bright")
