"""How good a ranking of regions or a list of picks is, measured against labelled particles.

The average precision of regions is that of Bepler et al. 2019 (Topaz), Methods 8; picks are
paired with particles one to one and scored as in Methods 9.

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
from heliodor.matching import assign, augment, checked_distance, checked_points, edges_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from heliodor.conventions import FloatArray


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall when all that scores `threshold` or more is called positive.

    Attributes
    ----------
    threshold
        The distinct scores, strictly descending, shape (n,).
    precision, recall, f1
        Values at these thresholds, shape (n,). Recall is NaN when there is no positive.
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray

    @property
    def average_precision(self) -> float:
        """The sum of precision times the gain in recall; NaN without points or positives."""
        if self.recall.size == 0:
            return math.nan
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    @property
    def best(self) -> tuple[float, float]:
        """The highest F1 and the (highest) threshold that reaches it; NaN without points."""
        if self.f1.size == 0:
            return math.nan, math.nan
        index = int(np.argmax(self.f1))
        return float(self.f1[index]), float(self.threshold[index])


class Scores(NamedTuple):
    """The four figures of merit; NaN where one is not defined."""

    precision: float
    recall: float
    f1: float
    average_precision: float


class MicrographRow(NamedTuple):
    """One micrograph's counts at the operating threshold and its scores."""

    name: str
    n_picks: int
    n_truth: int
    n_true_positives: int
    scores: Scores


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

    micro: Scores
    macro: Scores
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
    micrographs: tuple[MicrographRow, ...]

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
        cleaned: dict[str, Any] = _finite(plain)
        return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision of a ranking, Σₖ Pr(k) (R(k) - R(k-1)).

    Equal scores make one threshold, as in scikit-learn's ``average_precision_score``. Source:
    Bepler et al. 2019, Methods 8. Where positives are unlabelled the value is a lower bound.

    Parameters
    ----------
    labels
        True or 1 for a positive region, False or 0 for any other, shape (n,).
    scores
        Score of each region, shape (n,).

    Returns
    -------
    float
        Between 0 and 1; NaN when there is no positive.

    Raises
    ------
    BadInput
        If the shapes differ, a label is neither 0 nor 1 or a score is NaN.
    """
    positive, score = _ranking_input(labels, scores)
    # Only thresholds that gain recall contribute, and how many regions reach one of them can be
    # read off the sorted scores: sorting values is several times faster than sorting indices.
    thresholds, gained = np.unique(score[positive], return_counts=True)
    if gained.size == 0:
        return math.nan
    called = score.size - np.searchsorted(np.sort(score), thresholds, side="left")
    found = np.cumsum(gained[::-1])[::-1]
    return float(np.sum(gained * (found / called)) / found[0])


class RegionCounts:
    """The average precision of more regions than fit into memory, micrograph by micrograph.

    Scores are counted in bins of a thousandth, finer than any ranking of log-odds means;
    regions of one bin are treated as tied.
    """

    #: Log-odds beyond this are counted at it.
    LIMIT = 32.0
    STEP = 1e-3

    def __init__(self) -> None:
        bins = round(2 * self.LIMIT / self.STEP) + 1
        self._positive = np.zeros(bins, dtype=np.int64)
        self._all = np.zeros(bins, dtype=np.int64)

    def add(self, labels: ArrayLike, scores: ArrayLike) -> None:
        """Count the regions of one micrograph: whether each is positive, and its score.

        Raises
        ------
        BadInput
            As `average_precision` does.
        """
        positive, score = _ranking_input(np.ravel(labels), np.ravel(scores))
        clipped = np.clip(score.astype(np.float64), -self.LIMIT, self.LIMIT)
        index = np.rint((clipped + self.LIMIT) / self.STEP).astype(np.intp)
        self._all += np.bincount(index, minlength=len(self._all))
        self._positive += np.bincount(index[positive], minlength=len(self._all))

    def average_precision(self) -> float:
        """Return the average precision of all regions so far; nan without a positive one."""
        hits = np.cumsum(self._positive[::-1])
        ranked = np.cumsum(self._all[::-1])
        if not ranked[-1] or not hits[-1]:
            return math.nan
        gain = self._positive[::-1] / hits[-1]
        return float(np.sum(gain * hits / np.maximum(ranked, 1)))


def precision_recall(
    labels: ArrayLike, scores: ArrayLike, total_positives: int | None = None
) -> PrecisionRecall:
    """Return precision, recall and F1 at each distinct score.

    Source: Bepler et al. 2019, Methods 8. Precision is a lower bound where positives are
    unlabelled.

    Parameters
    ----------
    labels
        True or 1 for a positive, False or 0 for any other, shape (n,).
    scores
        Score of each, shape (n,).
    total_positives
        All the positives there are, if some have no score (particles that no pick matched).
        The default is the number of positive labels.

    Raises
    ------
    BadInput
        If the shapes differ, a label is neither 0 nor 1, a score is NaN or `total_positives`
        is less than the number of positive labels.
    """
    positive, score = _ranking_input(labels, scores)
    n_positive = int(np.count_nonzero(positive))
    total = n_positive if total_positives is None else total_positives
    if total < n_positive:
        raise BadInput(f"There are {n_positive} positive labels, more than {total} in total.")
    order = np.argsort(score)[::-1]
    ranked = score[order].astype(np.float64)
    # The last of each group of equal scores; the last of all has no successor.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], np.True_)[: ranked.size])
    called = last + 1
    found = np.cumsum(positive[order])[last]
    recall = found / total if total else np.full(last.size, math.nan)
    return PrecisionRecall(ranked[last], found / called, recall, 2 * found / (called + total))


def _ranking_input(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    label, score = np.asarray(labels), np.asarray(scores)
    if label.ndim != 1 or label.shape != score.shape:
        raise BadInput(
            f"Labels and scores must be two lists of one length, not {label.shape} and "
            f"{score.shape}."
        )
    if label.dtype != np.bool_ and not np.all((label == 0) | (label == 1)):
        raise BadInput("Labels must be 0 or 1.")
    if not np.issubdtype(score.dtype, np.floating):
        score = score.astype(np.float64)
    if np.isnan(score).any():
        raise BadInput("A score is NaN: it cannot be ranked.")
    return label.astype(np.bool_), score


def evaluate_picks(
    picks: Mapping[str, tuple[ArrayLike, ArrayLike]],
    truth: Mapping[str, ArrayLike],
    distance: float,
    threshold: float | None = None,
) -> Evaluation:
    """Score picks against the labelled particles of each micrograph.

    Picks are paired with particles as `match` does; a second pick on one particle is a false
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
    distance = checked_distance(distance)
    if threshold is not None and math.isnan(threshold):
        raise BadInput("The operating threshold must be a number, not NaN.")
    rows: list[MicrographRow] = []
    labels, scores, distances = [np.empty(0, np.bool_)], [np.empty(0)], [np.empty(0)]
    for name, particles in truth.items():
        true_xy = checked_points(particles, f"particles of micrograph {name!r}")
        xy, score = _scored_points(*picks.get(name, ((), ())), name)
        order = np.argsort(-score, kind="stable")
        xy, score = xy[order], score[order]
        edges = edges_within(xy, true_xy, distance)
        hit = augment(edges, len(xy), len(true_xy))
        counted = score >= (-math.inf if threshold is None else threshold)
        # The best pairs of the picks counted need not be those of all picks.
        separation = assign(edges, hit & counted, len(true_xy))[1]
        distances.append(separation[hit & counted])
        labels.append(hit)
        scores.append(score)
        rows.append(_row(name, hit, score, counted, len(true_xy)))

    n_picks = sum(row.n_picks for row in rows)
    n_truth = sum(row.n_truth for row in rows)
    n_hits = sum(row.n_true_positives for row in rows)
    curve = precision_recall(np.concatenate(labels), np.concatenate(scores), n_truth)
    matched = np.concatenate(distances)
    best_f1, best_f1_threshold = curve.best
    with_truth = [row.scores for row in rows if row.n_truth]
    return Evaluation(
        micro=_scores(n_hits, n_picks, n_truth, curve),
        macro=Scores(*(_mean([s[field] for s in with_truth]) for field in range(4))),
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


def _row(
    name: str,
    hit: NDArray[np.bool_],
    score: FloatArray,
    counted: NDArray[np.bool_],
    n_truth: int,
) -> MicrographRow:
    n_picks, n_hits = int(np.count_nonzero(counted)), int(np.count_nonzero(hit & counted))
    curve = precision_recall(hit, score, n_truth)
    return MicrographRow(name, n_picks, n_truth, n_hits, _scores(n_hits, n_picks, n_truth, curve))


def _scores(n_hits: int, n_picks: int, n_truth: int, curve: PrecisionRecall) -> Scores:
    # A list without picks finds nothing, so its average precision is 0 and not undefined.
    average = curve.average_precision if curve.recall.size else 0.0
    return Scores(
        precision=n_hits / n_picks if n_picks else math.nan,
        recall=n_hits / n_truth if n_truth else math.nan,
        f1=2 * n_hits / (n_picks + n_truth) if n_picks + n_truth else math.nan,
        average_precision=average if n_truth else math.nan,
    )


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _scored_points(xy: ArrayLike, scores: ArrayLike, name: str) -> tuple[FloatArray, FloatArray]:
    points = checked_points(xy, f"picks of micrograph {name!r}")
    score = np.asarray(scores, dtype=np.float64)
    if score.shape != (len(points),):
        raise BadInput(
            f"Micrograph {name!r} has {len(points)} picks, but scores of shape {score.shape}."
        )
    if np.isnan(score).any():
        raise BadInput(f"A pick of micrograph {name!r} has a score that is NaN.")
    return points, score
