"""Asking: which candidates teach a model most when a user says what they are.

First, and then mostly, likely particles are asked about, spread over the micrographs: they show
what particles usually look like here, and those that are none are the mistakes a user would see.
Answers about the odd and the faint alone lead a good model astray. Of the others, those near the
threshold teach where it lies, those unlike all that was answered what the model has not met, and
a micrograph unlike the others teaches for all that look like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates, near
from heliodor.conventions import FloatArray

NEAR_THRESHOLD: Final = "near the threshold"
UNUSUAL_CANDIDATE: Final = "unlike what was answered"
UNUSUAL_MICROGRAPH: Final = "a micrograph unlike the others"
LIKELY: Final = "a likely particle"
#: With fewer labelled particles than this, nothing but likely ones is asked about.
ENOUGH_LABELS: Final = 20
#: What the questions are then asked for, over and over.
REASON_CYCLE: Final = (
    LIKELY, LIKELY, LIKELY, NEAR_THRESHOLD,
    LIKELY, LIKELY, LIKELY, UNUSUAL_CANDIDATE,
    LIKELY, LIKELY, LIKELY, UNUSUAL_MICROGRAPH,
)  # fmt: skip

#: Log-odds from the threshold at which a candidate is half as doubtful as on it, about.
UNCERTAIN_RANGE: Final = 2.0
#: How much a candidate that is not in doubt at all still counts beside one that is.
SURE_ABOVE, SURE_BELOW = 0.15, 0.02
#: Of more candidates than this a share is drawn from each micrograph.
MAX_CANDIDATES: Final = 20_000


@dataclass(frozen=True)
class Question:
    """A place to ask about, whether there is a particle."""

    #: As the micrograph is called among the candidates.
    micrograph: int
    #: (x, y) in the pixels of the original file.
    xy_px: tuple[float, float]
    #: Log-odds.
    score: float
    #: Why it is asked, in a few words for the user.
    why: str


@dataclass
class _CandidatePool:
    """Candidates that may be asked about, and what was answered already; a row each."""

    micrograph: NDArray[np.int64]
    xy_px: FloatArray
    #: In units of half a diameter, so that places nearer than 1 are the same.
    place: FloatArray
    score: FloatArray
    features: FloatArray
    #: Features of the candidates that an answer lies on.
    answered: FloatArray


def choose_questions(
    found: Mapping[int, Candidates],
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
    found
        The candidates of each scored micrograph.
    labels, negatives
        What was labelled on some of them as particles and as none, (x, y) in the pixels of the
        original files, shape (n, 2).
    diameter_px
        The particle's in the pixels of each micrograph.
    threshold
        Log-odds from which on candidates are picks.
    count
        So many at most.
    seed
        Of what is drawn; the same gives the same questions.

    Returns
    -------
    list of Question
        In the order to ask in; fewer where there are no more. None lies in a bad area, nor
        within half a diameter of an answer or of another question.
    """
    random = np.random.default_rng(seed)
    pool = _collect_candidates(found, labels, negatives, diameter_px, threshold, random)
    if not len(pool.score) or count < 1:
        return []
    doubt = _uncertainty(pool.score, threshold)
    # Between two as good as each other the seed decides.
    chance = random.random(len(doubt))
    doubt *= 1 + 0.05 * chance
    far = _distance_to(pool.features, pool.answered)
    looks, known = (
        _micrograph_features(found),
        [i for i in found if _count(labels, i) + _count(negatives, i)],
    )
    answers = sum(_count(part, i) for part in (labels, negatives) for i in found)
    enough = sum(_count(labels, i) for i in found) >= ENOUGH_LABELS
    open_ = np.ones(len(doubt), dtype=bool)
    asked_of: dict[int, int] = {}
    chosen: list[Question] = []
    while len(chosen) < count and open_.any():
        why = REASON_CYCLE[(answers + len(chosen)) % len(REASON_CYCLE)] if enough else LIKELY
        novelty = np.ones(len(doubt)) if np.isinf(far).all() else far / (far[open_].max() or 1.0)
        share = np.array([1.0 / (1 + asked_of.get(int(i), 0)) for i in pool.micrograph])
        worth = doubt * (0.1 + novelty) * share
        allowed = open_
        likely = open_ & (pool.score >= threshold)
        if why == LIKELY and likely.any():
            # Any of them, as long as they are spread over the micrographs.
            worth, allowed = share + 0.1 * chance, likely
        elif why == UNUSUAL_CANDIDATE and np.isfinite(far).any():
            worth = doubt**0.5 * (0.1 + novelty) ** 2 * share
        elif why == UNUSUAL_MICROGRAPH:
            met = list(dict.fromkeys([*known, *asked_of]))
            strangest = _most_unusual(looks, met, np.unique(pool.micrograph[open_]))
            if strangest is None:
                why = NEAR_THRESHOLD
            else:
                allowed = open_ & (pool.micrograph == strangest)
        else:
            why = NEAR_THRESHOLD
        best = int(np.argmax(np.where(allowed, worth, -1.0)))
        i = int(pool.micrograph[best])
        x, y = pool.xy_px[best].tolist()
        chosen.append(Question(i, (x, y), float(pool.score[best]), why))
        asked_of[i] = asked_of.get(i, 0) + 1
        far = np.minimum(far, _distance_to(pool.features, pool.features[best : best + 1]))
        beside = ((pool.place - pool.place[best]) ** 2).sum(axis=1) <= 1
        open_ &= ~(beside & (pool.micrograph == i))
    return chosen


