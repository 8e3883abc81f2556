"""A lesson: from a few labels and corrections to a model that goes on from the one in use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from heliodor import __version__
from heliodor.app.candidates import near
from heliodor.app.engine.feature_cache import train_on_cached_features
from heliodor.app.engine.running_threshold import LogisticCalibration, fit_logistic
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.thresholds import best_threshold
from heliodor.models.model_file import GENERAL, Model
from heliodor.models.networks import Network
from heliodor.models.pretrained import NAME
from heliodor.picking.candidates import FLOOR
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import card_step, level_scores
from heliodor.picking.scoring import score_smoothly
from heliodor.picking.settings import PickSettings
from heliodor.training.dataset import TrainingSet, assemble_training_set
from heliodor.training.initialization import FINE_TUNING
from heliodor.training.score_calibration import (
    CONTRADICTED,
    CalibrationSet,
    ScoreScale,
)
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.array_store import ArrayStore

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
class TrainingCallbacks:
    """What there is to tell while a lesson goes on."""

    #: Called with a few words when something else is being done.
    phase: Callable[[str], None]
    #: Called after each update with its number, that of all, the cost, and seconds so far; what
    #: it raises, or `phase` does, ends the lesson.
    progress: Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class FineTuningResult:
    """What came of it."""

    model: Model
    #: Between 0 and 1; see `validate_held_out`. None where there is too little to say.
    validation: float | None
    #: Update, and the mean cost of those since the row before.
    curve: list[tuple[int, float]]
    calibration: LogisticCalibration | None


def fine_tune(
    start: Model,
    labelled: Sequence[LabeledSource],
    images: WorkingImages,
    device: torch.device,
    seed: int,
    callbacks: TrainingCallbacks,
    shelf: ArrayStore | None = None,
) -> FineTuningResult:
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
    shelf = shelf or ArrayStore()
    reading = "reading micrographs"
    callbacks.phase(reading)
    dataset = assemble_training_set(
        labelled, [], images, data, lambda *_: callbacks.phase(reading), shelf
    )
    if images.working_pixel_size_angstrom != size:
        images.coarsen(size)
        raise BadInput(
            "the micrographs are too coarse for the model in use; give a model that was made for"
            " such, or micrographs that are less binned"
        )
    # At least the last layer learns, however few there are.
    freeze = min(RECIPE["freeze"], len(start.network.layers) - 1)
    own = {**_network_settings(start), **RECIPE, "freeze": freeze, "start": NAME}
    recipe = replace(TrainingSettings(), **own, seed=seed)
    curve, costs = list[tuple[int, float]](), list[float]()

    def updated(update: int, of: int, cost: float) -> None:
        costs.append(cost)
        if update % 10 == 0 or update == of:
            curve.append((update, float(np.mean(costs))))
            costs.clear()
        callbacks.progress(update, of, cost, time.perf_counter() - begun)

    callbacks.phase("learning")
    network = train_on_cached_features(
        dataset.images, dataset, recipe, device, start, updated, shelf
    )
    callbacks.phase("weighing the scores")
    level = _calibrate_scores(network, dataset, images, card.diameter_angstrom, device, seed)
    if level.labels_in_contamination > CONTRADICTED and network.contaminant is not None:
        network.contaminant = None
    model = _build_model(start, network, dataset, level, recipe, curve[-1][0])
    callbacks.phase("checking against labels left out")
    validation = validate_held_out(model, start, dataset, recipe, device, callbacks.phase, shelf)
    line = None
    if level.calibration is not None:
        line = fit_logistic(level.calibration, level.scores.values)
    return FineTuningResult(model, validation, curve, line)


def _network_settings(start: Model) -> dict[str, Any]:
    """Return what of a recipe is the start's."""
    return {name: getattr(start.card, name) for name in ("network", "width", "norm")}


def _calibrate_scores(
    network: Network,
    dataset: TrainingSet,
    images: WorkingImages,
    diameter_angstrom: float,
    device: torch.device,
    seed: int,
) -> ScoreScale:
    """Find where the new scores lie; of more micrographs `levels` knows, once they are scored."""
    probe = CalibrationSet.read(dataset, [], images, diameter_angstrom, PickSettings(), device)
    return replace(probe, labelled=choose_most_labeled(dataset.images)).measure_scale(
        network, seed
    )


