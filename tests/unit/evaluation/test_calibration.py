"""What scores mean: the mixture, its calibration and the threshold, on scores of known origin."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import (
    FROM_DECOYS,
    FROM_LABELS,
    Calibration,
    CalibrationCurve,
    SystematicError,
    calibrate_scores,
)
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.evaluation.score_histogram import (
    MAX_GROUPS,
    SCORE_STEP,
    DatasetScores,
    MicrographScores,
    ScoreCounts,
)
from heliodor.evaluation.score_mixture import (
    ScoreMixtureData,
    _MixtureProblem,
    fit_score_mixture,
    skewed_peak_log_density,
)
from heliodor.evaluation.thresholds import (
    choose_threshold,
    choose_threshold_series,
    predict_performance,
    predict_performances,
)
from heliodor.picking.decoys import (
    ScoredPositions,
    choose_clear_above,
    keep_clear_decoys,
)
from heliodor.report.calibration_section import LIKELY, compute_reliability

#: Particles and background of each of twelve micrographs.
PARTICLES, BACKGROUND, MICROGRAPHS = 60, 1500, 12


def drawn(seed: int, ease: float = 0.0) -> tuple[list[MicrographScores], FloatArray, FloatArray]:
    """Return micrographs, their candidates' true nature, and labels easier by so much."""
    random = np.random.default_rng(seed)
    micrographs, hits = [], []
    for _ in range(MICROGRAPHS):
        background = random.normal(-3.5, 1.5, (2, BACKGROUND))
        score = np.concatenate([random.normal(2.5, 1.2, PARTICLES), background[0]])
        micrographs.append(MicrographScores(score, background[1], 1e6))
        hits.append(np.arange(len(score)) < PARTICLES)
    return micrographs, np.concatenate(hits), random.normal(2.5 + ease, 1.0, 60)


@functools.cache
def calibrated(seed: int, ease: float = 0.0) -> tuple[Calibration, FloatArray, FloatArray]:
    micrographs, hits, labels = drawn(seed, ease)
    made = calibrate_scores(
        DatasetScores.from_micrographs(micrographs), labels, 2e3, 2e3, 99.0, -6.0, seed
    )
    assert made is not None
    return made, np.concatenate([own.candidates for own in micrographs]), hits


def test_the_gradient_is_that_of_the_cost() -> None:
    micrographs, _, labels = drawn(1)
    candidates = np.concatenate([own.candidates for own in micrographs])
    problem = _MixtureProblem(
        ScoreMixtureData(
            ScoreCounts.from_scores(candidates),
            ScoreCounts.from_scores(candidates[::2]),
            labels,
            2.0,
            1e-4,
        ),
        None,
    )
    point = problem.starts()[1] + np.random.default_rng(0).normal(0, 0.1, problem.size)
    slope = approx_fprime(point, lambda p: problem.cost(p)[0], 1e-6)
    np.testing.assert_allclose(problem.cost(point)[1], slope, atol=0.05, rtol=1e-3)


def evidence(seed: int, ease: float = 0.0) -> ScoreMixtureData:
    micrographs, _, labels = drawn(seed, ease)
    kinds = ([m.candidates for m in micrographs], [m.decoys for m in micrographs])
    candidates, decoys = (ScoreCounts.from_scores(np.concatenate(own)) for own in kinds)
    return ScoreMixtureData(candidates, decoys, labels, 1.0, 1e-4)


@pytest.mark.parametrize("ease", [0.0, 3.0])
def test_from_where_a_fit_ends_no_step_leads_further_down(ease: float) -> None:
    problem, point = (
        _MixtureProblem(evidence(2, ease), None),
        fit_score_mixture(evidence(2, ease)).parameters,
    )
    best = problem.cost(point)[0]
    for step in problem.units(point).T:
        for sign in (-0.1, 0.1):
            assert problem.cost(point + sign * step)[0] > best - 1e-3
    for start in problem.starts():
        found = fit_score_mixture(evidence(2, ease), start).parameters
        assert problem.cost(found)[0] > best - 1e-3


