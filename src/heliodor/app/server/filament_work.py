"""A project of filaments: what is traced, drawn, trained and exported."""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from heliodor.app.server.batch_run import CLUSTER_PICKS, JournalCounter, read_last_line
from heliodor.app.server.child_process import (
    COMMAND,
    await_end,
    start_command,
    watch_command,
)
from heliodor.app.server.command_inputs import exclude_words, name_inputs
from heliodor.app.server.filament_contamination import FilamentContamination
from heliodor.app.server.filament_labels import FilamentLabels
from heliodor.app.server.project import EXPORT, MASKS, Project
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.traced_filaments import TracedFilaments
from heliodor.app.server.user_masks import UserMaskStore
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import to_points
from heliodor.data.filaments.segments import SEGMENTS_STAR, cut_segments, write_segments
from heliodor.data.filaments.writers import FORMATS, write_filaments
from heliodor.data.micrographs.sources import are_named_from_here
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.picking.journal import NAME as JOURNAL
from heliodor.utils.console import count_of
from heliodor.utils.files import create_subfolder, remove_subfolder, write_text

log = logging.getLogger(__name__)

#: The folder of the traced filaments in the project, and their file.
TRACED, TRACED_STAR = "traced", "filaments.star"
#: RELION's particles: helical segments, which need a distance.
SEGMENTS: Final = "star"
#: Seconds between two looks at a process.
_POLL_SECONDS = 0.3


def list_filament_formats() -> list[dict[str, str]]:
    """Return the formats of exports for the page, those of RELION first."""
    segments = {"name": SEGMENTS, "says": "RELION's helical segments, for extraction"}
    names = ["start-end", *(name for name in FORMATS if name != "start-end")]
    return [segments, *({"name": name, "says": FORMATS[name].description} for name in names)]


@dataclass(frozen=True)
class FilamentExport:
    """What was exported."""

    path: Path
    filaments: int
    #: Number of segments; None if filaments were written.
    segments: int | None
    micrographs: int


