"""The models of a project: the general one, and one for each training."""

from __future__ import annotations

import json
from typing import Any

from heliodor.app.server.project import MODELS, Project


def read_record(project: Project, number: int) -> dict[str, Any] | None:
    """Return what is known of a model; None if there is no such model."""
    if number and not project.model_file(number).is_file():
        return None
    try:
        return dict(json.loads(project.model_file(number, ".json").read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}  # missing or damaged: the model can be used all the same


def list_models(project: Project) -> list[dict[str, Any]]:
    """Return the models for the page, the general one first."""
    files = (project.folder / MODELS).glob("*.safetensors")
    numbers = sorted(int(file.stem) for file in files if file.stem.isdecimal())
    models = []
    for number in [0, *numbers]:
        record = read_record(project, number) or {}
        known = ("date", "from", "labels", "negatives", "micrographs_labeled", "validation")
        models.append(
            {
                "number": number,
                "diameter": record.get("diameter") if number else None,
                **{key: record.get(key) if number else None for key in known},
                "seconds": record.get("seconds") if number else None,
            }
        )
    return models
