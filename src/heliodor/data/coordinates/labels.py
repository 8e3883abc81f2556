"""Labels: particles become labelled regions, and the rest a class prior.

A region is one pixel of the working image with its surroundings. Every pixel within the
training radius of a labelled particle is a positive region; all others are unlabelled
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

BoolArray = NDArray[np.bool_]

#: Without a number from the user, particles are taken to cover this share of a micrograph.
COVER_GUESS = 0.15
#: The class prior is kept this far from 0 and 1: the objectives take its logarithm.
PRIOR_MARGIN = 1e-4


@dataclass(frozen=True)
class LabeledImage:
    """A normalised working image and the labels on it, in its own pixels."""

    image: Image
    xy_px: FloatArray
    #: What the user says is no particle, shape (n, 2).
    negative_xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def shape(self) -> Shape:
        """(height, width)."""
        height, width = self.image.shape
        return height, width


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
        Flat (row-major) positions, sorted, each once, those outside the image left out.
    """
    xy = np.asarray(xy_px, dtype=np.float64).reshape(-1, 2)
    reach = np.arange(-math.ceil(radius_px) - 1, math.ceil(radius_px) + 2)
    nearest = np.rint(xy).astype(np.intp)
    last = np.array([shape[1], shape[0]]) - 1
    # A point on the far edge, half a pixel behind the last one, may be rounded to outside.
    nearest = np.where(mask_outside(xy, shape)[:, None], nearest, np.minimum(nearest, last))
    columns = nearest[:, 0, None, None] + reach[None, None, :]
    rows = nearest[:, 1, None, None] + reach[None, :, None]
    square = (columns - xy[:, 0, None, None]) ** 2 + (rows - xy[:, 1, None, None]) ** 2
    centre = (columns == nearest[:, 0, None, None]) & (rows == nearest[:, 1, None, None])
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    chosen = ((square <= radius_px**2) | centre) & inside
    return np.unique((rows * shape[1] + columns)[chosen])


def make_label_mask(
    xy_px: FloatArray, shape: Shape, radius_px: float
) -> np.ndarray[Shape, np.dtype[np.bool_]]:
    """Return the positive regions of an image as a mask of its shape."""
    mask = np.zeros(shape, dtype=bool)
    mask.flat[disc_pixels(xy_px, shape, radius_px)] = True
    return mask


def mask_outside(xy_px: FloatArray, shape: Shape) -> BoolArray:
    """Tell which points lie outside an image of the given shape."""
    xy = np.asarray(xy_px).reshape(-1, 2)
    limit = np.array([shape[1], shape[0]]) - 0.5
    return np.asarray(((xy < -0.5) | (xy > limit)).any(axis=1))


def guess_particles(area_angstrom2: float, diameter_angstrom: float, most_labelled: int) -> float:
    """Guess the particles of a micrograph where the user gave no number.

    Particles that cover 15 % of the area, and no fewer than the fullest labelled micrograph.
    """
    covering = COVER_GUESS * area_angstrom2 / (math.pi * (diameter_angstrom / 2) ** 2)
    return max(covering, 1.0, float(most_labelled))


def class_prior(
    expected_particles: float, images: Sequence[LabeledImage], radius_px: float
) -> float:
    """Return the fraction of positive regions among the unlabelled ones that are drawn.

    In each image the discs of the expected particles, less what is labelled, over all
    unlabelled pixels; averaged over the images in proportion to their labels, as the sampler
    draws from them.

    Parameters
    ----------
    expected_particles
        Particles a micrograph, on average over the images.
    images
        Working images with their labels.
    radius_px
        Training radius in working pixels.

    Returns
    -------
    float
        Between 1e-4 and 0.9999; where everything expected is labelled already, 1e-4.
    """
    positive = expected_particles * disc_area_px(radius_px)
    labelled = np.array([len(disc_pixels(i.xy_px, i.shape, radius_px)) for i in images])
    pixels = np.array([i.image.size for i in images])
    fraction = np.maximum(positive - labelled, 0) / np.maximum(pixels - labelled, 1)
    total = labelled.sum()
    weights = labelled / total if total else np.full(len(images), 1 / len(images))
    return float(np.clip(weights @ fraction, PRIOR_MARGIN, 1 - PRIOR_MARGIN))
