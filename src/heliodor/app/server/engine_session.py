"""The engine as the server sees it: its queue, its trainings and what it found."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from heliodor.app.candidates import read_candidates
from heliodor.app.protocol import (
    CancelledEvent,
    CancelRequest,
    Event,
    FailedEvent,
    FocusRequest,
    PhaseEvent,
    ProgressEvent,
    ReadyEvent,
    RefusedEvent,
    ScoredEvent,
    ScoreRequest,
    ThresholdEvent,
    TrainedEvent,
    TrainRequest,
)
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.engine_client import COMMAND, MAX_FAILURES, EngineClient, EngineFailures
from heliodor.app.server.engine_requests import build_open_request, build_train_request
from heliodor.app.server.models import read_record
from heliodor.app.server.pace import Pace
from heliodor.app.server.predictions import (
    MicrographPredictions,
    ModelCalibration,
    Predictions,
)
from heliodor.app.server.project import SCORES, Project
from heliodor.app.server.provenance import name_model
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.training_status import TrainingStatus
from heliodor.app.server.user_masks import UserMaskStore, apply_user_settings, find_painted_over
from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.picking.corrections import SAME_DIAMETERS, near
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.utils.console import count_of
from heliodor.utils.files import read_json, write_json
from heliodor.utils.hashing import stamp_file

log = logging.getLogger(__name__)

#: Seconds before an engine that ended is restarted.
_RESTART_SECONDS = 0.5


class EngineSession:
    """Runs the engine, and keeps the models and scores it makes; any thread may call.

    Parameters
    ----------
    project, annotations, tiles, predictions, masks
        Those of the `ProjectState`.
    threads
        Threads of the engine.
    lock
        The lock of the `ProjectState`.
    touch
        Called, with the lock held, with the micrographs whose rows changed; None for all.
    fail
        Called with a micrograph that cannot be used and the reason, or None once it can.
    command
        The command of the engine.
    device
        Where it is to compute: auto, cpu, cuda, cuda:N or mps.
    note
        Called with what happens, for the log of the project.
    """

    def __init__(
        self,
        project: Project,
        annotations: Annotations,
        tiles: MicrographTiles,
        predictions: Predictions,
        masks: UserMaskStore,
        threads: int,
        lock: threading.RLock,
        touch: Callable[[Iterable[int] | None], int],
        fail: Callable[[int, str | None], None],
        command: Sequence[str] = COMMAND,
        device: str = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._project, self._annotations, self._tiles, self._predictions = (
            project,
            annotations,
            tiles,
            predictions,
        )
        self._masks = masks
        self._threads, self._touch, self._fail, self._command = threads, touch, fail, command
        self._wanted_device, self._note = device, note
        self._pace = Pace()
        #: The micrographs that were scored since the queue was made.
        self._scored_count = 0
        #: Where the engine computes, once it has said so.
        self._device: str | None = None
        self._lock = lock
        self._engine: EngineClient | None = None
        self._failures = EngineFailures()
        self._ready = False
        #: Whether the scores of earlier sessions have been read.
        self._read = False
        self._failed = False
        self._closing = False
        #: Whether the scores on disk are for another diameter.
        self._stale = False
        self._message: str | None = None
        #: The versions of the micrographs' files that their scores were made from.
        self._stamps: dict[int, str] = {}
        #: A training that waits until the engine is ready.
        self._waiting_training: TrainRequest | None = None
        #: What the running training is on, for the record of its model.
        self._training_on: dict[str, Any] = {}
        self._queue: list[int] = []
        self._focus: int | None = None
        self.training = TrainingStatus()

    def start(self) -> None:
        """Read the results of earlier sessions and start the engine."""
        for number in {0, self._project.settings.model}:
            self._read_calibration(number)
        threading.Thread(target=self._read_scores, name="reading scores", daemon=True).start()
        self._start_engine()

    def _read_calibration(self, number: int) -> None:
        path = self._project.model_file(number, ".json")
        try:
            record = read_json(path)
            if number == 0 and record["diameter"] != self._project.settings.diameter_angstrom:
                return  # of another diameter
            # That of a trained model is not estimated again.
            record = record | {"settled": True} if number else record
            self._predictions.set_calibration(number, ModelCalibration.from_message(record))
        except (OSError, ValueError, TypeError, AttributeError, LookupError, OverflowError):
            return  # missing or damaged: the engine estimates it again

    def _read_scores(self) -> None:
        """Read the scores of earlier sessions."""
        numbers = []
        for number in range(len(self._project.sources)):
            if self._closing:
                return
            if self._project.path(SCORES, number).is_file() and self.load_candidates(number):
                numbers.append(number)
        if numbers:
            self._touch(numbers)
        with self._lock:
            self._read = True
            if self._ready:
                self._send_queue()

    def load_candidates(self, number: int) -> bool:
        """Read the candidates of a micrograph; return whether that succeeded."""
        path = self._project.path(SCORES, number)
        diameter = self._project.settings.diameter_angstrom
        if diameter is None:
            return False
        try:
            candidates = read_candidates(path, with_all_features=False)
            if self._has_changed(number, candidates.stamp):
                raise BadInput(f"{self._project.sources[number].path} has changed")
            self._stamps[number] = candidates.stamp
            size = self._tiles.pixel_size(number)
        except BadInput:
            path.unlink(missing_ok=True)  # the engine writes it again
            return False
        name = self._project.sources[number].name
        negatives = self._annotations.positions(name, "negative")
        measured = None if candidates.record is None else candidates.record.measured
        candidates = apply_user_settings(candidates, number, self._project, self._masks, size)
        found = MicrographPredictions.from_candidates(
            candidates, negatives, diameter / size, measured
        )
        self._predictions.put(number, found)
        return True

    def _start_engine(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._ready = False
            path = self._project.folder / "engine.log"
            self._engine = EngineClient(self._handle_event, self._handle_exit, path, self._command)
            self._send_project()

    def _send_project(self) -> None:
        """Open the project in the engine, once there is a diameter."""
        settings = self._project.settings
        self._ready = False
        self._queue = []
        if self._engine is None or settings.diameter_angstrom is None:
            return
        self._engine.send(build_open_request(self._project, self._threads, self._wanted_device))

    def change_diameter(self, diameter_angstrom: float) -> None:
        """Start over with the general model for another diameter."""
        self._reopen(0, diameter_angstrom)

    def change_distances(
        self, exclusion_radius_angstrom: float | None, edge_margin_angstrom: float | None
    ) -> None:
        """Score all again with other distances between picks and from the edges."""
        distances = (exclusion_radius_angstrom, edge_margin_angstrom)
        with self._lock:
            settings = self._project.settings
            if distances == (settings.exclusion_radius_angstrom, settings.edge_margin_angstrom):
                return
            if self.training.running:
                raise refuse("a training is running; cancel it first", 409)
            self._project.change(
                exclusion_radius_angstrom=exclusion_radius_angstrom,
                edge_margin_angstrom=edge_margin_angstrom,
            )
            if settings.diameter_angstrom is None:
                return
            self._stale = True
            self._predictions.clear()
            if settings.model:  # the general model's threshold follows from the new scores
                self._read_calibration(settings.model)
            self._failures.reset(micrographs=True)
            self._failed = False
            if self._engine is None:
                self._start_engine()
            else:
                self._send_project()
            self._touch(None)

    def use_model(self, number: int) -> None:
        """Use an earlier model again; with the diameter that it was trained for.

        Raises
        ------
        HTTPException
            If there is no such model, or a training is running.
        """
        record = read_record(self._project, number)
        if record is None:
            raise refuse("there is no such model", 404)
        diameter = (record.get("diameter") if number else None) or (
            self._project.settings.diameter_angstrom
        )
        if diameter is None:
            raise refuse("set the particle's diameter first", 409)
        self._reopen(number, diameter)

    def _reopen(self, model: int, diameter_angstrom: float) -> None:
        """Open the project in the engine with another model or for another diameter."""
        with self._lock:
            if self.training.running:
                raise refuse("a training is running; cancel it first", 409)
            settings = self._project.settings
            other_diameter = diameter_angstrom != settings.diameter_angstrom
            if not other_diameter and model == settings.model:
                return
            self._project.change(diameter_angstrom=diameter_angstrom, model=model)
            if other_diameter:
                self._stale = True
                self._predictions.clear()
            self._read_calibration(model)
            self._failures.reset(micrographs=True)
            self._failed = False
            self.training.clear()
            if self._engine is None:
                self._start_engine()
            else:
                self._send_project()
            self._touch(None)
            self._note(f"{name_model(model)} is in use, for a diameter of {diameter_angstrom:g} Å")

    def reopen_project(self) -> None:
        """Open the project in the engine again, as it has more micrographs."""
        with self._lock:
            if self._engine is not None:
                self._send_project()

    def update_queue(self) -> None:
        """Score what has to be scored now, after micrographs were excluded or included."""
        with self._lock:
            if self._ready and self._read:
                self._send_queue()
            self._touch(())

    def _handle_event(self, event: Event) -> None:
        match event:
            case ReadyEvent():
                self._note_device(event.device)
                try:
                    self._handle_ready()
                except BadInput as error:  # as where the disk is full
                    self._handle_failed(FailedEvent(id=None, says=str(error)))
            case ScoredEvent():
                self._handle_scored(event)
            case FailedEvent():
                self._handle_failed(event)
            case ThresholdEvent():
                self._handle_threshold(event)
            case PhaseEvent():
                with self._lock:
                    self.training.set_message(event.says)
            case ProgressEvent():
                with self._lock:
                    self.training.update(event)
            case TrainedEvent():
                self._handle_trained(event)
            case CancelledEvent():
                self._end_training("cancelled", None)
            case RefusedEvent():
                self._end_training("refused", event.says)

    def _note_device(self, device: str) -> None:
        if device != self._device:
            self._note(f"computing on {device}")
        self._device = device

    def _handle_ready(self) -> None:
        with self._lock:
            if self._stale:
                self._project.forget_scores()
                self._stale = False
            self._ready, self._message = True, None
            self._send_training()
            if self._read:
                self._send_queue()
            self._touch(())

    def _send_queue(self) -> None:
        """Send the engine all micrographs that the model in use has not scored."""
        assert self._engine is not None
        self._failures.postponed.clear()
        model = self._project.settings.model
        queue = [
            number
            for number in self._project.included
            if number not in self._failures.skipped
            and ((found := self._predictions.get(number)) is None or found.model != model)
        ]
        annotated = {*self._annotations.names()}
        # The threshold of the general model waits for some; see `RunningThreshold`.
        sources = self._project.sources
        decoys = choose_decoy_micrographs(source.name for source in sources)
        first = annotated if model else annotated | decoys
        queue.sort(key=lambda n: (sources[n].name not in annotated, sources[n].name not in first))
        if self._focus in queue:
            queue.remove(self._focus)
            queue.insert(0, self._focus)
        self._queue = queue
        self._pace.restart()
        self._scored_count = 0
        self._engine.send(ScoreRequest(ids=tuple(queue)))

    def focus(self, number: int) -> None:
        """Score the micrograph on the screen first."""
        with self._lock:
            self._focus = number
            if self.check_current(number) or self._retry(number):
                return
            if self._engine is not None and self._ready and number in self._queue:
                self._queue.remove(number)
                self._queue.insert(0, number)
                self._engine.send(FocusRequest(id=number))

    def _handle_scored(self, event: ScoredEvent) -> None:
        number = event.id
        if not self._is_known(number):
            return
        with self._lock:
            if not self._ready or self._stale:
                return  # it was started before the diameter changed
            if number in self._queue and event.number == self._project.settings.model:
                self._queue.remove(number)
                self._failures.forget(number)
                self._queue_postponed()
                self._note_progress()
            is_last = not self._queue
        self._fail(number, None)
        if not self.load_candidates(number):
            self._score_again(number)
        # With the last one, a threshold that follows from all scores is final.
        self._touch(None if is_last and self._predictions.max_fdr is not None else [number])

    def _note_progress(self) -> None:
        """Record that a micrograph of the queue was scored."""
        self._scored_count += 1
        self._pace.note(self._scored_count)
        if not self._queue:
            count = count_of(len(self._project.included), "micrograph")
            model = name_model(self._project.settings.model)
            self._note(f"all {count} are scored with {model}")

    def check_current(self, number: int) -> bool:
        """Score a micrograph again if its file has changed; return whether it has."""
        with self._lock:
            changed = self._has_changed(number, self._stamps.get(number, ""))
            changed = changed or self._is_repaired(number)
            if changed:
                self._project.path(SCORES, number).unlink(missing_ok=True)
                self._score_again(number)
            return changed

    def _has_changed(self, number: int, stamp: str) -> bool:
        """Return whether the file of a micrograph is there and is of another version."""
        now = stamp_file(self._project.sources[number].path)
        return "" not in (stamp, now) and stamp != now

    def _is_repaired(self, number: int) -> bool:
        """Return whether a micrograph that could not be scored has another file now."""
        before = self._failures.skipped.get(number)
        if before is None:
            return False
        return stamp_file(self._project.sources[number].path) not in ("", before)

    def _score_again(self, number: int) -> None:
        """Forget the scores of a micrograph whose file has changed, and score it first."""
        with self._lock:
            self._predictions.remove(number)
            self._stamps.pop(number, None)
            self._failures.forget(number)
            self._put_first(number)
            self._touch([number])

    def _put_first(self, number: int) -> None:
        """Score a micrograph before the others; the caller holds the lock."""
        if self._engine is not None and self._ready:
            self._queue = [number, *(other for other in self._queue if other != number)]
            self._engine.send(ScoreRequest(ids=tuple(self._queue)))

    def _retry(self, number: int) -> bool:
        """Score a micrograph that was postponed; return whether it was one."""
        if not self._ready or number not in self._failures.postponed:
            return False
        self._failures.postponed.discard(number)
        self._put_first(number)
        return True

    def retry_postponed(self) -> None:
        """Try again, from time to time, one micrograph that failed for a temporary reason."""
        with self._lock:
            number = self._failures.take_due()
            if number is not None:
                self._retry(number)

    def _queue_postponed(self) -> None:
        """Score what was postponed after all others, as the reason is gone."""
        postponed = sorted(self._failures.postponed)
        if postponed and self._engine is not None:
            self._failures.postponed.clear()
            self._queue += [number for number in postponed if number not in self._queue]
            self._engine.send(ScoreRequest(ids=tuple(self._queue)))

    def _handle_failed(self, event: FailedEvent) -> None:
        number = event.id
        if number is None:  # the project as a whole could not be opened
            with self._lock:
                self._failed, self._message = True, event.says
                if self._waiting_training is not None:
                    self._waiting_training = None
                    self.training.stop("refused", event.says)
                self._touch(())
            return
        if not self._is_known(number):
            return
        with self._lock:
            if number in self._queue:
                self._queue.remove(number)
            if event.temporary:
                self._failures.postpone(number)
            else:
                stamp = stamp_file(self._project.sources[number].path)
                self._failures.skipped[number] = stamp
        self._fail(number, event.says)

    def _is_known(self, number: int) -> bool:
        known = 0 <= number < len(self._project.sources)
        if not known:
            log.warning(f"the engine reported micrograph {number}, which is not in the project")
        return known

    def train(self) -> None:
        """Start a training on all annotations.

        Raises
        ------
        HTTPException
            If no training can be started now.
        """
        with self._lock:
            if self._project.settings.diameter_angstrom is None:
                raise refuse("set the particle's diameter first", 409)
            if self.training.running:
                raise refuse("a training is already running", 409)
            if self._failed:
                self._failed = False
                self._failures.reset()
                if self._engine is None:
                    self._start_engine()
                else:
                    self._send_project()
            number = self._project.next_model()
            request, self._training_on = self.gather_training(number)
            self.training.start(number)
            labels = count_of(self._training_on["labels"], "label")
            on = count_of(len(request.labels), "micrograph")
            self._note(f"training of model {number} started: {labels} on {on}")
            self._waiting_training = request
            if self._ready:
                self._send_training()
            else:
                self.training.set_message("starting")
            self._touch(())

    def gather_training(self, number: int) -> tuple[TrainRequest, dict[str, Any]]:
        """Return the request that trains a model on all annotations, and the record of these.

        Parameters
        ----------
        number
            Of the new model.

        Raises
        ------
        HTTPException
            If there is no diameter, or no particle is labeled.
        """
        with self._lock:
            diameter = self._project.settings.diameter_angstrom
            if diameter is None:
                raise refuse("set the particle's diameter first", 409)
            painted = self._find_painted_over()
            request = build_train_request(self._project, self._annotations, number, painted)
            if not request.labels:
                raise refuse("mark some particles first", 409)
            return request, {
                "date": datetime.now().astimezone().isoformat(timespec="seconds"),
                "from": self._project.settings.model,
                "diameter": diameter,
                "labels": sum(map(len, request.labels.values())),
                "negatives": sum(map(len, request.negatives.values())),
                "negatives_painted": sum(map(len, painted.values())),
                "micrographs_labeled": len(request.labels),
            }

    def next_model(self) -> int:
        """Return the number of the next model, which is not that of a running training."""
        with self._lock:
            number = self._project.next_model()
            if self.training.running and self.training.number is not None:
                number = max(number, self.training.number + 1)
            return number

    def _find_painted_over(self) -> dict[int, FloatArray]:
        """Return what the user painted over and did not label, by the micrograph's number."""
        found: dict[int, FloatArray] = {}
        model = self._project.settings.model
        threshold = self._predictions.threshold(model, self._project.settings.threshold)
        diameter = self._project.settings.diameter_angstrom
        for number in self._project.included:
            mask = self._masks.get(number)
            if mask is None or diameter is None or self._project.ignores_contamination(number):
                continue
            try:
                path = self._project.path(SCORES, number)
                candidates = read_candidates(path, with_all_features=False)
                size = self._tiles.pixel_size(number)
            except BadInput:
                continue  # not scored yet, or the micrograph is gone
            xy = find_painted_over(candidates, mask, threshold, size)
            name = self._project.sources[number].name
            labels = self._annotations.positions(name, "particle")
            xy = xy[~near(xy, labels, SAME_DIAMETERS * diameter / size)]
            if len(xy):
                found[number] = xy
        return found

    def _send_training(self) -> None:
        """Send the training that waited until the engine was ready, if there is one."""
        request, self._waiting_training = self._waiting_training, None
        if request is not None and self._engine is not None:
            self._engine.send(request)

    def cancel(self) -> None:
        """Cancel the running training, if there is one."""
        with self._lock:
            if self._waiting_training is not None:
                self._waiting_training = None
                self.training.stop("cancelled", None)
                self._touch(())
            elif self._engine is not None and self.training.running:
                self._engine.send(CancelRequest())
                self.training.set_message("cancelling")

    def _handle_trained(self, event: TrainedEvent) -> None:
        with self._lock:
            number = event.number
            if number != self.training.number:
                return
            record = event.model_dump(mode="json", exclude={"event"})
            record |= {**self._training_on, "settled": True}
            try:
                write_json(self._project.model_file(number, ".json"), record)
                self._project.change(model=number)
            except BadInput as error:
                self._end_training("refused", f"{error}; the model itself is in {event.file}")
                self._send_project()  # with the model that stays in use
                return
            calibration = ModelCalibration.from_message(record)
            self._predictions.set_calibration(number, calibration)
            self.training.finish(event)
            self._note(f"model {number} trained in {event.seconds or 0.0:.1f} s")
            self._send_queue()
            self._touch(())

    def _end_training(self, state: str, says: str | None) -> None:
        with self._lock:
            if self.training.stop(state, says):
                self._note(
                    "the training was canceled" if says is None else f"the training failed: {says}"
                )
                if self._ready:
                    self._send_queue()  # what waited in the meantime
                self._touch(())

    def _handle_threshold(self, event: ThresholdEvent) -> None:
        values = event.model_dump(
            mode="json", include={"threshold", "calibration", "micrographs", "settled"}
        )
        path = self._project.model_file(event.number, ".json")
        with self._lock:
            if event.number != self._project.settings.model or self._stale:
                return
            try:
                record = dict(read_json(path))
            except (OSError, ValueError, TypeError):
                record = {"number": event.number}  # missing or damaged
            record["diameter"] = self._project.settings.diameter_angstrom
            try:
                write_json(path, record | values)
            except BadInput as error:  # the next session estimates it again
                log.warning(str(error))
        self._predictions.set_calibration(event.number, ModelCalibration.from_message(values))
        self._touch(None)

    def _handle_exit(self, code: int) -> None:
        """Restart the engine, unless it crashes again and again."""
        with self._lock:
            if self._closing:
                return
            failures = self._failures.record_exit()
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._message = f"the engine crashed ({why}) and was restarted; see engine.log"
            self._ready, self._engine, self._waiting_training = False, None, None
            if not self.training.stop("refused", f"the engine crashed ({why})") and self._queue:
                self._record_suspect(self._queue[0], why)
            self._failed = failures > MAX_FAILURES
            if self._failed:
                self._message = f"the engine crashed {failures} times; see engine.log"
            log.warning(self._message)
            self._touch(())
        if not self._failed:
            time.sleep(_RESTART_SECONDS)
            try:
                self._start_engine()
            except BadInput as error:
                self._handle_failed(FailedEvent(id=None, says=str(error)))

    def _record_suspect(self, number: int, why: str) -> None:
        """Skip a micrograph on which the engine crashed twice."""
        source = self._project.sources[number]
        if self._failures.record_suspect(number, stamp_file(source.path)):
            name = source.name
            self._fail(number, f"the engine crashed twice while scoring {name} ({why})")

    def is_pending(self, number: int) -> bool:
        """Return whether a micrograph may still be scored."""
        with self._lock:
            failed = number in self._failures.skipped or number in self._failures.postponed
            return not self._failed and not failed

    def state(self) -> dict[str, Any]:
        """Return the state of the engine as the page shows it."""
        with self._lock:
            settings = self._project.settings
            says = self._message
            if self._failed:
                state = "failed"
            elif settings.diameter_angstrom is None:
                state, says = "idle", "set the particle's diameter to begin"
            elif not self._ready:
                state = "starting"
            elif self.training.running:
                state = "training"
            else:
                state = "scoring" if self._queue else "idle"
            return {
                "state": state,
                "model": settings.model,
                "queue": len(self._queue),
                "device": self._device,
                "seconds_left": self._pace.seconds_left(len(self._queue)),
                "says": says,
            }

    def close(self) -> None:
        """Stop the engine."""
        with self._lock:
            self._closing = True
            engine = self._engine
        if engine is not None:
            engine.stop()
