from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import average_precision_score, precision_recall_curve

from heliodor.errors import BadInput
from heliodor.evaluation.matching import match_picks
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.evaluation.ranking import (
    RegionCounts,
    average_precision,
    precision_recall,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Points = list[tuple[float, float]]

# Few distinct scores, so that ties are common.
rankings = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)),
    ),
    min_size=1,
    max_size=40,
)
grid_points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9)


@given(rankings)
def test_average_precision_equals_scikit_learn(ranking: list[tuple[bool, float]]) -> None:
    labels, scores = map(np.array, zip(*ranking, strict=True))
    if not labels.any():
        assert math.isnan(average_precision(labels, scores))
        return
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    curve = precision_recall(labels, scores)
    assert curve.average_precision == pytest.approx(expected, abs=1e-12)


@given(rankings, st.integers(0, 5))
def test_precision_recall_equals_scikit_learn(
    ranking: list[tuple[bool, float]], missed: int
) -> None:
    labels, scores = map(np.array, zip(*ranking, strict=True))
    n_positive = int(labels.sum())
    curve = precision_recall(labels, scores, n_positive + missed)
    assert np.all(np.diff(curve.threshold) < 0)
    if n_positive == 0:
        assert np.all(curve.precision == 0)
        assert np.all(curve.f1 == 0)
        assert np.all(np.isnan(curve.recall) if missed == 0 else curve.recall == 0)
        return
    precision, recall, threshold = precision_recall_curve(labels, scores)
    recall = recall * n_positive / (n_positive + missed)
    np.testing.assert_array_equal(curve.threshold, threshold[::-1])
    np.testing.assert_allclose(curve.precision, precision[-2::-1])
    np.testing.assert_allclose(curve.recall, recall[-2::-1])
    total = curve.precision + curve.recall
    f1 = 2 * curve.precision * curve.recall / np.where(total > 0, total, 1)
    np.testing.assert_allclose(curve.f1, f1, atol=1e-15)
    assert curve.best == (curve.f1.max(), curve.threshold[curve.f1.argmax()])


def test_average_precision_by_hand() -> None:
    # Positives at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx(5 / 6)
    assert average_precision([1, 0, 1, 0], [1, 1, 1, 1]) == 0.5
    assert average_precision([True, True, False], [3.0, 2.0, 1.0]) == 1
    assert average_precision([0, 1], [-math.inf, math.inf]) == 1


def test_average_precision_keeps_float32_and_unsigned_scores_in_order() -> None:
    for dtype in (np.float32, np.float16, np.uint8, np.int64):
        scores = np.array([4, 3, 2, 1], dtype=dtype)
        assert average_precision([1, 0, 1, 0], scores) == pytest.approx(5 / 6)
        assert precision_recall([1, 0, 1, 0], scores).threshold.tolist() == [4, 3, 2, 1]


def test_empty_ranking() -> None:
    assert math.isnan(average_precision([], []))
    curve = precision_recall([], [], 3)
    assert curve.threshold.shape == curve.precision.shape == curve.recall.shape == (0,)
    assert math.isnan(curve.average_precision)
    assert all(map(math.isnan, curve.best))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [1.0], "one length"),
        ([[1, 0]], [[1.0, 2.0]], "one length"),
        ([1, -1], [1.0, 2.0], "0 or 1"),
        ([1, 0], [1.0, math.nan], "NaN"),
    ],
)
def test_bad_rankings(labels: Any, scores: Any, message: str) -> None:
    for function in (average_precision, precision_recall):
        with pytest.raises(BadInput, match=message):
            function(labels, scores)


regions = st.lists(
    st.tuples(st.booleans(), st.integers(-32_000, 32_000).map(lambda k: k * RegionCounts.STEP)),
    min_size=1,
    max_size=30,
)


