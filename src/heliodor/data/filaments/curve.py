"""Smooth curves through the points of an axis, with positions and directions at any distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline, splprep

from heliodor.conventions import FloatArray
from heliodor.data.filaments.geometry import measure_arc, remove_repeated_points

#: Points between two points of the axis at which the arc length is integrated.
SAMPLES_PER_EDGE = 32


@dataclass(frozen=True)
class AxisCurve:
    """A curve parametrized by the distance along it, in pixels; see `fit_curve`."""

    #: A spline of (x, y) in its own parameter.
    _spline: Any
    #: Values of the spline's parameter, increasing, and the distance from the start at each.
    _parameters: FloatArray
    _arc_px: FloatArray

    @property
    def length_px(self) -> float:
        """Length of the curve in pixels."""
        return float(self._arc_px[-1])

    def locate(self, along_px: FloatArray) -> FloatArray:
        """Return the points (x, y) at distances from the start, shape (m, 2)."""
        return np.asarray(self._spline(self._parameter_at(along_px)))

    def directions(self, along_px: FloatArray) -> FloatArray:
        """Return the directions (x, y) of the curve at distances from the start, length 1.

        Where the curve turns back at a point, it is the direction in which it arrives there.
        """
        parameters = self._parameter_at(along_px)
        slopes = np.asarray(self._spline(parameters, 1))
        still = np.hypot(*slopes.T) == 0.0
        if still.any():
            step = 1e-3 * (self._parameters[-1] - self._parameters[0])
            there = np.maximum(parameters[still], self._parameters[0] + step)
            slopes[still] = self._spline(there) - self._spline(there - step)
        return np.asarray(slopes / np.hypot(*slopes.T)[:, None])

    def curvatures(self, along_px: FloatArray) -> FloatArray:
        """Return the curvature (1 / radius in pixels) at distances from the start, shape (m,).

        It is infinite where the curve turns back at a point.
        """
        parameters = self._parameter_at(along_px)
        dx, dy = np.asarray(self._spline(parameters, 1)).T
        ddx, ddy = np.asarray(self._spline(parameters, 2)).T
        speed = np.hypot(dx, dy)
        curvature = np.full(len(speed), np.inf)
        across = np.abs(dx * ddy - dy * ddx)
        return np.asarray(np.divide(across, speed**3, out=curvature, where=speed > 0.0))

    def resample(self, spacing_px: float) -> FloatArray:
        """Return points at equal distances along the curve, its ends among them.

        Parameters
        ----------
        spacing_px
            The largest distance between neighbors.
        """
        count = max(1, int(np.ceil(self.length_px / spacing_px - 1e-9)))
        return self.locate(np.linspace(0.0, self.length_px, count + 1))

    def _parameter_at(self, along_px: FloatArray) -> FloatArray:
        return np.interp(along_px, self._arc_px, self._parameters)


def fit_curve(axis_px: FloatArray, smoothing_px: float = 0.0) -> AxisCurve:
    """Fit a cubic spline to the points of an axis.

    Parameters
    ----------
    axis_px
        Points (x, y) from the start to the end, shape (n, 2); repeated points count once.
    smoothing_px
        Usual distance of the points from the true axis, such as the inaccuracy of clicks. With 0
        the curve passes through every point; two points give a straight line.

    Raises
    ------
    ValueError
        If there are fewer than two different points.
    """
    axis = remove_repeated_points(np.asarray(axis_px, dtype=np.float64))
    if len(axis) < 2:
        raise ValueError("an axis needs two different points")
    chords = measure_arc(axis)
    spline = CubicSpline(chords, axis)
    if smoothing_px > 0.0 and len(axis) > 3:
        knots, _ = splprep(axis.T, u=chords, s=len(axis) * smoothing_px**2)
        spline = _combine(knots, chords)
    edges = np.linspace(chords[:-1], chords[1:], SAMPLES_PER_EDGE, endpoint=False, axis=1)
    parameters = np.append(edges.ravel(), chords[-1])
    # Gauss and Legendre's two points are exact for cubic speeds.
    steps, middles = np.diff(parameters), 0.5 * (parameters[:-1] + parameters[1:])
    offset = steps / np.sqrt(12.0)
    speeds = [np.hypot(*spline(middles + sign * offset, 1).T) for sign in (-1, 1)]
    arc = np.concatenate([[0.0], np.cumsum(0.5 * steps * (speeds[0] + speeds[1]))])
    return AxisCurve(spline, parameters, arc)


def _combine(knots: Any, chords: FloatArray) -> Any:
    """Return the spline of `splprep` as one function of its parameter, like a CubicSpline."""
    from scipy.interpolate import BSpline

    places, coefficients, degree = knots
    return BSpline(places, np.column_stack(coefficients), degree)
