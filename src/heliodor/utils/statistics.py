"""Statistics that a few outliers do not influence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The standard deviation of a normal distribution, in median absolute deviations.
NORMAL_SCALE = 1.4826


def robust_deviation(values: NDArray[Any], center: float | None = None) -> float:
    """Return the standard deviation that the median absolute deviation corresponds to.

    Parameters
    ----------
    values
        Any shape.
    center
        Where deviations are counted from; by default the median.
    """
    middle = np.median(values) if center is None else center
    return NORMAL_SCALE * float(np.median(np.abs(values - middle)))
