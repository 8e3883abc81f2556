"""What all commands do around their work: the command line, resuming, and the exit code."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from heliodor.cli.options import Typed
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.picking.settings import refuse_without_contaminants

if TYPE_CHECKING:
    from heliodor.models.model_file import Model

log = logging.getLogger(__name__)


def command_line() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["heliodor", *sys.argv[1:]])


def should_resume(when: str) -> bool:
    """Return whether to resume an interrupted run; refuse anything but auto and never."""
    if when not in ("auto", "never"):
        raise BadInput(f"--resume must be auto or never, not {when!r}")
    return when == "auto"


def check_bad_areas(typed: Typed, load: Callable[[], Model | None]) -> None:
    """Refuse ``--bad-areas``, even with its default value, where it has no meaning.

    Parameters
    ----------
    load
        Loads the model to pick with, None if it is trained from scratch; called only if the
        option was typed.
    """
    if "bad_areas" in typed.names:
        model = load()
        if model is None or not model.card.contaminant:
            refuse_without_contaminants("bad_areas")


def load_picking_model(path: str | None) -> Model:
    """Return the model of a file, by default the general model."""
    from heliodor.models.pretrained import GENERAL_MODEL_NAME, load_model_or_general

    return load_model_or_general(GENERAL_MODEL_NAME if path is None else path)


def end(failures: Sequence[Any]) -> None:
    """End a command with its exit code: some micrographs may have failed."""
    if failures:
        log.info(f"{len(failures)} micrographs failed; see failed.tsv in the output folder")
        raise typer.Exit(SOME_FAILED)
