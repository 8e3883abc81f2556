"""How particles score, fitted to counts drawn from known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.evaluation.particle_scores import (
    PEAKS,
    REACH,
    ParticleScores,
    _split_normal,
    fit_particle_scores,
)

THRESHOLDS = 0.05 * np.arange(-110, 161)
#: Area of the micrographs in squares of a diameter.
AREA = 3000.0


def count_above(scores):
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS).astype(np.float64)


def draw(seed, particles, peak, width, background=8000, area=AREA):
    """Scores of particles and of background, which is rarer than decoys, by the same law."""
    rng = np.random.default_rng(seed)
    decoys, chance = rng.normal(-4.0, 1.3, (2, background))
    room = math.exp(-math.pi * REACH**2 * particles / area)
    kept = rng.random(background) < room
    own = peak + width * rng.normal(size=particles)
    return np.concatenate([own, chance[kept]]), own, decoys


def fit(candidates, decoys, area=AREA, micrographs=4) -> ParticleScores:
    return fit_particle_scores(
        THRESHOLDS, count_above(candidates), count_above(decoys), 1 / area, micrographs
    )


@given(
    seed=st.integers(0, 500),
    particles=st.integers(200, 800),
    peak=st.floats(0.5, 4.0),
    width=st.floats(0.7, 1.4),
)
@settings(max_examples=10, deadline=None)
def test_the_number_of_particles_and_the_highest_f1_are_found(seed, particles, peak, width):
    candidates, own, decoys = draw(seed, particles, peak, width)
    found = fit(candidates, decoys)
    # Those that score like background are known within a factor of two only.
    assert 0.5 < found.particles / particles < (1.5 if peak - width > 0.5 else 2.2)
    true = count_above(own)
    f1 = 2 * true / (count_above(candidates) + particles)
    assert f1[found.expected_f1.argmax()] > 0.93 * f1.max()
    assert found.evidence > 8


@given(seed=st.integers(0, 500), background=st.integers(500, 8000))
@settings(max_examples=10, deadline=None)
def test_background_alone_is_no_evidence(seed, background):
    candidates, _, decoys = draw(seed, 0, 0.0, 1.0, background)
    assert fit(candidates, decoys).evidence < 4


@given(seed=st.integers(0, 500), particles=st.integers(0, 500))
@settings(max_examples=10, deadline=None)
def test_numbers_fall_with_the_threshold_and_f1_is_a_share(seed, particles):
    candidates, _, decoys = draw(seed, particles, 1.0, 1.0)
    found = fit(candidates, decoys)
    for numbers in (found.true_picks, found.picks):
        assert (np.diff(numbers) <= 1e-9).all()
    assert (found.true_picks <= found.picks + 1e-9).all()
    assert found.true_picks[0] <= found.particles * (1 + 1e-9)
    assert ((found.expected_f1 >= 0) & (found.expected_f1 <= 1)).all()


def test_more_micrographs_of_the_same_counts_tell_less():
    candidates, _, decoys = draw(3, 300, 1.0, 1.0)
    few, many = (fit(candidates, decoys, micrographs=n) for n in (1, 16))
    assert 1.5 * many.evidence < few.evidence


def test_faint_particles_among_many_decoys_are_not_lost():
    """Nearly all of them score like background: what is seen is less than half of them."""
    candidates, own, decoys = draw(5, 900, -1.0, 1.2, background=40_000, area=9000.0)
    found = fit(candidates, decoys, area=9000.0)
    assert 600 < found.particles < 1800
    best = (2 * count_above(own) / (count_above(candidates) + 900)).argmax()
    chosen = found.expected_f1.argmax()
    assert THRESHOLDS[chosen] == pytest.approx(THRESHOLDS[best], abs=0.5)


def test_without_any_candidate_there_is_nothing():
    found = fit(np.zeros(0), np.zeros(0))
    assert found.evidence < 1
    assert np.isfinite(found.expected_f1).all()


def test_the_split_normal_is_a_distribution():
    x = np.linspace(-30, 30, 6001)
    below = _split_normal(x, np.asarray(2.0), np.asarray(0.7))
    density = np.diff(below)
    assert (below[0], below[-1]) == pytest.approx((0, 1), abs=1e-9)
    assert x[:-1][density.argmax()] == pytest.approx(0, abs=0.02)
    # A density that is continuous at the peak: as high just below it as just above.
    assert density[2999] == pytest.approx(density[3000], rel=0.01)
    assert PEAKS[0] < -2
