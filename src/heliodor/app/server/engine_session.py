"""The live loop as the server has it: what is trained, what is scored, and what comes next."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heliodor.app.candidates import read_candidates
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.engine_client import COMMAND, MAX_FAILURES, EngineClient, EngineFailures
from heliodor.app.server.engine_requests import (
    build_open_request,
    build_train_request,
    collect_positions,
)
from heliodor.app.server.predictions import (
    MicrographPredictions,
    ModelCalibration,
    Predictions,
)
from heliodor.app.server.project import SCORES, Project
from heliodor.app.server.request_parsing import refuse
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.training_status import TrainingStatus, replace_nonfinite
from heliodor.errors import BadInput
from heliodor.utils.files import write_json

log = logging.getLogger(__name__)

#: Seconds before it is started again.
_RESTART_SECONDS = 0.5


class EngineSession:
    """The engine, and the models and scores that come of it; any thread may call.

    Parameters
    ----------
    project, annotations, tiles, predictions
        Of the state.
    threads
        For the engine.
    lock
        The room's: what is told to it is told with the lock held.
    touch
        Is told which micrographs' rows changed, None for all.
    fail
        Is told of a micrograph that cannot be used, and why.
    command
        Of the engine's process.
    """

    def __init__(
        self,
        project: Project,
        annotations: Annotations,
        tiles: MicrographTiles,
        predictions: Predictions,
        threads: int,
        lock: threading.RLock,
        touch: Callable[[Iterable[int] | None], int],
        fail: Callable[[int, str], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._project, self._annotations, self._tiles, self._predictions = (
            project,
            annotations,
            tiles,
            predictions,
        )
        self._threads, self._touch, self._fail, self._command = threads, touch, fail, command
        self._lock = lock
        self._engine: EngineClient | None = None
        self._failures = EngineFailures()
        self._ready = False
        #: Whether the scores that were there have been read.
        self._read = False
        self._failed = False
        self._closing = False
        #: Whether scores that are there are for another diameter.
        self._stale = False
        self._message: str | None = None
        self._queue: list[int] = []
        self._focus: int | None = None
        self.training = TrainingStatus()

    def start(self) -> None:
        """Take in what earlier sessions left, and start the engine."""
        for number in {0, self._project.settings.model}:
            self._read_calibration(number)
        threading.Thread(target=self._read_scores, name="reading scores", daemon=True).start()
        self._start_engine()

    def _read_calibration(self, number: int) -> None:
        path = self._project.model_file(number, ".json")
        try:
            self._predictions.set_calibration(
                number, ModelCalibration.from_message(json.loads(path.read_text("utf-8")))
            )
        except (OSError, ValueError, TypeError, AttributeError):
            return  # it is not there, or no longer whole: the engine tells it again

    def _read_scores(self) -> None:
        """Read the scores that are there already."""
        there = []
        for number in range(len(self._project.sources)):
            if self._closing:
                return
            if self._project.path(SCORES, number).is_file() and self._load_candidates(number):
                there.append(number)
        if there:
            self._touch(there)
        with self._lock:
            self._read = True
            if self._ready:
                self._send_queue()

    def _load_candidates(self, number: int) -> bool:
        """Take in the file of a micrograph's candidates, and tell whether that could be."""
        path = self._project.path(SCORES, number)
        diameter = self._project.settings.diameter_angstrom
        if diameter is None:
            return False
        try:
            candidates = read_candidates(path)
            size = self._tiles.pixel_size(number)
        except BadInput:
            path.unlink(missing_ok=True)  # it is made again
            return False
        name = self._project.sources[number].name
        negatives = self._annotations.positions(name, "negative")
        self._predictions.put(
            number, MicrographPredictions.from_candidates(candidates, negatives, diameter / size)
        )
        return True

    def _start_engine(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._ready = False
            path = self._project.folder / "engine.log"
            self._engine = EngineClient(
                self._handle_message, self._handle_exit, path, self._command
            )
            self._send_project()

    def _send_project(self) -> None:
        """Tell the engine what there is; without a diameter there is nothing to be found."""
        settings = self._project.settings
        self._ready = False
        self._queue = []
        if self._engine is None or settings.diameter_angstrom is None:
            return
        self._engine.send(build_open_request(self._project, self._threads))

    def change_diameter(self, diameter_angstrom: float) -> None:
        """Begin anew with the general model for another diameter."""
        with self._lock:
            if self.training.running:
                raise refuse("a training is going on; cancel it first", 409)
            self._project.change(diameter_angstrom=diameter_angstrom, model=0)
            self._stale = True
            self._predictions.clear()
            self._failures.reset(micrographs=True)
            self._failed = False
            if self._engine is None:
                self._start_engine()
            else:
                self._send_project()
            self._touch(None)

    def _handle_message(self, message: dict[str, Any]) -> None:
        own = getattr(self, f"_on_{message.get('event')}", None)
        if own is None:
            return
        try:
            own(message)
        except (KeyError, ValueError, TypeError) as error:
            log.warning(f"the engine said what makes no sense ({type(error).__name__}: {error})")

    def _on_ready(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self._stale:
                self._project.forget_scores()
                self._stale = False
            self._ready, self._message = True, None
            if self._read:
                self._send_queue()
            self._touch(())

    def _send_queue(self) -> None:
        """Send the engine all that is to be scored with the model in use."""
        assert self._engine is not None
        model = self._project.settings.model
        todo = [
            number
            for number in range(len(self._project.sources))
            if number not in self._failures.skipped
            and ((own := self._predictions.get(number)) is None or own.model != model)
        ]
        labelled = {*self._annotations.names()}
        todo.sort(key=lambda n: self._project.sources[n].name not in labelled)
        if self._focus in todo:
            todo.remove(self._focus)
            todo.insert(0, self._focus)
        self._queue = todo
        self._engine.send({"do": "score", "ids": todo})

    def focus(self, number: int) -> None:
        """Let the micrograph on the screen be scored first."""
        with self._lock:
            self._focus = number
            if self._engine is not None and self._ready and number in self._queue:
                self._queue.remove(number)
                self._queue.insert(0, number)
                self._engine.send({"do": "focus", "id": number})

    def _on_scored(self, message: dict[str, Any]) -> None:
        with self._lock:
            number = self._check_number(message["id"])
            if not self._ready or self._stale:
                return  # it was begun before the diameter changed
            if number in self._queue and message.get("number") == self._project.settings.model:
                self._queue.remove(number)
                self._failures.clear_suspect(number)
        if self._load_candidates(number):
            self._touch([number])

    def _on_failed(self, message: dict[str, Any]) -> None:
        with self._lock:
            if message["id"] is None:  # the project as a whole could not be opened
                self._failed, self._message = True, str(message["says"])
                self._touch(())
                return
            number = self._check_number(message["id"])
            if number in self._queue:
                self._queue.remove(number)
            self._failures.skipped.add(number)
        self._fail(number, str(message["says"]))

    def _check_number(self, value: Any) -> int:
        number = int(value)
        if not 0 <= number < len(self._project.sources):
            raise ValueError(f"there is no micrograph {number}")
        return number

    def train(self) -> None:
        """Begin a training with all annotations there are, or refuse with a sentence."""
        with self._lock:
            if self._project.settings.diameter_angstrom is None:
                raise refuse("set the particle's diameter first", 409)
            if self.training.running:
                raise refuse("a training is going on already", 409)
            if self._failed:
                self._failed = False
                self._failures.reset()
                if self._engine is None:
                    self._start_engine()
                else:
                    self._send_project()
            if not self._ready or self._engine is None:
                raise refuse("the engine is starting; try again in a moment", 409)
            labels, negatives = (
                collect_positions(self._project, self._annotations, kind)
                for kind in ("particle", "negative")
            )
            if not labels:
                raise refuse("mark some particles first", 409)
            number = self._project.next_model()
            self.training.start(number)
            self._engine.send(build_train_request(self._project, number, labels, negatives))
            self._touch(())

    def cancel(self) -> None:
        """End the training that is going on, if one is."""
        with self._lock:
            if self._engine is not None and self.training.running:
                self._engine.send({"do": "cancel"})
                self.training.set_message("ending")

    def _on_phase(self, message: dict[str, Any]) -> None:
        with self._lock:
            self.training.set_message(str(message["says"]))

    def _on_progress(self, message: dict[str, Any]) -> None:
        with self._lock:
            self.training.update(message)

    def _on_trained(self, message: dict[str, Any]) -> None:
        with self._lock:
            number = int(message["number"])
            if number != self.training.number:
                return
            level = ModelCalibration.from_message(message)
            kept = {key: value for key, value in message.items() if key != "event"}
            write_json(self._project.model_file(number, ".json"), replace_nonfinite(kept))
            self._predictions.set_calibration(number, level)
            self._project.change(model=number)
            self.training.finish(message)
            self._send_queue()
            self._touch(())

    def _on_cancelled(self, message: dict[str, Any]) -> None:
        self._end_training("cancelled", None)

    def _on_refused(self, message: dict[str, Any]) -> None:
        self._end_training("refused", str(message["says"]))

    def _end_training(self, state: str, says: str | None) -> None:
        with self._lock:
            if self.training.stop(state, says):
                if self._ready:
                    self._send_queue()  # what waited meanwhile
                self._touch(())

    def _on_level(self, message: dict[str, Any]) -> None:
        number, level = int(message["number"]), ModelCalibration.from_message(message)
        path = self._project.model_file(number, ".json")
        with self._lock:
            if number != self._project.settings.model or self._stale:
                return
            try:
                kept = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                kept = {"number": number}
            kept |= {key: message.get(key) for key in ("threshold", "calibration")}
            write_json(path, replace_nonfinite(kept))
        self._predictions.set_calibration(number, level)
        self._touch(None)

    def _handle_exit(self, code: int) -> None:
        """Start the engine again, unless it ends time after time."""
        with self._lock:
            if self._closing:
                return
            deaths = self._failures.record_exit()
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._message = f"the engine ended ({why}) and was started again; see engine.log"
            self._ready, self._engine = False, None
            if not self.training.stop("refused", f"the engine ended ({why})") and self._queue:
                self._record_suspect(self._queue[0], why)
            self._failed = deaths > MAX_FAILURES
            if self._failed:
                self._message = f"the engine ended {deaths} times; see engine.log"
            log.warning(self._message)
            self._touch(())
        if not self._failed:
            time.sleep(_RESTART_SECONDS)
            self._start_engine()

    def _record_suspect(self, number: int, why: str) -> None:
        """Leave a micrograph out on which the engine ended twice."""
        if self._failures.record_suspect(number):
            name = self._project.sources[number].name
            self._fail(number, f"the engine ended twice while it worked on {name} ({why})")

    def is_pending(self, number: int) -> bool:
        """Tell whether a micrograph is still to be scored."""
        with self._lock:
            return not self._failed and number not in self._failures.skipped

    def state(self) -> dict[str, Any]:
        """Return what the engine does."""
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
                "says": says,
            }

    def close(self) -> None:
        """End the engine."""
        with self._lock:
            self._closing = True
            engine = self._engine
        if engine is not None:
            engine.stop()
