"""Contamination: carbon, ice crystals, aggregates and gold that a network detects.

It is detected at every few pixels only, on a lattice: such areas are large, and a particle on
their edge is lost either way. Lattice point (row i, column j) is pixel (i * step, j * step) of the
image that was scored.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.picks import Picks
from heliodor.utils.files import atomic_write

if TYPE_CHECKING:
    from scipy.spatial import KDTree

Mask = NDArray[np.bool_]

#: Smallest probability in the core of an area, and in the rest of it: the edge of a carbon film
#: is easy to see, its inside often only a little noisier than ice.
LIKELY, POSSIBLE = 0.5, 0.1
#: The column of `Picks.extra` with the distance of each pick to the nearest contamination.
DISTANCE = "bad_area_distance_angstrom"
#: The folder of the masks, in that of the picks.
FOLDER = "bad_areas"
#: Probabilities are smoothed by a Gaussian of this standard deviation, in particle diameters.
SMOOTHING = 1 / 8
#: No lattice of a micrograph is larger; a journal with a larger one is damaged.
MOST_POINTS = 2**26


@dataclass(frozen=True)
class ContaminationMask:
    """The contamination of one micrograph.

    Attributes
    ----------
    mask
        True in contamination, a pixel for each point of the lattice, shape (a, b).
    pixel_size_angstrom
        Of the mask.
    fraction
        The contaminated share of the micrograph without its dead borders, 0 to 1.
    """

    mask: Mask
    pixel_size_angstrom: float
    fraction: float

    @classmethod
    def from_log_odds(
        cls,
        log_odds: Image,
        pixel_size_angstrom: float,
        diameter_angstrom: float,
        alive: Mask | None = None,
    ) -> ContaminationMask:
        """Find the contaminated areas.

        Probabilities are smoothed a little. The core of an area is where a contaminant is more
        likely than not, on at least a particle's disc; around it the area extends as far as the
        probability is a tenth or more (hysteresis; Canny 1986). Holes smaller than a particle's
        disc are filled. Neighbors along rows and columns belong to one area.

        Parameters
        ----------
        log_odds
            Of a contaminant at each point of the lattice, shape (a, b).
        pixel_size_angstrom
            Of the lattice.
        diameter_angstrom
            The particle's.
        alive
            False in dead borders, which are ignored, shape (a, b); None: there are none.
        """
        from scipy.ndimage import gaussian_filter  # slow to import
        from scipy.special import expit

        alive = np.ones(log_odds.shape, np.bool_) if alive is None else alive
        diameter_px = diameter_angstrom / pixel_size_angstrom
        mask, least = np.zeros(log_odds.shape, np.bool_), math.pi / 4 * diameter_px**2
        # Smoothing makes no value larger than the largest, and most micrographs are clean.
        if (log_odds >= 0).any():
            chance = expit(log_odds.astype(np.float32))
            smooth = gaussian_filter(chance, SMOOTHING * diameter_px, mode="nearest")
            mask = _without_small((smooth >= LIKELY) & alive, least)
            if mask.any():  # otherwise there is nothing to grow or to fill
                mask = _touching(mask, (smooth >= POSSIBLE) & alive)
                mask = ~_without_small(~mask, least) & alive
        bad, there = int(np.count_nonzero(mask)), int(np.count_nonzero(alive))
        return cls(mask, pixel_size_angstrom, bad / max(there, 1))

    def contains(self, xy_angstrom: FloatArray) -> Mask:
        """Return which positions lie in contamination: those whose nearest lattice point does.

        Parameters
        ----------
        xy_angstrom
            (x, y) from the center of the image's first pixel, shape (n, 2).

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        at = np.rint(self._pixels(xy_angstrom)).astype(np.intp)
        rows, columns = np.clip(at, 0, np.array(self.mask.shape) - 1).T
        return np.asarray(self.mask[rows, columns])

    def distance_angstrom(self, xy_angstrom: FloatArray) -> FloatArray:
        """Return the distance of positions to the nearest contamination.

        The distance to the center of the nearest pixel of the mask less half a pixel: exact along
        rows and columns, and too long by a fifth of a pixel at most.

        Parameters
        ----------
        xy_angstrom
            As for `contains`.

        Returns
        -------
        ndarray of float, shape (n,)
            Angstrom; inside an area minus the distance to its edge, and infinite where there is
            no edge.
        """
        inside = self.contains(xy_angstrom)
        positions = self._pixels(xy_angstrom)
        out = np.full(len(positions), math.inf)
        for tree, chosen in zip(self._edges, (~inside, inside), strict=True):
            if tree is not None and chosen.any():
                out[chosen] = np.maximum(tree.query(positions[chosen])[0] - 0.5, 0.0)
        return np.where(inside, -out, out) * self.pixel_size_angstrom

    def _pixels(self, xy_angstrom: FloatArray) -> FloatArray:
        """Return (row, column) in pixels of the mask, shape (n, 2)."""
        xy = np.asarray(xy_angstrom, dtype=np.float64)
        return np.asarray(xy[:, ::-1] / self.pixel_size_angstrom)

    @cached_property
    def _edges(self) -> tuple[KDTree | None, KDTree | None]:
        """The pixels on either side of the edge, inside and outside, None for none."""
        from scipy.spatial import KDTree

        trees = []
        for own in (self.mask, ~self.mask):
            there = np.argwhere(own & _beside(~own))
            trees.append(KDTree(there) if len(there) else None)
        return trees[0], trees[1]

    def as_dict(self) -> dict[str, Any]:
        """Return the mask ready for JSON; see `from_dict`."""
        packed = zlib.compress(np.packbits(self.mask).tobytes())
        return {
            "shape": list(self.mask.shape),
            "mask": base64.b64encode(packed).decode(),
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "fraction": self.fraction,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ContaminationMask:
        """Rebuild a mask from `as_dict`.

        Raises
        ------
        ValueError, LookupError, TypeError
            If it is damaged.
        """
        rows, columns = (int(side) for side in values["shape"])
        if rows < 1 or columns < 1 or rows * columns > MOST_POINTS:
            raise ValueError("the shape of a mask is impossible")
        stream, number = zlib.decompressobj(), -(-rows * columns // 8)
        try:
            packed = stream.decompress(base64.b64decode(values["mask"]), number + 1)
        except zlib.error as error:
            raise ValueError("a mask is damaged") from error
        if len(packed) != number:
            raise ValueError("a mask does not match its shape")
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns)
        mask = bits.astype(np.bool_).reshape(rows, columns)
        return cls(mask, float(values["pixel_size_angstrom"]), float(values["fraction"]))

    def write(self, path: Path) -> None:
        """Write the mask as an image of 8 bits, 255 in contamination; whole or not at all."""
        from PIL import Image as Pillow

        with atomic_write(path) as aside:
            Pillow.fromarray(np.where(self.mask, 255, 0).astype(np.uint8)).save(aside, "PNG")


def add_distances(picks: Picks, distance_angstrom: FloatArray) -> Picks:
    """Return picks with the distance of each to the nearest contamination, shape (n,)."""
    extra = {**picks.extra, DISTANCE: np.asarray(distance_angstrom, dtype=np.float64)}
    return Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, picks.score, extra)


def _touching(core: Mask, wide: Mask) -> Mask:
    """Return the areas of `wide` that contain a part of `core`."""
    from scipy.ndimage import label

    areas, number = label(wide)
    kept = np.zeros(number + 1, np.bool_)
    kept[np.unique(areas[core])] = True
    kept[0] = False
    return np.asarray(kept[areas])


def _without_small(mask: Mask, least: float) -> Mask:
    """Return a mask without its areas of fewer than `least` pixels."""
    from scipy.ndimage import label

    areas = np.asarray(label(mask)[0])
    large = np.bincount(areas.ravel()) >= least
    large[0] = False
    return np.asarray(large[areas])


def _beside(mask: Mask) -> Mask:
    """Return the pixels that have a neighbor in a mask, along rows or columns."""
    out = np.zeros_like(mask)
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out
