"""From settings classes to the options of a command, and the options that are not settings.

A command is a function; a parameter whose type is a settings class stands for all its options
(see `heliodor.utils.settings`). What the classes declare is shown in the help under headings.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from heliodor.cli.habits import find_hint
from heliodor.cli.messages import MessageSettings
from heliodor.errors import BadInput
from heliodor.utils.settings import OptionField, build, options_of

#: The headings of a command's help, in this order.
GROUPS = (
    "Input",
    "Output",
    "Particle",
    "Training data",
    "Training",
    "Picking",
    "Filaments",
    "Corrections",
    "Evaluation",
    "Reconstruction",
    "Coordinates",
    "Specimen",
    "Imaging",
    "Compute",
    "Cluster",
    "Advanced training",
    "Advanced picking",
    "Messages",
    "Other",
)

#: What no command calls a parameter.
_MESSAGES = "_messages"

#: Click's error of an option that does not exist. Typer has a copy of Click or uses Click itself,
#: depending on its version.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

#: A function that the command line calls.
Command = Callable[..., Any]


def option_name(param: typer.CallbackParam) -> str:
    """Return an option as it is typed."""
    return max(param.opts, key=len)


def finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """Refuse nan and inf, which Python reads as numbers and no option means."""
    if value is not None and not math.isfinite(value):
        raise BadInput(f"{option_name(param)} must be a finite number, not {value:g}")
    return value


def _read_number(param: typer.CallbackParam, value: str, kind: type) -> float:
    try:
        return finite(param, kind(value))  # type: ignore[return-value]
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        what = "a whole number" if kind is int else "a number"
        raise BadInput(f"{option_name(param)} must be {what} or auto, not {value!r}") from error


def auto_or_number(
    param: typer.CallbackParam, value: str | None, kind: type, auto: str | None
) -> float | str | None:
    """Read a finite number, or `auto`, which stands for the value of that name."""
    if value is None:
        return None
    return auto if value == "auto" else _read_number(param, value, kind)


def number(metavar: str, what: str, group: str = "Other", default: str | None = None) -> Any:
    """Return an option that takes a finite number."""
    return typer.Option(
        metavar=metavar,
        help=_with_default(what, default),
        callback=finite,
        rich_help_panel=group,
        show_default=default is None,
    )


def choice(
    metavar: str, what: str, group: str = "Other", *names: str, default: str | None = None
) -> Any:
    """Return an option that takes a text."""
    return typer.Option(
        *names,
        metavar=metavar,
        help=_with_default(what, default),
        rich_help_panel=group,
        show_default=default is None,
    )


def flag(name: str, what: str, group: str = "Other") -> Any:
    """Return an option without a value."""
    return typer.Option(name, help=what, rich_help_panel=group)


def _with_default(what: str, default: str | None) -> str:
    return what if default is None else f"{what} [default: {default}]"


def _typer_option(name: str, each: OptionField) -> tuple[Any, Any]:
    """Return an option of settings as typer wants it: its annotation, and its default."""
    declared, value = each.option, each.default
    parts = [part.strip() for part in each.type.split(" | ")]
    is_optional = "None" in parts or value is None
    base: Any = next((t for t in (bool, int, float, Path) if t.__name__ in parts), str)
    if "list[str]" in parts:
        base = list[str]
    callback: Any = None
    default = declared.default
    if declared.parse is not None:
        callback = _parse_callback(declared.parse, value)
        base, is_optional, value = str, True, None
    elif base is bool:
        value = not value if declared.inverted else value
    elif declared.auto or "Literal['auto']" in parts:
        auto = None if declared.auto else "auto"
        callback = _auto_callback(int if base is int else float, auto)
        base, is_optional = str, True
        value = None if value == "auto" else value
    elif base is float:
        callback = finite
    if default is None and value not in (MISSING, None) and base is not bool:
        default = f"{value:g}" if isinstance(value, float) else str(value)
    info = typer.Option(
        f"--{(declared.name or name).replace('_', '-')}",
        metavar=declared.metavar,
        help=_with_default(declared.help, default),
        show_default=False,
        callback=callback,
        rich_help_panel=declared.group,
    )
    return Annotated[base | None if is_optional else base, info], (
        inspect.Parameter.empty if value is MISSING else value
    )


def _auto_callback(kind: type, auto: str | None) -> Callable[..., Any]:
    # A function, as typer looks at the names of a callback's parameters.
    def callback(param: typer.CallbackParam, value: str | None) -> float | str | None:
        return auto_or_number(param, value, kind, auto)

    return callback


def _parse_callback(parse: Callable[[str], Any], default: Any) -> Callable[..., Any]:
    def callback(value: str | None) -> Any:
        return default if value is None else parse(value)

    return callback


@dataclass(frozen=True)
class Only:
    """Says that a command takes only these options of a settings class, or all but some."""

    names: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def includes(self, name: str) -> bool:
        """Return whether a command takes an option."""
        return name not in self.but and (not self.names or name in self.names)


@dataclass(frozen=True)
class Positional:
    """Says that micrographs may be typed without ``--micrographs``."""

    help: str
    required: bool = True


class _Expansion:
    """The options that stand for the parameters of a command."""

    def __init__(self) -> None:
        self.parameters: list[inspect.Parameter] = []
        #: By the parameter of the command: its settings class and the names of the options.
        self.settings: dict[str, tuple[type, tuple[str, ...]]] = {}
        #: Where micrographs can be typed; None where they cannot.
        self.micrographs: Positional | None = None

    def add(self, name: str, annotation: Any, default: Any) -> None:
        """Add one option."""
        keyword = inspect.Parameter.KEYWORD_ONLY
        self.parameters.append(
            inspect.Parameter(name, keyword, annotation=annotation, default=default)
        )

    def add_settings(self, name: str, settings: type, only: Only) -> None:
        """Add the options of a settings class."""
        declared = {k: v for k, v in options_of(settings).items() if only.includes(k)}
        self.settings[name] = (settings, tuple(declared))
        for option, each in declared.items():
            self.add(option, *_typer_option(option, each))

    def add_micrographs(self, name: str, place: Positional) -> None:
        """Add micrographs, which may be typed with or without their option."""
        self.micrographs = place
        argument = typer.Argument(metavar="MICROGRAPHS", help=place.help, show_default=False)
        self.add("files", Annotated[list[str] | None, argument], None)
        option = typer.Option(
            f"--{name}",
            metavar="MICROGRAPHS",
            help="The same, as an option; takes several values.",
            rich_help_panel="Input",
            show_default=False,
        )
        self.add(name, Annotated[list[str] | None, option], None)

    def collect(self, context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the command from the values of the options."""
        if self.micrographs is not None:
            values["micrographs"] = _micrographs(
                values.pop("files"), values["micrographs"], self.micrographs.required
            )
        for name, (settings, options) in self.settings.items():
            values[name] = build(settings, {option: values.pop(option) for option in options})
        return values

    def signature(self) -> inspect.Signature:
        """Return the signature that typer reads: the context, then required options first."""
        context = inspect.Parameter(
            "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
        )
        ordered = sorted(self.parameters, key=lambda p: p.default is not inspect.Parameter.empty)
        return inspect.Signature([context, *ordered])


