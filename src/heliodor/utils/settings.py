"""Settings declared once: a frozen dataclass whose fields carry their documentation.

The fields of a settings class say what they mean, in which unit, and what the default is. The
command line, the Python API, ``run.json`` and the command reference are made from them, so that a
new option is one field. This module is light, as ``heliodor --help`` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from heliodor.errors import BadInput

T = TypeVar("T")

_KEY = "option"
#: Units that end a field's name, and not the name of its option.
_UNITS = ("_angstrom", "_gb")


@dataclass(frozen=True)
class Option:
    """What users see of one field of a settings class."""

    help: str
    #: The heading it stands under in the help.
    group: str
    #: What stands for its value in the help; also names the unit, as in ANGSTROM.
    metavar: str | None
    #: The default in words, where it follows from something else.
    default: str | None
    #: Its name with underscores, where it is not the field's without the unit.
    name: str | None
    #: Whether None means that the program chooses, and `auto` is typed for it.
    auto: bool
    #: Whether the option, a flag, switches off what the field switches on.
    inverted: bool


def option(
    value: Any = MISSING,
    *,
    help: str,
    group: str,
    metavar: str | None = None,
    default: str | None = None,
    name: str | None = None,
    auto: bool = False,
    inverted: bool = False,
) -> Any:
    """Return a dataclass field that is also an option; see `Option`.

    Parameters
    ----------
    value
        The field's default; without one it is required.
    """
    made = Option(help, group, metavar, default, name, auto, inverted)
    return field(default=value, metadata={_KEY: made})


def options_of(settings: type) -> dict[str, tuple[Field[Any], Option]]:
    """Return the fields of a settings class that are options, by the option's name."""
    found = {}
    for each in fields(settings):
        if (declared := each.metadata.get(_KEY)) is not None:
            found[declared.name or _without_unit(each.name)] = (each, declared)
    return found


def _without_unit(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name


def build(settings: type[T], values: Mapping[str, Any], **rest: Any) -> T:
    """Return settings from the values of their options.

    Parameters
    ----------
    values
        By the names of options; those that are missing keep the field's default.
    rest
        Fields that are not options.

    Raises
    ------
    BadInput
        If there is no such option, or a value is not possible.
    """
    declared = options_of(settings)
    for name in values:
        if name not in declared:
            raise BadInput(
                f"there is no option {name!r}; the options are {', '.join(sorted(declared))}",
                parameter=name,
            )
    given = {
        declared[name][0].name: not value if declared[name][1].inverted else value
        for name, value in values.items()
    }
    return settings(**given, **rest)
