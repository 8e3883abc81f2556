"""Small networks, images and models for the tests of training and picking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from torch import nn

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
)
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.models.layers import Convolution
from heliodor.models.model_file import Model, ModelCard
from heliodor.models.networks import Network, build_network

torch.set_num_threads(1)

#: Radius in pixels of the discs that stand for particles.
DISC_PX = 3


def noise(shape: Shape, seed: int = 0) -> Image:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def scrambled(
    name: str, width: int = 4, seed: int = 0, dropout: float = 0.0, norm: bool = True
) -> Network:
    """A network in evaluation mode with every parameter and running statistic at random."""
    network = build_network(name, width, dropout, norm)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(0.3 * torch.randn(len(module.weight), generator=random))
                module.running_var.copy_(0.5 + torch.rand(len(module.weight), generator=random))
                module.weight.copy_(1 + 0.3 * torch.randn(len(module.weight), generator=random))
                module.bias.copy_(0.3 * torch.randn(len(module.weight), generator=random))
            elif isinstance(module, nn.PReLU):
                module.weight.copy_(torch.rand(1, generator=random))
            elif isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                drawn = torch.randn(module.weight.shape, generator=random)
                module.weight.copy_(drawn * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(len(module.bias), generator=random))
    return network.eval()


def disc_detector(stride: int = 1) -> Network:
    """A network made by hand: twice the mean darkness within a disc, minus 4 on a background.

    Receptive field 11. On a disc of depth 5 and no noise it gives 6 in the center.
    """
    layer = Convolution(1, 1, 11, stride, prelu=False)
    network = Network("disc", [layer], 1)
    offset = np.arange(11) - 5
    disc = offset[:, None] ** 2 + offset[None, :] ** 2 <= DISC_PX**2
    with torch.no_grad():
        layer.conv.weight.copy_(torch.from_numpy(disc / -disc.sum())[None, None])
        network.classifier.weight.fill_(2.0)
        assert network.classifier.bias is not None
        network.classifier.bias.fill_(-4.0)
    assert isinstance(layer.norm, nn.BatchNorm2d)
    layer.norm.eps = 0.0
    return network.eval()


def discs(
    shape: Shape, xy: FloatArray, depth: float | FloatArray = 5.0, sd: float = 1.0, seed: int = 0
) -> Image:
    """Dark discs of 3 pixels radius at whole-numbered centers on white noise."""
    image = sd * noise(shape, seed)
    rows, columns = np.indices(shape)
    for (x, y), own in zip(xy, np.broadcast_to(depth, len(xy)), strict=True):
        image[(columns - x) ** 2 + (rows - y) ** 2 <= DISC_PX**2] -= own
    return image.astype(np.float32)


def scattered(shape: Shape, number: int, apart: float, seed: int = 0, edge: int = 8) -> FloatArray:
    """Random whole-numbered centers (x, y), no two nearer than `apart`."""
    random = np.random.default_rng(seed)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < number:
        x = int(random.integers(edge, shape[1] - edge))
        y = int(random.integers(edge, shape[0] - edge))
        if all(np.hypot(x - a, y - b) >= apart for a, b in chosen):
            chosen.append((x, y))
    return np.array(chosen, dtype=np.float64).reshape(-1, 2)


def labelled_discs(
    shape: Shape, number: int, seed: int, labelled: int | None = None
) -> LabeledImage:
    """An image of discs and the labels of the first few of them."""
    xy = scattered(shape, number, 9, seed)
    return LabeledImage(discs(shape, xy, depth=3, seed=seed), xy[:labelled])


def write_mrc(path: Path, image: Image, pixel_size_angstrom: float = 4.0) -> Source:
    """Write a micrograph and return the source that finds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(image)
        mrc.voxel_size = pixel_size_angstrom
    return Source(path.name, path, path.stem)


def working(image: Image, original: Shape | None = None, pixel: float = 4.0) -> WorkingImage:
    """A working image of a micrograph with the given original shape and pixel size."""
    source = Source("mic.mrc", Path("mic.mrc"), "mic")
    return WorkingImage(source, image, original or (image.shape[0], image.shape[1]), pixel)


def card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "network": "conv31",
        "width": 4,
        "working_pixel_size_angstrom": 4.0,
        "diameter_angstrom": 40.0,
        "training_radius_angstrom": 5.0,
        "normalization": {"mode": "standard"},
        "objective": "ge-binomial",
        "class_prior": 0.02,
        "expected_particles": 30.0,
        "threshold": 0.5,
        "seed": 7,
        "version": "0.1",
        "training_micrographs": ["a.mrc", "MotionCorr/job002/ü.mrc"],
        "validation_micrographs": [],
        "labelled_particles": 12,
        "best_epoch": 3,
        "updates": 300,
        "validation_ap": None,
    }
    return ModelCard(**(values | changes))


def model(network: Network | None = None, /, **changes: Any) -> Model:
    return Model(scrambled("conv31") if network is None else network, card(**changes))
