"""Starting weights of a training: the general model, a model file, or random."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from heliodor.errors import BadInput
from heliodor.models.model_file import Model, ModelCard
from heliodor.models.pretrained import FROM_SCRATCH, GENERAL_MODEL_NAME, load_model_or_general
from heliodor.training.recipes import QUICK_FINE_TUNING
from heliodor.training.settings import TrainingSettings

#: Settings of the network that the model it starts from decides.
FIXED_BY_START = ("network", "width", "norm")


#: Settings that differ when training starts from a model.
FINE_TUNING: dict[str, Any] = {"learning_rate": 1e-3, "keep": 0.3}
#: The default of own picks as labels, where training starts from a model.
OWN_PICKS = 0.9


def load_start_model(settings: TrainingSettings) -> Model | None:
    """Return the model that a training starts from, or None for random weights.

    Raises
    ------
    BadInput
        If its file cannot be used, or its network differs from that of the settings.
    """
    if settings.start == FROM_SCRATCH:
        if settings.own_picks:
            raise BadInput(
                "random starting weights have no picks to train on; leave out --own-picks, or"
                " start from a model",
                parameter="own_picks",
            )
        return None
    model = load_model_or_general(settings.start)
    _check_fit(model.card, settings)
    return model


def _check_fit(card: ModelCard, settings: TrainingSettings) -> None:
    """Raise BadInput if the network of the model to start from differs from the settings."""
    for name in FIXED_BY_START:
        own, wanted = getattr(card, name), getattr(settings, name)
        if own != wanted:
            raise BadInput(
                f"the model to start from has {name} {own}, not {wanted}; remove that setting or"
                " train from scratch"
            )


def choose_start(
    settings: TrainingSettings, start: str | None, chosen: Collection[str]
) -> TrainingSettings:
    """Return a recipe with its starting weights.

    Parameters
    ----------
    settings
        The recipe with everything the user chose.
    start
        general, scratch or a model's file; None takes the general model, unless something was
        chosen that it does not have, or the recipe has another network.
    chosen
        Names of what the user chose.

    Raises
    ------
    BadInput
        As `load_start_model` does, and if a thorough training does not start from the general
        model.
    """
    if start == FROM_SCRATCH:
        return _check_effort(replace(settings, start=FROM_SCRATCH))
    model = load_model_or_general(GENERAL_MODEL_NAME if start is None else start)
    card = model.card
    own = {name: getattr(card, name) for name in FIXED_BY_START}
    free = {name: value for name, value in own.items() if name not in chosen}
    if start is None:
        fits = all(
            own[name] == getattr(settings, name) for name in FIXED_BY_START if name in chosen
        )
        if not fits or settings.network != card.network:
            return _check_effort(replace(settings, start=FROM_SCRATCH))
    started = replace(settings, start=GENERAL_MODEL_NAME if start is None else str(start), **free)
    _check_fit(card, started)
    usual = {**FINE_TUNING, "own_picks": OWN_PICKS}
    if settings.effort == "quick":
        usual |= QUICK_FINE_TUNING
        usual["freeze"] = min(usual["freeze"], len(model.network.layers) - 1)
    return _check_effort(replace(started, **{k: v for k, v in usual.items() if k not in chosen}))


def _check_effort(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings; raise BadInput if they cannot be trained as thoroughly as asked."""
    if settings.effort == "thorough" and settings.start != GENERAL_MODEL_NAME:
        raise BadInput(
            "a thorough training starts from the general model; leave out --effort, or what makes"
            " it start elsewhere (--from, --network, --width, --working-pixel-size)",
            parameter="effort",
        )
    return settings
