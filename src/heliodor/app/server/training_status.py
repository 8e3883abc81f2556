"""The status of the running or the last training, as the page shows it."""

from __future__ import annotations

from typing import Any

from heliodor.app.protocol import ProgressEvent, TrainedEvent

#: Most points of a training curve.
_MAX_POINTS = 2000


class TrainingStatus:
    """The status of the last training; the caller holds the lock."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {"state": "none"}

    @property
    def running(self) -> bool:
        """Whether a training is running."""
        return bool(self.status["state"] == "running")

    @property
    def number(self) -> int | None:
        """The number of the model that is trained."""
        return self.status.get("number")

    def clear(self) -> None:
        """Forget the last training, as another model is in use."""
        self.status = {"state": "none"}

    def start(self, number: int) -> None:
        """Record that a training started."""
        self.status = {
            "state": "running", "number": number, "update": 0, "of": 0, "loss": None,
            "validation": None, "seconds": 0.0, "curve": [], "says": "starting",
        }  # fmt: skip

    def set_message(self, sentence: str) -> None:
        """Set what the page shows of a running training."""
        if self.running:
            self.status["says"] = sentence

    def update(self, event: ProgressEvent) -> None:
        """Record the progress of a running training."""
        if not self.running:
            return
        self.status |= {
            "update": event.update,
            "of": event.of,
            "loss": event.loss,
            "validation": event.validation,
            "seconds": event.seconds,
            "says": None,
        }
        if len(self.status["curve"]) < _MAX_POINTS:
            point = [event.update, event.loss, event.validation]
            self.status["curve"] = [*self.status["curve"], point]

    def finish(self, event: TrainedEvent) -> None:
        """Record that the training ended with a model."""
        self.status |= {
            "state": "done",
            "seconds": event.seconds,
            "validation": event.validation,
            "curve": [*event.curve] or self.status["curve"],
            "says": None,
        }

    def stop(self, state: str, says: str | None) -> bool:
        """Record that the training ended without a model; return whether one was running."""
        running = self.running
        if running:
            self.status |= {"state": state, "says": says}
        return running
