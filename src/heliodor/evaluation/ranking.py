"""Precision, recall and average precision of a ranking of regions or picks.

The average precision is that of Bepler et al. 2019 (Topaz), Methods 8. Labels in cryoEM are
rarely complete; precision, F1 and average precision are then lower bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall if everything at or above `threshold` is called positive.

    Attributes
    ----------
    threshold
        The distinct scores, strictly descending, shape (n,).
    precision, recall, f1
        Values at these thresholds, shape (n,). Recall is NaN when there is no positive.
    called
        Number of scores at or above the threshold, shape (n,).
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    called: NDArray[np.intp]

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


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision of a ranking, Σₖ Pr(k) (R(k) - R(k-1)).

    Equal scores share one threshold, as in scikit-learn's ``average_precision_score``. Source:
    Bepler et al. 2019, Methods 8. If positives are unlabeled the value is a lower bound.

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
    # Only thresholds that gain recall contribute, and the number of regions above each follows
    # from the sorted scores: sorting values is several times faster than sorting indices.
    thresholds, gained = np.unique(score[positive], return_counts=True)
    if gained.size == 0:
        return math.nan
    called = score.size - np.searchsorted(np.sort(score), thresholds, side="left")
    found = np.cumsum(gained[::-1])[::-1]
    return float(np.sum(gained * (found / called)) / found[0])


def precision_recall(
    labels: ArrayLike, scores: ArrayLike, total_positives: int | None = None
) -> PrecisionRecall:
    """Return precision, recall and F1 at each distinct score.

    Source: Bepler et al. 2019, Methods 8. Precision is a lower bound if positives are unlabeled.

    Parameters
    ----------
    labels
        True or 1 for a positive, False or 0 for any other, shape (n,).
    scores
        Score of each, shape (n,).
    total_positives
        Total number of positives, if some have no score (particles that no pick matched). The
        default is the number of positive labels.

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
        raise BadInput(f"there are {n_positive} positive labels, but total_positives is {total}")
    order = np.argsort(score)[::-1]
    ranked = score[order].astype(np.float64)
    # The last of each group of equal scores; the last of all has no successor.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], np.True_)[: ranked.size])
    called = last + 1
    found = np.cumsum(positive[order])[last]
    recall = found / total if total else np.full(last.size, math.nan)
    f1 = 2 * found / (called + total)
    return PrecisionRecall(ranked[last], found / called, recall, f1, called)


class RegionCounts:
    """The average precision of more regions than fit into memory, counted per micrograph.

    Scores are counted in bins of a thousandth; regions in the same bin are treated as tied.
    """

    #: Log-odds beyond this limit are counted at it.
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
        """Return the average precision of all regions so far; NaN without positives."""
        hits = np.cumsum(self._positive[::-1])
        ranked = np.cumsum(self._all[::-1])
        if not ranked[-1] or not hits[-1]:
            return math.nan
        gain = self._positive[::-1] / hits[-1]
        return float(np.sum(gain * hits / np.maximum(ranked, 1)))


def _ranking_input(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    label, score = np.asarray(labels), np.asarray(scores)
    if label.ndim != 1 or label.shape != score.shape:
        raise BadInput(
            f"labels and scores must be two lists of one length, not of shapes {label.shape} and"
            f" {score.shape}"
        )
    if label.dtype != np.bool_ and not np.all((label == 0) | (label == 1)):
        raise BadInput("labels must be 0 or 1")
    if not np.issubdtype(score.dtype, np.floating):
        score = score.astype(np.float64)
    if np.isnan(score).any():
        raise BadInput("a score is NaN and cannot be ranked")
    return label.astype(np.bool_), score
