"""The recipes that have a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heliodor.errors import BadInput
from heliodor.training.settings import TrainingSettings

#: The paper's (Methods 3 to 7) where it gives them; the number of updates and the constant rate
#: are those of its authors' program.
PAPER = TrainingSettings(
    network="conv31",
    width=32,
    objective="ge-binomial",
    autoencoder="auto",
    epoch_updates=1000,
    epochs=10,
    batch=256,
    positives=16,
    side=1,
    near=0.0,
    start_at_prior=False,
    learning_rate=2e-4,
    schedule="constant",
    weight_decay=0.0,
)

RECIPES = {
    "fast": TrainingSettings(),
    "paper": PAPER,
}

#: A hundred updates, however many labels: `--effort quick`.
QUICK: dict[str, Any] = {"epochs": 2}
#: And from a model: with smaller minibatches, closer to what the model predicted before, and
#: without the first layers, which detect edges and blobs.
QUICK_FINE_TUNING: dict[str, Any] = {"batch": 32, "positives": 12, "freeze": 3, "keep": 10.0}


def recipe(name: str, **given: Any) -> TrainingSettings:
    """Return a recipe with what the user chose in place of its own; None is not a choice.

    Raises
    ------
    BadInput
        If there is no such recipe, a value is not possible, or the recipe has no such effort.
    """
    if name not in RECIPES:
        instead = "; use --effort quick" if name == "quick" else ""  # earlier versions had it
        raise BadInput(
            f"the recipe must be one of {', '.join(RECIPES)}, not {name!r}{instead}",
            parameter="recipe",
        )
    chosen = {k: v for k, v in given.items() if v is not None}
    effort = chosen.get("effort", "normal")
    if name == "paper" and effort != "normal":
        raise BadInput(
            "the recipe paper has one number of updates; leave out --effort, or give --epochs",
            parameter="effort",
        )
    return replace(RECIPES[name], **((QUICK if effort == "quick" else {}) | chosen))