def test_steps_cost_alike() -> None:
    """A step of one unit costs a half near the best point, whatever the parameter."""
    problem, point = _MixtureProblem(evidence(5), None), fit_score_mixture(evidence(5)).parameters
    best, steps = problem.cost(point)[0], problem.units(point).T
    costs = [problem.cost(point + s * step)[0] - best for step in steps for s in (-0.1, 0.1)]
    np.testing.assert_allclose(costs, 0.005, rtol=0.5)


def test_labels_far_out_can_be_fitted() -> None:
    scores = ScoreCounts.from_scores(np.random.default_rng(0).normal(-3, 1, 500))
    labels = np.array([*np.linspace(0, 2, 40), 40.0])
    assert math.isfinite(
        fit_score_mixture(ScoreMixtureData(scores, scores, labels, 1.0, 1e-3)).particles
    )


def test_a_peak_holds_one() -> None:
    x = np.linspace(-60, 20, 200_001)
    density = np.exp(skewed_peak_log_density(x, 1.0, 0.3, -0.2)[0])
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("ease", [0.0, 1.5])
def test_particles_are_counted_however_easy_the_labels(ease: float) -> None:
    made, scores, hits = calibrated(3, ease)
    number = PARTICLES * MICROGRAPHS
    count, low, high = made.particles
    assert count == pytest.approx(number, rel=0.15)
    assert low <= count <= high
    chance = made.probability(scores)
    for least in (0.1, 0.4, 0.7):
        among = (chance >= least) & (chance < least + 0.3)
        assert chance[among].mean() == pytest.approx(hits[among].mean(), abs=0.12)


def test_the_threshold_is_nearly_the_best_and_its_outlook_true() -> None:
    made, scores, hits = calibrated(4)
    threshold = choose_threshold(made, ScoreCounts.from_scores(scores))
    order = np.argsort(-scores)
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(order) + 1) + hits.sum())
    chosen = scores >= threshold
    own = 2 * hits[chosen].sum() / (chosen.sum() + hits.sum())
    assert own >= 0.99 * f1.max()
    outlook = predict_performance(made, ScoreCounts.from_scores(scores), threshold)
    assert outlook.picks == chosen.sum()
    assert outlook.precision.value == pytest.approx(hits[chosen].mean(), abs=0.05)
    assert outlook.precision.low <= outlook.precision.value <= outlook.precision.high


def test_a_largest_share_of_false_picks_is_kept_to() -> None:
    made, scores, hits = calibrated(3, 0.0)
    for share in (0.02, 0.1, 0.3):
        threshold = choose_threshold(made, ScoreCounts.from_scores(scores), share)
        assert (
            predict_performance(made, ScoreCounts.from_scores(scores), threshold).precision.value
            >= 1 - share - 1e-6
        )
        assert 1 - hits[scores >= threshold].mean() <= share + 0.05


def test_outlooks_at_many_thresholds_are_those_of_each() -> None:
    made, scores, _ = calibrated(4)
    thresholds = [2.0, round(float(scores[17]), 3), -3.0, 99.0]
    many = predict_performances(made, ScoreCounts.from_scores(scores), thresholds)
    assert [own.threshold for own in many] == thresholds
    for own in many[:3]:
        chance = made.probability(scores[scores >= own.threshold])
        assert own.picks == len(chance)
        assert own.precision.value == pytest.approx(chance.mean(), abs=1e-3)
        number = max(made.particles[0], chance.sum())
        assert own.recall.value == pytest.approx(chance.sum() / number, abs=1e-3)
        assert own.f1.value == pytest.approx(2 * chance.sum() / (len(chance) + number), abs=1e-3)
    assert many[3].picks == 0
    assert math.isnan(many[3].precision.value)


