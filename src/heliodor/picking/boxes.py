"""Picks whose boxes would leave the micrograph, which are left out if the user gives a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.micrographs.working_images import WorkingImage


def mask_boxes_on(image: WorkingImage, xy_px: FloatArray, box_px: int) -> NDArray[np.bool_]:
    """Return at which positions a box lies on a micrograph as a whole, shape (n,).

    Parameters
    ----------
    xy_px
        Centers (x, y) in pixels of the file, shape (n, 2).
    box_px
        Side of the box in these pixels.
    """
    return mask_whole_boxes(xy_px, image.original_shape, box_px)


def margin_of_boxes(image: WorkingImage, box_px: int) -> int:
    """Return the width of the margin in which no box is whole, in pixels of the working image."""
    return int(box_px // 2 * image.shape[1] / image.original_shape[1])
