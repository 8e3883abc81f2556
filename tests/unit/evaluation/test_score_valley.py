"""The valley between contaminants and particles."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.conventions import FloatArray
from heliodor.evaluation.score_valley import find_valley

SCORE = np.arange(-5.5, 8.01, 0.05)


def above(*groups: FloatArray) -> FloatArray:
    """How many of all are at or above each score."""
    every = np.sort(np.concatenate(groups))
    return np.asarray(len(every) - np.searchsorted(every, SCORE), np.float64)


def normal(mean: float, deviation: float, number: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(mean, deviation, number)


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_have_a_valley_between_them(seed: int) -> None:
    contaminants = normal(0.0, 0.6, 80, seed)
    valley = find_valley(SCORE, above(contaminants, normal(4.0, 0.6, 60, seed + 9)), -1.0)
    assert valley is not None
    assert 1.0 < valley.score < 3.2
    assert valley.certainty == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_one_group_has_none(seed: int) -> None:
    valley = find_valley(SCORE, above(normal(2.0, 1.5, 400, seed)), -1.0)
    assert valley is None or valley.certainty < 0.5


def test_the_certainty_grows_with_the_depth() -> None:
    """By little each time: one candidate more or less never decides."""
    low, high = normal(0.0, 0.6, 80), normal(4.0, 0.6, 60, 1)
    between = np.random.default_rng(3).permutation(np.linspace(0.5, 3.5, 180))
    found = [find_valley(SCORE, above(low, high, between[: 4 * n]), -1.0) for n in range(46)]
    certainty = np.array([0.0 if own is None else own.certainty for own in found])
    assert certainty[0] == 1.0
    assert certainty[-1] < 0.3
    assert np.abs(np.diff(certainty)).max() < 0.25


def test_what_is_below_the_lowest_is_no_group() -> None:
    picks = above(normal(0.0, 0.6, 80), normal(4.0, 0.6, 60, 1))
    valley = find_valley(SCORE, picks, 0.0)
    assert valley is not None
    rest = find_valley(SCORE, picks, valley.score)
    assert rest is None or rest.certainty < 0.5


def test_a_few_far_above_the_others_are_no_group() -> None:
    most = normal(0.0, 0.5, 300)
    assert find_valley(SCORE, above(most, np.full(20, 5.0)), -1.0) is None
    assert find_valley(SCORE, above(most, np.full(60, 5.0)), -1.0) is not None


def test_nothing_above_the_lowest_is_no_valley() -> None:
    assert find_valley(SCORE, np.zeros(len(SCORE)), 0.0) is None
    assert find_valley(SCORE, above(normal(2.0, 1.0, 50)), 7.9) is None
