"""Fine-tuning: a new model from the one in use and a few labels and negatives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from heliodor import __version__
from heliodor.app.engine.feature_cache import train_on_cached_features
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.thresholds import choose_threshold
from heliodor.models.model_file import EFFORT_KEY, GENERAL_KEY, Model
from heliodor.models.networks import Network
from heliodor.models.pretrained import GENERAL_MODEL_NAME
from heliodor.picking.corrections import near
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import FLOOR, card_step, level_scores
from heliodor.picking.scoring import score_smoothly
from heliodor.picking.settings import PickSettings
from heliodor.training.dataset import TrainingSet, assemble_training_set
from heliodor.training.initialization import FINE_TUNING
from heliodor.training.score_calibration import (
    CalibrationSet,
    ScoreScale,
)
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.array_store import ArrayStore

#: How to train while somebody waits: a hundred updates of the last layers; the first ones, which
#: detect edges and blobs, stay frozen. The scores of unlabeled regions are kept close to those of
#: the model in use (`keep`), far more than in other trainings: otherwise ten labels can degrade a
#: good model.
RECIPE: Final[dict[str, Any]] = {
    **FINE_TUNING, "epochs": 2, "batch": 32, "positives": 12, "freeze": 3, "keep": 10.0,
}  # fmt: skip
#: Updates of the training that validates.
VALIDATION_UPDATES: Final = 50
#: One annotation in this many is held out for validation.
FOLD: Final = 5
#: Fewest held-out labels, or negatives, that give a validation figure.
MIN_HELD_OUT: Final = 4
#: Most working pixels that are scored for validation; micrographs with most labels come first.
MAX_VALIDATION_PIXELS: Final = 1_600_000
_READING, _VALIDATING = "reading micrographs", "validating on held-out labels"


class Cancelled(Exception):
    """The training was canceled."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """Functions that are called during a training; what they raise ends it."""

    #: Called with a few words when the training enters another phase.
    on_phase: Callable[[str], None]
    #: Called after each update with its number, the number of all, the loss, and the seconds so
    #: far.
    on_update: Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class FineTuningResult:
    """A fine-tuned model and how its training went."""

    model: Model
    #: Between 0 and 1; see `validate_held_out`. None where there are too few annotations.
    validation: float | None
    #: Update, and the mean loss since the row before.
    curve: list[tuple[int, float]]
    #: Of other micrographs; None where there are too few labels.
    calibration: Calibration | None


def fine_tune(
    start: Model,
    labeled: Sequence[LabeledSource],
    images: WorkingImages,
    device: torch.device,
    seed: int,
    callbacks: TrainingCallbacks,
    store: ArrayStore | None = None,
) -> FineTuningResult:
    """Train a model on all annotations of a project.

    Parameters
    ----------
    start
        The model in use, for one diameter; it is not changed.
    labeled
        The micrographs with labels or negatives.
    images
        Working images of the micrographs.
    seed
        The same seed, start and annotations give the same weights.
    store
        Where the images of the training are stored; in memory by default.

    Raises
    ------
    BadInput
        If there are no labels, or none of the micrographs can be read.
    """
    if not any(len(item.xy_px) for item in labeled):
        raise BadInput("no particle is labeled yet; click some particles first, then train")
    started = time.perf_counter()
    store = store or ArrayStore()
    dataset = _read_dataset(start, labeled, images, callbacks, store)
    recipe = _choose_recipe(start, seed)
    curve, losses = list[tuple[int, float]](), list[float]()

    def on_update(update: int, of: int, loss: float) -> None:
        losses.append(loss)
        if update % 10 == 0 or update == of:
            curve.append((update, float(np.mean(losses))))
            losses.clear()
        callbacks.on_update(update, of, loss, time.perf_counter() - started)

    callbacks.on_phase("training")
    network = train_on_cached_features(
        dataset.images, dataset, recipe, device, start, on_update, store
    )
    callbacks.on_phase("calibrating scores")
    scale = _calibrate_scores(network, dataset, images, start, device, seed)
    scale.correct_contaminants(network)
    model = _build_model(start, network, dataset, scale, recipe, curve[-1][0])
    callbacks.on_phase(_VALIDATING)
    validation = validate_held_out(
        model, start, dataset, recipe, device, callbacks.on_phase, store
    )
    known = model.calibration  # as the file will have it
    calibration = None if known is None else known.for_other_micrographs()
    return FineTuningResult(model, validation, curve, calibration)


def _read_dataset(
    start: Model,
    labeled: Sequence[LabeledSource],
    images: WorkingImages,
    callbacks: TrainingCallbacks,
    store: ArrayStore,
) -> TrainingSet:
    """Read the labeled micrographs at the start's working pixel size."""
    card = start.card
    size = images.working_pixel_size_angstrom
    settings = DataSettings(
        card.diameter_angstrom,
        training_radius_angstrom=card.training_radius_angstrom,
        pixel_size_angstrom=images.pixel_size_angstrom,
        normalization=start.normalizer.mode,
        flatten_angstrom=start.normalizer.flatten_px * card.working_pixel_size_angstrom,
        check_frame=False,  # the labels were clicked on these very micrographs
        use_label_margin=False,  # people click where they look, and the app picks everywhere
    )
    callbacks.on_phase(_READING)
    dataset = assemble_training_set(
        labeled, [], images, settings, lambda *_: callbacks.on_phase(_READING), store
    )
    if images.working_pixel_size_angstrom != size:
        images.coarsen(size)
        raise BadInput(
            "the pixels of the micrographs are too coarse for the model in use; use micrographs"
            " that are less binned, or a model for coarser ones"
        )
    return dataset