def expand(command: Command) -> Command:
    """Return a command with an option for each field of its settings, for typer to read."""
    hints = get_type_hints(command, include_extras=True)
    expansion = _Expansion()
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if isinstance(kind, type) and options_of(kind):
            only = next((extra for extra in extras if isinstance(extra, Only)), Only())
            expansion.add_settings(name, kind, only)
        elif place := next((extra for extra in extras if isinstance(extra, Positional)), None):
            expansion.add_micrographs(name, place)
        else:
            expansion.add(name, hint, parameter.default)
    expansion.add_settings(_MESSAGES, MessageSettings, Only())

    @wraps(command)
    def run(context: typer.Context, **values: Any) -> Any:
        arguments = expansion.collect(context, values)
        arguments.pop(_MESSAGES).apply()
        return command(**arguments)

    signature = expansion.signature()
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    del run.__wrapped__  # typer must not look behind it
    return run


def _micrographs(files: list[str] | None, option: list[str] | None, required: bool) -> list[str]:
    """Return the micrographs, which may be typed with or without ``--micrographs``."""
    if files and option:
        raise BadInput(
            f"micrographs were given with --micrographs and without ({files[0]}); give all of them"
            " one way"
        )
    micrographs = files or option or []
    if required and not micrographs:
        raise BadInput(
            "no micrographs were given; name files, folders, patterns, a RELION micrographs STAR"
            " file, a cryoSPARC .cs file or @list.txt"
        )
    return micrographs


