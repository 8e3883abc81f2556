"""What a network of filaments should say, as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, smooth_l1_loss

from heliodor.models.filament_unet import (
    ANGLE,
    AXIS,
    CONTAMINANT,
    LATTICE_STEP_PX,
    OFFSET,
)
from heliodor.training.filaments.targets import FilamentTargets

#: Points whose nearest axis is within this distance in pixels are positive; up to the other
#: distance they are nearly, and count less.
POSITIVE_PX, NEAR_PX = 0.5 * LATTICE_STEP_PX, 3.5
NEAR_WEIGHT, POSITIVE_WEIGHT = 0.4, 2.0
#: Angles and offsets count within these distances in pixels of an axis.
ANGLE_PX, OFFSET_PX = 5.0, 6.0
#: Weights of the parts of the loss.
ANGLE_PART, OFFSET_PART, CONTAMINANT_PART = 0.15, 0.15, 0.05


def field_loss(outputs: Tensor, truth: FilamentTargets) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of fields whose truth is known everywhere, and its parts.

    Parameters
    ----------
    outputs
        Of the network, shape (n, 6, h, w).
    truth
        At the same points.
    """
    distance = truth.distance_px
    positive = (distance <= POSITIVE_PX).float()
    weight = 1.0 + (POSITIVE_WEIGHT - 1.0) * positive
    weight = torch.where((distance > POSITIVE_PX) & (distance < NEAR_PX), NEAR_WEIGHT, weight)
    parts = {"axis": axis_loss(outputs, positive, weight)}
    parts |= geometry_losses(outputs, truth, torch.ones_like(distance))
    blocked = truth.blocked[:, None]
    grown, shrunk = max_pool2d(blocked, 3, 1, 1), 1 - max_pool2d(1 - blocked, 3, 1, 1)
    sure = (grown == shrunk).float()[:, 0]
    bad = binary_cross_entropy_with_logits(
        outputs[:, CONTAMINANT], truth.blocked, sure, reduction="sum"
    )
    parts["contaminant"] = bad / sure.sum().clamp(min=1.0)
    total = parts["axis"] + CONTAMINANT_PART * parts["contaminant"]
    total = total + ANGLE_PART * parts["angle"] + OFFSET_PART * parts["offset"]
    return total, {name: part.detach() for name, part in parts.items()}


def axis_loss(outputs: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean cross entropy of the axis."""
    total = binary_cross_entropy_with_logits(outputs[:, AXIS], positive, weight, reduction="sum")
    return total / weight.sum().clamp(min=1.0)


def geometry_losses(outputs: Tensor, truth: FilamentTargets, weight: Tensor) -> dict[str, Tensor]:
    """Return the losses of angle and offset near axes.

    The mean of uncertain double angles is shorter than 1, which makes its length a confidence.
    """
    near = (truth.distance_px <= ANGLE_PX).float() * weight
    angle = (outputs[:, ANGLE] - truth.double_angle).square().sum(dim=1)
    close = (truth.distance_px <= OFFSET_PX).float() * weight
    offset = smooth_l1_loss(
        outputs[:, OFFSET], truth.offset_px / LATTICE_STEP_PX, reduction="none", beta=0.3
    ).sum(dim=1)
    return {
        "angle": (angle * near).sum() / near.sum().clamp(min=1.0),
        "offset": (offset * close).sum() / close.sum().clamp(min=1.0),
    }