def _choose_recipe(start: Model, seed: int) -> TrainingSettings:
    """Return the recipe for a start; at least its last layer is trained."""
    network_settings = {name: getattr(start.card, name) for name in ("network", "width", "norm")}
    freeze = min(RECIPE["freeze"], len(start.network.layers) - 1)
    values = {**network_settings, **RECIPE, "freeze": freeze, "start": GENERAL_MODEL_NAME}
    return replace(TrainingSettings(), **values, seed=seed)


def _calibrate_scores(
    network: Network,
    dataset: TrainingSet,
    images: WorkingImages,
    start: Model,
    device: torch.device,
    seed: int,
) -> ScoreScale:
    """Measure the new scores on the labeled micrographs; `RunningThreshold` adds the others."""
    diameter_angstrom = start.card.diameter_angstrom
    micrographs = CalibrationSet.read(
        dataset, [], images, diameter_angstrom, PickSettings(), device
    )
    micrographs = replace(micrographs, labelled=choose_most_labeled(dataset.images))
    return micrographs.measure_scale(network, seed)


def _choose_threshold(scale: ScoreScale) -> float | None:
    """Return the threshold of a model that was trained on few labels; None if it is not known.

    The mean of what the labels alone say, and of what the calibrated probabilities say. Either
    can be far off with a few dozen labels: those that a model was trained on score higher than
    other particles.
    """
    from_labels, calibration = scale.choose_threshold(), scale.calibration
    if from_labels is None or calibration is None:
        return from_labels
    return round((from_labels + choose_threshold(calibration, scale.scores)) / 2, 3)