@given(st.lists(regions, min_size=1, max_size=4))
def test_region_counts_equal_the_average_precision_of_all_regions_at_once(
    micrographs: list[list[tuple[bool, float]]],
) -> None:
    # Scores in the middle of their bins: nothing is lost by counting.
    counts = RegionCounts()
    for ranking in micrographs:
        labels, scores = map(np.array, zip(*ranking, strict=True))
        counts.add(labels, scores)
    labels, scores = map(np.array, zip(*itertools.chain(*micrographs), strict=True))
    expected = average_precision(labels, scores)
    assert counts.average_precision() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_region_counts_of_score_maps_are_near_the_exact_value() -> None:
    random = np.random.default_rng(3)
    counts, labels, scores = RegionCounts(), [], []
    for shape in ((40, 50), (31, 17), (1, 5)):
        score = random.normal(-3, 2, shape).astype(np.float32)
        label = random.random(shape) < 1 / (1 + np.exp(-score))
        counts.add(label, score)
        labels.append(label.ravel())
        scores.append(score.ravel())
    exact = average_precision(np.concatenate(labels), np.concatenate(scores))
    assert 0.1 < exact < 0.9
    assert counts.average_precision() == pytest.approx(exact, abs=2e-3)


def test_region_counts_by_hand() -> None:
    counts = RegionCounts()
    assert math.isnan(counts.average_precision())
    counts.add([0, 0], [1.0, 2.0])
    assert math.isnan(counts.average_precision())
    counts.add([1, 1], [3.0, 1.5])
    # Ranks 1 and 3 of four.
    assert counts.average_precision() == pytest.approx((1 + 2 / 3) / 2)
    # Of one bin, so tied, whatever their order.
    for scores in ([1.0, 1.0001], [1.0001, 1.0]):
        tied = RegionCounts()
        tied.add([1, 0], scores)
        assert tied.average_precision() == 0.5


def test_region_counts_beyond_the_limit() -> None:
    counts = RegionCounts()
    counts.add([1, 0, 0, 1], [math.inf, 1000.0, -math.inf, -1000.0])
    # The first two are tied at 32, the last two at -32.
    assert counts.average_precision() == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_region_counts_of_any_type(dtype: Any) -> None:
    counts = RegionCounts()
    counts.add(np.array([[1, 0], [1, 0]]), np.array([[4, 3], [2, 1]], dtype=dtype))
    assert counts.average_precision() == pytest.approx(5 / 6)


def test_region_counts_of_close_half_precision_scores() -> None:
    # Next to each other in half precision, four bins apart.
    scores = np.array([4.0, np.nextafter(np.float16(4), np.float16(5))], dtype=np.float16)
    counts = RegionCounts()
    counts.add([0, 1], scores)
    assert counts.average_precision() == 1


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [1.0], "one length"),
        ([1, 2], [1.0, 2.0], "0 or 1"),
        ([1, 0], [1.0, math.nan], "NaN"),
    ],
)
def test_region_counts_of_bad_rankings(labels: Any, scores: Any, message: str) -> None:
    counts = RegionCounts()
    with pytest.raises(BadInput, match=message):
        counts.add(labels, scores)
    assert math.isnan(counts.average_precision())


def test_total_positives_below_the_labels() -> None:
    with pytest.raises(BadInput, match="total_positives is 1"):
        precision_recall([1, 1], [1.0, 2.0], 1)


def separations(picks: Points, truth: Points) -> NDArray[np.float64]:
    a = np.array(picks, dtype=float).reshape(-1, 1, 2)
    b = np.array(truth, dtype=float).reshape(1, -1, 2)
    return np.asarray(np.hypot(*np.moveaxis(a - b, 2, 0)))


