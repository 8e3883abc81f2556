"""Checks of what requests contain; anything invalid is answered with a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails
    from starlette.requests import Request

#: Most digits of a whole number in an address.
_MAX_DIGITS = 9
#: Sentences for errors whose message of pydantic is too technical.
_SENTENCES = {
    "json_invalid": "the body must be valid JSON",
    "model_type": "the body must be a JSON object",
    "missing": "{name} is missing",
    "extra_forbidden": "{name} is not a known key",
    "string_pattern_mismatch": (
        "{name} must have 1 to 64 letters, digits, dashes, colons or underscores"
    ),
}


class Body(BaseModel):
    """Base class of the JSON bodies of requests; without fields, the body must be empty."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


B = TypeVar("B", bound=Body)


def refuse(sentence: str, status: int = 400) -> HTTPException:
    """Return the exception that answers a request with a sentence, to be raised."""
    return HTTPException(status, sentence)


async def read_body(request: Request, kind: type[B]) -> B:
    """Return the body of a request.

    Raises
    ------
    HTTPException
        If it is not valid.
    """
    try:
        return kind.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise refuse(_describe(error.errors(include_url=False, include_input=False)[0])) from error


def _describe(error: ErrorDetails) -> str:
    name = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "the body")
    if error["type"] in _SENTENCES:
        return _SENTENCES[error["type"]].format(name=name)
    message = error["msg"]
    if message.startswith("Input should be"):
        return message.replace("Input should be", f"{name} must be", 1)
    return f"{name} is invalid: {message}"


def parse_path_number(request: Request, name: str) -> int:
    """Return a whole number in the path of an address, 0 or more.

    Raises
    ------
    HTTPException
        If it is not valid.
    """
    return _parse_whole(request.path_params[name], name, 404)


def parse_query_whole(request: Request, name: str, default: int, maximum: int) -> int:
    """Return a whole number in the query of an address, from 0 to `maximum`.

    Raises
    ------
    HTTPException
        If it is not valid.
    """
    values = request.query_params.getlist(name)
    value = _parse_whole(values[-1], name, 400) if values else default
    if value > maximum:
        raise refuse(f"{name} must be at most {maximum}")
    return value


def parse_query_number(
    request: Request, name: str, default: float, low: float, high: float
) -> float:
    """Return a number in the query of an address, from `low` to `high`.

    Raises
    ------
    HTTPException
        If it is not valid.
    """
    values = request.query_params.getlist(name)
    if not values:
        return default
    try:
        value = float(values[-1][:40])
    except ValueError as error:
        raise refuse(f"{name} must be a number") from error
    return check_range(value, name, low, high)


def _parse_whole(text: str, name: str, status: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise refuse(f"{name} must be a whole number", status)
    return int(text)


def check_range(value: float, name: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`.

    Raises
    ------
    HTTPException
        If it lies outside, or is not finite.
    """
    if not (low <= value <= high) or not math.isfinite(value):
        raise refuse(f"{name} must be from {low:g} to {high:g}")
    return value


def check_choice(value: str, name: str, choices: Sequence[str]) -> str:
    """Return one of some words.

    Raises
    ------
    HTTPException
        If it is another word.
    """
    if value not in choices:
        raise refuse(f"{name} must be one of {', '.join(choices)}")
    return value
