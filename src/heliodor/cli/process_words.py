"""The command lines of processes that a command starts, from its own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from heliodor.utils.settings import options_of
from heliodor.workflows.cluster_settings import ClusterSettings


def without_cluster_options(words: Sequence[str], kept: Container[str] = ()) -> list[str]:
    """Return a command line without the options of the cluster.

    Parameters
    ----------
    words
        From the command on.
    kept
        Names of options that mean something else for this command.
    """
    options = {
        f"--{name.replace('_', '-')}": each
        for name, each in options_of(ClusterSettings).items()
        if name not in kept
    }
    remaining, rest = list[str](), iter(words)
    for word in rest:
        each = options.get(word.partition("=")[0])
        if each is None:
            remaining.append(word)
        elif each.type != "bool" and "=" not in word:
            next(rest, None)  # its value
    return remaining


def words_of_settings(settings: Any, but: Container[str] = ()) -> list[str]:
    """Return the options with which a command has the same settings.

    Parameters
    ----------
    settings
        An object of a settings class.
    but
        Names of options that the command does not have.

    Raises
    ------
    TypeError
        If an option is written in a form of its own, which is not known here.
    """
    words = list[str]()
    for name, each in options_of(type(settings)).items():
        value = getattr(settings, each.name)
        if name in but or value is None or value == each.default:
            continue
        if each.option.parse is not None:
            raise TypeError(f"the option {name} cannot be written")
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option)  # as it is not the default
            continue
        items = value if isinstance(value, list) else [value]
        words += [f"{option}={item}" for item in items]
    return words
