"""Labeled regions around particles, and the class prior of the other regions.

A region is one pixel of the working image with its surroundings. Every pixel within the
training radius of a labeled particle is a positive region; all others are unlabeled
(Bepler et al., Methods 3 and Table 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import (
    FloatArray,
    Image,
    IndexArray,
    Shape,
    disc_area_px,
)
from heliodor.data.micrographs.dead_borders import DeadBorder

BoolArray = NDArray[np.bool_]

#: The share of a micrograph that particles are assumed to cover if their number is unknown.
COVER_GUESS = 0.15
#: Where a model's picks count as labels too, this share of the labeled regions that are drawn are
#: the user's: these alone are certain, however many picks there are.
OWN_LABELS_SHARE = 0.5
#: Distance of the class prior from 0 and 1, as the objectives take its logarithm.
PRIOR_MARGIN = 1e-4


def mask_repeated(xy_px: FloatArray) -> BoolArray:
    """Return which positions are in the same pixel as an earlier one, shape (n,).

    Tables that were written one behind another, or given twice, have particles twice.
    """
    _, first = np.unique(np.rint(xy_px), axis=0, return_index=True)
    repeated = np.ones(len(xy_px), dtype=bool)
    repeated[first] = False
    return repeated


@dataclass(frozen=True)
class LabeledImage:
    """A normalized working image and the labels on it, in pixels of the image."""

    image: Image
    xy_px: FloatArray
    #: Negatives, shape (n, 2).
    negative_xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    #: Width of the margin along the edges in which nothing is labeled, particle or not.
    margin_px: int = 0
    #: Picks of a model away from the labels, shape (n, 2). They count as labels too, or neither as
    #: particles nor as background; see `choose_label_share`.
    picked_xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        height, width = self.image.shape
        return height, width

    @property
    def inner_region(self) -> tuple[slice, slice]:
        """The rows and columns that are not in the margin."""
        return DeadBorder().at_least(self.margin_px).live_region(self.shape)


def disc_pixels(xy_px: FloatArray, shape: Shape, radius_px: float) -> IndexArray:
    """Return the pixels within a radius of any of the given points.

    Parameters
    ----------
    xy_px
        Points (x, y) in pixels of the image, shape (n, 2).
    shape
        (height, width) of the image.
    radius_px
        Radius, inclusive; the pixel nearest to a point inside the image always counts.

    Returns
    -------
    ndarray of intp
        Flat (row-major) indices, sorted, without duplicates or pixels outside the image.
    """
    xy = np.asarray(xy_px, dtype=np.float64).reshape(-1, 2)
    reach = np.arange(-math.ceil(radius_px) - 1, math.ceil(radius_px) + 2)
    nearest = np.rint(xy).astype(np.intp)
    last = np.array([shape[1], shape[0]]) - 1
    # A point on the far edge, half a pixel beyond the last one, may be rounded to outside.
    nearest = np.where(mask_outside(xy, shape)[:, None], nearest, np.minimum(nearest, last))
    columns = nearest[:, 0, None, None] + reach[None, None, :]
    rows = nearest[:, 1, None, None] + reach[None, :, None]
    square = (columns - xy[:, 0, None, None]) ** 2 + (rows - xy[:, 1, None, None]) ** 2
    center = (columns == nearest[:, 0, None, None]) & (rows == nearest[:, 1, None, None])
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    chosen = ((square <= radius_px**2) | center) & inside
    return np.unique((rows * shape[1] + columns)[chosen])


def make_label_mask(
    xy_px: FloatArray, shape: Shape, radius_px: float
) -> np.ndarray[Shape, np.dtype[np.bool_]]:
    """Return a mask of the positive regions of an image."""
    mask = np.zeros(shape, dtype=bool)
    mask.flat[disc_pixels(xy_px, shape, radius_px)] = True
    return mask


def mask_outside(xy_px: FloatArray, shape: Shape) -> BoolArray:
    """Return which points lie outside an image of the given shape."""
    xy = np.asarray(xy_px).reshape(-1, 2)
    limit = np.array([shape[1], shape[0]]) - 0.5
    return np.asarray(((xy < -0.5) | (xy > limit)).any(axis=1))


def guess_particles(area_angstrom2: float, diameter_angstrom: float, most_labeled: int) -> float:
    """Guess the number of particles per micrograph if the user gave none.

    As many as cover 15% of the area, but at least the largest number of labels on a micrograph.
    """
    covering = COVER_GUESS * area_angstrom2 / (math.pi * (diameter_angstrom / 2) ** 2)
    return max(covering, 1.0, float(most_labeled))


def choose_label_share(labels: int, picks: int) -> float:
    """Return the share of the labeled regions to draw that are the user's, not a model's picks.

    If there are at least as many labels as further picks, most particles are labeled, and those
    that are not may have been left out on purpose. The picks then count neither as particles nor
    as background.

    Parameters
    ----------
    labels, picks
        Number of regions around the user's labels, and around a model's picks.

    Returns
    -------
    float
        `OWN_LABELS_SHARE`; 1 with at least as many labels as picks; 0 without labels.
    """
    if labels >= picks:
        return 1.0
    return OWN_LABELS_SHARE if labels else 0.0


def class_prior(
    expected_particles: float, images: Sequence[LabeledImage], radius_px: float
) -> float:
    """Return the fraction of positive regions among the unlabeled ones that are drawn.

    In each image: the area of the expected particles minus that of the labeled ones, divided by
    the unlabeled area. The average over the images is weighted by how often the sampler draws
    from each: by their labeled areas, and those of picks; see `choose_label_share`.

    Parameters
    ----------
    expected_particles
        Average number of particles per micrograph.
    images
        Working images with their labels.
    radius_px
        Training radius in working pixels.

    Returns
    -------
    float
        Between 1e-4 and 0.9999; 1e-4 if all expected particles are labeled.
    """
    positive = expected_particles * disc_area_px(radius_px)
    own = np.array([len(disc_pixels(i.xy_px, i.shape, radius_px)) for i in images])
    picked = np.array([len(disc_pixels(i.picked_xy_px, i.shape, radius_px)) for i in images])
    labeled = own + picked
    pixels = np.array([i.image[i.inner_region].size for i in images])
    fraction = np.maximum(positive - labeled, 0) / np.maximum(pixels - labeled, 1)
    share = choose_label_share(int(own.sum()), int(picked.sum()))
    weights = np.zeros(len(images))
    for area, part in ((own, share), (picked, 1 - share)):
        if area.any():
            weights += part * area / area.sum()
    if not labeled.any():
        weights[:] = 1 / len(images)
    return float(np.clip(weights @ fraction, PRIOR_MARGIN, 1 - PRIOR_MARGIN))
