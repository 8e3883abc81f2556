"""The state of an open project, and which of it changed when."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from heliodor import __version__
from heliodor.app.server.activity_log import ActivityLog
from heliodor.app.server.annotations import Annotation, Annotations
from heliodor.app.server.authorship import Authorship
from heliodor.app.server.batch_run import BatchRun
from heliodor.app.server.cluster_run import ClusterRun
from heliodor.app.server.comparison import Comparison
from heliodor.app.server.engine_client import COMMAND
from heliodor.app.server.engine_session import EngineSession
from heliodor.app.server.filament_work import FilamentWork
from heliodor.app.server.micrograph_table import MicrographTable
from heliodor.app.server.new_micrographs import NewMicrographs
from heliodor.app.server.pick_inspection import inspect_picks
from heliodor.app.server.predictions import MicrographPredictions, Predictions
from heliodor.app.server.project import (
    PREVIEWS,
    THUMBNAILS,
    Project,
)
from heliodor.app.server.provenance import describe_making, list_differences
from heliodor.app.server.questions import propose_questions
from heliodor.app.server.thorough_training import ThoroughTraining
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.user_masks import UserMaskStore, describe_mask, parse_mask
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import check_diameter
from heliodor.errors import BadInput
from heliodor.picking.corrections import SAME_DIAMETERS, near
from heliodor.utils.console import count_of

log = logging.getLogger(__name__)

#: How many micrographs are checked for replaced files each time that a page asks for changes.
_CHECKED_AT_ONCE = 20


class ProjectState:
    """An open project; any thread may call.

    Each change gets a new revision number, and pages ask for what changed after a revision.

    Parameters
    ----------
    project
        The project, used by this process only.
    threads
        Threads for training, scoring and picking.
    engine
        The command of the engine.
    device
        Where to compute: auto, cpu, cuda, cuda:N or mps.
    can_submit
        Whether the page may submit jobs to a cluster.
    """

    def __init__(
        self,
        project: Project,
        threads: int = 1,
        engine: Sequence[str] = COMMAND,
        device: str = "auto",
        can_submit: bool = False,
    ) -> None:
        self.project = project
        self.sources = project.sources
        #: Differs at each start, after which pages load everything again.
        self.boot = secrets.token_hex(8)
        self.activity = ActivityLog(project.folder)
        self.authorship = Authorship(project.folder)
        micrographs = count_of(len(self.sources), "micrograph")
        self.activity.write(f"opened with {micrographs} by heliodor {__version__}")
        self.annotations = Annotations(project.folder)
        self._match_annotation_names()
        self.tiles = MicrographTiles(
            project.sources,
            project.folder / THUMBNAILS,
            project.settings.pixel_size_angstrom,
            on_replaced=lambda number: self.touch([number]),
        )
        self.lock = threading.RLock()
        self._next_checked = 0
        self.revision = 1
        #: The revision in which the row, or the annotations, of each micrograph changed last.
        self._row_revisions = np.ones(len(self.sources), dtype=np.int64)
        self._annotation_revisions = np.ones(len(self.sources), dtype=np.int64)
        #: Why micrographs cannot be scored, and why they could not be read for an image.
        self._failures: dict[int, str] = {}
        self._read_errors: dict[int, str] = {}
        self.predictions = Predictions()
        self.predictions.max_fdr = project.settings.max_fdr
        self.masks = UserMaskStore(project)
        self.engine = EngineSession(
            project, self.annotations, self.tiles, self.predictions, self.masks, threads,
            self.lock, self.touch, self.set_failure, engine, device, self.activity.write,
        )  # fmt: skip
        self.thorough_training = ThoroughTraining(
            project, self.engine, threads, self.lock, device, self.activity.write
        )
        self.batch_run = BatchRun(
            project, self.annotations, self.predictions, self.masks, threads, device=device,
            note=self.activity.write,
        )  # fmt: skip
        self.cluster_run = ClusterRun(project.folder, can_submit, self.activity.write)
        #: None for a project of particles.
        self.filaments: FilamentWork | None = None
        if project.settings.filament_width_angstrom is not None:
            self.filaments = FilamentWork(
                project, self.tiles, self.masks, threads, device, self.activity.write,
                touch=self.touch,
            )  # fmt: skip
        self.new_micrographs = NewMicrographs(project, self.add_micrographs)
        self.table = MicrographTable(project, self.tiles, self.predictions)
        self.comparison = Comparison(
            project, self.annotations, self.tiles, threads, device, self.activity.write
        )
        self._exclude_from_predictions()

    def _match_annotation_names(self) -> None:
        """Rename micrographs with annotations whose names are now spelled differently."""
        names = {source.name for source in self.sources}
        # STAR files are read with one kind of quotes for the other.
        unquoted = {name.replace("'", '"'): name for name in names}
        unknown = [name for name in self.annotations.names() if name not in names]
        quoted = {name: unquoted[name] for name in unknown if name in unquoted}
        unknown = [name for name in unknown if name not in quoted]
        try:
            found = match_names(unknown, self.sources)
        except BadInput as error:
            log.warning(f"{error}; those annotations are kept, but not shown")
            found = {}
        renamed = {old: source.name for old, source in found.items() if old != source.name}
        renamed |= quoted
        if renamed:
            self.annotations.rename_micrographs(renamed)

    def add_micrographs(self, sources: Sequence[Source]) -> bool:
        """Add micrographs that have arrived; nothing of the others changes.

        Returns
        -------
        bool
            Whether they were added; they are not while a training runs.
        """
        with self.lock:
            if self.engine.training.running:
                return False
            self.project.add(sources)
            more = np.ones(len(sources), dtype=np.int64)
            self._row_revisions = np.concatenate([self._row_revisions, more])
            self._annotation_revisions = np.concatenate([self._annotation_revisions, more])
            self._exclude_from_predictions()
            self.engine.reopen_project()
            self.touch()
        said = f"{count_of(len(sources), 'new micrograph')} (the first is {sources[0].name})"
        log.info(said)
        self.activity.write(said)
        return True

    def focus(self, number: int) -> None:
        """Score the micrograph on the screen first."""
        self.tiles.stamp(number)
        self.engine.focus(number)

    def check_replaced(self, number: int) -> bool:
        """Score a micrograph again if its file was replaced; return whether it was."""
        self.tiles.stamp(number)
        return self.engine.check_current(number)

    def check_some_replaced(self) -> None:
        """Check some micrographs as `check_replaced` does, and the next ones the next time.

        One that failed for a temporary reason is scored again from time to time.
        """
        self.engine.retry_postponed()
        count = len(self.sources)
        with self.lock:
            first = self._next_checked
            self._next_checked = (first + _CHECKED_AT_ONCE) % count
        for step in range(min(_CHECKED_AT_ONCE, count)):
            self.check_replaced((first + step) % count)

    def check_all_replaced(self) -> None:
        """Check all micrographs as `check_replaced` does.

        Raises
        ------
        BadInput
            If one was replaced: its picks are those of another image.
        """
        replaced = [n for n in range(len(self.sources)) if self.check_replaced(n)]
        if replaced:
            names = self.name(replaced[0])
            if len(replaced) > 1:
                names += f" and {count_of(len(replaced) - 1, 'other micrograph')}"
            raise BadInput(
                f"replaced since they were scored: {names}; export again when they have been"
                " scored again"
            )

    def name(self, number: int) -> str:
        """Return the name of a micrograph."""
        return self.sources[number].name

    def touch(self, numbers: Iterable[int] | None = None, annotations: bool = False) -> int:
        """Record that the rows of some micrographs, or of all, changed; return the revision."""
        with self.lock:
            self.revision += 1
            chosen = slice(None) if numbers is None else list(numbers)
            self._row_revisions[chosen] = self.revision
            if annotations:
                self._annotation_revisions[chosen] = self.revision
            return self.revision

    def annotate(
        self, number: int, add: Mapping[str, Annotation], remove: Collection[str], by: str = ""
    ) -> tuple[int, Future[None]]:
        """Change the annotations of a micrograph; see `Annotations.change`.

        Parameters
        ----------
        by
            The name of who does it; empty if it was not given.
        """
        name = self.name(number)
        changed, saved = self.annotations.change(name, add, remove)
        if changed:
            # Noted at once, as pages read the authors with the annotations; if these cannot be
            # saved, authors of ids that do not exist are not shown.
            self.authorship.note(by, name, add, remove)
            self.show_saved(number)
        return self.revision, saved

    def show_saved(self, number: int) -> None:
        """Take over the annotations of a micrograph, and let the page read them again."""
        self.predictions.set_negatives(
            number, self.annotations.positions(self.name(number), "negative")
        )
        self.touch([number], annotations=True)

    def set_done(self, number: int, done: bool) -> int:
        """Mark a micrograph as reviewed, or not; return the revision."""
        with self.lock:
            before = self.project.settings.done
            changed = {self.name(number)}
            self.project.change(done=before | changed if done else before - changed)
            return self.touch([number])

    def set_excluded(self, numbers: Collection[int], excluded: bool) -> int:
        """Leave micrographs out of everything, or not; return the revision."""
        with self.lock:
            before = self.project.settings.excluded
            changed = {self.name(number) for number in numbers}
            self.project.change(excluded=before | changed if excluded else before - changed)
            self._exclude_from_predictions()
            self.engine.update_queue()
            what = count_of(len(numbers), "micrograph")
            self.activity.write(f"{what} {'excluded' if excluded else 'included'}")
            return self.touch(numbers)

    def set_note(self, number: int, note: str) -> int:
        """Write a note on a micrograph, or remove it if it is empty; return the revision."""
        with self.lock:
            notes = {**self.project.settings.notes, self.name(number): note.strip()}
            self.project.change(notes={name: text for name, text in notes.items() if text})
            return self.touch([number])

    def _exclude_from_predictions(self) -> None:
        self.predictions.exclude({*range(len(self.sources))} - {*self.project.included})

    def set_mask(self, number: int, values: Mapping[str, Any] | None) -> None:
        """Set the contamination of a micrograph to what the user painted; see `parse_mask`.

        Parameters
        ----------
        values
            None: what the model detects.

        Raises
        ------
        BadInput
            If the mask does not fit the micrograph, or cannot be written.
        """
        mask = None
        if values is not None:
            shape, size = self.tiles.header(number).shape, self.tiles.pixel_size(number)
            mask = parse_mask(values, shape, size)
        self.masks.set(number, mask)

    def set_ignore_contamination(self, number: int, ignore: bool) -> int:
        """Ignore contamination on a micrograph, or not; return the revision."""
        with self.lock:
            before = self.project.settings.ignore_contamination
            changed = {self.name(number)}
            after = before | changed if ignore else before - changed
            self.project.change(ignore_contamination=after)
            if self.predictions.get(number) is not None:
                self.engine.load_candidates(number)
            return self.touch([number])

    def set_threshold_offset(self, number: int, offset: float) -> int:
        """Set by how much the threshold of a micrograph is higher; return the revision."""
        with self.lock:
            offsets = dict(self.project.settings.threshold_offsets)
            offsets.pop(self.name(number), None)
            if offset:
                offsets[self.name(number)] = offset
            self.project.change(threshold_offsets=offsets)
            if self.predictions.get(number) is not None:
                self.engine.load_candidates(number)
            return self.touch([number])

    def set_failure(self, number: int, sentence: str | None) -> None:
        """Record why the engine cannot score a micrograph; None once it can."""
        self._set_sentence(self._failures, number, sentence)

    def set_read_error(self, number: int, sentence: str | None) -> None:
        """Record why a micrograph could not be read for an image; None if it could."""
        self._set_sentence(self._read_errors, number, sentence)

    def _set_sentence(self, where: dict[int, str], number: int, sentence: str | None) -> None:
        with self.lock:
            if where.get(number) != sentence:
                where.pop(number, None)
                if sentence is not None:
                    where[number] = sentence
                self.touch([number])

    def failure_of(self, number: int) -> str | None:
        """Return why a micrograph cannot be used, or None."""
        return self._read_errors.get(number) or self._failures.get(number)

    def failures(self) -> dict[int, str]:
        """Return why micrographs cannot be used, by number."""
        with self.lock:
            return {**self._failures, **self._read_errors}

    def settings(self) -> dict[str, Any]:
        """Return the settings for the page."""
        settings = self.project.settings
        return {
            "diameter": settings.diameter_angstrom,
            "threshold": settings.threshold,
            "relion_project": settings.relion_project,
            "max_fdr": settings.max_fdr,
            "exclusion_radius": settings.exclusion_radius_angstrom,
            "edge_margin": settings.edge_margin_angstrom,
        }

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change some settings of the page.

        Parameters
        ----------
        changes
            The diameter, the minimum distance and the edge margin are in angstrom, the threshold
            in log-odds; None stands for the default, or what is automatic.
        """
        with self.lock:
            diameter = changes.get("diameter")
            if diameter is not None and diameter != self.project.settings.diameter_angstrom:
                self.engine.change_diameter(check_diameter(diameter))
            if "threshold" in changes:
                self.project.change(threshold=changes["threshold"])
                self.touch()
            if "max_fdr" in changes:
                self.project.change(max_fdr=changes["max_fdr"])
                self.predictions.max_fdr = changes["max_fdr"]
                self.touch()
            if changes.keys() & {"exclusion_radius", "edge_margin"}:
                settings = self.project.settings
                self.engine.change_distances(
                    changes.get("exclusion_radius", settings.exclusion_radius_angstrom),
                    changes.get("edge_margin", settings.edge_margin_angstrom),
                )
            if "relion_project" in changes:
                chosen = changes["relion_project"]
                if chosen is not None:
                    RelionProject.open(chosen, self.sources)
                self.project.change(relion_project=chosen)
                self.touch(())

    def threshold_of(self, model: int) -> float:
        """Return the threshold for scores of a model: the user's, or the model's own."""
        return self.predictions.threshold(model, self.project.settings.threshold)

    def row(self, number: int) -> dict[str, Any]:
        """Return the row of a micrograph in the list."""
        labels, negatives = self.annotations.counts(self.name(number))
        seen = self.predictions.get(number)
        excluded = self.name(number) in self.project.settings.excluded
        # An excluded micrograph is not scored again by later models.
        is_old = excluded and seen is not None and seen.model != self.project.settings.model
        counted = None if is_old else seen
        return {
            "id": number,
            "labels": labels,
            "negatives": negatives,
            "picks": None if counted is None else counted.picks(self.threshold_of(counted.model)),
            "done": self.name(number) in self.project.settings.done,
            "excluded": excluded,
            "ignored": self.project.ignores_contamination(number),
            "mask": self.masks.digest(number),
            "offset": self.project.threshold_offset(number),
            "quality": self._clean_share(number),
            "particles": None if counted is None else self.table.particles(number),
            "note": self.project.settings.notes.get(self.name(number), ""),
            "scored": None if seen is None else seen.model,
            "failed": self.failure_of(number),
            "version": self.tiles.version(number),
        }

    def _clean_share(self, number: int) -> float | None:
        """Return the share of a micrograph outside of its contamination; None if unknown."""
        if self.filaments is not None:
            return self.filaments.contamination.clean_share(number)
        seen = self.predictions.get(number)
        return None if seen is None else seen.quality

    def columns(self) -> dict[str, Any]:
        """Return the whole list of micrographs, by columns."""
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
        """Return the states of the engine, the trainings and the run."""
        with self.lock:
            return {
                "engine": self.engine.state(),
                "training": dict(self.engine.training.status),
                "thorough": self.thorough_training.state(),
                "run": self._run_state(),
            }

    def is_busy(self) -> bool:
        """Return whether something is computed for the user."""
        working = self.engine.state()["state"] in ("starting", "training", "scoring")
        working = working or (self.filaments is not None and self.filaments.is_running())
        working = working or self.comparison.state()["state"] == "running"
        working = working or self.thorough_training.state()["state"] == "running"
        return working or self.batch_run.state()["state"] == "running"

    def _run_state(self) -> dict[str, Any]:
        """Return the state of the run, and how the project has changed since the last one."""
        run = self.batch_run.state()
        if run["result"] is not None:
            now = describe_making(self.project, self.annotations, self.predictions, self.masks)
            run["changes"] = list_differences(run["result"], now)
        return run

    def picks(self, number: int) -> dict[str, Any]:
        """Return the candidates of a micrograph by descending score."""
        seen = self.predictions.get(number)
        if seen is None:
            waits = self.engine.is_pending(number)
            return {
                "state": "waiting" if waits else "none", "model": None, "x": [], "y": [],
                "score": [], "probability": None, "bad": [], "contamination": None,
            }  # fmt: skip
        probabilities = self.predictions.calibration(seen.model).probability(seen.score)
        return {
            "state": "ready",
            "model": seen.model,
            "x": np.round(seen.xy_px[:, 0], 2).tolist(),
            "y": np.round(seen.xy_px[:, 1], 2).tolist(),
            "score": np.round(seen.score, 4).tolist(),
            "probability": None if probabilities is None else np.round(probabilities, 4).tolist(),
            "bad": seen.bad.astype(int).tolist(),
            "contamination": self._outline(number, seen),
        }

    def _outline(self, number: int, seen: MicrographPredictions) -> dict[str, Any] | None:
        """Return the mask of contamination for the page, in pixels of the original file."""
        found, is_edited = seen.contamination, self.masks.get(number) is not None
        if found is None or not (found.mask.any() or is_edited):
            return None
        return describe_mask(found, self.tiles.pixel_size(number))

    def gallery(self, start: int, count: int) -> dict[str, Any]:
        """Return some of all candidates by descending score, with their annotations."""
        total, places = self.predictions.page(self.project.settings.model, start, count)
        items = []
        kinds: dict[int, dict[str, Any]] = {}
        for number, place in places:
            seen = self.predictions.get(number)
            if seen is None or place >= len(seen.score):
                continue  # it was scored again just now
            if number not in kinds:
                name, reach = self.name(number), SAME_DIAMETERS * seen.diameter_px
                kinds[number] = {
                    kind: near(seen.xy_px, self.annotations.positions(name, kind), reach)
                    for kind in ("particle", "negative")
                }
            kind = next((kind for kind, is_kind in kinds[number].items() if is_kind[place]), None)
            x, y = np.round(seen.xy_px[place], 2).tolist()
            score = round(float(seen.score[place]), 4)
            items.append({"micrograph": number, "x": x, "y": y, "score": score, "kind": kind})
        return {"total": total, "items": items}

    def histogram(self) -> dict[str, Any]:
        """Return the histogram of the scores of the model in use."""
        return self.predictions.histogram(self.project.settings.model)

    def questions(self, count: int) -> dict[str, Any]:
        """Return the candidates whose labels would help most."""
        model = self.project.settings.model
        items = propose_questions(
            self.project,
            self.annotations,
            self.predictions,
            self.tiles,
            self.masks,
            self.threshold_of(model),
            count,
        )
        return {"items": items}

    def inspect_picks(self, seed: int) -> dict[str, Any]:
        """Return averages and groups of picks; see `heliodor.app.server.pick_inspection`."""
        return inspect_picks(
            self.project, self.annotations, self.predictions, self.tiles, self.masks,
            self.preview, seed,
        )  # fmt: skip

    def preview(self, number: int) -> Path:
        """Return the path of the preview that the engine made of a micrograph."""
        return self.project.path(PREVIEWS, number)

    def close(self) -> None:
        """Stop the engine and the run, and save all changes."""
        try:
            self.new_micrographs.close()
            if self.filaments is not None:
                self.filaments.close()
            self.comparison.close()
            self.thorough_training.close()
            self.batch_run.close()
        finally:
            self.table.close()
            self.engine.close()
            self.annotations.close()
            self.activity.write("closed")
            self.activity.close()
