"""The classifiers: from a square region of a micrograph to the log-odds of a particle.

Every network is a stack of convolutions without padding. Fed with a crop as wide as its
receptive field it returns one number. Fed with a larger image it returns one number every
`stride` pixels; its dense twin (the same weights, strides turned into dilations) returns the
number of every pixel, each equal to that of the crop centred there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from heliodor.errors import BadInput
from heliodor.models.layers import (
    Convolution,
    Dropout,
    Layer,
    Residual,
)


class Network(nn.Module):
    """A stack of layers and a linear classifier.

    Dropout acts on the features of each layer. It belongs to no layer, so that nothing which is
    counted in layers, as the steps of the dense twin are, can depend on it.
    """

    def __init__(
        self, name: str, layers: list[Layer], channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.ModuleList(layers)
        self.dropout = Dropout(dropout)
        self.classifier = nn.Conv2d(channels, 1, 1)
        #: A second classifier, of contaminants (carbon, ice, aggregates), beside that of
        #: particles; see `add_contaminant_classifier`.
        self.contaminant: nn.Conv2d | None = None
        self.stride = math.prod(layer.stride for layer in layers)
        steps = [math.prod(layer.stride for layer in layers[:i]) for i in range(len(layers))]
        #: Width in pixels of the square that one output depends on; always odd.
        self.receptive_field = 1 + sum(s * la.reach for s, la in zip(steps, layers, strict=True))
        if self.classifier.weight.is_meta:  # shapes alone, and no numbers to draw
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=channels**-0.5 / 4)

    def add_contaminant_classifier(self) -> None:
        """Add an untrained classifier of contaminants; all that was there stays as it was."""
        channels = self.classifier.in_channels
        self.contaminant = nn.Conv2d(channels, 1, 1, device=self.classifier.weight.device)
        if not self.contaminant.weight.is_meta:
            nn.init.normal_(self.contaminant.weight, std=channels**-0.5 / 4)

    def set_prior_bias(self, prior: float) -> None:
        """Set the classifier's bias so that an untrained network predicts the class prior.

        Without it the expectation over unlabelled regions starts at one half, and the
        penalties of the generalised-expectation objectives dwarf everything for a long time.
        """
        with torch.no_grad():
            assert self.classifier.bias is not None
            self.classifier.bias.fill_(math.log(prior / (1 - prior)))

    def set_dropout_generator(self, generator: torch.Generator) -> None:
        """Draw what dropout sets to zero from a generator on the network's device."""
        self.dropout.generator = generator

    def is_finite(self) -> bool:
        """Tell whether all weights and running statistics are finite numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.state_dict().values())

    def features(
        self, x: Tensor, dense: bool = False, first: int = 0, last: int | None = None
    ) -> Tensor:
        """Return the last layer's features, shape (n, channels, h', w').

        Or, where not dense, those of the layers ``[first:last]``, x being what the layers before
        these return.
        """
        step = 1
        for layer in self.layers[first:last]:
            x = self.dropout(layer(x, step, dense))
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

    def score_with_contaminants(self, x: Tensor, dense: bool = False) -> Tensor:
        """Return log-odds of a particle and of a contaminant, from one pass.

        Parameters
        ----------
        x, dense
            As for `forward`.

        Returns
        -------
        Tensor
            Shape (n, 2, h', w'), the first of them what `forward` returns.

        Raises
        ------
        ValueError
            If the network has no classifier of contaminants.
        """
        if self.contaminant is None:
            raise ValueError(f"this network {self.name} has no classifier of contaminants")
        return self.classify_features(self.features(x, dense))

    def classify_features(self, features: Tensor) -> Tensor:
        """Return all that is told from features: of a particle and, where it is, a contaminant.

        Shape (n, 1 or 2, h', w').
        """
        out: Tensor = self.classifier(features)
        if self.contaminant is None:
            return out
        return torch.cat([out, self.contaminant(features)], dim=1)


def conv31(width: int = 32, dropout: float = 0.0, norm: bool = True) -> Network:
    """Return the paper's network (Methods 6): 7, 5, 5 wide convolutions, strides 2, 2, 1."""
    return _plain_network("conv31", 3, width, dropout, norm)


