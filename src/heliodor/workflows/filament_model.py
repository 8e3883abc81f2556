"""The network that `pick --filaments` uses."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from heliodor.errors import BadInput
from heliodor.picking.filaments.batch import Predictor

#: The module with the network of filaments.
_MODULE = "heliodor.models.filament_network"


def load_predictor(model: str | Path | None, device: torch.device) -> Predictor:
    """Load the network that says where filaments are.

    Parameters
    ----------
    model
        A model file of filaments; None for the general filament model.
    device
        Where it computes.

    Raises
    ------
    BadInput
        If there is no such model.
    """
    if importlib.util.find_spec(_MODULE) is None:
        raise BadInput("this version has no model of filaments, so --filaments cannot be used")
    raise BadInput(f"the model {model} cannot be used on {device}")
