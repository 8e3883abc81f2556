"""Parts of networks whose gradients are written by hand, for PyTorch's own cost too much."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


class PReLU(nn.PReLU):
    """As `torch.nn.PReLU` with one slope, but with a gradient of its own on CPUs.

    PyTorch's kernels read a slope and write its gradient for each number before they sum
    them, one number at a time, which takes as long as the convolutions beside them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x where it is positive, else the slope times x."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = _Rectified.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return out


class _Rectified(torch.autograd.Function):
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


def fork(x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
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
        main, shortcut = _Fork.apply(x, edge, stride)  # type: ignore[no-untyped-call]
        return main, shortcut
    return x, _inner(x, edge, stride)


class _Fork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, edge: int, stride: int) -> tuple[Tensor, Tensor]:
        ctx.edge, ctx.stride = edge, stride
        return x.view_as(x), _inner(x, edge, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        main, shortcut = gradients
        _inner(main, ctx.edge, ctx.stride).add_(shortcut)
        return main, None, None


def _inner(x: Tensor, edge: int, stride: int) -> Tensor:
    return x[:, :, edge:-edge:stride, edge:-edge:stride]
