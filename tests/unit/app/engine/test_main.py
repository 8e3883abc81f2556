"""The engine as the server meets it: a process, and lines of JSON."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from heliodor.app.candidates import read_candidates
from heliodor.app.engine.prediction import FEATURES, NOISE_BEST, NOISE_STEP
from heliodor.app.engine.session import _describe_error
from heliodor.data.micrographs.sources import Source
from heliodor.models.model_file import load_model, save_model
from heliodor.models.pretrained import rescale_to_diameter
from heliodor.picking.candidates import find_candidates
from heliodor.picking.score_maps import compute_score_maps, open_working_images
from heliodor.picking.settings import PickSettings
from helpers.engine_process import Engine
from helpers.networks import (
    discs,
    model,
    scattered,
    scrambled,
    write_mrc,
)

#: Angstrom; the discs' diameter, and what a model of the tests takes for 35 pixels.
DIAMETER, PIXEL = 28.0, 4.0
SHAPE = (150, 170)


@pytest.fixture(scope="module")
def places() -> list[np.ndarray]:
    return [scattered(SHAPE, 24, 16, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory, places: list[np.ndarray]) -> list[Path]:
    """Three micrographs of dark discs, and a file that is none."""
    folder = tmp_path_factory.mktemp("micrographs")
    paths = [folder / f"m{i}.mrc" for i in range(3)]
    for i, path in enumerate(paths):
        write_mrc(path, discs(SHAPE, places[i], depth=4, seed=i), PIXEL)
    (folder / "bad.mrc").write_bytes(b"no micrograph")
    return [*paths, folder / "bad.mrc"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the general one's kind that learns in a moment."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    network = scrambled("resnet8", 4)
    network.add_contaminant_classifier()
    with torch.no_grad():  # it sees none anywhere
        network.contaminant.weight.zero_()
        network.contaminant.bias.fill_(-9.0)
    small = model(
        network, network="resnet8", width=4, contaminant=True, any_diameter=True, finer=True,
        working_pixel_size_angstrom=1.0, diameter_angstrom=7.0, training_radius_angstrom=1.0,
        normalization={"mode": "micrograph", "flatten_px": 5.0}, threshold=0.0,
    )  # fmt: skip
    save_model(path, small)
    return path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, engine: Engine, micrographs: list[Path], small: Path) -> Path:
    """A project that the engine has open."""
    engine.said.clear()
    engine.open(tmp_path, micrographs, DIAMETER, model=str(small))
    assert engine.wait("ready")["device"] in ("cpu", "cuda", "mps")
    return tmp_path


def answers(places: list[np.ndarray]) -> dict[str, dict[str, list[list[float]]]]:
    labels = {str(i): places[i][:12].tolist() for i in range(2)}
    return {"labels": labels, "negatives": {"2": [[5.0, 5.0], [80.0, 60.0]]}}


def test_it_scores_all_but_what_is_no_micrograph(
    engine: Engine, project: Path, micrographs: list[Path], small: Path
) -> None:
    engine.ask("score", ids=[0, 3, 1])
    failed = engine.wait("failed", id=3)
    assert "bad.mrc" in failed["says"]
    engine.wait("scored", id=1, number=0)
    assert [said["id"] for said in engine.said if said["event"] == "scored"] == [0, 1]
    assert {path.name for path in (project / "scores").iterdir()} == {"0.npz", "1.npz"}
    with Pillow.open(project / "previews" / "0.jpg") as preview:
        assert preview.size == (SHAPE[1], SHAPE[0])
        assert preview.mode == "L"
        assert abs(np.median(np.asarray(preview)) - 128) < 3
    # What it finds is what picking finds, to the last bit that is kept.
    loaded = rescale_to_diameter(load_model(small), DIAMETER)
    image = open_working_images(loaded).get(Source("m0", micrographs[0], "m0"))
    look = compute_score_maps(loaded, image, loaded.normalizer.apply(image.image))
    picks = find_candidates(loaded, image, look.score, PickSettings(), look.contamination)
    found = read_candidates(project / "scores" / "0.npz")
    assert found.model == 0
    assert found.features.shape == (len(found.score), FEATURES)
    assert found.all_features is not None
    assert found.feature_noise is not None
    channels = loaded.network.classifier.in_channels
    assert found.all_features.shape == (len(found.score), channels)
    turned = len(range(0, min(len(found.score), NOISE_BEST), NOISE_STEP))
    assert found.feature_noise.shape == (turned, channels)
    assert 0 < np.abs(found.feature_noise).mean() < np.abs(found.all_features).mean()
    result = found.as_result("m0")
    assert result is not None
    assert len(result.candidates) > 0
    np.testing.assert_array_equal(result.candidates.score, picks.score)
    np.testing.assert_array_equal(result.candidates.xy_px, picks.xy_px)
    assert (np.diff(found.score) <= 0).all()
    other = read_candidates(project / "scores" / "1.npz")
    assert found.figures.keys() == other.figures.keys()
    assert all(np.isfinite(list(found.figures.values())))


def test_a_micrograph_whose_results_cannot_be_written_can_be_tried_again(
    engine: Engine, project: Path
) -> None:
    (project / "scores").write_text("no folder")
    engine.ask("score", ids=[0, 3])
    failed = engine.wait("failed", id=0)
    assert "0.npz cannot be written" in failed["says"]
    assert failed["temporary"]
    assert not engine.wait("failed", id=3)["temporary"]
    (project / "scores").unlink()
    engine.ask("score", ids=[0])
    engine.wait("scored", id=0)


def test_what_comes_into_focus_is_scored_first(engine: Engine, project: Path) -> None:
    engine.ask("focus", id=2)
    engine.wait("scored", id=2)
    engine.ask("score", ids=[0, 1, 2])
    engine.wait("scored", id=1)
    scored = [said["id"] for said in engine.said if said["event"] == "scored"]
    assert scored == [2, 2, 0, 1]


@pytest.mark.slow
def test_it_learns_and_says_how_it_goes(
    engine: Engine, project: Path, places: list[np.ndarray]
) -> None:
    engine.ask("focus", id=1)
    engine.wait("scored", id=1, number=0)
    file = project / "models" / "0001.safetensors"
    engine.ask("train", number=1, out=str(file), seed=0, **answers(places))
    trained = engine.wait("trained")
    engine.wait("scored", id=1, number=1)
    assert trained["number"] == 1
    assert trained["file"] == str(file)
    assert 0 <= trained["validation"] <= 1
    updates = [row[0] for row in trained["curve"]]
    assert updates == sorted(updates)
    assert updates[-1] == 100
    assert trained["curve"][-1][2] == trained["validation"]
    progress = [said for said in engine.said if said["event"] == "progress"]
    assert progress[-1]["update"] == progress[-1]["of"] == 100
    assert engine.said[-1]["event"] == "scored"
    assert "reading micrographs" in [said.get("says") for said in engine.said]
    card = load_model(file).card
    assert card.labelled_particles == 24
    assert card.threshold == trained["threshold"]
    assert not card.any_diameter
    assert card.diameter_angstrom == DIAMETER
    # The next begins with it.
    second = project / "models" / "0002.safetensors"
    engine.ask("train", number=2, out=str(second), seed=0, **answers(places))
    engine.wait("trained", number=2)
    assert second.read_bytes() != file.read_bytes()


@pytest.mark.slow
def test_the_same_labels_and_seed_give_the_same_model(
    engine: Engine,
    project: Path,
    micrographs: list[Path],
    small: Path,
    places: list[np.ndarray],
) -> None:
    said = answers(places)
    files = [project / "models" / f"{n}.safetensors" for n in range(3)]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        engine.open(project, micrographs, DIAMETER, model=str(small))
        engine.ask("train", number=1, out=str(file), seed=seed, **said)
        engine.wait("trained")
        # In whatever order they come.
        said["labels"] = {k: own[::-1] for k, own in reversed(said["labels"].items())}
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_a_training_that_cannot_be_is_refused(engine: Engine, project: Path) -> None:
    file = project / "models" / "0001.safetensors"
    engine.ask("train", number=1, out=str(file), labels={}, negatives={"0": [[9, 9]]}, seed=0)
    assert "label" in engine.wait("refused")["says"]
    engine.ask("train", number=1, out=str(file), labels={"3": [[9, 9]]}, negatives={}, seed=0)
    assert "bad.mrc" in engine.wait("refused")["says"]
    engine.ask("train", number=1, out=str(file), labels={"7": [[9, 9]]}, negatives={}, seed=0)
    assert "not in the project" in engine.wait("refused")["says"]
    assert not file.exists()


def test_a_cancelled_training_leaves_nothing(
    engine: Engine, project: Path, places: list[np.ndarray]
) -> None:
    file = project / "models" / "0001.safetensors"
    engine.ask("train", number=1, out=str(file), seed=0, **answers(places))
    engine.wait("progress")
    engine.ask("train", number=2, out=str(file), seed=0, **answers(places))
    assert "is running" in engine.wait("refused")["says"]
    engine.ask("cancel")
    engine.wait("cancelled")
    assert not (project / "models").exists() or not list((project / "models").iterdir())
    engine.ask("score", ids=[0])
    assert engine.wait("scored", id=0)["number"] == 0
    assert "trained" not in [said["event"] for said in engine.said]


def test_another_project_ends_a_training(
    engine: Engine,
    project: Path,
    micrographs: list[Path],
    small: Path,
    places: list[np.ndarray],
) -> None:
    file = project / "models" / "0001.safetensors"
    engine.ask("train", number=1, out=str(file), seed=0, **answers(places))
    engine.open(project, micrographs, 2 * DIAMETER, model=str(small))
    engine.wait("cancelled")
    engine.wait("ready")
    assert not file.exists()


def test_a_project_that_cannot_be_opened_is_told_of(
    engine: Engine, tmp_path: Path, micrographs: list[Path]
) -> None:
    engine.open(tmp_path, micrographs, 3.0)
    assert "diameter" in engine.wait("failed", id=None)["says"]
    engine.open(tmp_path, micrographs, DIAMETER, model=str(tmp_path / "none.safetensors"))
    assert "none.safetensors" in engine.wait("failed", id=None)["says"]
    engine.ask("train", number=1, out=str(tmp_path / "m"), labels={"0": [[1, 2]]}, seed=0)
    assert "open" in engine.wait("refused")["says"]


@pytest.mark.slow
def test_it_ends_with_its_input_even_while_it_learns(
    tmp_path: Path, micrographs: list[Path], small: Path, places: list[np.ndarray]
) -> None:
    engine = Engine()
    engine.ask("nonsense")
    engine.open(tmp_path, micrographs, DIAMETER, model=str(small))
    file = tmp_path / "models" / "0001.safetensors"
    engine.ask("train", number=1, out=str(file), seed=0, **answers(places))
    engine.wait("progress")
    assert engine.end() == 0
    assert not file.exists()


def test_an_error_is_told_where_the_log_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert _describe_error("the training", KeyError("x")) == "the training failed (KeyError: 'x')"
