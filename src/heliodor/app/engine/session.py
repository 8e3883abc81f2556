"""The session: a project with the model in use, which learns and scores."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from heliodor.app.candidates import write_candidates
from heliodor.app.engine.fine_tuning import (
    Cancelled,
    TrainingCallbacks,
    fine_tune,
)
from heliodor.app.engine.prediction import predict, write_preview
from heliodor.app.engine.request_queue import RequestQueue
from heliodor.app.engine.running_threshold import LogisticCalibration, RunningThreshold
from heliodor.app.protocol import (
    EventWriter,
    OpenRequest,
    TrainRequest,
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
from heliodor.models.pretrained import for_diameter, general_model
from heliodor.picking.score_maps import open_working_images
from heliodor.utils.array_store import ArrayStore
from heliodor.utils.compute import Compute, one_thread_each

#: Bytes of working images that are kept for the next training, or the next model.
IMAGE_CACHE_BYTES: Final = 384 * 2**20
#: Bytes of a training's images that lie in memory; more lie in files without a name.
TRAINING_BYTES: Final = 2**30
#: Micrographs that are scored at a time, at most: each takes some hundred megabytes.
MAX_CONCURRENT: Final = 4
#: An event and its values.
Event = tuple[str, dict[str, Any]]
#: Seconds between two words on the progress of a training.
PROGRESS_SECONDS: Final = 0.25


@dataclass
class Session:
    """A project, and the model in use."""

    project: OpenRequest
    requests: RequestQueue
    events: EventWriter
    device: torch.device
    model: Model
    number: int
    images: WorkingImages
    sources: tuple[Source, ...]
    running_threshold: RunningThreshold = field(init=False)
    #: What the model in use has scored already.
    _scored: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.running_threshold = RunningThreshold(self.model, self.device)

    @classmethod
    def open(cls, project: OpenRequest, requests: RequestQueue, events: EventWriter) -> Session:
        """Open a project.

        Raises
        ------
        BadInput
            If the diameter, the pixel size or the model cannot be used.
        """
        device = Compute(threads=project.threads).start()
        diameter = check_diameter(project.diameter_angstrom)
        model = general_model() if project.model is None else load_model(project.model)
        if model.card.any_diameter:
            model = for_diameter(model, diameter)
        model.network.to(device)
        images = open_working_images(model, project.pixel_size_angstrom)
        images.keep_bytes = IMAGE_CACHE_BYTES
        sources = tuple(
            Source(own.name, own.path, str(i), own.pixel_size_angstrom)
            for i, own in enumerate(project.micrographs)
        )
        number = project.number
        return cls(project, requests, events, device, model, number, images, sources)

    def train(self, wanted: TrainRequest) -> Event:
        """Train; the new model is in use then. Return how it ended, whatever happens."""
        begun = time.perf_counter()
        try:
            result = fine_tune(
                self.model,
                self._labeled_sources(wanted.labels, wanted.negatives),
                self.images,
                self.device,
                wanted.seed,
                self._callbacks(),
                ArrayStore(self.project.project, TRAINING_BYTES),
            )
            self._check_cancelled()
            save_model(wanted.out, result.model)
        except Cancelled:
            return "cancelled", {}
        except BadInput as error:
            return "refused", {"says": str(error)}
        except Exception as error:
            return "refused", {"says": _describe_error("the training", error)}
        self.model, self.number = result.model, wanted.number
        self.running_threshold = RunningThreshold(self.model, self.device)
        self._scored.clear()
        return "trained", {
            "number": wanted.number,
            "file": wanted.out,
            "seconds": time.perf_counter() - begun,
            "threshold": result.model.card.threshold,
            "validation": result.validation,
            "curve": _add_validation(result.curve, result.validation),
            "calibration": _as_dict(result.calibration),
        }

    def score(self) -> None:
        """Score what waits to be, until there is nothing left or something else to do."""
        alone = self.device.type == "cpu"
        with one_thread_each(alone) as threads:
            at_a_time = min(threads, MAX_CONCURRENT) if alone else 1
            pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="heliodor-score")
            under_way = set[Future[None]]()
            try:
                while not self.requests.urgent:
                    number = self.requests.take_id() if len(under_way) < at_a_time else None
                    if number is not None:
                        under_way.add(pool.submit(self._score, number))
                    elif under_way:
                        # Not for longer than a glance: something may come into focus.
                        _, under_way = wait(under_way, 0.05, FIRST_COMPLETED)
                    else:
                        return
            finally:
                pool.shutdown(wait=True)

    @staticmethod
    def warm_up() -> None:
        """Do what takes long the first time, and a training would else wait for: imports."""
        import scipy.optimize  # noqa: F401

        torch.optim.AdamW([torch.zeros(1, requires_grad=True)])

    def _score(self, i: int) -> None:
        """Score a micrograph and say how it went, whatever happens."""
        begun = time.perf_counter()
        folder = self.project.project
        table = folder / "scores" / f"{i}.npz"
        if not 0 <= i < len(self.sources):
            self.events.send("failed", id=i, says=f"there is no micrograph {i}")
            return
        if i in self._scored and table.is_file():
            self.events.send("scored", id=i, number=self.number, seconds=0.0)
            return
        try:
            found = predict(self.model, self.images.get(self.sources[i]), self.number, self.device)
            write_preview(folder / "previews" / f"{i}.jpg", found.normalised)
            write_candidates(table, found.candidates)
        except Exception as error:
            self.events.send("failed", id=i, says=_describe_error(self.sources[i].name, error))
            return
        self._scored.add(i)
        seconds = time.perf_counter() - begun
        self.events.send("scored", id=i, number=self.number, seconds=seconds)
        try:
            estimate = (
                self.running_threshold.add(i, found) if self.running_threshold.claim(i) else None
            )
        except Exception as error:
            print(_describe_error("a level", error), file=sys.stderr)
            return
        if estimate is not None:
            self.events.send(
                "level",
                number=self.number,
                threshold=estimate.threshold,
                calibration=_as_dict(estimate.calibration),
            )

    def _labeled_sources(
        self, labels: Mapping[int, FloatArray], negatives: Mapping[int, FloatArray]
    ) -> list[LabeledSource]:
        """Return the micrographs that something was said of."""
        known = sorted({i for part in (labels, negatives) for i in part if len(part[i])})
        if any(not 0 <= i < len(self.sources) for i in known):
            raise BadInput("there are labels on micrographs that are none of the project's")
        none = np.zeros((0, 2))
        return [
            LabeledSource(self.sources[i], labels.get(i, none), None, negatives.get(i, none))
            for i in known
        ]

    def _callbacks(self) -> TrainingCallbacks:
        last_phase, last_said = "", -PROGRESS_SECONDS

        def phase(text: str) -> None:
            nonlocal last_phase
            self._check_cancelled()
            if text != last_phase:
                last_phase = text
                self.events.send("phase", says=text)

        def progress(update: int, of: int, cost: float, seconds: float) -> None:
            nonlocal last_said
            self._check_cancelled()
            if update == of or seconds - last_said >= PROGRESS_SECONDS:
                last_said = seconds
                self.events.send(
                    "progress", update=update, of=of, loss=cost, validation=None, seconds=seconds
                )

        return TrainingCallbacks(phase, progress)

    def _check_cancelled(self) -> None:
        if self.requests.cancelled:
            raise Cancelled


def _describe_error(what: str, error: Exception) -> str:
    """Return what to say of an error; one that nobody foresaw is told in full on the side."""
    if isinstance(error, BadInput):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"there is not enough memory for {what}; close other programs, or use fewer threads"
    return f"{what} failed ({type(error).__name__}: {error})"


def _as_dict(line: LogisticCalibration | None) -> dict[str, float] | None:
    return None if line is None else line._asdict()


def _add_validation(
    curve: list[tuple[int, float]], validation: float | None
) -> list[list[float | None]]:
    """Return a curve's rows, the figure with the last one, of which it is."""
    rows: list[list[float | None]] = [[update, loss, None] for update, loss in curve]
    if rows:
        rows[-1][2] = validation
    return rows
