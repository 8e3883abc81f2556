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
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from heliodor.app.server.batch_run import COMMAND, JournalCounter, await_end, read_last_line
from heliodor.app.server.filament_labels import FilamentLabels
from heliodor.app.server.project import EXPORT, Project
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.tiles import MicrographTiles
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.filaments.filament import Filament, Filaments, to_points
from heliodor.data.filaments.geometry import project_on_axis
from heliodor.data.filaments.readers import read_filaments
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
#: A traced filament is the same as one that was drawn or rejected if this share of its points is
#: within half a width.
SAME_SHARE = 0.5
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
    threads, device
        Of tracing and training.
    note
        Called with what happens, for the log of the project.
    command
        The command before the words `pick` and `train`.
    """

    def __init__(
        self,
        project: Project,
        tiles: MicrographTiles,
        threads: int,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        width = project.settings.filament_width_angstrom
        assert width is not None
        self.width_angstrom, self.labels = width, FilamentLabels(project.folder, width)
        self._project, self._tiles, self._threads = project, tiles, threads
        self._device, self._note, self._command = device, note, command
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._job: dict[str, Any] = {"job": None, "state": "none", "done": 0, "of": 0, "says": ""}
        self._is_cancelled = False
        #: What is traced, by micrograph, and the state of the file that it was read from.
        self._traced: dict[str, list[Filament]] | None = None
        self._traced_state: tuple[int, int] | None = None

    @property
    def _traced_star(self) -> Path:
        return self._project.folder / TRACED / TRACED_STAR

    def _read_traced(self) -> dict[str, list[Filament]] | None:
        """Return what is traced, by micrograph; None before anything was.

        Raises
        ------
        BadInput
            If the file is damaged.
        """
        with self._lock:
            try:
                status = self._traced_star.stat()
            except OSError:
                self._traced = self._traced_state = None
                return None
            now = (status.st_mtime_ns, status.st_size)
            if now != self._traced_state:
                found: dict[str, list[Filament]] = {}
                for one in read_filaments(self._traced_star):
                    found.setdefault(one.micrograph, []).append(one)
                self._traced, self._traced_state = found, now
            return self._traced

    def _radius_px(self, number: int) -> float:
        """Return half the width of the filaments in pixels of a micrograph; nan if not known."""
        size = self._tiles.pixel_size(number)
        return math.nan if size is None else 0.5 * self.width_angstrom / size

    def describe(self, number: int) -> dict[str, Any]:
        """Return the filaments of a micrograph for the page."""
        name, traced = self._project.sources[number].name, self._read_traced()
        own = [] if traced is None else traced.get(name, [])
        return {
            **{
                f"{kind}s" if kind == "label" else kind: [
                    {"id": one.tube_id, "points": one.axis_px.tolist()}
                    for one in self.labels.of_micrograph(kind, name)
                ]
                for kind in ("label", "rejected")
            },
            "traced": None if traced is None else [
                {"points": one.axis_px.tolist(), "score": _known(one.score), "is": what}
                for one, what in zip(own, self._classify(number, own), strict=True)
            ],
            "width_px": _known(2.0 * self._radius_px(number)),
        }  # fmt: skip

    def _classify(self, number: int, traced: Sequence[Filament]) -> list[str]:
        """Return of each traced filament whether it is kept, rejected, or also drawn."""
        name, radius = self._project.sources[number].name, self._radius_px(number)
        found = []
        for one in traced:
            what = "kept"
            for kind, word in (("label", "drawn"), ("rejected", "rejected")):
                others = self.labels.of_micrograph(kind, name)  # type: ignore[arg-type]
                if any(_share_near(one, other, radius) >= SAME_SHARE for other in others):
                    what = word
            found.append(what)
        return found

    def summarize(self) -> dict[str, Any]:
        """Return the numbers of filaments, and what is running, for the page."""
        traced = self._read_traced()
        names = [source.name for source in self._project.sources]
        with self._lock:
            job = dict(self._job)
        return {
            "width": self.width_angstrom,
            "model": self._project.settings.model,
            "labels": [len(self.labels.of_micrograph("label", name)) for name in names],
            "rejected": [len(self.labels.of_micrograph("rejected", name)) for name in names],
            "traced": None if traced is None else [len(traced.get(name, [])) for name in names],
            "traced_version": None if self._traced_state is None else str(self._traced_state[0]),
            "job": job,
        }

    def trace(self, threshold: float | None, min_length_angstrom: float | None) -> None:
        """Trace all micrographs with the model in use, as `heliodor pick --filaments`.

        Raises
        ------
        HTTPException
            If something is running already.
        BadInput
            If the folder cannot be used.
        """
        project = self._project
        folder = create_subfolder(project.folder, TRACED)
        words = ["pick", "--filaments", "--report", "-o", str(folder)]
        if project.settings.model:
            words += ["--model", str(project.model_file(project.settings.model))]
        else:
            words += ["--width", repr(self.width_angstrom)]
        if threshold is not None:
            words.append(f"--threshold={threshold!r}")
        if min_length_angstrom is not None:
            words += ["--min-length", repr(min_length_angstrom)]
        included = {project.sources[number].name for number in project.included}
        left_out = [source.name for source in project.sources if source.name not in included]
        if left_out:
            path = folder / "excluded.txt"
            write_text(path, "".join(f"{name}\n" for name in left_out))
            words += ["--exclude", str(path)]
        count = len(included)
        self._start("trace", words, JournalCounter(folder / JOURNAL), count, lambda: None)

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
        if not self.labels.path.exists():
            raise refuse("draw some filaments first", 409)
        number = project.next_model()
        folder = create_subfolder(project.folder, f"models/training-{number:04d}")
        words = ["train", "--filaments", "--labels", str(self.labels.path)]
        words += ["--width", repr(self.width_angstrom), "-o", str(folder)]

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
            settings = self._project.settings
            whole = [*self._command, *words, "--threads", str(self._threads)]
            if self._device != "auto":
                whole += ["--device", self._device]
            if settings.pixel_size_angstrom is not None:
                whole += ["--pixel-size", repr(settings.pixel_size_angstrom)]
            whole += ["--micrographs", *settings.inputs]
            output = self._project.folder / "run.log"
            write_text(output, f"{shlex.join(whole)}\n")
            with output.open("ab") as stream:
                self._process = subprocess.Popen(
                    whole, stdin=subprocess.PIPE, stdout=stream, stderr=stream,
                    start_new_session=True,
                )  # fmt: skip
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
        code = None
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL_SECONDS)
            with self._lock:
                self._job["says"] = read_last_line(output) or ""
                if counter is not None:
                    self._job["done"] = min(counter.count(), self._job["of"])
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        with self._lock:
            self._process = None
            state = "done"
            if code not in (0, SOME_FAILED):
                state = "cancelled" if self._is_cancelled else "failed"
            else:
                try:
                    keep()
                except (BadInput, OSError) as error:
                    state, self._job["says"] = "failed", f"the model cannot be kept ({error})"
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

    def gather(self) -> Filaments:
        """Return the filaments to export: those drawn, and the traced ones that are left.

        Traced filaments that were rejected, or drawn too, are left out.

        Raises
        ------
        BadInput
            If a micrograph or the file of what was traced cannot be read.
        """
        traced = self._read_traced() or {}
        found: list[Filament] = []
        sizes: dict[str, float] = {}
        shapes: dict[str, tuple[int, int]] = {}
        for number in self._project.included:
            name = self._project.sources[number].name
            own, candidates = self.labels.of_micrograph("label", name), traced.get(name, [])
            if not own and not candidates:
                continue
            what = self._classify(number, candidates)
            kept = [one for one, is_ in zip(candidates, what, strict=True) if is_ == "kept"]
            if not own and not kept:
                continue
            found += [replace(one, tube_id=place) for place, one in enumerate([*own, *kept], 1)]
            shapes[name] = self._tiles.header(number).shape
            if (size := self._tiles.pixel_size(number)) is not None:
                sizes[name] = size
        return Filaments(tuple(shapes), tuple(found), sizes, shapes)

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
        table = self.gather()
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


def _share_near(one: Filament, other: Filament, radius_px: float) -> float:
    """Return the share of the points of a filament that lie near the axis of another one."""
    nearest = project_on_axis(one.axis_px, other.axis_px)
    return float(np.mean(nearest.distance_px <= radius_px))


def _known(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
