"""Active learning: which questions are chosen, and which never are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.app.active_learning import (
    ENOUGH_LABELS,
    LIKELY,
    NEAR_THRESHOLD,
    REASON_CYCLE,
    UNUSUAL_CANDIDATE,
    UNUSUAL_MICROGRAPH,
    choose_questions,
)
from heliodor.app.candidates import Candidates
from helpers.cpu_time import at_most_reference_work

DIAMETER = 10.0


def some(random: np.random.Generator, number: int, mean: float = 0.0) -> Candidates:
    """Return candidates here and there, some in bad areas."""
    score = np.sort(random.normal(0, 2, number))[::-1]
    return Candidates(
        0,
        random.uniform(0, 100, (number, 2)),
        score,
        random.random(number) < 0.2,
        random.normal(size=(number, 4)).astype(np.float16),
        {"mean": mean, "contrast": 1.0},
    )


@st.composite
def situations(draw):
    """A few micrographs with candidates and answers."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = draw(st.lists(st.integers(0, 30), max_size=4))
    found = {3 * i: some(random, n, float(random.integers(3))) for i, n in enumerate(numbers)}
    labels = {i: random.uniform(0, 100, (random.integers(5), 2)) for i in found}
    negatives = {i: random.uniform(0, 100, (random.integers(5), 2)) for i in list(found)[::2]}
    for i, own in found.items():  # some answers lie on candidates, as in life
        if len(own.score) > 4 and random.random() < 0.5:
            labels[i] = own.xy_px[::4]
    return found, labels, negatives, dict.fromkeys(found, DIAMETER)


@settings(max_examples=150, deadline=None)
@given(situations(), st.integers(0, 60), st.integers(0, 1000), st.floats(-3, 3))
def test_questions_are_new_places(situation, count, seed, threshold):
    found, labels, negatives, diameters = situation
    asked = choose_questions(found, labels, negatives, diameters, threshold, count, seed)
    assert asked == choose_questions(found, labels, negatives, diameters, threshold, count, seed)
    assert len(asked) <= count
    for k, question in enumerate(asked):
        own = found[question.micrograph]
        [at] = np.flatnonzero((own.xy_px == question.xy_px).all(axis=1))
        assert own.score[at] == question.score
        assert not own.bad[at]
        others = [other.xy_px for other in asked[:k] if other.micrograph == question.micrograph]
        for points in (labels, negatives):
            others += [tuple(xy) for xy in points.get(question.micrograph, [])]
        for other in others:
            assert np.hypot(*np.subtract(question.xy_px, other)) > DIAMETER / 2
    # Where fewer are asked than were wanted, no candidate is left that could be.
    if len(asked) < count:
        for i, own in found.items():
            taken = [q.xy_px for q in asked if q.micrograph == i]
            taken += [xy for part in (labels, negatives) for xy in part.get(i, [])]
            for xy in own.xy_px[~own.bad]:
                assert min(np.hypot(*np.subtract(xy, t)) for t in taken) <= DIAMETER / 2


def at(places, scores, features=None, **figures) -> Candidates:
    """Return candidates in a row, none bad."""
    n = len(places)
    return Candidates(
        1,
        np.column_stack([np.array(places, dtype=float), np.zeros(n)]),
        np.array(scores, dtype=float),
        np.zeros(n, dtype=bool),
        np.array(features if features is not None else np.zeros((n, 2)), dtype=np.float16),
        figures or {"mean": 0.0},
    )


def elsewhere(why: str) -> np.ndarray:
    """So many labels, far from all candidates, that the next question is asked for this."""
    number = next(
        n for n in range(ENOUGH_LABELS, 100) if REASON_CYCLE[n % len(REASON_CYCLE)] == why
    )
    return np.column_stack([np.zeros(number), 1000.0 + 20.0 * np.arange(number)])


