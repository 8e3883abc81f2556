"""The command line of Topaz 0.3.20, as host programs (RELION, cryoSPARC, Scipion) write it.

It is parsed by argparse, because hosts rely on how argparse treats ``--option=value``,
abbreviations, negative numbers and ``@file``. Names, types and defaults are those of Topaz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from heliodor import __version__
from heliodor.integrations.topaz import (
    options_files,
    options_picking,
)
from heliodor.integrations.topaz.option_groups import (
    CONDITIONAL_OPTIONS,
    OPTIONS_WITHOUT_EFFECT,
    CommandParser,
    Commands,
)

PROGRAM = "heliodor-topaz"
#: The Topaz version of this command line; hosts choose their options by it.
TOPAZ_VERSION = "0.3.20"

#: Commands by the heading under which the help lists them.
GROUPS: dict[str, Commands] = {
    "Particle picking": options_picking.COMMANDS,
    "Images": options_files.IMAGE_COMMANDS,
    "Files": options_files.FILE_COMMANDS,
    "Deprecated": options_files.DEPRECATED,
}

#: Commands that are not available, with what to use instead.
MISSING_COMMANDS = {
    "denoise": "heliodor has no denoiser and picks micrographs as they are; use Topaz itself to"
    " denoise",
    "denoise3d": "heliodor has no denoiser for volumes; use Topaz itself",
    "gui": "Topaz's window only builds command lines; see heliodor-topaz COMMAND --help for the"
    " options, or use heliodor app",
    "particle_stack": "heliodor does not extract particles; convert the picks to STAR and extract"
    " with relion_preprocess or cryoSPARC",
}


class _ArgumentFileParser(argparse.ArgumentParser):
    """A parser that skips blank lines of ``@file``."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return [arg_line] if arg_line.strip() else []


class _VersionAction(argparse.Action):
    """Print the version of Topaz (hosts parse the line), and on a terminal also heliodor's."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        own = f" (heliodor {__version__})" if sys.stdout.isatty() else ""
        print(f"{TOPAZ_VERSION}{own}")
        parser.exit()


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, CommandParser]]:
    """Return the parser of the whole command line, and the parser of each command."""
    parser = _ArgumentFileParser(
        prog=PROGRAM,
        description=_description(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument(
        "--version",
        action=_VersionAction,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and exit",
    )
    subparsers = parser.add_subparsers(
        dest="command", metavar="<command>", required=True, parser_class=CommandParser
    )
    commands: dict[str, CommandParser] = {}
    for group in GROUPS.values():
        for name, (about, add_options) in group.items():
            commands[name] = subparsers.add_parser(name, description=f"{_capitalize(about)}.")
            add_options(commands[name])
    for name in MISSING_COMMANDS:
        commands[name] = subparsers.add_parser(name, add_help=False)
        commands[name].is_missing = True
    return parser, commands


def _description() -> str:
    width = max(len(name) for group in GROUPS.values() for name in group)
    lines = [f"The commands and options of Topaz, implemented by heliodor {__version__}.", ""]
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:{width}}  {about}" for name, (about, _) in group.items()]
    lines += ["", f"Not available: {', '.join(MISSING_COMMANDS)}."]
    lines += ["An argument @FILE is replaced by the lines of FILE, one argument per line."]
    return "\n".join(lines)


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Parameters
    ----------
    argv
        The arguments after the program's name.

    Returns
    -------
    argparse.Namespace
        The options by their long names, with ``_`` for ``-``; `command`; `defaults`, the defaults
        of Topaz; and `given`, the set of options that the command line contains.

    Raises
    ------
    SystemExit
        As argparse does: 2 after an error message, 0 after help.
    """
    parser, commands = build_parser()
    args = parser.parse_args(argv)
    given = set(vars(args)) - {"command"}
    for dest, value in commands[args.command].defaults.items():
        if dest not in given:
            setattr(args, dest, value)
    args.given, args.defaults = given, commands[args.command].defaults
    return args


def find_options_without_effect(args: argparse.Namespace) -> list[str]:
    """Return the long names of the options that were given but have no effect."""
    alone, beside = (
        OPTIONS_WITHOUT_EFFECT.get(args.command, {}),
        CONDITIONAL_OPTIONS.get(args.command, {}),
    )
    return [
        f"--{dest if dest.startswith('filaments_') else dest.replace('_', '-')}"
        for dest, value in vars(args).items()
        if dest in args.given
        and (
            (dest in alone and value not in alone[dest])
            or (dest in beside and value != args.defaults[dest] and not beside[dest](args))
        )
    ]
