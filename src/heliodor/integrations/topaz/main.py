"""The executable ``heliodor-topaz``: each of Topaz's commands is one function of this package.

What a command needs is imported only as it starts: hosts ask for the version and the help, and
RELION starts one process a micrograph.
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
from heliodor.utils.threads import limit_blas_threads

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

#: Where the function of each command is, in modules of this package.
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
        The arguments behind the program's name [those of this process].

    Returns
    -------
    int
        0 when done, 2 after a sentence where something given cannot be used, 3 when done but
        for some micrographs.
    """
    limit_blas_threads()
    console.show_messages()
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        names = parser.find_options_without_effect(args)
        if names:
            log.info(f"# note: no effect here: {', '.join(names)}")
        code = _report_bad_input(_run_in_worker, args)
        return run_command(args) if code is None else code
    except BrokenPipeError:
        # Whoever read the results, as head does, has had enough of them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line as `arguments.parse` does; where picking is given no model, name one."""
    args = parser.parse(argv)
    if args.command == "extract" and "model" not in args.given:
        from heliodor.integrations.topaz.model_lookup import default_model

        args.model = default_model(args.model)
    return args


def run_command(args: argparse.Namespace) -> int:
    """Do a command in this process, and return its exit code."""
    code = _report_bad_input(_run_here, args)
    assert code is not None
    return code


def _report_bad_input(
    function: Callable[[argparse.Namespace], int | None], args: argparse.Namespace
) -> int | None:
    """Call a function, and say what it refuses."""
    try:
        return function(args)
    except BadInput as error:
        log.info(f"# error: {error}")
        return BAD_INPUT


def _run_here(args: argparse.Namespace) -> int:
    if args.command in parser.MISSING_COMMANDS:
        raise BadInput(f"{args.command} is not there: {parser.MISSING_COMMANDS[args.command]}")
    module, function = COMMANDS[args.command].split(".")
    package = importlib.import_module(f"heliodor.integrations.topaz.{module}")
    result: int = getattr(package, function)(args)
    return result


def _run_in_worker(args: argparse.Namespace) -> int | None:
    """Have a worker do the command, if there is one for it."""
    if args.command != "extract" or os.name != "posix":
        return None
    from heliodor.integrations.topaz.worker import client

    return client.extract(args)
