"""Settings declared once: a frozen dataclass whose fields carry their documentation.

The fields of a settings class say what they mean, in which unit, and what the default is. The
command line, the Python API, ``run.json`` and the command reference are made from them, so that a
new option is one field. This module is light, as ``heliodor --help`` imports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Self, TypeVar

from heliodor.errors import BadInput

T = TypeVar("T")

_KEY = "option"
#: Units that end a field's name, and not the name of its option.
_UNITS = ("_angstrom", "_gb", "_kv", "_nm", "_um")


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
    #: Reads the value from what is typed, where it is more than a number or a text.
    parse: Callable[[str], Any] | None


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
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """Return a dataclass field that is also an option; see `Option`.

    Parameters
    ----------
    value
        The field's default; without one it is required.
    """
    made = Option(help, group, metavar, default, name, auto, inverted, parse)
    return field(default=value, metadata={_KEY: made})


@dataclass(frozen=True)
class OptionField:
    """A field of a settings class that is an option."""

    option: Option
    #: The field's name.
    name: str
    #: The field's type, as it is annotated.
    type: str
    #: The field's default, `MISSING` where it is required.
    default: Any


class ComposedSettings(ABC):
    """A settings class that is made of others, and says itself what its options are."""

    @classmethod
    @abstractmethod
    def options(cls) -> dict[str, OptionField]:
        """Return the options by name."""

    @classmethod
    @abstractmethod
    def from_options(cls, **values: Any) -> Self:
        """Return settings from the values of options.

        Raises
        ------
        BadInput
            If there is no such option, or a value is not possible.
        """


def options_of(settings: type) -> dict[str, OptionField]:
    """Return the options of a settings class by name; any other class has none."""
    if issubclass(settings, ComposedSettings):
        return settings.options()
    if not is_dataclass(settings):
        return {}
    found = {}
    for each in fields(settings):
        if (declared := each.metadata.get(_KEY)) is not None:
            name = declared.name or _without_unit(each.name)
            found[name] = OptionField(declared, each.name, str(each.type), each.default)
    return found


def _without_unit(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name


def build(settings: type[T], values: Mapping[str, Any]) -> T:
    """Return settings from the values of their options.

    Parameters
    ----------
    values
        By the names of options; those that are missing keep the field's default.

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
    if issubclass(settings, ComposedSettings):
        return settings.from_options(**values)
    given = {
        declared[name].name: not value if declared[name].option.inverted else value
        for name, value in values.items()
    }
    return settings(**given)


def parse_shape(text: str, name: str) -> tuple[int, int]:
    """Read WxH, or one side of a square, into (height, width).

    Parameters
    ----------
    name
        The option as it is typed.
    """
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) not in (1, 2):
        raise BadInput(f"{name} must be like 1024 or 5760x4092 (width x height), not {text!r}")
    return int(sides[-1]), int(sides[0])


def parse_segments(text: str) -> float:
    """Read the distance between segments: a number, or rise x number of asymmetric units."""
    rise, mark, units = text.lower().partition("x")
    try:
        distance = float(rise) * (int(units) if mark else 1)
    except ValueError as error:
        raise BadInput(
            f"--segments must be a distance in Å, as in 50, or rise x units, as in 4.75x10, not"
            f" {text!r}"
        ) from error
    return distance
