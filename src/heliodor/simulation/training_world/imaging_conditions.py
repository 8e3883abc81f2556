"""Random imaging conditions of training micrographs (domain randomization)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heliodor.conventions import FloatArray

#: Nominal particle diameter in pixels.
NOMINAL_PX = 35.0

#: Maximum number of contaminants per micrograph, by kind.
MOST_LUMPS = 8
MOST_GOLD = 3
MOST_CLUMPS = 3
MOST_VESICLES = 3


@dataclass(frozen=True)
class ImagingConditions:
    """One value per micrograph in each tensor, shape (n,), all on one device."""

    #: Index of the particle.
    which: Tensor
    #: True diameter of the particle; it differs from the nominal one, as users' estimates do.
    diameter_px: Tensor
    pixel_angstrom: Tensor
    #: Number of particles to place.
    wanted: Tensor
    #: Minimum distance between particles, in diameters.
    spacing: Tensor
    #: Whether particles form a monolayer or a two-dimensional crystal; then the distance between
    #: neighbors in diameters, the scatter about the lattice in such distances, the share of empty
    #: sites, the radius of the patch in sides of the field, and whether the lattice is square.
    layer: Tensor
    pitch: Tensor
    scatter: Tensor
    vacant: Tensor
    patch: Tensor
    square: Tensor
    #: Sum of squares of an average particle over the noise variance of a pixel.
    energy: Tensor
    preferred: Tensor
    voltage_kv: Tensor
    spherical_mm: Tensor
    amplitude: Tensor
    defocus_angstrom: Tensor
    astigmatism_angstrom: Tensor
    astigmatism_turn: Tensor
    b_factor: Tensor
    #: Ice: slope and curvature of its thickness, and its noise in units of the shot noise.
    slope: Tensor
    bend: Tensor
    thickness: Tensor
    grain: Tensor
    slow: Tensor
    slow_angstrom: Tensor
    #: Contaminants: whether there is carbon, and numbers of the others.
    carbon: Tensor
    lumps: Tensor
    gold: Tensor
    clumps: Tensor
    vesicles: Tensor
    fragments: Tensor
    #: Particles of another type: their number, and their diameter in particle diameters.
    others: Tensor
    other_size: Tensor
    #: Image processing: low-pass filter in pixels (0: none), blur of the detector in pixels, gray
    #: levels per standard deviation (0: not rounded), and width of a dead border (0: none).
    low_pass_px: Tensor
    blur_px: Tensor
    levels: Tensor
    border_px: Tensor
    #: Error of the normalization.
    gain: Tensor
    offset: Tensor

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        diameters_angstrom: np.ndarray[tuple[int], np.dtype[np.float64]],
        count: int,
        side_px: int,
        device: torch.device | str,
    ) -> ImagingConditions:
        """Draw the conditions of `count` micrographs of `side_px` pixels.

        Parameters
        ----------
        rng
            Source of randomness.
        diameters_angstrom
            Diameters of the available particles.
        count, side_px
            Number and side of the micrographs.
        device
            Device of the tensors.
        """
        # The order of the draws is part of the definition of the training images.
        n = count
        which = rng.integers(len(diameters_angstrom), size=n)
        size = NOMINAL_PX * np.exp(rng.normal(0.0, 0.12, n))
        pixel = diameters_angstrom[which] / size
        # From a few particles per micrograph to closely packed ones; some micrographs have none.
        most = side_px**2 / (0.87 * size**2)
        wanted = most * np.exp(rng.uniform(math.log(0.03), math.log(0.9), n))
        # Many real micrographs are crowded, more than such a wide range of numbers suggests.
        crowded = rng.random(n) < 0.3
        wanted = np.where(crowded, most * rng.uniform(0.35, 1.0, n), wanted)
        layer = rng.random(n) < 0.15
        empty = (rng.random(n) < 0.14) & ~layer
        wanted[empty] = 0.0
        dirty = rng.random(n)
        level = np.where(dirty < 0.3, 0.0, np.where(dirty < 0.75, 1.0, 3.0))
        defocus = 1e4 * np.exp(rng.uniform(math.log(0.3), math.log(3.5), n))
        old = rng.random(n) < 0.25
        filtered = rng.random(n) < 0.3
        values = {
            "which": which,
            "diameter_px": size,
            "pixel_angstrom": pixel,
            "wanted": np.minimum(np.ceil(wanted), 260),
            "spacing": np.where(crowded, rng.uniform(0.6, 1.0, n), rng.uniform(0.55, 1.15, n)),
            "layer": layer,
            "pitch": rng.uniform(0.85, 1.3, n),
            "scatter": np.exp(rng.uniform(math.log(0.02), math.log(0.25), n)),
            "vacant": rng.uniform(0.0, 0.5, n) ** 1.5,
            "patch": np.where(rng.random(n) < 0.5, 2.0, rng.uniform(0.2, 0.6, n)),
            "square": rng.random(n) < 0.3,
            "energy": np.exp(rng.uniform(math.log(18.0), math.log(3000.0), n)),
            "preferred": rng.random(n) < 0.4,
        }
        values |= _draw_optics(rng, defocus)
        values |= _draw_ice(rng, n)
        # Contaminants come by area, but count for more where the field of view is small.
        area = (side_px * pixel / 2000.0) ** 2
        values |= _draw_contaminants(rng, level, level * np.clip(area, 0.4, 2.0), most)
        values |= _draw_processing(rng, filtered, old)
        return cls.from_arrays(values, device)

    @classmethod
    def from_arrays(
        cls, values: Mapping[str, NDArray[Any]], device: torch.device | str
    ) -> ImagingConditions:
        """Return conditions from one array per field, shape (n,), by name."""
        tensors = {}
        for field in fields(cls):
            tensor = torch.from_numpy(np.asarray(values[field.name]))
            dtype = torch.int64 if field.name in _COUNTS else torch.float32
            dtype = torch.bool if field.name in _FLAGS else dtype
            tensors[field.name] = tensor.to(device, dtype)
        return cls(**tensors)

    def __len__(self) -> int:
        return len(self.which)


_COUNTS = {"which", "wanted", "lumps", "gold", "clumps", "vesicles", "fragments", "others"}
_FLAGS = {"preferred", "carbon", "layer", "square"}


def draw_shared_conditions(
    rng: np.random.Generator, pixel_angstrom: FloatArray, side_px: int
) -> dict[str, NDArray[Any]]:
    """Draw what does not depend on what is on a micrograph: optics, ice, contaminants, camera.

    Parameters
    ----------
    rng
        Source of randomness.
    pixel_angstrom
        Pixel sizes of n micrographs, shape (n,).
    side_px
        Side of the micrographs in pixels.
    """
    n = len(pixel_angstrom)
    dirty = rng.random(n)
    level = np.where(dirty < 0.3, 0.0, np.where(dirty < 0.75, 1.0, 3.0))
    defocus = 1e4 * np.exp(rng.uniform(math.log(0.3), math.log(3.5), n))
    area = (side_px * pixel_angstrom / 2000.0) ** 2
    values = _draw_optics(rng, defocus) | _draw_ice(rng, n)
    values |= _draw_contaminants(rng, level, level * np.clip(area, 0.4, 2.0), np.zeros(n))
    return values | _draw_processing(rng, rng.random(n) < 0.3, rng.random(n) < 0.25)


def _draw_optics(rng: np.random.Generator, defocus: FloatArray) -> dict[str, NDArray[Any]]:
    n = len(defocus)
    return {
        "voltage_kv": np.where(rng.random(n) < 0.3, 200.0, 300.0),
        "spherical_mm": np.where(rng.random(n) < 0.2, 0.01, 2.7),
        "amplitude": rng.uniform(0.05, 0.16, n),
        "defocus_angstrom": defocus,
        "astigmatism_angstrom": np.minimum(rng.exponential(300.0, n), 0.2 * defocus),
        "astigmatism_turn": rng.uniform(0.0, math.pi, n),
        "b_factor": rng.uniform(40.0, 400.0, n),
    }


def _draw_ice(rng: np.random.Generator, n: int) -> dict[str, NDArray[Any]]:
    return {
        "slope": rng.uniform(0.0, 0.35, n),
        "bend": rng.uniform(-0.2, 0.25, n),
        "thickness": rng.uniform(0.6, 1.8, n),
        "grain": rng.uniform(0.1, 0.8, n) * np.where(rng.random(n) < 0.15, 1.8, 1.0),
        "slow": rng.uniform(3.0, 16.0, n),
        "slow_angstrom": np.exp(rng.normal(math.log(150.0), 0.4, n)),
    }


def _draw_contaminants(
    rng: np.random.Generator, level: FloatArray, level_by_area: FloatArray, most: FloatArray
) -> dict[str, NDArray[Any]]:
    """Draw contaminants; `most` is the number of particles in a close packing."""
    n = len(level)
    return {
        "carbon": rng.random(n) < 0.16 * np.minimum(level, 2.0),
        "lumps": np.minimum(rng.poisson(1.4 * level_by_area), MOST_LUMPS),
        "gold": np.minimum(rng.poisson(0.3 * level_by_area), MOST_GOLD),
        "clumps": np.minimum(rng.poisson(0.5 * level_by_area), MOST_CLUMPS),
        "vesicles": np.minimum(rng.poisson(0.12 * level_by_area), MOST_VESICLES),
        "fragments": rng.poisson(np.minimum(0.06 * most * level, 20.0)),
        "others": np.where(rng.random(n) < 0.2, rng.poisson(0.05 * most), 0),
        "other_size": rng.uniform(0.25, 0.5, n),
    }


def _draw_processing(
    rng: np.random.Generator, filtered: NDArray[np.bool_], old: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Draw the processing; `filtered` ones are low-pass filtered, `old` detectors blur."""
    n = len(filtered)
    return {
        "low_pass_px": np.where(filtered, rng.uniform(2.2, 8.0, n), 0.0),
        "blur_px": np.where(old, rng.uniform(0.3, 0.9, n), 0.0),
        "levels": np.where(rng.random(n) < 0.25, rng.uniform(4.0, 30.0, n), 0.0),
        "border_px": np.where(rng.random(n) < 0.08, rng.uniform(2.0, 25.0, n), 0.0),
        "gain": np.exp(rng.normal(0.0, 0.09, n)),
        "offset": rng.normal(0.0, 0.1, n),
    }
