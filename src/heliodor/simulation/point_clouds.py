"""From a cloud of weighted points, be they atoms or voxels, to the blobs of a particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from heliodor.simulation.builtin_particles import GaussianBlobs, PreferredView
from heliodor.simulation.projection import euler_matrix

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray

#: The finest grid of cells that points are gathered in, and the most blobs that result.
LEAST_CELL_ANGSTROM = 3.0
MOST_BLOBS = 4000

#: How often a particle lies on its broadest, its middle and its narrowest face.
PREFERRED_VIEW_SHARES = (0.60, 0.25, 0.15)

#: How the grid is turned.
_GRID_ROTATION_DEG = (37.0, 53.0, 19.0)

#: Directions that the longest extent is looked for in: they are 5 degrees apart.
_DIRECTIONS = 1000


def bin_points(
    points: FloatArray, weights: FloatArray, sigma_angstrom: float, most: int = MOST_BLOBS
) -> GaussianBlobs:
    """Gather points into blobs, one for each occupied cell of a cubic grid.

    A blob has its points' weight, centre of mass and mean variance, so that the sum has the
    total, the centre and the trace of the second moment of the points; its variance is that of
    its points and of the Gaussian that each stands for.

    Parameters
    ----------
    points
        (x, y, z) in angstrom, shape (n, 3).
    weights
        Positive, shape (n,).
    sigma_angstrom
        Standard deviation of each point's own Gaussian.
    most
        The grid is made coarser until there are no more blobs than this.

    Returns
    -------
    Blobs
        With their centre of mass at the origin.
    """
    points = points - np.average(points, axis=0, weights=weights)
    # Files have their axes of symmetry along x, y and z: a grid along them would show in views
    # along them as ripples.
    slanted = points @ euler_matrix(*_GRID_ROTATION_DEG).T
    slanted -= slanted.min(axis=0)
    cell = LEAST_CELL_ANGSTROM
    while True:
        places = np.floor(slanted / cell).astype(np.int64)
        keys = np.ravel_multi_index(tuple(places.T), tuple(places.max(axis=0) + 1))
        kinds, owner = np.unique(keys, return_inverse=True)
        if len(kinds) <= most:
            break
        cell *= max(1.05, (len(kinds) / most) ** (1.0 / 3.0))
    total = np.bincount(owner, weights).astype(np.float64)
    moments = np.stack([np.bincount(owner, weights * axis) for axis in points.T], axis=1)
    centres = moments / total[:, None]
    squared = np.sum((points - centres[owner]) ** 2, axis=1)
    variance = np.bincount(owner, weights * squared) / total / 3.0
    sigmas = np.sqrt(variance + sigma_angstrom**2)
    for array in (centres, sigmas, total):
        array.setflags(write=False)
    return GaussianBlobs(centres, sigmas, total)


def longest_extent(points: FloatArray) -> float:
    """Return the distance of the two points that are farthest apart, within 0.2 %.

    Parameters
    ----------
    points
        Shape (n, 3), at least one.

    Notes
    -----
    For the two farthest points, a and b, each point p has ``(p - b) u <= |a - b|`` along
    ``u = (a - b) / |a - b|``. The extreme points along a direction that is t away from u are
    therefore at least ``|a - b| cos t`` apart.
    """
    points = points - points.mean(axis=0)
    step = np.arange(_DIRECTIONS) + 0.5
    height = 1.0 - step / _DIRECTIONS  # of a hemisphere: the other half is the same
    turn = step * np.pi * (3.0 - np.sqrt(5.0))
    flat = np.sqrt(1.0 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    # Neither end can be nearer to the middle than the length that is there less the largest
    # distance from the middle.
    radius = np.linalg.norm(points, axis=1)
    there = max(float(np.ptp(points @ direction)) for direction in directions[::40])
    points = points[radius >= there - radius.max()]
    ends = set[int]()
    for direction in directions:
        along = points @ direction
        ends |= {int(along.argmin()), int(along.argmax())}
    chosen = points[sorted(ends)]
    return float(cdist(chosen, chosen).max())


def estimate_preferred_views(blobs: GaussianBlobs) -> tuple[PreferredView, ...]:
    """Return how a particle may prefer to lie: flat, on the broadest of its faces, most often.

    The beam runs along one of its principal axes; the one of least extent comes first.
    """
    share = blobs.weights / blobs.weights.sum()
    spread = (share[:, None] * blobs.positions).T @ blobs.positions
    _, axes = np.linalg.eigh(spread)
    views = []
    for share_of_all, axis in zip(PREFERRED_VIEW_SHARES, axes.T, strict=True):
        x, y, z = axis * np.sign(axis[np.argmax(np.abs(axis))])
        tilt = float(np.rad2deg(np.arccos(np.clip(z, -1.0, 1.0))))
        views.append(PreferredView(share_of_all, tilt, float(np.rad2deg(np.arctan2(y, x)))))
    return tuple(views)
