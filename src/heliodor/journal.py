"""The journal of a picking: what is done already, so that one cut short can go on.

One hidden file in the output folder, a line of JSON a micrograph, added as soon as its picks are
written. It keeps all candidates, those below the threshold too, to the last bit, so that results
put together from it are those of a picking that nothing had interrupted. A last line that was cut
off does not count.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heliodor.calibration import MicrographScores
from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.files import write_text
from heliodor.picks import Picks
from heliodor.quality import Measured
from heliodor.sources import Source

NAME = ".picking.jsonl"
#: Changes with what the lines hold: a journal of another form is begun anew.
FORM = 2


class Finished(NamedTuple):
    """One micrograph that was picked on before."""

    #: All its candidates, best first.
    candidates: Picks
    pixel_size_angstrom: float
    scores: MicrographScores
    measured: Measured


class Journal:
    """The micrographs of a folder that were picked on with one model and one way to pick.

    Parameters
    ----------
    folder
        Where the picks lie.
    made_with
        All that decides on the picks of a given micrograph, ready for JSON. A journal of other
        values is begun anew.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        self._path = folder / NAME
        self._entries: dict[str, tuple[list[Any], Finished]] = {}
        head = _line({"form": FORM, **made_with})
        if not (self._path.is_file() and self._read(head)):
            write_text(self._path, head.decode())

    def _read(self, head: bytes) -> bool:
        """Take in what an earlier run wrote, and tell whether it was made with the same."""
        try:
            with self._path.open("r+b") as stream:
                if stream.readline() != head:
                    return False
                whole = stream.tell()
                for line in stream:
                    try:
                        name, entry = _entry(line)
                    except (ValueError, KeyError, TypeError):
                        break
                    self._entries[name] = entry
                    whole += len(line)
                stream.truncate(whole)  # a line that was cut off must not be added to
        except OSError as error:
            raise BadInput(
                f"{self._path} cannot be read ({error.strerror}); remove it to pick anew"
            ) from error
        return True

    def get(self, source: Source) -> Finished | None:
        """Return what was found on a micrograph; None where its file has changed since."""
        of, finished = self._entries.get(source.name, (None, None))
        return finished if of is not None and of == _identity(source) else None

    def add(
        self,
        source: Source,
        candidates: Picks,
        pixel_size_angstrom: float,
        scores: MicrographScores,
        measured: Measured,
    ) -> None:
        """Note that a micrograph is done; its own files are to be there by now."""
        entry = {
            "micrograph": source.name,
            "of": _identity(source),
            "pixel_size_angstrom": pixel_size_angstrom,
            "candidates": _packed(np.column_stack([candidates.xy_px, candidates.score])),
            "decoys": None if scores.decoys is None else _packed(scores.decoys),
            "area": scores.area,
            "measured": measured,
        }
        try:
            with self._path.open("ab") as stream:
                stream.write(_line(entry))
        except OSError as error:
            raise BadInput(f"{self._path} cannot be written ({error.strerror})") from error


def forget(folder: Path) -> None:
    """Remove the journal of a folder whose picks are about to be others."""
    (folder / NAME).unlink(missing_ok=True)


def digest(parts: Iterable[bytes]) -> str:
    """Return a fingerprint of bytes, the same only for the same parts."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def _identity(source: Source) -> list[Any] | None:
    """Tell a micrograph's file, and what its STAR file says of it, from what they were before."""
    try:
        found = os.stat(source.path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, source.pixel_size_angstrom]


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _entry(line: bytes) -> tuple[str, tuple[list[Any], Finished]]:
    if not line.endswith(b"\n"):
        raise ValueError("cut off")
    value = json.loads(line)
    name, size = value["micrograph"], float(value["pixel_size_angstrom"])
    numbers = _unpacked(value["candidates"]).reshape(-1, 3)
    candidates = Picks.on(name, numbers[:, :2], numbers[:, 2])
    decoys = None if value["decoys"] is None else _unpacked(value["decoys"])
    scores = MicrographScores(candidates.score, decoys, float(value["area"]))
    measured = Measured(*(None if own is None else float(own) for own in value["measured"]))
    return name, (value["of"], Finished(candidates, size, scores, measured))


def _packed(numbers: FloatArray) -> str:
    return base64.b64encode(numbers.astype("<f8").tobytes()).decode()


def _unpacked(text: str) -> FloatArray:
    return np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64)
