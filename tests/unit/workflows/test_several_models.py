"""Training several models, and one that learns from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from heliodor.conventions import FloatArray, to_original
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.models.model_file import Model, load_model
from heliodor.simulation import SimulationSettings, simulate
from heliodor.training.loop import train_network
from heliodor.training.settings import DataSettings, TrainingSettings, TrainSettings
from heliodor.workflows import several_models
from heliodor.workflows import train as train_workflow
from heliodor.workflows.several_models import PLANS, choose_plan, resample
from helpers.cli import call, done

SHORT = ("--epochs", "1", "--epoch-updates", "3", "--diameter", "120")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thorough") / "sim"
    settings = SimulationSettings(
        particle="shell", count=2, shape=(224, 224), pixel_size_angstrom=5.0, seed=4, labels=8,
        particles_per_micrograph=14,
    )  # fmt: skip
    simulate(folder, settings)
    return folder


#: What the general model is said to find at the pixels of the first and of the second model.
PICKS = [np.array([[x, y] for x in (60.0, 120.0) for y in (n, n + 90.0)]) for n in (50, 80)]


class Normal(NamedTuple):
    """A normal training: what it said, its folder, and what it worked with."""

    said: str
    folder: Path
    #: The working pixel sizes at which the general model picked.
    sizes: list[float]
    #: What the further models were trained on.
    trained: list[Sequence[LabeledImage]]


@pytest.fixture(scope="module")
def normal(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Normal:
    folder = tmp_path_factory.mktemp("normal")
    sizes: list[float] = []
    trained: list[Sequence[LabeledImage]] = []

    def pick(
        model: Model, sources: Sequence[Source], images: WorkingImages, *_: object
    ) -> dict[str, FloatArray]:
        sizes.append(images.working_pixel_size_angstrom)
        return {source.name: PICKS[len(sizes) - 1] for source in sources}

    def train(images: Sequence[LabeledImage], *others: Any, **options: Any) -> Any:
        trained.append(images)
        return train_network(images, *others, **options)

    micrographs, labels = data / "micrographs.star", data / "labels.star"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_workflow, "find_sure_picks", pick)
        patch.setattr(several_models, "train_network", train)
        lines = done("train", micrographs, "--labels", labels, *SHORT, "-o", folder)
    return Normal(lines.err, folder, sizes, trained)


def test_a_map_is_resampled_about_its_first_pixel() -> None:
    columns = np.arange(60, dtype=np.float32)
    scores = np.tile(columns, (40, 1)) + 100 * np.arange(40, dtype=np.float32)[:, None]
    assert resample(scores, (40, 60)) is scores
    finer = resample(scores, (80, 120))
    np.testing.assert_allclose(finer[::2, ::2], scores, rtol=1e-6)
    np.testing.assert_allclose(finer[10, 21], scores[5, 10] + 0.5, rtol=1e-6)


def test_each_model_learns_from_picks_at_its_own_pixels(normal: Normal) -> None:
    """What the general model finds at coarser pixels is not what it finds at its own."""
    assert "second of two models" in normal.said
    assert normal.sizes[1:] == [pytest.approx(1.3 * normal.sizes[0])]
    (coarse,) = normal.trained
    found = np.concatenate([image.picked_xy_px for image in coarse])
    assert len(found)  # those that are not on a labeled particle
    original = to_original(found, (224, 224), coarse[0].shape)
    np.testing.assert_allclose(KDTree(PICKS[1]).query(original)[0], 0, atol=1e-6)


def test_training_thoroughly_and_again(data: Path, tmp_path: Path, normal: Normal) -> None:
    """The last model is none of the three, the same command finds it, and nothing is left over."""
    train = ("train", data / "micrographs.star", "--labels", data / "labels.star", *SHORT)
    lines = done(*train, "-o", tmp_path / "out", "--effort", "thorough")
    usual, model = (
        load_model(folder / "model.safetensors") for folder in (normal.folder, tmp_path / "out")
    )
    assert not torch.equal(usual.network.classifier.weight, model.network.classifier.weight)
    assert model.network.contaminant is not None
    assert model.card.working_pixel_size_angstrom == usual.card.working_pixel_size_angstrom
    assert np.isfinite(model.card.threshold)
    assert model.card.extra["effort"] == "thorough"
    assert "effort" not in usual.card.extra
    hidden = {path.name for path in (tmp_path / "out").iterdir() if path.name[0] == "."}
    assert not [name for name in hidden if name.startswith(".training")]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["arguments"]["effort"] == "thorough"
    assert "second of four models" in lines.err
    again = done(*train, "-o", tmp_path / "out", "--effort", "thorough")
    assert "training skipped" in again.err


@pytest.mark.slow
def test_an_interrupted_training_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same model as if nothing had happened, and no model is trained twice."""
    train = ("train", data / "micrographs.star", "--labels", data / "labels.star", *SHORT)
    train = (*train, "--effort", "thorough", "-o")
    done(*train, tmp_path / "whole")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(several_models, "distill", stop)
        assert call(*train, tmp_path / "out").code != 0
    kept = {path.name for path in (tmp_path / "out").glob(".training*")}
    own = ("", "_coarse", "_coarsest", "_scratch")
    assert kept == {f".training{name}.safetensors" for name in own}
    lines = done(*train, tmp_path / "out")
    assert "resuming after update 3 of 3" in lines.err
    first, second = (
        (tmp_path / own / "model.safetensors").read_bytes() for own in ("whole", "out")
    )
    assert first == second
    assert not list((tmp_path / "out").glob(".training*"))


@pytest.mark.parametrize(
    "options",
    [
        {"start": "scratch"},
        {"network": "conv31"},
        {"width": 8},
        {"working_pixel_size": 6.0},
        {"recipe": "paper"},
    ],
)
def test_it_starts_from_the_general_model(options: dict[str, object]) -> None:
    from heliodor.errors import BadInput

    with pytest.raises(BadInput, match="leave out --effort") as caught:
        TrainSettings.from_options(diameter=150.0, effort="thorough", **options)
    assert caught.value.parameter == "effort"


def test_one_model_is_trained_alone_where_the_others_would_not_be_alike() -> None:
    """From the general model at its own pixels there are several, but not in a quick training."""
    data, usual = DataSettings(diameter_angstrom=150.0), TrainingSettings(start="general")
    plan = choose_plan(usual, data)
    assert plan is PLANS["normal"]
    assert choose_plan(replace(usual, effort="thorough"), data) is PLANS["thorough"]
    assert choose_plan(replace(usual, effort="quick"), data) is None
    assert choose_plan(replace(usual, start="scratch"), data) is None
    assert choose_plan(replace(usual, start="model.safetensors"), data) is None
    assert choose_plan(usual, replace(data, working_pixel_size_angstrom=6.0)) is None
    # Fewer epochs than alone, unless the user says how many.
    assert plan.first_epochs(replace(usual, own_picks=0.9), 30) == 3
    assert plan.first_epochs(replace(usual, epochs=10), 30) == 10


def test_a_quick_training_is_small() -> None:
    own = TrainSettings.from_options(diameter=150.0, effort="quick").training
    assert (own.epochs, own.batch, own.freeze, own.start) == (2, 32, 3, "general")
    scratch = TrainSettings.from_options(diameter=150.0, effort="quick", start="scratch").training
    assert (scratch.epochs, scratch.batch, scratch.freeze) == (2, 64, 0)
    chosen = TrainSettings.from_options(diameter=150.0, effort="quick", epochs=3).training
    assert chosen.epochs == 3
