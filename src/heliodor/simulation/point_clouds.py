"""Turn a cloud of weighted points (atoms or voxels) into the Gaussian blobs of a particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from heliodor.simulation.builtin_particles import GaussianBlobs, PreferredView
from heliodor.simulation.projection import euler_matrix

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray

#: Side of the smallest cells in which points are binned, and the maximum number of blobs.
LEAST_CELL_ANGSTROM = 3.0
MOST_BLOBS = 4000

#: Fraction of particles that lie on their broadest, middle and narrowest face.
PREFERRED_VIEW_SHARES = (0.60, 0.25, 0.15)

#: Euler angles of the grid.
_GRID_ROTATION_DEG = (37.0, 53.0, 19.0)

#: Directions in which the longest extent is searched; they are about 5 degrees apart.
_DIRECTIONS = 1000


def bin_points(
    points: FloatArray, weights: FloatArray, sigma_angstrom: float, most: int = MOST_BLOBS
) -> GaussianBlobs:
    """Combine points into blobs, one per occupied cell of a cubic grid.

    A blob has the total weight, center of mass and mean variance of its points (plus the variance
    of a point's own Gaussian), so the blobs preserve the total weight, the center and the trace of
    the second moment of the points.

    Parameters
    ----------
    points
        (x, y, z) in angstrom, shape (n, 3).
    weights
        Positive, shape (n,).
    sigma_angstrom
        Standard deviation of each point's own Gaussian.
    most
        Maximum number of blobs; the grid is made coarser until it is met.

    Returns
    -------
    Blobs
        With their center of mass at the origin.
    """
    points = points - np.average(points, axis=0, weights=weights)
    # Symmetry axes lie along x, y and z: a grid along them would cause ripples in such views.
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
    centers = moments / total[:, None]
    squared = np.sum((points - centers[owner]) ** 2, axis=1)
    variance = np.bincount(owner, weights * squared) / total / 3.0
    sigmas = np.sqrt(variance + sigma_angstrom**2)
    for array in (centers, sigmas, total):
        array.setflags(write=False)
    return GaussianBlobs(centers, sigmas, total)


def longest_extent(points: FloatArray) -> float:
    """Return the distance between the two points that are farthest apart, to within 0.2%.

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
    # Neither end can be closer to the center than the length found so far minus the largest
    # distance from the center.
    radius = np.linalg.norm(points, axis=1)
    lower_bound = max(float(np.ptp(points @ direction)) for direction in directions[::40])
    points = points[radius >= lower_bound - radius.max()]
    ends = set[int]()
    for direction in directions:
        along = points @ direction
        ends |= {int(along.argmin()), int(along.argmax())}
    chosen = points[sorted(ends)]
    return float(cdist(chosen, chosen).max())


def estimate_preferred_views(blobs: GaussianBlobs) -> tuple[PreferredView, ...]:
    """Return preferred views along the principal axes: most often flat on the broadest face.

    The view along the axis of smallest extent comes first.
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