@given(picks=grid_points, truth=grid_points, distance=st.sampled_from([0, 1, 2**0.5, 2, 3.5]))
def test_every_prefix_is_a_maximum_matching(picks: Points, truth: Points, distance: float) -> None:
    result = match_picks(picks, truth, distance)
    between = separations(picks, truth)
    near = between <= distance
    for k in range(1, len(picks) + 1):
        best = 0
        if truth:
            best = int(np.sum(maximum_bipartite_matching(csr_array(near[:k])) >= 0))
        assert np.count_nonzero(result.is_true_positive[:k]) == best

    # The pairs are one to one, near enough, and of the least total distance.
    hit = result.is_true_positive
    assert hit.shape == (len(picks),)
    np.testing.assert_array_equal(hit, result.truth_index >= 0)
    np.testing.assert_array_equal(hit, ~np.isnan(result.distance))
    pairs = result.truth_index[hit]
    assert len(set(pairs.tolist())) == len(pairs)
    if truth:
        np.testing.assert_array_equal(result.distance[hit], between[np.flatnonzero(hit), pairs])
    assert np.all(result.distance[hit] <= distance)
    if hit.any():
        cost = np.where(near, between, 1e6)[hit]
        least = cost[linear_sum_assignment(cost)].sum()
        assert result.distance[hit].sum() == pytest.approx(least)


def test_matching_against_all_assignments() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        picks, truth = random.uniform(0, 4, (4, 2)), random.uniform(0, 4, (3, 2))
        near = separations(picks.tolist(), truth.tolist()) <= 1.5
        for k in range(5):
            best = max(
                sum(pick < k and near[pick, j] for j, pick in enumerate(order))
                for order in itertools.permutations(range(4), 3)
            )
            assert match_picks(picks[:k], truth, 1.5).is_true_positive.sum() == best
            assert match_picks(picks, truth, 1.5).is_true_positive[:k].sum() == best


def test_an_earlier_pick_makes_room() -> None:
    # The first pick is nearer to the particle that is the only one for the second.
    result = match_picks([(4, 0), (0, 0)], [(3, 0), (9, 0)], 5)
    assert result.is_true_positive.tolist() == [True, True]
    assert result.truth_index.tolist() == [1, 0]
    assert result.distance.tolist() == [5, 3]


def test_pairs_are_the_nearest_ones() -> None:
    # Taken in order, pick 0 would hold particle 0 at 1 and pick 1 go to particle 1 at 4.
    result = match_picks([(1, 0), (-0.5, 0)], [(0, 0), (2.5, 0)], 4)
    assert result.truth_index.tolist() == [1, 0]
    assert result.distance.tolist() == [1.5, 0.5]


def test_duplicates_are_false_positives() -> None:
    result = match_picks([(5, 5), (5, 5), (5, 6)], [(5, 5)], 3)
    assert result.is_true_positive.tolist() == [True, False, False]
    assert result.truth_index.tolist() == [0, -1, -1]
    np.testing.assert_array_equal(result.distance, [0, math.nan, math.nan])


def test_distance_is_inclusive() -> None:
    assert match_picks([(3, 4)], [(0, 0)], 5).is_true_positive.tolist() == [True]
    assert match_picks([(3, 4)], [(0, 0)], 4.999999999).is_true_positive.tolist() == [False]
    assert match_picks([(0.1, 0.3)], [(0.1, 0.3)], 0).is_true_positive.tolist() == [True]
    separation = float(np.hypot(0.1, 0.7))
    assert match_picks([(0.1, 0.7)], [(0, 0)], separation).is_true_positive.tolist() == [True]


def test_a_long_chain_of_exchanges() -> None:
    # Each pick prefers the particle on its left; the last one there moves all of them.
    n = 10_000
    picks = np.array([(i + 0.4, 0.0) for i in range(n)] + [(-0.4, 0.0), (-0.5, 0.0)])
    truth = np.array([(float(i), 0.0) for i in range(n + 1)])
    result = match_picks(picks, truth, 0.65)
    assert result.is_true_positive.tolist() == [True] * (n + 1) + [False]
    assert result.truth_index.tolist() == [*range(1, n + 1), 0, -1]


def test_many_failing_searches_are_not_repeated() -> None:
    n = 1500
    truth = np.array([(float(i), 0.0) for i in range(n)])
    picks = np.tile(truth, (4, 1)) + 0.1
    hit = match_picks(picks, truth, 1.5).is_true_positive
    assert hit.tolist() == [True] * n + [False] * (3 * n)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (3, 0), (0, 3)])
def test_match_of_nothing(n: int, m: int) -> None:
    result = match_picks(np.zeros((n, 2)), np.zeros((m, 2)), 1)
    assert result.is_true_positive.tolist() == [False] * n
    assert result.truth_index.tolist() == [-1] * n
    assert result.distance.shape == (n,)


