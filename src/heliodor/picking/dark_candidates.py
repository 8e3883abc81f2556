"""Candidates that are too dark to be particles, such as ice crystals as small as a particle.

A network that picks particles of any contrast also takes for particles what has their size and is
several times as dark. It does not form an area of contamination either, because an area has a core
at least as large as a particle. But particles of one kind are about equally dark on a micrograph,
and how dark they are follows from the candidates that score well.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from heliodor.conventions import FloatArray, Image

#: The darkness of a candidate is averaged by a Gaussian of this standard deviation, in particle
#: diameters: narrower, it would depend on the orientation of the particle.
SMOOTHING: Final = 1 / 4
#: Before that, pixels are binned as far as this standard deviation is at least so many of them.
PIXELS: Final = 2
#: Candidates are compared with the better half of those that score at least 0 log-odds, because
#: contaminants mostly score worse than particles, but with at least this many. If there are
#: fewer, they are not compared.
FEWEST: Final = 5
#: The unit of the darkness is how much lighter than the median this share of them is. (Darker
#: ones may be contaminants.) It is at least this share of the median: noise is not all that
#: particles of one kind differ by.
LIGHT, LEAST_UNIT = 0.1, 1 / 3
#: Candidates are doubted beyond so many units, and by this much for each unit more, log-odds.
UNUSUAL, DOUBT = 3.0, 0.7


def doubt_dark_candidates(
    image: Image, xy_px: FloatArray, score: FloatArray, diameter_px: float
) -> FloatArray:
    """Return by how much the log-odds of candidates are to be lowered, as they are too dark.

    Parameters
    ----------
    image
        What the network sees of the micrograph: particles are darker than the background, shape
        (h, w).
    xy_px
        Centers of the candidates, shape (n, 2).
    score
        Their log-odds, lowered in contamination, shape (n,).
    diameter_px
        The particle's.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 for most.
    """
    from scipy.ndimage import gaussian_filter  # slow to import

    falling = np.sort(score[score >= 0])[::-1]
    if len(falling) < FEWEST:
        return np.zeros(len(score))
    good = score >= falling[max(FEWEST, math.ceil(len(falling) / 2)) - 1]
    width = SMOOTHING * diameter_px
    step = max(1, min(int(width / PIXELS), *image.shape))
    smooth = gaussian_filter(_bin(image, step), width / step)
    at = np.floor((xy_px[:, ::-1] + 0.5) / step).astype(np.intp)
    rows, columns = np.clip(at, 0, np.array(smooth.shape) - 1).T
    dark = float(np.median(smooth)) - smooth[rows, columns].astype(np.float64)
    light, middle = np.quantile(dark[good], (LIGHT, 0.5))
    if middle <= 0:  # what scores well is not dark at all
        return np.zeros(len(score))
    unit = max(middle - light, LEAST_UNIT * middle)
    return np.asarray(DOUBT * np.maximum((dark - middle) / unit - UNUSUAL, 0.0))


def _bin(image: Image, step: int) -> Image:
    """Return means of squares of pixels, without the incomplete ones at the far edges."""
    rows, columns = (side // step for side in image.shape)
    whole = image[: rows * step, : columns * step].reshape(rows, step, columns, step)
    # Rows first, which are contiguous.
    return np.asarray(whole.mean(axis=1, dtype=np.float32).mean(axis=2), dtype=np.float32)
