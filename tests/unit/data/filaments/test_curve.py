from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.filaments.curve import fit_curve
from heliodor.data.filaments.geometry import direction_angle_deg

RADIUS = 400.0


def arc_of_circle(count: int, span: float = 1.2) -> np.ndarray:
    angles = np.linspace(0, span, count)
    return RADIUS * np.column_stack([np.cos(angles), np.sin(angles)])


@given(st.integers(9, 40), st.floats(3, 60))
def test_points_on_a_circle_give_the_circle_back(count, spacing):
    curve = fit_curve(arc_of_circle(count))
    assert curve.length_px == pytest.approx(1.2 * RADIUS, abs=0.15)
    points = curve.resample(spacing)
    np.testing.assert_allclose(np.hypot(*points.T), RADIUS, atol=0.2)
    steps = np.hypot(*np.diff(points, axis=0).T)
    assert np.ptp(steps) < 0.05
    assert steps.max() <= spacing * (1 + 1e-6)
    np.testing.assert_allclose(points[[0, -1]], arc_of_circle(count)[[0, -1]], atol=1e-9)


def test_directions_and_curvature_on_a_circle():
    curve = fit_curve(arc_of_circle(20))
    along = np.linspace(0.2, 0.8, 7) * curve.length_px
    tangent = np.degrees(along / RADIUS) + 90
    np.testing.assert_allclose(direction_angle_deg(curve.directions(along)), tangent, atol=0.1)
    np.testing.assert_allclose(curve.curvatures(along), 1 / RADIUS, rtol=0.05)


@given(st.floats(-180, 180), st.floats(10, 900), st.integers(2, 6))
def test_a_line_stays_a_line(angle, length, count):
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    axis = np.linspace(0, length, count)[:, None] * direction + [7.0, -3.0]
    curve = fit_curve(axis)
    assert curve.length_px == pytest.approx(length, rel=1e-9)
    along = np.array([0.0, 0.31 * length, length])
    np.testing.assert_allclose(
        curve.locate(along), along[:, None] * direction + [7, -3], atol=1e-6
    )
    np.testing.assert_allclose(curve.directions(along), [direction] * 3, atol=1e-6)


def test_smoothing_averages_the_inaccuracy_of_clicks():
    rng = np.random.default_rng(3)
    clicked = arc_of_circle(40) + rng.normal(scale=3.0, size=(40, 2))
    away = [
        np.abs(np.hypot(*fit_curve(clicked, smoothing).resample(2.0).T) - RADIUS).mean()
        for smoothing in (0.0, 3.0)
    ]
    assert away[1] < 0.6 * away[0]


def test_repeated_points_count_once():
    axis = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0], [5.0, 0.0]])
    assert fit_curve(axis).length_px == pytest.approx(5)
    with pytest.raises(ValueError, match="two different points"):
        fit_curve(axis[:2])


def test_a_curve_that_turns_back_has_a_direction_everywhere():
    curve = fit_curve(np.array([[0.3, 3.8], [0.3, 0.8], [0.3, 3.8]]))
    along = np.array([0.0, 0.5 * curve.length_px, curve.length_px])
    np.testing.assert_allclose(curve.directions(along), [[0, -1], [0, -1], [0, 1]], atol=1e-9)
    assert np.isinf(curve.curvatures(along)[1])
