"""The truth about filaments at the points of a network's lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from heliodor.conventions import FloatArray, Image
from heliodor.data.filaments.geometry import measure_directions


@dataclass(frozen=True)
class FilamentTargets:
    """The truth at the points of a lattice on n fields, shape (n, ..., h, w)."""

    #: Distance from the nearest axis in pixels; infinite where there is none.
    distance_px: Tensor
    #: Cosine and sine of twice the angle of the nearest axis, shape (n, 2, h, w).
    double_angle: Tensor
    #: From the point to the nearest axis (x, y), shape (n, 2, h, w).
    offset_px: Tensor
    #: 1 on contaminants.
    blocked: Tensor

    def select(self, part: slice) -> FilamentTargets:
        """Return the truth of some of the fields."""
        return FilamentTargets(*(getattr(self, field.name)[part] for field in fields(self)))

    def turn(self, quarters: int, mirror: bool) -> FilamentTargets:
        """Return the truth of fields turned by `torch.rot90` and then mirrored left to right.

        Only for lattices that cover their field symmetrically.
        """
        return FilamentTargets(
            turn_map(self.distance_px, quarters, mirror),
            turn_double_angle(self.double_angle, quarters, mirror),
            turn_offset(self.offset_px, quarters, mirror),
            turn_map(self.blocked, quarters, mirror),
        )


def turn_map(values: Tensor, quarters: int, mirror: bool) -> Tensor:
    """Turn images by `torch.rot90` and then mirror them left to right, shape (..., h, w)."""
    values = torch.rot90(values, quarters, (-2, -1))
    return values.flip(-1) if mirror else values


def turn_double_angle(values: Tensor, quarters: int, mirror: bool) -> Tensor:
    """Do as `turn_map` with cosines and sines of twice an angle, shape (..., 2, h, w)."""
    values = turn_map(values, quarters, mirror)
    # A quarter turn adds 180 degrees to twice the angle; the mirror changes its sign.
    sign = -1.0 if quarters % 2 else 1.0
    factors = torch.tensor([sign, -sign if mirror else sign])
    return values * factors[:, None, None]


def turn_offset(values: Tensor, quarters: int, mirror: bool) -> Tensor:
    """Do as `turn_map` with vectors (x, y), shape (..., 2, h, w)."""
    values = turn_map(values, quarters, mirror)
    for _ in range(quarters % 4):
        # A quarter turn is counter-clockwise on the screen: (x, y) becomes (y, -x).
        values = torch.stack([values[..., 1, :, :], -values[..., 0, :, :]], dim=-3)
    if mirror:
        values = values * torch.tensor([-1.0, 1.0])[:, None, None]
    return values


def measure_targets(
    axes: Sequence[FloatArray], first_px: float, step_px: float, shape: tuple[int, int]
) -> tuple[Image, Image, Image]:
    """Return distance, double angle and offset of the nearest axis at the points of a lattice.

    Parameters
    ----------
    axes
        Points (x, y) every half pixel or so, shape (n, 2) each.
    first_px, step_px, shape
        Position of the first point along both sides, distance, and numbers (down, across).

    Returns
    -------
    ndarray
        Shapes (h, w), (2, h, w) and (2, h, w); without axes infinite, 0 and 0.
    """
    if not axes:
        zeros = np.zeros((2, *shape), np.float32)
        return np.full(shape, np.inf, np.float32), zeros, zeros.copy()
    points = np.concatenate(axes)
    ways = np.concatenate([measure_directions(axis) for axis in axes])
    rows, columns = np.indices(shape)
    lattice = first_px + step_px * np.stack([columns, rows], axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(points).query(lattice)
    x, y = ways[nearest].T
    angle = np.stack([x * x - y * y, 2.0 * x * y]).reshape(2, *shape)
    offset = (points[nearest] - lattice).T.reshape(2, *shape)
    return (
        distance.reshape(shape).astype(np.float32),
        angle.astype(np.float32),
        offset.astype(np.float32),
    )