def conv63(width: int = 32, dropout: float = 0.0, norm: bool = True) -> Network:
    """Return conv31 with one more 5 wide convolution: strides 2, 2, 2, 1."""
    return _plain_network("conv63", 4, width, dropout, norm)


def conv127(width: int = 32, dropout: float = 0.0, norm: bool = True) -> Network:
    """Return conv31 with two more 5 wide convolutions: strides 2, 2, 2, 2, 1."""
    return _plain_network("conv127", 5, width, dropout, norm)


def _plain_network(name: str, depth: int, width: int, dropout: float, norm: bool) -> Network:
    """Stack convolutions: all but the last have stride 2, each has twice the channels."""
    layers: list[Layer] = [Convolution(1, width, 7, 2, True, norm)]
    for i in range(1, depth):
        inputs = width * 2 ** (i - 1)
        stride = 2 if i < depth - 1 else 1
        layers.append(Convolution(inputs, 2 * inputs, 5, stride, True, norm))
    return Network(name, layers, width * 2 ** (depth - 1), dropout)


def resnet8(width: int = 32, dropout: float = 0.0, norm: bool = True) -> Network:
    """Return the residual network with eight convolutions and a receptive field of 71."""
    layers: list[Layer] = [
        Convolution(1, width, 7, 2, False, norm),
        Residual(width, width, 1, 2, norm),
        Residual(width, 2 * width, 2, 2, norm),
        Residual(2 * width, 2 * width, 1, 2, norm),
        Convolution(2 * width, 4 * width, 5, 1, False, norm),
    ]
    return Network("resnet8", layers, 4 * width, dropout)


def resnet16(width: int = 32, dropout: float = 0.0, norm: bool = True) -> Network:
    """Return the residual network with sixteen convolutions and a receptive field of 91."""
    layers: list[Layer] = [
        Convolution(1, width, 7, 1, False, norm),
        Residual(width, width, 2, norm=norm),
        *(Residual(width, width, norm=norm) for _ in range(3)),
        Residual(width, 2 * width, 2, norm=norm),
        *(Residual(2 * width, 2 * width, norm=norm) for _ in range(2)),
        Convolution(2 * width, 4 * width, 5, 1, False, norm),
    ]
    return Network("resnet16", layers, 4 * width, dropout)


NETWORKS: dict[str, Callable[[int, float, bool], Network]] = {
    "conv31": conv31,
    "conv63": conv63,
    "conv127": conv127,
    "resnet8": resnet8,
    "resnet16": resnet16,
}


def check_network(name: str, width: int, dropout: float = 0.0) -> None:
    """Raise BadInput for a network's name, width or dropout that cannot be."""
    if name not in NETWORKS:
        raise BadInput(f"the network {name!r} is none of {', '.join(NETWORKS)}")
    if not 1 <= width <= 1024:
        raise BadInput(f"a network's width must lie between 1 and 1024, not {width}")
    if not 0 <= dropout < 1:
        raise BadInput(f"a network's dropout must be 0 or more, and below 1, not {dropout:g}")


def build_network(
    name: str,
    width: int = 32,
    dropout: float = 0.0,
    norm: bool = True,
    contaminant: bool = False,
) -> Network:
    """Build a network.

    Parameters
    ----------
    name
        One of `NETWORKS`.
    width
        Channels of the first layer.
    dropout
        Probability with which training sets each feature to zero, after every layer.
    norm
        Batch normalisation in every layer; without it every convolution carries a bias.
    contaminant
        A second classifier, of contaminants, on the same features.

    Raises
    ------
    BadInput
        As `check_network` does.
    """
    check_network(name, width, dropout)
    network = NETWORKS[name](width, dropout, norm)
    if contaminant:
        network.add_contaminant_classifier()
    return network


def tensor_shapes(
    name: str, width: int, norm: bool = True, contaminant: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors, without the memory that they would take.

    What comes from a file is compared with them before a network of its description is built.

    Raises
    ------
    BadInput
        As `check_network` does.
    """
    with torch.device("meta"):
        network = build_network(name, width, norm=norm, contaminant=contaminant)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
