"""The general model: one that finds particles it has never seen, given their diameter alone.

It was trained on simulated micrographs, brought to a pixel size of which the particle's diameter
is always as many; lengths in its card are in units of such a pixel, until a diameter is said.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput
from heliodor.models import GENERAL_MODEL
from heliodor.models.model_file import (
    Model,
    ModelCard,
    load_model,
)
from heliodor.training.recipes import TrainingSettings

#: What it is called where a model is named, and what means none at all.
NAME, SCRATCH = "general", "scratch"
#: What is chosen of a network by the model that it starts from.
OF_START = ("network", "width", "norm")

#: What a training does otherwise that does not begin with nothing.
FINE_TUNING: dict[str, Any] = {"learning_rate": 1e-3, "keep": 0.3}


def general_model() -> Model:
    """Return the shipped model, which serves any diameter."""
    return load_model(GENERAL_MODEL)


def opened(path: str | Path) -> Model:
    """Return the model of a file, or that which is shipped for the word general."""
    return general_model() if str(path) == NAME else load_model(path)


def for_diameter(model: Model, diameter_angstrom: float) -> Model:
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


def model_for(path: str | Path | None, diameter_angstrom: float | None) -> Model:
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
    model = opened(NAME if path is None else path)
    name = "the general model" if path is None or str(path) == NAME else str(path)
    if not model.card.any_diameter:
        if diameter_angstrom is not None:
            raise BadInput(
                f"{name} was trained on particles of {model.card.diameter_angstrom:g} A and picks"
                " such; leave --diameter out, or --model, to pick with the general model"
            )
        return model
    if diameter_angstrom is None:
        raise BadInput(
            f"{name} picks particles of any size, so give the longest diameter of yours with"
            " --diameter, in angstrom"
        )
    return for_diameter(model, diameter_angstrom)


def start_of(settings: TrainingSettings) -> Model | None:
    """Return the model that a training starts from, or None where it starts from nothing.

    Raises
    ------
    BadInput
        If its file cannot be used, or its network is another than that of the settings.
    """
    if settings.start == SCRATCH:
        return None
    model = opened(settings.start)
    _check_fit(model.card, settings)
    return model


def _check_fit(card: ModelCard, settings: TrainingSettings) -> None:
    """Refuse a model to start from whose network is another than that of the settings."""
    for name in OF_START:
        own, wanted = getattr(card, name), getattr(settings, name)
        if own != wanted:
            raise BadInput(
                f"the model to start from has the {name} {own}, and {wanted} was chosen; leave"
                " that choice out, or give --from scratch"
            )


def starting(
    settings: TrainingSettings, start: str | None, chosen: Collection[str]
) -> TrainingSettings:
    """Return a recipe with where its weights come from.

    Parameters
    ----------
    settings
        The recipe with all that was chosen.
    start
        general, scratch or a model's file, as the user says; None takes the general model, unless
        something was chosen that it cannot have, or the recipe is of another network.
    chosen
        Names of what the user chose.

    Raises
    ------
    BadInput
        As `start_of` does.
    """
    if start == SCRATCH:
        return replace(settings, start=SCRATCH)
    card = opened(NAME if start is None else start).card
    own = {name: getattr(card, name) for name in OF_START}
    free = {name: value for name, value in own.items() if name not in chosen}
    if start is None:
        fits = all(own[name] == getattr(settings, name) for name in OF_START if name in chosen)
        if not fits or settings.network != card.network:
            return replace(settings, start=SCRATCH)
    started = replace(settings, start=NAME if start is None else str(start), **free)
    _check_fit(card, started)
    return replace(started, **{k: v for k, v in FINE_TUNING.items() if k not in chosen})
