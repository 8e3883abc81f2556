"""A thorough training: ``heliodor train --effort thorough`` as a process beside the server."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from heliodor.app.protocol import describe_calibration
from heliodor.app.server.child_process import (
    COMMAND,
    await_end,
    start_command,
    watch_command,
)
from heliodor.app.server.engine_session import EngineSession
from heliodor.app.server.project import Project
from heliodor.app.server.request_parsing import refuse
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import relion_star
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs import star_list
from heliodor.data.star import render_blocks
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_subfolder,
    read_json,
    remove_subfolder,
    write_json,
    write_text,
)
from heliodor.utils.json_schema import StoredModel, validate

#: The folder of the training in the project, until it is done, and its log.
FOLDER, LOG = "thorough_training", "thorough_training.log"
#: What the training is on, in its folder.
MADE_WITH: Final = "made_with.json"
#: With fewer labels than this, `heliodor train` warns; minutes are not worth spending on them.
FEWEST_LABELS: Final = 10
#: Seconds between two looks at the process.
_POLL_SECONDS = 0.5
#: Seconds of a training from which on the time that is left is known.
_LEAST_SECONDS = 5.0
#: How the process ranks among others of the computer: the page is used meanwhile.
_NICENESS = 10
_EPOCH = re.compile(r"epoch (\d+) of (\d+): ")
#: What is reported in turn, how the page calls it, and its share of the whole time (on a CPU with
#: 45 labels; with more labels, each of the four trainings takes a larger share).
_STAGES: Final = (
    ("reading micrographs", "reading micrographs", 0.02),
    ("checking the labels", "checking the labels", 0.02),
    ("picking", "picking with the general model", 0.03),
    ("epoch", "training the first of four models", 0.22),
    ("training the second", "training the second of four models", 0.10),
    ("training the third", "training the third of four models", 0.08),
    ("training the fourth", "training the fourth of four models", 0.17),
    ("scoring with four", "scoring with all four models", 0.08),
    ("learning from four", "learning from all four models", 0.25),
    ("calibrating", "calibrating scores", 0.03),
)


class _StoredMaking(StoredModel):
    """What the page shows of a training that was stopped."""

    date: str
    labels: int


class TrainingLog:
    """How far a thorough training is, from its log, of which each byte is read once.

    Parameters
    ----------
    path
        The log, with messages and progress as lines of JSON.
    begin
        Where in the file it begins, in bytes.
    clock
        Seconds that never go back.
    """

    def __init__(
        self, path: Path, begin: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._clock = path, clock
        self._at, self._rest = begin, b""
        self._stage = -1
        #: Seconds and share of what was reported; what an earlier process did is in neither.
        self._spent, self._gained = 0.0, 0.0
        self._last = clock()
        #: What is done of the whole training, between 0 and 1.
        self.share = 0.0
        #: The last error, as a sentence.
        self.error: str | None = None
        #: The last line that is no JSON, as that of an exception.
        self.other: str | None = None

    @property
    def stage(self) -> str | None:
        """What is being done, if that is known."""
        return _STAGES[self._stage][1] if self._stage >= 0 else None

    def read(self) -> None:
        """Take over what was written since the last time."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._at)
                block = stream.read()
        except OSError:
            return
        self._at += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace").strip())

    def _take(self, line: str) -> None:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self.other = line[:500] or self.other
        elif said.get("event") == "progress":
            self._note(str(said.get("what")), said.get("done"), said.get("total"))
        elif said.get("event") == "message":
            text = str(said.get("text"))
            if said.get("level") == "error":
                self.error = text.removeprefix("heliodor: ")[:500]
            elif found := _EPOCH.match(text):
                self._note("epoch", int(found[1]), int(found[2]))

    def _note(self, what: str, done: Any, total: Any) -> None:
        """Record progress within a stage; stages that are not known are left out."""
        places = [i for i, stage in enumerate(_STAGES) if what.startswith(stage[0])]
        if not places or not isinstance(done, int) or not isinstance(total, int) or total < 1:
            return
        (place,) = places
        before = sum(stage[2] for stage in _STAGES[:place])
        share = before + _STAGES[place][2] * min(1.0, done / total)
        if share < self.share:
            return
        now = self._clock()
        if place == self._stage:
            self._spent += now - self._last
            self._gained += share - self.share
        self._stage, self.share, self._last = place, share, now

    def seconds_left(self) -> float | None:
        """Return the seconds that the training will still take; None while that is not known."""
        if self._spent < _LEAST_SECONDS or self._gained <= 0:
            return None
        left = (1 - self.share) * self._spent / self._gained
        return max(0.0, left - (self._clock() - self._last))


