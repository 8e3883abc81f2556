"""The models of a project: the general one, and one for each training."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from heliodor.app.server.project import MODELS, Project
from heliodor.data.micrographs.working_images import check_diameter
from heliodor.utils.files import read_json
from heliodor.utils.json_schema import StoredModel, validate


class _StoredRecord(StoredModel):
    """What the page shows of a model, and what is needed to use it again."""

    date: str | None = None
    #: The number of the model that the training started from.
    start: int | None = Field(None, alias="from")
    diameter: float | None = None
    labels: int | None = None
    negatives: int | None = None
    micrographs_labeled: int | None = None
    validation: float | None = None
    seconds: float | None = None
    #: How it was trained: "thorough"; None: while the user waited.
    trained: str | None = None


def read_record(project: Project, number: int) -> dict[str, Any] | None:
    """Return what is known of a model; None if there is no such model."""
    if number and not project.model_file(number).is_file():
        return None
    try:
        value = read_json(project.model_file(number, ".json"))
        record = validate(_StoredRecord, value, "it").model_dump(by_alias=True)
        if record["diameter"] is not None:
            check_diameter(record["diameter"])
    except (OSError, ValueError):
        return {}  # missing or damaged: the model can be used all the same
    return record


def list_models(project: Project) -> list[dict[str, Any]]:
    """Return the models for the page, the general one first."""
    files = (project.folder / MODELS).glob("*.safetensors")
    numbers = sorted(int(file.stem) for file in files if file.stem.isdecimal())
    models = []
    for number in [0, *numbers]:
        record = read_record(project, number) or {}
        known = (
            "date", "from", "labels", "negatives", "micrographs_labeled", "validation", "trained",
        )  # fmt: skip
        models.append(
            {
                "number": number,
                "diameter": record.get("diameter") if number else None,
                **{key: record.get(key) if number else None for key in known},
                "seconds": record.get("seconds") if number else None,
            }
        )
    return models
