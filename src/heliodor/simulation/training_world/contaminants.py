"""What lies on micrographs of the training world besides particles, many micrographs at a time.

As `contaminants` draws them one by one; all on a torus, so that no edge is felt but carbon's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from heliodor.simulation.training_world.imaging_conditions import (
    MOST_GOLD,
    MOST_LUMPS,
    Circumstances,
)

#: Ice that lies between no particle and the beam: what it takes from the beam, by thickness.
ABSORBED = 0.15
#: Waves along a carbon film's edge, angstrom.
WAVES = (900.0, 410.0, 170.0, 75.0)


@dataclass(frozen=True)
class Backdrop:
    """Images of n fields, shape (n, h, w); see `scene.Scenery`."""

    potential: Tensor
    transmission: Tensor
    grain: Tensor
    blocked: Tensor


class Dice:
    """Draws on a device."""

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = torch.device(device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw evenly between two numbers."""
        drawn = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        """Draw from the normal distribution."""
        return torch.randn(*shape, generator=self.generator, device=self.device)


def backdrop(given: Circumstances, side_px: int, dice: Dice) -> Backdrop:
    """Draw ice and contaminants.

    Parameters
    ----------
    given
        Of n micrographs.
    side_px
        Side of the square fields.
    """
    n = len(given)
    axis = torch.arange(side_px, device=dice.device, dtype=torch.float32)
    unit = (axis / side_px - 0.5) * 2.0
    turn = dice.uniform(0.0, 2.0 * math.pi, n, 1, 1)
    across = torch.cos(turn) * unit[None, None, :] + torch.sin(turn) * unit[None, :, None]
    far = unit[None, None, :] ** 2 + unit[None, :, None] ** 2 - 0.6
    thickness = 1.0 + _each(given.slope) * across + _each(given.bend) * far
    thickness = torch.clamp(_each(given.thickness) * thickness, min=0.3)
    made = Backdrop(
        potential=torch.zeros(n, side_px, side_px, device=dice.device),
        transmission=torch.exp(ABSORBED * (1.0 - thickness)),
        grain=torch.sqrt(thickness),
        blocked=torch.zeros(n, side_px, side_px, dtype=torch.bool, device=dice.device),
    )
    if bool(given.carbon.any()):
        _add_carbon(made, given, axis, dice)
    for slot in range(min(MOST_LUMPS, int(given.lumps.max()))):
        _add_lump(made, given, axis, dice, given.lumps > slot)
    for slot in range(min(MOST_GOLD, int(given.gold.max()))):
        _add_gold(made, given, axis, dice, given.gold > slot)
    return made


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]


def _add_carbon(made: Backdrop, given: Circumstances, axis: Tensor, dice: Dice) -> None:
    """Cover a part with the film outside a hole; seldom all."""
    n, side = len(given), len(axis)
    pixel = given.pixel_angstrom
    radius = dice.uniform(6000.0, 10000.0, n)
    towards = dice.uniform(0.0, 2.0 * math.pi, n)
    reach = dice.uniform(-0.7, 0.95, n) * 0.5 * side * pixel
    shift = reach - radius
    x, y = (
        (axis[None] - 0.5 * side) * pixel[:, None] - (shift * way)[:, None]
        for way in (torch.cos(towards), torch.sin(towards))
    )
    outside = torch.sqrt(x[:, None, :] ** 2 + y[:, :, None] ** 2) - _each(radius)
    along = y[:, :, None] * _each(torch.cos(towards)) - x[:, None, :] * _each(torch.sin(towards))
    for wave in WAVES:
        turn = 2.0 * math.pi / (wave * dice.uniform(0.8, 1.25, n))
        height = 0.035 * wave * dice.uniform(0.3, 1.0, n)
        phase = dice.uniform(0.0, 2.0 * math.pi, n)
        outside += _each(height) * torch.sin(along * _each(turn) + _each(phase))
    film = torch.sigmoid(outside / 4.0) * _each(given.carbon.float())
    made.potential.add_(_each(dice.uniform(0.15, 0.5, n)) * film)
    made.transmission.mul_(1.0 - _each(dice.uniform(0.02, 0.10, n)) * film)
    # A film whose grain is lost in the shot noise could not be told from ice.
    more = torch.maximum(dice.uniform(1.5, 4.0, n), dice.uniform(0.5, 1.0, n) / given.grain - 1.0)
    made.grain.mul_(1.0 + _each(more) * film)
    made.blocked.logical_or_((outside > -20.0) & _each(given.carbon))


