"""The surest picks of a model as labels of its training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.evaluation.score_histogram import DatasetScores
from heliodor.evaluation.thresholds import ExpectedPerformance, IntervalEstimate
from heliodor.models.model_file import load_model
from heliodor.picking.batch import InMemoryStore, PickingResult
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.simulation import SimulationSettings, simulate
from heliodor.workflows.sure_picks import add_sure_picks, choose_sure_picks
from helpers.cli import call, done
from helpers.networks import noise, write_mrc

UNMEASURED = MicrographMeasurements(None, None, None)


def picked(scores: list[list[float]], particles: float | None) -> PickingResult:
    """Candidates at (number, micrograph) with a threshold of 0."""
    store = InMemoryStore()
    names = tuple(f"mic_{number}.mrc" for number in range(len(scores)))
    for row, (name, own) in enumerate(zip(names, scores, strict=True)):
        xy = np.array([(column, row) for column in range(len(own))], dtype=np.float64)
        table = Picks.on(name, xy.reshape(-1, 2), np.array(own))
        source = Source(name, Path(name), name)
        store.add(source, MicrographResult(table, 1.0, None, 1.0, UNMEASURED))
    expected = None
    if particles is not None:
        unknown = IntervalEstimate(math.nan, math.nan, math.nan)
        number = IntervalEstimate(particles, particles, particles)
        expected = ExpectedPerformance(0.0, 0, number, unknown, unknown, unknown)
    sheet = DatasetScores.from_micrographs([])
    return PickingResult(names, [], 0.0, sheet, store, expected=expected)


def test_the_surest_picks_of_all_micrographs() -> None:
    scores = [[5.0, 4.0, 0.5, -1.0], [3.0, 2.0, 1.0], [-2.0]]
    # 0.8 of five particles: the four best of all micrographs.
    labels = choose_sure_picks(picked(scores, 5.0), 0.8)
    assert {name: xy.tolist() for name, xy in labels.items()} == {
        "mic_0.mrc": [[0, 0], [1, 0]],
        "mic_1.mrc": [[0, 1], [1, 1]],
    }
    # Never candidates below the threshold, however many particles there are.
    assert sum(len(xy) for xy in choose_sure_picks(picked(scores, 100.0), 0.8).values()) == 6
    # Nothing where it is not known how many particles there are, or nothing is picked.
    assert choose_sure_picks(picked(scores, None), 0.8) == {}
    assert choose_sure_picks(picked([[-1.0], []], 5.0), 0.8) == {}


def test_picks_are_added_where_nothing_is_known(tmp_path: Path) -> None:
    """On micrographs of 2 A, and working images of 4 A: half the coordinates."""
    write_mrc(tmp_path / "a.mrc", noise((200, 200)), 2.0)
    write_mrc(tmp_path / "b.mrc", noise((200, 200)), 2.0)
    sources = find_sources([str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")])
    working = WorkingImages(4.0, None, 80.0)
    image = np.zeros((100, 100), np.float32)
    # Particles of 20 pixels: labels and negatives reach 8 pixels.
    labeled = LabeledImage(image, np.array([[50.0, 50.0]]), np.array([[20.0, 80.0]]), margin_px=10)
    other = LabeledImage(image, np.zeros((0, 2)), margin_px=10)
    free, on_label, on_negative, in_margin = [60, 40], [112, 100], [40, 146], [60, 18]
    picks = {sources[0].name: np.array([free, on_label, on_negative, in_margin], dtype=float)}
    first, second = add_sure_picks([labeled, other], sources, picks, working, 20.0)
    assert first.xy_px is labeled.xy_px
    assert first.picked_xy_px.tolist() == [[30, 20]]
    assert first.negative_xy_px is labeled.negative_xy_px
    assert first.margin_px == 10
    assert second is other
    just_outside = {sources[1].name: np.array([[120.0, 100.0], [20.0, 20.0], [178.0, 178.0]])}
    extended = add_sure_picks([labeled, other], sources, just_outside, working, 20.0)[1]
    assert extended.picked_xy_px.tolist() == [[60, 50], [10, 10], [89, 89]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small micrographs with many particles, ten of them labeled."""
    folder = tmp_path_factory.mktemp("sure") / "data"
    settings = SimulationSettings(
        particle="shell", count=2, shape=(320, 320), pixel_size_angstrom=5.0, seed=4, labels=10,
        particles_per_micrograph=25,
    )  # fmt: skip
    simulate(folder, settings)
    return folder


@pytest.mark.slow
def test_training_uses_picks_of_the_starting_model_too(data: Path, tmp_path: Path) -> None:
    command = (
        *("train", data / "micrographs", "--labels", data / "labels.star", "--diameter", 120),
        *("--epochs", 1, "--epoch-updates", 2),
    )
    said = done(*command, "-o", tmp_path / "both").err
    assert "also training on " in said
    assert " picks of the starting model" in said
    # The card counts the user's labels only.
    assert load_model(tmp_path / "both" / "model.safetensors").card.labelled_particles == 10
    alone = done(*command, "--own-picks", 0, "-o", tmp_path / "alone").err
    assert "of the starting model" not in alone
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("both", "alone")]
    assert models[0] != models[1]
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    assert record["arguments"]["own_picks"] == 0.9
    # Where negatives say what is no particle, picks that look like particles are not trusted.
    negatives = (*command, "--negatives", data / "labels.star")
    assert "of the starting model" not in done(*negatives, "-o", tmp_path / "negatives").err


def test_own_picks_need_a_model_that_picks(data: Path, tmp_path: Path) -> None:
    command = ("train", data / "micrographs", "--labels", data / "labels.star", "--diameter", 120)
    refused = call(*command, "--from", "scratch", "--own-picks", 0.5, "-o", tmp_path / "out")
    assert refused.code == 2
    assert "random starting weights have no picks to train on" in refused.sentence
    refused = call(*command, "--own-picks", 1.5, "-o", tmp_path / "out")
    assert refused.code == 2
    assert "the share of own picks must be from 0 to 1" in refused.sentence
