from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.formats.filament_columns import PSI_PRIOR, TRACK_LENGTH, TUBE
from heliodor.data.coordinates.frame_detection import Frame
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.segments import FLIP_RATIO, TILT_PRIOR, cut_segments
from heliodor.errors import BadInput


def table(*axes, pixel_size: float | None = 2.0) -> Filaments:
    own = tuple(Filament("a.mrc", np.array(axis, float), 3 + i) for i, axis in enumerate(axes))
    return Filaments(("a.mrc", "b.mrc"), own, {"a.mrc": pixel_size} if pixel_size else {})


def test_a_straight_tube_has_the_segments_that_relion_computes():
    """As convertHelicalTubeCoordsToMetaDataTable does, step by step."""
    start, end, spacing = np.array([100.0, 200.0]), np.array([400.0, 50.0]), 57.0
    picks = cut_segments(table([start, end]), spacing)
    psi = np.arctan2(*(end - start)[::-1])
    step = spacing / 2.0 * np.array([np.cos(psi), np.sin(psi)])
    place, expected = start - 0.99 * step, []
    while (place := place + step)[0] <= end[0]:
        expected.append(place)
    np.testing.assert_allclose(picks.xy_px, expected, atol=1e-6)
    np.testing.assert_allclose(picks.extra[PSI_PRIOR], -np.degrees(psi))
    np.testing.assert_allclose(picks.extra[TRACK_LENGTH], spacing * np.arange(len(expected)))
    assert {*picks.extra[TILT_PRIOR]} == {90.0}
    assert {*picks.extra[FLIP_RATIO]} == {0.5}
    assert {*picks.extra[TUBE]} == {3}
    assert picks.micrographs == ("a.mrc", "b.mrc")


@given(st.integers(12, 40), st.floats(10, 80))
def test_segments_of_a_bent_filament_follow_its_tangent(count, spacing):
    angles = np.linspace(0, 1.0, count)
    axis = 1000 + 600 * np.column_stack([np.cos(angles), np.sin(angles)])
    picks = cut_segments(table(axis), spacing)
    place = picks.xy_px - 1000
    np.testing.assert_allclose(np.hypot(*place.T), 600, atol=0.1)
    tangent = np.degrees(np.arctan2(place[:, 1], place[:, 0])) + 90
    np.testing.assert_allclose(picks.extra[PSI_PRIOR], -tangent, atol=0.5)
    steps = np.hypot(*np.diff(place, axis=0).T)
    np.testing.assert_allclose(steps, spacing / 2.0, rtol=0.01)


@pytest.mark.parametrize(
    ("frame", "mirrored"),
    [
        (Frame(flip_x=True), lambda psi: 180 - psi),
        (Frame(flip_y=True), lambda psi: -psi),
        (Frame(flip_x=True, flip_y=True), lambda psi: psi + 180),
        (Frame(swap=True), lambda psi: -90 - psi),
        (Frame(scale=0.5), lambda psi: psi),
    ],
)
def test_mirrors_and_swaps_change_psi_as_they_change_the_image(frame, mirrored):
    axis = np.array([[100.0, 200.0], [500.0, 260.0]])
    before = cut_segments(table(axis), 40.0)
    moved = table(frame.apply(axis, (700, 700)))
    after = cut_segments(moved, 40.0 * frame.scale)
    np.testing.assert_allclose(after.xy_px, frame.apply(before.xy_px, (700, 700)), atol=1e-6)
    wanted = mirrored(before.extra[PSI_PRIOR])
    turn = (after.extra[PSI_PRIOR] - wanted + 180) % 360 - 180
    np.testing.assert_allclose(turn, 0, atol=1e-6)


def test_scores_between_points_are_interpolated():
    axis = np.array([[0.0, 0.0], [100.0, 0.0]])
    one = Filament("a.mrc", axis, 1, point_scores=np.array([0.0, 10.0]))
    picks = cut_segments(Filaments(("a.mrc",), (one,), {"a.mrc": 1.0}), 50.0)
    np.testing.assert_allclose(picks.score, [0.05, 5.05])


def test_spacing_needs_a_pixel_size():
    axis = [[0.0, 0.0], [100.0, 0.0]]
    with pytest.raises(BadInput, match=r"pixel size of a\.mrc is unknown"):
        cut_segments(table(axis, pixel_size=None), 10.0)
    with pytest.raises(BadInput, match="above 0"):
        cut_segments(table(axis), 0.0)
