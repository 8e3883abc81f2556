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
    assert 1.0 < valley < 3.2


@pytest.mark.parametrize("seed", range(8))
def test_one_group_has_none(seed: int) -> None:
    assert find_valley(SCORE, above(normal(2.0, 1.5, 400, seed)), -1.0) is None


def test_what_is_below_the_lowest_is_no_group() -> None:
    picks = above(normal(0.0, 0.6, 80), normal(4.0, 0.6, 60, 1))
    valley = find_valley(SCORE, picks, 0.0)
    assert valley is not None
    assert find_valley(SCORE, picks, valley) is None


def test_a_few_far_above_the_others_are_no_group() -> None:
    most = normal(0.0, 0.5, 300)
    assert find_valley(SCORE, above(most, np.full(20, 5.0)), -1.0) is None
    assert find_valley(SCORE, above(most, np.full(60, 5.0)), -1.0) is not None


def test_nothing_above_the_lowest_is_no_valley() -> None:
    assert find_valley(SCORE, np.zeros(len(SCORE)), 0.0) is None
    assert find_valley(SCORE, above(normal(2.0, 1.0, 50)), 7.9) is None