def _wrapped(axis: Tensor, centre: Tensor, pixel: Tensor) -> Tensor:
    """Return distances along one axis in angstrom, the shorter way round, shape (n, side)."""
    side = len(axis)
    away = torch.remainder(axis[None] - centre[:, None] + side / 2, side) - side / 2
    return away * pixel[:, None]


def _add_lump(
    made: Backdrop, given: Circumstances, axis: Tensor, dice: Dice, there: Tensor
) -> None:
    """Add crystalline ice, ethane or dirt: a dark lump, round or with a crystal's faces."""
    n, side = len(given), len(axis)
    radius = torch.exp(math.log(150.0) + 0.6 * dice.normal(n))
    # None so small that it could be told from a particle by nothing, none that covers all.
    own = 0.5 * given.diameter_px * given.pixel_angstrom
    radius = torch.minimum(torch.maximum(radius, own), 0.2 * side * given.pixel_angstrom)
    x, y = (_wrapped(axis, dice.uniform(0.0, side, n), given.pixel_angstrom) for _ in range(2))
    turn, stretch = dice.uniform(0.0, math.pi, n), dice.uniform(0.6, 1.0, n)
    cos, sin = _each(torch.cos(turn)), _each(torch.sin(turn))
    along = x[:, None, :] * cos + y[:, :, None] * sin
    across = (y[:, :, None] * cos - x[:, None, :] * sin) / _each(stretch)
    distance = torch.sqrt(along**2 + across**2)
    angle = torch.atan2(across, along)
    shape = torch.ones_like(angle)
    for order in range(2, 6):
        bump, phase = 0.07 * dice.normal(n), dice.uniform(0.0, 2.0 * math.pi, n)
        shape += _each(bump) * torch.cos(order * angle + _each(phase))
    # A hexagon: the distance to the nearest of six faces.
    sector = torch.remainder(angle, math.pi / 3.0) - math.pi / 6.0
    faceted = _each(dice.uniform(0.0, 1.0, n) < 0.4)
    scaled = torch.where(faceted, distance * torch.cos(sector), distance / shape)
    size = _each(radius)
    depth = (size - scaled) / (_each(dice.uniform(0.08, 0.5, n)) * size)
    texture = 1.0 + 0.25 * torch.sin(along / size * 5.0 + _each(dice.uniform(0.0, 6.3, n)))
    thick = torch.clamp(depth, 0.0, 1.0) * texture * _each(there.float())
    _cover(made, thick, dice.uniform(0.2, 0.6, n), dice.uniform(0.04, 0.45, n))
    made.blocked.logical_or_((scaled < size) & _each(there))


def _add_gold(
    made: Backdrop, given: Circumstances, axis: Tensor, dice: Dice, there: Tensor
) -> None:
    """Add a gold bead: an almost opaque sphere."""
    n, side = len(given), len(axis)
    radius = dice.uniform(40.0, 80.0, n)
    x, y = (_wrapped(axis, dice.uniform(0.0, side, n), given.pixel_angstrom) for _ in range(2))
    inside = 1.0 - (x[:, None, :] ** 2 + y[:, :, None] ** 2) / _each(radius) ** 2
    thick = torch.sqrt(torch.clamp(inside, min=0.0)) * _each(there.float())
    _cover(made, thick, dice.uniform(0.8, 1.0, n), dice.uniform(1.2, 1.8, n))
    made.blocked.logical_or_((inside > 0.0) & _each(there))


def _cover(made: Backdrop, thick: Tensor, potential: Tensor, absorbed: Tensor) -> None:
    made.potential.add_(_each(potential) * thick)
    made.transmission.mul_(torch.exp(-_each(absorbed) * thick))
