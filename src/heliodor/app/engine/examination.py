"""The examination of a new model: how many answers it gets right that it was not told of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from heliodor.app.candidates import near
from heliodor.app.engine.feature_cache import rehearsed
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.labels import LabelledImage
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.models.model_file import Model
from heliodor.picking.candidates import FLOOR
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import card_step, level
from heliodor.picking.scoring import score_smoothly
from heliodor.training.dataset import TrainingSet
from heliodor.training.recipes import TrainingSettings
from heliodor.utils.array_store import Shelf

#: Updates of the training that is told of four answers in five, and judged by the others.
JUDGED_UPDATES: Final = 50
#: One answer of so many is held out there.
FOLD: Final = 5
#: Fewer that are held out say nothing.
FEWEST_HELD: Final = 4
#: Working pixels on which a new model is looked at, on the micrographs with most labels.
MOST_PIXELS: Final = 1_600_000


def held_out(
    model: Model,
    start: Model,
    dataset: TrainingSet,
    recipe: TrainingSettings,
    device: torch.device,
    phase: Callable[[str], None],
    shelf: Shelf,
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
    kept, all_out = folds(dataset.images)
    out = fullest(all_out)
    labels, negatives = (sum(len(getattr(i, n)) for i in out) for n in ("xy_px", "negative_xy_px"))
    if labels < FEWEST_HELD or not any(len(item.xy_px) for item in kept):
        return None
    half = replace(recipe, epochs=1, epoch_updates=JUDGED_UPDATES)
    text = "checking against labels left out"
    other = rehearsed(kept, dataset, half, device, start, lambda *_: phase(text), shelf)
    radius_px = MATCH_FRACTION * _diameter_px(model)
    wanted = sum(len(_picks(model, item, device)[0]) for item in out)
    judge = Model(other, replace(model.card, threshold=-math.inf))
    found = [_picks(judge, item, device) for item in out]
    every = np.sort(np.concatenate([score for _, score in found]))[::-1]
    least = every[min(wanted, len(every)) - 1] if wanted and len(every) else math.inf
    picked = [xy[score >= least] for xy, score in found]
    hit, false = 0, 0
    for item, xy in zip(out, picked, strict=True):
        hit += int(near(item.xy_px, xy, radius_px).sum())
        false += int(near(item.negative_xy_px, xy, radius_px).sum())
    if negatives < FEWEST_HELD:
        return hit / labels
    return (hit / labels + 1 - false / negatives) / 2


def fullest(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Return the images with most labels, no more than can be scored while somebody waits."""
    chosen: list[LabelledImage] = []
    for item in sorted(images, key=lambda item: -len(item.xy_px)):
        size = sum(own.image.size for own in [*chosen, item])
        if chosen and (size > MOST_PIXELS or not len(item.xy_px)):
            break
        chosen.append(item)
    return chosen


def folds(
    images: Sequence[LabelledImage],
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images with four of every five answers, and those with the others."""
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
    score = level(map_, item.image, card.background, _diameter_px(model))
    rows_columns, scores = suppress(score, _diameter_px(model) / 2, max(card.threshold, FLOOR))
    return rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64)


def _diameter_px(model: Model) -> float:
    return model.card.diameter_angstrom / model.card.working_pixel_size_angstrom
