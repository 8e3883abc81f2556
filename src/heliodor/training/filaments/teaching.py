"""What is taught about labeled micrographs: labels, and what the network is sure of itself.

Not all filaments are labeled. Points on labels are positive. Of the others, the network's own
surest traces are positive too, uncertain points do not count, and the rest keep the probabilities
that the network gave them: most are background, and for those that are not, it is not told so.
Points on axes that the user rejected are background, however sure the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.special import expit
from torch import Tensor

from heliodor.conventions import FloatArray, Image
from heliodor.models.filament_network import count_points
from heliodor.models.filament_unet import (
    ANGLE,
    AXIS,
    LATTICE_FIRST_PX,
    LATTICE_STEP_PX,
    OFFSET,
    WORKING_WIDTH_PX,
)
from heliodor.training.filaments.loss import NEAR_PX, POSITIVE_PX
from heliodor.training.filaments.targets import (
    FilamentTargets,
    measure_targets,
    turn_double_angle,
    turn_map,
    turn_offset,
)

#: Probabilities that an axis is there above which a point may belong to a trace, and of the surest
#: point of a trace; from the third on a point that belongs to none does not count.
LINKED, SURE, DOUBTED = 0.3, 0.75, 0.1
#: Shortest trace of the network, in widths.
LEAST_WIDTHS = 4.0
#: Within this distance of a label, in pixels, the network's own traces do not count: they are of
#: the labeled filament.
OWN_PX = 8.0
#: Points beside a label, and not on another axis that the network knows, are background.
BESIDE_PX = 0.75 * WORKING_WIDTH_PX
#: Points within this distance of a rejected axis are background, unless the network says that
#: another filament crosses there: one whose double angle differs by more than that of this cosine.
REJECTED_PX, SAME_COSINE = 0.5 * WORKING_WIDTH_PX, 0.5


@dataclass(frozen=True)
class LabeledFilaments:
    """A normalized working image with the axes that are labeled on it."""

    name: str
    image: Image
    #: Points (x, y) in working pixels, shape (n, 2) each.
    axes_px: tuple[FloatArray, ...]
    #: The same of axes that the user rejected: they are not filaments.
    rejected_px: tuple[FloatArray, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """What the points of a lattice should say; tensors of shape (h, w) and (2, h, w)."""

    #: Probability of an axis, how much it counts, and whether it is on a label, or on a rejected
    #: axis (1 or 0).
    axis: Tensor
    weight: Tensor
    labeled: Tensor
    rejected: Tensor
    #: Distance from the nearest axis of a label or of the network's own sure traces, with its
    #: double angle and the offset to it.
    distance_px: Tensor
    double_angle: Tensor
    offset_px: Tensor
    #: Probability of contamination that the network gave at the start.
    contaminant: Tensor

    def crop(self, rows: slice, columns: slice) -> Lesson:
        """Return the part at some points of the lattice."""
        return Lesson(*(value[..., rows, columns] for value in vars(self).values()))

    def turn(self, quarters: int, mirror: bool) -> Lesson:
        """Return what a turned and mirrored field should say; see `FilamentTargets.turn`."""
        turned = {
            name: turn_map(value, quarters, mirror)
            for name, value in vars(self).items()
            if name not in ("double_angle", "offset_px")
        }
        return Lesson(
            **turned,
            double_angle=turn_double_angle(self.double_angle, quarters, mirror),
            offset_px=turn_offset(self.offset_px, quarters, mirror),
        )

    @classmethod
    def stack(cls, lessons: Sequence[Lesson]) -> Lesson:
        """Return lessons of the same shape as one, with the fields along a first axis."""
        parts = {name: [getattr(own, name) for own in lessons] for name in vars(lessons[0])}
        return cls(**{name: torch.stack(part) for name, part in parts.items()})

    def as_targets(self) -> FilamentTargets:
        """Return the geometry of stacked lessons."""
        return FilamentTargets(
            self.distance_px, self.double_angle, self.offset_px, self.contaminant
        )


def find_sure_points(probability: FloatArray) -> NDArray[np.bool_]:
    """Return the points of the network's surest traces.

    Parameters
    ----------
    probability
        Of an axis at the points of the lattice, shape (h, w).
    """
    parts, count = label(probability >= LINKED, structure=np.ones((3, 3)))
    sure = np.zeros(probability.shape, bool)
    if not count:
        return sure
    least = LEAST_WIDTHS * WORKING_WIDTH_PX / LATTICE_STEP_PX
    for number, box in enumerate(find_objects(parts), 1):
        own = parts[box] == number
        extent = np.hypot(*(side.stop - side.start for side in box))
        values = probability[box][own]
        # Half of the points of a trace lie beside its ridge.
        if extent >= least and np.quantile(values, 0.75) >= SURE:
            sure[box] |= own & (probability[box] >= 0.5)
    return sure


def prepare_lesson(
    item: LabeledFilaments, outputs: Image, slope: float, shift: float, contaminant: Image
) -> Lesson:
    """Return what to teach about a micrograph.

    Parameters
    ----------
    item
        The micrograph.
    outputs
        Of the network, shape (6, h, w).
    slope, shift
        By which its log-odds of an axis become those of being right.
    contaminant
        Probability of contamination at the start, shape (h, w).
    """
    shape = tuple(count_points(side) for side in item.image.shape)
    assert len(shape) == 2
    distance, angle, offset = measure_targets(
        item.axes_px, LATTICE_FIRST_PX, LATTICE_STEP_PX, (shape[0], shape[1])
    )
    probability = np.asarray(expit(slope * outputs[AXIS].astype(np.float64) + shift))
    away = distance > OWN_PX
    rejected = away & _find_rejected(item.rejected_px, outputs, probability)
    sure = find_sure_points(np.where(away & ~rejected, probability, 0.0))
    doubted = (probability >= DOUBTED) & away & ~sure & ~rejected
    target = np.where(sure, 1.0, probability)
    weight = np.where(doubted, 0.0, 1.0)
    target[rejected], weight[rejected] = 0.0, 1.0
    # Beside labels the network is told that there is nothing, as far as it knows of nothing else.
    beside = (distance > NEAR_PX) & (distance <= BESIDE_PX)
    target[beside & (probability < 0.5)] = 0.0
    weight[beside & ~rejected & ((probability >= 0.5) | doubted)] = 0.0
    between = (distance > POSITIVE_PX) & (distance <= NEAR_PX)
    target[between], weight[between] = 0.0, 0.3
    on = distance <= POSITIVE_PX
    target[on], weight[on] = 1.0, 1.0
    angles, offsets = _fill_from_network(outputs, sure & ~on, angle, offset)
    near = np.where(sure & ~on, 0.0, distance)
    values = (target, weight, on, rejected, near, angles, offsets, contaminant)
    return Lesson(*(torch.from_numpy(np.asarray(value, np.float32)) for value in values))


def _find_rejected(
    axes_px: Sequence[FloatArray], outputs: Image, probability: FloatArray
) -> NDArray[np.bool_]:
    """Return the points on rejected axes, except where another filament crosses them."""
    shape = (probability.shape[0], probability.shape[1])
    if not axes_px:
        return np.zeros(shape, bool)
    distance, angle, _ = measure_targets(axes_px, LATTICE_FIRST_PX, LATTICE_STEP_PX, shape)
    own = outputs[ANGLE]
    cosine = (own * angle).sum(axis=0) / np.maximum(np.hypot(*own), 1e-6)
    crossed = (probability >= DOUBTED) & (cosine < SAME_COSINE)
    return np.asarray((distance <= REJECTED_PX) & ~crossed)


def _fill_from_network(
    outputs: Image, where: NDArray[np.bool_], angle: Image, offset: Image
) -> tuple[Image, Image]:
    """Return angles and offsets of labels, and where they are asked for those of the network."""
    own = outputs[ANGLE]
    length = np.maximum(np.hypot(*own), 1e-6)
    angle = np.where(where, own / length, angle)
    return angle, np.where(where, outputs[OFFSET] * LATTICE_STEP_PX, offset)
