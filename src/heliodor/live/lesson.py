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
from heliodor.assignment import LabelledSource
from heliodor.conventions import FloatArray
from heliodor.dataset import DataSettings, TrainingSet, assemble
from heliodor.errors import BadInput
from heliodor.general import FINE_TUNING, NAME
from heliodor.labels import LabelledImage
from heliodor.learning import Learner
from heliodor.live.levels import Line, straight
from heliodor.live.rehearsal import Rehearsal
from heliodor.matching import MATCH_FRACTION
from heliodor.model_file import GENERAL, Model
from heliodor.networks import Network
from heliodor.picking import FLOOR, PickSettings, card_step, level_and_shift
from heliodor.preparation import WorkingImages
from heliodor.probe import CONTRADICTED, Level, Probe
from heliodor.recipe import TrainingSettings
from heliodor.scoring import score_smoothly
from heliodor.suppression import suppress
from heliodor.threshold import best_threshold
from heliodor.training import train_network

#: How to learn while somebody waits. A hundred updates, of layers that tell particles from what
#: looks like them; those below, which see edges and blobs, stay as they are.
RECIPE: Final[dict[str, Any]] = {
    **FINE_TUNING, "epochs": 2, "batch": 32, "positives": 12, "freeze": 3, "keep": 3.0,
}  # fmt: skip
#: Updates of the training that is told of four answers in five, and judged by the others.
JUDGED_UPDATES: Final = 50
#: One answer of so many is held out there.
FOLD: Final = 5
#: Fewer that are held out say nothing.
FEWEST_HELD: Final = 4
#: Labels from which on a start is kept as `RECIPE` says, and the most it is kept with fewer.
USUAL_LABELS: Final = 30
MOST_KEEP: Final = 10.0
#: Working pixels on which a new model is looked at, on the micrographs with most labels.
MOST_PIXELS: Final = 1_600_000


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
    told.phase("reading micrographs")
    dataset = assemble(
        labelled, [], images, data, lambda done, of: told.phase("reading micrographs")
    )
    if images.working_pixel_size_angstrom != size:
        images.coarsen(size)
        raise BadInput(
            "the micrographs are too coarse for the model in use; give a model that was made for"
            " such, or micrographs that are less binned"
        )
    # At least the last layer learns, however few there are.
    freeze = min(RECIPE["freeze"], len(start.network.layers) - 1)
    number = sum(len(item.xy_px) for item in labelled)
    keep = min(RECIPE["keep"] * max(1.0, USUAL_LABELS / number), MOST_KEEP)
    own = {**_own(start), **RECIPE, "freeze": freeze, "keep": keep, "start": NAME}
    recipe = replace(TrainingSettings(), **own, seed=seed)
    curve, costs = list[tuple[int, float]](), list[float]()

    def updated(update: int, of: int, cost: float) -> None:
        costs.append(cost)
        if update % 10 == 0 or update == of:
            curve.append((update, float(np.mean(costs))))
            costs.clear()
        told.progress(update, of, cost, time.perf_counter() - begun)

    told.phase("learning")
    network = _trained(dataset.images, dataset, recipe, device, start, updated)
    told.phase("weighing the scores")
    level = _level(network, dataset, images, card.diameter_angstrom, device, seed)
    if level.contradicted > CONTRADICTED and network.contaminant is not None:
        network.contaminant = None
    model = _model(start, network, dataset, level, recipe, curve[-1][0])
    told.phase("checking against labels left out")
    validation = held_out(model, start, dataset, recipe, device, told.phase)
    line = None
    if level.calibration is not None:
        line = straight(level.calibration, level.scores.values)
    return Lesson(model, validation, curve, line)