class GroupedCommand(TyperCommand):
    """A command with options under headings in its help, and hints for those of other programs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; an option of another program gets a hint.

        Raises
        ------
        BadInput
            If there is no such option here, and it is known what is meant.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            known = {name for param in self.get_params(ctx) for name in param.opts}
            hint = find_hint(words, known)
            if hint is None:
                raise
            raise BadInput(hint) from error

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each heading."""
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in ("Arguments", *GROUPS)}
        for param in self.get_params(ctx):
            if (row := param.get_help_record(ctx)) is None:
                continue
            is_argument = param.param_type_name == "argument"
            panel = getattr(param, "rich_help_panel", None) or "Other"
            if is_argument:
                rows["Arguments"].append((row[0].rpartition(" <")[0] or row[0], row[1]))
            else:
                rows[panel].append(row)
        for heading, lines in rows.items():
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)


def register(app: typer.Typer, command: Command, name: str | None = None) -> None:
    """Add a command to an application."""
    app.command(name, cls=GroupedCommand)(expand(command))


_FILES = (
    "Micrographs: files, folders, patterns, a STAR file of RELION, a .cs file of cryoSPARC, or"
    " @list.txt."
)

Micrographs = Annotated[list[str], Positional(_FILES)]
#: None stands for those of the project.
MicrographsOfProject = Annotated[
    list[str] | None,
    Positional(f"{_FILES} Without them, the project in -o is reopened.", required=False),
]
Labels = Annotated[
    str,
    choice("FILE", "Coordinates of some particles, in any format that convert reads.", "Input"),
]
Negatives = Annotated[
    str | None,
    choice(
        "FILE",
        "Coordinates of negatives (things that are not particles) on the labeled micrographs; with"
        " --filaments, axes that are not filaments.",
        "Training data",
    ),
]
PixelSize = Annotated[
    float | None,
    number(
        "ANGSTROM",
        "Pixel size of the micrographs.",
        "Input",
        "from the STAR file, otherwise from the headers",
    ),
]
PickingModel = Annotated[
    str | None,
    choice(
        "FILE",
        "The model.safetensors that heliodor train wrote, or a name of heliodor model list.",
        "Picking",
        default="the general model, which needs --diameter but no training",
    ),
]
PickingDiameter = Annotated[
    float | None,
    number("ANGSTROM", "Longest diameter of the particle, for the general model.", "Particle"),
]
MatchDistance = Annotated[
    float | None,
    number(
        "ANGSTROM",
        "Maximum distance between a pick and a true particle to count as a match.",
        "Evaluation",
        "0.4 of the diameter",
    ),
]
Report = Annotated[
    bool,
    flag("--report", "Also write OUT/report.html: scores, counts, micrographs.", "Output"),
]
Adapt = Annotated[
    bool,
    flag(
        "--adapt",
        "First train the general model on its surest picks on up to 8 of these micrographs,"
        " without labels (about half a minute); keeps OUT/adapted.safetensors.",
        "Picking",
    ),
]
Resume = Annotated[
    str,
    choice(
        "WHEN",
        "auto: resume an interrupted run in OUT; never: start over.",
        "Output",
        default="auto",
    ),
]
Seed = Annotated[int, choice("S", "The same seed gives the same results.", "Compute", default="0")]
Threads = Annotated[
    int | None,
    choice("N", "Number of threads.", "Compute", default="the CPUs this process may use"),
]


def out_option(what: str, default: str | None = None) -> Any:
    """Return the option for a command's output."""
    return typer.Option(
        "-o",
        "--out",
        metavar="OUT",
        help=_with_default(what, default),
        rich_help_panel="Output",
        show_default=False,
    )


def sentence_of(error: BadInput) -> str:
    """Return what an error says on one line, with the option of the parameter it is about."""
    # A library's message, quoted in the sentence, may have had several lines.
    sentence = " ".join(str(error).split())
    if error.parameter is None:
        return sentence
    option = f"--{error.parameter.replace('_', '-')}"
    if option in sentence:
        return sentence
    stop = "." * sentence.endswith(".")
    return f"{sentence.removesuffix('.')} ({option}){stop}"
