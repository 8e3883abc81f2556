"""Where the weights of a training start: the general model, a model file, or random."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from heliodor.errors import BadInput
from heliodor.models.model_file import Model, ModelCard
from heliodor.models.pretrained import FROM_SCRATCH, GENERAL_MODEL_NAME, load_model_or_general
from heliodor.training.settings import TrainingSettings

#: What is chosen of a network by the model that it starts from.
FIXED_BY_START = ("network", "width", "norm")


#: What a training does otherwise that does not begin with nothing.
FINE_TUNING: dict[str, Any] = {"learning_rate": 1e-3, "keep": 0.3}


def load_start_model(settings: TrainingSettings) -> Model | None:
    """Return the model that a training starts from, or None where it starts from nothing.

    Raises
    ------
    BadInput
        If its file cannot be used, or its network is another than that of the settings.
    """
    if settings.start == FROM_SCRATCH:
        return None
    model = load_model_or_general(settings.start)
    _check_fit(model.card, settings)
    return model


def _check_fit(card: ModelCard, settings: TrainingSettings) -> None:
    """Refuse a model to start from whose network is another than that of the settings."""
    for name in FIXED_BY_START:
        own, wanted = getattr(card, name), getattr(settings, name)
        if own != wanted:
            raise BadInput(
                f"the model to start from has the {name} {own}, and {wanted} was chosen; leave"
                " that choice out, or give --from scratch"
            )


def choose_start(
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
        As `load_start_model` does.
    """
    if start == FROM_SCRATCH:
        return replace(settings, start=FROM_SCRATCH)
    card = load_model_or_general(GENERAL_MODEL_NAME if start is None else start).card
    own = {name: getattr(card, name) for name in FIXED_BY_START}
    free = {name: value for name, value in own.items() if name not in chosen}
    if start is None:
        fits = all(
            own[name] == getattr(settings, name) for name in FIXED_BY_START if name in chosen
        )
        if not fits or settings.network != card.network:
            return replace(settings, start=FROM_SCRATCH)
    started = replace(settings, start=GENERAL_MODEL_NAME if start is None else str(start), **free)
    _check_fit(card, started)
    return replace(started, **{k: v for k, v in FINE_TUNING.items() if k not in chosen})
