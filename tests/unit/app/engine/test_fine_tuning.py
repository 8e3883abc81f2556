"""A lesson within the process: what it learns, what it holds out, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.engine import fine_tuning
from heliodor.app.engine.feature_cache import MINIBATCHES, CachedFeatureLearner
from heliodor.app.engine.fine_tuning import (
    FOLD,
    Cancelled,
    TrainingCallbacks,
    fine_tune,
)
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration, CalibrationCurve
from heliodor.evaluation.label_threshold import estimate_from_labels
from heliodor.evaluation.score_histogram import ScoreCounts
from heliodor.evaluation.thresholds import choose_threshold
from heliodor.models.model_file import Model
from heliodor.models.networks import build_network
from heliodor.picking.score_maps import open_working_images, score_micrograph
from heliodor.training.learner import Learner
from heliodor.training.score_calibration import ScoreScale
from heliodor.training.settings import TrainingSettings
from helpers.networks import (
    discs,
    labelled_discs,
    model,
    scattered,
    scrambled,
    write_mrc,
)

SHAPE = (150, 170)
SILENT = TrainingCallbacks(lambda text: None, lambda *own: None)
CPU = torch.device("cpu")


def small() -> Model:
    """A model of the general one's kind that learns in a moment; discs are 7 of its pixels."""
    network = scrambled("resnet8", 4)
    return model(
        network, network="resnet8", width=4, finer=True, working_pixel_size_angstrom=4.0,
        diameter_angstrom=28.0, training_radius_angstrom=4.0, threshold=0.0,
        normalization={"mode": "micrograph", "flatten_px": 5.0},
    )  # fmt: skip


@pytest.fixture
def labelled(tmp_path: Path) -> list[LabeledSource]:
    """Three micrographs: labels on two of them, and on the third the places of some as wrong."""
    found = []
    for i in range(3):
        xy = scattered(SHAPE, 24, 16, i)
        source = write_mrc(tmp_path / f"m{i}.mrc", discs(SHAPE, xy, depth=4, seed=i))
        none = np.zeros((0, 2))
        own, against = (xy[:12], none) if i < 2 else (none, xy[:8])
        found.append(LabeledSource(source, own, None, against))
    return found


def images(own: Model) -> WorkingImages:
    kept = open_working_images(own)
    kept.keep_bytes = 2**28
    return kept


def mean_score(own: Model, item: LabeledSource, xy: np.ndarray) -> float:
    score = score_micrograph(own, images(own).get(item.source))
    columns, rows = np.rint(xy).astype(int).T
    return float(score[rows, columns].mean())


@pytest.mark.slow
def test_labels_and_corrections_are_heeded(labelled: list[LabeledSource]) -> None:
    start = small()
    before = {name: weight.clone() for name, weight in start.network.state_dict().items()}
    # Without the corrections the discs of the third micrograph look like those of the others.
    without = fine_tune(start, labelled[:2], images(start), CPU, 0, SILENT).model
    found = fine_tune(start, labelled, images(start), CPU, 0, SILENT)
    against = labelled[2].negative_xy_px
    unheeded = mean_score(without, labelled[2], against)
    heeded = mean_score(found.model, labelled[2], against)
    assert heeded < unheeded - 0.3
    assert mean_score(found.model, labelled[0], labelled[0].xy_px) > heeded
    # The start stays as it is, and so do the layers below.
    after = start.network.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    learnt = found.model.network.state_dict()
    same = {name for name, weight in before.items() if torch.equal(weight, learnt[name])}
    assert {name for name in same if name.startswith(("layers.0", "layers.1", "layers.2"))} == {
        name for name in before if name.startswith(("layers.0", "layers.1", "layers.2"))
    }
    assert "layers.3.conv0.weight" not in same
    assert "classifier.weight" not in same


