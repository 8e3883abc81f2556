"""Contamination: carbon, ice crystals, aggregates and gold that a network detects.

It is detected at every few pixels only, on a lattice, as such areas are large. Lattice point
(row i, column j) is pixel (i * step, j * step) of the image that was scored.

A network also finds contamination between particles that are crowded. Therefore the evidence of
particles is subtracted from that of contaminants, and candidates in an area are not dropped: their
log-odds are lowered by the evidence that is left.

Contaminants as small as a particle do not form areas. Those that are far darker than particles
are added, as discs; see `dark_candidates`.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.picks import Picks
from heliodor.utils.files import atomic_write

if TYPE_CHECKING:
    from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

#: Smallest probability in the core of an area, and in the rest of it: the edge of a carbon film
#: is easy to see, its inside often only a little noisier than ice.
LIKELY, POSSIBLE = 0.5, 0.06
#: Around candidates that score well, this share of the points must stay outside of an area that
#: extends from its core.
FREE_SHARE = 0.75
#: Candidates that score well are those above this quantile of the micrograph's, or above 0.
GOOD_QUANTILE = 0.75
#: Holes in an area are filled if they are smaller than this many discs of a particle: a network
#: takes contaminants that look like particles for less contaminated than what is around them.
HOLES = 6
#: Where log-odds are lowered by this much or more, an area counts as left out.
LEFT_OUT = 6.0
#: Candidates with lower log-odds are no evidence of particles.
LEAST_EVIDENCE = -4.0
#: The column of `Picks.extra` with the distance of each pick to the nearest contamination.
DISTANCE = "bad_area_distance_angstrom"
#: The text of a mask's PNG file with its pixel size in angstrom.
PIXEL_SIZE_TEXT = "heliodor pixel size (angstrom)"
#: The folder of the masks, in that of the picks.
FOLDER = "bad_areas"
#: Probabilities are smoothed by a Gaussian of this standard deviation, in particle diameters.
SMOOTHING = 1 / 8
#: No lattice of a micrograph is larger; a journal with a larger one is damaged.
MOST_POINTS = 2**26


class ScoredCenters(NamedTuple):
    """The candidates of a micrograph, before contamination is considered."""

    #: (x, y) from the center of the first pixel, shape (n, 2).
    xy_angstrom: FloatArray
    #: Log-odds, shape (n,).
    score: FloatArray


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
    lowered_by
        By how much the log-odds of candidates are lowered at each point, 0 outside of the mask,
        shape (a, b). None where the mask is certain, because a user made it: candidates in it are
        dropped.
    """

    mask: Mask
    pixel_size_angstrom: float
    fraction: float
    lowered_by: Image | None = None

    @classmethod
    def from_log_odds(
        cls,
        log_odds: Image,
        pixel_size_angstrom: float,
        diameter_angstrom: float,
        alive: Mask | None = None,
        candidates: ScoredCenters | None = None,
    ) -> ContaminationMask:
        """Find the contaminated areas.

        In the disc of each candidate with log-odds s, the log-odds of a contaminant are lowered
        by log(1 + exp(s)): a particle is not a contaminant. Probabilities are then smoothed
        a little. The core of an area is where a contaminant is more likely than not, on at least
        a particle's disc; around it the area extends as far as the probability is `POSSIBLE` or
        more, and higher than at most points around good candidates (hysteresis; Canny 1986).
        Holes are filled. Neighbors along rows and columns belong to one area.

        With E, the mean log-odds of a contaminant in the core of an area, the log-odds s of a
        candidate in the area become s - log(1 + exp(E)): its odds compete with those of the
        contaminant.

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
        candidates
            All candidates of the micrograph; None: there are none.
        """
        alive = np.ones(log_odds.shape, np.bool_) if alive is None else alive
        lowered = np.zeros(log_odds.shape, np.float32)
        # Evidence of particles and smoothing only lower the largest value, and most micrographs
        # are clean.
        if (log_odds >= 0).any():
            diameter_px = diameter_angstrom / pixel_size_angstrom
            centers = ScoredCenters(np.empty((0, 2)), np.empty(0))
            if candidates is not None:
                centers = candidates._replace(
                    xy_angstrom=candidates.xy_angstrom / pixel_size_angstrom
                )
            lowered = _find_lowering(log_odds, diameter_px, alive, centers)
        return cls._of(lowered, pixel_size_angstrom, alive)

    def with_discs(
        self,
        xy_angstrom: FloatArray,
        lowered_by: FloatArray,
        diameter_angstrom: float,
        alive: Mask,
    ) -> ContaminationMask:
        """Return contamination with discs added, in which log-odds are lowered further.

        Parameters
        ----------
        xy_angstrom
            Their centers, shape (n, 2).
        lowered_by
            Log-odds; discs of 0 are none. Where discs overlap, the largest counts. Shape (n,).
        diameter_angstrom
            Of the discs.
        alive
            As for `from_log_odds`.
        """
        if self.lowered_by is None:
            raise ValueError("a mask that a user made is certain")
        if not (lowered_by > 0).any():
            return self
        size = self.pixel_size_angstrom
        discs = _spread_over_discs(
            xy_angstrom / size, lowered_by, self.mask.shape, diameter_angstrom / 2 / size
        )
        return self._of(np.where(alive, self.lowered_by + discs, np.float32(0)), size, alive)

    @classmethod
    def _of(cls, lowered: Image, pixel_size_angstrom: float, alive: Mask) -> ContaminationMask:
        """Return the contamination that lowers log-odds so."""
        mask = lowered > 0
        bad, there = int(np.count_nonzero(mask)), int(np.count_nonzero(alive))
        return cls(mask, pixel_size_angstrom, bad / max(there, 1), lowered)

    @property
    def left_out_fraction(self) -> float:
        """The share of the micrograph in which hardly a candidate remains, 0 to 1."""
        if self.lowered_by is None or not self.fraction:
            return self.fraction
        return self.fraction * float((self.lowered_by >= LEFT_OUT).sum() / self.mask.sum())

    def weigh(
        self, xy_angstrom: FloatArray, score: FloatArray, floor: float
    ) -> tuple[IndexArray, FloatArray]:
        """Lower the log-odds of the candidates in contamination.

        Parameters
        ----------
        xy_angstrom
            As for `contains`.
        score
            Log-odds of candidates, shape (n,).
        floor
            Candidates that fall below it are dropped.

        Returns
        -------
        ndarray of int, ndarray of float
            The candidates that remain, by descending score, and their scores, both of shape (m,).
        """
        if self.lowered_by is None:
            weighed = np.where(self.contains(xy_angstrom), -math.inf, score)
        else:
            weighed = score - self.lowered_by[self._nearest(xy_angstrom)].astype(np.float64)
        order = np.argsort(-weighed, kind="stable")
        order = order[weighed[order] >= floor]
        return order, weighed[order]

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
        return np.asarray(self.mask[self._nearest(xy_angstrom)])

    def is_left_out(self, xy_angstrom: FloatArray) -> Mask:
        """Return which positions lie where hardly a candidate remains, shape (n,)."""
        if self.lowered_by is None:
            return self.contains(xy_angstrom)
        return np.asarray(self.lowered_by[self._nearest(xy_angstrom)] >= LEFT_OUT)

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

    def _nearest(self, xy_angstrom: FloatArray) -> tuple[IndexArray, IndexArray]:
        """Return rows and columns of the nearest points of the lattice, shape (n,) each."""
        at = np.rint(self._pixels(xy_angstrom)).astype(np.intp)
        rows, columns = np.clip(at, 0, np.array(self.mask.shape) - 1).T
        return rows, columns

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
        """Write the mask as an image of 8 bits, 255 in contamination; whole or not at all.

        The image has a text with its pixel size, by which it can be read again exactly.
        """
        from PIL import Image as Pillow
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        notes.add_text(PIXEL_SIZE_TEXT, repr(float(self.pixel_size_angstrom)))
        with atomic_write(path) as aside:
            pixels = Pillow.fromarray(np.where(self.mask, 255, 0).astype(np.uint8))
            pixels.save(aside, "PNG", pnginfo=notes)


