"""The general model: any diameter, no training needed, and the start of every training."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.pretrained import (
    load_general_model,
    load_model_for_picking,
    rescale_to_diameter,
)
from heliodor.picking.score_maps import open_working_images
from heliodor.simulation import SimulationSettings, simulate
from heliodor.training.initialization import FINE_TUNING, choose_start, load_start_model
from heliodor.training.loop import train_network
from heliodor.training.objectives import OBJECTIVES
from heliodor.training.recipes import recipe
from heliodor.workflows.train import choose_working_pixel_size
from helpers.cli import call

DIAMETER = 150.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four small micrographs of a shape that the general model never saw."""
    folder = tmp_path_factory.mktemp("general") / "data"
    simulate(folder, SimulationSettings(count=4, shape=(480, 480), labels=12, seed=5, snr=0.3))
    return folder


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """Two tiny ones, for trainings whose picks nobody looks at."""
    folder = tmp_path_factory.mktemp("general") / "little"
    simulate(folder, SimulationSettings(count=2, shape=(224, 224), labels=6, seed=6, snr=0.3))
    return folder


def picked_right(folder, data, threshold=None):
    """Precision and recall of the picks in a folder."""
    picks, truth = read_picks(folder / "autopick.star"), read_picks(data / "truth.star")
    hits = total = 0
    for name in set(truth.names()):
        own = picks.xy_px[np.array(picks.names()) == name]
        there = truth.xy_px[np.array(truth.names()) == name]
        hits += int(match_picks(own, there, 0.4 * DIAMETER / 4).is_true_positive.sum())
        total += len(there)
    return hits / max(len(picks), 1), hits / total


def test_the_card_says_what_the_model_is():
    model = load_general_model()
    card = model.card
    assert card.any_diameter
    assert card.finer
    assert card.contaminant
    assert card.labelled_particles == 0
    assert {"generator", "shapes"} <= set(card.extra["general"])
    size = sum(own.numel() for own in model.network.state_dict().values())
    assert 2 * size <= 2_000_000  # in half precision


def test_lengths_follow_the_diameter():
    model = load_general_model()
    small, large = rescale_to_diameter(model, 100.0), rescale_to_diameter(model, 300.0)
    for name in ("diameter", "working_pixel_size", "training_radius"):
        values = [getattr(own.card, f"{name}_angstrom") for own in (small, large)]
        assert values[1] == pytest.approx(3 * values[0])
    assert small.card.diameter_angstrom == 100.0
    assert not small.card.any_diameter
    assert small.network is model.network


def test_without_a_diameter_it_is_refused():
    with pytest.raises(BadInput, match="longest diameter"):
        load_model_for_picking(None, None)
    with pytest.raises(BadInput, match="diameter"):
        open_working_images(load_general_model())


def test_a_trained_model_takes_no_other_diameter(tmp_path):
    path = tmp_path / "own.safetensors"
    save_model(path, rescale_to_diameter(load_general_model(), 150.0))
    assert load_model_for_picking(path, None).card.diameter_angstrom == 150.0
    with pytest.raises(BadInput, match="150 Å"):
        load_model_for_picking(path, 120.0)


def test_picks_without_any_label(data, tmp_path):
    out = tmp_path / "out"
    micrographs = data / "micrographs.star"
    words = ["--diameter", DIAMETER, "--report", "-o", out]
    result = call("pick", "--micrographs", micrographs, *words)
    assert result.code == 0, result.err
    report = (out / "report.html").read_text()
    assert f"{len(read_picks(out / 'picks.tsv')):,}" in report
    assert 'src="data:image/png' in report
    # Nothing was learnt here, so there is nothing to be said of it.
    assert "Best epoch" not in report
    assert "Labeled particles" not in report
    precision, recall = picked_right(out, data)
    assert precision > 0.7
    assert recall > 0.9
    arguments = json.loads((out / "run.json").read_text())["arguments"]
    assert arguments["diameter_angstrom"] == DIAMETER


def test_a_sentence_where_the_diameter_is_missing(data, tmp_path):
    result = call("pick", "--micrographs", data / "micrographs.star", "-o", tmp_path / "out")
    assert result.code == 2
    assert "--diameter" in result.sentence


