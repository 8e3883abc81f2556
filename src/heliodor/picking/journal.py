"""The journal of picking: what is done already, so that an interrupted run can resume.

One hidden file with one line of JSON per micrograph, added as soon as it is picked. What it keeps
depends on what is picked: particles (`PARTICLES`), or filaments. One process writes it, and
others may read it meanwhile. It keeps all candidates exactly, those below the
threshold too, so that results read from it are the same as those of a run that was not
interrupted. Only the positions of the lines are kept in memory, so that thousands of micrographs
take little. An incomplete last line does not count.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import is_plausible_pixel_size
from heliodor.errors import BadInput
from heliodor.evaluation.score_histogram import MicrographScores
from heliodor.picking.claims import Member
from heliodor.picking.contamination import (
    DISTANCE,
    ContaminationMask,
    add_distances,
)
from heliodor.picking.micrograph_quality import MicrographMeasurements
from heliodor.utils.files import write_text
from heliodor.utils.hashing import FileVersion, digest, fingerprint_file, read_file_state

NAME = ".picking.jsonl"
#: Changes with the content of the lines: a journal of another form is not used.
FORM = 6
#: How a line with the result of a micrograph begins.
_ENTRY = b'{"micrograph": '
#: Longer first lines, in bytes, are damage: with the fingerprint of a mask for each of a hundred
#: thousand micrographs there are some 20 MB.
_LONGEST_HEAD = 2**26
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


R = TypeVar("R")


class Codec(Protocol[R]):
    """How the result of a micrograph is written as JSON, and read."""

    def encode(self, result: R) -> dict[str, Any]:
        """Return the values of a result, ready for JSON."""
        ...

    def decode(self, name: str, values: Mapping[str, Any]) -> R:
        """Return the result of a micrograph.

        Raises
        ------
        ValueError, LookupError, TypeError, OverflowError
            If the values are damaged.
        """
        ...

    def has_decoys(self, result: R) -> bool:
        """Return whether decoys were looked for, or need not be."""
        ...


class ParticleCodec:
    """Writes and reads the results of picking particles."""

    def encode(self, result: MicrographResult) -> dict[str, Any]:
        """Return the values of a result, ready for JSON."""
        own = result.candidates
        values: dict[str, Any] = {
            "pixel_size_angstrom": result.pixel_size_angstrom,
            "candidates": pack(np.column_stack([own.xy_px, own.score])),
            "decoys": None if result.decoys is None else pack(result.decoys),
            "area_angstrom2": result.area_angstrom2,
            "measured": result.measured,
        }
        if result.contamination is not None:
            values["bad_areas"] = result.contamination.as_dict()
            values["distances"] = pack(own.extra[DISTANCE])
            values["refused"] = result.refused
        return values

    def decode(self, name: str, values: Mapping[str, Any]) -> MicrographResult:
        """Return the result of a micrograph."""
        size, area = float(values["pixel_size_angstrom"]), float(values["area_angstrom2"])
        numbers = unpack(values["candidates"]).reshape(-1, 3)
        if not is_plausible_pixel_size(size):
            raise ValueError("a line of unknown kind")
        if not 0 <= area < math.inf or (np.diff(numbers[:, 2]) > 0).any():
            raise ValueError("impossible values")
        candidates = Picks.on(name, numbers[:, :2], numbers[:, 2])
        decoys = None if values["decoys"] is None else unpack(values["decoys"])
        measured = MicrographMeasurements(*(_known(own) for own in values["measured"]))
        contamination, refused = None, False
        if "bad_areas" in values:
            contamination = ContaminationMask.from_dict(values["bad_areas"])
            candidates = add_distances(candidates, unpack(values["distances"], endless=True))
            refused = bool(values["refused"])
        return MicrographResult(candidates, size, decoys, area, measured, contamination, refused)

    def has_decoys(self, result: MicrographResult) -> bool:
        """Return whether decoys were looked for, or need not be."""
        return result.decoys is not None or result.refused


#: The results of picking particles.
PARTICLES: Final = ParticleCodec()


@dataclass(frozen=True)
class Session:
    """A process that picked, as it noted it in its journal when it started."""

    #: As of its `Member`.
    name: str
    host: str
    process: int
    #: Which part it picked; empty for all micrographs.
    part: str
    #: The number of micrographs that it was to pick, and of those that were done before.
    micrographs: int
    done: int
    #: When it started, by the clock of its host: seconds since 1970.
    at: float
    #: Which job the part belongs to.
    job: str = ""

    @classmethod
    def begin(cls, member: Member, micrographs: int, done: int, job: str = "") -> Session:
        """Return the session that begins now."""
        return cls(
            member.name, member.host, member.process, member.task, micrographs, done, _now(), job
        )

    @classmethod
    def from_note(cls, name: str, note: Any) -> Session:
        """Return a session that was noted.

        Raises
        ------
        ValueError, LookupError, TypeError
            If the note is damaged.
        """
        own = cls(
            name, str(note["host"]), int(note["process"]), str(note["part"]),
            int(note["micrographs"]), int(note["done"]), float(note["at"]), str(note["job"]),
        )  # fmt: skip
        if not math.isfinite(own.at):
            raise ValueError("impossible values")
        return own


class _Entry(NamedTuple):
    """Where the result of a micrograph is, and of what it was made."""

    start: int
    length: int
    of: list[Any]
    state: list[int]
    has_decoys: bool
    #: When it was added, by the clock of the host: seconds since 1970.
    at: float


class JournalReader(Generic[R]):
    """What a journal says, as far as it has been read; the file is left as it is.

    Parameters
    ----------
    path
        The file, which another process may be writing.
    made_with
        Everything that the picks of a given micrograph depend on, ready for JSON. A journal with
        other values says nothing. None accepts any.
    codec
        What is kept of a micrograph. None does not look at the results, and `get` cannot be used.
    """

    def __init__(
        self, path: Path, made_with: Mapping[str, Any] | None, codec: Codec[R] | None
    ) -> None:
        self.path = path
        self._codec = codec
        self._wanted = None if made_with is None else _line({"form": FORM, **made_with})
        #: Its first line, as far as it is known to be the right one.
        self.head: bytes | None = None
        #: Where the first line begins that has not been read.
        self._end = 0
        self._entries: dict[str, _Entry] = {}
        #: For `get`, by one thread at a time.
        self._stream: FileIO | None = None
        self._reading = threading.Lock()
        #: The micrographs that could not be used.
        self._failed: dict[str, _Failed] = {}
        #: Fingerprints of what was ever written to a file, by its name.
        self._written: dict[str, set[str]] = {}
        #: The micrographs that were started, in order; and the identity of those that the program
        #: crashed on.
        self._begun: dict[str, bool] = {}
        self._crashed: dict[str, list[list[Any]]] = {}
        #: The processes that wrote it, the last one last.
        self.sessions: list[Session] = []

    def refresh(self) -> bool:
        """Read what was added since the last call.

        A damaged line is passed over: its micrograph is picked again. An incomplete last line
        is left for the next call.

        Returns
        -------
        bool
            False if the journal does not exist or was made with other values.
        """
        try:
            with self.path.open("rb") as stream:
                if self.head is None and not self._read_head(stream):
                    return False
                stream.seek(self._end)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    with suppress(*_MISFITS):
                        self._take(line)
                    self._end += len(line)
        except OSError:
            return False
        return True

    def is_made_with_other(self) -> bool:
        """Return whether the journal was made with other values, or in another form."""
        if self._wanted is None or self.head is not None:
            return False
        try:
            with self.path.open("rb") as stream:
                return not self._wanted.startswith(stream.read(len(self._wanted)))
        except OSError:
            return False

    def _read_head(self, stream: BinaryIO) -> bool:
        """Read the first line; return whether it is that of a journal made with the same."""
        head = stream.readline(_LONGEST_HEAD if self._wanted is None else len(self._wanted))
        if self._wanted is None:
            if not head.endswith(b"\n") or not head.startswith(_line({"form": FORM})[:-2]):
                return False
        elif head != self._wanted:
            return False
        self.head, self._end = head, len(head)
        return True

    def _take(self, line: bytes) -> None:
        """Read a line, which begins where the last one ended."""
        if line.startswith(_ENTRY):
            parsed, codec = _parse_entry(line), self._codec
            self._entries[parsed.name] = _Entry(
                self._end,
                len(line),
                parsed.of,
                parsed.state,
                codec is None or codec.has_decoys(codec.decode(parsed.name, parsed.values)),
                parsed.at,
            )
            self._begun.pop(parsed.name, None)
            self._failed.pop(parsed.name, None)
            return
        what, name, note = _note(line)
        if what == "written":
            self._written.setdefault(name, set()).add(str(note))
        elif what == "begun":
            self._begun.pop(name, None)
            self._begun[name] = bool(note)
        elif what == "failed":
            self._failed[name] = _failed(note)
            self._begun.pop(name, None)
        elif what == "crashed":
            self._crashed.setdefault(name, []).append(list(note))
        elif what == "session":
            self.sessions.append(Session.from_note(name, note))
        else:
            raise ValueError("a line of unknown kind")

    def list_interrupted(self) -> list[str]:
        """Return the micrographs that were started and neither done nor failed since."""
        return list(self._begun)

    def has_crashed(self, source: Source) -> bool:
        """Return whether the program crashed twice on a micrograph that is still the same."""
        found = self._crashed.get(source.name, [])
        return len(found) > 1 and found.count(identify_micrograph(source)) > 1

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done and its file has not changed since."""
        found = self._entries.get(source.name)
        return (
            found is not None
            and found.of != []
            and is_same_micrograph(source, found.of, found.state)
        )

    def has_failed(self, source: Source) -> bool:
        """Return whether a micrograph could not be used and its file has not changed since."""
        found = self._failed.get(source.name)
        return found is not None and is_same_micrograph(source, found.of, found.state)

    def has_decoys(self, name: str) -> bool:
        """Return whether decoys were looked for on a micrograph that is done, or need not be."""
        return self._entries[name].has_decoys

    def list_times(self) -> dict[str, float]:
        """Return when each micrograph was done, in seconds since 1970 by the writer's clock."""
        return {name: entry.at for name, entry in self._entries.items()}

    def list_failures(self) -> dict[str, tuple[str, float]]:
        """Return the micrographs that could not be used: why, and when that was noted."""
        return {name: (failed.reason, failed.at) for name, failed in self._failed.items()}

    def get(self, name: str) -> R:
        """Return the result of a micrograph that is done.

        Raises
        ------
        BadInput
            If the journal can no longer be read.
        """
        assert self._codec is not None
        entry = self._entries[name]
        try:
            with self._reading:
                # Opened once, as opening asks the server of a network file system.
                if self._stream is None:
                    self._stream = self.path.open("rb", buffering=0)
                    weakref.finalize(self, self._stream.close)
                self._stream.seek(entry.start)
                line = self._stream.read(entry.length)
            parsed = _parse_entry(line)
            return self._codec.decode(parsed.name, parsed.values)
        except (OSError, *_MISFITS) as error:
            raise BadInput(
                f"{self.path} was changed while it was in use; pick again with --resume never"
            ) from error


