"""Precision, recall, F1 and average precision of picks, measured against labeled particles.

Picks are matched with particles one to one (Bepler et al. 2019, Methods 9).

The labels of a cryoEM data set are rarely complete. A pick on a real but unlabeled particle counts
as false, so precision, F1 and average precision are then lower bounds, and recall refers to the
labeled particles only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from heliodor.errors import BadInput
from heliodor.evaluation.matching import (
    check_distance,
    check_points,
    find_pairs_within,
    find_true_positives,
    pair_true_positives,
)
from heliodor.evaluation.ranking import PrecisionRecall, precision_recall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from heliodor.conventions import FloatArray


class PickMetrics(NamedTuple):
    """Precision, recall, F1 and average precision; NaN if undefined."""

    precision: float
    recall: float
    f1: float
    average_precision: float


class MicrographMetrics(NamedTuple):
    """The counts of one micrograph at the operating threshold, and its metrics."""

    name: str
    n_picks: int
    n_truth: int
    n_true_positives: int
    scores: PickMetrics


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate_picks`.

    Attributes
    ----------
    micro
        Metrics of all micrographs pooled. Average precision ranks all picks; the other metrics
        are at the operating threshold. The same holds for `macro` and `micrographs`.
    macro
        Means over the micrographs that have particles. A micrograph without picks has recall, F1
        and average precision 0; its precision is undefined and not part of the mean.
    best_f1, best_f1_threshold
        The highest pooled F1 over all thresholds, and its threshold.
    threshold
        The operating threshold: picks at or above it count. None: all picks count.
    distance
        The match distance, in the unit of the coordinates.
    median_distance, distance_90
        The median distance of the matched pairs at the operating threshold, and the distance
        that 90% of them do not exceed; NaN without pairs.
    median_shift
        The median of the picks' (x, y) less those of their particles, of the same pairs; NaN
        without pairs. It is near 0 unless all centers are displaced to one side.
    n_picks, n_truth, n_true_positives
        Pooled counts at the operating threshold.
    ignored_micrographs
        Number of micrographs with picks but no entry in the truth.
    curve
        The pooled precision and recall over all thresholds.
    micrographs
        The metrics of each micrograph of the truth, in its order.
    """

    micro: PickMetrics
    macro: PickMetrics
    best_f1: float
    best_f1_threshold: float
    threshold: float | None
    distance: float
    median_distance: float
    distance_90: float
    median_shift: tuple[float, float]
    n_picks: int
    n_truth: int
    n_true_positives: int
    ignored_micrographs: int
    curve: PrecisionRecall
    micrographs: tuple[MicrographMetrics, ...]

    def as_dict(self, *, curve: bool = True) -> dict[str, Any]:
        """Return plain Python values ready for JSON, with None for values that are not finite.

        Parameters
        ----------
        curve
            Whether to include the curve, which has one point per distinct score.
        """
        plain = dict(vars(self))
        plain["micro"], plain["macro"] = self.micro._asdict(), self.macro._asdict()
        plain["curve"] = {name: v.tolist() for name, v in vars(self.curve).items()}
        plain["micrographs"] = [
            {**row._asdict(), "scores": row.scores._asdict()} for row in self.micrographs
        ]
        if not curve:
            del plain["curve"]
        cleaned: dict[str, Any] = _replace_non_finite(plain)
        return cleaned


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate_picks(
    picks: Mapping[str, tuple[ArrayLike, ArrayLike]],
    truth: Mapping[str, ArrayLike],
    distance: float,
    threshold: float | None = None,
) -> Evaluation:
    """Measure picks against the labeled particles of each micrograph.

    Picks are matched with particles as in `match_picks`; a second pick on a particle is a false
    positive. A pick on an unlabeled particle also counts as false: if the truth is incomplete,
    precision, F1 and average precision are lower bounds. Source: Bepler et al. 2019, Methods 8/9.

    Parameters
    ----------
    picks
        For each micrograph (x, y), shape (n, 2), and scores, shape (n,), in any order. Average
        precision needs picks down to low scores. Micrographs without an entry in `truth` are
        ignored.
    truth
        For each micrograph (x, y) of its particles, shape (m, 2). If it is empty, all picks are
        false; if there are no picks, all particles are missed.
    distance
        The largest distance of a match, inclusive, in the unit of the coordinates.
    threshold
        The operating threshold: only picks at or above it count in precision, recall and F1.
        By default all picks count.

    Raises
    ------
    BadInput
        If coordinates are not finite (x, y) pairs, a score is NaN or missing, `distance` is
        negative or not finite, or `threshold` is NaN.
    """
    distance = check_distance(distance)
    if threshold is not None and math.isnan(threshold):
        raise BadInput("the operating threshold must be a number, not NaN")
    matched = [
        _match_micrograph(name, particles, *picks.get(name, ((), ())), distance, threshold)
        for name, particles in truth.items()
    ]
    rows = tuple(micrograph.metrics for micrograph in matched)
    n_picks = sum(row.n_picks for row in rows)
    n_truth = sum(row.n_truth for row in rows)
    n_hits = sum(row.n_true_positives for row in rows)
    is_hit = np.concatenate([np.empty(0, np.bool_), *(m.is_hit for m in matched)])
    scores = np.concatenate([np.empty(0), *(m.score for m in matched)])
    shifts = np.concatenate([np.empty((0, 2)), *(m.shifts for m in matched)])
    distances = np.hypot(*shifts.T)
    middle = np.median(shifts, axis=0).tolist() if len(shifts) else [math.nan, math.nan]
    curve = precision_recall(is_hit, scores, n_truth)
    best_f1, best_f1_threshold = curve.best
    with_truth = [row.scores for row in rows if row.n_truth]
    return Evaluation(
        micro=_measure_counts(n_hits, n_picks, n_truth, curve),
        macro=PickMetrics(*(_mean([s[field] for s in with_truth]) for field in range(4))),
        best_f1=best_f1,
        best_f1_threshold=best_f1_threshold,
        threshold=threshold,
        distance=distance,
        median_distance=float(np.median(distances)) if distances.size else math.nan,
        distance_90=float(np.quantile(distances, 0.9)) if distances.size else math.nan,
        median_shift=(middle[0], middle[1]),
        n_picks=n_picks,
        n_truth=n_truth,
        n_true_positives=n_hits,
        ignored_micrographs=len(picks.keys() - truth.keys()),
        curve=curve,
        micrographs=rows,
    )


