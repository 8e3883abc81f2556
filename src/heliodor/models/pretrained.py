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
from heliodor.models import GENERAL_FILAMENT_MODEL, GENERAL_MODEL
from heliodor.models.filament_model_file import (
    FilamentModel,
    load_filament_model,
    set_width,
)
from heliodor.models.model_file import (
    Model,
    load_model,
)
from heliodor.models.registry import find_named_model

#: The name of the general model where a model is expected, and the name for no model.
GENERAL_MODEL_NAME, FROM_SCRATCH = "general", "scratch"
#: The name of the general filament model.
FILAMENT_MODEL_NAME = "filaments"


def load_general_model() -> Model:
    """Load the general model, which picks particles of any diameter."""
    return load_model(GENERAL_MODEL)


def find_model_file(path: str | Path) -> Path:
    """Return the file of a model, which may not exist, by its path or its name.

    "general" and "filaments" are the general models. For other names a file comes before a named
    model; see `registry.find_named_model`.
    """
    if str(path) == GENERAL_MODEL_NAME:
        return GENERAL_MODEL
    if os.path.lexists(path):
        return Path(path)
    named = find_named_model(str(path))
    if named is None and str(path) == FILAMENT_MODEL_NAME:
        return GENERAL_FILAMENT_MODEL
    return Path(path) if named is None else named


def load_model_or_general(path: str | Path) -> Model:
    """Load a model of particles by its file or its name; see `find_model_file`."""
    return load_model(find_model_file(path))


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


def load_filament_model_or_general(path: str | Path | None) -> FilamentModel:
    """Load a model of filaments by its file or its name; None is the general filament model.

    Raises
    ------
    BadInput
        If the file cannot be used, or is a model of particles.
    """
    if path is None:
        return load_filament_model(GENERAL_FILAMENT_MODEL)
    if str(path) == GENERAL_MODEL_NAME:
        raise BadInput(
            f"{GENERAL_MODEL_NAME} is the general model of particles; leave out the model, or"
            f" give {FILAMENT_MODEL_NAME}, for the general filament model",
            parameter="model",
        )
    return load_filament_model(find_model_file(path))


def load_filament_model_for_picking(
    path: str | Path | None, width_angstrom: float | None
) -> FilamentModel:
    """Load a model of filaments with the width to find, its own or the given one.

    Raises
    ------
    BadInput
        If the width is missing or not allowed, or the file cannot be used.
    """
    general = path is None or str(path) == FILAMENT_MODEL_NAME
    name = "the general filament model" if general else str(path)
    return set_width(load_filament_model_or_general(path), width_angstrom, name)
