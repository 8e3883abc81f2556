"""The classifiers: from a square region of a micrograph to the log-odds of a particle.

Every network is a stack of convolutions without padding. Fed with a crop as wide as its
receptive field it returns one number. Fed with a larger image it returns one number every
`stride` pixels; its dense twin (the same weights, strides turned into dilations) returns the
number of every pixel, each equal to that of the crop centred there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from heliodor.errors import BadInput


class Layer(nn.Module):
    """A part of a network that knows its stride and the surroundings it consumes."""

    stride: int = 1
    #: Receptive field minus one, in pixels of the layer's input.
    reach: int

    @abstractmethod
    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer to an input sampled every `step` pixels."""


def _convolve(conv: nn.Conv2d, x: Tensor, step: int, dense: bool) -> Tensor:
    """Apply a convolution as it is, or densely: no stride, dilated by `step`."""
    stride = 1 if dense else conv.stride[0]
    return nn.functional.conv2d(
        x, conv.weight, conv.bias, stride=stride, dilation=conv.dilation[0] * step
    )


class Convolution(Layer):
    """Convolution, batch normalisation, PReLU or ReLU."""

    def __init__(self, inputs: int, outputs: int, width: int, stride: int, prelu: bool) -> None:
        super().__init__()
        self.stride = stride
        self.reach = width - 1
        self.conv = nn.Conv2d(inputs, outputs, width, stride=stride, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.PReLU() if prelu else nn.ReLU()

    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer; see `Layer.forward`."""
        out: Tensor = self.activation(self.norm(_convolve(self.conv, x, step, dense)))
        return out


class Residual(Layer):
    """Two 3 x 3 convolutions and a shortcut; normalisation follows the sum.

    The second convolution is dilated by 2 and carries the stride.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.reach = 2 + 4
        self.conv0 = nn.Conv2d(inputs, inputs, 3, bias=False)
        self.norm0 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, dilation=2, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.project = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, step: int = 1, dense: bool = False) -> Tensor:
        """Apply the layer; see `Layer.forward`."""
        inner = torch.relu(self.norm0(_convolve(self.conv0, x, step, dense)))
        edge = self.reach // 2 * step
        stride = 1 if dense else self.stride
        shortcut = x[:, :, edge:-edge:stride, edge:-edge:stride]
        if self.project is not None:
            shortcut = self.project(shortcut)
        return torch.relu(self.norm1(_convolve(self.conv1, inner, step, dense) + shortcut))


class Network(nn.Module):
    """A stack of layers and a linear classifier."""

    def __init__(self, name: str, layers: list[Layer], channels: int) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.ModuleList(layers)
        self.classifier = nn.Conv2d(channels, 1, 1)
        self.stride = math.prod(layer.stride for layer in layers)
        steps = [math.prod(layer.stride for layer in layers[:i]) for i in range(len(layers))]
        #: Width in pixels of the square that one output depends on; always odd.
        self.receptive_field = 1 + sum(s * la.reach for s, la in zip(steps, layers, strict=True))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=channels**-0.5 / 4)

    def start_at(self, prior: float) -> None:
        """Set the classifier's bias so that an untrained network predicts the class prior.

        Without it the expectation over unlabelled regions starts at one half, and the
        penalties of the generalised-expectation objectives dwarf everything for a long time.
        """
        with torch.no_grad():
            assert self.classifier.bias is not None
            self.classifier.bias.fill_(math.log(prior / (1 - prior)))

    def is_finite(self) -> bool:
        """Tell whether all weights and running statistics are finite numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.state_dict().values())

    def features(self, x: Tensor, dense: bool = False) -> Tensor:
        """Return the last layer's features, shape (n, channels, h', w')."""
        step = 1
        for layer in self.layers:
            x = layer(x, step, dense)
            if dense:
                step *= int(layer.stride)  # type: ignore[arg-type]
        return x

    def forward(self, x: Tensor, dense: bool = False) -> Tensor:
        """Return log-odds.

        Parameters
        ----------
        x
            Normalised images, shape (n, 1, h, w), h and w at least the receptive field R.
        dense
            Every pixel instead of every `stride`-th one.

        Returns
        -------
        Tensor
            Shape (n, h', w'): h - R + 1 where dense, else (h - R) // stride + 1, and for
            crops of width R one number each, shape (n, 1, 1).
        """
        out: Tensor = self.classifier(self.features(x, dense))
        return out[:, 0]


def conv31(width: int = 32) -> Network:
    """Return the paper's network (Methods 6): 7, 5, 5 wide convolutions, strides 2, 2, 1."""
    layers: list[Layer] = [
        Convolution(1, width, 7, 2, prelu=True),
        Convolution(width, 2 * width, 5, 2, prelu=True),
        Convolution(2 * width, 4 * width, 5, 1, prelu=True),
    ]
    return Network("conv31", layers, 4 * width)


def resnet8(width: int = 32) -> Network:
    """Return the residual network with eight convolutions and a receptive field of 71."""
    layers: list[Layer] = [
        Convolution(1, width, 7, 2, prelu=False),
        Residual(width, width),
        Residual(width, 2 * width, stride=2),
        Residual(2 * width, 2 * width),
        Convolution(2 * width, 4 * width, 5, 1, prelu=False),
    ]
    return Network("resnet8", layers, 4 * width)


NETWORKS: dict[str, Callable[[int], Network]] = {"conv31": conv31, "resnet8": resnet8}


def check(name: str, width: int) -> None:
    """Raise BadInput for a network's name or width that does not exist."""
    if name not in NETWORKS:
        raise BadInput(f"the network {name!r} is none of {', '.join(NETWORKS)}")
    if not 1 <= width <= 1024:
        raise BadInput(f"a network's width must lie between 1 and 1024, not {width}")


def build(name: str, width: int = 32) -> Network:
    """Build a network by name; raises BadInput as `check` does."""
    check(name, width)
    return NETWORKS[name](width)
