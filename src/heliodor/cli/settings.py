"""From a command's options to the library's settings, and from its outcome to the exit code.

The commands call these with their own ``locals()``: an option's name is the same everywhere.
Imports are inside the functions, so that ``--help`` is instant.
"""

from __future__ import annotations

import logging
import shlex
import sys
from typing import Any

import typer

from heliodor.errors import SOME_FAILED, BadInput

log = logging.getLogger(__name__)


def data_settings(options: dict[str, Any]) -> Any:
    """Return the settings of a training set."""
    from heliodor.training.dataset import DataSettings

    flatten = options["flatten"]
    if flatten is None and options["recipe"] == "paper":
        flatten = 0.0
    return DataSettings(
        diameter_angstrom=options["diameter"],
        expected_particles=options["expected_particles"],
        training_radius_angstrom=options["training_radius"],
        working_pixel_size_angstrom=options["working_pixel_size"],
        pixel_size_angstrom=options["pixel_size"],
        normalization=options["normalization"],
        flatten_angstrom=flatten,
        validation_share=options["validation_share"],
        seed=options["seed"],
        check_frame=not options["trust_labels"],
    )


def recipe_settings(options: dict[str, Any]) -> Any:
    """Return the recipe, with what was given in place of its own."""
    from heliodor.training.initialization import choose_start
    from heliodor.training.recipes import recipe

    names = (
        "network",
        "width",
        "dropout",
        "objective",
        "autoencoder",
        "epoch_updates",
        "epochs",
        "learning_rate",
        "seed",
    )
    given = {name: options[name] for name in names if options[name] is not None}
    settings = recipe(options["recipe"], **given)
    start = options["start"]
    if start is None and options["recipe"] == "paper":
        start = "scratch"
    if start is None and options["working_pixel_size"] is not None:
        start = "scratch"  # at another scale than a model knows
    return choose_start(settings, start, given)


def pick_settings(options: dict[str, Any]) -> Any:
    """Return how to pick."""
    from heliodor.picking.contamination import reject_contamination_option
    from heliodor.picking.settings import PickSettings

    how = options["bad_areas"]
    made = PickSettings(
        threshold=options["threshold"],
        max_fdr=options["max_fdr"],
        threshold_series=options["threshold_series"],
        exclusion_radius_angstrom=options["exclusion_radius"],
        edge_margin_angstrom=options["edge_margin"],
        scores=options["scores"],
        bad_areas="leave-out" if how is None else how,
        max_contamination=options["max_contamination"],
        bad_area_masks=options.get("bad_area_masks", False),
    )
    if how is not None:  # by name even what is usual is refused where it means nothing
        if not _tells_contaminants(options):
            reject_contamination_option("--bad-areas")
    return made


def computing(options: dict[str, Any]) -> Any:
    """Return where to compute."""
    from heliodor.utils.compute import Compute

    return Compute(options["device"], options["threads"], options.get("memory"))


def resuming(options: dict[str, Any]) -> bool:
    """Return whether to go on with what was cut short."""
    when = options["resume"]
    if when not in ("auto", "never"):
        raise BadInput(f"--resume must be auto or never, not {when!r}")
    return bool(when == "auto")


def typed() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["heliodor", *sys.argv[1:]])


def end(failures: list[Any]) -> None:
    """End a command with its exit code: some micrographs may have failed."""
    if failures:
        log.info(f"{len(failures)} micrographs failed; see failed.tsv in the output folder")
        raise typer.Exit(SOME_FAILED)


def _tells_contaminants(options: dict[str, Any]) -> bool:
    """Tell whether the model that is given, or the one that will be trained, knows bad areas."""
    from heliodor.models.pretrained import NAME, opened
    from heliodor.training.initialization import load_start_model

    if "model" in options:
        path = options["model"]
        return bool(opened(NAME if path is None else path).card.contaminant)
    start = load_start_model(recipe_settings(options))
    return start is not None and start.card.contaminant