def test_coarse_micrographs_are_made_finer(data, tmp_path):
    """Pixels twice as large as the model's still show the particles."""
    images = open_working_images(rescale_to_diameter(load_general_model(), 80.0))
    from heliodor.data.micrographs.sources import find_sources

    source = find_sources(str(data / "micrographs.star"))[0]
    image = images.get(source)
    assert image.image.shape[0] > image.original_shape[0]
    assert image.working_pixel_size_angstrom == pytest.approx(80 / 35, rel=0.01)
    coarse = open_working_images(rescale_to_diameter(load_general_model(), 40.0))
    with pytest.raises(BadInput, match="too coarse"):
        coarse.get(source)


def training(data, out, *more):
    stars = ("--micrographs", data / "micrographs.star", "--labels", data / "labels.star")
    return call("train", *stars, "--diameter", DIAMETER, "--epochs", 1, *more, "-o", out)


def test_training_starts_from_it_by_default(little, tmp_path):
    out = tmp_path / "tuned"
    result = training(little, out, "--epoch-updates", 4)
    assert result.code == 0, result.err
    arguments = json.loads((out / "run.json").read_text())["arguments"]
    assert arguments["start"] == "general"
    tuned, general = load_model(out / "model.safetensors"), load_general_model()
    assert tuned.card.width == general.card.width
    assert tuned.card.contaminant
    assert tuned.card.finer
    assert not tuned.card.any_diameter
    before, after = (own.network.state_dict() for own in (general, tuned))
    moved = max(float((before[k] - after[k]).abs().max()) for k in before if "weight" in k)
    assert 0 < moved < 0.1
    # Running statistics are those of whole micrographs, and stay.
    assert all(torch.equal(before[k], after[k]) for k in before if "running" in k)


def test_a_model_of_ones_own_is_a_start_too(little, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert training(little, first, "--epoch-updates", 2, "--from", "scratch").code == 0
    start = first / "model.safetensors"
    assert training(little, second, "--epoch-updates", 2, "--from", start).code == 0
    begun, ended = (load_model(path / "model.safetensors") for path in (first, second))
    assert ended.card.working_pixel_size_angstrom == begun.card.working_pixel_size_angstrom
    assert not ended.card.contaminant
    weights = [own.network.classifier.weight.detach() for own in (begun, ended)]
    moved = (weights[0] - weights[1]).abs().max()
    assert 0 < float(moved) < 0.05


@pytest.mark.slow
def test_the_same_start_is_recognised_and_another_is_not(little, tmp_path):
    out, start = tmp_path / "out", tmp_path / "start.safetensors"
    model = rescale_to_diameter(load_general_model(), DIAMETER)
    save_model(start, model)
    assert training(little, out, "--epoch-updates", 1, "--from", start).code == 0
    again = training(little, out, "--epoch-updates", 1, "--from", start)
    assert "training skipped" in again.err + again.out
    with torch.no_grad():
        model.network.classifier.bias.add_(0.25)
    save_model(start, model)
    other = training(little, out, "--epoch-updates", 1, "--from", start)
    assert "trained already" not in other.err + other.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "general", "--network", "conv31"), "network"),
        (("--from", "general", "--width", "5"), "width"),
        (("--from", "general", "--working-pixel-size", "9"), "working pixel size"),
        (("--from", "nowhere.safetensors"), "does not exist"),
    ],
)
def test_what_does_not_go_together_is_refused(little, tmp_path, options, words):
    result = training(little, tmp_path / "out", *options)
    assert result.code == 2
    assert words in result.sentence


def test_what_a_start_cannot_have_means_none():
    fast = recipe("fast")
    general = choose_start(fast, None, ())
    assert general.start == "general"
    assert general.learning_rate == FINE_TUNING["learning_rate"]
    assert choose_start(recipe("fast", network="conv31"), None, {"network"}).start == "scratch"
    assert choose_start(recipe("fast", width=5), None, {"width"}).start == "scratch"
    chosen = choose_start(recipe("fast", learning_rate=0.02), None, {"learning_rate"})
    assert chosen.learning_rate == 0.02
    assert load_start_model(choose_start(fast, "scratch", ())) is None
    assert choose_start(fast, "scratch", ()) == fast


