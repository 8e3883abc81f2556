from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.picks import Picks

rows = st.lists(
    st.tuples(
        st.sampled_from(["a.mrc", "A/b.mrc", "B/b.mrc", "000012", "ü x.mrc"]),
        st.floats(0, 4096),
        st.floats(0, 4096),
        st.floats(-20, 20) | st.just(float("nan")),
    ),
    max_size=12,
)


def table(entries, extra=True):
    xy = np.array([[x, y] for _, x, y, _ in entries], dtype=float).reshape(-1, 2)
    score = np.array([s for *_, s in entries], dtype=float)
    number = {"number": np.arange(len(entries))} if extra else None
    return Picks.from_columns([name for name, *_ in entries], xy, score, number)


def as_rows(picks):
    columns = (picks.names(), picks.xy_px.tolist(), picks.score.tolist())
    return [(name, x, y, repr(s)) for name, (x, y), s in zip(*columns, strict=True)]


tables = rows.map(table)


@given(rows)
def test_from_columns_keeps_every_row_in_order(entries):
    picks = table(entries)
    assert as_rows(picks) == [(name, x, y, repr(s)) for name, x, y, s in entries]
    assert picks.micrographs == tuple(dict.fromkeys(name for name, *_ in entries))
    assert len(picks) == len(entries) == picks.counts().sum()
    assert picks.xy_px.shape == (len(entries), 2)


@given(st.lists(tables, max_size=4))
def test_concatenate_appends_rows_and_lists_each_micrograph_once(parts):
    joined = Picks.concatenate(iter(parts))
    assert as_rows(joined) == [row for part in parts for row in as_rows(part)]
    assert list(joined.micrographs) == list(
        dict.fromkeys(name for part in parts for name in part.micrographs)
    )
    if parts:
        numbers = np.concatenate([part.extra["number"] for part in parts])
        np.testing.assert_array_equal(joined.extra["number"], numbers)
    else:
        assert len(joined) == 0


@given(tables, tables, tables)
def test_concatenate_is_associative(a, b, c):
    left = Picks.concatenate([Picks.concatenate([a, b]), c])
    right = Picks.concatenate([a, Picks.concatenate([b, c])])
    assert as_rows(left) == as_rows(right)
    assert left.micrographs == right.micrographs


@given(tables)
def test_by_micrograph_and_concatenate_undo_each_other(picks):
    parts = dict(picks.split_by_micrograph())
    assert list(parts) == list(picks.micrographs)
    np.testing.assert_array_equal([len(part) for part in parts.values()], picks.counts())
    for name, part in parts.items():
        assert as_rows(part) == [row for row in as_rows(picks) if row[0] == name]
        chosen = np.array(picks.names(), dtype=object) == name
        np.testing.assert_array_equal(part.extra["number"], picks.extra["number"][chosen])
    again = Picks.concatenate(parts.values())
    assert sorted(as_rows(again)) == sorted(as_rows(picks))
    assert again.micrographs == picks.micrographs


@given(tables, st.data())
def test_select_by_mask_and_by_position(picks, data):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(picks), max_size=len(picks))))
    mask = mask.astype(bool)
    chosen = picks.select(mask)
    assert as_rows(chosen) == [r for r, keep in zip(as_rows(picks), mask, strict=True) if keep]
    assert chosen.micrographs == picks.micrographs
    assert as_rows(picks.select(np.flatnonzero(mask))) == as_rows(chosen)
    backwards = np.arange(len(picks))[::-1]
    assert as_rows(picks.select(backwards)) == as_rows(picks)[::-1]


def test_micrographs_without_picks_stay_listed():
    empty = Picks.empty(["a", "b"])
    joined = Picks.concatenate([empty, Picks.on("c", np.ones((2, 2)))])
    assert joined.micrographs == ("a", "b", "c")
    np.testing.assert_array_equal(joined.counts(), [0, 0, 2])
    assert [len(part) for _, part in joined.split_by_micrograph()] == [0, 0, 2]
    assert Picks.on("a", np.zeros((0, 2))).micrographs == ("a",)
    assert list(Picks.empty().split_by_micrograph()) == []


def test_unknown_scores_are_nan():
    assert np.isnan(Picks.on("a", np.ones((2, 2))).score).all()


def test_a_column_that_one_table_lacks_is_filled_with_none():
    a, b = table([("a", 1, 2, 0.0)]), table([("b", 3, 4, 0.0)], extra=False)
    assert Picks.concatenate([a, b]).extra["number"].tolist() == [0, None]


def test_a_table_without_picks_does_not_change_the_type_of_a_column():
    joined = Picks.concatenate([Picks.empty(["z"]), table([("a", 1, 2, 0.0)])])
    assert joined.extra["number"].dtype.kind == "i"
    assert joined.extra["number"].tolist() == [0]


@pytest.mark.parametrize(
    ("micrographs", "index", "xy", "score"),
    [
        (("a",), [0], np.zeros((2, 2)), np.zeros(2)),
        (("a",), [0], np.zeros((1, 3)), np.zeros(1)),
        (("a",), [0], np.zeros((1, 2)), np.zeros(2)),
        (("a", "a"), [0], np.zeros((1, 2)), np.zeros(1)),
        (("a",), [1], np.zeros((1, 2)), np.zeros(1)),
        (("a",), [-1], np.zeros((1, 2)), np.zeros(1)),
        ((), [0], np.zeros((1, 2)), np.zeros(1)),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(micrographs, index, xy, score):
    with pytest.raises(ValueError, match=r"picks need|every column|twice|a pick is on"):
        Picks(micrographs, np.array(index, np.intp), xy, score)


def test_an_extra_column_of_another_length_is_refused():
    with pytest.raises(ValueError, match="same length"):
        Picks.from_columns(["a"], np.zeros((1, 2)), None, {"k": np.zeros(2)})