class Journal(JournalReader[R]):
    """The journal that this process writes.

    Parameters
    ----------
    folder
        Where it is.
    made_with
        Everything that the picks of a given micrograph depend on, ready for JSON. A journal with
        other values is replaced.
    codec
        What is kept of a micrograph.
    overwrite
        Replace the journal in any case.
    name
        Of the file.
    """

    def __init__(
        self,
        folder: Path,
        made_with: Mapping[str, Any],
        codec: Codec[R],
        overwrite: bool = False,
        name: str = NAME,
    ) -> None:
        super().__init__(folder / name, made_with, codec)
        self._own_codec = codec
        self._lock = threading.Lock()
        head = _line({"form": FORM, **made_with})
        # A link is replaced: nothing is written to the file that it leads to.
        usable = self.path.is_file() and not self.path.is_symlink()
        if overwrite or not (usable and self._read()):
            self._create(head)
            self.head, self._end = head, len(head)

    def _create(self, head: bytes) -> None:
        """Write a journal without micrographs, in place of another if there is one."""
        try:
            with self.path.open("xb") as stream:
                stream.write(head)
        except FileExistsError:
            write_text(self.path, head.decode())
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise BadInput(f"{self.path} cannot be written ({error.strerror})") from error

    def _read(self) -> bool:
        """Read what an earlier run wrote; return whether it was made with the same settings."""
        try:
            with self.path.open("r+b") as stream:
                if not self._read_head(stream):
                    return False
                for line in stream:
                    try:
                        self._take(line)
                    except _MISFITS:
                        break
                    self._end += len(line)
                stream.truncate(self._end)  # nothing must be appended to an incomplete line
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be read ({error.strerror}); remove it to start over"
            ) from error
        return True

    def remove_if_empty(self) -> None:
        """Remove the journal if no micrograph is done."""
        if not self._entries and not self._crashed:
            self.path.unlink(missing_ok=True)

    def add_session(self, session: Session) -> None:
        """Note which process writes from here on, and what it is to do."""
        note = asdict(session)
        self._append(_line({"session": [note.pop("name"), note]}))
        self.sessions.append(session)

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started, by itself or beside others; from any thread."""
        self._append(_line({"begun": [name, alone]}))

    def record_crash(self, sources: Iterable[Source]) -> None:
        """Note that the program crashed on the micrograph started last, if it ran by itself."""
        for source in sources:
            if self._begun and source.name == next(reversed(self._begun)):
                if self._begun[source.name]:
                    was = identify_micrograph(source)
                    self._crashed.setdefault(source.name, []).append(was)
                    self._append(_line({"crashed": [source.name, was]}))
                return

    def add(self, source: Source, finished: R, version: FileVersion | None) -> None:
        """Note that a micrograph is done.

        Parameters
        ----------
        version
            The content of its file that the result was made from. None is equal to no content,
            so that the micrograph is picked again by the next run.
        """
        at = _now()
        entry: dict[str, Any] = {
            "micrograph": source.name,
            "of": [] if version is None else [version.fingerprint, source.pixel_size_angstrom],
            "state": [] if version is None else version.state,
            "at": at,
            **self._own_codec.encode(finished),
        }
        line, has_decoys = _line(entry), self._own_codec.has_decoys(finished)
        self._entries[source.name] = _Entry(
            self._append(line), len(line), entry["of"], entry["state"], has_decoys, at
        )
        self._failed.pop(source.name, None)

    def add_failure(self, source: Source, reason: str) -> None:
        """Note that a micrograph cannot be used."""
        failed = _Failed(identify_micrograph(source), read_file_state(source.path), reason, _now())
        self._append(_line({"failed": [source.name, failed]}))
        self._failed[source.name] = failed

    def write(self, path: Path, text: str) -> bool:
        """Write a file of picks, unless it was changed since it was last written.

        Returns
        -------
        bool
            False if it was changed, for example in a program that shows picks; it is kept.
        """
        name, wanted = path.relative_to(self.path.parent).as_posix(), digest([text.encode()])
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
                with self.path.open("r+b") as stream:
                    # Overwrites what a full disk or a signal may have left of a line.
                    stream.seek(self._end)
                    stream.write(line)
                    stream.truncate()
            except OSError as error:
                raise BadInput(f"{self.path} cannot be written ({error.strerror})") from error
            self._end += len(line)
            return self._end - len(line)


class _Failed(NamedTuple):
    """Why a micrograph could not be used, and its identity and state then."""

    of: list[Any]
    state: list[int]
    reason: str
    at: float


def _failed(note: Any) -> _Failed:
    of, state, reason, at = note
    if not isinstance(of, list) or not isinstance(state, list):
        raise ValueError("a line of unknown kind")
    return _Failed(of, state, str(reason), float(at))


def _now() -> float:
    return round(time.time(), 1)


def identify_micrograph(source: Source) -> list[Any]:
    """Return what identifies a micrograph: its content and the pixel size in its STAR file."""
    try:
        return [fingerprint_file(source.path), source.pixel_size_angstrom]
    except BadInput:
        return []  # equal to none that is done


def is_same_micrograph(source: Source, of: list[Any], state: list[int]) -> bool:
    """Return whether a micrograph is the one with this identity, which had this state then.

    With the same state the content need not be read; a copy of the file has another one.
    """
    if state and of[1:] == [source.pixel_size_angstrom] and read_file_state(source.path) == state:
        return True
    return of == identify_micrograph(source)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


class _Parsed(NamedTuple):
    """A line with the result of a micrograph."""

    name: str
    of: list[Any]
    state: list[int]
    at: float
    #: All of the line, with what the codec wrote.
    values: Mapping[str, Any]


def _parse_entry(line: bytes) -> _Parsed:
    if not line.endswith(b"\n"):
        raise ValueError("an incomplete line")
    values = json.loads(line)
    name, of, state, at = (values[key] for key in ("micrograph", "of", "state", "at"))
    if not isinstance(name, str) or not isinstance(of, list) or not isinstance(state, list):
        raise ValueError("a line of unknown kind")
    if not math.isfinite(float(at)):
        raise ValueError("a line of unknown kind")
    return _Parsed(name, of, state, float(at), values)


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


def pack(numbers: FloatArray) -> str:
    """Return numbers as text, exactly."""
    return base64.b64encode(numbers.astype("<f8").tobytes()).decode()


def unpack(text: str, endless: bool = False) -> FloatArray:
    """Return packed numbers, infinite ones only where they are allowed.

    Raises
    ------
    ValueError, TypeError
        If the text is damaged.
    """
    numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    if np.isnan(numbers).any() or not (endless or np.isfinite(numbers).all()):
        raise ValueError("not a number")
    return numbers
