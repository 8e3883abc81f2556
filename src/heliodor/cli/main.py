"""The command line: one command is one function of the library, and nothing more.

Modules that take long to import are imported inside the commands, so ``--help`` is instant.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from heliodor import __version__
from heliodor.cli import coordinates, picking, simulate
from heliodor.cli.app import app as open_app
from heliodor.cli.habits import find_command_hint
from heliodor.cli.judge import judge
from heliodor.cli.models import model_app
from heliodor.cli.options import Only, flag, out_option, register, sentence_of
from heliodor.cli.relion import relion
from heliodor.cli.session import command_line, end
from heliodor.errors import BAD_INPUT, BadInput
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.process_setup import OUTPUT_ERRORS
from heliodor.utils.signals import (
    SIGNAL_EXIT_BASE,
    Stopped,
    handle_signals,
)
from heliodor.utils.threads import limit_blas_threads

log = logging.getLogger(__name__)

#: Options that take any number of values, as a shell's expanded pattern gives them.
_MANY = ("--micrographs", "--pick", "--mask")

app = typer.Typer(
    help="Find the particles in cryoEM micrographs from a few labeled examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
app.add_typer(relion, name="relion")
app.add_typer(model_app, name="model")


def _version(value: bool) -> None:
    if value:
        print(f"heliodor {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def demo(
    compute: Annotated[ComputeSettings, Only(("device", "threads"))],
    out: Annotated[Path, out_option("Folder for the results.", "demo")] = Path("demo"),
    no_open: Annotated[
        bool,
        flag("--no-open", "Do not open the report in a browser, even on a desktop.", "Output"),
    ] = False,
) -> None:
    """Simulate micrographs, label 100 particles, and do the whole job on them."""
    from heliodor.workflows.demo import demo as run_demo
    from heliodor.workflows.demo import open_report

    failures = run_demo(out, compute, command_line()).record.failures
    if not no_open:
        open_report(out)
    end(failures)


def doctor(
    as_json: Annotated[bool, flag("--json", "Print JSON, not a table.", "Output")] = False,
) -> None:
    """Show what this computer has, what is wrong with it, and how to fix that.

    Versions, threads and why, memory, the speed of each device, models, folders and other
    programs. The exit code is 1 if something is wrong.
    """
    from heliodor.workflows.doctor import as_json as make_json
    from heliodor.workflows.doctor import examine, render_findings

    findings = examine()
    console.show_result(
        json.dumps(make_json(findings), indent=2) if as_json else render_findings(findings)
    )
    if any(finding.problem for finding in findings):
        raise typer.Exit(1)


register(app, picking.run)
register(app, picking.train)
register(app, picking.pick)
register(app, picking.watch)
register(app, picking.merge)
register(app, picking.status)
register(app, picking.cancel)
register(app, open_app)
register(app, coordinates.evaluate)
register(app, judge)
register(app, coordinates.convert)
register(app, coordinates.check)
register(app, coordinates.suggest)
register(app, picking.preprocess)
register(app, picking.rerun)
register(app, simulate.simulate)
register(app, demo)
register(app, doctor)


def _expand_home(word: str) -> str:
    """Return a word with ~ as the home folder where the shell leaves it: after = and @."""
    start, _, path = word.rpartition("~/")
    is_path = start in ("", "@") or (start.startswith("--") and start.endswith(("=", "=@")))
    is_meant = "~/" in word and is_path and not os.path.exists(f"~/{path}")
    return start + os.path.expanduser(f"~/{path}") if is_meant else word


def _gather_values(arguments: list[str]) -> list[str]:
    """Repeat an option before each of its values: ``--micrographs a b`` for ``*.mrc``."""
    out: list[str] = []
    many: str | None = None
    for argument in arguments:
        if argument.startswith("-"):
            many = argument if argument in _MANY else None
            out.append(argument)
        elif many is not None and out[-1] != many:
            out += [many, argument]
        else:
            out.append(argument)
    return out


def main(restore_signals: bool = True) -> None:
    """Run the command line; a `BadInput` becomes its sentence and exit code 2.

    Parameters
    ----------
    restore_signals
        Whether signals are handled as before when a signal has stopped the command; not where the
        process then ends.
    """
    limit_blas_threads()
    console.show_messages()
    # Python would look through all that was imported for garbage once more as it ends, which
    # takes a small command a sixth of its time.
    atexit.register(gc.freeze)
    try:
        with handle_signals(restore_signals), console.notes_shown_once():
            words = [_expand_home(word) for word in sys.argv[1:]]
            if (hint := find_command_hint(words)) is not None:
                raise BadInput(hint)
            app(_gather_values(words), prog_name="heliodor")
    except Stopped as stopped:
        from heliodor.utils.prefetch import has_running_threads

        log.error(f"heliodor: {stopped}; what was done is kept")
        if has_running_threads():  # Python would wait for threads whose results nobody will take
            sys.stdout.flush()
            os._exit(SIGNAL_EXIT_BASE + stopped.number)
        raise
    except BadInput as error:
        log.error(f"heliodor: {sentence_of(error)}")
        sys.exit(BAD_INPUT)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        log.error("heliodor: the device has too little memory; give --device cpu")
        sys.exit(BAD_INPUT)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:
            log.error(f"heliodor: {error.filename} cannot be used ({error.strerror})")
        elif error.errno in OUTPUT_ERRORS:
            log.error(f"heliodor: the output cannot be written ({error.strerror})")
        else:
            raise
        sys.exit(BAD_INPUT)