def test_nothing_to_learn_from_is_a_sentence(labelled: list[LabeledSource]) -> None:
    with pytest.raises(BadInput, match="no particle is labeled yet"):
        fine_tune(small(), labelled[2:], images(small()), CPU, 0, SILENT)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to see how it goes, not to learn."""
    monkeypatch.setitem(fine_tuning.RECIPE, "epoch_updates", 3)
    monkeypatch.setattr(fine_tuning, "VALIDATION_UPDATES", 3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("at", ["reading micrographs", "training", "validating", "update"])
def test_it_ends_where_it_is_told_to(labelled: list[LabeledSource], at: str) -> None:
    def phase(text: str) -> None:
        if text.startswith(at):
            raise Cancelled

    def progress(update: int, of: int, cost: float, seconds: float) -> None:
        if at == "update" and update == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        fine_tune(small(), labelled, images(small()), CPU, 0, TrainingCallbacks(phase, progress))


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_seed_settles_the_weights(labelled: list[LabeledSource]) -> None:
    first, again, other = (
        fine_tune(small(), labelled, images(small()), CPU, seed, SILENT).model.network.state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


@pytest.mark.usefixtures("short")
def test_few_answers_have_no_figure(labelled: list[LabeledSource]) -> None:
    few = [replace(labelled[0], xy_px=labelled[0].xy_px[:9])]
    assert fine_tune(small(), few, images(small()), CPU, 0, SILENT).validation is None


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6))
def test_one_answer_in_five_is_held_out(numbers: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(0)
    given_ = [
        LabeledImage(np.zeros((4, 4), np.float32), random.random((a, 2)), random.random((b, 2)))
        for a, b in numbers
    ]
    kept, out = fine_tuning.split_held_out(given_)
    for name in ("xy_px", "negative_xy_px"):
        for whole, one, other in zip(given_, kept, out, strict=True):
            both = np.concatenate([getattr(one, name), getattr(other, name)])
            assert sorted(map(tuple, both)) == sorted(map(tuple, getattr(whole, name)))
        number = sum(len(getattr(own, name)) for own in given_)
        assert sum(len(getattr(own, name)) for own in out) == number // FOLD


def test_a_rehearsal_learns_as_usual_until_it_repeats() -> None:
    items = [labelled_discs((96, 112), 14, seed, labelled=10) for seed in (1, 2)]
    recipe = TrainingSettings(width=4, batch=8, positives=3, freeze=3, keep=1.0, start="general")
    start = scrambled("resnet8", 4)
    usual, other = (
        kind(items, 2.0, 0.02, recipe, "cpu", None, start)
        for kind in (Learner, CachedFeatureLearner)
    )
    for learner in (usual, other):
        learner.prepare()
    first = None
    for update in range(MINIBATCHES):
        one, two = usual.compute_cost(), other.compute_cost()
        assert two.total.item() == pytest.approx(one.total.item(), rel=1e-5)
        if update == 0:
            first = two
    grads = []
    for learner, cost in ((usual, one), (other, two)):
        cost.total.backward()
        grads.append([p.grad.clone() for p in learner.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    # Then the first minibatch comes again, of which only some regions are drawn anew.
    assert first is not None
    again = other.compute_cost()
    assert again.positive.item() == pytest.approx(first.positive.item(), rel=1e-5)


def test_a_rehearsal_needs_what_it_rests_on() -> None:
    items = [labelled_discs((96, 112), 14, 1)]
    recipe = TrainingSettings(width=4, batch=8, positives=3)
    with pytest.raises(ValueError, match="frozen"):
        CachedFeatureLearner(
            items, 2.0, 0.02, recipe, "cpu", None, build_network("resnet8", 4).eval()
        )


@pytest.mark.parametrize("with_labels", [True, False])
def test_the_threshold_is_between_what_labels_and_probabilities_say(with_labels: bool) -> None:
    random = np.random.default_rng(1)
    particles, background = random.normal(4, 1.5, 400), random.normal(-4, 1.5, 4000)
    counts = ScoreCounts.from_scores(np.concatenate([particles, background]))
    scores = np.linspace(-8.0, 8.0, 81)
    curve = CalibrationCurve(scores, scores + 2.0, 400.0)
    calibration = Calibration(curve, (curve,), 3, np.zeros(0), math.inf)
    labels = estimate_from_labels(particles[:30] + 2.0, counts)  # easy ones
    assert labels is not None
    scale = ScoreScale(-4.0, calibration, counts, from_labels=labels if with_labels else None)
    by_probability = choose_threshold(calibration, counts)
    assert labels.threshold > by_probability + 0.5
    expected = (labels.threshold + by_probability) / 2 if with_labels else by_probability
    assert fine_tuning._choose_threshold(scale) == pytest.approx(expected, abs=1e-3)
    unknown = scale._replace(calibration=None)
    assert fine_tuning._choose_threshold(unknown) is None
