from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from heliodor.models.autoencoder import (
    Decoder,
    choose_decoder_layout,
    choose_reconstruction_weight,
    reconstruction_error,
)
from heliodor.models.networks import NETWORKS, build_network
from helpers.networks import discs, scrambled


def sides_and_channels(decoder: Decoder, features: Tensor) -> list[tuple[int, int]]:
    """Width and channels after each transpose convolution."""
    seen: list[tuple[int, int]] = []
    for layer in decoder.layers:
        if isinstance(layer, nn.ConvTranspose2d):
            layer.register_forward_hook(
                lambda _, __, out: seen.append((out.shape[-1], out.shape[1]))
            )
    decoder(features)
    return seen


def made(side: int, doublings: int) -> int:
    return 2 * side * 2**doublings - 1


def test_the_decoder_of_conv31_is_that_of_the_paper() -> None:
    decoder = Decoder(128, 31)
    assert sides_and_channels(decoder, torch.randn(2, 128)) == [
        (4, 128),
        (8, 64),
        (16, 32),
        (31, 1),
    ]
    layers = [m for m in decoder.layers if isinstance(m, nn.ConvTranspose2d)]
    assert [m.kernel_size[0] for m in layers] == [4, 4, 4, 3]
    assert [m.stride[0] for m in layers] == [1, 2, 2, 2]
    kinds = [type(m) for m in decoder.layers]
    assert kinds == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.LeakyReLU] * 3 + [nn.ConvTranspose2d]


@pytest.mark.parametrize(
    ("width_px", "expected"),
    [
        (63, [(4, 256), (8, 128), (16, 64), (32, 32), (63, 1)]),
        (71, [(5, 256), (10, 128), (20, 64), (40, 32), (79, 1)]),
        (91, [(6, 256), (12, 128), (24, 64), (48, 32), (95, 1)]),
        (127, [(4, 512), (8, 256), (16, 128), (32, 64), (64, 32), (127, 1)]),
        (11, [(6, 32), (11, 1)]),
    ],
)
def test_the_sides_of_other_decoders(width_px: int, expected: list[tuple[int, int]]) -> None:
    assert sides_and_channels(Decoder(3, width_px), torch.randn(2, 3)) == expected


@given(st.integers(1, 2000))
def test_the_last_side_is_the_least_that_suffices(width_px: int) -> None:
    side, doublings = choose_decoder_layout(width_px)
    assert 4 <= side <= 7
    possible = sorted(made(s, d) for s in (4, 5, 6, 7) for d in range(12))
    assert made(side, doublings) == next(width for width in possible if width >= width_px)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_crops_come_back_as_large_as_they_were(name: str) -> None:
    network = scrambled(name, 1)
    field = network.receptive_field
    crops = torch.randn(3, 1, field, field)
    features = network.features(crops)
    decoder = Decoder(features.shape[1], field).eval()
    decoded = decoder(features)
    assert decoded.shape == crops.shape
    assert torch.equal(decoder(features[:, :, 0, 0]), decoded)


def test_the_centre_of_an_image_that_is_too_wide_is_kept() -> None:
    decoder = Decoder(2, 71).eval()
    features = torch.randn(1, 2)
    whole = decoder.layers(features[:, :, None, None])
    assert whole.shape[-1] == 79
    assert torch.equal(decoder(features), whole[:, :, 4:-4, 4:-4])


def test_an_untrained_decoder_makes_next_to_nothing() -> None:
    torch.manual_seed(0)
    assert Decoder(16, 31)(torch.randn(8, 16)).square().mean() < 0.1


def test_features_of_more_than_one_place_are_refused() -> None:
    with pytest.raises(RuntimeError):
        Decoder(4, 31)(torch.randn(2, 4, 2, 2))


def test_the_error_is_a_mean_of_sums() -> None:
    images = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)
    decoded = torch.tensor([[1.0, 0.0, 3.0, 5.0], [3.0, 0.0, 0.0, -1.0]]).reshape(2, 1, 2, 2)
    # (4 + 1) and (9 + 1), two images.
    error = reconstruction_error(images, decoded)
    assert error.shape == ()
    assert error.item() == 7.5
    assert reconstruction_error(images, images).item() == 0
    with pytest.raises(ValueError, match="differ"):
        reconstruction_error(images, decoded[:, 0])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_error_reaches_all_of_the_encoder(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, 2)
    field = network.receptive_field
    crops = torch.randn(4, 1, field, field)
    features = network.features(crops)
    reconstruction_error(crops, Decoder(features.shape[1], field)(features)).backward()
    for key, weight in network.layers.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.abs().sum() > 0, key
    # The classifier has no part in it.
    assert network.classifier.weight.grad is None


def test_an_autoencoder_learns_some_crops_by_heart() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    crops = torch.stack(
        [
            torch.from_numpy(discs((31, 31), random.integers(6, 25, (2, 2)).astype(float), sd=0.1))
            for _ in range(6)
        ]
    )[:, None]
    network = build_network("conv31", 4)
    decoder = Decoder(16, 31)
    parameters = [*network.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    errors = []
    for _ in range(40):
        error = reconstruction_error(crops, decoder(network.features(crops)))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    # It starts with an empty image, so with the crops' own power.
    assert errors[0] == pytest.approx(crops.square().sum().item() / 6, rel=0.2)
    assert errors[-1] < 0.05 * errors[0]


@pytest.mark.parametrize(
    ("labelled", "weight"),
    [(1, 10.0), (10, 1.0), (100, 0.1), (250, 0.04), (251, 0.0), (10_000, 0.0)],
)
def test_the_automatic_weight(labelled: int, weight: float) -> None:
    assert math.isclose(choose_reconstruction_weight(labelled), weight)
