"""Defaults of a site and of a user: the files ``heliodor.toml``.

A site's file says once how jobs are submitted there, and that of a user replaces single values of
it. Light to import.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from heliodor.errors import BadInput
from heliodor.utils.settings import options_of
from heliodor.workflows.cluster_settings import SITE_OPTIONS, ClusterSettings

#: What the files are called, and the variable that names that of a site.
NAME: Final = "heliodor.toml"
VARIABLE: Final = "HELIODOR_CONFIG"
#: The only table of a file.
TABLE: Final = "cluster"
#: Where the file of a site is, if the variable does not name another.
SITE_FILE: Final = Path("/etc/heliodor") / NAME
#: What the types of options are called in messages, and what a value may be.
_KINDS: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "str": ("a text", (str,)),
}


@dataclass(frozen=True)
class SettingsFile:
    """A place where settings are looked for."""

    #: Whose settings they are: site or user.
    owner: str
    path: Path
    #: Whether it must exist, as it was named.
    is_required: bool = False

    def read(self) -> dict[str, Any]:
        """Return the defaults in it, by the names of options; none if it does not exist.

        Raises
        ------
        BadInput
            If it cannot be read, or has a table, a key or a value that is not possible.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.is_required:
                return {}
            raise BadInput(
                f"{self.path} does not exist; correct ${VARIABLE}, which names it"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text in UTF-8"
            raise BadInput(f"{self.path} cannot be read ({reason})") from error
        try:
            content = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{self.path} is not TOML ({error})") from error
        for name in content:
            if name != TABLE or not isinstance(content[name], dict):
                raise BadInput(f"{self.path} has {name!r}; it may only have the table [{TABLE}]")
        values = content.get(TABLE, {})
        for name, value in values.items():
            self._check(name, value)
        values = {n: [v] if n == "setup" and isinstance(v, str) else v for n, v in values.items()}
        self._check_together(values)
        return values

    def _check(self, name: str, value: Any) -> None:
        if name not in SITE_OPTIONS:
            raise BadInput(
                f"{self.path} has the unknown key {name!r} in [{TABLE}]; the keys are"
                f" {', '.join(SITE_OPTIONS)}"
            )
        declared = options_of(ClusterSettings)[name].type.split(" | ")
        if declared[0] == "list[str]":
            lines = [value] if isinstance(value, str) else value
            is_right = isinstance(lines, list) and all(isinstance(line, str) for line in lines)
            what = "a text or a list of texts"
        else:
            what, kinds = _KINDS[declared[0]]
            is_right = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_right:
            raise BadInput(f"{name} in {self.path} must be {what}, not {value!r}")

    def _check_together(self, values: Mapping[str, Any]) -> None:
        try:
            ClusterSettings(cluster="slurm").with_defaults(values)
        except BadInput as error:
            raise BadInput(f"{self.path}: {error}") from error


def settings_files() -> list[SettingsFile]:
    """Return where settings are looked for; what a later file says replaces that of the earlier.

    First the site's: the file that $HELIODOR_CONFIG names, otherwise /etc/heliodor/heliodor.toml.
    Then the user's: $XDG_CONFIG_HOME/heliodor/heliodor.toml, by default in ~/.config.
    """
    named = os.environ.get(VARIABLE, "")
    site = SettingsFile("site", Path(named) if named else SITE_FILE, is_required=bool(named))
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        home = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    except RuntimeError:  # there is no home
        return [site]
    return [site, SettingsFile("user", home / "heliodor" / NAME)]


def read_cluster_defaults() -> dict[str, Any]:
    """Return the defaults of ``--cluster slurm`` on this computer, by the names of options.

    Raises
    ------
    BadInput
        If a file cannot be used.
    """
    values: dict[str, Any] = {}
    for each in settings_files():
        values |= each.read()
    return values
