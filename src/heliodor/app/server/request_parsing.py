"""What a request says, checked: anything it may not say is refused with a sentence."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

#: Digits of a whole number in an address.
_DIGITS = 9


def refuse(sentence: str, status: int = 400) -> HTTPException:
    """Return the refusal of a request, to be raised."""
    return HTTPException(status, sentence)


def whole_in_path(request: Request, name: str) -> int:
    """Return a whole number that is a part of the address, 0 or more."""
    return _whole(request.path_params[name], name, 404)


def whole_in_query(request: Request, name: str, usual: int, most: int) -> int:
    """Return a whole number behind the address's question mark, from 0 to `most`."""
    said = request.query_params.getlist(name)
    value = usual if not said else _whole(said[-1], name, 400)
    if value > most:
        raise refuse(f"{name} must be {most} at most")
    return value


def number_in_query(request: Request, name: str, usual: float, low: float, high: float) -> float:
    """Return a number behind the address's question mark."""
    said = request.query_params.getlist(name)
    if not said:
        return usual
    try:
        value = float(said[-1][:40])
    except ValueError as error:
        raise refuse(f"{name} must be a number") from error
    return number(value, name, low, high)


def _whole(text: str, name: str, status: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise refuse(f"{name} must be a whole number", status)
    return int(text)


async def json_body(request: Request, allowed: Sequence[str]) -> dict[str, Any]:
    """Return a request's body, a JSON object with no other keys than these."""
    body = await request.body()
    try:
        value = json.loads(body or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refuse("the body must be JSON") from error
    if not isinstance(value, dict) or not value.keys() <= {*allowed}:
        raise refuse(f"the body must be an object with {', '.join(allowed) or 'nothing in it'}")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def number(value: Any, name: str, low: float, high: float) -> float:
    """Return a finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(f"{name} must be a number")
    if not (low <= value <= high) or not math.isfinite(value):
        raise refuse(f"{name} must be from {low:g} to {high:g}")
    return float(value)


def whole(value: Any, name: str, most: int) -> int:
    """Return a whole number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise refuse(f"{name} must be a whole number from 0 to {most}")
    return value


def one_of(value: Any, name: str, choices: Sequence[str]) -> str:
    """Return one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise refuse(f"{name} must be one of {', '.join(choices)}")
    return value


def listed(value: Any, name: str, most: int) -> list[Any]:
    """Return a list that is not too long."""
    if not isinstance(value, list) or len(value) > most:
        raise refuse(f"{name} must be a list of {most} at most")
    return value
