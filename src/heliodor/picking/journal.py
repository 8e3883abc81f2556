"""The journal of picking: what is done already, so that an interrupted run can resume.

One hidden file in the output folder with one line of JSON per micrograph, added as soon as it is
picked. It keeps all candidates exactly, those below the threshold too, so that results read from
it are the same as those of a run that was not interrupted. Only the positions of the lines are
kept in memory, so that thousands of micrographs take little. An incomplete last line does not
count.
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import is_plausible_pixel_size
from heliodor.errors import BadInput
from heliodor.evaluation.score_histogram import MicrographScores
from heliodor.picking.contamination import (
    DISTANCE,
    ContaminationMask,
    add_distances,
)
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.utils.files import write_text
from heliodor.utils.hashing import FileVersion, digest, fingerprint_file

NAME = ".picking.jsonl"
#: Changes with the content of the lines: a journal of another form is not used.
FORM = 5
#: How a line with the result of a micrograph begins.
_ENTRY = b'{"micrograph": '
#: What a damaged line raises.
_MISFITS = (ValueError, LookupError, TypeError, OverflowError, RecursionError)


class MicrographResult(NamedTuple):
    """The result of one micrograph."""

    #: All its candidates, best first.
    candidates: Picks
    pixel_size_angstrom: float
    #: Scores of its decoys that count; None if none were looked for.
    decoys: FloatArray | None
    #: In which there may be candidates: without dead borders, and without contamination if it is
    #: left out.
    area_angstrom2: float
    measured: MicrographMeasurements
    #: None for models that do not detect it.
    contamination: ContaminationMask | None = None
    #: Whether it has no picks because too much of it is contamination.
    refused: bool = False

    @property
    def scores(self) -> MicrographScores:
        """What calibration needs."""
        return MicrographScores(self.candidates.score, self.decoys, self.area_angstrom2)


class Journal:
    """The micrographs of a folder that were picked with one model and the same settings.

    Parameters
    ----------
    folder
        Of the picks.
    made_with
        Everything that the picks of a given micrograph depend on, ready for JSON. A journal with
        other values is replaced.
    overwrite
        Replace the journal in any case.
    """

    def __init__(
        self, folder: Path, made_with: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        self._path = folder / NAME
        #: Where the line of a micrograph begins, and the identity of the micrograph.
        self._lines: dict[str, tuple[int, list[Any]]] = {}
        #: Fingerprints of what was ever written to a file, by its name.
        self._written: dict[str, set[str]] = {}
        #: The micrographs that were started, in order; and the identity of those that the program
        #: crashed on.
        self._begun: dict[str, bool] = {}
        self._crashed: dict[str, list[list[Any]]] = {}
        self._lock = threading.Lock()
        head = _line({"form": FORM, **made_with})
        # A link is replaced: nothing is written to the file that it leads to.
        usable = self._path.is_file() and not self._path.is_symlink()
        if overwrite or not (usable and self._read(head)):
            write_text(self._path, head.decode())
            self._end = len(head)

    def _read(self, head: bytes) -> bool:
        """Read what an earlier run wrote; return whether it was made with the same settings."""
        try:
            with self._path.open("r+b") as stream:
                if stream.readline(len(head)) != head:
                    return False
                self._end = stream.tell()
                for line in stream:
                    try:
                        self._take(line)
                    except _MISFITS:
                        break
                    self._end += len(line)
                stream.truncate(self._end)  # nothing must be appended to an incomplete line
        except OSError as error:
            raise BadInput(
                f"{self._path} cannot be read ({error.strerror}); remove it to start over"
            ) from error
        return True

    def _take(self, line: bytes) -> None:
        """Read a line, which begins where the last one ended."""
        if line.startswith(_ENTRY):
            name, of, _ = _entry(line)
            self._lines[name] = (self._end, of)
            self._begun.pop(name, None)
            return
        what, name, note = _note(line)
        if what == "written":
            self._written.setdefault(name, set()).add(str(note))
        elif what == "begun":
            self._begun.pop(name, None)
            self._begun[name] = bool(note)
        elif what == "crashed":
            self._crashed.setdefault(name, []).append(list(note))
        else:
            raise ValueError("a line of unknown kind")

    def remove_if_empty(self) -> None:
        """Remove the journal if no micrograph is done."""
        if not self._lines and not self._crashed:
            self._path.unlink(missing_ok=True)

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started, by itself or beside others; from any thread."""
        self._append(_line({"begun": [name, alone]}))

    def list_interrupted(self) -> list[str]:
        """Return the micrographs that were unfinished when an earlier run ended."""
        return list(self._begun)

    def record_crash(self, sources: Iterable[Source]) -> None:
        """Note that the program crashed on the micrograph started last, if it ran by itself."""
        for source in sources:
            if self._begun and source.name == next(reversed(self._begun)):
                if self._begun[source.name]:
                    was = _identity(source)
                    self._crashed.setdefault(source.name, []).append(was)
                    self._append(_line({"crashed": [source.name, was]}))
                return

    def has_crashed(self, source: Source) -> bool:
        """Return whether the program crashed twice on a micrograph that is still the same."""
        found = self._crashed.get(source.name, [])
        return len(found) > 1 and found.count(_identity(source)) > 1

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done and its file has not changed since."""
        found = self._lines.get(source.name)
        return found is not None and found[1] != [] and found[1] == _identity(source)

    def get(self, name: str) -> MicrographResult:
        """Return the result of a micrograph that is done.

        Raises
        ------
        BadInput
            If the journal can no longer be read.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._lines[name][0])
                return _entry(stream.readline())[2]
        except (OSError, *_MISFITS) as error:
            raise BadInput(
                f"{self._path} was changed while it was in use; pick again with --resume never"
            ) from error

    def add(self, source: Source, finished: MicrographResult, version: FileVersion | None) -> None:
        """Note that a micrograph is done.

        Parameters
        ----------
        version
            The content of its file that the result was made from. None is equal to no content,
            so that the micrograph is picked again by the next run.
        """
        own = finished.candidates
        entry: dict[str, Any] = {
            "micrograph": source.name,
            "of": [] if version is None else [version.fingerprint, source.pixel_size_angstrom],
            "pixel_size_angstrom": finished.pixel_size_angstrom,
            "candidates": _packed(np.column_stack([own.xy_px, own.score])),
            "decoys": None if finished.decoys is None else _packed(finished.decoys),
            "area_angstrom2": finished.area_angstrom2,
            "measured": finished.measured,
        }
        if finished.contamination is not None:
            entry["bad_areas"] = finished.contamination.as_dict()
            entry["distances"] = _packed(own.extra[DISTANCE])
            entry["refused"] = finished.refused
        self._lines[source.name] = (self._append(_line(entry)), entry["of"])

    def write(self, path: Path, text: str) -> bool:
        """Write a file of picks, unless it was changed since it was last written.

        Returns
        -------
        bool
            False if it was changed, for example in a program that shows picks; it is kept.
        """
        name, wanted = path.relative_to(self._path.parent).as_posix(), digest([text.encode()])
        known = self._written.setdefault(name, set())
        there = digest([path.read_bytes()]) if path.is_file() else None
        if there is not None and known and there not in {*known, wanted}:
            return False
        if wanted not in known:
            # Noted first: otherwise, if interrupted here, the file would be taken for changed.
            self._append(_line({"written": [name, wanted]}))
            known.add(wanted)
        if there != wanted:
            write_text(path, text)
        return True

    def _append(self, line: bytes) -> int:
        """Add a line and return where it begins."""
        with self._lock:
            try:
                with self._path.open("r+b") as stream:
                    # Overwrites what a full disk or a signal may have left of a line.
                    stream.seek(self._end)
                    stream.write(line)
                    stream.truncate()
            except OSError as error:
                raise BadInput(f"{self._path} cannot be written ({error.strerror})") from error
            self._end += len(line)
            return self._end - len(line)


