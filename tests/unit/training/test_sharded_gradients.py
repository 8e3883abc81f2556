"""Training that does not depend on the number of threads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from heliodor.data.coordinates.labels import LabeledImage
from heliodor.models.pretrained import load_general_model
from heliodor.training.loop import train_network
from heliodor.training.recipes import recipe
from heliodor.training.sharded_gradients import Shards, can_shard
from helpers.networks import scrambled


@pytest.fixture(autouse=True)
def threads():
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("contaminant", [False, True])
def test_log_odds_and_gradients_are_the_networks(number, contaminant):
    network = scrambled("resnet8", 3)
    if contaminant:
        network.add_contaminant_classifier()
    shards = Shards(network)
    images = torch.randn(number, 1, 75, 75, generator=torch.Generator().manual_seed(3))
    mine, expected = shards(images), network.classify_features(network.features(images))
    assert mine.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-4)
    weights = list(network.parameters())
    pair = [torch.autograd.grad((out**2).sum(), weights) for out in (mine, expected)]
    for one, other in zip(*pair, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), rel=2e-3, abs=1e-3)


def test_weights_that_are_changed_are_seen():
    network = scrambled("resnet8", 3)
    shards = Shards(network)
    images = torch.randn(4, 1, 71, 71, generator=torch.Generator().manual_seed(1))
    before = shards(images)
    with torch.no_grad():
        network.classifier.bias.add_(1.0)
    assert (shards(images) - before).detach().numpy() == pytest.approx(1.0, abs=1e-5)


def test_frozen_weights_get_no_gradient():
    network = scrambled("resnet8", 3)
    network.layers[0].requires_grad_(False)
    out = Shards(network)(torch.randn(4, 1, 71, 71))
    out.sum().backward()
    assert all(weight.grad is None for weight in network.layers[0].parameters())
    assert network.classifier.weight.grad is not None


def test_what_depends_on_its_neighbours_is_not_shared_out():
    network = scrambled("resnet8", 3)
    assert can_shard(network)
    assert not can_shard(network.train())
    assert can_shard(scrambled("resnet8", 3, norm=False).train())
    assert not can_shard(scrambled("resnet8", 3, dropout=0.2))


def test_any_number_of_threads_gives_the_same_model():
    start = load_general_model().network
    rng = np.random.default_rng(4)
    image = rng.standard_normal((200, 200)).astype(np.float32)
    items = [LabeledImage(image, rng.uniform(10, 190, (12, 2)))]
    small = {"epochs": 1, "epoch_updates": 5, "batch": 18, "positives": 6}
    few = recipe("fast", width=load_general_model().card.width, **small)
    settings = dataclasses.replace(few, keep=0.5)
    weights = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        network = train_network(items, [], 4.4, 0.05, settings, start=start).network
        weights.append([own.detach().clone() for own in network.state_dict().values()])
    for other in weights[1:]:
        assert all(torch.equal(*pair) for pair in zip(weights[0], other, strict=True))
    before = start.state_dict().values()
    assert not all(torch.equal(*pair) for pair in zip(weights[0], before, strict=True))
