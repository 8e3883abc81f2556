"""The file behind ``-m``: given as such, or by the name of a model."""

from __future__ import annotations

import os
from pathlib import Path

from heliodor.errors import BadInput
from heliodor.models import GENERAL_MODEL
from heliodor.models.registry import find_named_model

#: The name of the model of those whose images are score maps already.
NO_MODEL = "none"
#: The name of the model that needs nothing but the particle's size.
GENERAL = "general"


def default_model(default: str) -> str:
    """Return the name of the model where none is given: Topaz's if it was imported, else general.

    Parameters
    ----------
    default
        What Topaz takes.
    """
    return GENERAL if _find_named(default) is None else default


def _find_named(model: str) -> Path | None:
    """Find a model by name; Topaz takes its wide networks for the bare names."""
    return find_named_model(model) or find_named_model(f"{model}_u64")


def find_model_file(model: str) -> Path:
    """Return the file of a model, given as such or by name.

    Raises
    ------
    BadInput
        If there is no such file, and no model of that name.
    """
    path = Path(model)
    if path.is_file():
        return path
    if "/" in model or model.endswith((".sav", ".safetensors")):
        raise BadInput(f"the model {model} does not exist; give -m the file of a model, or a name")
    if model == GENERAL:
        return GENERAL_MODEL
    found = _find_named(model)
    if found is None:
        raise BadInput(
            f"there is no model {model}: Topaz's own ones are not part of this program; give -m a"
            f" model's file, this program's or Topaz's, or import that of Topaz by heliodor model"
            f" import --name {model}; -m general is the general model of this program"
        )
    return found


def file_identity(path: Path) -> tuple[str, int, int]:
    """Return what changes where a file does: the whole path, the size, when it was changed.

    Raises
    ------
    BadInput
        If the file is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BadInput(f"the model {path} cannot be read ({error.strerror})") from error
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
