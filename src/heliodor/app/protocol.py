"""The protocol: what a server asks of an engine, and what that says, a line of JSON each."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput


@dataclass(frozen=True)
class ProjectMicrograph:
    """A micrograph of the project; its place in the list is its number."""

    name: str
    path: Path
    #: Of this one alone, as a STAR file says; None where it does not.
    pixel_size_angstrom: float | None = None


@dataclass(frozen=True)
class OpenRequest:
    """Begin with a project, or begin anew with another diameter or model."""

    project: Path
    micrographs: tuple[ProjectMicrograph, ...]
    pixel_size_angstrom: float | None
    diameter_angstrom: float
    #: None: the general model.
    model: Path | None
    #: Of the model.
    number: int
    #: None: all that the process may use.
    threads: int | None


@dataclass(frozen=True)
class ScoreRequest:
    """Score these micrographs in this order, in place of what was still to be scored."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class FocusRequest:
    """Score this micrograph before the others."""

    id: int


@dataclass(frozen=True)
class TrainRequest:
    """Train on labels, in pixels of the original files, shape (n, 2) a micrograph."""

    number: int
    labels: dict[int, FloatArray]
    negatives: dict[int, FloatArray]
    out: Path
    seed: int


@dataclass(frozen=True)
class CancelRequest:
    """End the training."""


Request = OpenRequest | ScoreRequest | FocusRequest | TrainRequest | CancelRequest


def read_request(line: str) -> Request:
    """Read one line of a server's.

    Raises
    ------
    BadInput
        If it is no request.
    """
    try:
        value = json.loads(line)
        return _READERS[value["do"]](value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"a line of the server's is no request ({type(error).__name__}: {error}):"
            f" {line.strip()[:200]}"
        ) from error


def _open(value: dict[str, Any]) -> OpenRequest:
    model, threads = value.get("model"), value.get("threads")
    return OpenRequest(
        Path(value["project"]),
        tuple(
            ProjectMicrograph(str(own["name"]), Path(own["path"]), _length(own.get("pixel_size")))
            for own in value["micrographs"]
        ),
        _length(value.get("pixel_size")),
        _number(value["diameter"]),
        None if model is None else Path(model),
        int(value.get("number", 0)),
        None if threads is None else int(threads),
    )


def _train(value: dict[str, Any]) -> TrainRequest:
    return TrainRequest(
        int(value["number"]),
        _places(value["labels"]),
        _places(value.get("negatives", {})),
        Path(value["out"]),
        int(value.get("seed", 0)),
    )


def _places(value: dict[str, Any]) -> dict[int, FloatArray]:
    """Return coordinates by micrograph, in an order that does not hang on how they were given."""
    found = {}
    for name in sorted(value, key=int):
        xy = np.array(value[name], dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(xy).all():
            raise ValueError("a coordinate is no number")
        found[int(name)] = xy[np.lexsort(xy.T)]
    return found


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _length(value: Any) -> float | None:
    return None if value is None else _number(value)


_READERS: dict[str, Callable[[dict[str, Any]], Request]] = {
    "open": _open,
    "score": lambda value: ScoreRequest(tuple(int(i) for i in value["ids"])),
    "focus": lambda value: FocusRequest(int(value["id"])),
    "train": _train,
    "cancel": lambda value: CancelRequest(),
}


class EventWriter:
    """What the engine says, from any of its threads.

    Parameters
    ----------
    stream
        Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, event: str, **values: Any) -> None:
        """Say that something happened; numbers that are not finite are told as null."""
        line = json.dumps({"event": event} | {k: _plain(v) for k, v in values.items()})
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError) as error:
                # Nobody listens any more; the end of the requests comes with it.
                print(f"nobody listens to: {line} ({error})", file=sys.stderr)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