def held_out(
    model: Model,
    start: Model,
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    phase: Callable[[str], None],
) -> float | None:
    """Return how many of the answers that a model has not been told of it gets right.

    A second model is trained, in half as many updates, on four of every five labels and negatives,
    and makes as many picks as the first does on the micrographs with most of the labels that were
    left out, as many micrographs as can be scored in a moment. Of the labels left out there,
    the share that it picks; where at least `FEWEST_HELD` negatives were left out too, the mean of
    that and the share of those that it does not pick. The start is the same as the first model's
    and may have learnt from older answers, so with many of these the figure is a little too good.

    Returns
    -------
    float or None
        None where fewer than `FEWEST_HELD` labels would be left out, or none be left to learn.
    """
    kept, all_out = _folds(dataset.images)
    out = _fullest(all_out)
    labels, negatives = (sum(len(getattr(i, n)) for i in out) for n in ("xy_px", "negative_xy_px"))
    if labels < FEWEST_HELD or not any(len(item.xy_px) for item in kept):
        return None
    half = replace(recipe, epochs=1, epoch_updates=JUDGED_UPDATES)
    text = "checking against labels left out"
    other = _trained(kept, dataset, half, device, start, lambda *_: phase(text))
    radius_px = MATCH_FRACTION * _diameter_px(model)
    wanted = sum(len(_picks(model, item, device)[0]) for item in out)
    judge = Model(other, replace(model.card, threshold=-math.inf))
    found = [_picks(judge, item, device) for item in out]
    every = np.sort(np.concatenate([score for _, score in found]))[::-1]
    least = every[min(wanted, len(every)) - 1] if wanted and len(every) else math.inf
    picked = [xy[score >= least] for xy, score in found]
    hit, false = 0, 0
    for item, xy in zip(out, picked, strict=True):
        hit += int(_near(item.xy_px, xy, radius_px).sum())
        false += int(_near(item.negative_xy_px, xy, radius_px).sum())
    if negatives < FEWEST_HELD:
        return hit / labels
    return (hit / labels + 1 - false / negatives) / 2


def _trained(
    images: list[LabelledImage],
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    start: Model,
    updated: Callable[[int, int, float], None],
) -> Network:
    learner = Rehearsal if recipe.freeze else Learner
    return train_network(
        images, [], dataset.radius_px, dataset.prior, recipe, device,
        start=start.network, updated=updated, learner=learner,
    ).network  # fmt: skip


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
    return replace(probe, labelled=_fullest(dataset.images)).level(network, seed)


def _fullest(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Return the images with most labels, no more than can be scored while somebody waits."""
    chosen: list[LabelledImage] = []
    for item in sorted(images, key=lambda item: -len(item.xy_px)):
        size = sum(own.image.size for own in [*chosen, item])
        if chosen and (size > MOST_PIXELS or not len(item.xy_px)):
            break
        chosen.append(item)
    return chosen


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


def _folds(
    images: Sequence[LabelledImage],
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images with four of every five answers, and with the others."""
    kept, out = [], []
    labels = negatives = 0
    for item in images:
        own = (np.arange(len(item.xy_px)) + labels) % FOLD == FOLD - 1
        against = (np.arange(len(item.negative_xy_px)) + negatives) % FOLD == FOLD - 1
        labels, negatives = labels + len(own), negatives + len(against)
        kept.append(LabelledImage(item.image, item.xy_px[~own], item.negative_xy_px[~against]))
        out.append(LabelledImage(item.image, item.xy_px[own], item.negative_xy_px[against]))
    return kept, out


def _picks(
    model: Model, item: LabelledImage, device: torch.device
) -> tuple[FloatArray, FloatArray]:
    """Return centres in working pixels and scores of the candidates from the threshold on."""
    card = model.card
    step = card_step(model, card.working_pixel_size_angstrom)
    map_ = score_smoothly(model.network, item.image, step, device)
    score, _ = level_and_shift(map_, item.image, card.background)
    rows_columns, scores = suppress(score, _diameter_px(model) / 2, max(card.threshold, FLOOR))
    return rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64)


def _diameter_px(model: Model) -> float:
    return model.card.diameter_angstrom / model.card.working_pixel_size_angstrom


def _near(points: FloatArray, others: FloatArray, radius: float) -> FloatArray:
    """Return which points have one of the others within a radius."""
    if not len(others):
        return np.zeros(len(points))
    square = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    return np.asarray(square.min(axis=1) <= radius**2, dtype=np.float64)
