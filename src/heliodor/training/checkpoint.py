"""Checkpoints: the whole state of a training in a file, from which it goes on to the last bit."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write
from heliodor.utils.hashing import digest
from heliodor.utils.signals import take_save_request

log = logging.getLogger(__name__)

#: The checkpoint in a folder of results.
NAME: Final = ".training.safetensors"
#: Under this name what is no tensor lies in the file's metadata, as JSON.
FORMAT: Final = "heliodor-training-1"
#: A longer header is not read; the history of 100,000 epochs fits in.
MOST_HEADER_BYTES: Final = 2**25
#: Between the ends of epochs too a training is kept, so often.
EVERY_SECONDS: Final = 20.0


class CheckpointMismatch(Exception):
    """What a checkpoint holds is no state of this training."""


@dataclass(frozen=True)
class TrainingState:
    """A training at one moment."""

    #: Ready for JSON.
    values: Mapping[str, Any]
    #: On the CPU and contiguous.
    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class TensorReader:
    """The tensors of a state, taken one by one."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def take(self, name: str, like: Tensor) -> Tensor:
        """Return a tensor of the shape and type of another, of finite numbers."""
        found = self._left.pop(name)
        if found.shape != like.shape or found.dtype != like.dtype:
            raise ValueError(f"{name} has another shape")
        if found.is_floating_point() and not bool(torch.isfinite(found).all()):
            raise ValueError(f"{name} is not finite")
        return found

    def check_empty(self) -> None:
        """Refuse what nothing has asked for."""
        if self._left:
            raise ValueError(f"{min(self._left)} means nothing")


class Checkpoint:
    """The file in which a training is kept while it goes on.

    Parameters
    ----------
    path
        The file; it need not be there.
    resume
        Whether to go on from what it holds; else that is removed.
    every_seconds
        How often to keep the training within an epoch.
    """

    def __init__(
        self, path: Path, resume: bool = True, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._path, self._every = path, every_seconds
        self._fingerprint = ""
        self._saved = time.monotonic()
        self._resume, self._failed = resume, False
        if not resume:
            self.remove()

    def open(self, fingerprint: str, most_bytes: int) -> TrainingState | None:
        """Return the state that the file holds, and keep that of this training there from now on.

        Parameters
        ----------
        fingerprint
            Of all that decides on the training's result.
        most_bytes
            A state of this training is no larger; so a forged file cannot fill the memory.

        Returns
        -------
        State or None
            None where there is no file, or it is damaged or of another training; these are told
            of in one sentence.
        """
        self._fingerprint = fingerprint
        for aside in self._path.parent.glob(f".{self._path.name}.*.part*"):
            aside.unlink(missing_ok=True)  # of a process that was killed while it wrote
        try:
            there = self._resume and self._path.exists()
            return self._read(most_bytes) if there else None
        except (CheckpointMismatch, SafetensorError, OSError, ValueError, RecursionError) as error:
            self.refuse(error)
            return None

    def refuse(self, reason: Exception) -> None:
        """Say that the file was not used."""
        log.warning(f"{self._path} is not used ({reason}), so training begins anew")

    def _read(self, most_bytes: int) -> TrainingState:
        with self._path.open("rb") as stream:
            size, header = stream.seek(0, 2), 0
            stream.seek(0)
            header = int.from_bytes(stream.read(8), "little")
        if header > MOST_HEADER_BYTES or size > most_bytes + header + 8:
            raise CheckpointMismatch("it is larger than what this training keeps")
        with safe_open(self._path, framework="pt") as file:
            kept = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            if not isinstance(kept, dict) or not isinstance(kept.get("values"), dict):
                raise CheckpointMismatch("it is not of this program")
            if kept.get("fingerprint") != self._fingerprint:
                raise CheckpointMismatch("other data, settings or versions made it")
            state = TrainingState(
                kept["values"], {name: file.get_tensor(name) for name in file.keys()}
            )
        if kept.get("digest") != _digest(state):
            raise CheckpointMismatch("it is damaged")
        return state

    def due(self) -> bool:
        """Tell whether to save: it was asked for, or the last time is long ago."""
        return take_save_request() or time.monotonic() - self._saved >= self._every

    def save(self, state: TrainingState) -> None:
        """Write a state, whole or not at all; where that fails, the training goes on without."""
        kept = {
            "fingerprint": self._fingerprint,
            "digest": _digest(state),
            "values": state.values,
        }
        # One entry only: safetensors writes several in an order that differs from run to run.
        content = save(dict(state.tensors), {FORMAT: json.dumps(kept, allow_nan=False)})
        try:
            with atomic_write(self._path) as aside, aside.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())  # lest a machine that fails keeps the name alone
        except BadInput as error:
            if not self._failed:
                log.warning(f"{error}; the training goes on, but could not be continued")
            self._failed = True
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        with suppress(OSError):  # what cannot be removed is of another training or finished
            self._path.unlink()


def _digest(state: TrainingState) -> str:
    parts: list[bytes | NDArray[Any]] = [json.dumps(state.values, sort_keys=True).encode()]
    for name, tensor in sorted(state.tensors.items()):
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), tensor.numpy()]
    return digest(parts)
