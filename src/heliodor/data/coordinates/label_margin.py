"""How far from the edges of the micrographs labels are.

Programs leave out particles whose box crosses an edge, and so do people. A network that is trained
on such labels is told that particles near an edge are background, and picks there count as false
where the labels are the truth. If the labels keep away from the edges by more than chance
explains, training and picking do the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heliodor.conventions import FloatArray, Shape

#: Labels keep away from the edges if labels anywhere would leave as much free with this chance.
CHANCE = 0.01
#: Labels are on a part of the micrographs only if labels anywhere beyond the margin would leave as
#: much free at one of the four sides with this chance. Then nothing is said about the edges.
CHANCE_OF_SIDE = 1e-3
#: The largest margin in diameters: larger ones are not due to boxes.
MOST_DIAMETERS = 2.0


def find_label_margin(
    labels: Sequence[FloatArray], shapes: Sequence[Shape], diameter_px: float
) -> float:
    """Return the margin along the edges in which there are no labels, 0 if that may be chance.

    Parameters
    ----------
    labels
        Labels (x, y) of each micrograph in pixels, shape (n, 2).
    shapes
        (height, width) of the micrographs, all with the same pixel size.
    diameter_px
        The particle's, in these pixels.

    Returns
    -------
    float
        In pixels. The labels that are nearest to an edge are a little farther away than this,
        as the margin of a sample is wider than that of all particles.
    """
    if not any(len(own) for own in labels):
        return 0.0
    xy = np.concatenate([np.asarray(own, dtype=np.float64).reshape(-1, 2) for own in labels])
    size = np.repeat([(width, height) for height, width in shapes], [*map(len, labels)], axis=0)
    # To the left, upper, right and lower edge; pixels are centered on whole numbers.
    to_sides = np.column_stack([xy + 0.5, size - 0.5 - xy])
    least = float(to_sides.min())
    if not 0 < least <= MOST_DIAMETERS * diameter_px:
        return 0.0
    within = np.clip(size - 2 * least, 1.0, None)
    free = 1 - within.prod(axis=1) / size.prod(axis=1)
    if np.log1p(-free).sum() > np.log(CHANCE):
        return 0.0
    beyond = (to_sides.min(axis=0) - least) / np.hstack([within, within])
    if np.log1p(-np.clip(beyond, 0.0, 1 - 1e-9)).sum(axis=0).min() < np.log(CHANCE_OF_SIDE):
        return 0.0
    # The labels leave 1 / n of the area free by chance.
    margins = np.linspace(0.0, least, 201)
    inner = np.clip(size[:, None] - 2 * margins[:, None], 1.0, None).prod(axis=2).mean(axis=0)
    wanted = inner[-1] * (1 + 1 / len(xy))
    return float(np.interp(-wanted, -inner, margins))
