"""The profile across filaments on a micrograph, and the width that it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates

from heliodor.conventions import FloatArray, Image
from heliodor.data.filaments.curve import fit_curve

#: How far the profile reaches on both sides, and the distance between its points, in widths.
REACH_WIDTHS, STEP_WIDTHS = 1.5, 1.0 / 16.0
#: The background is what is beyond this, in widths from the axis.
BACKGROUND_WIDTHS = 1.0
#: Standard deviation of the Gaussian that smooths the profile, in widths.
SMOOTHING_WIDTHS = 1.0 / 16.0
#: Shares of the largest depth: of the outermost part of a filament, and of its edge.
WALL_DEPTH, EDGE_DEPTH = 0.25, 0.1
#: The profile must be as many times deeper than the background varies.
LEAST_DEPTH = 4.0


def profile_positions() -> FloatArray:
    """Return the positions of the points of a profile, in widths from the axis."""
    half = round(REACH_WIDTHS / STEP_WIDTHS)
    return np.asarray(np.arange(-half, half + 1) * STEP_WIDTHS, dtype=np.float64)


def measure_profile(image: Image, axes_px: Sequence[FloatArray], width_px: float) -> FloatArray:
    """Return the mean density across straightened filaments.

    Parameters
    ----------
    image
        The micrograph, shape (h, w).
    axes_px
        Axes (x, y) of filaments in its pixels.
    width_px
        Width of the filaments in pixels.

    Returns
    -------
    ndarray
        At `profile_positions`; nan where there is no filament.
    """
    positions = np.asarray(profile_positions() * width_px)
    total, count = np.zeros(len(positions)), 0
    for axis in axes_px:
        curve = fit_curve(axis)
        number = max(1, math.ceil(curve.length_px))
        along = np.asarray((np.arange(number) + 0.5) * (curve.length_px / number))
        directions = curve.directions(along)
        normals = np.column_stack([-directions[:, 1], directions[:, 0]])
        places = curve.locate(along)[:, None] + positions[None, :, None] * normals[:, None]
        values = map_coordinates(
            image, [places[..., 1], places[..., 0]], np.float64, order=1, mode="nearest"
        )
        total += values.sum(axis=0)
        count += number
    return total / count if count else np.full(len(positions), np.nan)


def measure_width(profile: FloatArray) -> float:
    """Return the width that a profile shows, in widths; nan if it shows none.

    It is the distance between the places where the density is almost that of the background,
    outside of the outermost parts that are clearly darker, such as the walls of a tube.

    Parameters
    ----------
    profile
        As `measure_profile` returns it; protein dark.
    """
    if np.isnan(profile).any():
        return math.nan
    positions = profile_positions()
    # Polarity and rotation about the axis are random, so both sides show the same.
    even = 0.5 * (profile + profile[::-1])
    smooth = gaussian_filter1d(even, SMOOTHING_WIDTHS / STEP_WIDTHS, mode="nearest")
    outside = np.abs(positions) >= BACKGROUND_WIDTHS
    depth = float(np.median(smooth[outside])) - smooth
    inside = np.abs(positions) < BACKGROUND_WIDTHS
    deepest = float(depth[inside].max())
    noise = float(np.std(even[outside] - smooth[outside])) + float(np.std(depth[outside]))
    if not deepest > LEAST_DEPTH * max(noise, 1e-12):
        return math.nan
    walls = inside & (positions >= 0.0) & (depth >= WALL_DEPTH * deepest)
    right = int(np.flatnonzero(walls)[-1])
    edge = EDGE_DEPTH * deepest
    while inside[right + 1] and depth[right + 1] > edge:
        right += 1
    if not inside[right + 1]:
        return math.nan
    rest = (depth[right] - edge) / (depth[right] - depth[right + 1])
    return float(2.0 * (positions[right] + rest * STEP_WIDTHS))
