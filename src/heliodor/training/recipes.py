"""Recipes: everything that is chosen about a training, and the choices that have a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from heliodor.errors import BadInput
from heliodor.models.networks import check
from heliodor.training.objectives import objective

Schedule = Literal["one-cycle", "constant"]
Precision = Literal["auto", "float32", "bf16"]

#: Labelled particles for which one more epoch is worth its while, from scratch and from a model.
LABELS_AN_EPOCH, LABELS_AN_EPOCH_MORE = 20, 40


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults are the `fast` recipe."""

    network: str = "resnet8"
    width: int = 16
    #: Share of each layer's features that an update sets to zero at random.
    dropout: float = 0.0
    #: Batch normalisation in every layer.
    norm: bool = True
    objective: str = "pn-balanced"
    #: lambda, the weight of a generalised-expectation objective's penalty; None: its own.
    penalty_weight: float | None = None
    #: Weight of the autoencoder's error; auto: 10 / N where N, the labelled particles, are 250
    #: or fewer, else 0 (Bepler et al., Results 4).
    autoencoder: float | Literal["auto"] = 0.0
    #: Minibatches (updates of the weights) of an epoch, and the number of epochs.
    #: auto: one epoch for twenty labelled particles (forty, where a model is the start), but 2 at
    #: least and 10 at most. With few labels a network soon knows them by heart and takes their
    #: like for background.
    epoch_updates: int = 50
    epochs: int | Literal["auto"] = "auto"
    #: Tiles of a minibatch, how many of them are drawn for labelled regions, and the outputs
    #: along a tile's side: with 1 a tile is one region.
    batch: int = 64
    positives: int = 24
    side: int = 3
    #: Share of the unlabelled regions beside labelled ones, in the same tiles, that count.
    near: float = 0.3
    #: Whether the untrained network predicts the class prior instead of one half.
    start_at_prior: bool = True
    #: Peak of the one-cycle schedule, or the constant rate.
    learning_rate: float = 3e-3
    schedule: Schedule = "one-cycle"
    weight_decay: float = 1e-2
    #: Half of this times the sum of all squared weights is added to the loss. It is not the
    #: weight decay above, which passes the optimiser's step sizes by.
    l2: float = 0.0
    #: Where the weights come from: scratch, general (the shipped model), or a model's file.
    start: str = "scratch"
    #: Weight of the distance to what the start says of unlabelled regions, as a cross entropy, up
    #: to thirty labelled particles; with more labels it falls in proportion. And the weight of
    #: the distance to what it says of contaminants, where it knows them.
    keep: float = 0.0
    keep_contaminant: float = 0.1
    #: Convolutional layers, from the first on, whose weights stay as the start's are.
    freeze: int = 0
    #: Of the network's products and features: bf16 rounds them to eight bits, sums in float32
    #: all the same, and is twice as fast where a processor has it. The weights stay float32.
    #: auto: bf16 on GPUs that have it, else float32.
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.network, self.width, self.dropout)
        objective(self.objective, self.penalty_weight)
        if self.epoch_updates < 1 or (self.epochs != "auto" and self.epochs < 1):
            raise BadInput("training needs at least one epoch of one update")
        if not 1 <= self.positives < self.batch:
            raise BadInput("a minibatch needs at least one labelled and one unlabelled region")
        if not 1 <= self.side <= 64:
            raise BadInput(f"a tile must have 1 to 64 outputs along a side, not {self.side}")
        if not 0 <= self.near <= 1:
            raise BadInput(f"the share of near regions must be 0 to 1, not {self.near:g}")
        if self.autoencoder != "auto" and not 0 <= self.autoencoder < 1e6:
            raise BadInput(
                f"the autoencoder's weight must be 0 or more, or auto, not {self.autoencoder:g}"
            )
        if self.schedule not in get_args(Schedule):
            raise BadInput(f"the schedule {self.schedule!r} is none of {get_args(Schedule)}")
        if self.precision not in get_args(Precision):
            raise BadInput(f"the precision {self.precision!r} is none of {get_args(Precision)}")
        if not 0 < self.learning_rate <= 1:
            raise BadInput(f"a learning rate of {self.learning_rate:g} is not between 0 and 1")
        if not 0 <= self.weight_decay <= 1:
            raise BadInput(f"a weight decay of {self.weight_decay:g} is not between 0 and 1")
        for value in (self.keep, self.keep_contaminant):
            if not 0 <= value < 1e6:
                raise BadInput(f"the weight of what a start says must be 0 or more, not {value:g}")
        if self.freeze < 0:
            raise BadInput(f"the layers to freeze must be 0 or more, not {self.freeze}")
        if not 0 <= self.l2 < 1e6:
            raise BadInput(f"the weight of the squared weights must be 0 or more, not {self.l2:g}")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"the seed must be 0 or more, and below 2^63, not {self.seed}")

    def epochs_for(self, labelled: int) -> int:
        """Return the number of epochs for a number of labelled particles."""
        if self.epochs != "auto":
            return self.epochs
        each = LABELS_AN_EPOCH if self.start == "scratch" else LABELS_AN_EPOCH_MORE
        return min(10, max(2, round(labelled / each)))


#: The paper's (Methods 3 to 7) where it says; the number of updates and the constant rate are its
#: authors' program's.
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
    #: A hundred updates, however many labels: to see soon how they do.
    "quick": TrainingSettings(epochs=2),
    "paper": PAPER,
}


def recipe(name: str, **given: Any) -> TrainingSettings:
    """Return a recipe with what the user gave in place of its own; None is not given.

    Raises
    ------
    BadInput
        If there is no such recipe, or a value cannot be.
    """
    if name not in RECIPES:
        raise BadInput(f"the recipe {name!r} is none of {', '.join(RECIPES)}")
    return replace(RECIPES[name], **{k: v for k, v in given.items() if v is not None})
