"""The layers of the networks: convolutions that can also run densely, dropout, PReLU, shortcuts.

PReLU and the shortcut of residual layers compute their own gradients, faster than PyTorch does.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


class Layer(nn.Module):
    """A layer of a network with a stride and a receptive field."""

    stride: int = 1
    #: Receptive field minus one, in pixels of the layer's input.
    reach: int

    @abstractmethod
    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer to an input sampled every `step` pixels."""


def convolve(conv: nn.Conv2d, x: Tensor, step: int, dense: bool) -> Tensor:
    """Apply a convolution normally, or densely: without stride and dilated by `step`.

    Parameters
    ----------
    conv
        Its own stride applies only if `dense` is false.
    x
        Shape (n, c, h, w), sampled every `step` pixels.
    """
    if step == 1 and x.shape[-2:] == conv.weight.shape[-2:] and conv.dilation[0] == 1:
        # With one output pixel, a matrix product is several times faster than a convolution.
        rows, columns = (part.permute(0, 2, 3, 1).flatten(1) for part in (x, conv.weight))
        return nn.functional.linear(rows, columns, conv.bias)[:, :, None, None]
    stride = 1 if dense else conv.stride[0]
    return nn.functional.conv2d(
        x, conv.weight, conv.bias, stride=stride, dilation=conv.dilation[0] * step
    )


def _batch_norm(channels: int, norm: bool) -> nn.Module:
    """Return batch normalization, or the identity if the convolutions have biases instead."""
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


class Convolution(Layer):
    """Convolution, batch normalization (or a bias), PReLU or ReLU."""

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
    """Two 3 x 3 convolutions and a shortcut; the sum is normalized.

    The second convolution has the dilation and the stride. Without batch normalization both
    convolutions have biases; the projection of the shortcut never has one.
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
    """Dropout that can use its own random generator.

    Training then neither reads nor changes the global random state, on any device.
    """

    generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Set a fraction `p` of the features to zero during training, and scale up the others."""
        if self.generator is None or not self.training or self.p == 0:
            return super().forward(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept / (1 - self.p)


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` with one slope and a faster gradient on CPUs.

    PyTorch's kernel computes the slope's gradient for each element before summing, which takes as
    long as the convolutions.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x where it is positive, otherwise the slope times x."""
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
        slope_gradient = x.clamp(max=0).mul_(gradient).sum(dtype=slope.dtype)
        return below, slope_gradient.view_as(slope)


def fork_shortcut(x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return a residual layer's input, and the cropped and strided part for the shortcut.

    PyTorch's gradient of a slice is a whole image of zeros around it, which is then added to that
    of the other branch. Here the gradient is added in place instead.

    Parameters
    ----------
    x
        Shape (n, channels, h, w). Only one layer may use the first output, because the gradient
        that this layer returns is modified in place.
    edge
        Number of pixels to crop on each side, 1 or more.
    stride
        Stride of the shortcut.
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
