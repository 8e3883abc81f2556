"""Orientations of particles and exact projections of their Gaussian blobs.

Euler angles are RELION's: (rot, tilt, psi) about z, the new y and the new z (Heymann et al.
2005, J. Struct. Biol. 151, 196-207). With ``A = euler_matrix(rot, tilt, psi)`` a point r of the
particle lands on column ``x + (A r)[0]`` and row ``y + (A r)[1]``; the beam runs along z. At
tilt 0 the beam is therefore the particle's own z axis, and a growing psi turns the projection
counter-clockwise on a screen that shows row 0 at the top.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image
    from heliodor.simulation.builtin_particles import GaussianBlobs, Particle

#: Spread of the preferred views, degrees (standard deviation).
VIEW_SPREAD_DEG = 10.0

#: A blob is drawn out to this many standard deviations.
REACH_SIGMAS = 4.5


def euler_matrix(rot_deg: float, tilt_deg: float, psi_deg: float) -> FloatArray:
    """Return RELION's rotation matrix of three Euler angles, shape (3, 3).

    Parameters
    ----------
    rot_deg, tilt_deg, psi_deg
        Euler angles in degrees, as in rlnAngleRot, rlnAngleTilt and rlnAnglePsi.
    """
    rot, tilt, psi = np.deg2rad([rot_deg, tilt_deg, psi_deg])

    def about_z(angle: float) -> FloatArray:
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])

    cos, sin = math.cos(tilt), math.sin(tilt)
    about_y = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    return np.asarray(about_z(psi) @ about_y @ about_z(rot))


def draw_orientations(
    rng: np.random.Generator, count: int, particle: Particle, preferred: bool
) -> FloatArray:
    """Draw orientations.

    Parameters
    ----------
    rng
        Source of randomness.
    count
        Number of orientations.
    particle
        The particle whose preferred views are used.
    preferred
        Draw around the particle's preferred views instead of evenly over the sphere.

    Returns
    -------
    ndarray
        (rot, tilt, psi) in degrees, shape (count, 3); tilt is within 0 to 180.
    """
    rot, psi = rng.uniform(-180.0, 180.0, (2, count))
    tilt = np.rad2deg(np.arccos(rng.uniform(-1.0, 1.0, count)))
    if preferred:
        shares = np.array([view.share for view in particle.views])
        chosen = rng.choice(len(shares), size=count, p=shares / shares.sum())
        spread = rng.normal(scale=VIEW_SPREAD_DEG, size=(2, count))
        for index, which in enumerate(chosen):
            view = particle.views[which]
            tilt[index] = view.tilt_deg + spread[0, index]
            if view.rot_deg is not None:
                rot[index] = view.rot_deg + spread[1, index]
        # A tilt beyond a pole is the same view from the other side.
        rot = np.where((tilt < 0.0) | (tilt > 180.0), rot + 180.0, rot)
        psi = np.where((tilt < 0.0) | (tilt > 180.0), psi + 180.0, psi)
        tilt = 180.0 - np.abs(180.0 - np.abs(tilt))
    wrapped = [(angle + 180.0) % 360.0 - 180.0 for angle in (rot, psi)]
    return np.stack([wrapped[0], tilt, wrapped[1]], axis=1)


def add_projection(
    field: Image,
    blobs: GaussianBlobs,
    angles_deg: FloatArray,
    xy_px: FloatArray,
    pixel_size_angstrom: float,
    scale: float = 1.0,
) -> None:
    """Add a particle's projection, averaged over each pixel, to a field in place.

    An isotropic Gaussian projects to an isotropic Gaussian, and its mean over a pixel is a
    product of two differences of error functions: the sum is exact at any pixel size.

    Parameters
    ----------
    field
        Projected density per square angstrom, shape (height, width), changed in place. Parts
        outside the field are dropped.
    blobs
        The particle.
    angles_deg
        (rot, tilt, psi), shape (3,).
    xy_px
        Position of the particle's origin, (x, y) in pixels of `field`, shape (2,).
    pixel_size_angstrom
        Sampling of `field`, angstrom per pixel.
    scale
        Factor on the density.
    """
    matrix = euler_matrix(*(float(angle) for angle in angles_deg))
    places = blobs.positions @ matrix[:2].T / pixel_size_angstrom + xy_px
    sigmas = blobs.sigmas / pixel_size_angstrom
    low = np.floor((places - REACH_SIGMAS * sigmas[:, None]).min(axis=0)).astype(int)
    high = np.ceil((places + REACH_SIGMAS * sigmas[:, None]).max(axis=0)).astype(int) + 1
    low = np.maximum(low, 0)
    high = np.minimum(high, field.shape[::-1])
    if np.any(high <= low):
        return
    columns, rows = (
        _pixel_means(places[:, axis], sigmas, int(low[axis]), int(high[axis])) for axis in (0, 1)
    )
    weights = blobs.weights * (scale / pixel_size_angstrom**2)
    field[low[1] : high[1], low[0] : high[0]] += rows.T @ (weights[:, None] * columns)


def _pixel_means(centers: FloatArray, sigmas: FloatArray, low: int, high: int) -> FloatArray:
    """Integrate 1-D Gaussians over the pixels low to high - 1, shape (n, high - low)."""
    edges = np.arange(low, high + 1) - 0.5
    scaled = (edges[None, :] - centers[:, None]) / (math.sqrt(2.0) * sigmas[:, None])
    return np.asarray(0.5 * np.diff(erf(scaled), axis=1))
