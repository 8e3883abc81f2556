from __future__ import annotations

import numpy as np
import pytest

from heliodor.data.filaments.filament import Filament, Filaments, from_points, to_points

AXIS = np.array([[0.0, 0.0], [30.0, 40.0], [60.0, 40.0]])


def test_length_score_and_reversal():
    one = Filament("a", AXIS, 1, point_scores=np.array([1.0, np.nan, 4.0]))
    assert one.length_px == pytest.approx(80)
    assert one.score == pytest.approx(2.5)
    back = one.reverse()
    np.testing.assert_array_equal(back.axis_px, AXIS[::-1])
    np.testing.assert_array_equal(back.scores, [4, np.nan, 1])
    assert np.isnan(one.with_axis(AXIS[:2]).score)


@pytest.mark.parametrize(
    "axis", [AXIS[:1], AXIS[[0, 0, 1]], AXIS * np.nan, np.zeros((3, 3))], ids=str
)
def test_what_is_not_an_axis_is_refused(axis):
    with pytest.raises(ValueError, match="filament"):
        Filament("a", axis, 1)


def test_points_and_back():
    table = Filaments(
        ("b", "a"),
        (
            Filament("a", AXIS, 7, 250.0, np.array([0.5, 1.0, np.nan]), 64.0),
            Filament("a", AXIS + 5, 2),
        ),
        {"a": 1.5},
        {"a": (300, 200)},
    )
    back = from_points(to_points(table))
    assert back.micrographs == ("b", "a")
    assert back.pixel_sizes == {"a": 1.5}
    assert back.shapes == {"a": (300, 200)}
    for one, other in zip(table, back, strict=True):
        np.testing.assert_array_equal(one.axis_px, other.axis_px)
        np.testing.assert_array_equal(one.scores, other.scores)
        assert (one.micrograph, one.tube_id) == (other.micrograph, other.tube_id)
        np.testing.assert_equal(
            (one.width_angstrom, one.box_px), (other.width_angstrom, other.box_px)
        )
    assert len(from_points(to_points(Filaments(("a",), ())))) == 0


def test_identities_stay_different_when_tables_are_joined():
    one = Filaments(("a",), (Filament("a", AXIS, 1), Filament("a", AXIS, 2)))
    other = Filaments(("a", "b"), (Filament("a", AXIS, 2), Filament("b", AXIS, 2)))
    joined = Filaments.concatenate([one, other])
    assert [(f.micrograph, f.tube_id) for f in joined] == [
        ("a", 1), ("a", 2), ("a", 3), ("b", 2),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="same identity"):
        Filaments(("a",), (*one.filaments, *one.filaments))


def test_a_filament_outside_is_cut_off_and_one_inside_is_not_touched():
    inside = Filament("a", AXIS + 10, 1, point_scores=np.ones(3))
    leaves = Filament("a", np.array([[50.0, 50.0], [150.0, 50.0], [50.0, 60.0]]), 2)
    away = Filament("a", AXIS + 500, 3)
    table = Filaments(("a",), (inside, leaves, away), shapes={"a": (100, 100)})
    kept = table.crop()
    assert [one.tube_id for one in kept] == [1, 2, 3]
    assert kept.filaments[0] is inside
    np.testing.assert_allclose(kept.filaments[1].axis_px, [[50, 50], [99, 50]])
