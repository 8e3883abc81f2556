"""Contaminants of training micrographs, drawn for many micrographs at a time.

Like `heliodor.simulation.contaminants`, but periodic: except for carbon edges, nothing ends at an
edge of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from heliodor.simulation.training_world.imaging_conditions import (
    MOST_GOLD,
    MOST_LUMPS,
    MOST_VESICLES,
    ImagingConditions,
)

#: Absorption of the beam by ice, as an exponent per relative thickness.
ABSORBED = 0.15
#: Wavelengths of the undulations of a carbon edge, angstrom.
WAVES = (900.0, 410.0, 170.0, 75.0)


@dataclass(frozen=True)
class SceneryBatch:
    """Images of n fields, shape (n, h, w) each; see `scene.Scenery`."""

    potential: Tensor
    transmission: Tensor
    grain: Tensor
    blocked: Tensor


class RandomSource:
    """Draw random numbers on a device."""

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = torch.device(device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniformly between two numbers."""
        drawn = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution."""
        return torch.randn(*shape, generator=self.generator, device=self.device)


def draw_scenery(
    conditions: ImagingConditions, side_px: int, source: RandomSource
) -> SceneryBatch:
    """Draw ice and contaminants.

    Parameters
    ----------
    conditions
        Conditions of n micrographs.
    side_px
        Side of the square fields.
    source
        Source of randomness.
    """
    n = len(conditions)
    axis = torch.arange(side_px, device=source.device, dtype=torch.float32)
    unit = (axis / side_px - 0.5) * 2.0
    turn = source.uniform(0.0, 2.0 * math.pi, n, 1, 1)
    across = torch.cos(turn) * unit[None, None, :] + torch.sin(turn) * unit[None, :, None]
    far = unit[None, None, :] ** 2 + unit[None, :, None] ** 2 - 0.6
    thickness = 1.0 + _per_image(conditions.slope) * across + _per_image(conditions.bend) * far
    thickness = torch.clamp(_per_image(conditions.thickness) * thickness, min=0.3)
    scenery = SceneryBatch(
        potential=torch.zeros(n, side_px, side_px, device=source.device),
        transmission=torch.exp(ABSORBED * (1.0 - thickness)),
        grain=torch.sqrt(thickness),
        blocked=torch.zeros(n, side_px, side_px, dtype=torch.bool, device=source.device),
    )
    if bool(conditions.carbon.any()):
        _add_carbon(scenery, conditions, axis, source)
    for slot in range(min(MOST_LUMPS, int(conditions.lumps.max()))):
        _add_lump(scenery, conditions, axis, source, conditions.lumps > slot)
    for slot in range(min(MOST_GOLD, int(conditions.gold.max()))):
        _add_gold(scenery, conditions, axis, source, conditions.gold > slot)
    for slot in range(min(MOST_VESICLES, int(conditions.vesicles.max()))):
        _add_vesicle(scenery, conditions, axis, source, conditions.vesicles > slot)
    return scenery


def grow_blocked(blocked: Tensor, reach_px: int) -> Tensor:
    """Return which pixels have a blocked one in the square of 2 `reach_px` + 1 pixels around them.

    Parameters
    ----------
    blocked
        Boolean, shape (n, h, w).
    reach_px
        Half the side of the square, without its middle pixel.

    Returns
    -------
    Tensor
        Boolean, of the same shape.
    """
    width = 2 * reach_px + 1
    # Rows and columns one after the other: much faster than squares on a CPU.
    rows = max_pool2d(blocked[:, None].float(), (width, 1), 1, (reach_px, 0))
    return max_pool2d(rows, (1, width), 1, (0, reach_px))[:, 0] > 0


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None]


def _add_carbon(
    scenery: SceneryBatch, conditions: ImagingConditions, axis: Tensor, source: RandomSource
) -> None:
    """Cover part of some fields, sometimes all of it, with the carbon film around a hole."""
    n, side = len(conditions), len(axis)
    pixel = conditions.pixel_angstrom
    radius = source.uniform(6000.0, 10000.0, n)
    towards = source.uniform(0.0, 2.0 * math.pi, n)
    reach = source.uniform(-0.7, 0.95, n) * 0.5 * side * pixel
    shift = reach - radius
    x, y = (
        (axis[None] - 0.5 * side) * pixel[:, None] - (shift * way)[:, None]
        for way in (torch.cos(towards), torch.sin(towards))
    )
    outside = torch.sqrt(x[:, None, :] ** 2 + y[:, :, None] ** 2) - _per_image(radius)
    along = y[:, :, None] * _per_image(torch.cos(towards)) - x[:, None, :] * _per_image(
        torch.sin(towards)
    )
    for wave in WAVES:
        turn = 2.0 * math.pi / (wave * source.uniform(0.8, 1.25, n))
        height = 0.035 * wave * source.uniform(0.3, 1.0, n)
        phase = source.uniform(0.0, 2.0 * math.pi, n)
        outside += _per_image(height) * torch.sin(along * _per_image(turn) + _per_image(phase))
    film = torch.sigmoid(outside / 4.0) * _per_image(conditions.carbon.float())
    scenery.potential.add_(_per_image(source.uniform(0.15, 0.5, n)) * film)
    scenery.transmission.mul_(1.0 - _per_image(source.uniform(0.02, 0.10, n)) * film)
    # Film whose grain vanishes in the shot noise could not be distinguished from ice.
    more = torch.maximum(
        source.uniform(1.5, 4.0, n), source.uniform(0.5, 1.0, n) / conditions.grain - 1.0
    )
    scenery.grain.mul_(1.0 + _per_image(more) * film)
    scenery.blocked.logical_or_((outside > -20.0) & _per_image(conditions.carbon))


def _periodic_distances(axis: Tensor, center: Tensor, pixel: Tensor) -> Tensor:
    """Return periodic distances from a center along one axis in angstrom, shape (n, side)."""
    side = len(axis)
    away = torch.remainder(axis[None] - center[:, None] + side / 2, side) - side / 2
    return away * pixel[:, None]


def _distances_from_random_centers(
    conditions: ImagingConditions, axis: Tensor, source: RandomSource
) -> list[Tensor]:
    """Return periodic distances along x and y from a random center, angstrom, (n, side) each."""
    n, side = len(conditions), len(axis)
    return [
        _periodic_distances(axis, source.uniform(0.0, side, n), conditions.pixel_angstrom)
        for _ in range(2)
    ]


def _add_lump(
    scenery: SceneryBatch,
    conditions: ImagingConditions,
    axis: Tensor,
    source: RandomSource,
    present: Tensor,
) -> None:
    """Add crystalline ice, ethane or dirt: a dark lump, round or with crystal faces."""
    n, side = len(conditions), len(axis)
    radius = torch.exp(math.log(150.0) + 0.6 * source.normal(n))
    # Not so small that it looks like a particle, and not so large that it covers the field.
    least = 0.5 * conditions.diameter_px * conditions.pixel_angstrom
    radius = torch.minimum(torch.maximum(radius, least), 0.2 * side * conditions.pixel_angstrom)
    x, y = _distances_from_random_centers(conditions, axis, source)
    turn, stretch = source.uniform(0.0, math.pi, n), source.uniform(0.6, 1.0, n)
    cos, sin = _per_image(torch.cos(turn)), _per_image(torch.sin(turn))
    along = x[:, None, :] * cos + y[:, :, None] * sin
    across = (y[:, :, None] * cos - x[:, None, :] * sin) / _per_image(stretch)
    distance = torch.sqrt(along**2 + across**2)
    angle = torch.atan2(across, along)
    shape = torch.ones_like(angle)
    for order in range(2, 6):
        bump, phase = 0.07 * source.normal(n), source.uniform(0.0, 2.0 * math.pi, n)
        shape += _per_image(bump) * torch.cos(order * angle + _per_image(phase))
    # A hexagon: the distance to the nearest of six faces.
    sector = torch.remainder(angle, math.pi / 3.0) - math.pi / 6.0
    faceted = _per_image(source.uniform(0.0, 1.0, n) < 0.4)
    scaled = torch.where(faceted, distance * torch.cos(sector), distance / shape)
    size = _per_image(radius)
    depth = (size - scaled) / (_per_image(source.uniform(0.08, 0.5, n)) * size)
    texture = 1.0 + 0.25 * torch.sin(along / size * 5.0 + _per_image(source.uniform(0.0, 6.3, n)))
    thick = torch.clamp(depth, 0.0, 1.0) * texture * _per_image(present.float())
    _add_material(scenery, thick, source.uniform(0.2, 0.6, n), source.uniform(0.04, 0.45, n))
    scenery.blocked.logical_or_((scaled < size) & _per_image(present))


def _add_gold(
    scenery: SceneryBatch,
    conditions: ImagingConditions,
    axis: Tensor,
    source: RandomSource,
    present: Tensor,
) -> None:
    """Add a gold bead: an almost opaque sphere."""
    n = len(conditions)
    radius = source.uniform(40.0, 80.0, n)
    x, y = _distances_from_random_centers(conditions, axis, source)
    inside = 1.0 - (x[:, None, :] ** 2 + y[:, :, None] ** 2) / _per_image(radius) ** 2
    thick = torch.sqrt(torch.clamp(inside, min=0.0)) * _per_image(present.float())
    _add_material(scenery, thick, source.uniform(0.8, 1.0, n), source.uniform(1.2, 1.8, n))
    scenery.blocked.logical_or_((inside > 0.0) & _per_image(present))


def _add_vesicle(
    scenery: SceneryBatch,
    conditions: ImagingConditions,
    axis: Tensor,
    source: RandomSource,
    present: Tensor,
) -> None:
    """Add a vesicle: a spherical membrane, of which the projection shows the wall."""
    n = len(conditions)
    wall = source.uniform(35.0, 50.0, n)
    # Not so small that it looks like a particle.
    least = 0.8 * conditions.diameter_px * conditions.pixel_angstrom
    radius = torch.maximum(torch.exp(math.log(250.0) + 0.5 * source.normal(n)), least)
    x, y = _distances_from_random_centers(conditions, axis, source)
    away = x[:, None, :] ** 2 + y[:, :, None] ** 2
    # The path through a shell is the difference between the chords of two spheres.
    chords = [
        torch.sqrt(torch.clamp(_per_image(edge) ** 2 - away, min=0.0))
        for edge in (radius, radius - wall)
    ]
    thick = (chords[0] - chords[1]) / torch.sqrt(2.0 * _per_image(radius * wall))
    thick = thick * _per_image(present.float())
    _add_material(scenery, thick, source.uniform(0.15, 0.5, n), source.uniform(0.01, 0.05, n))
    distance = torch.sqrt(away) - _per_image(radius)
    on_wall = (distance < 20.0) & (distance > -_per_image(wall) - 20.0)
    scenery.blocked.logical_or_(on_wall & _per_image(present))


def _add_material(
    scenery: SceneryBatch, thick: Tensor, potential: Tensor, absorbed: Tensor
) -> None:
    scenery.potential.add_(_per_image(potential) * thick)
    scenery.transmission.mul_(torch.exp(-_per_image(absorbed) * thick))
