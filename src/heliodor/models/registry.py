"""Models that are stored under a name, for programs that use names instead of files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from heliodor.errors import BadInput

#: A valid name; it cannot lead out of the models folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def named_models_folder() -> Path:
    """Return the folder of named models: $HELIODOR_MODELS, or ~/.config/heliodor/models."""
    folder = os.environ.get("HELIODOR_MODELS")
    return Path(folder) if folder else Path.home() / ".config" / "heliodor" / "models"


def named_model_path(name: str) -> Path:
    """Return the path of the model with this name, which need not exist.

    Raises
    ------
    BadInput
        If the name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a valid model name; use letters, digits, '.', '_' and '-'"
        )
    return named_models_folder() / f"{name}.safetensors"


def find_named_model(name: str) -> Path | None:
    """Return the path of a named model, or None if there is none with this name."""
    if not _NAME.fullmatch(name):
        return None
    path = named_model_path(name)
    return path if path.is_file() else None