def _build_model(
    start: Model,
    network: Network,
    dataset: TrainingSet,
    level: ScoreScale,
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
        class_prior=dataset.with_expected_particles(particles).prior,
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


#: Updates of the training that is callbacks of four answers in five, and judged by the others.
VALIDATION_UPDATES: Final = 50


#: One answer of so many is held out there.
FOLD: Final = 5


#: Fewer that are held out say nothing.
MIN_HELD_OUT: Final = 4


#: Working pixels on which a new model is looked at, on the micrographs with most labels.
MAX_VALIDATION_PIXELS: Final = 1_600_000


def validate_held_out(
    model: Model,
    start: Model,
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    phase: Callable[[str], None],
    shelf: ArrayStore,
) -> float | None:
    """Return how many of the answers that a model has not been callbacks of it gets right.

    A second model is trained, in half as many updates, on four of every five labels and negatives,
    and makes as many picks as the first does on the micrographs with most of the labels that were
    left out, as many micrographs as can be scored in a moment. Of the labels left out there,
    the share that it picks; where at least `MIN_HELD_OUT` negatives were left out too, the mean of
    that and the share of those that it does not pick. The start is the same as the first model's
    and may have learnt from older answers, so with many of these the figure is a little too good.

    Returns
    -------
    float or None
        None where fewer than `MIN_HELD_OUT` labels would be left out, or none be left to learn.
    """
    kept, all_out = split_held_out(dataset.images)
    out = choose_most_labeled(all_out)
    labels, negatives = (sum(len(getattr(i, n)) for i in out) for n in ("xy_px", "negative_xy_px"))
    if labels < MIN_HELD_OUT or not any(len(item.xy_px) for item in kept):
        return None
    half = replace(recipe, epochs=1, epoch_updates=VALIDATION_UPDATES)
    text = "checking against labels left out"
    other = train_on_cached_features(
        kept, dataset, half, device, start, lambda *_: phase(text), shelf
    )
    radius_px = MATCH_FRACTION * _diameter_px(model)
    wanted = sum(len(_find_picks(model, item, device)[0]) for item in out)
    judge = Model(other, replace(model.card, threshold=-math.inf))
    found = [_find_picks(judge, item, device) for item in out]
    every = np.sort(np.concatenate([score for _, score in found]))[::-1]
    least = every[min(wanted, len(every)) - 1] if wanted and len(every) else math.inf
    picked = [xy[score >= least] for xy, score in found]
    hit, false = 0, 0
    for item, xy in zip(out, picked, strict=True):
        hit += int(near(item.xy_px, xy, radius_px).sum())
        false += int(near(item.negative_xy_px, xy, radius_px).sum())
    if negatives < MIN_HELD_OUT:
        return hit / labels
    return (hit / labels + 1 - false / negatives) / 2


def choose_most_labeled(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return the images with most labels, no more than can be scored while somebody waits."""
    chosen: list[LabeledImage] = []
    for item in sorted(images, key=lambda item: -len(item.xy_px)):
        size = sum(own.image.size for own in [*chosen, item])
        if chosen and (size > MAX_VALIDATION_PIXELS or not len(item.xy_px)):
            break
        chosen.append(item)
    return chosen


def split_held_out(
    images: Sequence[LabeledImage],
) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Return the images with four of every five answers, and those with the others."""
    kept, out = [], []
    labels = negatives = 0
    for item in images:
        own = (np.arange(len(item.xy_px)) + labels) % FOLD == FOLD - 1
        against = (np.arange(len(item.negative_xy_px)) + negatives) % FOLD == FOLD - 1
        labels, negatives = labels + len(own), negatives + len(against)
        kept.append(LabeledImage(item.image, item.xy_px[~own], item.negative_xy_px[~against]))
        out.append(LabeledImage(item.image, item.xy_px[own], item.negative_xy_px[against]))
    return kept, out


def _find_picks(
    model: Model, item: LabeledImage, device: torch.device
) -> tuple[FloatArray, FloatArray]:
    """Return centres in working pixels and scores of the candidates from the threshold on."""
    card = model.card
    step = card_step(model, card.working_pixel_size_angstrom)
    map_ = score_smoothly(model.network, item.image, step, device)
    score = level_scores(map_, item.image, card.background, _diameter_px(model))
    rows_columns, scores = suppress(score, _diameter_px(model) / 2, max(card.threshold, FLOOR))
    return rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64)


def _diameter_px(model: Model) -> float:
    return model.card.diameter_angstrom / model.card.working_pixel_size_angstrom
