"""Models by name, for programs that call with a name where others give a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from heliodor.errors import BadInput

#: Such a name is one file in one folder, whatever it says.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def named_models_folder() -> Path:
    """Return the folder of the named models: $HELIODOR_MODELS, else ~/.config/heliodor/models."""
    own = os.environ.get("HELIODOR_MODELS")
    return Path(own) if own else Path.home() / ".config" / "heliodor" / "models"


def named_model_path(name: str) -> Path:
    """Return the file a model of this name lies in, or is to lie in.

    Raises
    ------
    BadInput
        If the name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"a model cannot be called {name!r}; give a name of letters, digits, '.', '_' and '-'"
        )
    return named_models_folder() / f"{name}.safetensors"


def find_named_model(name: str) -> Path | None:
    """Return the file of a named model, or None where there is none of that name."""
    if not _NAME.fullmatch(name):
        return None
    path = named_model_path(name)
    return path if path.is_file() else None
