"""Dead borders: bars along the edges of a micrograph in which nothing was recorded.

Motion correction and detectors leave bars of repeated or blank rows and columns. They contain no
particles, but stripes in them may look like some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliodor.conventions import (
    FloatArray,
    Image,
    Shape,
)

#: In a bar, neighboring rows differ by less than this fraction of the median over the image.
QUIET_FRACTION = 0.3
#: Minimum number of similar rows in a bar.
MIN_BAR_PX = 3
#: Bars are searched for within this fraction of each side.
MAX_BAR_FRACTION = 0.15


@dataclass(frozen=True)
class DeadBorder:
    """Number of dead rows and columns along each edge of an image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def live_region(self, shape: Shape | tuple[int, ...]) -> tuple[slice, slice]:
        """Return the slices of the rows and columns that are not dead."""
        return slice(self.top, shape[0] - self.bottom), slice(self.left, shape[1] - self.right)

    def at_least(self, width: int) -> DeadBorder:
        """Return a border of `width` or more pixels along every edge."""
        sides = (self.top, self.bottom, self.left, self.right)
        return DeadBorder(*(max(side, width) for side in sides))

    def widen(self, more: int) -> DeadBorder:
        """Return a border that is wider by `more` pixels along each edge that has a bar."""
        sides = (self.top, self.bottom, self.left, self.right)
        return DeadBorder(*(side + more if side else 0 for side in sides))


def find_dead_border(image: Image) -> DeadBorder:
    """Find the bars along the edges of an image.

    Parameters
    ----------
    image
        Shape (h, w), at any scale and sampling.

    Returns
    -------
    DeadBorder
        All zero for most micrographs.
    """
    rows, columns = _row_differences(image), _row_differences(image.T)
    return DeadBorder(
        _count_quiet_rows(rows),
        _count_quiet_rows(rows[::-1]),
        _count_quiet_rows(columns),
        _count_quiet_rows(columns[::-1]),
    )


def _row_differences(image: Image) -> FloatArray:
    """Return the mean absolute difference of each row to the next, shape (h - 1,)."""
    return np.asarray(np.abs(np.diff(image, axis=0)).mean(axis=1, dtype=np.float64))


def _count_quiet_rows(steps: FloatArray) -> int:
    if not len(steps):
        return 0
    edge = steps[: max(1, int(MAX_BAR_FRACTION * len(steps)))]
    # The first rows need not be quiet: Fourier cropping rings across a bar's outer edge.
    quiet = np.flatnonzero(edge < QUIET_FRACTION * float(np.median(steps)))
    # A few rows may be similar by chance.
    return int(quiet[-1]) + 1 if len(quiet) >= MIN_BAR_PX else 0
