"""The networks: from a square region of a micrograph to the log-odds of a particle.

Every network is a stack of convolutions without padding. A crop as wide as its receptive field
gives one number, a larger image one number every `stride` pixels. Applied densely (the same
weights, strides turned into dilations) it gives one number per pixel, equal to that of the crop
centered there.
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

    Dropout acts on the features of each layer. It is not part of a layer, so that the number of
    layers, on which dense steps and receptive field depend, does not change with it.
    """

    def __init__(
        self, name: str, layers: list[Layer], channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.ModuleList(layers)
        self.dropout = Dropout(dropout)
        self.classifier = nn.Conv2d(channels, 1, 1)
        #: A second classifier, of contaminants (carbon, ice, aggregates); see
        #: `add_contaminant_classifier`.
        self.contaminant: nn.Conv2d | None = None
        self.stride = math.prod(layer.stride for layer in layers)
        steps = [math.prod(layer.stride for layer in layers[:i]) for i in range(len(layers))]
        #: Width in pixels of the square on which one output depends; always odd.
        self.receptive_field = 1 + sum(s * la.reach for s, la in zip(steps, layers, strict=True))
        if self.classifier.weight.is_meta:  # only shapes are needed, see `tensor_shapes`
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=channels**-0.5 / 4)

    def add_contaminant_classifier(self) -> None:
        """Add an untrained classifier of contaminants; other weights do not change."""
        channels = self.classifier.in_channels
        self.contaminant = nn.Conv2d(channels, 1, 1, device=self.classifier.weight.device)
        if not self.contaminant.weight.is_meta:
            nn.init.normal_(self.contaminant.weight, std=channels**-0.5 / 4)

    def set_prior_bias(self, prior: float) -> None:
        """Set the classifier's bias so that an untrained network predicts the class prior.

        Otherwise the expectation over unlabeled regions starts at one half, and the penalties of
        the generalized-expectation objectives dominate for a long time.
        """
        with torch.no_grad():
            assert self.classifier.bias is not None
            self.classifier.bias.fill_(math.log(prior / (1 - prior)))

    def set_dropout_generator(self, generator: torch.Generator) -> None:
        """Use a random generator, on the network's device, for dropout."""
        self.dropout.generator = generator

    def is_finite(self) -> bool:
        """Return whether all weights and running statistics are finite."""
        return has_finite_weights(self)

    def features(
        self, x: Tensor, dense: bool = False, first: int = 0, last: int | None = None
    ) -> Tensor:
        """Return the last layer's features, shape (n, channels, h', w').

        If not dense, return the output of the layers ``[first:last]`` for x, the output of the
        layers before them.
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
            Normalized images, shape (n, 1, h, w), h and w at least the receptive field R.
        dense
            Whether to score every pixel instead of every `stride`-th pixel.

        Returns
        -------
        Tensor
            Shape (n, h', w'), where h' is h - R + 1 if dense, otherwise (h - R) // stride + 1.
            Crops of width R give shape (n, 1, 1).
        """
        out: Tensor = self.classifier(self.features(x, dense))
        return out[:, 0]

    def score_with_contaminants(self, x: Tensor, dense: bool = False) -> Tensor:
        """Return the log-odds of particles and of contaminants.

        Parameters
        ----------
        x, dense
            As for `forward`.

        Returns
        -------
        Tensor
            Shape (n, 2, h', w'); the first channel is that of `forward`.

        Raises
        ------
        ValueError
            If the network has no classifier of contaminants.
        """
        if self.contaminant is None:
            raise ValueError(f"the network {self.name} has no classifier of contaminants")
        return self.classify_features(self.features(x, dense))

    def classify_features(self, features: Tensor) -> Tensor:
        """Return log-odds from features: of particles and, if there is a classifier, contaminants.

        Shape (n, 1 or 2, h', w').
        """
        out: Tensor = self.classifier(features)
        if self.contaminant is None:
            return out
        return torch.cat([out, self.contaminant(features)], dim=1)


def has_finite_weights(network: nn.Module) -> bool:
    """Return whether all weights and running statistics of a network are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


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
    """Raise BadInput if a network's name, width or dropout is invalid."""
    if name not in NETWORKS:
        raise BadInput(
            f"network must be one of {', '.join(NETWORKS)}, not {name!r}", parameter="network"
        )
    if not 1 <= width <= 1024:
        raise BadInput(f"width must be between 1 and 1024, not {width}", parameter="width")
    if not 0 <= dropout < 1:
        raise BadInput(
            f"dropout must be at least 0 and less than 1, not {dropout:g}", parameter="dropout"
        )


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
        Number of channels of the first layer.
    dropout
        Probability of setting each feature to zero in training, after every layer.
    norm
        Whether layers have batch normalization; otherwise every convolution has a bias.
    contaminant
        Whether to add a second classifier, of contaminants.

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
    """Return the shapes of a network's tensors without allocating them.

    The tensors of a file are compared with these shapes before a network is built.

    Raises
    ------
    BadInput
        As `check_network` does.
    """
    with torch.device("meta"):
        network = build_network(name, width, norm=norm, contaminant=contaminant)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
