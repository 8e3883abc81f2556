"""The executable ``heliodor-topaz``: each Topaz command is one function of this package.

A command's modules are imported only when it runs: host programs ask for the version and the help,
and RELION starts one process per micrograph.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from heliodor.errors import BAD_INPUT, BadInput
from heliodor.integrations.topaz import parser
from heliodor.utils import console
from heliodor.utils.process_setup import OUTPUT_ERRORS
from heliodor.utils.threads import limit_blas_threads

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

#: The function of each command, as module.function of this package.
COMMANDS = {
    "train": "train.train",
    "segment": "extract.segment",
    "extract": "extract.extract",
    "precision_recall_curve": "precision_recall.precision_recall_curve",
    "downsample": "preprocess.downsample",
    "normalize": "preprocess.preprocess",
    "preprocess": "preprocess.preprocess",
    "convert": "convert.convert",
    "split": "convert.split",
    "train_test_split": "convert.train_test_split",
    "scale_coordinates": "legacy_commands.scale_coordinates",
    "boxes_to_coordinates": "legacy_commands.boxes_to_coordinates",
    "star_to_coordinates": "legacy_commands.star_to_coordinates",
    "coordinates_to_star": "legacy_commands.coordinates_to_star",
    "coordinates_to_boxes": "legacy_commands.coordinates_to_boxes",
    "coordinates_to_eman2_json": "legacy_commands.coordinates_to_eman2_json",
    "star_particles_threshold": "legacy_commands.star_particles_threshold",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    argv
        The arguments after the program's name; None takes those of this process.

    Returns
    -------
    int
        0: success; 2: invalid input, after an error message; 3: some micrographs failed.
    """
    limit_blas_threads()
    console.show_messages()
    try:
        args = parse_arguments(sys.argv[1:] if argv is None else argv)
        names = parser.find_options_without_effect(args)
        if names:
            log.info(f"# note: no effect here: {', '.join(names)}")
        with console.notes_shown_once():
            code = _report_bad_input(_run_in_worker, args)
            return run_command(args) if code is None else code
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        log.info(f"# error: the output cannot be written ({error.strerror})")
        return BAD_INPUT


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line as `parser.parse` does, and choose a default model for `extract`."""
    args = parser.parse(argv)
    if args.command == "extract" and "model" not in args.given:
        from heliodor.integrations.topaz.model_lookup import default_model

        args.model = default_model(args.model)
    return args


def run_command(args: argparse.Namespace) -> int:
    """Run a command in this process, and return its exit code."""
    code = _report_bad_input(_run_here, args)
    assert code is not None
    return code


def _report_bad_input(
    function: Callable[[argparse.Namespace], int | None], args: argparse.Namespace
) -> int | None:
    """Call a function, and report invalid input as one line on standard error."""
    try:
        return function(args)
    except BadInput as error:
        log.info(f"# error: {error}")
        return BAD_INPUT


def _run_here(args: argparse.Namespace) -> int:
    if args.command in parser.MISSING_COMMANDS:
        raise BadInput(f"{args.command} is not available: {parser.MISSING_COMMANDS[args.command]}")
    module, function = COMMANDS[args.command].split(".")
    package = importlib.import_module(f"heliodor.integrations.topaz.{module}")
    result: int = getattr(package, function)(args)
    return result


def _run_in_worker(args: argparse.Namespace) -> int | None:
    """Let a worker run the command, if possible."""
    if args.command != "extract" or os.name != "posix":
        return None
    from heliodor.integrations.topaz.worker import client

    return client.extract(args)
