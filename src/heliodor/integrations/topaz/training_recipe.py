"""The training recipe that the options of `train` ask for, with the defaults of heliodor or Topaz.

Options that are given are always followed. If none of the options that define the training
method is given, as in RELION's command line, heliodor's fast recipe replaces Topaz's defaults,
because it is more accurate and many times faster. If one is given, the rest are Topaz's defaults.
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

#: Objectives: Topaz's names and heliodor's.
METHODS = {"PN": "pn", "GE-KL": "ge-kl", "GE-binomial": "ge-binomial", "PU": "nnpu"}
#: Options that select the recipe of Topaz if any of them is given.
TRAINING_OPTIONS = (
    "method",
    "model",
    "learning_rate",
    "minibatch_size",
    "minibatch_balance",
    "epoch_size",
    "natural",
)
#: Topaz's defaults, as far as they differ from the paper's.
TOPAZ = replace(PAPER, network="resnet8", autoencoder=0.0)
#: Default number of epochs; RELION looks for the model of the tenth by name.
EPOCHS = 10


@dataclass(frozen=True)
class ChosenRecipe:
    """A recipe, and whether it is that of heliodor or of Topaz."""

    settings: TrainingSettings
    is_heliodor_recipe: bool
    #: Whether positive regions are sampled as often as they are labeled.
    natural: bool = False

    @property
    def diameter_px(self) -> float:
        """Return the assumed particle diameter: the one at which the network works best."""
        return WORKING_DIAMETER_PX[self.settings.network]

    @property
    def normalization(self) -> NormalizationMode:
        """Return how images are normalized: each by itself, or not at all in Topaz's recipe."""
        return "micrograph" if self.is_heliodor_recipe else "none"

    @property
    def flatten_px(self) -> float:
        """Return the length scale of the background that is subtracted."""
        return FLATTEN_FRACTION * self.diameter_px if self.is_heliodor_recipe else 0.0

    def settings_for(self, labeled: int, share: float) -> TrainingSettings:
        """Return the recipe for a number of labeled particles and the chosen number of epochs.

        Parameters
        ----------
        labeled
            Number of labeled particles.
        share
            Fraction of all regions that is labeled.
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
    """Return the recipe that the options ask for.

    Raises
    ------
    BadInput
        If an option is invalid or not supported.
    """
    given = args.given
    _check(args)
    # A penalty weight implies an objective with a penalty, Topaz's default.
    slack = args.slack if args.slack >= 0 else None
    is_heliodor_recipe = not any(option in given for option in TRAINING_OPTIONS) and slack is None
    changes: dict[str, object] = {"epochs": args.num_epochs, "seed": 0}
    if "units" in given or not is_heliodor_recipe:
        changes["width"] = args.units
    changes |= {"dropout": args.dropout, "autoencoder": args.autoencoder, "l2": args.l2}
    changes["norm"] = args.bn == "on"
    if is_heliodor_recipe:
        return ChosenRecipe(replace(RECIPES["fast"], **changes), is_heliodor_recipe)  # type: ignore[arg-type]
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
    return ChosenRecipe(replace(TOPAZ, **changes), is_heliodor_recipe, args.natural)  # type: ignore[arg-type]


def _check(args: argparse.Namespace) -> None:
    """Check the options."""
    if args.model not in NETWORKS:
        raise BadInput(f"unknown network {args.model}; -m must be one of {', '.join(NETWORKS)}")
    if args.method not in METHODS:
        raise BadInput(f"--method must be one of {', '.join(METHODS)}, not {args.method}")
    if args.pooling not in (None, "", "none"):
        raise BadInput(
            f"--pooling {args.pooling} is not supported: the networks use strides; leave it out"
        )
    if args.unit_scaling != 2:
        raise BadInput(
            f"--unit-scaling must be 2, not {args.unit_scaling}: the networks double their units"
        )
    if args.num_epochs < 1 or args.epoch_size < 1:
        raise BadInput("--num-epochs and --epoch-size must be 1 or more")
    if args.minibatch_size < 2:
        raise BadInput(
            "--minibatch-size must be 2 or more: at least one positive and one unlabeled region"
        )
    if not 0 < args.minibatch_balance < 1:
        raise BadInput(
            f"--minibatch-balance must be between 0 and 1, not {args.minibatch_balance:g}"
        )
    if args.radius < 0:
        raise BadInput(f"the training radius -r must be 0 or more pixels, not {args.radius}")