@pytest.mark.slow
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_works_from_it(objective):
    rng = np.random.default_rng(1)
    image = rng.standard_normal((128, 128)).astype(np.float32)
    items = [LabeledImage(image, np.array([[60.0, 70.0], [30.0, 50.0]]))]
    width = load_general_model().card.width
    small = {"epochs": 1, "epoch_updates": 2, "batch": 8, "positives": 2}
    settings = recipe("fast", width=width, objective=objective, **small)
    network = train_network(
        items, [], 4.4, 0.05, settings, start=load_general_model().network
    ).network
    assert network.is_finite()
    assert not torch.equal(
        network.classifier.weight, load_general_model().network.classifier.weight
    )


def test_the_distance_to_the_start_holds_it(little, tmp_path):
    """With all weight on what the start says, hardly anything moves."""
    start = load_general_model().network
    rng = np.random.default_rng(0)
    image = rng.standard_normal((160, 160)).astype(np.float32)
    items = [LabeledImage(image, np.array([[80.0, 80.0], [40.0, 50.0]]))]
    width = load_general_model().card.width
    few = recipe("fast", width=width, epochs=1, epoch_updates=6, batch=8, positives=2)
    said = []
    for keep in (0.0, 50.0):
        settings = dataclasses.replace(few, keep=keep)
        network = train_network(items, [], 4.4, 0.05, settings, start=start).network
        with torch.no_grad():
            crop = torch.from_numpy(image)[None, None]
            moved = torch.sigmoid(network(crop)) - torch.sigmoid(start(crop))
        said.append(float(moved.abs().mean()))
    assert said[1] < 0.7 * said[0]


def test_a_model_file_says_whether_it_serves_any_diameter(tmp_path):
    model = load_general_model()
    path = tmp_path / "model.safetensors"
    for flag in (True, False):
        card = dataclasses.replace(model.card, any_diameter=flag)
        save_model(path, Model(model.network, card))
        assert load_model(path).card.any_diameter is flag
    save_model(path, Model(model.network, dataclasses.replace(model.card, finer="yes")))
    with pytest.raises(BadInput, match="damaged"):
        load_model(path)


def test_wanted_pixel_size_is_the_starts():
    from heliodor.training.settings import DataSettings

    data = DataSettings(diameter_angstrom=70.0)
    assert choose_working_pixel_size(data, recipe("fast"), load_general_model()) == pytest.approx(
        2.0
    )


@pytest.mark.parametrize(("size", "fits"), [(2.8, True), (3.2, True), (3.3, False), (1.9, False)])
def test_the_general_model_starts_at_coarser_pixels(size, fits):
    from heliodor.training.settings import DataSettings

    data = DataSettings(diameter_angstrom=70.0, working_pixel_size_angstrom=size)
    general = load_general_model()
    of_one = rescale_to_diameter(general, 70.0)
    if fits:
        assert choose_working_pixel_size(data, recipe("fast"), general) == size
    else:
        with pytest.raises(BadInput, match=r"of 2 Å to 3\.2 Å, not"):
            choose_working_pixel_size(data, recipe("fast"), general)
    with pytest.raises(BadInput, match=r"of 2 Å, not"):
        choose_working_pixel_size(data, recipe("fast"), of_one)


def test_labels_where_contaminants_were_detected_correct_that(little, tmp_path):
    """A model that calls everything carbon is not believed where labels say otherwise."""
    start, model = (
        tmp_path / "start.safetensors",
        rescale_to_diameter(load_general_model(), DIAMETER),
    )
    with torch.no_grad():
        model.network.contaminant.bias.add_(30.0)
    before = float(model.network.contaminant.bias.detach())
    save_model(start, model)
    out = tmp_path / "out"
    result = training(little, out, "--epoch-updates", 1, "--from", start)
    assert result.code == 0, result.err
    assert "of the labels lie in areas that the model took for contamination" in result.err
    tuned = load_model(out / "model.safetensors")
    assert tuned.card.contaminant
    assert float(tuned.network.contaminant.bias.detach()) < before - 20.0
