"""Maps of filaments as a network might make them, from true axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.data.filaments.curve import fit_curve
from heliodor.models.filament_maps import FilamentMaps


def make_maps(
    axes_px: Sequence[FloatArray],
    shape: tuple[int, int],
    width_px: float,
    points_per_width: float = 4.0,
    noise: float = 0.0,
    blobs: int = 0,
    seed: int = 0,
) -> FilamentMaps:
    """Return maps of filaments with these axes.

    Parameters
    ----------
    shape
        (height, width) of the micrograph in pixels.
    points_per_width
        Points of the lattice along the width of a filament.
    noise
        Standard deviation of the log-odds, which is the same over half a width; angles and
        offsets get noise in proportion.
    blobs
        False spots, as of particles or contaminants, as wide as a filament.
    """
    rng = np.random.default_rng(seed)
    spacing = width_px / points_per_width
    height, width = (max(2, round(side / spacing)) for side in shape)
    first = 0.5 * spacing - 0.5
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns, rows], axis=-1).reshape(-1, 2) * spacing + first
    axis = np.full(len(points), -7.0)
    double, offset = np.zeros((2, len(points))), np.zeros((2, len(points)))
    nearest = np.full(len(points), np.inf)
    for one in axes_px:
        curve = fit_curve(np.asarray(one, dtype=float))
        along = np.linspace(0.0, curve.length_px, max(2, round(4 * curve.length_px / spacing)))
        places, directions = curve.locate(along), curve.directions(along)
        distance, index = cKDTree(places).query(points)
        angle = np.arctan2(*directions[index].T[::-1])
        share = np.exp(-0.5 * (distance / spacing) ** 2)
        double += share * np.stack([np.cos(2 * angle), np.sin(2 * angle)])
        closer = distance < nearest
        offset[:, closer] = (places[index] - points)[closer].T
        nearest[closer] = distance[closer]
        axis = np.maximum(axis, 4.0 * (1.0 - (distance / (0.55 * spacing)) ** 2))
    axis = np.clip(axis, -7.0, 6.0)
    for x, y in rng.uniform(0, 1, (blobs, 2)) * np.array([shape[1], shape[0]]):
        distance = np.hypot(*(points - (x, y)).T)
        axis = np.maximum(axis, 3.0 - 6.0 * distance / width_px)
    lattice = (height, width)
    if noise:
        axis = axis + _blurred(rng, lattice, points_per_width / 2, noise).ravel()
        for each in (double[0], double[1]):
            each += _blurred(rng, lattice, points_per_width / 2, 0.1 * noise).ravel()
        for each in (offset[0], offset[1]):
            each += _blurred(rng, lattice, 1.0, 0.08 * noise * spacing).ravel()
    return FilamentMaps(
        axis.reshape(lattice),
        double.reshape(2, *lattice),
        np.clip(offset, -2 * spacing, 2 * spacing).reshape(2, *lattice),
        None,
        (first, first),
        spacing,
    )


def _blurred(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float, deviation: float
) -> FloatArray:
    noise = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(deviation * noise / noise.std())