def _build_model(
    start: Model,
    network: Network,
    dataset: TrainingSet,
    scale: ScoreScale,
    recipe: TrainingSettings,
    updates: int,
) -> Model:
    """Return the network with its model card."""
    chosen, particles = _choose_threshold(scale), dataset.expected_particles
    threshold = start.card.threshold if chosen is None else chosen
    if scale.calibration is not None:
        particles = scale.calibration.particles[0] / scale.calibration.micrographs
    of_start = (GENERAL_KEY, EFFORT_KEY, "slope", "shift")
    extra = {k: v for k, v in start.card.extra.items() if k not in of_start}
    card = replace(
        start.card,
        contaminant=network.contaminant is not None,
        normalization=dataset.normalizer.as_dict(),
        objective=recipe.objective,
        class_prior=dataset.with_expected_particles(particles).prior,
        expected_particles=particles,
        threshold=threshold,
        background=scale.background,
        calibration=None if scale.calibration is None else scale.calibration.as_dict(),
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


def validate_held_out(
    model: Model,
    start: Model,
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    on_phase: Callable[[str], None],
    store: ArrayStore,
) -> float | None:
    """Return the fraction of held-out annotations that a second model gets right.

    The second model is trained, in half as many updates, on four of every five labels and
    negatives. It makes as many picks as the first one on the micrographs with most of the labels
    that were held out, as many micrographs as can be scored in a moment. The figure is the share
    of the held-out labels there that it picks; where at least `MIN_HELD_OUT` negatives were held
    out too, the mean of that and the share of those that it does not pick. Both models have the
    same start, which may have been trained on older annotations: with many of these the figure
    is slightly optimistic.

    Returns
    -------
    float or None
        None where fewer than `MIN_HELD_OUT` labels can be held out, or none would remain.
    """
    kept, held_out = split_held_out(dataset.images)
    held_out = choose_most_labeled(held_out)
    labels, negatives = (
        sum(len(getattr(item, name)) for item in held_out) for name in ("xy_px", "negative_xy_px")
    )
    if labels < MIN_HELD_OUT or not any(len(item.xy_px) for item in kept):
        return None
    half = replace(recipe, epochs=1, epoch_updates=VALIDATION_UPDATES)
    network = train_on_cached_features(
        kept, dataset, half, device, start, lambda *_: on_phase(_VALIDATING), store
    )
    radius_px = MATCH_FRACTION * _diameter_px(model)
    count = sum(len(_find_picks(model, item, device)[0]) for item in held_out)
    second = Model(network, replace(model.card, threshold=-math.inf))
    candidates = [_find_picks(second, item, device) for item in held_out]
    scores = np.sort(np.concatenate([score for _, score in candidates]))[::-1]
    threshold = scores[min(count, len(scores)) - 1] if count and len(scores) else math.inf
    hits, false_hits = 0, 0
    for item, (xy, score) in zip(held_out, candidates, strict=True):
        picks = xy[score >= threshold]
        hits += int(near(item.xy_px, picks, radius_px).sum())
        false_hits += int(near(item.negative_xy_px, picks, radius_px).sum())
    if negatives < MIN_HELD_OUT:
        return hits / labels
    return (hits / labels + 1 - false_hits / negatives) / 2


def choose_most_labeled(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return the images with most labels, no more than `MAX_VALIDATION_PIXELS` in all."""
    chosen: list[LabeledImage] = []
    for item in sorted(images, key=lambda item: -len(item.xy_px)):
        size = sum(other.image.size for other in [*chosen, item])
        if chosen and (size > MAX_VALIDATION_PIXELS or not len(item.xy_px)):
            break
        chosen.append(item)
    return chosen


def split_held_out(
    images: Sequence[LabeledImage],
) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Return the images with four of every five annotations, and with the held-out ones."""
    kept, held_out = list[LabeledImage](), list[LabeledImage]()
    labels = negatives = 0
    for item in images:
        label_out = (np.arange(len(item.xy_px)) + labels) % FOLD == FOLD - 1
        negative_out = (np.arange(len(item.negative_xy_px)) + negatives) % FOLD == FOLD - 1
        labels, negatives = labels + len(label_out), negatives + len(negative_out)
        for part, mask, negative_mask in (
            (kept, ~label_out, ~negative_out),
            (held_out, label_out, negative_out),
        ):
            xy, negative_xy = item.xy_px[mask], item.negative_xy_px[negative_mask]
            part.append(replace(item, xy_px=xy, negative_xy_px=negative_xy))
    return kept, held_out


def _find_picks(
    model: Model, item: LabeledImage, device: torch.device
) -> tuple[FloatArray, FloatArray]:
    """Return centers (x, y) in working pixels and scores of the picks of a working image."""
    card = model.card
    step = card_step(model, card.working_pixel_size_angstrom)
    map_ = score_smoothly(model.network, item.image, step, device)
    score = level_scores(map_, item.image, card.background, _diameter_px(model))
    rows_columns, scores = suppress(score, _diameter_px(model) / 2, max(card.threshold, FLOOR))
    return rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64)


def _diameter_px(model: Model) -> float:
    return model.card.diameter_angstrom / model.card.working_pixel_size_angstrom
