"""The training that is going on, or was last: what the page is told of it."""

from __future__ import annotations

import math
from typing import Any

#: Points of a learning curve that are kept.
_MAX_POINTS = 2000


class TrainingStatus:
    """How the last training stands; the caller holds the lock."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {"state": "none"}

    @property
    def running(self) -> bool:
        """Whether one is going on."""
        return bool(self.status["state"] == "running")

    @property
    def number(self) -> int | None:
        """The number of the model that it makes."""
        return self.status.get("number")

    def start(self, number: int) -> None:
        """Note that one has begun."""
        self.status = {
            "state": "running", "number": number, "update": 0, "of": 0, "loss": None,
            "validation": None, "seconds": 0.0, "curve": [], "says": "starting",
        }  # fmt: skip

    def set_message(self, sentence: str) -> None:
        """Note what it is doing, if it is going on."""
        if self.running:
            self.status["says"] = sentence

    def update(self, message: dict[str, Any]) -> None:
        """Take in how far it is; KeyError, TypeError or ValueError if that makes no sense."""
        if not self.running:
            return
        point = [int(message["update"]), finite_or_none(message.get("loss"))]
        point.append(finite_or_none(message.get("validation")))
        self.status |= {
            "update": point[0],
            "of": int(message["of"]),
            "loss": point[1],
            "validation": point[2],
            "seconds": finite_or_none(message.get("seconds")),
            "says": None,
        }
        if len(self.status["curve"]) < _MAX_POINTS:
            self.status["curve"] = [*self.status["curve"], point]

    def finish(self, message: dict[str, Any]) -> None:
        """Take in that there is a model."""
        self.status |= {
            "state": "done",
            "seconds": finite_or_none(message.get("seconds")),
            "validation": finite_or_none(message.get("validation")),
            "curve": replace_nonfinite(message.get("curve") or self.status["curve"]),
            "says": None,
        }

    def stop(self, state: str, says: str | None) -> bool:
        """Note that it ended without a model, and tell whether one was going on."""
        running = self.running
        if running:
            self.status |= {"state": state, "says": says}
        return running


def finite_or_none(value: Any) -> float | None:
    """Return a number that JSON can hold, else None."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def replace_nonfinite(value: Any) -> Any:
    """Return the same with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): replace_nonfinite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(own) for own in value]
    return finite_or_none(value) if isinstance(value, float) else value
