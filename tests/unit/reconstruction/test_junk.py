from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.reconstruction.junk import ClassCounts, estimate_share, pool_shares, spread_junk

#: How decoys are spread over classes, and particles.
DECOYS = np.array([0.45, 0.3, 0.15, 0.05, 0.05, 0.0])
PARTICLES = np.array([0.01, 0.01, 0.08, 0.3, 0.3, 0.3])


def classified(spread: np.ndarray, number: int) -> np.ndarray:
    """Return the classes of exactly so many images."""
    counts = np.floor(spread * number).astype(int)
    counts[-1] += number - counts.sum()
    return np.repeat(np.arange(1, len(spread) + 1), counts)


def mixed(share: float, number: int = 10_000) -> ClassCounts:
    junk = round(share * number)
    picks = np.concatenate([classified(DECOYS, junk), classified(PARTICLES, number - junk)])
    return ClassCounts.count(picks, classified(DECOYS, 5000), len(DECOYS))


@given(st.floats(0.0, 1.0))
def test_the_share_is_that_of_the_decoys_among_the_picks(share: float) -> None:
    counts = mixed(share)
    found = counts.estimate(counts.picks)
    assert found.value == pytest.approx(share, abs=0.03)
    assert 0 <= found.value <= 1
    assert found.error < 0.03


def test_classes_are_junk_where_decoys_explain_the_picks() -> None:
    counts = mixed(0.5)
    np.testing.assert_array_equal(
        counts.junk_of_each() > 0.5, [True, True, True, False, False, False]
    )
    assert counts.decoy_share >= 0.5


def test_an_empty_class_of_decoys_is_junk_and_an_empty_class_is_nothing() -> None:
    counts = ClassCounts.count(np.array([1, 1, 1]), np.array([2, 2]), 3)
    junk = counts.junk_of_each()
    assert junk[0] == 0
    assert junk[1] == 1
    assert np.isnan(junk[2])


@given(st.lists(st.integers(1, 6), min_size=1), st.lists(st.integers(1, 6), min_size=1))
def test_no_picks_and_decoys_give_an_impossible_share(picks: list[int], decoys: list[int]) -> None:
    counts = ClassCounts.count(np.array(picks), np.array(decoys), 6)
    found = counts.estimate(counts.picks)
    assert 0 <= found.value <= 1
    assert found.error > 0
    assert counts.compared.any()


def test_a_classification_into_one_class_has_failed() -> None:
    assert ClassCounts.count(np.full(100, 2), np.full(50, 2), 4).is_collapsed
    assert not mixed(0.5).is_collapsed


def test_nothing_is_known_without_picks_or_decoys() -> None:
    assert np.isnan(estimate_share(0, 0, 5, 10).value)
    assert np.isnan(estimate_share(3, 10, 0, 10).value)


def test_portions_count_by_their_picks() -> None:
    one, other = mixed(0.0, 1000), mixed(1.0, 3000)
    pooled = pool_shares([one, other], [one.picks, other.picks])
    assert pooled.value == pytest.approx(0.75, abs=0.02)
    empty = np.zeros(6)
    assert pool_shares([one, other], [one.picks, empty]).value == pytest.approx(
        one.estimate(one.picks).value
    )
    assert np.isnan(pool_shares([one], [empty]).value)


def test_junk_is_spread_over_the_classes_as_decoys_are() -> None:
    picks, decoys = np.array([100.0, 50.0, 10.0, 0.0, 0.0]), np.array([0.0, 20.0, 10.0, 10.0, 0.0])
    found = spread_junk(picks, decoys, 0.25)
    # 40 of 160 picks are junk, one for each decoy.
    np.testing.assert_allclose(found, [0.0, 0.4, 1.0, 1.0, np.nan])
