"""The threshold where nothing is known but what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.evaluation.score_histogram import DatasetScores, MicrographScores
from heliodor.evaluation.thresholds import CLEAR_ABOVE
from heliodor.evaluation.thresholds import find_decoy_threshold as threshold

AREA = 1e6
DISC = 1e3


def sheet(seed, particles, background, spread=1.0, height=2.0, searched=8, micrographs=8):
    """Scores of micrographs with so many particles and places that chance makes peaks of."""
    rng = np.random.default_rng(seed)
    made, truth = [], []
    for number in range(micrographs):
        chance, decoys = rng.normal(-3.0, 1.0, (2, background))
        own = rng.normal(height, spread, particles)
        scores = np.concatenate([chance, own])
        kept = decoys[decoys < CLEAR_ABOVE] if number < searched else None
        made.append(MicrographScores(scores, kept, AREA))
        truth.append(np.repeat([False, True], [background, particles]))
    everything = np.concatenate([own.candidates for own in made])
    return DatasetScores.from_micrographs(made), everything, np.concatenate(truth)


def f1_at(score, truth, limit):
    picked = score >= limit
    return 2 * (picked & truth).sum() / max(picked.sum() + truth.sum(), 1)


@given(
    seed=st.integers(0, 500),
    particles=st.integers(30, 200),
    background=st.integers(100, 600),
    height=st.floats(0.5, 5.0),
    searched=st.sampled_from([4, 8]),
)
@settings(max_examples=40, deadline=None)
def test_the_f1_is_near_the_highest(seed, particles, background, height, searched):
    own, score, truth = sheet(seed, particles, background, height=height, searched=searched)
    found = threshold(own, DISC)
    assert found is not None
    best = max(f1_at(score, truth, limit) for limit in np.quantile(score, np.linspace(0, 1, 200)))
    assert f1_at(score, truth, found) > 0.93 * best


@given(seed=st.integers(0, 500), background=st.integers(50, 800))
@settings(max_examples=40, deadline=None)
def test_where_there_is_nothing_hardly_anything_is_picked(seed, background):
    own, score, _ = sheet(seed, 0, background)
    found = threshold(own, DISC)
    assert found is not None
    assert (score >= found).sum() <= 5


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_no_more_than_a_share_of_the_picks_is_false(share):
    own, score, truth = sheet(3, 150, 500, height=0.5, spread=1.5)
    limit = threshold(own, DISC, share)
    assert limit is not None
    picked = score >= limit
    assert picked.sum() > 100
    assert (picked & ~truth).sum() / picked.sum() < 1.6 * share + 0.01


def test_without_decoys_nothing_is_known():
    own, _, _ = sheet(1, 50, 100, searched=0)
    assert threshold(own, DISC) is None


def test_thresholds_below_the_least_are_not_looked_at():
    own, _, _ = sheet(1, 200, 100, height=-2.5)
    found = threshold(own, DISC, least=-1.0)
    assert found is None or found >= -1.0


@given(seed=st.integers(0, 300), dark=st.floats(0.01, 0.08))
@settings(max_examples=30, deadline=None)
def test_a_little_more_of_dark_things_than_of_bright_ones_is_no_particle(seed, dark):
    rng = np.random.default_rng(seed)
    made = [
        MicrographScores(rng.normal(-3.0, 1.0, int(2000 * (1 + dark))), decoys, AREA)
        for decoys in rng.normal(-3.0, 1.0, (8, 2000))
    ]
    limit = threshold(DatasetScores.from_micrographs(made), DISC)
    assert limit is not None
    assert sum((own.candidates >= limit).sum() for own in made) <= 8
