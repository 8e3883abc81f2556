"""Scores of micrographs are moved as far as their thresholds follow from the spread of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.evaluation.score_levels import (
    FEWEST_CANDIDATES,
    FEWEST_MICROGRAPHS,
    MOST,
    LevelRule,
    measure_spread,
)


def scores_of_spread(spread: float, count: int = 101) -> np.ndarray:
    """Return scores between whose first and last tenth there is such a distance."""
    return np.linspace(-3 - 0.125 * spread, -3 + 1.125 * spread, count)


def test_the_spread_is_that_between_the_tenths() -> None:
    scores = scores_of_spread(4.0)
    assert measure_spread(scores) == pytest.approx(4.0)
    assert measure_spread(np.random.default_rng(0).permutation(scores) + 7) == pytest.approx(4.0)
    assert measure_spread(scores[: FEWEST_CANDIDATES - 1]) is None


def test_thresholds_that_follow_from_the_spread_become_equal() -> None:
    spreads = np.array([3.0, 3.5, 4.0, 5.0, 4.5])
    thresholds = -1 + 0.4 * spreads
    rule = LevelRule.fit(spreads, thresholds)
    assert rule is not None
    moved = [t + rule.level(scores_of_spread(s)) for s, t in zip(spreads, thresholds, strict=True)]
    np.testing.assert_allclose(moved, thresholds.mean(), atol=2e-3)


@given(st.integers(0, 10_000))
def test_what_is_moved_is_at_most_what_the_line_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(FEWEST_MICROGRAPHS, 20))
    spreads, thresholds = random.uniform(2, 6, count), random.normal(0, 0.5, count)
    rule = LevelRule.fit(spreads, thresholds)
    slope = np.polyfit(spreads, thresholds, 1)[0]
    if rule is None:
        return
    assert 0 < rule.slope <= slope * (1 + 1e-9)
    # The mean over the micrographs stays, and none is moved by more than there was room.
    levels = [rule.level(scores_of_spread(spread)) for spread in spreads]
    assert max(map(abs, levels)) <= MOST
    if max(map(abs, levels)) < MOST:
        assert np.mean(levels) == pytest.approx(0, abs=1e-3)
    beyond = [rule.level(scores_of_spread(spread)) for spread in (spreads.max(), 100.0)]
    assert beyond[0] == pytest.approx(beyond[1], abs=1.1e-3)


def test_thresholds_that_do_not_follow_move_nothing_on_average() -> None:
    random = np.random.default_rng(0)
    slopes = []
    for _ in range(400):
        rule = LevelRule.fit(random.uniform(3, 5, 10), random.normal(0, 0.3, 10))
        slopes.append(0.0 if rule is None else rule.slope)
    assert np.median(slopes) == 0
    assert np.mean(slopes) < 0.05


@pytest.mark.parametrize(
    ("spreads", "thresholds"),
    [
        ([3.0, 4.0, 5.0, 6.0], [0.0, 1.0, 2.0, 3.0]),
        ([3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 0.5, 0.0, -0.5, -1.0]),
        ([4.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0]),
        ([3.0, 4.0, 5.0, 6.0, 7.0], [1.0] * 5),
        ([], []),
    ],
    ids=["too few", "falling", "one spread", "one threshold", "none"],
)
def test_there_is_no_rule_without_evidence(spreads: list[float], thresholds: list[float]) -> None:
    assert LevelRule.fit(spreads, thresholds) is None


def test_scores_of_few_candidates_stay() -> None:
    rule = LevelRule.fit([3.0, 4.0, 5.0, 6.0, 7.0], [0.0, 0.5, 1.0, 1.5, 2.0])
    assert rule is not None
    assert rule.level(scores_of_spread(7.0, FEWEST_CANDIDATES - 1)) == 0
    assert rule.level(scores_of_spread(7.0)) < -0.5