def test_bad_points() -> None:
    with pytest.raises(BadInput, match="shape is"):
        match_picks([(1, 2, 3)], [(1, 2)], 1)
    with pytest.raises(BadInput, match="not finite"):
        match_picks([(1, 2)], [(1, math.nan)], 1)
    for distance in (-1, math.nan, math.inf):
        with pytest.raises(BadInput, match="distance"):
            match_picks([(1, 2)], [(1, 2)], distance)


PICKS = {
    # Out of order on purpose; by score: hit 0.9, hit 0.8, duplicate 0.5, stray 0.2.
    "a": ([(50, 50), (0, 1), (10, 0), (0, 2)], [0.2, 0.9, 0.8, 0.5]),
    # A stray at 0.7 and a hit at 0.6.
    "b": ([(90, 90), (3, 4)], [0.7, 0.6]),
    "empty": ([(5, 5)], [0.1]),
    "unknown": ([(0, 0)], [1.0]),
}
TRUTH: dict[str, Any] = {
    "a": [(0, 0), (10, 0)],
    "b": [(0, 0)],
    "missed": [(7, 7)],
    "empty": np.empty((0, 2)),
}


def test_evaluation_by_hand() -> None:
    result = evaluate_picks(PICKS, TRUTH, 5)
    assert (result.n_picks, result.n_truth, result.n_true_positives) == (7, 4, 3)
    assert result.ignored_micrographs == 1
    assert result.threshold is None
    # Pooled in order: hit, hit, stray, hit, duplicate, stray, stray.
    assert result.curve.threshold.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5, 0.2, 0.1]
    assert result.micro == pytest.approx((3 / 7, 3 / 4, 6 / 11, (1 + 1 + 3 / 4) / 4))
    assert (result.best_f1, result.best_f1_threshold) == pytest.approx((6 / 8, 0.6))
    assert result.median_distance == 1

    rows = {row.name: row for row in result.micrographs}
    assert list(rows) == list(TRUTH)
    assert rows["a"][1:4] == (4, 2, 2)
    assert rows["a"].scores == pytest.approx((1 / 2, 1, 2 / 3, 1))
    assert rows["b"].scores == pytest.approx((1 / 2, 1, 2 / 3, 1 / 2))
    assert rows["missed"][1:4] == (0, 1, 0)
    assert rows["missed"].scores == pytest.approx((math.nan, 0, 0, 0), nan_ok=True)
    assert rows["empty"][1:4] == (1, 0, 0)
    assert rows["empty"].scores == pytest.approx((0, math.nan, 0, math.nan), nan_ok=True)
    # "empty" has no particles and "missed" no precision.
    assert result.macro == pytest.approx((1 / 2, 2 / 3, 4 / 9, 1 / 2))


def test_operating_threshold_is_inclusive() -> None:
    result = evaluate_picks(PICKS, TRUTH, 5, threshold=0.6)
    assert (result.n_picks, result.n_true_positives) == (4, 3)
    assert result.micro[:3] == pytest.approx((3 / 4, 3 / 4, 3 / 4))
    assert result.micro.average_precision == pytest.approx(2.75 / 4)
    assert result.micro.f1 == result.best_f1
    none = evaluate_picks(PICKS, TRUTH, 5, threshold=2)
    assert none.micro == pytest.approx((math.nan, 0, 0, 2.75 / 4), nan_ok=True)
    assert math.isnan(none.median_distance)


def test_distances_are_those_of_the_picks_counted() -> None:
    # The second pick takes the particle that the first, alone, would be paired with.
    picks = {"a": ([(1, 0), (-0.5, 0)], [2.0, 1.0])}
    truth = {"a": [(0, 0), (2.5, 0)]}
    assert evaluate_picks(picks, truth, 4, threshold=1.5).median_distance == 1
    assert evaluate_picks(picks, truth, 4).median_distance == 1