class ThoroughTraining:
    """Trains a model thoroughly, one at a time; any thread may call.

    It is added to the models of the project, and used once the user says so.

    Parameters
    ----------
    project
        The project, used by this process only.
    engine
        It knows what was labeled, and the numbers of models.
    threads
        Threads of the command.
    lock
        The lock of the `ProjectState`.
    device
        Where it is to compute.
    note
        Called with what happens, for the log of the project.
    command
        The command before the word `train`.
    """

    def __init__(
        self,
        project: Project,
        engine: EngineSession,
        threads: int,
        lock: threading.RLock,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._project, self._engine, self._threads, self._lock = project, engine, threads, lock
        self._device, self._note, self._command = device, note, command
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._is_cancelled = False
        self._log = TrainingLog(project.folder / LOG)
        self._made: Mapping[str, Any] = {}
        stopped = _read_making(project.folder / FOLDER / MADE_WITH)
        self._state: dict[str, Any] = {
            "state": "none" if stopped is None else "stopped",
            "says": None,
            "number": None,
            "labels": None if stopped is None else stopped.labels,
            "date": None if stopped is None else stopped.date,
        }

    def start(self) -> None:
        """Start a training on all annotations; it resumes one on the same that was stopped.

        Raises
        ------
        HTTPException
            If one is running, or there is no diameter or not enough labels.
        BadInput
            If the folder cannot be used.
        """
        with self._lock:
            if self._process is not None:
                raise refuse("a thorough training is already running", 409)
            request, made = self._engine.gather_training(self._engine.next_model())
            if made["labels"] < FEWEST_LABELS:
                raise refuse(f"mark at least {FEWEST_LABELS} particles first", 409)
            # Whatever is in use, a thorough training starts from the general model.
            self._made = {**made, "from": 0, "trained": "thorough"}
            folder = create_subfolder(self._project.folder, FOLDER)
            words = [
                *self._command,
                *self._write_inputs(folder, request.labels, request.negatives),
            ]
            write_json(folder / MADE_WITH, self._made)
            log = self._project.folder / LOG
            write_text(log, f"{shlex.join(words)}\n")
            self._log = TrainingLog(log, begin=log.stat().st_size)  # after the command line
            self._process = start_command(words, log)
            with suppress(OSError):  # as where it has ended already
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
            self._is_cancelled = False
            self._state = {
                "state": "running", "says": None, "number": None, "labels": made["labels"],
                "date": made["date"],
            }  # fmt: skip
            labels = count_of(made["labels"], "label")
            on = count_of(made["micrographs_labeled"], "micrograph")
            self._note(f"thorough training started: {labels} on {on}")
            self._watcher = threading.Thread(
                target=self._watch, args=(self._process,), name="thorough training", daemon=True
            )
            self._watcher.start()

    def _write_inputs(
        self,
        folder: Path,
        labels: Mapping[int, FloatArray],
        negatives: Mapping[int, FloatArray],
    ) -> list[str]:
        """Write the micrographs that are not excluded and their annotations; return the arguments.

        Parameters
        ----------
        folder
            Of these files and of the results.
        labels, negatives
            Positions (x, y) in pixels of the original file, by the micrograph's number.
        """
        project, settings = self._project, self._project.settings
        included = [project.sources[number] for number in project.included]
        listed = folder / "micrographs.star"
        # The list has no rows of micrographs that are excluded, and `train` reads no others.
        columns = {
            star_list.PIXEL_SIZE: [source.pixel_size_angstrom or 0.0 for source in included],
            star_list.NAME: [str(source.path.absolute()) for source in included],
        }
        write_text(listed, render_blocks({"micrographs": columns}))
        words = ["train", "--effort", "thorough", "-o", str(folder)]
        # People click on these very micrographs: the labels need not be compared with them.
        words += ["--trust-labels", "--progress", "json", "--threads", str(self._threads)]
        words += ["--diameter", repr(settings.diameter_angstrom)]
        if self._device != "auto":
            words += ["--device", self._device]
        if settings.pixel_size_angstrom is not None:
            words += ["--pixel-size", repr(settings.pixel_size_angstrom)]
        for option, positions in (("--labels", labels), ("--negatives", negatives)):
            if positions:
                path = folder / f"{option.removeprefix('--')}.star"
                tables = [
                    Picks.on(str(project.sources[number].path.absolute()), xy)
                    for number, xy in sorted(positions.items())
                ]
                write_text(path, relion_star.render_picks(Picks.concatenate(tables)))
                words += [option, str(path)]
        return [*words, "--micrographs", str(listed)]

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        def look() -> None:
            with self._lock:
                self._log.read()

        code = watch_command(process, look, _POLL_SECONDS)
        with self._lock:
            self._process = None
            if code not in (0, SOME_FAILED):
                self._end_without_model(code)
                return
            try:
                number = self._keep()
            except (OSError, ValueError, LookupError, TypeError) as error:
                self._fail(f"the model cannot be kept ({error}); it is in {FOLDER}")
                return
            self._state |= {"state": "done", "number": number}
            self._note(f"model {number} trained thoroughly")

    def _end_without_model(self, code: int) -> None:
        if self._is_cancelled:
            self._state["state"] = "cancelled"
            self._note("the thorough training was canceled")
        else:
            reason = self._log.error or self._log.other or f"exit code {code}; see {LOG}"
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        (self._project.folder / FOLDER / MADE_WITH).unlink(missing_ok=True)
        self._state |= {"state": "failed", "says": reason}
        self._note(f"the thorough training failed: {reason}")

    def _keep(self) -> int:
        """Add the model to those of the project; return its number.

        Raises
        ------
        OSError, BadInput, ValueError, LookupError, TypeError
            If a file is missing or damaged, or cannot be written.
        """
        project, folder = self._project, self._project.folder / FOLDER
        card = read_json(folder / "run.json")["model"]
        known = card["calibration"]
        calibration = None if known is None else Calibration.from_dict(known)
        number = self._engine.next_model()
        record = {
            **self._made,
            "number": number,
            "threshold": float(card["threshold"]),
            "calibration": describe_calibration(
                None if calibration is None else calibration.for_other_micrographs()
            ),
            "micrographs": None,
            "settled": True,
        }
        # The model comes last: with its file, it is in the list.
        write_json(project.model_file(number, ".json"), record)
        os.replace(folder / "model.safetensors", project.model_file(number))
        with suppress(BadInput):  # the model is kept; what is left of the training is no use
            remove_subfolder(project.folder, FOLDER)
        return number

    def state(self) -> dict[str, Any]:
        """Return the state and the progress.

        The `state` is none, running, done, failed, cancelled, or stopped: by the end of an earlier
        session.
        """
        with self._lock:
            own = {**self._state, "fewest_labels": FEWEST_LABELS}
            running = own["state"] == "running"
            return {
                **own,
                "stage": self._log.stage if running else None,
                "share": round(self._log.share, 4) if running else None,
                "seconds_left": self._log.seconds_left() if running else None,
            }

    def cancel(self) -> None:
        """Stop the training; the next one on the same labels resumes it."""
        with self._lock:
            if self._process is not None:
                self._is_cancelled = True
                self._process.terminate()

    def close(self) -> None:
        """Stop the training and wait for its end."""
        self.cancel()
        with self._lock:
            process, watcher = self._process, self._watcher
        await_end(process, watcher)


def _read_making(path: Path) -> _StoredMaking | None:
    """Read what a training was on that was stopped; None if there is none."""
    try:
        return validate(_StoredMaking, read_json(path), "it")
    except (OSError, ValueError):
        return None  # it was never started, has ended, or the file is damaged
