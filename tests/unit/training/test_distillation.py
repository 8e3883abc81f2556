"""A network that learns the scores of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heliodor.errors import BadInput
from heliodor.models.networks import Network, build_network
from heliodor.models.pretrained import load_general_model
from heliodor.picking.scoring import score_image
from heliodor.training.distillation import FieldSampler, TargetImage, distill
from helpers.networks import noise

FIELD, STRIDE = 71, 16


def other_than_the_general_model() -> Network:
    """A network with its layers and another classifier."""
    start = load_general_model().network
    network = build_network(start.name, load_general_model().card.width, contaminant=True)
    network.load_state_dict(start.state_dict())
    with torch.no_grad():
        network.classifier.weight *= 0.5
        assert network.classifier.bias is not None
        network.classifier.bias += 2.0
    return network.eval()


def test_a_field_lies_around_the_pixels_of_its_targets() -> None:
    """Whatever its turn and wherever it lies: here every pixel is its own target."""
    images = [TargetImage(image, image) for image in (noise((150, 210)), noise((97, 300)))]
    sampler = FieldSampler(images, FIELD, STRIDE, seed=3)
    pixels, targets = sampler.draw(40)
    assert pixels.shape == (40, 1, FIELD + 6 * STRIDE, FIELD + 6 * STRIDE)
    assert targets.shape == (40, 7, 7)
    half = FIELD // 2
    centers = pixels[:, 0, half:-half:STRIDE, half:-half:STRIDE]
    assert torch.equal(centers, targets)
    assert len({float(own.sum()) for own in targets}) > 30  # many places


def test_every_second_field_has_a_likely_particle() -> None:
    target = np.full((200, 200), -5.0, np.float32)
    target[64, 112] = 1.0
    sampler = FieldSampler([TargetImage(noise((200, 200)), target)], 31, 1, seed=0)
    _, targets = sampler.draw(40)
    with_particle = (targets > 0).any(dim=1).any(dim=1)
    assert bool(with_particle[1::2].all())
    assert not bool(with_particle[::2].all())


def test_the_seed_decides_what_is_drawn() -> None:
    images = [TargetImage(noise((150, 150)), noise((150, 150)))]
    first, same, other = (FieldSampler(images, 31, 4, seed).draw(6)[0] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_micrographs_on_which_nothing_is_known_are_refused() -> None:
    nothing = TargetImage(noise((100, 100)), np.full((100, 100), np.nan, np.float32))
    with pytest.raises(BadInput, match="no area to train on"):
        FieldSampler([nothing], 31, 1, seed=0)


def test_it_learns_the_scores_on_any_number_of_threads() -> None:
    start, teacher = load_general_model().network, other_than_the_general_model()
    image = noise((200, 200))
    wanted = score_image(teacher, image)
    wanted[:, :60] = np.nan  # nothing is to be learned there
    before = {name: own.clone() for name, own in start.state_dict().items()}
    images, calls, found = [TargetImage(image, wanted)], [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(distill(start, images, 5, "cpu", 8, on_update=lambda *own: calls.append(own)))
    first, second = (network.state_dict() for network in found)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert calls[:8] == [(number, 8) for number in range(1, 9)]
    # The start stays as it was, and the new network scores like the other one.
    assert all(torch.equal(before[name], own) for name, own in start.state_dict().items())
    known = np.isfinite(wanted)

    def distance(network: Network) -> float:
        said = score_image(network, image)
        return float(np.abs(said[known] - wanted[known]).mean())

    assert distance(found[0]) < 0.5 * distance(start)
    assert not found[0].training
