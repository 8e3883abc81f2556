"""What commands do around their work: the command line, resuming, clusters, the exit code."""

from __future__ import annotations

import importlib.util
import logging
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from heliodor.errors import SOME_FAILED, BadInput
from heliodor.utils import console
from heliodor.utils.console import count_of

if TYPE_CHECKING:
    from heliodor.workflows.cluster_jobs import Outcome

log = logging.getLogger(__name__)


def command_line() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["heliodor", *sys.argv[1:]])


def should_resume(when: str) -> bool:
    """Return whether to resume an interrupted run; refuse anything but auto and never."""
    if when not in ("auto", "never"):
        raise BadInput(f"--resume must be auto or never, not {when!r}")
    return when == "auto"


def end(failures: Sequence[Any], is_listed: bool = True) -> None:
    """End a command with its exit code: some micrographs may have failed.

    Parameters
    ----------
    is_listed
        Whether there is a list of those that failed.
    """
    if failures:
        see = (
            "see failed.tsv in the output folder" if is_listed else "merging the parts lists them"
        )
        log.info(f"{count_of(len(failures), 'micrograph')} failed; {see}")
        raise typer.Exit(SOME_FAILED)


def import_jobs() -> ModuleType:
    """Return the module that starts processes, which needs a library that is optional."""
    if importlib.util.find_spec("submitit") is None:
        raise BadInput(
            "the processes of --cluster are started with submitit, which is not installed; install"
            " 'heliodor[cluster]', or start the processes yourself (several with pick --part)"
        )
    from heliodor.workflows import cluster_jobs

    return cluster_jobs


def show_outcome(outcome: Outcome) -> None:
    """Print the job scripts, if they were only to be shown, and end with the exit code."""
    if outcome.scripts:
        console.show_result(outcome.scripts)
    end(outcome.failed)
