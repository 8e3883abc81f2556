"""Evidence for filaments by position and direction, in which filaments that cross are apart.

Coordinates are (x, y) in steps of the lattice of `FilamentMaps`: its point [0, 0] is (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.special import expit

from heliodor.conventions import FloatArray, Image
from heliodor.models.filament_maps import FilamentMaps

#: Directions from 0 to 180 degrees.
DIRECTIONS = 36
#: Distance along a direction over which evidence is averaged (standard deviation, widths of the
#: filament), and distance across it (steps of the lattice).
ALONG_WIDTHS, ACROSS_STEPS = 0.7, 0.5
#: How far the angle at a point may be from a direction that it supports (standard deviation).
ANGLE_DEG = 12.0
#: How much a point supports each direction where its angle is not known.
UNKNOWN_ANGLE = 0.6


@dataclass(frozen=True)
class LatticePoints:
    """The points of a lattice where an axis may pass."""

    #: Probability that an axis passes within half a step of each point, shape (h, w).
    probability: FloatArray
    #: Cosine and sine of twice the angle, of length 1 or less, shape (2, h, w).
    double_angle: FloatArray
    #: Where the axis is (x, y), shape (2, h, w).
    nearest: FloatArray

    @classmethod
    def from_maps(cls, maps: FilamentMaps, blocked: NDArray[np.bool_] | None) -> LatticePoints:
        """Return the points of maps.

        Parameters
        ----------
        blocked
            Points without filaments, shape (h, w).
        """
        probability = expit(np.asarray(maps.axis, dtype=np.float64))
        if blocked is not None:
            probability = np.where(blocked, 0.0, probability)
        double = np.asarray(maps.double_angle, dtype=np.float64)
        double = double / np.maximum(1.0, np.hypot(*double))
        height, width = probability.shape
        rows, columns = np.mgrid[:height, :width].astype(np.float64)
        # An axis that passes near a point is not farther from it than the points beside it are.
        offset = np.clip(np.asarray(maps.offset_px, np.float64) / maps.spacing_px, -1.5, 1.5)
        return cls(probability, double, np.stack([columns, rows]) + offset)


@dataclass(frozen=True)
class DirectionalEvidence:
    """Probability that a filament passes through a point in a direction."""

    #: Shape (directions, h, w); the directions are at equal distances from 0 to 180 degrees.
    volume: Image

    @classmethod
    def gather(cls, points: LatticePoints, width_steps: float) -> DirectionalEvidence:
        """Average the probabilities of points along each direction.

        Parameters
        ----------
        width_steps
            Width of the filament in steps of the lattice.
        """
        height, width = points.probability.shape
        along, across = ALONG_WIDTHS * width_steps, ACROSS_STEPS
        reach = math.ceil(2.5 * along)
        padded = tuple(next_fast_len(side + 2 * reach, real=True) for side in (height, width))
        inside = rfft2(np.ones((height, width), np.float32), padded)
        probability = points.probability.astype(np.float32)
        confidence = np.hypot(*points.double_angle).astype(np.float32)
        cos, sin = points.double_angle.astype(np.float32)
        own_deg = np.degrees(0.5 * np.arctan2(sin, cos))
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
        volume = np.empty((DIRECTIONS, height, width), np.float32)
        for number in range(DIRECTIONS):
            angle = number * math.pi / DIRECTIONS
            difference = np.abs(own_deg - np.float32(math.degrees(angle)))
            difference = np.minimum(difference, 180.0 - difference)
            agreement = np.exp(-0.5 * (difference / ANGLE_DEG) ** 2)
            weight = confidence * agreement + (1.0 - confidence) * UNKNOWN_ANGLE
            u = columns * math.cos(angle) + rows * math.sin(angle)
            v = rows * math.cos(angle) - columns * math.sin(angle)
            kernel = np.exp(-0.5 * (u / along) ** 2 - 0.5 * (v / across) ** 2)
            # One point per step lies within half a step of a straight axis.
            profile = float(np.exp(-0.5 * (np.arange(-reach, reach + 1) / along) ** 2).sum())
            transform = rfft2(kernel.astype(np.float32), padded)
            sums = _crop(irfft2(rfft2(probability * weight, padded) * transform, padded),
                         reach, height, width)  # fmt: skip
            # Beyond the edges of the lattice there are no points to count.
            share = _crop(irfft2(inside * transform, padded), reach, height, width) / kernel.sum()
            volume[number] = sums / (profile * np.clip(share, 0.3, 1.0))
        return cls(volume)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the lattice."""
        return self.volume.shape[1], self.volume.shape[2]

    def contains(self, x: float, y: float) -> bool:
        """Return whether a position lies on the lattice."""
        height, width = self.shape
        return 0.0 <= x <= width - 1 and 0.0 <= y <= height - 1

    def at(self, x: FloatArray, y: FloatArray, angle: FloatArray) -> FloatArray:
        """Return the evidence at positions and directions (radians), interpolated linearly.

        Positions beyond the lattice have no evidence.
        """
        height, width = self.shape
        turn = (angle % math.pi) * (DIRECTIONS / math.pi)
        low = np.floor(turn).astype(np.intp)
        part = turn - low
        columns = np.clip(np.floor(x).astype(np.intp), 0, max(0, width - 2))
        rows = np.clip(np.floor(y).astype(np.intp), 0, max(0, height - 2))
        fx, fy = x - columns, y - rows
        right, below = np.minimum(columns + 1, width - 1), np.minimum(rows + 1, height - 1)
        upper, lower = rows * width, below * width
        corners = (
            (upper + columns, (1.0 - fy) * (1.0 - fx)),
            (upper + right, (1.0 - fy) * fx),
            (lower + columns, fy * (1.0 - fx)),
            (lower + right, fy * fx),
        )
        flat = self.volume.reshape(-1)
        total: Any = 0.0
        for turned, share in ((low % DIRECTIONS, 1.0 - part), ((low + 1) % DIRECTIONS, part)):
            start = turned * (height * width)
            total = total + share * sum(flat[start + place] * own for place, own in corners)
        is_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        return np.where(is_inside, total, 0.0)

    def find_seeds(self, least: float) -> NDArray[np.intp]:
        """Return where the evidence is largest among neighboring directions, largest first.

        Returns
        -------
        ndarray of int
            Direction, row and column, shape (n, 3).
        """
        own = self.volume
        peak = (own >= least) & (own >= np.roll(own, 1, axis=0)) & (own > np.roll(own, -1, axis=0))
        places = np.argwhere(peak)
        return places[np.argsort(-own[tuple(places.T)], kind="stable")]


def _crop(padded: FloatArray, reach: int, height: int, width: int) -> FloatArray:
    return np.asarray(padded[reach : reach + height, reach : reach + width])