def test_reliability_compares_probabilities_with_the_truth() -> None:
    made, scores, hits = calibrated(4)
    # One micrograph with each candidate in a place of its own, particles at those of the hits.
    xy = np.stack([np.arange(len(scores)) * 10.0, np.zeros(len(scores))], axis=1)
    evaluation = evaluate_picks({"m": (xy, scores)}, {"m": xy[hits]}, 1.0)
    known = compute_reliability(made, evaluation)
    chance = made.probability(scores)
    likely = chance >= LIKELY
    tenth = (chance * 10).astype(int)
    error = sum(abs((chance - hits)[likely & (tenth == n)].sum()) for n in range(10))
    assert known.candidates.sum() == likely.sum()
    assert known.error == pytest.approx(error / likely.sum())
    first = likely & (tenth == tenth[likely].min())
    assert known.true[0] == pytest.approx(hits[first].mean())
    assert known.stated[0] == pytest.approx(chance[first].mean())


@given(
    st.lists(st.floats(-40, 40), max_size=60), st.integers(-9000, 9000), st.integers(0, 2**32 - 1)
)
def test_counts_hold_what_a_threshold_on_a_step_keeps(
    scores: list[float], thousandths: int, seed: int
) -> None:
    threshold = thousandths * SCORE_STEP
    on_steps = np.round(np.array(scores) / SCORE_STEP / 3) * 3 * SCORE_STEP  # many of them equal
    counts = ScoreCounts.from_scores(on_steps)
    assert counts.total == len(scores)
    assert counts.at_least(threshold).total == np.sum(on_steps >= threshold - SCORE_STEP / 2)
    parts = np.array_split(np.random.default_rng(seed).permutation(on_steps), 3)
    again = ScoreCounts.sum(ScoreCounts.from_scores(part) for part in parts)
    np.testing.assert_array_equal(again.bins, counts.bins)
    np.testing.assert_array_equal(again.counts, counts.counts)


@pytest.mark.slow
def test_a_sheet_is_the_same_in_any_order_and_of_any_number_of_groups() -> None:
    micrographs, _, labels = drawn(12)
    named = {f"m{n:03d}": own for n, own in enumerate(micrographs * 6)}
    named |= {f"x{n:03d}": replace(own, decoys=None) for n, own in enumerate(micrographs)}
    searched = {name for name in named if name.startswith("m")}
    made = []
    for order in (list(named), list(named)[::-1]):
        sheet = DatasetScores(order, searched)
        for name in order:
            sheet.add(name, named[name])
        assert sheet.micrographs == len(named)
        assert len(sheet.groups) == MAX_GROUPS
        assert sheet.candidates.total == sum(len(own.candidates) for own in named.values())
        found = calibrate_scores(sheet, labels, 2e3, 2e3, 99.0, -6.0)
        assert found is not None
        made.append((found.as_dict(), found.particles))
    assert made[0] == made[1]
    assert made[0][1][0] == pytest.approx(7 * PARTICLES * MICROGRAPHS, rel=0.15)


def test_series_fall_and_hold_the_chosen() -> None:
    made, scores, _ = calibrated(4)
    chosen = choose_threshold(made, ScoreCounts.from_scores(scores))
    series = choose_threshold_series(made, ScoreCounts.from_scores(scores), chosen, 8)
    assert chosen in series
    assert len(series) == 8
    assert series == sorted(series, reverse=True)


def test_what_a_model_keeps_comes_back() -> None:
    made, scores, _ = calibrated(4)
    again = Calibration.from_dict(made.as_dict())
    np.testing.assert_allclose(again.probability(scores), made.probability(scores), atol=1e-3)
    for damage in ({"score": [1.0]}, {"log_odds": "x"}, {"labels": []}, {"particles": math.nan}):
        with pytest.raises(ValueError, match="calibration"):
            Calibration.from_dict(made.as_dict() | damage)


def test_too_little_is_not_calibrated() -> None:
    micrographs, _, labels = drawn(8)
    assert (
        calibrate_scores(
            DatasetScores.from_micrographs(micrographs), labels[:3], 2e3, 2e3, math.inf
        )
        is None
    )
    blind = [MicrographScores(own.candidates, None, own.area) for own in micrographs]
    assert (
        calibrate_scores(DatasetScores.from_micrographs(blind), labels, 2e3, 2e3, math.inf) is None
    )


