"""Networks that find contamination, masks of it, and micrographs with a carbon film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from heliodor.conventions import FloatArray, Image, Shape
from heliodor.models.model_file import save_model
from heliodor.models.networks import NETWORKS, Network, build_network
from helpers.networks import discs, model, scattered, scrambled, write_mrc

Mask = NDArray[np.bool_]


masks = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(0, 10**6)).map(
    lambda own: blobs(own[:2], own[2])
)


names = st.sampled_from(sorted(NETWORKS))


def blobs(shape: Shape, seed: int) -> Mask:
    """A mask of areas of all sizes; sometimes of none, or nothing else."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal(shape), random.uniform(0.3, 4))
    return np.asarray(smooth > random.uniform(-1, 1) * np.abs(smooth).max())


def both_heads(name: str, width: int = 4, seed: int = 0, norm: bool = True) -> Network:
    """A scrambled network that tells contaminants too, at random."""
    network = scrambled(name, width, seed, norm=norm)
    network.add_contaminant_classifier()
    assert network.contaminant is not None
    with torch.no_grad():
        network.contaminant.bias.fill_(0.25)  # type: ignore[union-attr]
    return network.eval()


def plain(network: Network) -> Network:
    """The same network without its second classifier."""
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("contaminant")}
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    bare = build_network(network.name, first.out_channels, norm=normed)
    bare.load_state_dict(state)
    return bare.eval()


#: How much brighter carbon is than ice, in standard deviations of the noise.
CARBON = 4.0


def hand_made() -> Network:
    """conv31 made by hand: twice the darkness of a disc less 6, and how bright a square is.

    Linear throughout. A disc of depth 8 has log-odds of 10 on ice and of 2 on carbon, ice has -6,
    and a contaminant has 80 on carbon and -80 on ice.
    """
    network = build_network("conv31", 4, contaminant=True).eval()
    offset = np.arange(7) - 3
    disc = offset[:, None] ** 2 + offset[None, :] ** 2 <= 9
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    first, second, third, particle, contaminant = convolutions
    with torch.no_grad():
        for module in convolutions:
            module.weight.zero_()
        for module in network.modules():
            if isinstance(module, nn.PReLU):
                module.weight.fill_(1.0)
        first.weight[0, 0] = torch.from_numpy(disc / -disc.sum())
        first.weight[1, 0] = 1 / 49
        second.weight[0, 0, 2, 2] = 1.0
        second.weight[1, 1] = 1 / 25
        for channel in (0, 1):
            third.weight[channel, channel, 2, 2] = 1.0
        particle.weight[0, 0], contaminant.weight[0, 1] = 2.0, 40.0
        assert particle.bias is not None
        assert contaminant.bias is not None
        particle.bias.fill_(-6.0)
        contaminant.bias.fill_(-20.0 * CARBON)
    return network


HAND_MADE = hand_made()


#: 40 A particles, 4 A a pixel.
CARD: dict[str, Any] = {
    "normalization": {"mode": "none"}, "threshold": 0.0, "contaminant": True,
    "training_radius_angstrom": 8.0,
}  # fmt: skip


MODEL = model(HAND_MADE, **CARD)


COLUMNS = (40, 0, 150, 20)


SHAPE = (160, 200)


def carbon_picture(number: int) -> tuple[Image, FloatArray]:
    """Dark discs on noise; as many columns as `COLUMNS` says from the left on are carbon."""
    xy = scattered(SHAPE, 40, 14, number)
    image = discs(SHAPE, xy, depth=8, seed=number)
    image[:, : COLUMNS[number]] += CARBON
    return image, xy


def write_ground(folder: Path, number: int) -> None:
    """Write micrographs with carbon, a model that detects it, and one that does not."""
    for own in range(number):
        write_mrc(folder / "m" / f"{own}.mrc", carbon_picture(own)[0])
    save_model(folder / "model.safetensors", MODEL)
    save_model(folder / "old.safetensors", model(normalization={"mode": "none"}))
