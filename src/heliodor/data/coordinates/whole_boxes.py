"""Which positions have boxes that lie on their micrographs as a whole.

RELION repeats the pixels at an edge where a box extends beyond the micrograph, without a message.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, Shape


def mask_whole_boxes(xy_px: FloatArray, shape: Shape, box_px: int) -> NDArray[np.bool_]:
    """Return at which positions the whole box lies on the micrograph, shape (n,).

    Parameters
    ----------
    xy_px
        Centers (x, y), shape (n, 2); RELION cuts off their fractions.
    shape
        (height, width) of the micrograph.
    box_px
        Side of the box, whose center is pixel ``box_px // 2`` of it.
    """
    first = np.floor(xy_px) - box_px // 2
    last = first + box_px
    return np.asarray(((first >= 0) & (last <= np.array(shape[::-1]))).all(axis=1))
