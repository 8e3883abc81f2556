"""Find the model file for ``-m``, which takes a path or the name of a model."""

from __future__ import annotations

import os
from pathlib import Path

from heliodor.errors import BadInput
from heliodor.models import GENERAL_MODEL
from heliodor.models.registry import find_named_model

#: Name for no model: the images are score maps.
NO_MODEL = "none"
#: Name of the general model.
GENERAL = "general"


def default_model(default: str) -> str:
    """Return the default model: that of Topaz if it was imported, otherwise the general model.

    Parameters
    ----------
    default
        Topaz's default.
    """
    return GENERAL if _find_named(default) is None else default


def _find_named(model: str) -> Path | None:
    """Find a model by name; as in Topaz, a bare name means the network with 64 units."""
    return find_named_model(model) or find_named_model(f"{model}_u64")


def find_model_file(model: str) -> Path:
    """Return the path of a model given by path or name.

    Raises
    ------
    BadInput
        If there is no such file and no model of that name.
    """
    path = Path(model)
    if path.is_file():
        return path
    if "/" in model or model.endswith((".sav", ".safetensors")):
        raise BadInput(f"the model {model} does not exist; give -m a model file or a name")
    if model == GENERAL:
        return GENERAL_MODEL
    found = _find_named(model)
    if found is None:
        raise BadInput(
            f"no model {model}: the models of Topaz are not part of heliodor; give -m a model file"
            " of heliodor or Topaz, import the model of Topaz with heliodor model import --name"
            f" {model}, or use the general model with -m general"
        )
    return found


def file_identity(path: Path) -> tuple[str, int, int]:
    """Return what identifies the content of a file: absolute path, size and time of change.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BadInput(f"the model {path} cannot be read ({error.strerror})") from error
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
