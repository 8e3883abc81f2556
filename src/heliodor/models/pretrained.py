"""The general (pretrained) model, which picks particles given only their diameter.

It was trained on simulated micrographs, scaled so that every particle has the same diameter in
pixels. The lengths in its card are in units of these pixels until a diameter is given.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput
from heliodor.models import GENERAL_MODEL
from heliodor.models.model_file import (
    Model,
    load_model,
)
from heliodor.models.registry import find_named_model

#: The name of the general model where a model is expected, and the name for no model.
GENERAL_MODEL_NAME, FROM_SCRATCH = "general", "scratch"


def load_general_model() -> Model:
    """Load the general model, which picks particles of any diameter."""
    return load_model(GENERAL_MODEL)


def load_model_or_general(path: str | Path) -> Model:
    """Load a model by its file or its name, or the general model if `path` is "general".

    A file comes before a named model; see `registry.find_named_model`.
    """
    if str(path) == GENERAL_MODEL_NAME:
        return load_general_model()
    named = None if os.path.lexists(path) else find_named_model(str(path))
    return load_model(path if named is None else named)


def rescale_to_diameter(model: Model, diameter_angstrom: float) -> Model:
    """Return a model for any diameter as a model for particles of one diameter.

    Parameters
    ----------
    model
        A model whose `ModelCard.any_diameter` is true, or one made from it for another diameter.

    Raises
    ------
    BadInput
        If the diameter is not plausible.
    """
    card = model.card
    scale = check_diameter(diameter_angstrom) / card.diameter_angstrom
    lengths = ("diameter", "working_pixel_size", "training_radius")
    scaled = {f"{name}_angstrom": getattr(card, f"{name}_angstrom") * scale for name in lengths}
    return Model(model.network, replace(card, any_diameter=False, **scaled))


def load_model_for_picking(path: str | Path | None, diameter_angstrom: float | None) -> Model:
    """Load the model to pick with.

    Parameters
    ----------
    path
        A model file; None or "general" for the general model.
    diameter_angstrom
        The particle diameter: required for a model for any diameter, otherwise None.

    Raises
    ------
    BadInput
        If the diameter is missing or not allowed, or the file cannot be used.
    """
    model = load_model_or_general(GENERAL_MODEL_NAME if path is None else path)
    name = "the general model" if path is None or str(path) == GENERAL_MODEL_NAME else str(path)
    if not model.card.any_diameter:
        if diameter_angstrom is not None:
            raise BadInput(
                f"{name} picks particles of {model.card.diameter_angstrom:g} Å, so diameter must"
                " not be given; leave out the model to use the general model",
                parameter="diameter",
            )
        return model
    if diameter_angstrom is None:
        raise BadInput(
            f"{name} picks particles of any size and needs the longest diameter of yours, in"
            " angstrom",
            parameter="diameter",
        )
    return rescale_to_diameter(model, diameter_angstrom)