def test_decoys_beside_likely_particles_are_left_out() -> None:
    decoys = ScoredPositions(np.array([[0.0, 0.0], [50.0, 0.0]]), np.array([1.0, 2.0]))
    candidates = ScoredPositions(np.array([[3.0, 0.0], [52.0, 0.0]]), np.array([5.0, 0.5]))
    np.testing.assert_array_equal(keep_clear_decoys(decoys, candidates, 1.0, 5.0), [2.0])
    assert choose_clear_above([decoys], 100.0, 1.0) == 1.0


def test_the_same_seed_gives_the_same_calibration() -> None:
    first, second = calibrated(4)[0], calibrated.__wrapped__(4)[0]
    assert first is not second
    assert first.as_dict() == second.as_dict()
    assert first.particles == second.particles


def test_no_more_is_found_than_there_is() -> None:
    # Particles far above background: between them the fit has nothing to go by, and below it a
    # curve that ends high says that all are particles.
    curve = CalibrationCurve(np.linspace(2.3, 4.2, 33), np.full(33, 13.8), 100.0)
    made = Calibration(curve, (), 3, np.linspace(2.9, 4.2, 30), -3.7)
    particles, background = np.linspace(2.8, 4.4, 100), np.linspace(-6, -2, 300)
    counts = ScoreCounts.from_scores(np.concatenate([particles, background]))
    assert 2.7 < choose_threshold(made, counts) <= 2.8
    # One false pick in 101 would be fewer than a hundredth.
    assert 2.7 < choose_threshold(made, counts, 0.009) <= 2.8


def known(labels: int) -> Calibration:
    """A calibration without any scatter: every candidate above 0 is true with probability 0.9."""
    curve = CalibrationCurve(np.array([-2.0, 0.0, 0.01, 4.0]), np.log([1e-3, 1e-3, 9.0, 9.0]), 100)
    return Calibration(curve, (curve, curve), 1, np.ones(labels), math.inf)


@pytest.mark.parametrize(("labels", "error"), [(30, FROM_LABELS), (0, FROM_DECOYS)])
def test_intervals_contain_a_systematic_error(labels: int, error: SystematicError) -> None:
    outlook = predict_performance(known(labels), ScoreCounts.from_scores(np.full(100, 2.0)), 1.0)
    precision, recall, f1 = outlook.precision, outlook.recall, outlook.f1
    usual, most, log_odds = error
    expected = [0.9 * share for share in (1 - usual, 1 - most, 1)]
    assert [precision.value, precision.low, precision.high] == pytest.approx(expected, abs=1e-3)
    assert recall.value == pytest.approx(0.9, abs=1e-3)
    odds = [share / (1 - share) for share in (recall.low, recall.value, recall.high)]
    assert np.diff(np.log(odds)) == pytest.approx(log_odds, abs=1e-3)
    for name in ("value", "low", "high"):
        p, r = getattr(precision, name), getattr(recall, name)
        assert getattr(f1, name) == pytest.approx(2 * p * r / (p + r), abs=1e-3)
    # As many particles fewer as picks may be false, and as many more as the recall may be lower.
    particles = outlook.particles
    assert particles.value == pytest.approx(100 * (1 - usual), abs=0.1)
    assert particles.low == pytest.approx(100 * (1 - most), abs=0.1)
    assert particles.high == pytest.approx(100 * 0.9 / recall.low, abs=0.1)
    counts = [100 * share for share in (1 - usual, 1 - most, 1 + most)]
    assert known(labels).particles == pytest.approx(counts)


def test_without_repeats_the_interval_is_unknown() -> None:
    alone = replace(known(30), repeats=())
    outlook = predict_performance(alone, ScoreCounts.from_scores(np.full(100, 2.0)), 1.0)
    for estimate in (outlook.precision, outlook.recall, outlook.f1, outlook.particles):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
