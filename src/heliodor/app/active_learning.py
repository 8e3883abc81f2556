"""Active learning: choose the candidates whose labels would improve the model most.

With few labels, and mostly later too, likely particles are chosen, spread over the micrographs:
they show what particles usually look like here, and the false ones among them are the mistakes
that a user would see. Labels of unusual and faint candidates alone degrade a good model. Of the
other questions, candidates near the threshold show where it belongs, candidates unlike all that
were labeled show what the model has not seen, and an unusual micrograph stands for all that look
like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates
from heliodor.conventions import FloatArray
from heliodor.picking.corrections import near

LIKELY: Final = "likely particle"
NEAR_THRESHOLD: Final = "near the threshold"
UNUSUAL_CANDIDATE: Final = "unlike the labeled ones"
UNUSUAL_MICROGRAPH: Final = "unusual micrograph"
#: With fewer labels than this, only likely particles are chosen.
ENOUGH_LABELS: Final = 20
#: The reasons of the questions after that, in turns.
REASON_CYCLE: Final = (
    LIKELY, LIKELY, LIKELY, NEAR_THRESHOLD,
    LIKELY, LIKELY, LIKELY, UNUSUAL_CANDIDATE,
    LIKELY, LIKELY, LIKELY, UNUSUAL_MICROGRAPH,
)  # fmt: skip

#: Distance from the threshold, in log-odds, at which a candidate is about half as uncertain.
UNCERTAIN_RANGE: Final = 2.0
#: The weight of a candidate far above or below the threshold, beside 1 for one on it.
SURE_ABOVE, SURE_BELOW = 0.15, 0.02
#: If there are more candidates, a share is drawn from each micrograph.
MAX_CANDIDATES: Final = 20_000


@dataclass(frozen=True)
class Question:
    """A candidate of which the user is asked whether it is a particle."""

    #: The key of the micrograph.
    micrograph: int
    #: (x, y) in pixels of the original file.
    xy_px: tuple[float, float]
    #: Log-odds.
    score: float
    #: The reason, in a few words for the user.
    why: str


@dataclass
class _CandidatePool:
    """The candidates that can be chosen, one per row."""

    micrograph: NDArray[np.int64]
    xy_px: FloatArray
    #: (x, y) in units of half a diameter: positions at most 1 apart are the same.
    position: FloatArray
    score: FloatArray
    features: FloatArray
    #: Features of the candidates that have a label or a negative.
    answered: FloatArray


def choose_questions(
    candidates: Mapping[int, Candidates],
    labels: Mapping[int, FloatArray],
    negatives: Mapping[int, FloatArray],
    diameter_px: Mapping[int, float],
    threshold: float,
    count: int,
    seed: int,
) -> list[Question]:
    """Choose the candidates to ask about.

    Parameters
    ----------
    candidates
        The candidates of each scored micrograph.
    labels, negatives
        The annotations of some micrographs, (x, y) in pixels of the original files, shape (n, 2).
    diameter_px
        The particle's diameter in the pixels of each micrograph.
    threshold
        Log-odds from which candidates are picks.
    count
        Most questions.
    seed
        The same seed gives the same questions.

    Returns
    -------
    list of Question
        In the order to ask in; fewer than `count` if there are no more. None lies in
        contamination, or within half a diameter of an annotation or of another question.
    """
    random = np.random.default_rng(seed)
    pool = _collect_candidates(candidates, labels, negatives, diameter_px, threshold, random)
    if not len(pool.score) or count < 1:
        return []
    selection = _Selection(
        pool,
        threshold,
        random.random(len(pool.score)),
        _micrograph_features(candidates),
        [i for i in candidates if _count(labels, i) + _count(negatives, i)],
    )
    answers = sum(_count(part, i) for part in (labels, negatives) for i in candidates)
    has_labels = sum(_count(labels, i) for i in candidates) >= ENOUGH_LABELS
    questions: list[Question] = []
    while len(questions) < count and selection.available.any():
        turn = (answers + len(questions)) % len(REASON_CYCLE)
        questions.append(selection.take(REASON_CYCLE[turn] if has_labels else LIKELY))
    return questions


class _Selection:
    """Takes candidates from a pool, one after the other.

    Parameters
    ----------
    pool
        The candidates.
    threshold
        Log-odds from which candidates are picks.
    chance
        Random numbers from 0 to 1, one per candidate, that decide between equal ones.
    micrograph_features
        The features of each micrograph.
    annotated
        Micrographs with annotations.
    """

    def __init__(
        self,
        pool: _CandidatePool,
        threshold: float,
        chance: FloatArray,
        micrograph_features: Mapping[int, FloatArray],
        annotated: list[int],
    ) -> None:
        self._pool = pool
        self._chance = chance
        self._uncertainty = _uncertainty(pool.score, threshold) * (1 + 0.05 * chance)
        self._is_pick = pool.score >= threshold
        self._micrograph_features = micrograph_features
        self._annotated = annotated
        #: Distance in features to the nearest candidate with an annotation or a question.
        self._distance = _distance_to(pool.features, pool.answered)
        #: Questions per micrograph.
        self._asked: dict[int, int] = {}
        #: The candidates that can still be taken.
        self.available = np.ones(len(pool.score), dtype=bool)

    def take(self, reason: str) -> Question:
        """Take the best available candidate for a reason, or for the usual one if none fits."""
        pool, available, distance = self._pool, self.available, self._distance
        if np.isinf(distance).all():
            novelty = np.ones(len(distance))
        else:
            novelty = distance / (distance[available].max() or 1.0)
        share = np.array([1.0 / (1 + self._asked.get(int(i), 0)) for i in pool.micrograph])
        value = self._uncertainty * (0.1 + novelty) * share
        allowed = available
        likely = available & self._is_pick
        if reason == LIKELY and likely.any():
            # Any of them, as long as they are spread over the micrographs.
            value, allowed = share + 0.1 * self._chance, likely
        elif reason == UNUSUAL_CANDIDATE and np.isfinite(distance).any():
            value = self._uncertainty**0.5 * (0.1 + novelty) ** 2 * share
        elif reason == UNUSUAL_MICROGRAPH and (unusual := self._most_unusual()) is not None:
            allowed = available & (pool.micrograph == unusual)
        else:
            reason = NEAR_THRESHOLD
        best = int(np.argmax(np.where(allowed, value, -1.0)))
        self._mark_taken(best)
        x, y = pool.xy_px[best].tolist()
        return Question(int(pool.micrograph[best]), (x, y), float(pool.score[best]), reason)

    def _mark_taken(self, index: int) -> None:
        pool, micrograph = self._pool, int(self._pool.micrograph[index])
        self._asked[micrograph] = self._asked.get(micrograph, 0) + 1
        self._distance = np.minimum(
            self._distance, _distance_to(pool.features, pool.features[index : index + 1])
        )
        beside = ((pool.position - pool.position[index]) ** 2).sum(axis=1) <= 1
        self.available &= ~(beside & (pool.micrograph == micrograph))

    def _most_unusual(self) -> int | None:
        """Return the micrograph least like those with annotations or questions, if any."""
        features = self._micrograph_features
        known = list(dict.fromkeys([*self._annotated, *self._asked]))
        among = np.unique(self._pool.micrograph[self.available])
        others = [int(i) for i in among if i not in known]
        if not others or not known:
            return None
        distance = _distance_to(
            np.array([features[i] for i in others]), np.array([features[i] for i in known])
        )
        return others[int(np.argmax(distance))] if distance.max() > 0 else None


def _uncertainty(score: FloatArray, threshold: float) -> FloatArray:
    """Return how uncertain each score is: 1 on the threshold, less far from it."""
    offset = np.clip(score - threshold, -40.0, 40.0)
    sure = np.where(offset > 0, SURE_ABOVE, SURE_BELOW)
    return np.asarray(sure + (1 - sure) / np.cosh(offset / UNCERTAIN_RANGE) ** 2)


def _collect_candidates(
    candidates: Mapping[int, Candidates],
    labels: Mapping[int, FloatArray],
    negatives: Mapping[int, FloatArray],
    diameter_px: Mapping[int, float],
    threshold: float,
    random: np.random.Generator,
) -> _CandidatePool:
    """Return the candidates without annotations and outside contamination."""
    limit = max(1, MAX_CANDIDATES // max(1, len(candidates)))
    columns: list[tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray, FloatArray]] = []
    answered = []
    for i, table in candidates.items():
        half = diameter_px[i] / 2
        annotations = [np.reshape(part[i], (-1, 2)) for part in (labels, negatives) if i in part]
        taken = near(table.xy_px, np.concatenate([np.zeros((0, 2)), *annotations]), half)
        answered.append(np.asarray(table.features[taken], dtype=np.float64))
        free = np.flatnonzero(~taken & ~table.bad & np.isfinite(table.score))
        if len(free) > limit:
            weight = _uncertainty(table.score[free], threshold)
            free = np.sort(random.choice(free, limit, replace=False, p=weight / weight.sum()))
        columns.append(
            (
                np.full(len(free), i, dtype=np.int64),
                table.xy_px[free],
                table.xy_px[free] / half,
                table.score[free],
                np.asarray(table.features[free], dtype=np.float64),
            )
        )
    if not columns:
        nothing = np.zeros(0)
        return _CandidatePool(nothing.astype(np.int64), *[nothing] * 5)
    micrograph, xy, position, score, features = (
        np.concatenate([column[k] for column in columns]) for k in range(5)
    )
    standardized = _standardize(np.concatenate([features, np.concatenate(answered)]))
    count = len(score)
    return _CandidatePool(
        micrograph, xy, position, score, standardized[:count], standardized[count:]
    )


def _standardize(table: FloatArray) -> FloatArray:
    """Return columns of mean 0 and variance 1; constant columns and missing values become 0."""
    table = np.where(np.isfinite(table), table, np.nan)
    finite = np.isfinite(table)
    count = np.maximum(finite.sum(axis=0), 1)
    centered = np.where(finite, table - np.where(finite, table, 0).sum(axis=0) / count, 0)
    deviation = np.sqrt((centered**2).sum(axis=0) / count)
    return np.asarray(
        np.divide(centered, deviation, out=np.zeros_like(centered), where=deviation > 1e-9)
    )


def _distance_to(features: FloatArray, others: FloatArray) -> FloatArray:
    """Return each row's distance to the nearest of the others; infinite if there are none."""
    squared = np.full(len(features), np.inf)
    for other in others:
        squared = np.minimum(squared, ((features - other) ** 2).sum(axis=1))
    return np.asarray(np.sqrt(squared))


def _micrograph_features(candidates: Mapping[int, Candidates]) -> dict[int, FloatArray]:
    """Return the standardized figures of each micrograph."""
    names = sorted({name for table in candidates.values() for name in table.figures})
    rows = [[table.figures.get(name, np.nan) for name in names] for table in candidates.values()]
    values = np.array(rows, dtype=np.float64).reshape(len(candidates), len(names))
    return dict(zip(candidates, _standardize(values), strict=True))


def _count(points: Mapping[int, FloatArray], i: int) -> int:
    return len(np.reshape(points[i], (-1, 2))) if i in points else 0
