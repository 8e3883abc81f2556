from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.labels import LabeledImage, make_label_mask
from heliodor.errors import BadInput
from heliodor.evaluation.ranking import average_precision
from heliodor.models.networks import Network
from heliodor.picking.scoring import score_image
from heliodor.training import objectives
from heliodor.training.history import Epoch, history_table
from heliodor.training.learner import Learner, MinibatchCost
from heliodor.training.loop import (
    TrainedNetwork,
    train_network,
    validate,
)
from heliodor.training.objectives import (
    Loss,
    Objective,
    pn,
)
from heliodor.training.settings import TrainingSettings
from helpers.networks import (
    disc_detector,
    discs,
    labelled_discs,
    noise,
    scattered,
)

RADIUS = 2.0
PRIOR = 0.012
QUICK = TrainingSettings(
    network="conv31",
    width=4,
    objective="ge-binomial",
    epoch_updates=20,
    epochs=4,
    batch=64,
    positives=16,
    side=1,
    near=0.0,
    learning_rate=1e-2,
)
#: Enough to see the mechanics, not to learn.
SHORT = replace(QUICK, epoch_updates=2, epochs=3, batch=16, positives=4)


@pytest.fixture(scope="module")
def images() -> list[LabeledImage]:
    # Ten of fourteen particles are labeled, the others are among the unlabeled regions.
    return [labelled_discs((96, 112), 14, seed, labelled=10) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def validation() -> list[LabeledImage]:
    return [labelled_discs((96, 104), 14, seed) for seed in (10, 11)]


def weights(trained: TrainedNetwork) -> dict[str, Tensor]:
    return dict(trained.network.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["pn", "ge-binomial"])
def test_it_learns_dark_discs(
    name: str, images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    settings = replace(QUICK, objective=name, width=8)
    trained = train_network(images, validation, RADIUS, PRIOR, settings)
    history = trained.history
    assert history[trained.best_epoch - 1].validation_ap > 0.8
    # Untrained it would be the share of positive regions, 13/713.
    assert history[-1].loss < 0.6 * history[0].loss
    # Nothing holds PN to the prior: it takes what it does not know for negative.
    assert (0.1 if name == "pn" else 0.3) * PRIOR < history[-1].mean_probability < 3 * PRIOR
    # Images it has never seen, every pixel scored: the discs are the maxima.
    new = labelled_discs((80, 90), 10, 20)
    score = score_image(trained.network, new.image)
    mask = make_label_mask(new.xy_px, new.shape, RADIUS)
    assert average_precision(mask.ravel(), score.ravel()) > 0.8


@pytest.mark.slow
def test_resnet8_learns_too(images: list[LabeledImage], validation: list[LabeledImage]) -> None:
    settings = replace(QUICK, network="resnet8", epochs=3)
    trained = train_network(images, validation[:1], RADIUS, PRIOR, settings)
    assert trained.history[-1].validation_ap > 0.7


@pytest.mark.parametrize("name", ["conv63", "conv127", "resnet16"])
def test_every_network_can_be_trained(
    name: str, images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    settings = replace(SHORT, network=name, width=1, epochs=1)
    trained = train_network(images, validation[:1], RADIUS, PRIOR, settings)
    assert trained.network.name == name
    assert 0 < trained.history[0].validation_ap <= 1


def test_dropout_is_drawn_from_the_seed_alone(images: list[LabeledImage]) -> None:
    settings = replace(SHORT, dropout=0.5)
    torch.manual_seed(1)
    first = train_network(images, [], RADIUS, PRIOR, settings)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = train_network(images, [], RADIUS, PRIOR, settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights(first), weights(again))
    without = train_network(images, [], RADIUS, PRIOR, SHORT)
    assert not same(weights(first), weights(without))
    # The network that comes back scores without.
    image = noise((40, 40))
    score = score_image(first.network, image)
    np.testing.assert_array_equal(score_image(first.network, image), score)


def test_it_learns_with_dropout(
    images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    settings = replace(QUICK, width=8, dropout=0.2)
    trained = train_network(images, validation, RADIUS, PRIOR, settings)
    assert trained.history[trained.best_epoch - 1].validation_ap > 0.7


def test_the_same_seed_gives_the_same_bits(
    images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    torch.manual_seed(1)
    first = train_network(images, validation, RADIUS, PRIOR, SHORT)
    torch.manual_seed(2)
    again = train_network(images, validation, RADIUS, PRIOR, SHORT)
    other = train_network(images, validation, RADIUS, PRIOR, replace(SHORT, seed=1))
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    assert first.best_epoch == again.best_epoch
    for a, b in zip(first.history, again.history, strict=True):
        assert replace(a, seconds=0) == replace(b, seconds=0)
    # A callback and a validation set change nothing in how it learns.
    watched = train_network(images, [], RADIUS, PRIOR, SHORT, progress=lambda epoch: None)
    assert [e.loss for e in watched.history] == [e.loss for e in first.history]


def test_the_global_random_state_is_left_alone(
    images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    train_network(images, validation, RADIUS, PRIOR, SHORT)
    assert torch.equal(torch.get_rng_state(), before)
    after: Any = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], of_numpy[1])


def test_no_gpu_is_seeded(images: list[LabeledImage], monkeypatch: pytest.MonkeyPatch) -> None:
    # As torch.manual_seed does; seen on a machine without one too.
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    train_network(images, [], RADIUS, PRIOR, SHORT)
    assert seeded == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_random_state_of_a_gpu_is_left_alone(images: list[LabeledImage]) -> None:
    torch.cuda.manual_seed_all(123)
    before = torch.cuda.get_rng_state()
    train_network(images, [], RADIUS, PRIOR, replace(SHORT, dropout=0.5), "cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_the_settings_and_images_are_left_alone(images: list[LabeledImage]) -> None:
    kept = [item.image.copy() for item in images]
    train_network(images, [], RADIUS, PRIOR, SHORT)
    for item, image in zip(images, kept, strict=True):
        np.testing.assert_array_equal(item.image, image)


def snapshots(
    monkeypatch: pytest.MonkeyPatch, values: list[float]
) -> tuple[list[dict[str, Tensor]], Callable[..., float]]:
    """Make validation say the given values, and keep the weights it was asked about."""
    seen: list[dict[str, Tensor]] = []

    def said(network: Any, *_: Any) -> float:
        assert not network.training
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        return values[len(seen) - 1]

    monkeypatch.setattr("heliodor.training.loop.validate", said)
    return seen, said


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.1, 0.5, 0.3], 2),
        ([0.9, 0.5, 0.3], 1),
        ([0.1, 0.2, 0.3], 3),
        # Of equal ones the later has seen more.
        ([0.5, 0.5, 0.3], 2),
        # Nothing to choose by.
        ([math.nan] * 3, 3),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    values: list[float], best: int, images: list[LabeledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, _ = snapshots(monkeypatch, values)
    trained = train_network(images, [], RADIUS, PRIOR, SHORT)
    assert trained.best_epoch == best
    assert same(weights(trained), seen[best - 1])
    assert not trained.network.training
    assert not same(seen[0], seen[1])
    assert not same(seen[1], seen[2])


def test_without_validation_the_last_epoch_is_kept(images: list[LabeledImage]) -> None:
    trained = train_network(images, [], RADIUS, PRIOR, SHORT)
    assert trained.best_epoch == len(trained.history) == 3
    assert all(math.isnan(epoch.validation_ap) for epoch in trained.history)
    # Validation does not switch the training of the batch normalization off.
    assert int(trained.network.get_buffer("layers.0.norm.num_batches_tracked")) == 6


def test_the_history_says_what_happened(
    images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    told: list[Epoch] = []
    trained = train_network(images, validation, RADIUS, PRIOR, SHORT, progress=told.append)
    assert told == trained.history
    assert [epoch.epoch for epoch in told] == [1, 2, 3]
    assert [epoch.update for epoch in told] == [2, 4, 6]
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(told))
    for epoch in told:
        # The binomial objective's parts add up.
        assert epoch.loss == pytest.approx(epoch.positive_loss + epoch.unlabelled_term)
        assert 0 < epoch.mean_probability < 1
        assert 0 < epoch.learning_rate <= SHORT.learning_rate * (1 + 1e-9)
    # The first epoch starts from a network that predicts the prior.
    assert told[0].mean_probability == pytest.approx(PRIOR, rel=0.3)


def test_each_epoch_hands_out_its_network(images: list[LabeledImage]) -> None:
    seen: list[tuple[Epoch, dict[str, Tensor], FloatArray]] = []

    def keep(epoch: Epoch, network: Network, costs: FloatArray) -> None:
        assert not network.training
        own = {key: value.clone() for key, value in network.state_dict().items()}
        seen.append((epoch, own, costs))

    trained = train_network(images, [], RADIUS, PRIOR, SHORT, snapshot=keep)
    assert [epoch for epoch, _, _ in seen] == trained.history
    assert same(seen[-1][1], weights(trained))
    names = [f.name for f in fields(MinibatchCost)]
    for epoch, _, costs in seen:
        assert costs.shape == (SHORT.epoch_updates, len(names))
        figures = dict(zip(names, costs.T, strict=True))
        assert figures["total"].mean() == pytest.approx(epoch.loss)
        assert figures["mean_probability"].mean() == pytest.approx(epoch.mean_probability)
        np.testing.assert_array_equal(figures["objective"], figures["total"])
        assert ((figures["expected_precision"] > 0) & (figures["expected_precision"] < 1)).all()


def test_squared_weights_cost(images: list[LabeledImage]) -> None:
    figures = []

    def keep(epoch: Epoch, network: Network, costs: FloatArray) -> None:
        figures.append(dict(zip([f.name for f in fields(MinibatchCost)], costs[0], strict=True)))

    settings = replace(SHORT, epochs=1, epoch_updates=1, l2=0.5)
    train_network(images, [], RADIUS, PRIOR, settings, snapshot=keep)
    # What the first minibatch met: the weights at the start.
    start = Learner(images, RADIUS, PRIOR, settings, "cpu").network
    squares = sum(float(p.detach().square().sum()) for p in start.parameters())
    (first,) = figures
    assert first["total"] - first["objective"] == pytest.approx(0.25 * squares, rel=1e-4)
    large = replace(SHORT, epochs=1, epoch_updates=20, weight_decay=0.0)
    free, held = (
        train_network(images, [], RADIUS, PRIOR, replace(large, l2=l2)).network
        for l2 in (0.0, 10.0)
    )
    sizes = [sum(float(p.detach().square().sum()) for p in n.parameters()) for n in (free, held)]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("updates", [1, 2, 3, 4, 5, 6, 7])
def test_any_number_of_updates(updates: int, epochs: int, images: list[LabeledImage]) -> None:
    settings = replace(SHORT, epoch_updates=updates, epochs=epochs, width=1)
    trained = train_network(images[:1], [], RADIUS, PRIOR, settings)
    assert trained.history[-1].update == updates * epochs


def test_the_smallest_minibatch(images: list[LabeledImage]) -> None:
    settings = replace(SHORT, batch=2, positives=1)
    assert train_network(images, [], RADIUS, PRIOR, settings).network.is_finite()


def test_the_learning_rate_rises_and_falls(images: list[LabeledImage]) -> None:
    settings = replace(SHORT, epoch_updates=1, epochs=40)
    trained = train_network(images[:1], [], RADIUS, PRIOR, settings)
    rates = np.array([epoch.learning_rate for epoch in trained.history])
    peak = int(rates.argmax())
    assert rates[peak] == pytest.approx(settings.learning_rate)
    assert peak == pytest.approx(0.2 * 40, abs=1.5)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-3 * rates[peak]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "vgg"}, "one of conv31"),
        ({"width": 0}, "width"),
        ({"width": 100_000}, "width"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": math.nan}, "dropout"),
        ({"objective": "hinge"}, "must be one of pn"),
        ({"epochs": 0}, "at least one epoch"),
        ({"epoch_updates": 0}, "at least one epoch"),
        ({"positives": 0}, "at least one labeled"),
        ({"positives": 64}, "one unlabeled"),
        ({"batch": 1}, "one unlabeled"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"learning_rate": -1.0}, "learning rate"),
        ({"learning_rate": 2.0}, "learning rate"),
        ({"learning_rate": math.nan}, "learning rate"),
        ({"weight_decay": -0.1}, "weight decay"),
        ({"weight_decay": math.nan}, "weight decay"),
        ({"weight_decay": math.inf}, "weight decay"),
        ({"l2": -0.1}, "squared weights"),
        ({"penalty_weight": -1.0}, "penalty weight must be"),
        ({"objective": "pn", "penalty_weight": 1.0}, "takes no penalty weight"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        replace(QUICK, **change)
    assert "\n" not in str(caught.value)


def test_the_largest_seed_works(images: list[LabeledImage]) -> None:
    settings = replace(SHORT, seed=2**63 - 1, epochs=1, width=1)
    assert train_network(images[:1], [], RADIUS, PRIOR, settings).network.is_finite()


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_bad_priors(prior: float, images: list[LabeledImage]) -> None:
    with pytest.raises(BadInput, match="class prior"):
        train_network(images, [], RADIUS, prior, SHORT)


def test_without_labels_there_is_nothing_to_learn() -> None:
    blank = LabeledImage(noise((40, 40)), np.zeros((0, 2)))
    with pytest.raises(BadInput, match="no label"):
        train_network([blank], [], RADIUS, PRIOR, SHORT)
    with pytest.raises(BadInput, match="no micrograph"):
        train_network([], [], RADIUS, PRIOR, SHORT)


@pytest.mark.parametrize("with_validation", [False, True])
def test_divergence_by_a_huge_learning_rate_is_a_sentence(
    with_validation: bool, images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    settings = replace(SHORT)
    # Settings refuse so large a rate; to float32 it is what a smaller one is after a while.
    object.__setattr__(settings, "learning_rate", 1e30)
    with pytest.raises(BadInput, match=r"diverged in epoch 1 .*lower the learning rate"):
        train_network(images, validation * with_validation, RADIUS, PRIOR, settings)


def broken_at(update: int) -> Objective:
    """An objective whose value is fine but whose gradient is nan, at one update only."""
    calls = 0

    def criterion(positive: Tensor, unlabelled: Tensor, prior: float) -> Loss:
        nonlocal calls
        calls += 1
        loss = pn(positive, unlabelled, prior)
        # The square root of 0 is 0, with an infinite slope times 0.
        spoiled = torch.sqrt((positive - positive).sum()) if calls == update else 0.0
        return replace(loss, total=loss.total + spoiled)

    return criterion


@pytest.mark.parametrize("update", [1, 3, 6])
@pytest.mark.parametrize("with_validation", [False, True])
def test_divergence_is_seen_even_after_the_last_update(
    update: int,
    with_validation: bool,
    images: list[LabeledImage],
    validation: list[LabeledImage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(objectives.OBJECTIVES, "pn", broken_at(update))
    settings = replace(SHORT, objective="pn")
    with pytest.raises(BadInput, match=f"diverged in epoch {(update + 1) // 2} "):
        train_network(images, validation * with_validation, RADIUS, PRIOR, settings)


def test_validation_is_the_average_precision_of_the_strided_pixels() -> None:
    network = disc_detector(stride=2)
    images = []
    for seed, shape in enumerate([(40, 51), (33, 30)]):
        xy = scattered(shape, 5, 9, seed)
        images.append(LabeledImage(discs(shape, xy, depth=2, seed=seed), xy))
    labels, scores = [], []
    for item in images:
        dense = score_image(network, item.image)
        labels.append(make_label_mask(item.xy_px, item.shape, RADIUS)[::2, ::2].ravel())
        scores.append(dense[::2, ::2].ravel())
    expected = average_precision(np.concatenate(labels), np.concatenate(scores))
    assert 0.5 < expected < 1
    assert validate(network, images, RADIUS) == pytest.approx(expected, abs=1e-3)


def test_validation_of_nothing_is_not_a_number() -> None:
    network = disc_detector()
    assert math.isnan(validate(network, [], RADIUS))
    blank = LabeledImage(noise((40, 40)), np.zeros((0, 2)))
    assert math.isnan(validate(network, [blank], RADIUS))


def test_the_history_is_a_table(
    images: list[LabeledImage], validation: list[LabeledImage]
) -> None:
    trained = train_network(images, validation, RADIUS, PRIOR, SHORT)
    text = history_table(trained.history)
    assert text.endswith("\n")
    header, *rows = [line.split("\t") for line in text.splitlines()]
    assert header == [f.name for f in fields(Epoch)]
    assert len(rows) == 3
    for row, epoch in zip(rows, trained.history, strict=True):
        for name, value in zip(header, row, strict=True):
            assert float(value) == pytest.approx(getattr(epoch, name), rel=1e-5)
    unknown = replace(trained.history[0], validation_ap=math.nan)
    assert math.isnan(float(history_table([unknown]).split("\t")[-1]))


def test_each_update_is_told_of_and_can_end_the_training(images: list[LabeledImage]) -> None:
    told: list[tuple[int, int, float]] = []
    with_word = train_network(
        images, [], RADIUS, PRIOR, SHORT, on_update=lambda *own: told.append(own)
    )
    assert [own[:2] for own in told] == [(n, 6) for n in range(1, 7)]
    losses = [np.mean([own[2] for own in told[n : n + 2]]) for n in (0, 2, 4)]
    np.testing.assert_allclose(losses, [epoch.loss for epoch in with_word.history], rtol=1e-6)
    without = train_network(images, [], RADIUS, PRIOR, SHORT)
    assert same(weights(with_word), weights(without))

    def enough(update: int, of: int, cost: float) -> None:
        if update == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_network(images, [], RADIUS, PRIOR, SHORT, on_update=enough)
