from __future__ import annotations

import numpy as np
import torch

from heliodor.models.filament_unet import LATTICE_STEP_PX
from heliodor.training.filaments.loss import field_loss
from heliodor.training.filaments.targets import FilamentTargets, measure_targets


def truth_and_perfect_outputs() -> tuple[FilamentTargets, torch.Tensor]:
    axis = np.column_stack([np.arange(0.0, 64.0, 0.5), np.arange(0.0, 64.0, 0.5) * 0.6 + 9.0])
    values = (torch.from_numpy(v)[None] for v in measure_targets([axis], 1.5, 4.0, (16, 16)))
    distance, angle, offset = values
    truth = FilamentTargets(distance, angle, offset, (distance > 30.0).float())
    axis_odds = torch.where(distance <= 2.0, 9.0, -9.0)[:, None]
    bad_odds = torch.where(distance > 30.0, 9.0, -9.0)[:, None]
    return truth, torch.cat([axis_odds, angle, offset / LATTICE_STEP_PX, bad_odds], dim=1)


def test_the_truth_costs_almost_nothing_and_every_mistake_costs() -> None:
    truth, perfect = truth_and_perfect_outputs()
    best, _ = field_loss(perfect, truth)
    assert float(best) < 0.02
    for channel in range(6):
        wrong = perfect.clone()
        wrong[:, channel] = -wrong[:, channel] + 0.3
        assert float(field_loss(wrong, truth)[0]) > float(best) + 0.01


def test_fields_without_filaments_have_a_loss_too() -> None:
    truth, perfect = truth_and_perfect_outputs()
    empty = FilamentTargets(
        torch.full_like(truth.distance_px, torch.inf),
        torch.zeros_like(truth.double_angle),
        torch.zeros_like(truth.offset_px),
        torch.zeros_like(truth.blocked),
    )
    loss, parts = field_loss(perfect, empty)
    assert torch.isfinite(loss)
    assert float(parts["angle"]) == 0.0
    assert float(parts["axis"]) > 0.1