def test_with_few_particles_only_likely_ones_are_asked_about():
    found = {0: at([0, 20, 40, 60], [9.0, 1.1, 0.9, -4.0])}
    few = {0: elsewhere(NEAR_THRESHOLD)[: ENOUGH_LABELS - 1]}
    asked = choose_questions(found, few, {}, {0: DIAMETER}, 1.0, 2, 0)
    assert [own.why for own in asked] == [LIKELY, LIKELY]
    assert {own.score for own in asked} == {9.0, 1.1}


def test_then_some_are_near_the_threshold():
    found = {0: at([0, 20, 40], [9.0, 1.1, -4.0])}
    [first] = choose_questions(found, {0: elsewhere(NEAR_THRESHOLD)}, {}, {0: DIAMETER}, 1.0, 1, 0)
    assert (first.xy_px, first.why) == ((20.0, 0.0), NEAR_THRESHOLD)


def test_sure_ones_are_preferred_to_sure_background():
    found = {0: at([0, 20], [8.0, -8.0])}
    [first] = choose_questions(found, {}, {}, {0: DIAMETER}, 0.0, 1, 0)
    assert first.score == 8.0


def test_what_looks_like_nothing_answered_is_asked_for_that():
    # Seven look alike, one of them answered; the last, as doubtful, looks otherwise.
    features = [[0.0, 0.1 * k] for k in range(7)] + [[9.0, 9.0]]
    found = {0: at(range(0, 160, 20), [0.0] * 8, features)}
    said = np.concatenate([elsewhere(UNUSUAL_CANDIDATE)[1:], [[0.0, 0.0]]])
    [first] = choose_questions(found, {0: said}, {}, {0: DIAMETER}, 0.0, 1, 0)
    assert (first.xy_px, first.why) == ((140.0, 0.0), UNUSUAL_CANDIDATE)


def test_a_micrograph_unlike_the_others_is_asked_about():
    found = {i: at([0, 20, 40], [0.0, 0.0, 0.0], mean=float(i % 2)) for i in range(6)}
    found[7] = at([0, 20, 40], [-3.0, -3.0, -3.0], mean=30.0)
    diameters = dict.fromkeys(found, DIAMETER)
    said = {0: elsewhere(UNUSUAL_MICROGRAPH)}
    [first] = choose_questions(found, said, {}, diameters, 0.0, 1, 0)
    assert (first.micrograph, first.why) == (7, UNUSUAL_MICROGRAPH)


def test_questions_are_spread_over_micrographs():
    found = {i: at(range(0, 200, 20), [0.0] * 10) for i in range(5)}
    asked = choose_questions(found, {}, {}, dict.fromkeys(found, DIAMETER), 0.0, 5, 0)
    assert {question.micrograph for question in asked} == set(range(5))


def test_another_seed_asks_otherwise():
    random = np.random.default_rng(0)
    found = {i: some(random, 30) for i in range(4)}
    diameters = dict.fromkeys(found, DIAMETER)
    first, second = (choose_questions(found, {}, {}, diameters, 0.0, 10, seed) for seed in (0, 1))
    assert first != second


def test_a_large_project_is_asked_about_in_a_moment():
    random = np.random.default_rng(0)
    found = {i: some(random, 300, float(i % 7)) for i in range(1000)}
    with at_most_reference_work(150):
        asked = choose_questions(found, {}, {}, dict.fromkeys(found, 0.1), 0.0, 10, 0)
    assert len(asked) == 10


def test_most_questions_are_about_likely_particles():
    random = np.random.default_rng(0)
    found = {i: some(random, 60) for i in range(6)}
    said = {0: elsewhere(LIKELY)}
    asked = choose_questions(found, said, {}, dict.fromkeys(found, DIAMETER), 0.0, 24, 0)
    likely = [question for question in asked if question.why == LIKELY]
    assert len(likely) == 18
    assert all(question.score >= 0 for question in likely)
    assert {question.micrograph for question in likely} == set(found)
