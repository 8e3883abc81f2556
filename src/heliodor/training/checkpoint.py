"""Checkpoints: the whole state of a training in a file, to resume it with identical results."""

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

#: The checkpoint in an output folder.
NAME: Final = ".training.safetensors"
#: Key of the file's metadata that holds everything but the tensors, as JSON.
FORMAT: Final = "heliodor-training-1"
#: A longer header is not read; the history of 100,000 epochs fits.
MOST_HEADER_BYTES: Final = 2**25
#: How often a training is saved within an epoch.
EVERY_SECONDS: Final = 20.0


class CheckpointMismatch(Exception):
    """The content of a checkpoint does not belong to this training."""


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
    """Takes the tensors of a state one by one, and checks them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def take(self, name: str, like: Tensor) -> Tensor:
        """Return a tensor; it must have the shape and type of another, and finite values."""
        found = self._left.pop(name)
        if found.shape != like.shape or found.dtype != like.dtype:
            raise ValueError(f"{name} has a different shape or type")
        if found.is_floating_point() and not bool(torch.isfinite(found).all()):
            raise ValueError(f"{name} is not finite")
        return found

    def check_empty(self) -> None:
        """Raise ValueError if tensors are left that nothing has taken."""
        if self._left:
            raise ValueError(f"{min(self._left)} is not expected")


class Checkpoint:
    """The file that a running training is saved to.

    Parameters
    ----------
    path
        The file; it need not exist.
    resume
        Whether to resume from it; otherwise it is removed.
    every_seconds
        How often to save the training within an epoch.
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
        """Return the state in the file, and save this training there from now on.

        Parameters
        ----------
        fingerprint
            Of everything that the result of the training depends on.
        most_bytes
            No state of this training is larger; so a forged file cannot fill the memory.

        Returns
        -------
        State or None
            None where there is no file, or it is damaged or of another training; a warning says
            which.
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
        """Warn that the file is not used."""
        log.warning(f"{self._path} is not used ({reason}); training starts from the beginning")

    def _read(self, most_bytes: int) -> TrainingState:
        with self._path.open("rb") as stream:
            size, header = stream.seek(0, 2), 0
            stream.seek(0)
            header = int.from_bytes(stream.read(8), "little")
        if header > MOST_HEADER_BYTES or size > most_bytes + header + 8:
            raise CheckpointMismatch("it is larger than a checkpoint of this training")
        with safe_open(self._path, framework="pt") as file:
            kept = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            if not isinstance(kept, dict) or not isinstance(kept.get("values"), dict):
                raise CheckpointMismatch("it is not a checkpoint of this program")
            if kept.get("fingerprint") != self._fingerprint:
                raise CheckpointMismatch("it was made with other data, settings or versions")
            state = TrainingState(
                kept["values"], {name: file.get_tensor(name) for name in file.keys()}
            )
        if kept.get("digest") != _digest(state):
            raise CheckpointMismatch("it is damaged")
        return state

    def due(self) -> bool:
        """Return whether to save: on request, or if the last time is long ago."""
        return take_save_request() or time.monotonic() - self._saved >= self._every

    def save(self, state: TrainingState) -> None:
        """Write a state, whole or not at all; if that fails, warn once and continue."""
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
                os.fsync(stream.fileno())  # so a machine failure cannot leave an empty file
        except BadInput as error:
            if not self._failed:
                log.warning(
                    f"{error}; training continues, but cannot be resumed if it is interrupted"
                )
            self._failed = True
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        with suppress(OSError):  # such a file is not used by other or later trainings
            self._path.unlink()


def _digest(state: TrainingState) -> str:
    parts: list[bytes | NDArray[Any]] = [json.dumps(state.values, sort_keys=True).encode()]
    for name, tensor in sorted(state.tensors.items()):
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), tensor.numpy()]
    return digest(parts)