def add_distances(picks: Picks, distance_angstrom: FloatArray) -> Picks:
    """Return picks with the distance of each to the nearest contamination, shape (n,)."""
    extra = {**picks.extra, DISTANCE: np.asarray(distance_angstrom, dtype=np.float64)}
    return Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, picks.score, extra)


def _find_lowering(
    log_odds: Image, diameter_px: float, alive: Mask, centers: ScoredCenters
) -> Image:
    """Return by how much candidates are lowered; see `ContaminationMask.from_log_odds`.

    Parameters
    ----------
    centers
        The candidates, in pixels of the lattice.
    """
    from scipy.ndimage import gaussian_filter, label, mean  # slow to import
    from scipy.special import expit

    least = math.pi / 4 * diameter_px**2
    particle = np.logaddexp(0.0, centers.score)
    particle[centers.score <= LEAST_EVIDENCE] = 0.0
    evidence = log_odds - _spread_over_discs(
        centers.xy_angstrom, particle, log_odds.shape, diameter_px / 2
    )
    smooth = gaussian_filter(expit(evidence), SMOOTHING * diameter_px, mode="nearest")
    core = _without_small((smooth >= LIKELY) & alive, least)
    if not core.any():  # there is nothing to grow or to fill
        return np.zeros(log_odds.shape, np.float32)
    around = _count_good(centers, log_odds.shape, diameter_px / 2)
    outside = alive & ~core
    usual = _weighted_quantile(smooth[outside], around[outside], FREE_SHARE)
    mask = _touching(core, (smooth >= min(max(POSSIBLE, usual), LIKELY)) & alive)
    mask = ~_without_small(~mask, HOLES * least) & alive
    areas, number = label(mask)
    inside = np.zeros(number + 1)
    inside[1:] = mean(evidence, np.where(core, areas, 0), np.arange(1, number + 1))
    # What is likely contamination has at least even odds.
    lowering = np.logaddexp(0.0, np.maximum(inside, 0.0))
    return np.where(mask, lowering[areas], 0.0).astype(np.float32)


