"""The Fourier shell correlation of two maps, and what it says about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mrcfile
import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput

#: The correlation of independent halves at which the resolution is read.
CRITERION: Final = 0.143
#: Width of the mask's soft edge, in voxels.
_EDGE_PX: Final = 4.0


@dataclass(frozen=True)
class ShellCorrelation:
    """The correlation of two maps in each shell.

    Attributes
    ----------
    frequency
        Of each shell, 1/angstrom, from 0 to the Nyquist frequency, shape (n,).
    correlation
        Of each shell, shape (n,).
    """

    frequency: FloatArray
    correlation: FloatArray

    @property
    def resolution_angstrom(self) -> float:
        """Where the correlation first falls to `CRITERION`; that of the last shell if nowhere."""
        below = np.flatnonzero(self.correlation[1:] < CRITERION)
        if not len(below):
            return float(1 / self.frequency[-1])
        shell = int(below[0]) + 1
        high, low = self.correlation[shell - 1], self.correlation[shell]
        part = (high - CRITERION) / (high - low)
        step = self.frequency[shell] - self.frequency[shell - 1]
        return float(1 / max(self.frequency[shell - 1] + part * step, self.frequency[1] / 2))

    @property
    def reaches_nyquist(self) -> bool:
        """Whether the correlation stays above `CRITERION` in all shells."""
        return bool((self.correlation[1:] >= CRITERION).all())

    @property
    def area(self) -> float:
        """The area under the curve, 1/angstrom: it uses all shells, the resolution only one."""
        return float(np.diff(self.frequency) @ (self.correlation[1:] + self.correlation[:-1]) / 2)


def correlate_shells(
    one: NDArray[np.floating], other: NDArray[np.floating], voxel_angstrom: float
) -> ShellCorrelation:
    """Return the correlation of two maps of the same cubic shape in shells one pixel wide."""
    side = one.shape[0]
    first, second = np.fft.rfftn(one), np.fft.rfftn(other)
    full, half = np.fft.fftfreq(side) * side, np.arange(side // 2 + 1)
    radius = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2)
    shell = np.round(radius).astype(np.intp).ravel()
    count = side // 2 + 1
    # The other half of the transform holds the complex conjugates of these.
    twice = np.where((half == 0) | (2 * half == side), 1.0, 2.0)
    weight = np.broadcast_to(twice, radius.shape).ravel()
    sums = [
        np.bincount(shell, weights=weight * values.ravel(), minlength=count)[:count]
        for values in (
            (first * second.conj()).real,
            np.abs(first) ** 2,
            np.abs(second) ** 2,
        )
    ]
    power = np.sqrt(sums[1] * sums[2])
    correlation = np.zeros(count)
    np.divide(sums[0], power, out=correlation, where=power > 0)
    return ShellCorrelation(np.arange(count) / (side * voxel_angstrom), correlation)


def mask_sphere(side: int, diameter_px: float) -> FloatArray:
    """Return a sphere with a soft edge outside of it, shape (side, side, side)."""
    steps = np.arange(side) - side // 2
    radius = np.sqrt(steps[:, None, None] ** 2 + steps[None, :, None] ** 2 + steps**2)
    beyond = np.clip((radius - diameter_px / 2) / _EDGE_PX, 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * beyond))


def compare_halves(one: Path, other: Path, diameter_angstrom: float) -> ShellCorrelation:
    """Return the correlation of the maps in two files, within a sphere around the particle.

    Raises
    ------
    BadInput
        If they are not maps of the same shape.
    """
    maps, voxel = [], 0.0
    for path in (one, other):
        try:
            with mrcfile.open(path, permissive=True) as mrc:
                maps.append(np.array(mrc.data, dtype=np.float64))
                voxel = float(mrc.voxel_size.x)
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read as a map ({error})") from error
    first, second = maps
    if first.ndim != 3 or first.shape != second.shape or len({*first.shape}) != 1 or voxel <= 0:
        raise BadInput(f"{one} and {other} are not maps of the same cubic shape")
    side = first.shape[0]
    mask = mask_sphere(side, min(diameter_angstrom / voxel, side - 2 * _EDGE_PX))
    return correlate_shells(first * mask, second * mask, voxel)
