"""Models that are stored under a name: those of a user, and those of a whole site."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from heliodor.errors import BadInput

#: A valid name; it cannot lead out of the models folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENDING = ".safetensors"


def named_models_folder() -> Path:
    """Return the folder of the user's models: $HELIODOR_MODELS, or ~/.config/heliodor/models."""
    folder = os.environ.get("HELIODOR_MODELS")
    return Path(folder) if folder else Path.home() / ".config" / "heliodor" / "models"


def site_model_folders() -> list[Path]:
    """Return the folders of models for all users, which are only read.

    Those in $HELIODOR_SITE_MODELS, separated as in $PATH; without it, share/heliodor/models of the
    environment that heliodor is installed in.
    """
    named = os.environ.get("HELIODOR_SITE_MODELS")
    if named is None:
        return [Path(sys.prefix) / "share" / "heliodor" / "models"]
    return [Path(folder) for folder in named.split(os.pathsep) if folder]


def named_model_path(name: str) -> Path:
    """Return the path of the user's model with this name, which need not exist.

    Raises
    ------
    BadInput
        If the name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a valid model name; use letters, digits, '.', '_' and '-'"
        )
    return named_models_folder() / f"{name}{_ENDING}"


def find_named_model(name: str) -> Path | None:
    """Return the path of a named model, or None if there is none with this name.

    The user's own comes before those of the site.
    """
    if not _NAME.fullmatch(name):
        return None
    folders = [named_models_folder(), *site_model_folders()]
    paths = (folder / f"{name}{_ENDING}" for folder in folders)
    return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class NamedModel:
    """A model that has a name."""

    name: str
    path: Path
    #: Whether another model of the same name comes first.
    hidden: bool


def list_named_models() -> list[NamedModel]:
    """Return all named models, the user's own first, sorted by name in each folder."""
    found, names = list[NamedModel](), set[str]()
    for folder in [named_models_folder(), *site_model_folders()]:
        for path in sorted(folder.glob(f"*{_ENDING}")):
            if _NAME.fullmatch(path.stem) and path.is_file():
                found.append(NamedModel(path.stem, path, path.stem in names))
                names.add(path.stem)
    return found
