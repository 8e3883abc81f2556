from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.conventions import Shape
from heliodor.models import inference_network
from heliodor.models.inference_network import InferenceNetwork
from heliodor.models.networks import NETWORKS
from heliodor.models.winograd import (
    OUTPUTS,
    TAPS,
    WinogradConvolution,
    winograd_transforms,
)
from helpers.networks import scrambled

names = st.sampled_from(sorted(NETWORKS))


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    norm=st.booleans(),
    width=st.sampled_from([2, 16]),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 40)),
    strip_px=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_the_dense_twin_is_the_network(
    name: str, norm: bool, width: int, shape: Shape, strip_px: int, seed: int
) -> None:
    network = scrambled(name, width, norm=norm)
    rows, columns = (side + network.receptive_field - 1 for side in shape)
    image = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(inference_network, "STRIP_PX", strip_px)
        expected = network(image[None, None], dense=True)[0]
        scores = InferenceNetwork(network)(image)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(scores, expected, rtol=0, atol=5e-5 * scale)


@settings(max_examples=30, deadline=None)
@given(
    name=names,
    norm=st.booleans(),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_the_strided_twin_is_the_network(name: str, norm: bool, shape: Shape, seed: int) -> None:
    network = scrambled(name, 16, norm=norm)
    rows, columns = (side + network.receptive_field - 1 for side in shape)
    image = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        expected = network(image[None, None])[0]
    scale = max(1.0, float(expected.abs().max()))
    scores = InferenceNetwork(network, dense=False)(image)
    torch.testing.assert_close(scores, expected, rtol=0, atol=5e-5 * scale)


def test_a_twin_has_the_weights_of_when_it_was_made() -> None:
    network = scrambled("resnet8", 2)
    image = torch.randn(80, 80)
    own = InferenceNetwork(network)
    before = own(image)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    torch.testing.assert_close(own(image), before)
    assert not torch.allclose(InferenceNetwork(network)(image), before)


def test_products_of_factors_are_the_convolution() -> None:
    inputs, taps, back = winograd_transforms()
    random = np.random.default_rng(0)
    d, g = random.normal(size=OUTPUTS + TAPS - 1), random.normal(size=TAPS)
    expected = np.correlate(d, g, mode="valid")
    np.testing.assert_allclose(back @ ((taps @ g) * (inputs @ d)), expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    step=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 150)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_short_convolutions_are_convolutions(
    step: int, shape: Shape, channels: tuple[int, int], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    inputs, outputs = channels
    reach = (TAPS - 1) * step
    x = torch.randn(1, inputs, shape[0] + reach, shape[1] + reach, generator=random)
    weight = torch.randn(outputs, inputs, TAPS, TAPS, generator=random)
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), dilation=step)
    result = WinogradConvolution(weight, step)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-4)
