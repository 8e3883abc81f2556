"""What micrographs of the training world are like: the draws that decide on each."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

#: Side of a pixel: the particle's diameter is so many of them, for the network that learns.
NOMINAL_PX = 35.0

#: Contaminants of one micrograph at most, of each kind.
MOST_LUMPS = 8
MOST_GOLD = 3
MOST_CLUMPS = 3


@dataclass(frozen=True)
class ImagingConditions:
    """One number a micrograph of each matter, shape (n,), on one device."""

    which: Tensor
    #: Of the user's words: the true diameter in pixels, for people are wrong about it.
    diameter_px: Tensor
    pixel_angstrom: Tensor
    wanted: Tensor
    #: Least distance of particles, in diameters.
    spacing: Tensor
    #: Signal over noise: the sum of squares of an average particle over the noise of a pixel.
    energy: Tensor
    preferred: Tensor
    voltage_kv: Tensor
    spherical_mm: Tensor
    amplitude: Tensor
    defocus_angstrom: Tensor
    astigmatism_angstrom: Tensor
    astigmatism_turn: Tensor
    b_factor: Tensor
    #: The ice: its slope and bend, and its grain in units of the shot noise.
    slope: Tensor
    bend: Tensor
    thickness: Tensor
    grain: Tensor
    slow: Tensor
    slow_angstrom: Tensor
    #: Contaminants: whether carbon, and how many of the others.
    carbon: Tensor
    lumps: Tensor
    gold: Tensor
    clumps: Tensor
    fragments: Tensor
    #: Diameter of what is of another kind, in particles' diameters, and how many of it.
    others: Tensor
    other_size: Tensor
    #: What was done to the image: pixels of a low pass (0: none), of the detector's blur, grey
    #: levels a standard deviation (0: as it is), and a dead border's width (0: none).
    low_pass_px: Tensor
    blur_px: Tensor
    levels: Tensor
    border_px: Tensor
    #: How far its normalisation is off.
    gain: Tensor
    offset: Tensor

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        diameters_angstrom: np.ndarray[tuple[int], np.dtype[np.float64]],
        number: int,
        side_px: int,
        device: torch.device | str,
    ) -> ImagingConditions:
        """Draw what `number` micrographs of `side_px` pixels are like.

        Parameters
        ----------
        rng
            Source of randomness.
        diameters_angstrom
            Of the particles there are.
        """
        n = number
        which = rng.integers(len(diameters_angstrom), size=n)
        size = NOMINAL_PX * np.exp(rng.normal(0.0, 0.12, n))
        pixel = diameters_angstrom[which] / size
        # From a few on a micrograph to one beside the other; some have none.
        most = side_px**2 / (0.87 * size**2)
        wanted = most * np.exp(rng.uniform(math.log(0.03), math.log(0.9), n))
        empty = rng.random(n) < 0.14
        wanted[empty] = 0.0
        dirty = rng.random(n)
        level = np.where(dirty < 0.3, 0.0, np.where(dirty < 0.75, 1.0, 3.0))
        # Contaminants come by area, and are worth more looks where a field of view is small.
        area = (side_px * pixel / 2000.0) ** 2
        more = level * np.clip(area, 0.4, 2.0)
        angstrom = 1e4 * np.exp(rng.uniform(math.log(0.3), math.log(3.5), n))
        old = rng.random(n) < 0.25
        filtered = rng.random(n) < 0.3
        values = {
            "which": which,
            "diameter_px": size,
            "pixel_angstrom": pixel,
            "wanted": np.minimum(np.ceil(wanted), 260),
            "spacing": rng.uniform(0.55, 1.15, n),
            "energy": np.exp(rng.uniform(math.log(28.0), math.log(3000.0), n)),
            "preferred": rng.random(n) < 0.4,
            "voltage_kv": np.where(rng.random(n) < 0.3, 200.0, 300.0),
            "spherical_mm": np.where(rng.random(n) < 0.2, 0.01, 2.7),
            "amplitude": rng.uniform(0.05, 0.16, n),
            "defocus_angstrom": angstrom,
            "astigmatism_angstrom": np.minimum(rng.exponential(300.0, n), 0.2 * angstrom),
            "astigmatism_turn": rng.uniform(0.0, math.pi, n),
            "b_factor": rng.uniform(40.0, 400.0, n),
            "slope": rng.uniform(0.0, 0.35, n),
            "bend": rng.uniform(-0.2, 0.25, n),
            "thickness": rng.uniform(0.6, 1.8, n),
            "grain": rng.uniform(0.1, 0.8, n) * np.where(rng.random(n) < 0.15, 1.8, 1.0),
            "slow": rng.uniform(3.0, 16.0, n),
            "slow_angstrom": np.exp(rng.normal(math.log(150.0), 0.4, n)),
            "carbon": rng.random(n) < 0.16 * np.minimum(level, 2.0),
            "lumps": np.minimum(rng.poisson(1.4 * more), MOST_LUMPS),
            "gold": np.minimum(rng.poisson(0.3 * more), MOST_GOLD),
            "clumps": np.minimum(rng.poisson(0.5 * more), MOST_CLUMPS),
            "fragments": rng.poisson(np.minimum(0.06 * most * level, 20.0)),
            "others": np.where(rng.random(n) < 0.2, rng.poisson(0.05 * most), 0),
            "other_size": rng.uniform(0.25, 0.5, n),
            "low_pass_px": np.where(filtered, rng.uniform(2.2, 8.0, n), 0.0),
            "blur_px": np.where(old, rng.uniform(0.3, 0.9, n), 0.0),
            "levels": np.where(rng.random(n) < 0.25, rng.uniform(4.0, 30.0, n), 0.0),
            "border_px": np.where(rng.random(n) < 0.08, rng.uniform(2.0, 25.0, n), 0.0),
            "gain": np.exp(rng.normal(0.0, 0.09, n)),
            "offset": rng.normal(0.0, 0.1, n),
        }
        whole = {"which", "wanted", "lumps", "gold", "clumps", "fragments", "others"}
        flags = {"preferred", "carbon"}
        tensors = {}
        for own in fields(cls):
            tensor = torch.from_numpy(np.asarray(values[own.name]))
            kind = torch.int64 if own.name in whole else torch.float32
            kind = torch.bool if own.name in flags else kind
            tensors[own.name] = tensor.to(device, kind)
        return cls(**tensors)

    def __len__(self) -> int:
        return len(self.which)
