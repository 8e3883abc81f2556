"""The training that is going on, or was last: what the page is told of it."""

from __future__ import annotations

import math
from typing import Any

#: Points of a learning curve that are kept.
_MOST_POINTS = 2000


class LastTraining:
    """How the last training stands; the caller holds the lock."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {"state": "none"}

    @property
    def running(self) -> bool:
        """Whether one is going on."""
        return bool(self.said["state"] == "running")

    @property
    def number(self) -> int | None:
        """The number of the model that it makes."""
        return self.said.get("number")

    def begin(self, number: int) -> None:
        """Note that one has begun."""
        self.said = {
            "state": "running", "number": number, "update": 0, "of": 0, "loss": None,
            "validation": None, "seconds": 0.0, "curve": [], "says": "starting",
        }  # fmt: skip

    def say(self, sentence: str) -> None:
        """Note what it is doing, if it is going on."""
        if self.running:
            self.said["says"] = sentence

    def progress(self, message: dict[str, Any]) -> None:
        """Take in how far it is; KeyError, TypeError or ValueError if that makes no sense."""
        if not self.running:
            return
        point = [int(message["update"]), finite(message.get("loss"))]
        point.append(finite(message.get("validation")))
        self.said |= {
            "update": point[0],
            "of": int(message["of"]),
            "loss": point[1],
            "validation": point[2],
            "seconds": finite(message.get("seconds")),
            "says": None,
        }
        if len(self.said["curve"]) < _MOST_POINTS:
            self.said["curve"] = [*self.said["curve"], point]

    def done(self, message: dict[str, Any]) -> None:
        """Take in that there is a model."""
        self.said |= {
            "state": "done",
            "seconds": finite(message.get("seconds")),
            "validation": finite(message.get("validation")),
            "curve": all_finite(message.get("curve") or self.said["curve"]),
            "says": None,
        }

    def end(self, state: str, says: str | None) -> bool:
        """Note that it ended without a model, and tell whether one was going on."""
        running = self.running
        if running:
            self.said |= {"state": state, "says": says}
        return running


def finite(value: Any) -> float | None:
    """Return a number that JSON can hold, else None."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def all_finite(value: Any) -> Any:
    """Return the same with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): all_finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [all_finite(own) for own in value]
    return finite(value) if isinstance(value, float) else value
