"""A lesson: from a few labels and corrections to a model that goes on from the one in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from heliodor import __version__
from heliodor.app.engine.examination import fullest, held_out
from heliodor.app.engine.feature_cache import rehearsed
from heliodor.app.engine.running_threshold import Line, straight
from heliodor.data.coordinates.label_assignment import LabelledSource
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.thresholds import best_threshold
from heliodor.models.model_file import GENERAL, Model
from heliodor.models.networks import Network
from heliodor.models.pretrained import FINE_TUNING, NAME
from heliodor.picking.settings import PickSettings
from heliodor.training.dataset import (
    DataSettings,
    TrainingSet,
    assemble,
)
from heliodor.training.recipes import TrainingSettings
from heliodor.training.score_calibration import (
    CONTRADICTED,
    Level,
    Probe,
)
from heliodor.utils.array_store import Shelf

#: How to learn while somebody waits. A hundred updates, of layers that tell particles from what
#: looks like them; those below, which see edges and blobs, stay as they are. What the start says
#: of unlabelled regions is kept to, by far more than in a training that is not gone on with: ten
#: labels would else lead a good model astray.
RECIPE: Final[dict[str, Any]] = {
    **FINE_TUNING, "epochs": 2, "batch": 32, "positives": 12, "freeze": 3, "keep": 10.0,
}  # fmt: skip


class Cancelled(Exception):
    """The training was to end, and has."""


@dataclass(frozen=True)
class Told:
    """What there is to tell while a lesson goes on."""

    #: Called with a few words when something else is being done.
    phase: Callable[[str], None]
    #: Called after each update with its number, that of all, the cost, and seconds so far; what
    #: it raises, or `phase` does, ends the lesson.
    progress: Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Lesson:
    """What came of it."""

    model: Model
    #: Between 0 and 1; see `held_out`. None where there is too little to say.
    validation: float | None
    #: Update, and the mean cost of those since the row before.
    curve: list[tuple[int, float]]
    line: Line | None


def learn(
    start: Model,
    labelled: Sequence[LabelledSource],
    images: WorkingImages,
    device: torch.device,
    seed: int,
    told: Told,
    shelf: Shelf | None = None,
) -> Lesson:
    """Train a model on all labels of a project.

    Parameters
    ----------
    start
        The model in use, for one diameter; it stays as it is.
    labelled
        The micrographs with labels or negatives.
    images
        Micrographs as the model needs them.
    seed
        The same seed, start and labels give the same weights.
    shelf
        Where the images of a training lie; in memory by default.

    Raises
    ------
    BadInput
        If there is nothing to learn from, or none of it can be read.
    """
    if not any(len(item.xy_px) for item in labelled):
        raise BadInput("no particle is labelled yet; click some particles first, then train")
    begun = time.perf_counter()
    card = start.card
    size = images.working_pixel_size_angstrom
    data = DataSettings(
        card.diameter_angstrom,
        training_radius_angstrom=card.training_radius_angstrom,
        pixel_size_angstrom=images.pixel_size_angstrom,
        normalization=start.normalizer.mode,
        flatten_angstrom=start.normalizer.flatten_px * card.working_pixel_size_angstrom,
        check_frame=False,  # the labels were clicked on these very pictures
    )
    shelf = shelf or Shelf()
    reading = "reading micrographs"
    told.phase(reading)
    dataset = assemble(labelled, [], images, data, lambda *_: told.phase(reading), shelf)
    if images.working_pixel_size_angstrom != size:
        images.coarsen(size)
        raise BadInput(
            "the micrographs are too coarse for the model in use; give a model that was made for"
            " such, or micrographs that are less binned"
        )
    # At least the last layer learns, however few there are.
    freeze = min(RECIPE["freeze"], len(start.network.layers) - 1)
    own = {**_own(start), **RECIPE, "freeze": freeze, "start": NAME}
    recipe = replace(TrainingSettings(), **own, seed=seed)
    curve, costs = list[tuple[int, float]](), list[float]()

    def updated(update: int, of: int, cost: float) -> None:
        costs.append(cost)
        if update % 10 == 0 or update == of:
            curve.append((update, float(np.mean(costs))))
            costs.clear()
        told.progress(update, of, cost, time.perf_counter() - begun)

    told.phase("learning")
    network = rehearsed(dataset.images, dataset, recipe, device, start, updated, shelf)
    told.phase("weighing the scores")
    level = _level(network, dataset, images, card.diameter_angstrom, device, seed)
    if level.contradicted > CONTRADICTED and network.contaminant is not None:
        network.contaminant = None
    model = _model(start, network, dataset, level, recipe, curve[-1][0])
    told.phase("checking against labels left out")
    validation = held_out(model, start, dataset, recipe, device, told.phase, shelf)
    line = None
    if level.calibration is not None:
        line = straight(level.calibration, level.scores.values)
    return Lesson(model, validation, curve, line)


def _own(start: Model) -> dict[str, Any]:
    """Return what of a recipe is the start's."""
    return {name: getattr(start.card, name) for name in ("network", "width", "norm")}


def _level(
    network: Network,
    dataset: TrainingSet,
    images: WorkingImages,
    diameter_angstrom: float,
    device: torch.device,
    seed: int,
) -> Level:
    """Find where the new scores lie; of more micrographs `levels` knows, once they are scored."""
    probe = Probe.of(dataset, [], images, diameter_angstrom, PickSettings(), device)
    return replace(probe, labelled=fullest(dataset.images)).level(network, seed)


def _model(
    start: Model,
    network: Network,
    dataset: TrainingSet,
    level: Level,
    recipe: TrainingSettings,
    updates: int,
) -> Model:
    """Return the network with what is to be known of it."""
    threshold, particles = start.card.threshold, dataset.expected_particles
    if level.calibration is not None:
        threshold = best_threshold(level.calibration, level.scores)
        particles = level.calibration.particles[0] / level.calibration.micrographs
    extra = {k: v for k, v in start.card.extra.items() if k not in (GENERAL, "slope", "shift")}
    card = replace(
        start.card,
        contaminant=network.contaminant is not None,
        normalization=dataset.normalizer.as_dict(),
        objective=recipe.objective,
        class_prior=dataset.expecting(particles).prior,
        expected_particles=particles,
        threshold=threshold,
        background=level.background,
        calibration=None if level.calibration is None else level.calibration.as_dict(),
        seed=recipe.seed,
        version=__version__,
        training_micrographs=dataset.names,
        validation_micrographs=[],
        labelled_particles=dataset.labelled_particles,
        best_epoch=int(recipe.epochs) if recipe.epochs != "auto" else 0,
        updates=updates,
        validation_ap=None,
        extra=extra,
    )
    return Model(network, card)