class FilamentWork:
    """The filaments of a project; any thread may call.

    Parameters
    ----------
    project
        With a width of filaments.
    tiles
        For sizes and pixel sizes.
    masks
        Contamination that the user edited.
    threads, device
        Of tracing and training.
    note
        Called with what happens, for the log of the project.
    command
        The command before the words `pick` and `train`.
    touch
        Called with micrographs whose contamination was detected.
    """

    def __init__(
        self,
        project: Project,
        tiles: MicrographTiles,
        masks: UserMaskStore,
        threads: int,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = COMMAND,
        touch: Callable[[Sequence[int]], object] = lambda numbers: None,
    ) -> None:
        width = project.settings.filament_width_angstrom
        assert width is not None
        self.width_angstrom, self.labels = width, FilamentLabels(project.folder, width)
        self.traced = TracedFilaments(
            project, tiles, self.labels, width,
            [project.folder / name / TRACED_STAR for name in (TRACED, CLUSTER_PICKS)],
        )  # fmt: skip
        self._collected: str | None = None
        self.contamination = FilamentContamination(project, tiles, masks)
        self._project, self._threads, self._touch = project, threads, touch
        self._device, self._note, self._command = device, note, command
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._job: dict[str, Any] = {"job": None, "state": "none", "done": 0, "of": 0, "says": ""}
        self._is_cancelled = False

    def describe(self, number: int) -> dict[str, Any]:
        """Return the filaments of a micrograph for the page."""
        name, traced = self._project.sources[number].name, self.traced.of(number)
        return {
            **{
                f"{kind}s" if kind == "label" else kind: [
                    {"id": one.tube_id, "points": one.axis_px.tolist()}
                    for one in self.labels.of_micrograph(kind, name)
                ]
                for kind in ("label", "rejected")
            },
            "traced": None if traced is None else [
                {
                    "points": one.filament.axis_px.tolist(),
                    "score": _known(one.filament.score),
                    "is": one.state,
                }
                for one in traced
            ],
            "width_px": _known(2.0 * self.traced.radius_px(number)),
            "contamination": self.contamination.describe(number),
        }  # fmt: skip

    def summarize(self) -> dict[str, Any]:
        """Return the numbers of filaments, and what is running, for the page.

        Numbers are lists, with a value for each micrograph; `traced` and `length`, in angstrom,
        are of the traced filaments that were neither rejected nor drawn too, and None where these
        cannot be told, or before anything was traced.
        """
        names = [source.name for source in self._project.sources]
        version = self.traced.version
        if version != self._collected and self.traced.folder is not None:
            self._collect(self.traced.folder)
            self._collected = version
        with self._lock:
            job = dict(self._job)
        measured = None if version is None else [self._measure(n) for n in range(len(names))]
        return {
            "width": self.width_angstrom,
            "model": self._project.settings.model,
            "labels": [len(self.labels.of_micrograph("label", name)) for name in names],
            "rejected": [len(self.labels.of_micrograph("rejected", name)) for name in names],
            "traced": None if measured is None else [count for count, _ in measured],
            "length": None if measured is None else [length for _, length in measured],
            "traced_version": version,
            "job": job,
        }

    def _measure(self, number: int) -> tuple[int | None, float | None]:
        """Return the number and the length of the traced filaments; None for what is unknown."""
        try:
            return self.traced.measure(number)
        except BadInput as error:  # the page says so when the micrograph is opened
            log.debug(str(error))
            return None, None

    def trace(self, threshold: float | None, min_length_angstrom: float | None) -> None:
        """Trace all micrographs with the model in use, as `heliodor pick --filaments`.

        Raises
        ------
        HTTPException
            If something is running already.
        BadInput
            If the folder cannot be used.
        """
        folder = create_subfolder(self._project.folder, TRACED)
        words = self._trace_words(folder, threshold, min_length_angstrom, *self._here())
        count = len(self._project.included)
        self._start("trace", words, JournalCounter(folder / JOURNAL), count, lambda: None)

    def cluster_words(
        self, threshold: float | None, min_length_angstrom: float | None
    ) -> list[str]:
        """Return arguments of `heliodor` that trace all micrographs on a cluster.

        Raises
        ------
        BadInput
            If the folder cannot be used.
        """
        folder = create_subfolder(self._project.folder, CLUSTER_PICKS)
        return self._trace_words(folder, threshold, min_length_angstrom, "--cluster", "slurm")

    def _collect(self, folder: Path) -> None:
        """Take over the contamination that was detected in a tracing."""
        self._touch(self.contamination.collect(folder))

    def _trace_words(
        self,
        folder: Path,
        threshold: float | None,
        min_length_angstrom: float | None,
        *more: str,
    ) -> list[str]:
        """Return the arguments of `heliodor` that trace all micrographs into a folder.

        Parameters
        ----------
        more
            Further options.
        """
        project = self._project
        words = ["pick", "--filaments", "--report", "-o", str(folder), *more]
        if project.settings.model:
            words += ["--model", str(project.model_file(project.settings.model))]
        else:
            words += ["--width", repr(self.width_angstrom)]
        if threshold is not None:
            words.append(f"--threshold={threshold!r}")
        if min_length_angstrom is not None:
            words += ["--min-length", repr(min_length_angstrom)]
        words += exclude_words(project, folder)
        words.append("--bad-area-masks")
        if self.contamination.write_masks(folder / MASKS):
            words += ["--mask", str(folder / MASKS)]
        return [*words, *self._micrographs()]

    def _micrographs(self) -> list[str]:
        """Return the micrographs and their pixel size as arguments."""
        size = self._project.settings.pixel_size_angstrom
        return [
            *([] if size is None else ["--pixel-size", repr(size)]),
            *("--micrographs", *name_inputs(self._project)),
        ]

    def _here(self) -> list[str]:
        """Return the options of a command that runs on this computer."""
        device = [] if self._device == "auto" else ["--device", self._device]
        return ["--threads", str(self._threads), *device]

    def train(self) -> None:
        """Train a model with the filaments that were drawn, as `heliodor train --filaments`.

        Raises
        ------
        HTTPException
            If something is running already, or nothing was drawn.
        BadInput
            If the folder cannot be used.
        """
        project = self._project
        names = {project.sources[number].name for number in project.included}
        drawn = self.labels.render("label", names)
        if drawn is None:
            raise refuse("draw some filaments on micrographs that are not excluded first", 409)
        number = project.next_model()
        folder = create_subfolder(project.folder, f"models/training-{number:04d}")
        write_text(folder / "labels.star", drawn)
        words = ["train", "--filaments", "--labels", str(folder / "labels.star")]
        if (rejected := self.labels.render("rejected", names)) is not None:
            write_text(folder / "rejected.star", rejected)
            words += ["--negatives", str(folder / "rejected.star")]
        words += ["--width", repr(self.width_angstrom), "-o", str(folder)]
        words += [*self._here(), *self._micrographs()]

        def keep() -> None:
            os.replace(folder / "run.json", project.model_file(number, ".json"))
            os.replace(folder / "model.safetensors", project.model_file(number))
            shutil.rmtree(folder, ignore_errors=True)
            project.change(model=number)

        self._start("train", words, None, 0, keep)

    def _start(
        self,
        job: str,
        words: Sequence[str],
        counter: JournalCounter | None,
        count: int,
        keep: Callable[[], None],
    ) -> None:
        """Start a process.

        Parameters
        ----------
        counter
            Of the micrographs that are done.
        count
            How many they are in all.
        keep
            Called when it has succeeded.
        """
        with self._lock:
            if self._process is not None:
                raise refuse("something is running already; wait for its end, or stop it", 409)
            whole = [*self._command, *words]
            output = self._project.folder / "run.log"
            write_text(output, f"{shlex.join(whole)}\n")
            self._process = start_command(whole, output)
            self._is_cancelled = False
            self._job = {"job": job, "state": "running", "done": 0, "of": count, "says": ""}
            self._note(f"{job} started")
            self._watcher = threading.Thread(
                target=self._watch, args=(self._process, output, counter, keep), daemon=True
            )
            self._watcher.start()

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        output: Path,
        counter: JournalCounter | None,
        keep: Callable[[], None],
    ) -> None:
        def look() -> None:
            with self._lock:
                self._job["says"] = read_last_line(output) or ""
                if counter is not None:
                    self._job["done"] = min(counter.count(), self._job["of"])

        code = watch_command(process, look, _POLL_SECONDS)
        with self._lock:
            self._process = None
            state = "done"
            if code not in (0, SOME_FAILED):
                state = "cancelled" if self._is_cancelled else "failed"
            else:
                try:
                    keep()
                except (OSError, BadInput) as error:
                    state, self._job["says"] = "failed", f"the result cannot be kept ({error})"
            self._job["state"] = state
            self._note(f"{self._job['job']} ended: {state}")

    def cancel(self) -> None:
        """Stop what is running."""
        with self._lock:
            if self._process is not None:
                self._is_cancelled = True
                self._process.terminate()

    def is_running(self) -> bool:
        """Return whether something is traced or trained."""
        with self._lock:
            return self._process is not None

    def close(self) -> None:
        """Stop what is running, and wait for its end."""
        self.cancel()
        with self._lock:
            process, watcher = self._process, self._watcher
        await_end(process, watcher)

    def export(self, name: str, segments_angstrom: float | None) -> FilamentExport:
        """Write all filaments in a format into the folder of exports.

        Parameters
        ----------
        name
            Of the format; see `list_filament_formats`.
        segments_angstrom
            Distance of helical segments, for RELION's particles.

        Raises
        ------
        BadInput
            If there is nothing to export, or something that the format needs is not known.
        """
        table = self.traced.gather(self._project.included)
        if not len(table):
            raise BadInput("there are no filaments to export; trace or draw some first")
        place = create_subfolder(self._project.folder, EXPORT)
        given = WriteContext(
            shapes=table.shapes,
            pixel_sizes=table.pixel_sizes,
            whole_paths=not are_named_from_here(self._project.sources),
        )
        if name == SEGMENTS:
            if segments_angstrom is None:
                raise BadInput("helical segments need a distance: the rise, or a multiple of it")
            segments = cut_segments(table, segments_angstrom)
            write_segments(place, segments, given)
            path = place / SEGMENTS_STAR
            made = FilamentExport(path, len(table), len(segments), len(table.micrographs))
        else:
            form = FORMATS[name]
            path = place / (name if form.file_of is not None else f"filaments{form.suffix}")
            if form.file_of is not None:
                remove_subfolder(place, name)
                create_subfolder(place, name)
            write_filaments(path, to_points(table), form, given)
            made = FilamentExport(path, len(table), None, len(table.micrographs))
        self._note(f"exported {count_of(made.filaments, 'filament')} to {path}")
        return made


def _known(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