class _MatchedMicrograph(NamedTuple):
    """The matched picks of one micrograph, in descending order of score."""

    metrics: MicrographMetrics
    #: Whether each pick is a true positive, and its score; shapes (n,).
    is_hit: NDArray[np.bool_]
    score: FloatArray
    #: (x, y) of each matched pick at the operating threshold less its particle's, shape (k, 2).
    shifts: FloatArray


def _match_micrograph(
    name: str,
    particles: ArrayLike,
    picks_xy: ArrayLike,
    scores: ArrayLike,
    distance: float,
    threshold: float | None,
) -> _MatchedMicrograph:
    """Match the picks of one micrograph with its particles."""
    true_xy = check_points(particles, f"particles of micrograph {name!r}")
    xy, score = _check_scored_points(picks_xy, scores, name)
    order = np.argsort(-score, kind="stable")
    xy, score = xy[order], score[order]
    pairs = find_pairs_within(xy, true_xy, distance)
    is_hit = find_true_positives(pairs, len(xy), len(true_xy))
    counted = score >= (-math.inf if threshold is None else threshold)
    # The best pairs of the counted picks need not be those of all picks.
    matched = is_hit & counted
    shifts = xy[matched] - true_xy[pair_true_positives(pairs, matched, len(true_xy))[0][matched]]
    metrics = _measure_micrograph(name, is_hit, score, counted, len(true_xy))
    return _MatchedMicrograph(metrics, is_hit, score, shifts)


def _measure_micrograph(
    name: str,
    is_hit: NDArray[np.bool_],
    score: FloatArray,
    counted: NDArray[np.bool_],
    n_truth: int,
) -> MicrographMetrics:
    n_picks, n_hits = int(np.count_nonzero(counted)), int(np.count_nonzero(is_hit & counted))
    curve = precision_recall(is_hit, score, n_truth)
    metrics = _measure_counts(n_hits, n_picks, n_truth, curve)
    return MicrographMetrics(name, n_picks, n_truth, n_hits, metrics)


def _measure_counts(
    n_hits: int, n_picks: int, n_truth: int, curve: PrecisionRecall
) -> PickMetrics:
    # Without picks nothing is found, so the average precision is 0 rather than undefined.
    average = curve.average_precision if curve.recall.size else 0.0
    return PickMetrics(
        precision=n_hits / n_picks if n_picks else math.nan,
        recall=n_hits / n_truth if n_truth else math.nan,
        f1=2 * n_hits / (n_picks + n_truth) if n_picks + n_truth else math.nan,
        average_precision=average if n_truth else math.nan,
    )


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _check_scored_points(
    xy: ArrayLike, scores: ArrayLike, name: str
) -> tuple[FloatArray, FloatArray]:
    points = check_points(xy, f"picks of micrograph {name!r}")
    score = np.asarray(scores, dtype=np.float64)
    if score.shape != (len(points),):
        raise BadInput(
            f"micrograph {name!r} has {len(points)} picks, but scores of shape {score.shape}"
        )
    if np.isnan(score).any():
        raise BadInput(f"a pick of micrograph {name!r} has a score that is NaN")
    return points, score