def _uncertainty(score: FloatArray, threshold: float) -> FloatArray:
    """Return how much is to be learnt of each score: 1 on the threshold, less far from it."""
    away = np.clip(score - threshold, -40.0, 40.0)
    sure = np.where(away > 0, SURE_ABOVE, SURE_BELOW)
    return np.asarray(sure + (1 - sure) / np.cosh(away / UNCERTAIN_RANGE) ** 2)


def _collect_candidates(
    found: Mapping[int, Candidates],
    labels: Mapping[int, FloatArray],
    negatives: Mapping[int, FloatArray],
    diameter_px: Mapping[int, float],
    threshold: float,
    random: np.random.Generator,
) -> _CandidatePool:
    most = max(1, MAX_CANDIDATES // max(1, len(found)))
    columns: list[tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray, FloatArray]] = []
    answered = []
    for i, own in found.items():
        half = diameter_px[i] / 2
        answers = [np.reshape(part[i], (-1, 2)) for part in (labels, negatives) if i in part]
        taken = near(own.xy_px, np.concatenate([np.zeros((0, 2)), *answers]), half)
        answered.append(np.asarray(own.features[taken], dtype=np.float64))
        free = np.flatnonzero(~taken & ~own.bad & np.isfinite(own.score))
        if len(free) > most:
            weight = _uncertainty(own.score[free], threshold)
            free = np.sort(random.choice(free, most, replace=False, p=weight / weight.sum()))
        columns.append(
            (
                np.full(len(free), i, dtype=np.int64),
                own.xy_px[free],
                own.xy_px[free] / half,
                own.score[free],
                np.asarray(own.features[free], dtype=np.float64),
            )
        )
    if not columns:
        nothing = np.zeros(0)
        return _CandidatePool(nothing.astype(np.int64), *[nothing] * 5)
    micrograph, xy, place, score, features = (
        np.concatenate([own[k] for own in columns]) for k in range(5)
    )
    known = np.concatenate(answered)
    both = _standardize(np.concatenate([features, known]))
    return _CandidatePool(micrograph, xy, place, score, both[: len(score)], both[len(score) :])


def _standardize(table: FloatArray) -> FloatArray:
    """Return columns of mean 0 and variance 1; what is not finite, or all the same, is 0."""
    table = np.where(np.isfinite(table), table, np.nan)
    known = np.isfinite(table)
    number = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, table - np.where(known, table, 0).sum(axis=0) / number, 0)
    spread = np.sqrt((centred**2).sum(axis=0) / number)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9))


def _distance_to(features: FloatArray, others: FloatArray) -> FloatArray:
    """Return each row's distance to the nearest of the others; infinite where there are none."""
    far = np.full(len(features), np.inf)
    for other in others:
        far = np.minimum(far, ((features - other) ** 2).sum(axis=1))
    return np.asarray(np.sqrt(far))


def _micrograph_features(found: Mapping[int, Candidates]) -> dict[int, FloatArray]:
    """Return how each micrograph looks, in numbers that can be compared."""
    names = sorted({name for own in found.values() for name in own.figures})
    rows = [[own.figures.get(name, np.nan) for name in names] for own in found.values()]
    table = _standardize(np.array(rows, dtype=np.float64).reshape(len(found), len(names)))
    return dict(zip(found, table, strict=True))


def _most_unusual(
    looks: Mapping[int, FloatArray], met: list[int], among: NDArray[np.int64]
) -> int | None:
    """Return the micrograph that looks least like those that were met; None if all look alike."""
    others = [int(i) for i in among if i not in met]
    if not others or not met:
        return None
    far = _distance_to(np.array([looks[i] for i in others]), np.array([looks[i] for i in met]))
    return others[int(np.argmax(far))] if far.max() > 0 else None


def _count(points: Mapping[int, FloatArray], i: int) -> int:
    return len(np.reshape(points[i], (-1, 2))) if i in points else 0
