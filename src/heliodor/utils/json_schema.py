"""Check JSON files that the program wrote earlier and now reads back, with pydantic.

Importing pydantic takes some 150 ms of CPU time, so this module is imported where it is used.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, field_validator

from heliodor.errors import BadInput

Model = TypeVar("Model", bound=BaseModel)

#: Larger numbers are damage, and could not be calculated with.
_MAX_INTEGER, _MAX_FLOAT = 2**63, 1e300
#: Characters of a wrong value that are shown.
_SHOWN = 80


class StoredModel(BaseModel):
    """The fields of a JSON object that are read; others are ignored.

    Values must be of the type of their field, as no conversion is needed for what the program
    wrote itself. Numbers must be finite, and text must be possible as the name of a file.
    """

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_plain(cls, value: Any) -> Any:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int) and abs(item) >= _MAX_INTEGER:
                raise ValueError("the number is too large")
            if isinstance(item, float) and not abs(item) < _MAX_FLOAT:
                raise ValueError("the number is not finite")
            if isinstance(item, str) and not _is_possible_name(item):
                raise ValueError("the text contains impossible characters")
        return value


def _is_possible_name(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def model_of_dataclass(kind: type) -> type[StoredModel]:
    """Return the model of the fields that a dataclass takes."""
    hints = get_type_hints(kind)
    declared: dict[str, Any] = {
        each.name: (
            hints[each.name],
            ... if each.default is MISSING and each.default_factory is MISSING else None,
        )
        for each in fields(kind)
        if each.init
    }
    return create_model(kind.__name__, __base__=StoredModel, **declared)


def validate(model: type[Model], value: Any, subject: str) -> Model:
    """Return an object read from JSON as its model.

    Parameters
    ----------
    model
        What the object must be.
    value
        As parsed from JSON.
    subject
        What it was read from, to begin the sentence of an error with.

    Raises
    ------
    BadInput
        If a field is missing or wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{subject} {_describe(error, value)}") from error


def _describe(error: ValidationError, value: Any) -> str:
    """Return what is wrong with the first wrong field, to follow the name of the file."""
    first = error.errors(include_url=False, include_context=False)[0]
    if not first["loc"]:
        return "is not a JSON object"
    name = first["loc"][0]
    if first["type"] == "missing":
        return f"lacks {name}, which this version needs"
    shown = ascii(value[name])
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return f"has an invalid value of {name}: {shown}"
