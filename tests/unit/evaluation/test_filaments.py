from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import measure_length, split_axis
from heliodor.errors import BadInput
from heliodor.evaluation.filaments import FilamentEvaluation, evaluate_filaments

WIDTH, PIXEL = 80.0, 4.0  # axes match within 5 pixels
LINE = np.array([[10.0, 100.0], [210.0, 100.0]])


def table(*axes: np.ndarray, name: str = "a", width: float = WIDTH) -> Filaments:
    return Filaments(
        (name,),
        tuple(Filament(name, np.asarray(axis, float), n, width) for n, axis in enumerate(axes)),
    )


def compare(found: Filaments, truth: Filaments, **more: object) -> FilamentEvaluation:
    return evaluate_filaments(found, truth, {"a": PIXEL, "b": PIXEL}, **more)  # type: ignore[arg-type]


@st.composite
def bent(draw):
    """An axis that bends by at most 20 degrees at a point, so that it does not meet itself."""
    angles = np.cumsum(draw(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=5)))
    steps = 60 * np.column_stack([np.cos(angles), np.sin(angles)])
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]) + np.array([50.0, 400.0])


@settings(max_examples=40)
@given(bent())
def test_the_truth_is_perfect(axis):
    result = compare(table(axis[::-1]), table(axis))
    assert result.precision == pytest.approx(1)
    assert result.recall == pytest.approx(1)
    assert result.f1 == pytest.approx(1)
    assert result.pieces == 1
    assert result.median_angle_error_deg == pytest.approx(0, abs=1e-6)
    assert result.median_distance_angstrom == pytest.approx(0, abs=1e-6)
    (row,) = result.micrographs
    assert row.truth == pytest.approx(measure_length(axis) * PIXEL)


@settings(max_examples=40)
@given(bent(), st.floats(0.2, 0.8))
@example(np.linspace([50.0, 400.0], [349.96337965, 404.68730927], 6), 0.2)
def test_a_part_lacks_recall_and_not_precision(axis, share):
    part = split_axis(axis, np.array([share * measure_length(axis)]))[0]
    result = compare(table(part), table(axis))
    assert result.precision == pytest.approx(1, abs=1e-6)
    # The truth is found a little beyond the end of the part.
    extra = 5 / measure_length(axis)
    assert share - 0.02 <= result.recall <= share + extra + 0.02
    turned = compare(table(axis), table(part))
    assert turned.recall == pytest.approx(1, abs=1e-6)
    assert share - 0.02 <= turned.precision <= share + extra + 0.02


@settings(max_examples=30)
@given(bent(), st.lists(st.floats(0.15, 0.85), max_size=2, unique=True))
def test_cuts_change_only_the_number_of_pieces(axis, shares):
    if len(shares) == 2 and abs(shares[0] - shares[1]) < 0.2:
        shares = shares[:1]
    length = measure_length(axis)
    pieces = split_axis(axis, np.array(shares) * length)
    result = compare(table(*pieces), table(axis))
    assert result.precision == pytest.approx(1, abs=1e-6)
    assert result.recall == pytest.approx(1, abs=1e-6)
    long = [piece for piece in pieces if measure_length(piece) > 25]
    if len(long) == len(pieces):
        assert result.pieces == len(pieces)


@pytest.mark.parametrize(("shift", "matches"), [(4.9, True), (5.1, False)])
def test_the_distance_is_a_quarter_of_the_width(shift, matches):
    result = compare(table(LINE + np.array([0, shift])), table(LINE))
    assert (result.precision, result.recall) == ((1, 1) if matches else (0, 0))
    if matches:
        assert result.median_distance_angstrom == pytest.approx(shift * PIXEL)
    given = compare(table(LINE + np.array([0, shift])), table(LINE), distance_angstrom=24.0)
    assert given.recall == 1


def test_a_filament_found_twice_counts_once():
    result = compare(table(LINE, LINE + np.array([0, 2])), table(LINE))
    assert result.precision == pytest.approx(0.5)
    assert result.recall == 1
    assert result.pieces == 2


def test_a_crossing_filament_is_wrong_also_where_they_cross():
    across = np.array([[100.0, 0.0], [100.0, 200.0]])
    result = compare(table(across), table(LINE))
    assert (result.precision, result.recall) == (0, 0)
    both = compare(table(across, LINE), table(LINE, across))
    assert (both.precision, both.recall, both.pieces) == (1, 1, 1)


def test_the_angle_error_is_measured():
    tilted = 110 + (LINE - 110) @ np.array([[1, np.tan(np.radians(2))], [0, 1]])
    result = compare(table(tilted), table(LINE), distance_angstrom=40.0)
    assert result.median_angle_error_deg == pytest.approx(2, abs=0.01)


def test_micrographs():
    truth = table(LINE)
    elsewhere = table(LINE, name="b")
    none = compare(elsewhere, truth)
    assert none.recall == 0
    assert np.isnan(none.precision)
    assert none.ignored_micrographs == 1
    asked = compare(elsewhere, truth, micrographs=["a", "b"])
    assert (asked.precision, asked.recall, asked.ignored_micrographs) == (0, 0, 0)
    assert asked.as_dict()["pieces"] is None
    assert asked.as_dict()["micrographs"][1]["found"] == pytest.approx(800)
    empty = compare(Filaments((), ()), truth)
    assert empty.recall == 0


def test_what_is_unknown_is_asked_for():
    with pytest.raises(BadInput, match="--match-distance"):
        compare(table(LINE), table(LINE, width=np.nan))
    with pytest.raises(BadInput, match="--pixel-size"):
        evaluate_filaments(table(LINE), table(LINE), {})
    with pytest.raises(BadInput, match="above 0"):
        compare(table(LINE), table(LINE), distance_angstrom=-1.0)
