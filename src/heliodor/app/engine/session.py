"""A session of the engine: one project and the model in use, which trains and scores."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from heliodor.app.candidates import Candidates, read_candidates, write_candidates
from heliodor.app.engine.fine_tuning import (
    Cancelled,
    TrainingCallbacks,
    fine_tune,
)
from heliodor.app.engine.prediction import SETTINGS, Prediction, predict, write_preview
from heliodor.app.engine.request_queue import RequestQueue
from heliodor.app.engine.running_threshold import RunningThreshold, ThresholdEstimate
from heliodor.app.protocol import (
    CancelledEvent,
    EventWriter,
    FailedEvent,
    OpenRequest,
    PhaseEvent,
    ProgressEvent,
    RefusedEvent,
    ScoredEvent,
    ThresholdEvent,
    TrainedEvent,
    TrainRequest,
    describe_calibration,
)
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImages, check_diameter
from heliodor.errors import BadInput
from heliodor.models.model_file import (
    Model,
    load_model,
    save_model,
)
from heliodor.models.pretrained import load_general_model, rescale_to_diameter
from heliodor.picking.run_key import digest_run_key, journal_key
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.utils import console
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import ComputeSettings, one_thread_each

#: Memory for working images that are kept for the next training or the next model.
IMAGE_CACHE_BYTES: Final = 384 * 2**20
#: Memory for the images of a training; the rest lies in temporary files.
TRAINING_BYTES: Final = 2**30
#: Most micrographs that are scored in parallel: each takes some hundred megabytes.
MAX_CONCURRENT: Final = 4
#: Seconds between two progress events of a training.
PROGRESS_SECONDS: Final = 0.25


@dataclass
class Session:
    """An open project and the model in use."""

    project: OpenRequest
    requests: RequestQueue
    events: EventWriter
    device: torch.device
    model: Model
    #: The model's number.
    number: int
    images: WorkingImages
    sources: tuple[Source, ...]
    running_threshold: RunningThreshold = field(init=False)
    #: What the candidates of the model in use depend on; see `PickingRecord`.
    _made_with: str = ""
    #: The micrographs that the model in use has scored.
    _scored: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._use_model(self.model, self.number)

    @property
    def _settings(self) -> PickSettings:
        return replace(
            SETTINGS,
            exclusion_radius_angstrom=self.project.exclusion_radius_angstrom,
            edge_margin_angstrom=self.project.edge_margin_angstrom,
        )

    def _use_model(self, model: Model, number: int) -> None:
        self.model, self.number = model, number
        names = [source.name for source in self.sources]
        self.running_threshold = RunningThreshold(model, self.device, names, self._settings)
        self._made_with = digest_run_key(journal_key(model, self._settings, self.images))
        self._scored.clear()

    @classmethod
    def open(cls, project: OpenRequest, requests: RequestQueue, events: EventWriter) -> Session:
        """Open a project.

        Raises
        ------
        BadInput
            If the diameter, the pixel size or the model cannot be used.
        """
        device = ComputeSettings(project.device, project.threads).start()
        diameter = check_diameter(project.diameter_angstrom)
        model = load_general_model() if project.model is None else load_model(project.model)
        if model.card.any_diameter:
            model = rescale_to_diameter(model, diameter)
        model.network.to(device)
        images = open_working_images(model, project.pixel_size_angstrom)
        images.keep_bytes = IMAGE_CACHE_BYTES
        sources = tuple(
            Source(micrograph.name, micrograph.path, str(i), micrograph.pixel_size_angstrom)
            for i, micrograph in enumerate(project.micrographs)
        )
        number = project.number
        return cls(project, requests, events, device, model, number, images, sources)

    def train(self, request: TrainRequest) -> TrainedEvent | CancelledEvent | RefusedEvent:
        """Fine-tune the model in use, and use the result; return the outcome, never raise."""
        started = time.perf_counter()
        try:
            result = fine_tune(
                self.model,
                self._labeled_sources(request.labels, request.negatives),
                self.images,
                self.device,
                request.seed,
                self._callbacks(),
                ArrayStore(self.project.project, TRAINING_BYTES),
            )
            self._check_cancelled()
            save_model(request.out, result.model)
        except Cancelled:
            return CancelledEvent()
        except BadInput as error:
            return RefusedEvent(says=str(error))
        except Exception as error:
            return RefusedEvent(says=_describe_error("the training", error))
        self._use_model(result.model, request.number)
        return TrainedEvent(
            number=request.number,
            file=request.out,
            seconds=time.perf_counter() - started,
            threshold=result.model.card.threshold,
            validation=result.validation,
            curve=_add_validation(result.curve, result.validation),
            calibration=describe_calibration(result.calibration),
        )

    def score(self) -> None:
        """Score the waiting micrographs until none is left or another request comes.

        Once those that the threshold is estimated from are done, it is completed with what earlier
        sessions know, and without those that will not be scored.
        """
        chosen = self.running_threshold.chosen
        self._in_parallel(lambda: self.requests.take_id(chosen), self._score)
        if not self.requests.urgent and self.requests.take_end_of(chosen):
            missing = iter(self.running_threshold.missing)
            self._in_parallel(lambda: next(missing, None), self._complete_threshold)
        self._in_parallel(self.requests.take_id, self._score)

    def _in_parallel(self, take: Callable[[], int | None], work: Callable[[int], None]) -> None:
        """Work on micrographs until none is left or another request comes."""
        on_cpu = self.device.type == "cpu"
        with one_thread_each(on_cpu) as threads:
            limit = min(threads, MAX_CONCURRENT) if on_cpu else 1
            pool = ThreadPoolExecutor(limit, thread_name_prefix="heliodor-score")
            running = set[Future[None]]()
            try:
                while not self.requests.urgent:
                    number = take() if len(running) < limit else None
                    if number is not None:
                        running.add(pool.submit(work, number))
                    elif running:
                        # Wait only briefly: a micrograph may come into focus.
                        _, running = wait(running, 0.05, FIRST_COMPLETED)
                    else:
                        return
            finally:
                pool.shutdown(wait=True)

    @staticmethod
    def warm_up() -> None:
        """Import what is slow to import, so that the first training does not wait for it."""
        import scipy.optimize  # noqa: F401

        torch.optim.AdamW([torch.zeros(1, requires_grad=True)])

    def _score(self, i: int) -> None:
        """Score a micrograph and send the outcome; never raise."""
        started = time.perf_counter()
        folder = self.project.project
        table = folder / "scores" / f"{i}.npz"
        if not 0 <= i < len(self.sources):
            self.events.send(FailedEvent(id=i, says=f"there is no micrograph {i}"))
            return
        if i in self._scored and table.is_file():
            self.events.send(ScoredEvent(id=i, number=self.number, seconds=0.0))
            return
        try:
            prediction = self._predict(i)
        except Exception as error:
            self._send_failure(i, error, _is_out_of_memory(error))
            return
        try:
            preview = folder / "previews" / f"{i}.jpg"
            write_preview(preview, prediction.normalized, prediction.candidates.stamp)
            write_candidates(table, prediction.candidates)
        except Exception as error:  # as where the disk is full
            self._send_failure(i, error, isinstance(error, BadInput) or _is_out_of_memory(error))
            return
        self._scored.add(i)
        seconds = time.perf_counter() - started
        self.events.send(ScoredEvent(id=i, number=self.number, seconds=seconds))
        if self.running_threshold.claim(i):
            self._search_decoys(i, prediction)

    def _send_failure(self, i: int, error: Exception, temporary: bool) -> None:
        """Send why a micrograph was not scored."""
        says = _describe_error(self.sources[i].name, error)
        self.events.send(FailedEvent(id=i, says=says, temporary=temporary))
        self._send_threshold(self.running_threshold.fail(i))

    def _predict(self, i: int) -> Prediction:
        image = self.images.get(self.sources[i])
        return predict(
            self.model, image, self.number, self.device, self._made_with, self._settings
        )

    def _search_decoys(self, i: int, prediction: Prediction) -> None:
        """Search decoys on a micrograph, keep them, and send the new threshold; never raise."""
        try:
            decoys = self.running_threshold.search_decoys(prediction)
            own = prediction.candidates
            assert own.record is not None
            found = replace(own, record=replace(own.record, decoys=decoys))
        except Exception as error:
            console.show_error(_describe_error("estimating the threshold", error))
            self._send_threshold(self.running_threshold.fail(i))
            return
        try:
            write_candidates(self.project.project / "scores" / f"{i}.npz", found)
        except Exception as error:  # as where the disk is full: the next session searches again
            console.show_error(_describe_error("saving the decoys", error))
        self._add_to_threshold(i, found)

    def _add_to_threshold(self, i: int, found: Candidates, provisional: bool = True) -> None:
        try:
            result = found.as_result(self.sources[i].name)
            assert result is not None
            estimate = self.running_threshold.add(i, result.scores, provisional)
        except Exception as error:
            console.show_error(_describe_error("estimating the threshold", error))
            return
        self._send_threshold(estimate)

    def _complete_threshold(self, i: int) -> None:
        """Add a micrograph that an earlier session scored to the threshold; never raise."""
        kept = self.project.project / "scores" / f"{i}.npz"
        try:
            found = read_candidates(kept)
        except BadInput:
            self._send_threshold(self.running_threshold.fail(i))
            return
        record = found.record
        valid = record is not None and record.made_with == self._made_with
        if valid and record is not None and record.decoys is not None:
            # An earlier session knew more than the first of them say.
            self._add_to_threshold(i, found, provisional=False)
            return
        try:
            prediction = self._predict(i)
        except Exception as error:
            console.show_error(_describe_error(self.sources[i].name, error))
            self._send_threshold(self.running_threshold.fail(i))
            return
        self._search_decoys(i, prediction)

    def _send_threshold(self, estimate: ThresholdEstimate | None) -> None:
        if estimate is not None:
            self.events.send(
                ThresholdEvent(
                    number=self.number,
                    threshold=estimate.threshold,
                    calibration=describe_calibration(estimate.calibration),
                    micrographs=estimate.micrographs,
                    settled=estimate.settled,
                )
            )

    def _labeled_sources(
        self, labels: Mapping[int, FloatArray], negatives: Mapping[int, FloatArray]
    ) -> list[LabeledSource]:
        """Return the micrographs with labels or negatives."""
        numbers = sorted({i for part in (labels, negatives) for i in part if len(part[i])})
        if any(not 0 <= i < len(self.sources) for i in numbers):
            raise BadInput("there are labels on micrographs that are not in the project")
        none = np.zeros((0, 2))
        return [
            LabeledSource(self.sources[i], labels.get(i, none), None, negatives.get(i, none))
            for i in numbers
        ]

    def _callbacks(self) -> TrainingCallbacks:
        last_phase, last_seconds = "", -PROGRESS_SECONDS

        def on_phase(text: str) -> None:
            nonlocal last_phase
            self._check_cancelled()
            if text != last_phase:
                last_phase = text
                self.events.send(PhaseEvent(says=text))

        def on_update(update: int, of: int, loss: float, seconds: float) -> None:
            nonlocal last_seconds
            self._check_cancelled()
            if update == of or seconds - last_seconds >= PROGRESS_SECONDS:
                last_seconds = seconds
                self.events.send(ProgressEvent(update=update, of=of, loss=loss, seconds=seconds))

        return TrainingCallbacks(on_phase, on_update)

    def _check_cancelled(self) -> None:
        if self.requests.cancelled:
            raise Cancelled


def _describe_error(what: str, error: Exception) -> str:
    """Return a sentence about an error; the traceback of an unexpected one is printed."""
    if isinstance(error, BadInput):
        return str(error)
    with suppress(OSError):  # the disk of the log may be full
        traceback.print_exception(error, file=sys.stderr)
    if _is_out_of_memory(error):
        return f"not enough memory for {what}; close other programs or use fewer threads"
    return f"{what} failed ({type(error).__name__}: {error})"


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _add_validation(
    curve: list[tuple[int, float]], validation: float | None
) -> list[tuple[int, float | None, float | None]]:
    """Return the rows of a training curve, with the validation figure in the last one."""
    last = len(curve) - 1
    return [
        (update, loss, validation if i == last else None) for i, (update, loss) in enumerate(curve)
    ]
