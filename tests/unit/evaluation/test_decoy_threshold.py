"""The threshold and the probabilities without labels, on scores of known origin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.evaluation.decoy_threshold import (
    WITHOUT_EVIDENCE,
    estimate_from_decoys,
)
from heliodor.evaluation.particle_scores import REACH
from heliodor.evaluation.score_histogram import DatasetScores, MicrographScores
from heliodor.evaluation.thresholds import (
    choose_strict_threshold,
    choose_threshold,
    describe_threshold,
    predict_performance,
)

AREA, DIAMETER = 1e6, 15.0


def sheet(seed, particles, background, spread=1.0, height=2.0, searched=8, micrographs=8):
    """Scores of micrographs with so many particles and places that chance makes peaks of."""
    rng = np.random.default_rng(seed)
    made, truth = [], []
    for number in range(micrographs):
        chance, decoys = rng.normal(-3.0, 1.0, (2, background))
        own = rng.normal(height, spread, particles)
        scores = np.concatenate([chance, own])
        kept = decoys if number < searched else None
        made.append(MicrographScores(scores, kept, AREA))
        truth.append(np.repeat([False, True], [background, particles]))
    everything = np.concatenate([own.candidates for own in made])
    return DatasetScores.from_micrographs(made), everything, np.concatenate(truth)


def threshold(scores):
    found = estimate_from_decoys(scores, DIAMETER)
    return None if found is None else found.threshold


def f1_at(score, truth, limit):
    picked = score >= limit
    return 2 * (picked & truth).sum() / max(picked.sum() + truth.sum(), 1)


@given(
    seed=st.integers(0, 500),
    particles=st.integers(30, 200),
    background=st.integers(100, 600),
    height=st.floats(0.5, 4.0),
    searched=st.sampled_from([4, 8]),
)
@settings(max_examples=15, deadline=None)
def test_the_f1_is_near_the_highest(seed, particles, background, height, searched):
    own, score, truth = sheet(seed, particles, background, height=height, searched=searched)
    found = threshold(own)
    assert found is not None
    best = max(f1_at(score, truth, limit) for limit in np.quantile(score, np.linspace(0, 1, 200)))
    assert f1_at(score, truth, found) > 0.9 * best


@given(seed=st.integers(0, 500), background=st.integers(50, 800))
@settings(max_examples=15, deadline=None)
def test_where_there_is_nothing_hardly_anything_is_picked(seed, background):
    own, score, _ = sheet(seed, 0, background)
    found = threshold(own)
    assert found is not None
    assert (score >= found).sum() <= 5


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_no_more_than_a_share_of_the_picks_is_false(share):
    own, score, truth = sheet(3, 150, 500, height=0.5, spread=1.5)
    found = estimate_from_decoys(own, DIAMETER)
    assert found is not None
    assert found.calibration is not None
    limit = choose_threshold(found.calibration, own.candidates, share)
    picked = score >= limit
    assert picked.sum() > 100
    assert (picked & ~truth).sum() / picked.sum() < 1.6 * share + 0.01


def test_without_decoys_nothing_is_known():
    own, _, _ = sheet(1, 50, 100, searched=0)
    assert threshold(own) is None


@given(seed=st.integers(0, 300), covered=st.floats(0.1, 0.5))
@settings(max_examples=12, deadline=None)
def test_particles_that_displace_background_are_counted(seed, covered):
    """Half of the particles are as faint as background, which has less room than decoys."""
    rng = np.random.default_rng(seed)
    diameter, places = 30.0, 600
    particles = round(covered * AREA / (np.pi * diameter**2 / 4))
    room = np.exp(-particles * np.pi * (REACH * diameter) ** 2 / AREA)
    made = []
    for _ in range(8):
        score = np.concatenate(
            [rng.normal(-3.5, 1.0, rng.binomial(places, room)), rng.normal(-0.5, 1.5, particles)]
        )
        made.append(MicrographScores(score, rng.normal(-3.5, 1.0, places), AREA))
    scores = DatasetScores.from_micrographs(made)
    found = estimate_from_decoys(scores, diameter)
    assert found is not None
    assert found.calibration is not None
    outlook = predict_performance(found.calibration, scores.candidates, found.threshold)
    assert outlook.particles.value == pytest.approx(8 * particles, rel=0.3)
    assert outlook.particles.low <= 8 * particles * 1.1
    assert outlook.precision.low <= outlook.precision.value <= outlook.precision.high


def test_a_few_particles_are_picked_by_the_model_alone():
    rng = np.random.default_rng(0)
    made = [
        MicrographScores(np.append(rng.normal(-3, 0.8, 500), [2.0, 3.0]), decoys, AREA)
        for decoys in rng.normal(-3, 0.8, (1, 500))
    ]
    found = estimate_from_decoys(DatasetScores.from_micrographs(made), DIAMETER)
    assert found is not None
    assert (found.threshold, found.calibration) == (WITHOUT_EVIDENCE, None)


def test_micrographs_without_decoys_do_not_change_the_threshold():
    own, _, _ = sheet(4, 80, 300, searched=4, micrographs=4)
    more, _, _ = sheet(4, 80, 300, searched=4, micrographs=8)
    assert threshold(own) == threshold(more)


@given(seed=st.integers(0, 300), dark=st.floats(0.01, 0.05))
@settings(max_examples=12, deadline=None)
def test_a_little_more_of_dark_things_than_of_bright_ones_is_no_particle(seed, dark):
    rng = np.random.default_rng(seed)
    made = [
        MicrographScores(rng.normal(-3.0, 1.0, int(2000 * (1 + dark))), decoys, AREA)
        for decoys in rng.normal(-3.0, 1.0, (8, 2000))
    ]
    limit = threshold(DatasetScores.from_micrographs(made))
    assert limit is not None
    assert sum((own.candidates >= limit).sum() for own in made) <= 8


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6])
def test_a_limit_of_false_picks_never_adds_picks_where_too_many_are_expected(share):
    own, _, _ = sheet(3, 100, 300, height=1.0)
    found = estimate_from_decoys(own, DIAMETER)
    usual = predict_performance(found.calibration, own.candidates, found.threshold)
    strict = choose_strict_threshold(found.calibration, own.candidates, share, found.threshold)
    told = predict_performance(found.calibration, own.candidates, strict)
    assert told.picks
    lines = describe_threshold(told, None, share)
    if 1 - usual.precision.value > share:
        assert strict >= found.threshold
    if 1 - told.precision.value > share + 0.005:
        assert "cannot be expected" in lines[0]
        assert share <= found.calibration.systematic.usual_lookalikes
    else:
        assert "threshold" in lines[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_moves_half_of_the_way_to_a_valley(seed, monkeypatch):
    """A few particles, and as many contaminants that no decoy shows."""
    rng = np.random.default_rng(seed)
    made, truth = [], []
    for _ in range(6):
        chance, decoys = rng.normal(-4.0, 0.8, (2, 300))
        dark, own = rng.normal(0.3, 0.6, 14), rng.normal(4.0, 0.7, 10)
        made.append(MicrographScores(np.concatenate([chance, dark, own]), decoys, AREA))
        truth.append(np.repeat([False, True], [314, 10]))
    scores, truth = DatasetScores.from_micrographs(made), np.concatenate(truth)
    every = np.concatenate([own.candidates for own in made])
    found = estimate_from_decoys(scores, DIAMETER)
    monkeypatch.setattr("heliodor.evaluation.decoy_threshold.find_valley", lambda *_: None)
    without = estimate_from_decoys(scores, DIAMETER)
    valley = 2 * found.threshold - without.threshold
    assert 1.0 < valley < 3.5
    before, after = (f1_at(every, truth, own.threshold) for own in (without, found))
    assert before < 0.7
    assert after > before + 0.08
    # It may be that there are only 60 particles, or that all are particles.
    _, fewest, most = found.calibration.particles
    assert fewest < 72
    assert fewest < without.calibration.particles[1] - 4
    assert most > 130
