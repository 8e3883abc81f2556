"""Gradients written by hand against those that PyTorch derives from the plain form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d

from heliodor.models.layers import PReLU, Residual, convolve, fork_shortcut
from heliodor.models.networks import (
    NETWORKS,
    Network,
    build_network,
)
from helpers.networks import scrambled


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    slope=st.floats(-1.5, 1.5),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_prelu_is_pytorchs(
    shape: tuple[int, int, int, int], slope: float, last: bool, seed: int
) -> None:
    x, out = drawn(*shape, seed=seed), drawn(*shape, seed=seed + 1)
    x.view(-1)[0] = 0.0
    if last:
        x = x.to(memory_format=torch.channels_last)
    found = []
    for module in (PReLU(), nn.PReLU()):
        own = x.clone().requires_grad_()
        with torch.no_grad():
            module.weight.fill_(slope)
        result = module(own)
        result.backward(out)
        found.append((result.detach(), own.grad, module.weight.grad))
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-6)


def test_prelu_passes_a_numerical_check_of_its_gradient() -> None:
    module = PReLU().double()
    x = drawn(2, 3, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, _: module(x), (x, module.weight))


@settings(max_examples=30, deadline=None)
@given(
    edge=st.integers(1, 3),
    stride=st.integers(1, 3),
    more=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    last=st.booleans(),
)
def test_a_fork_is_a_slice(edge: int, stride: int, more: tuple[int, int], last: bool) -> None:
    x = drawn(2, 3, 2 * edge + more[0], 2 * edge + more[1])
    if last:
        x = x.to(memory_format=torch.channels_last)
    weight, found = drawn(3, 3, 1, 1, seed=1), []

    def sliced(x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
        return x, x[:, :, edge:-edge:stride, edge:-edge:stride]

    for way in (fork_shortcut, sliced):
        own = x.clone().requires_grad_()
        main, shortcut = way(own, edge, stride)
        (conv2d(main, weight).square().sum() + shortcut.pow(3).sum()).backward()
        found.append((main.detach(), shortcut.detach(), own.grad))
        with torch.no_grad():
            assert torch.equal(way(x, edge, stride)[1], shortcut)
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5)


class PlainResidual(Residual):
    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        inner = torch.relu(self.norm0(self.conv0(x)))
        edge = self.reach // 2
        shortcut = x[:, :, edge : -edge : self.stride, edge : -edge : self.stride]
        if self.project is not None:
            shortcut = self.project(shortcut)
        return torch.relu(self.norm1(self.conv1(inner) + shortcut))


def plain(network: Network) -> nn.Sequential:
    """The same weights in layers of PyTorch's own, one after the other."""
    layers: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, Residual):
            layer.__class__ = PlainResidual
            layers.append(layer)
        else:
            activation: nn.Module = nn.ReLU()
            if isinstance(layer.activation, PReLU):
                activation = nn.PReLU()
                activation.weight = layer.activation.weight
            layers += [layer.conv, layer.norm, activation]
    return nn.Sequential(*layers, network.classifier)


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", [*NETWORKS])
def test_a_training_step_is_that_of_the_plain_network(name: str, norm: bool, side: int) -> None:
    fast, slow = (scrambled(name, 4, seed=3, norm=norm).train() for _ in range(2))
    fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    twin = plain(slow)
    width = fast.receptive_field + fast.stride * (side - 1)
    x = drawn(6, 1, width, width)
    outputs = fast(x), twin(x)[:, 0]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=2e-5)
    for output in outputs:
        nn.functional.softplus(output).mean().backward()
    for mine, other in zip(fast.parameters(), slow.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        scale = float(other.grad.abs().max())
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5 * (scale + 1))
    for mine, other in zip(fast.buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_one_output_as_a_product_is_the_convolution(bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 4, bias=bias).double()
    x = drawn(2, 3, 4, 4).double()
    torch.testing.assert_close(convolve(conv, x, 1, False), conv(x))
    torch.testing.assert_close(convolve(conv, x, 1, True), conv(x))
    dilated = nn.Conv2d(3, 5, 2, dilation=3, bias=bias).double()
    torch.testing.assert_close(convolve(dilated, x, 1, False), dilated(x))


def test_no_gradient_is_written_where_none_is_wanted() -> None:
    network, x = build_network("resnet8", 2).eval(), drawn(1, 1, 75, 75)
    kept = x.clone()
    with torch.inference_mode():
        network(x)
    assert torch.equal(x, kept)
