"""The general model: one that finds particles it has never seen, given their diameter alone.

It was trained on simulated micrographs, brought to a pixel size of which the particle's diameter
is always as many; lengths in its card are in units of such a pixel, until a diameter is said.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput
from heliodor.models import GENERAL_MODEL
from heliodor.models.model_file import (
    Model,
    load_model,
)

#: What it is called where a model is named, and what means none at all.
GENERAL_MODEL_NAME, FROM_SCRATCH = "general", "scratch"


def load_general_model() -> Model:
    """Return the shipped model, which serves any diameter."""
    return load_model(GENERAL_MODEL)


def load_model_or_general(path: str | Path) -> Model:
    """Return the model of a file, or that which is shipped for the word general."""
    return load_general_model() if str(path) == GENERAL_MODEL_NAME else load_model(path)


def rescale_to_diameter(model: Model, diameter_angstrom: float) -> Model:
    """Return a model that serves any diameter as one for particles of this diameter.

    Parameters
    ----------
    model
        One of which `ModelCard.any_diameter` is true.

    Raises
    ------
    BadInput
        If no particle can have that diameter.
    """
    card = model.card
    scale = check_diameter(diameter_angstrom) / card.diameter_angstrom
    lengths = ("diameter", "working_pixel_size", "training_radius")
    own = {f"{name}_angstrom": getattr(card, f"{name}_angstrom") * scale for name in lengths}
    return Model(model.network, replace(card, any_diameter=False, **own))


def load_model_for_picking(path: str | Path | None, diameter_angstrom: float | None) -> Model:
    """Return the model to pick with.

    Parameters
    ----------
    path
        A model's file; None, or the word general, for the one that is shipped.
    diameter_angstrom
        The particle's, which a model that serves any diameter needs, and no other takes.

    Raises
    ------
    BadInput
        If the diameter is missing or one too many, or the file cannot be used.
    """
    model = load_model_or_general(GENERAL_MODEL_NAME if path is None else path)
    name = "the general model" if path is None or str(path) == GENERAL_MODEL_NAME else str(path)
    if not model.card.any_diameter:
        if diameter_angstrom is not None:
            raise BadInput(
                f"{name} was trained on particles of {model.card.diameter_angstrom:g} A and picks"
                " such; leave --diameter out, or --model, to pick with the general model"
            )
        return model
    if diameter_angstrom is None:
        raise BadInput(
            f"{name} picks particles of any size and needs the longest diameter of yours, in"
            " angstrom",
            parameter="diameter",
        )
    return rescale_to_diameter(model, diameter_angstrom)
