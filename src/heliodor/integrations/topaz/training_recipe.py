"""How to learn: what the caller's options say, and whose defaults fill the gaps.

Each option that is given holds to the letter. Where none of those that settle how a network
learns is given, as in RELION's line, heliodor's fast recipe takes the place of Topaz's defaults,
since it is more accurate and many times faster. Where one is, its caller means Topaz's way of
learning, and gets it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from heliodor.conventions import WORKING_DIAMETER_PX
from heliodor.data.micrographs.modes import NormalizationMode
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION
from heliodor.errors import BadInput
from heliodor.models.networks import NETWORKS
from heliodor.training.recipes import PAPER, RECIPES
from heliodor.training.settings import TrainingSettings

#: Topaz's names of the objectives, and ours.
METHODS = {"PN": "pn", "GE-KL": "ge-kl", "GE-binomial": "ge-binomial", "PU": "nnpu"}
#: Any of these given: the caller has Topaz's way of learning in mind.
TRAINING_OPTIONS = (
    "method",
    "model",
    "learning_rate",
    "minibatch_size",
    "minibatch_balance",
    "epoch_size",
    "natural",
)
#: Topaz's defaults, as far as they are not the paper's.
TOPAZ = replace(PAPER, network="resnet8", autoencoder=0.0)
#: The saved epochs where the caller does not say; RELION looks for the tenth by name.
EPOCHS = 10


@dataclass(frozen=True)
class ChosenRecipe:
    """A recipe, and whether it is heliodor's own."""

    settings: TrainingSettings
    is_heliodor_recipe: bool
    #: Whether positive regions are to be drawn as often as they are labeled.
    natural: bool = False

    @property
    def diameter_px(self) -> float:
        """The particle's diameter, which no caller says: what the network works best at."""
        return WORKING_DIAMETER_PX[self.settings.network]

    @property
    def normalization(self) -> NormalizationMode:
        """Each image by itself, as hosts pick one at a time; Topaz's way takes them as given."""
        return "micrograph" if self.is_heliodor_recipe else "none"

    @property
    def flatten_px(self) -> float:
        """How far the slow background reaches that is subtracted."""
        return FLATTEN_FRACTION * self.diameter_px if self.is_heliodor_recipe else 0.0

    def settings_for(self, labeled: int, share: float) -> TrainingSettings:
        """Return the recipe for a number of labeled particles, in the epochs asked for.

        Parameters
        ----------
        labeled
            Labelled particles.
        share
            The share of all regions that is labeled.
        """
        settings, epochs = self.settings, self.settings.epochs
        assert epochs != "auto"
        if self.natural:
            drawn = min(max(1, round(settings.batch * share)), settings.batch - 1)
            settings = replace(settings, positives=drawn)
        if self.is_heliodor_recipe:
            fast = RECIPES["fast"]
            updates = fast.epochs_for(labeled) * fast.epoch_updates
            settings = replace(settings, epoch_updates=max(1, round(updates / epochs)))
        return settings


def choose_recipe(args: argparse.Namespace) -> ChosenRecipe:
    """Return the recipe that the options say.

    Raises
    ------
    BadInput
        If an option cannot be honored.
    """
    given = args.given
    _check(args)
    # A weight of the penalty means the objective that has one, Topaz's default.
    slack = args.slack if args.slack >= 0 else None
    own = not any(option in given for option in TRAINING_OPTIONS) and slack is None
    changes: dict[str, object] = {"epochs": args.num_epochs, "seed": 0}
    if "units" in given or not own:
        changes["width"] = args.units
    changes |= {"dropout": args.dropout, "autoencoder": args.autoencoder, "l2": args.l2}
    changes["norm"] = args.bn == "on"
    if own:
        return ChosenRecipe(replace(RECIPES["fast"], **changes), own)  # type: ignore[arg-type]
    changes |= {
        "network": args.model,
        "objective": METHODS[args.method],
        "penalty_weight": slack if args.method.startswith("GE") else None,
        "learning_rate": args.learning_rate,
        "batch": args.minibatch_size,
        "epoch_updates": args.epoch_size,
        "positives": min(
            max(1, round(args.minibatch_size * args.minibatch_balance)), args.minibatch_size - 1
        ),
    }
    return ChosenRecipe(replace(TOPAZ, **changes), own, args.natural)  # type: ignore[arg-type]


def _check(args: argparse.Namespace) -> None:
    """Refuse what is not there to be chosen."""
    if args.model not in NETWORKS:
        raise BadInput(
            f"-m {args.model} is none of the networks that can be trained here:"
            f" {', '.join(NETWORKS)}"
        )
    if args.method not in METHODS:
        raise BadInput(f"--method {args.method} is none of {', '.join(METHODS)}")
    if args.pooling not in (None, "", "none"):
        raise BadInput(f"--pooling {args.pooling}: the networks here have strides, not pooling")
    if args.unit_scaling != 2:
        raise BadInput(
            f"--unit-scaling {args.unit_scaling}: the networks here double their units; leave"
            " the option out"
        )
    if args.num_epochs < 1 or args.epoch_size < 1:
        raise BadInput("--num-epochs and --epoch-size must be 1 or more")
    if args.minibatch_size < 2:
        raise BadInput("--minibatch-size must be 2 or more: one labeled region and one other")
    if not 0 < args.minibatch_balance < 1:
        raise BadInput(f"--minibatch-balance {args.minibatch_balance:g} is not between 0 and 1")
    if args.radius < 0:
        raise BadInput(f"the training radius -r must be 0 or more pixels, not {args.radius}")
