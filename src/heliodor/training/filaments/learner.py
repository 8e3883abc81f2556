"""Learn filaments from labels on a few micrographs, starting from a model of filaments."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from heliodor.conventions import FloatArray, Image
from heliodor.models.filament_model_file import FilamentModel, round_weights
from heliodor.models.filament_network import (
    MIRRORED_PX,
    apply_network,
    count_points,
    mirror_image,
)
from heliodor.models.filament_unet import (
    AXIS,
    CONTAMINANT,
    LATTICE_STEP_PX,
    MULTIPLE_PX,
    FilamentNetwork,
)
from heliodor.training.filaments.loss import (
    ANGLE_PART,
    CONTAMINANT_PART,
    OFFSET_PART,
    geometry_losses,
)
from heliodor.training.filaments.settings import FilamentRecipe
from heliodor.training.filaments.targets import turn_map
from heliodor.training.filaments.teaching import LabeledFilaments, Lesson, prepare_lesson

log = logging.getLogger(__name__)

#: The usual recipe.
RECIPE = FilamentRecipe()


@dataclass(frozen=True)
class _Pupil:
    """A micrograph with its mirrored edges, and what is taught about it."""

    item: LabeledFilaments
    padded: Image
    contaminant: Image
    lesson: Lesson


def train_filaments(
    start: FilamentModel,
    items: Sequence[LabeledFilaments],
    recipe: FilamentRecipe = RECIPE,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> FilamentModel:
    """Train a model with labeled filaments.

    Parameters
    ----------
    start
        The model to start from, which is not changed.
    items
        Micrographs with labels.
    recipe
        How to train; its seed fixes every draw.
    device
        Where to train.
    progress
        Called with the number of updates done and their number.

    Returns
    -------
    FilamentModel
        With the card of the start.

    Raises
    ------
    ValueError
        If there is no label.
    """
    if not any(item.axes_px for item in items):
        raise ValueError("training needs a labeled filament")
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(31,)))
    network = copy.deepcopy(start.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pupils = _begin(start, items, device)
    side = _choose_side(pupils, recipe.side_px)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.updates + 1, pct_start=0.2
    )
    label_weight = recipe.label_weight
    if any(item.rejected_px for item in items):
        label_weight = max(label_weight, recipe.rejected_weight)
    each = -(-recipe.updates // recipe.rounds)
    for update in range(recipe.updates):
        if update and update % each == 0:
            pupils = _renew(network, start, pupils, device)
        _set_mode(network)
        fields, lesson = _draw(rng, pupils, side, recipe)
        outputs = network(fields.to(device, memory_format=torch.channels_last)).float().cpu()
        cut = MIRRORED_PX // LATTICE_STEP_PX
        loss = lesson_loss(
            outputs[:, :, cut:-cut, cut:-cut], lesson, label_weight, recipe.rejected_weight
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(update + 1, recipe.updates)
    trained = network.cpu().to(memory_format=torch.contiguous_format).eval()
    round_weights(trained)
    return FilamentModel(trained, replace(start.card, updates=recipe.updates, seed=recipe.seed))


def lesson_loss(
    outputs: Tensor, lesson: Lesson, label_weight: float, rejected_weight: float = 0.0
) -> Tensor:
    """Return the loss of fields whose labels are incomplete.

    Parameters
    ----------
    outputs
        Of the network, shape (n, 6, h, w).
    lesson
        Stacked, at the same points.
    label_weight
        Weight of the points on labels together, over that of all others together.
    rejected_weight
        The same of the points on rejected axes.
    """
    said = outputs[:, AXIS]
    each = cross_entropy(said, lesson.axis, lesson.weight, reduction="none")

    def mean(where: Tensor) -> Tensor:
        """Return the mean over the points of a kind."""
        return (each * where).sum() / (lesson.weight * where).sum().clamp(min=1.0)

    on_labels, on_rejected = mean(lesson.labeled), mean(lesson.rejected)
    elsewhere = mean(1.0 - lesson.labeled - lesson.rejected)
    bad = cross_entropy(outputs[:, CONTAMINANT], lesson.contaminant)
    geometry = geometry_losses(outputs, lesson.as_targets(), torch.ones_like(lesson.axis))
    total = label_weight * on_labels + rejected_weight * on_rejected
    total = total + elsewhere + CONTAMINANT_PART * bad
    return total + ANGLE_PART * geometry["angle"] + OFFSET_PART * geometry["offset"]


def _begin(
    start: FilamentModel, items: Sequence[LabeledFilaments], device: torch.device | str
) -> list[_Pupil]:
    pupils = []
    for item in items:
        outputs = apply_network(start.network, item.image, device)
        contaminant = expit(outputs[CONTAMINANT])
        lesson = prepare_lesson(item, outputs, start.card.slope, start.card.shift, contaminant)
        pupils.append(_Pupil(item, mirror_image(item.image), contaminant, lesson))
    return pupils


def _renew(
    network: FilamentNetwork,
    start: FilamentModel,
    pupils: Sequence[_Pupil],
    device: torch.device | str,
) -> list[_Pupil]:
    """Return the micrographs with what the network says after some learning."""
    network.eval()
    renewed = []
    for own in pupils:
        outputs = apply_network(network, own.item.image, device)
        lesson = prepare_lesson(
            own.item, outputs, start.card.slope, start.card.shift, own.contaminant
        )
        renewed.append(replace(own, lesson=lesson))
    return renewed


def _set_mode(network: FilamentNetwork) -> None:
    """Put the network in training mode, but keep the running statistics of the start."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _choose_side(pupils: Sequence[_Pupil], most: int) -> int:
    """Return the side of the fields: at most that of the smallest micrograph with its edges."""
    least: int = min(min(own.item.image.shape) + 2 * MIRRORED_PX for own in pupils)
    return max(min(most, least) // MULTIPLE_PX * MULTIPLE_PX, 4 * MULTIPLE_PX)


def _draw(
    rng: np.random.Generator, pupils: Sequence[_Pupil], side: int, recipe: FilamentRecipe
) -> tuple[Tensor, Lesson]:
    """Draw fields, shape (n, 1, side, side), and what to teach about them."""
    lengths = np.array([sum(map(len, own.item.axes_px)) for own in pupils], dtype=float)
    rejected = np.array([sum(map(len, own.item.rejected_px)) for own in pupils], dtype=float)
    fields, lessons = [], []
    for _ in range(recipe.batch):
        marked = lengths if rng.random() < recipe.labeled else None
        if marked is not None and rejected.any() and rng.random() < recipe.rejected:
            marked = rejected
        chosen = None if marked is None else marked / marked.sum()
        own = pupils[int(rng.choice(len(pupils), p=chosen))]
        axes = own.item.rejected_px if marked is rejected else own.item.axes_px
        corner = _draw_corner(rng, own, side, axes if marked is not None else ())
        row, column = (int(first) for first in corner)
        count = (side - 2 * MIRRORED_PX) // LATTICE_STEP_PX
        points = [slice(first // LATTICE_STEP_PX, first // LATTICE_STEP_PX + count)
                  for first in (row, column)]  # fmt: skip
        quarters, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
        field = torch.from_numpy(
            np.ascontiguousarray(own.padded[row : row + side, column : column + side])
        )
        fields.append(turn_map(field, quarters, mirror))
        lessons.append(own.lesson.crop(points[0], points[1]).turn(quarters, mirror))
    return torch.stack(fields)[:, None], Lesson.stack(lessons)


def _draw_corner(
    rng: np.random.Generator, own: _Pupil, side: int, shown_px: Sequence[FloatArray]
) -> FloatArray:
    """Draw the first row and column of a field, on the lattice, so that it shows an axis."""
    most = np.array([
        max(0, (count_points(length) * LATTICE_STEP_PX + 2 * MIRRORED_PX - side))
        for length in own.item.image.shape
    ])  # fmt: skip
    corner = rng.uniform(0.0, most + 1.0)
    if shown_px:
        axes = np.concatenate(shown_px)
        x, y = axes[int(rng.integers(len(axes)))]
        inner = side - 2 * MIRRORED_PX
        corner = np.array([y, x]) - rng.uniform(0.1, 0.9, 2) * inner
    corner = np.clip(corner, 0, most)
    return np.floor(corner / LATTICE_STEP_PX) * LATTICE_STEP_PX