def _identity(source: Source) -> list[Any]:
    """Return what identifies a micrograph: its content and the pixel size in its STAR file."""
    try:
        return [fingerprint_file(source.path), source.pixel_size_angstrom]
    except BadInput:
        return []  # equal to none that is done


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def _entry(line: bytes) -> tuple[str, list[Any], MicrographResult]:
    if not line.endswith(b"\n"):
        raise ValueError("an incomplete line")
    value = json.loads(line)
    name, size, of = value["micrograph"], float(value["pixel_size_angstrom"]), value["of"]
    if not isinstance(name, str) or not isinstance(of, list) or not is_plausible_pixel_size(size):
        raise ValueError("a line of unknown kind")
    numbers, area = _unpacked(value["candidates"]).reshape(-1, 3), float(value["area_angstrom2"])
    if not 0 <= area < math.inf or (np.diff(numbers[:, 2]) > 0).any():
        raise ValueError("impossible values")
    candidates = Picks.on(name, numbers[:, :2], numbers[:, 2])
    decoys = None if value["decoys"] is None else _unpacked(value["decoys"])
    measured = MicrographMeasurements(*(_known(own) for own in value["measured"]))
    contamination, refused = None, False
    if "bad_areas" in value:
        contamination = ContaminationMask.from_dict(value["bad_areas"])
        candidates = add_distances(candidates, _unpacked(value["distances"], endless=True))
        refused = bool(value["refused"])
    return (
        name,
        of,
        MicrographResult(candidates, size, decoys, area, measured, contamination, refused),
    )


def _known(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _note(line: bytes) -> tuple[str, str, Any]:
    """Return kind, name and value of a line that is not the result of a micrograph."""
    if not line.endswith(b"\n"):
        raise ValueError("an incomplete line")
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line of unknown kind")
    ((kind, (name, note)),) = value.items()
    return str(kind), str(name), note


def _packed(numbers: FloatArray) -> str:
    return base64.b64encode(numbers.astype("<f8").tobytes()).decode()


def _unpacked(text: str, endless: bool = False) -> FloatArray:
    """Return packed numbers, infinite ones only where they are allowed."""
    numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    if np.isnan(numbers).any() or not (endless or np.isfinite(numbers).all()):
        raise ValueError("not a number")
    return numbers