def test_a_shift_of_all_centers_is_measured() -> None:
    random = np.random.default_rng(3)
    truth = {"a": 40.0 * np.argwhere(np.ones((8, 8)))}
    scatter = random.normal(0, 1, (64, 2))
    shifted = truth["a"] + (-3.0, 2.0) + scatter
    strays = 40.0 * np.argwhere(np.ones((8, 8))) + 20
    xy, scores = np.concatenate([shifted, strays]), np.arange(128.0)
    result = evaluate_picks({"a": (xy, scores)}, truth, 10)
    assert result.n_true_positives == 64
    expected = np.median(shifted - truth["a"], axis=0)
    assert result.median_shift == pytest.approx(tuple(expected))
    distances = np.hypot(*(shifted - truth["a"]).T)
    assert result.median_distance == pytest.approx(np.median(distances))
    assert np.mean(distances <= result.distance_90) == pytest.approx(0.9, abs=0.02)
    assert result.as_dict()["median_shift"] == list(result.median_shift)
    nothing = evaluate_picks({"a": (strays, scores[:64])}, truth, 10)
    assert all(math.isnan(value) for value in nothing.median_shift)
    assert nothing.as_dict()["median_shift"] == [None, None]


def test_tied_picks_are_one_threshold_whatever_their_order() -> None:
    truth = {"a": [(0, 0)]}
    for xy in ([(0, 0), (50, 0)], [(50, 0), (0, 0)]):
        result = evaluate_picks({"a": (xy, [1.0, 1.0])}, truth, 1)
        assert result.curve.threshold.tolist() == [1]
        assert result.micro.average_precision == 0.5


def test_perfect_picks() -> None:
    random = np.random.default_rng(5)
    truth = {name: random.uniform(0, 1000, (30, 2)) for name in "abc"}
    picks = {name: (xy, random.standard_normal(len(xy))) for name, xy in truth.items()}
    result = evaluate_picks(picks, truth, 10)
    assert result.micro == pytest.approx((1, 1, 1, 1))
    assert result.macro == pytest.approx((1, 1, 1, 1))
    assert result.best_f1 == 1
    assert result.median_distance == 0


@pytest.mark.parametrize("truth", [{}, {"a": []}, {"a": [(1.0, 2.0)]}])
def test_no_picks(truth: dict[str, Any]) -> None:
    result = evaluate_picks({}, truth, 3)
    assert math.isnan(result.micro.precision)
    expected = 0 if truth.get("a") else math.nan
    for scores in (result.micro, result.macro):
        assert scores[1:] == pytest.approx((expected,) * 3, nan_ok=True)
    assert math.isnan(result.best_f1)
    assert result.as_dict()["best_f1"] is None


def test_as_dict_is_strict_json() -> None:
    for picks, threshold in ((PICKS, None), (PICKS, math.inf), ({}, 0.5)):
        plain = evaluate_picks(picks, TRUTH, 5, threshold).as_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    plain = evaluate_picks(PICKS, TRUTH, 5).as_dict()
    assert plain["micro"]["recall"] == 0.75
    assert plain["micrographs"][2]["name"] == "missed"
    assert plain["micrographs"][2]["scores"]["precision"] is None
    assert plain["curve"]["precision"][0] == 1
    assert "curve" not in evaluate_picks(PICKS, TRUTH, 5).as_dict(curve=False)


def test_bad_evaluation_input() -> None:
    truth = {"m1": [(0, 0)]}
    with pytest.raises(BadInput, match=r"m1.* scores of shape"):
        evaluate_picks({"m1": ([(0, 0)], [1, 2])}, truth, 1)
    with pytest.raises(BadInput, match=r"m1.* NaN"):
        evaluate_picks({"m1": ([(0, 0)], [math.nan])}, truth, 1)
    with pytest.raises(BadInput, match="picks of micrograph 'm1'"):
        evaluate_picks({"m1": ([0, 0], [1])}, truth, 1)
    with pytest.raises(BadInput, match="threshold"):
        evaluate_picks({}, truth, 1, threshold=math.nan)
    with pytest.raises(BadInput, match="distance"):
        evaluate_picks({}, truth, -1)
