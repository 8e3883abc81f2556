"""Picking all micrographs: ``heliodor pick`` as a process beside the server."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from heliodor.app.server.annotations import KINDS, Annotations
from heliodor.app.server.child_process import (
    COMMAND,
    await_end,
    start_command,
    watch_command,
)
from heliodor.app.server.command_inputs import exclude_words, name_inputs
from heliodor.app.server.pace import Pace
from heliodor.app.server.predictions import Predictions
from heliodor.app.server.project import MASKS, PICKS, Project
from heliodor.app.server.provenance import describe_making
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.user_masks import UserMaskStore
from heliodor.errors import SOME_FAILED
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.corrections import render_offsets
from heliodor.picking.journal import NAME as JOURNAL
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_subfolder,
    read_json,
    write_json,
    write_text,
)

#: Seconds between two checks of the progress.
_POLL_SECONDS = 0.5
#: What a run was made with, beside its run.json.
MADE_WITH = "made_with.json"
#: The folder in the project of the picks that a cluster makes.
CLUSTER_PICKS = "cluster_picks"
_ENTRY = b'{"micrograph": '


class BatchRun:
    """Picks all micrographs, one run at a time; any thread may call.

    Parameters
    ----------
    project, annotations, predictions, masks
        The project, what the user labeled, what the engine found, and the contamination that the
        user edited.
    threads
        Threads of the command.
    command
        The command before the word `pick`.
    device
        Where it is to compute.
    note
        Called with what happens, for the log of the project.
    """

    def __init__(
        self,
        project: Project,
        annotations: Annotations,
        predictions: Predictions,
        masks: UserMaskStore,
        threads: int,
        command: Sequence[str] = COMMAND,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._project, self._threads, self._command = project, threads, command
        self._device, self._note = device, note
        self._pace = Pace()
        self._annotations, self._predictions, self._masks = annotations, predictions, masks
        self._folder = project.folder / PICKS
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._cancelled = False
        result = self._read_result()
        total = len(project.included) if result is None else result["micrographs"]
        self._state: dict[str, Any] = {
            "state": "none" if result is None else "done",
            "done": 0 if result is None else total,
            "of": total,
            "says": None,
            "result": result,
        }

    def start(self) -> None:
        """Start a run.

        Raises
        ------
        HTTPException
            If a run has not finished, or the project has no diameter.
        BadInput
            If the folder for the picks cannot be used.
        """
        settings = self._project.settings
        with self._lock:
            if self._process is not None:
                raise refuse("all micrographs are already being picked", 409)
            if settings.diameter_angstrom is None:
                raise refuse("set the particle's diameter first", 409)
            create_subfolder(self._project.folder, PICKS)
            made = self._describe()
            here = ["--threads", str(self._threads)]
            if self._device != "auto":
                here += ["--device", self._device]
            scores = ["--app-scores", str(self._project.folder)]
            words = [*self._command, *self._words(made, self._folder, *here, *scores)]
            write_json(self._folder / MADE_WITH, made)
            log = self._project.folder / "run.log"
            write_text(log, f"{shlex.join(words)}\n")
            self._process = start_command(words, log)
            self._cancelled = False
            total = len(self._project.included)
            self._state |= {"state": "running", "done": 0, "of": total, "says": "starting"}
            self._state["result"] = None
            self._pace.restart()
            self._note(f"picking of all {count_of(total, 'micrograph')} started")
            self._watcher = threading.Thread(
                target=self._watch, args=(self._process, log), name="run", daemon=True
            )
            self._watcher.start()

    def cluster_words(self) -> list[str]:
        """Return arguments of `heliodor` that pick on a cluster with what the page shows now.

        The corrections are kept in a folder of their own, that of the results.

        Raises
        ------
        HTTPException
            If the project has no diameter.
        BadInput
            If the folder cannot be used.
        """
        with self._lock:
            if self._project.settings.diameter_angstrom is None:
                raise refuse("set the particle's diameter first", 409)
            folder = create_subfolder(self._project.folder, CLUSTER_PICKS)
            made = self._describe()
            words = self._words(made, folder, "--cluster", "slurm")
            write_json(folder / MADE_WITH, made)
        return words

    def cluster_command(self) -> str:
        """Return a command line that picks on a cluster; see `cluster_words`."""
        return write_command(self.cluster_words())

    def _describe(self) -> dict[str, Any]:
        """Describe what the page shows, with which a run is made."""
        return describe_making(self._project, self._annotations, self._predictions, self._masks)

    def _words(self, made: Mapping[str, Any], folder: Path, *more: str) -> list[str]:
        """Return the arguments of `heliodor` that pick with what the page shows.

        Parameters
        ----------
        made
            What the page shows.
        folder
            Of the results, and of the files with the corrections.
        more
            Further options.
        """
        settings = self._project.settings
        words = ["pick", "--report", "-o", str(folder), *more]
        if settings.model:
            words += ["--model", str(self._project.model_file(settings.model))]
        else:
            words += ["--diameter", repr(settings.diameter_angstrom)]
        if settings.threshold is not None or self._predictions.calibration(settings.model).settled:
            words += [f"--threshold={made['threshold']!r}"]
        elif settings.max_fdr is not None:
            words += ["--max-fdr", repr(settings.max_fdr)]
        if settings.pixel_size_angstrom is not None:
            words += ["--pixel-size", repr(settings.pixel_size_angstrom)]
        for value, option in (
            (settings.exclusion_radius_angstrom, "--exclusion-radius"),
            (settings.edge_margin_angstrom, "--edge-margin"),
        ):
            if value is not None:
                words += [option, repr(value)]
        if made["threshold_offsets"]:
            path = folder / "threshold_offsets.txt"
            write_text(path, render_offsets(made["threshold_offsets"]))
            words += ["--threshold-offsets", str(path)]
        for kind, option in (("particle", "--labels"), ("negative", "--negatives")):
            path = folder / KINDS[kind]
            write_text(path, self._annotations.render(kind))
            if made[f"{kind}s"]:
                words += [option, str(path)]
        words += exclude_words(self._project, folder)
        if self._masks.write_inputs(folder / MASKS, self._make_empty_mask):
            words += ["--mask", str(folder / MASKS), "--bad-area-masks"]
        relion_project = self._project.find_relion_project()
        if relion_project is not None:
            words += ["--relion-project", str(relion_project)]
        return [*words, "--micrographs", *name_inputs(self._project)]

    def _make_empty_mask(self, number: int) -> ContaminationMask | None:
        """Return an empty mask in place of what was detected; None if that is nothing."""
        found = self._predictions.get(number)
        shown = None if found is None else found.contamination
        if shown is None or not shown.mask.any():
            return None
        return replace(shown, mask=np.zeros_like(shown.mask), fraction=0.0)

    def _read_result(self) -> dict[str, Any] | None:
        """Return what the last run that finished picked; None if there is none."""
        try:
            record = read_json(self._folder / "run.json")
            made = read_json(self._folder / MADE_WITH)
            failed = [
                {"name": one["micrograph"], "why": one["reason"]} for one in record["failed"]
            ]
            return {
                **made,
                "threshold": float(record["threshold"]),
                "date": str(record["started"]),
                "picks": int(record["picks"]),
                "picked": len(record["picks_per_micrograph"]),
                "micrographs": len(record["picks_per_micrograph"]) + len(failed),
                "failed": failed,
                "file": str((self._folder / "autopick.star").absolute()),
            }
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            return None  # it did not finish, or is damaged

    def _watch(self, process: subprocess.Popen[bytes], log: Path) -> None:
        journal = JournalCounter(self._folder / JOURNAL)

        def look() -> None:
            done, says = journal.count(), read_last_line(log)
            with self._lock:
                self._pace.note(done)
                self._state |= {"done": min(done, self._state["of"]), "says": says}

        code = watch_command(process, look, _POLL_SECONDS)
        with self._lock:
            self._process = None
            if code in (0, SOME_FAILED):
                self._state |= {"state": "done", "result": self._read_result()}
            else:
                self._state |= {"state": "cancelled" if self._cancelled else "failed"}
            self._note_end()

    def _note_end(self) -> None:
        state, result = self._state["state"], self._state["result"]
        if state == "done" and result is not None:
            picks = count_of(result["picks"], "pick")
            failed = f", {len(result['failed'])} failed" if result["failed"] else ""
            on = count_of(result["picked"], "micrograph")
            self._note(f"picked {on}{failed}: {picks} in {result['file']}")
        else:
            self._note(f"picking of all micrographs ended: {state}")

    def state(self) -> dict[str, Any]:
        """Return the state and the progress."""
        with self._lock:
            running = self._state["state"] == "running"
            left = self._state["of"] - self._state["done"] if running else 0
            seconds = self._pace.seconds_left(left)
            own = {**self._state, "changes": [], "seconds_left": seconds}
        done = own["state"] == "done" and (self._folder / "report.html").is_file()
        return {**own, "report": "/report/report.html" if done else None}

    def cancel(self) -> None:
        """Stop the run; the next one resumes it."""
        with self._lock:
            if self._process is not None:
                self._cancelled = True
                self._process.terminate()

    def close(self) -> None:
        """Stop the run and wait for its end."""
        self.cancel()
        with self._lock:
            process, watcher = self._process, self._watcher
        await_end(process, watcher)


def write_command(words: Sequence[str]) -> str:
    """Return a command line of `heliodor` with these arguments, for a terminal in any folder."""
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join(['heliodor', *words])}"


class JournalCounter:
    """Counts the micrographs in the journal of a run, reading each byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._file: tuple[int, int] | None = None
        self._at, self._count, self._rest = 0, 0, b""

    def count(self) -> int:
        """Return the number of micrographs that are done."""
        try:
            with self._path.open("rb") as stream:
                self._read(stream)
        except FileNotFoundError:
            self._begin()
        return self._count

    def _read(self, stream: BinaryIO) -> None:
        status = os.fstat(stream.fileno())
        if self._file != (status.st_dev, status.st_ino) or status.st_size < self._at:
            self._begin()  # it was started over
            self._file = (status.st_dev, status.st_ino)
        stream.seek(self._at)
        while block := stream.read(2**20):
            self._at += len(block)
            lines = (self._rest + block).split(b"\n")
            self._count += sum(line.startswith(_ENTRY) for line in lines[:-1])
            # The start of an unfinished line is enough to recognize it.
            self._rest = lines[-1][: len(_ENTRY)]


def read_last_line(log: Path) -> str | None:
    """Return the last line of a log file."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 4096))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    texts = [line.strip() for line in lines[1:] if line.strip()]
    return texts[-1][:500] if texts else None
