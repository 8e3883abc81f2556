"""The layers that classifiers are made of: convolutions that also run densely."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


class Layer(nn.Module):
    """A part of a network that knows its stride and the surroundings it consumes."""

    stride: int = 1
    #: Receptive field minus one, in pixels of the layer's input.
    reach: int

    @abstractmethod
    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer to an input sampled every `step` pixels."""


def convolve(conv: nn.Conv2d, x: Tensor, step: int, dense: bool) -> Tensor:
    """Apply a convolution as it is, or densely: no stride, dilated by `step`.

    Parameters
    ----------
    conv
        Its own stride holds where it is not dense.
    x
        Shape (n, c, h, w), sampled every `step` pixels.
    """
    if step == 1 and x.shape[-2:] == conv.weight.shape[-2:] and conv.dilation[0] == 1:
        # One output: a matrix product, which is several times faster than as a convolution.
        rows, columns = (part.permute(0, 2, 3, 1).flatten(1) for part in (x, conv.weight))
        return nn.functional.linear(rows, columns, conv.bias)[:, :, None, None]
    stride = 1 if dense else conv.stride[0]
    return nn.functional.conv2d(
        x, conv.weight, conv.bias, stride=stride, dilation=conv.dilation[0] * step
    )


def _batch_norm(channels: int, norm: bool) -> nn.Module:
    """Batch normalisation or, where the convolutions carry biases instead, nothing."""
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


class Convolution(Layer):
    """Convolution, batch normalisation (or a bias), PReLU or ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        stride: int,
        prelu: bool,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.reach = width - 1
        self.conv = nn.Conv2d(inputs, outputs, width, stride=stride, bias=not norm)
        self.norm = _batch_norm(outputs, norm)
        self.activation = PReLU() if prelu else nn.ReLU(inplace=True)

    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer; see `Layer.forward`."""
        out: Tensor = self.activation(self.norm(convolve(self.conv, x, step, dense)))
        return out


class Residual(Layer):
    """Two 3 x 3 convolutions and a shortcut; normalisation follows the sum.

    The second convolution is the one that is dilated and carries the stride. Without
    normalisation both carry biases; the shortcut's projection never does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        dilation: int = 1,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.reach = 2 + 2 * dilation
        bias = not norm
        self.conv0 = nn.Conv2d(inputs, inputs, 3, bias=bias)
        self.norm0 = _batch_norm(inputs, norm)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, dilation=dilation, bias=bias)
        self.norm1 = _batch_norm(outputs, norm)
        self.project = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer; see `Layer.forward`."""
        edge, stride = self.reach // 2 * step, 1 if dense else self.stride
        x, shortcut = fork_shortcut(x, edge, stride)
        inner = torch.relu_(self.norm0(convolve(self.conv0, x, step, dense)))
        if self.project is not None:
            shortcut = self.project(shortcut)
        return torch.relu_(self.norm1(convolve(self.conv1, inner, step, dense).add_(shortcut)))


class Dropout(nn.Dropout):
    """Dropout whose draws may come from a generator of its own.

    Training then neither reads nor changes the program's random state, on any device.
    """

    generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Set a share `p` of the features to zero while training, and scale up the others."""
        if self.generator is None or not self.training or self.p == 0:
            return super().forward(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept / (1 - self.p)


class PReLU(nn.PReLU):
    """As `torch.nn.PReLU` with one slope, but with a gradient of its own on CPUs.

    PyTorch's kernels read a slope and write its gradient for each number before they sum
    them, one number at a time, which takes as long as the convolutions beside them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x where it is positive, else the slope times x."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = _PReLUFunction.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return out


class _PReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return leaky_relu(x, slope.item())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x, slope = ctx.saved_tensors
        below = torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False)
        own = x.clamp(max=0).mul_(gradient).sum(dtype=slope.dtype)
        return below, own.view_as(slope)


def fork_shortcut(x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return a residual layer's input, and what of it the shortcut takes.

    The gradient of a slice alone is an image of zeros around it, laid out in memory as PyTorch
    likes, which is then added to the other branch's. Here it is added where it belongs.

    Parameters
    ----------
    x
        Shape (n, channels, h, w). One layer alone may take the first of the outputs, since the
        gradient that it returns is added to in place.
    edge
        Pixels to leave out on each side, 1 or more.
    stride
        Of the shortcut.
    """
    if torch.is_grad_enabled():
        main, shortcut = _ForkFunction.apply(x, edge, stride)  # type: ignore[no-untyped-call]
        return main, shortcut
    return x, _crop_edge(x, edge, stride)


class _ForkFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
        ctx.edge, ctx.stride = edge, stride
        return x.view_as(x), _crop_edge(x, edge, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        main, shortcut = gradients
        _crop_edge(main, ctx.edge, ctx.stride).add_(shortcut)
        return main, None, None


def _crop_edge(x: Tensor, edge: int, stride: int) -> Tensor:
    return x[:, :, edge:-edge:stride, edge:-edge:stride]
