"""The threshold and the probabilities that labels alone support, on scores of known origin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.evaluation.calibration import Calibration, CalibrationCurve
from heliodor.evaluation.label_threshold import (
    STEP,
    LabelEstimate,
    combine_with_labels,
    estimate_from_labels,
)
from heliodor.evaluation.score_histogram import ScoreCounts


def drawn(seed: int, labels: int = 60, particles: int = 400, height: float = 1.5):
    """Return the scores of labels and of all candidates, and which of these are particles."""
    rng = np.random.default_rng(seed)
    own = rng.normal(height, 1.0, particles)
    scores = np.concatenate([own, rng.normal(-3.0, 1.2, 3000)])
    return rng.choice(own, labels, replace=False), scores, np.arange(len(scores)) < particles


def f1_at(scores, truth, threshold):
    picked = scores >= threshold
    return 2 * (picked & truth).sum() / (picked.sum() + truth.sum())


def estimate(labels, scores) -> LabelEstimate:
    found = estimate_from_labels(labels, ScoreCounts.from_scores(scores))
    assert found is not None
    return found


# The same examples each time: labels are drawn at random, and a rare draw is worse.
@given(seed=st.integers(0, 500), labels=st.integers(30, 200), height=st.floats(0.0, 4.0))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_f1_is_near_the_highest(seed, labels, height):
    own, scores, truth = drawn(seed, labels, height=height)
    found = estimate(own, scores)
    best = max(f1_at(scores, truth, limit) for limit in np.arange(-3, 4, 0.1))
    assert f1_at(scores, truth, found.threshold) > 0.9 * best
    assert found.low <= found.threshold <= found.high


def test_particles_are_counted():
    own, scores, truth = drawn(1, 200, height=3.0)
    assert estimate(own, scores).curve.particles == pytest.approx(truth.sum(), rel=0.1)


@given(seed=st.integers(0, 100), steps=st.integers(-100, 100))
@settings(max_examples=20, deadline=None)
def test_a_constant_added_to_all_scores_is_added_to_the_threshold(seed, steps):
    own, scores, _ = drawn(seed)
    before, after = estimate(own, scores), estimate(own + steps * STEP, scores + steps * STEP)
    assert after.threshold == pytest.approx(before.threshold + steps * STEP, abs=2 * STEP)


def test_the_order_of_the_labels_does_not_matter():
    own, scores, _ = drawn(2)
    assert estimate(own, scores).threshold == estimate(own[::-1], scores).threshold


def test_most_labels_score_more_than_the_threshold():
    own, scores, _ = drawn(4)
    assert (own >= estimate(own, scores).threshold).mean() > 0.8


@pytest.mark.parametrize("labels", [[], [1.0, 2.0], [1.0] * 20])
def test_too_few_or_equal_labels_say_nothing(labels):
    assert estimate_from_labels(np.array(labels), ScoreCounts.from_scores(np.arange(9.0))) is None


def test_probabilities_rise_and_intervals_cover_both_explanations():
    own, scores, truth = drawn(5)
    low = CalibrationCurve(np.array([-8.0, 8.0]), np.array([-9.0, -1.0]), 50.0)
    mixture = Calibration(low, (low,) * 24, 3, own, math.inf)
    candidates = ScoreCounts.from_scores(scores)
    both = combine_with_labels(mixture, estimate(own, scores), own, candidates, 1.0)
    assert (np.diff(both.curve.log_odds) >= 0).all()
    estimate_, least, most = both.particles
    assert least <= 50.0 < estimate_ < most
    assert most == pytest.approx(truth.sum(), rel=0.3)


def test_too_few_labels_leave_a_calibration_as_it_is():
    curve = CalibrationCurve(np.array([-8.0, 8.0]), np.array([-9.0, 9.0]), 50.0)
    mixture = Calibration(curve, (), 3, np.array([1.0]), math.inf)
    candidates = ScoreCounts.from_scores(np.arange(9.0))
    few = np.array([1.0])
    own = estimate_from_labels(few, candidates)
    assert combine_with_labels(mixture, own, few, candidates, 1.0) is mixture
