"""The network that `pick --filaments` uses, ready for one width."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from heliodor.conventions import Image
from heliodor.models.filament_maps import FilamentMaps
from heliodor.models.filament_model_file import FilamentModel, fingerprint_filament_model
from heliodor.models.filament_network import predict_filament_maps
from heliodor.models.pretrained import load_filament_model_for_picking


@dataclass(frozen=True)
class NetworkPredictor:
    """A model of filaments of one width; see `heliodor.picking.filaments.batch.Predictor`."""

    model: FilamentModel
    width_angstrom: float
    device: torch.device

    @classmethod
    def of(cls, model: FilamentModel, device: torch.device) -> NetworkPredictor:
        """Move a model that has a width to a device."""
        assert model.card.width_angstrom is not None
        model.network.to(device)
        return cls(model, model.card.width_angstrom, device)

    @property
    def fingerprint(self) -> str:
        """A hash of its weights and card."""
        return fingerprint_filament_model(self.model)

    def predict(self, image: Image, pixel_size_angstrom: float) -> FilamentMaps:
        """Return the maps of one micrograph, shape (h, w), protein dark."""
        return predict_filament_maps(
            self.model, image, pixel_size_angstrom, self.width_angstrom, self.device
        )


def load_predictor(
    model: str | Path | None, width_angstrom: float | None, device: torch.device
) -> NetworkPredictor:
    """Load the network that says where filaments are.

    Parameters
    ----------
    model
        A model file of filaments; None for the general filament model.
    width_angstrom
        Width of the filaments; None takes that of the model.
    device
        Where it computes.

    Raises
    ------
    BadInput
        If there is no such model, it is one of particles, or the width is missing or another
        than that of the model.
    """
    return NetworkPredictor.of(load_filament_model_for_picking(model, width_angstrom), device)
