"""The room: all that one server knows of one project, and what of it changed when."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.app.candidates import near
from heliodor.app.server.annotations import Annotation, Annotations
from heliodor.app.server.batch_run import BatchRun
from heliodor.app.server.engine_client import COMMAND
from heliodor.app.server.engine_session import EngineSession
from heliodor.app.server.predictions import SAME_DIAMETERS, Predictions
from heliodor.app.server.project import (
    PREVIEWS,
    THUMBNAILS,
    Project,
)
from heliodor.app.server.questions import propose_questions
from heliodor.app.server.tiles import MicrographTiles
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput

log = logging.getLogger(__name__)


class ProjectState:
    """One project, open.

    Any thread may call; what a call changes gets a new revision, by which pages ask for news.

    Parameters
    ----------
    project
        The project, of which this process is the only user.
    threads
        For training, scoring and picking.
    engine
        The command of the engine's process.
    """

    def __init__(
        self, project: Project, threads: int = 1, engine: Sequence[str] = COMMAND
    ) -> None:
        self.project = project
        self.sources = project.sources
        #: Changes with each start: what a page was told before holds no longer.
        self.boot = secrets.token_hex(8)
        self.annotations = Annotations(project.folder)
        self._match_annotation_names()
        self.tiles = MicrographTiles(
            project.sources,
            project.folder / THUMBNAILS,
            project.settings.pixel_size_angstrom,
        )
        self.lock = threading.RLock()
        self.revision = 1
        #: The revision in which the row, or the marks, of each micrograph changed last.
        self._row_revisions = np.ones(len(self.sources), dtype=np.int64)
        self._annotation_revisions = np.ones(len(self.sources), dtype=np.int64)
        #: What cannot be used, and what could not be read last time.
        self._failures: dict[int, str] = {}
        self._read_errors: dict[int, str] = {}
        self.predictions = Predictions()
        self.engine = EngineSession(
            project, self.annotations, self.tiles, self.predictions, threads,
            self.lock, self.touch, self.set_failure, engine,
        )  # fmt: skip
        self.batch_run = BatchRun(project, threads)

    def _match_annotation_names(self) -> None:
        """Call micrographs with marks as they are called now, should they be spelt otherwise."""
        names = {source.name for source in self.sources}
        # STAR files are read with one kind of quotes for the other.
        unquoted = {name.replace("'", '"'): name for name in names}
        strange = [name for name in self.annotations.names() if name not in names]
        quoted = {name: unquoted[name] for name in strange if name in unquoted}
        strange = [name for name in strange if name not in quoted]
        try:
            found = match_names(strange, self.sources)
        except BadInput as error:
            log.warning(f"{error}; those marks are kept, but not shown")
            found = {}
        renamed = {old: source.name for old, source in found.items() if old != source.name}
        renamed |= quoted
        if renamed:
            self.annotations.rename_micrographs(renamed)

    def name(self, number: int) -> str:
        """Return what a micrograph is called."""
        return self.sources[number].name

    def touch(self, numbers: Iterable[int] | None = None, annotations: bool = False) -> int:
        """Note that some micrographs' rows changed, or all; return the new revision."""
        with self.lock:
            self.revision += 1
            chosen = slice(None) if numbers is None else list(numbers)
            self._row_revisions[chosen] = self.revision
            if annotations:
                self._annotation_revisions[chosen] = self.revision
            return self.revision

    def annotate(
        self, number: int, add: Mapping[str, Annotation], remove: Iterable[str]
    ) -> tuple[int, Future[None]]:
        """Change a micrograph's marks; see `Marks.change`."""
        changed, saved = self.annotations.change(self.name(number), add, remove)
        if changed:
            self.predictions.set_negatives(
                number, self.annotations.positions(self.name(number), "negative")
            )
            self.touch([number], annotations=True)
        return self.revision, saved

    def set_done(self, number: int, done: bool) -> int:
        """Note whether the user is done with a micrograph."""
        with self.lock:
            before = self.project.settings.done
            own = {self.name(number)}
            self.project.change(done=before | own if done else before - own)
            return self.touch([number])

    def set_failure(self, number: int, sentence: str) -> None:
        """Note that the engine cannot use a micrograph, and why."""
        self._note(self._failures, number, sentence)

    def set_read_error(self, number: int, sentence: str | None) -> None:
        """Note why a micrograph could not be read for a picture just now; None if it could."""
        self._note(self._read_errors, number, sentence)

    def _note(self, where: dict[int, str], number: int, sentence: str | None) -> None:
        with self.lock:
            if where.get(number) != sentence:
                where.pop(number, None)
                if sentence is not None:
                    where[number] = sentence
                self.touch([number])

    def failure_of(self, number: int) -> str | None:
        """Return why a micrograph cannot be used, None if it can."""
        return self._read_errors.get(number) or self._failures.get(number)

    def settings(self) -> dict[str, Any]:
        """Return the settings that the page shows."""
        own = self.project.settings
        return {"diameter": own.diameter_angstrom, "threshold": own.threshold}

    def change_settings(self, wanted: Mapping[str, Any]) -> None:
        """Change the diameter (angstrom) or the threshold (log-odds, None for automatic)."""
        with self.lock:
            diameter = wanted.get("diameter")
            if diameter is not None and diameter != self.project.settings.diameter_angstrom:
                self.engine.change_diameter(check_diameter(diameter))
            if "threshold" in wanted:
                self.project.change(threshold=wanted["threshold"])
                self.touch()

    def threshold_of(self, model: int) -> float:
        """Return the threshold for scores of a model: the user's, else the model's own."""
        return self.predictions.threshold(model, self.project.settings.threshold)

    def row(self, number: int) -> dict[str, Any]:
        """Return what the list shows of a micrograph."""
        labels, negatives = self.annotations.counts(self.name(number))
        seen = self.predictions.get(number)
        return {
            "id": number,
            "labels": labels,
            "negatives": negatives,
            "picks": None if seen is None else seen.picks(self.threshold_of(seen.model)),
            "done": self.name(number) in self.project.settings.done,
            "quality": None if seen is None else seen.quality,
            "scored": None if seen is None else seen.model,
            "failed": self.failure_of(number),
        }

    def columns(self) -> dict[str, Any]:
        """Return what the list shows of all micrographs."""
        with self.lock:
            revision = self.revision
            rows = [self.row(number) for number in range(len(self.sources))]
        keys = [key for key in rows[0] if key != "id"]
        columns: dict[str, Any] = {key: [row[key] for row in rows] for key in keys}
        return {"revision": revision, "name": [s.name for s in self.sources], **columns}

    def changes_since(self, since: int) -> dict[str, Any]:
        """Return what changed after a revision."""
        with self.lock:
            changed = np.flatnonzero(self._row_revisions > since)
            everything = len(changed) == len(self.sources) > 1
            marked = np.flatnonzero(self._annotation_revisions > since)
            return {
                "boot": self.boot,
                "revision": self.revision,
                "all": everything,
                "labels": marked.tolist(),
                "rows": [] if everything else [self.row(int(n)) for n in changed],
                "settings": self.settings(),
                **self.process_states(),
            }

    def process_states(self) -> dict[str, Any]:
        """Return the state of what works for this state."""
        with self.lock:
            return {
                "engine": self.engine.state(),
                "training": dict(self.engine.training.status),
                "run": self.batch_run.state(),
            }

    def picks(self, number: int) -> dict[str, Any]:
        """Return the candidates of a micrograph, by falling score."""
        seen = self.predictions.get(number)
        if seen is None:
            waits = self.engine.is_pending(number)
            return {
                "state": "waiting" if waits else "none", "model": None, "x": [], "y": [],
                "score": [], "probability": None, "bad": [],
            }  # fmt: skip
        chances = self.predictions.calibration(seen.model).probability(seen.score)
        return {
            "state": "ready",
            "model": seen.model,
            "x": np.round(seen.xy_px[:, 0], 2).tolist(),
            "y": np.round(seen.xy_px[:, 1], 2).tolist(),
            "score": np.round(seen.score, 4).tolist(),
            "probability": None if chances is None else np.round(chances, 4).tolist(),
            "bad": seen.bad.astype(int).tolist(),
        }

    def gallery(self, start: int, count: int) -> dict[str, Any]:
        """Return some of all candidates by falling score, and what the user said of them."""
        total, places = self.predictions.page(self.project.settings.model, start, count)
        items = []
        said: dict[int, dict[str, Any]] = {}
        for number, place in places:
            seen = self.predictions.get(number)
            if seen is None or place >= len(seen.score):
                continue  # it was scored anew just now
            if number not in said:
                name, reach = self.name(number), SAME_DIAMETERS * seen.diameter_px
                said[number] = {
                    kind: near(seen.xy_px, self.annotations.positions(name, kind), reach)
                    for kind in ("particle", "negative")
                }
            kind = next((kind for kind, own in said[number].items() if own[place]), None)
            x, y = np.round(seen.xy_px[place], 2).tolist()
            score = round(float(seen.score[place]), 4)
            items.append({"micrograph": number, "x": x, "y": y, "score": score, "kind": kind})
        return {"total": total, "items": items}

    def histogram(self) -> dict[str, Any]:
        """Return the scores of the model in use."""
        return self.predictions.histogram(self.project.settings.model)

    def questions(self, count: int) -> dict[str, Any]:
        """Return the candidates whose nature would teach most."""
        model = self.project.settings.model
        items = propose_questions(
            self.project,
            self.annotations,
            self.predictions,
            self.tiles,
            self.threshold_of(model),
            count,
        )
        return {"items": items}

    def preview(self, number: int) -> Path:
        """Return where the picture lies that the engine made of a micrograph."""
        return self.project.path(PREVIEWS, number)

    def close(self) -> None:
        """End all that works for this room, and save what is left to save."""
        try:
            self.batch_run.close()
        finally:
            self.engine.close()
            self.annotations.close()
