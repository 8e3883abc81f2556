"""Models of filaments for tests, with random weights."""

from __future__ import annotations

import torch

from heliodor.data.micrographs.normalization import Normalizer
from heliodor.models.filament_model_file import FilamentCard, FilamentModel
from heliodor.models.filament_unet import FilamentNetwork


def random_filament_model(channels: int = 4, width_angstrom: float | None = None) -> FilamentModel:
    """Return a model with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FilamentNetwork(channels)
    card = FilamentCard(
        network=network.name,
        channels=channels,
        width_angstrom=width_angstrom,
        working_width_px=12.0,
        normalization=Normalizer("micrograph", flatten_px=21.0).as_dict(),
        slope=0.9,
        shift=-0.5,
        seed=0,
        version="test",
        updates=0,
    )
    return FilamentModel(network.eval(), card)
