"""The protocol between the server and its engine: one JSON object per line in each direction.

Requests go from the server to the engine, events come back. Both sides use these classes, to
write and to read.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration


def _parse_positions(value: Any) -> FloatArray:
    """Return coordinates of shape (n, 2), in an order that does not depend on the input's."""
    try:
        xy = np.array(value, dtype=np.float64).reshape(-1, 2)
    except (TypeError, OverflowError) as error:
        raise ValueError("not a list of (x, y)") from error
    if not np.isfinite(xy).all():
        raise ValueError("a coordinate is not a finite number")
    return np.asarray(xy[np.lexsort(xy.T)])


def _sort_by_micrograph(value: dict[int, Any]) -> dict[int, Any]:
    return dict(sorted(value.items()))


#: (x, y) in pixels of the original file, shape (n, 2).
_Positions = Annotated[
    Any, BeforeValidator(_parse_positions), PlainSerializer(lambda xy: xy.tolist())
]
#: Positions by the micrograph's number.
Positions = Annotated[dict[int, _Positions], AfterValidator(_sort_by_micrograph)]
#: A number, or None where it is not known; JSON has no other word for what is not finite.
_NumberOrNone = float | None


class _Request(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True, extra="ignore"
    )


class ProjectMicrograph(_Request):
    """A micrograph of the project; its number is its position in the list."""

    name: str
    path: Path
    #: The pixel size of this micrograph if its STAR file gives one.
    pixel_size_angstrom: float | None = Field(
        default=None, validation_alias="pixel_size", serialization_alias="pixel_size"
    )


class OpenRequest(_Request):
    """Open a project, or reopen it with another diameter or model."""

    do: Literal["open"] = "open"
    project: Path
    micrographs: tuple[ProjectMicrograph, ...]
    pixel_size_angstrom: float | None = Field(
        default=None, validation_alias="pixel_size", serialization_alias="pixel_size"
    )
    diameter_angstrom: float = Field(validation_alias="diameter", serialization_alias="diameter")
    #: None for the general model.
    model: Path | None = None
    #: The model's number.
    number: int = 0
    #: None for all that the process may use.
    threads: int | None = None
    #: As of `ComputeSettings`.
    device: str = "auto"
    #: See `PickSettings`; None for the default.
    exclusion_radius_angstrom: float | None = None
    edge_margin_angstrom: float | None = None


class ScoreRequest(_Request):
    """Score these micrographs in this order; replaces the queue."""

    do: Literal["score"] = "score"
    ids: tuple[int, ...]


class FocusRequest(_Request):
    """Score this micrograph before the others."""

    do: Literal["focus"] = "focus"
    id: int


class TrainRequest(_Request):
    """Train on labels and negatives."""

    do: Literal["train"] = "train"
    number: int
    labels: Positions
    negatives: Positions = Field(default_factory=dict)
    #: The model file to write.
    out: Path
    seed: int = 0


class CancelRequest(_Request):
    """Cancel the training."""

    do: Literal["cancel"] = "cancel"


Request = OpenRequest | ScoreRequest | FocusRequest | TrainRequest | CancelRequest


class _Event(BaseModel):
    # Numbers that are not finite are written as null, and read back as None.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class ReadyEvent(_Event):
    """The project is open."""

    event: Literal["ready"] = "ready"
    device: str


class ScoredEvent(_Event):
    """A micrograph was scored."""

    event: Literal["scored"] = "scored"
    id: int
    #: The model's number.
    number: int
    seconds: _NumberOrNone = None


class FailedEvent(_Event):
    """A micrograph could not be scored; with `id` None, the project could not be opened."""

    event: Literal["failed"] = "failed"
    id: int | None
    says: str
    #: Whether the micrograph itself can be used: its results could not be written, for example,
    #: or memory was short.
    temporary: bool = False


class ThresholdEvent(_Event):
    """The threshold and the calibration of a model were estimated."""

    event: Literal["level"] = "level"
    number: int
    threshold: _NumberOrNone
    #: `Calibration.as_dict`, with `repeat_particles`; None where it is not known.
    calibration: dict[str, Any] | None = None
    #: The number of micrographs that they are from; None: the labels that trained the model.
    micrographs: int | None = None
    #: Whether they are final, as no other micrographs are waited for.
    settled: bool = True


class PhaseEvent(_Event):
    """What the training does now."""

    event: Literal["phase"] = "phase"
    says: str


class ProgressEvent(_Event):
    """How far the training is."""

    event: Literal["progress"] = "progress"
    update: int
    of: int
    loss: _NumberOrNone = None
    validation: _NumberOrNone = None
    seconds: _NumberOrNone = None


class TrainedEvent(_Event):
    """The training ended with a model."""

    event: Literal["trained"] = "trained"
    number: int
    file: Path
    seconds: _NumberOrNone = None
    threshold: _NumberOrNone
    #: Between 0 and 1; None where too few annotations could be held out.
    validation: _NumberOrNone = None
    #: Update, mean loss since the row before, and the validation of the last row.
    curve: list[tuple[int, _NumberOrNone, _NumberOrNone]] = Field(default_factory=list)
    #: As in `ThresholdEvent`.
    calibration: dict[str, Any] | None = None


class CancelledEvent(_Event):
    """The training was canceled."""

    event: Literal["cancelled"] = "cancelled"


class RefusedEvent(_Event):
    """The training could not be started or failed."""

    event: Literal["refused"] = "refused"
    says: str


Event = (
    ReadyEvent
    | ScoredEvent
    | FailedEvent
    | ThresholdEvent
    | PhaseEvent
    | ProgressEvent
    | TrainedEvent
    | CancelledEvent
    | RefusedEvent
)

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="do")])
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def write_message(message: Request | Event) -> str:
    """Return a message as one line of JSON, without the line break."""
    return message.model_dump_json(by_alias=True)


def read_request(line: str) -> Request:
    """Read one line that the server sent.

    Raises
    ------
    BadInput
        If it is not a valid request.
    """
    try:
        return _REQUESTS.validate_json(line)
    except (ValidationError, ValueError) as error:
        raise BadInput(f"invalid request ({_summary(error)}): {line.strip()[:200]}") from error


def read_event(line: str | bytes) -> Event:
    """Read one line that the engine sent.

    Raises
    ------
    BadInput
        If it is not a valid event.
    """
    try:
        return _EVENTS.validate_json(line)
    except (ValidationError, ValueError) as error:
        raise BadInput(f"invalid event ({_summary(error)}): {line.strip()[:200]!r}") from error


def _summary(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


class EventWriter:
    """Writes events, from any thread of the engine.

    Parameters
    ----------
    stream
        The stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, event: Event) -> None:
        """Write an event."""
        line = write_message(event)
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError) as error:
                # The server is gone; the end of the requests follows.
                print(f"event not delivered: {line} ({error})", file=sys.stderr)


def describe_calibration(calibration: Calibration | None) -> dict[str, Any] | None:
    """Return a calibration ready for JSON, with the numbers of particles of all its repeats."""
    if calibration is None:
        return None
    return {
        **calibration.as_dict(),
        "clear_above": 0.0,  # infinite without labels; only picking needs it
        "repeat_particles": [round(repeat.particles, 2) for repeat in calibration.repeats],
    }
