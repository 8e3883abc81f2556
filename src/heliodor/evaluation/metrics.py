"""How good a list of picks is, measured against labelled particles.

Picks are paired with particles one to one (Bepler et al. 2019, Methods 9).

The labelled particles of a cryoEM data set are seldom complete. A pick on a real particle that
nobody labelled counts as false here, so precision, and what is computed from it, is then a
lower bound; recall speaks of the labelled particles only.
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
    """The four figures of merit; NaN where one is not defined."""

    precision: float
    recall: float
    f1: float
    average_precision: float


class MicrographMetrics(NamedTuple):
    """One micrograph's counts at the operating threshold and its scores."""

    name: str
    n_picks: int
    n_truth: int
    n_true_positives: int
    scores: PickMetrics


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate_picks` found.

    Attributes
    ----------
    micro
        Scores of all micrographs pooled. Average precision ranks every pick given, the other
        three are at the operating threshold; so too in `macro` and the rows.
    macro
        Means over the micrographs that have particles. One without picks has recall, F1 and
        average precision 0, but no precision, and is left out of the mean of that one.
    best_f1, best_f1_threshold
        The highest pooled F1 over all thresholds, and where it is reached.
    threshold
        The operating threshold: picks that score it or more count. None: all given.
    distance
        The largest distance of a match, in the unit of the coordinates.
    median_distance
        The median distance of the matched pairs at the operating threshold; NaN without any.
    n_picks, n_truth, n_true_positives
        Pooled counts at the operating threshold.
    ignored_micrographs
        The number of micrographs with picks but no entry in the truth.
    curve
        The pooled precision and recall over all thresholds.
    micrographs
        One row for each micrograph of the truth, in its order.
    """

    micro: PickMetrics
    macro: PickMetrics
    best_f1: float
    best_f1_threshold: float
    threshold: float | None
    distance: float
    median_distance: float
    n_picks: int
    n_truth: int
    n_true_positives: int
    ignored_micrographs: int
    curve: PrecisionRecall
    micrographs: tuple[MicrographMetrics, ...]

    def as_dict(self, *, curve: bool = True) -> dict[str, Any]:
        """Return plain Python values ready for JSON, with None for what is not finite.

        Parameters
        ----------
        curve
            Whether to include the curve, which has a point for each distinct score.
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
    if isinstance(value, list):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate_picks(
    picks: Mapping[str, tuple[ArrayLike, ArrayLike]],
    truth: Mapping[str, ArrayLike],
    distance: float,
    threshold: float | None = None,
) -> Evaluation:
    """Score picks against the labelled particles of each micrograph.

    Picks are paired with particles as `match_picks` does; a second pick on one particle is a false
    positive. The truth in cryoEM is often incomplete, and a pick on a particle nobody labelled
    counts as false: precision, and with it F1 and average precision, is then a lower bound.
    Source: Bepler et al. 2019, Methods 8/9.

    Parameters
    ----------
    picks
        For each micrograph (x, y), shape (n, 2), and scores, shape (n,), in any order. The
        average precision needs them down to low scores. Micrographs without an entry in
        `truth` are left out.
    truth
        For each micrograph (x, y) of its particles, shape (m, 2). An empty one says that there
        is none and all picks are false; one without picks has all its particles missed.
    distance
        The largest distance of a match, inclusive, in the unit of the coordinates.
    threshold
        The operating threshold: only picks that score it or more count in precision, recall
        and F1. None counts all given.

    Raises
    ------
    BadInput
        If coordinates are not finite (x, y) pairs, a score is NaN or missing, `distance` is
        negative or not finite, or `threshold` is NaN.
    """
    distance = check_distance(distance)
    if threshold is not None and math.isnan(threshold):
        raise BadInput("The operating threshold must be a number, not NaN.")
    rows: list[MicrographMetrics] = []
    labels, scores, distances = [np.empty(0, np.bool_)], [np.empty(0)], [np.empty(0)]
    for name, particles in truth.items():
        true_xy = check_points(particles, f"particles of micrograph {name!r}")
        xy, score = _check_scored_points(*picks.get(name, ((), ())), name)
        order = np.argsort(-score, kind="stable")
        xy, score = xy[order], score[order]
        edges = find_pairs_within(xy, true_xy, distance)
        hit = find_true_positives(edges, len(xy), len(true_xy))
        counted = score >= (-math.inf if threshold is None else threshold)
        # The best pairs of the picks counted need not be those of all picks.
        separation = pair_true_positives(edges, hit & counted, len(true_xy))[1]
        distances.append(separation[hit & counted])
        labels.append(hit)
        scores.append(score)
        rows.append(_measure_micrograph(name, hit, score, counted, len(true_xy)))

    n_picks = sum(row.n_picks for row in rows)
    n_truth = sum(row.n_truth for row in rows)
    n_hits = sum(row.n_true_positives for row in rows)
    curve = precision_recall(np.concatenate(labels), np.concatenate(scores), n_truth)
    matched = np.concatenate(distances)
    best_f1, best_f1_threshold = curve.best
    with_truth = [row.scores for row in rows if row.n_truth]
    return Evaluation(
        micro=_measure_counts(n_hits, n_picks, n_truth, curve),
        macro=PickMetrics(*(_mean([s[field] for s in with_truth]) for field in range(4))),
        best_f1=best_f1,
        best_f1_threshold=best_f1_threshold,
        threshold=threshold,
        distance=distance,
        median_distance=float(np.median(matched)) if matched.size else math.nan,
        n_picks=n_picks,
        n_truth=n_truth,
        n_true_positives=n_hits,
        ignored_micrographs=len(picks.keys() - truth.keys()),
        curve=curve,
        micrographs=tuple(rows),
    )


def _measure_micrograph(
    name: str,
    hit: NDArray[np.bool_],
    score: FloatArray,
    counted: NDArray[np.bool_],
    n_truth: int,
) -> MicrographMetrics:
    n_picks, n_hits = int(np.count_nonzero(counted)), int(np.count_nonzero(hit & counted))
    curve = precision_recall(hit, score, n_truth)
    return MicrographMetrics(
        name, n_picks, n_truth, n_hits, _measure_counts(n_hits, n_picks, n_truth, curve)
    )


def _measure_counts(
    n_hits: int, n_picks: int, n_truth: int, curve: PrecisionRecall
) -> PickMetrics:
    # A list without picks finds nothing, so its average precision is 0 and not undefined.
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
            f"Micrograph {name!r} has {len(points)} picks, but scores of shape {score.shape}."
        )
    if np.isnan(score).any():
        raise BadInput(f"A pick of micrograph {name!r} has a score that is NaN.")
    return points, score