def _spread_over_discs(
    xy_px: FloatArray, value: FloatArray, shape: tuple[int, ...], radius_px: float
) -> Image:
    """Return the largest of the positive values whose discs cover each pixel, elsewhere 0."""
    out = np.zeros(shape, np.float32)
    for index in np.flatnonzero(value > 0):
        x, y = xy_px[index]
        top, left = (max(0, math.ceil(v - radius_px)) for v in (y, x))
        bottom, right = (math.floor(v + radius_px) + 1 for v in (y, x))
        part = out[top:bottom, left:right]
        rows, columns = (np.arange(n)[:, None] for n in part.shape)
        near = (rows + top - y) ** 2 + (columns.T + left - x) ** 2 <= radius_px**2
        np.maximum(part, value[index], out=part, where=near)
    return out


def _count_good(centers: ScoredCenters, shape: tuple[int, ...], reach_px: float) -> Image:
    """Return how near each pixel is to candidates that score well: a sum of Gaussians."""
    from scipy.ndimage import gaussian_filter

    counts = np.zeros(shape, np.float32)
    if len(centers.score):
        good = centers.score >= min(0.0, float(np.quantile(centers.score, GOOD_QUANTILE)))
        at = np.rint(centers.xy_angstrom[good][:, ::-1]).astype(np.intp)
        rows, columns = np.clip(at, 0, np.array(shape) - 1).T
        np.add.at(counts, (rows, columns), 1.0)
    return np.asarray(gaussian_filter(counts, reach_px, mode="constant"))


def _weighted_quantile(values: Image, weights: Image, share: float) -> float:
    """Return a value that at least this share of the weight does not exceed, 0 without weights."""
    total = float(weights.sum(dtype=np.float64))
    if total <= 0:
        return 0.0
    order = np.argsort(values)
    sums = np.cumsum(weights[order], dtype=np.float64)
    place = int(np.searchsorted(sums, share * total))
    return float(values[order[min(place, len(order) - 1)]])


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
