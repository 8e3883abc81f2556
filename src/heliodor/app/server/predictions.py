"""The candidates of all micrographs, to be counted, sorted and shown."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates, near
from heliodor.conventions import FloatArray, score_to_probability

#: Candidates with lower scores are not shown.
MIN_SCORE = -5.0
#: A candidate and an annotation at most this many diameters apart are the same particle.
SAME_DIAMETERS = 0.4
#: The bins of the fine histograms: first edge, width and number.
_FIRST_EDGE, _BIN_WIDTH, _BINS = MIN_SCORE, 0.05, 1000
#: About so many bars has a histogram of the page.
_MAX_BARS = 60

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelCalibration:
    """The threshold of a model and the probabilities of its scores."""

    #: Log-odds from which candidates are picks by default.
    threshold: float = 0.0
    #: The probability of a candidate is sigmoid(slope * score + offset); None if unknown.
    slope: float | None = None
    offset: float = 0.0

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> ModelCalibration:
        """Read the record of a model; raises ValueError if it has numbers that are not finite."""
        calibration = message.get("calibration") or {}
        numbers = [float(message.get("threshold") or 0.0)]
        numbers += [float(calibration.get(key, 0.0)) for key in ("slope", "offset")]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a threshold or calibration is not finite")
        return cls(numbers[0], numbers[1] if calibration else None, numbers[2])

    def probability(self, score: FloatArray) -> FloatArray | None:
        """Return the probabilities of candidates, or None if they are not known."""
        return (
            None if self.slope is None else score_to_probability(self.slope * score + self.offset)
        )


@dataclass(frozen=True)
class MicrographPredictions:
    """The candidates of one micrograph by descending score, and which of them can be picks."""

    model: int
    xy_px: FloatArray
    score: FloatArray
    bad: Bools
    diameter_px: float
    #: Fraction of the micrograph without contamination, 0 to 1; None if unknown.
    quality: float | None
    #: Neither in contamination nor on a negative.
    selectable: Bools
    #: The scores of those, ascending.
    ascending_scores: FloatArray
    #: The numbers of those by score.
    histogram: NDArray[np.uint32]

    @classmethod
    def from_candidates(
        cls, candidates: Candidates, negatives: FloatArray, diameter_px: float
    ) -> MicrographPredictions:
        """Build from what the engine found on a micrograph."""
        shown = candidates.score >= MIN_SCORE
        score = candidates.score[shown]
        order = np.argsort(-score, kind="stable")
        xy, bad = candidates.xy_px[shown][order], candidates.bad[shown][order]
        none = np.zeros(0)
        predictions = cls(
            candidates.model, xy, score[order], bad, diameter_px, _quality(candidates.figures),
            bad, none, none.astype(np.uint32),
        )  # fmt: skip
        return predictions.with_negatives(negatives)

    def with_negatives(self, negatives: FloatArray) -> MicrographPredictions:
        """Return the same with other negatives, (x, y) in pixels of the original file."""
        selectable = ~self.bad & ~near(self.xy_px, negatives, SAME_DIAMETERS * self.diameter_px)
        ascending_scores = self.score[selectable][::-1]
        bins = np.clip((ascending_scores - _FIRST_EDGE) / _BIN_WIDTH, 0, _BINS - 1).astype(np.intp)
        histogram = np.bincount(bins, minlength=_BINS).astype(np.uint32)
        return replace(
            self, selectable=selectable, ascending_scores=ascending_scores, histogram=histogram
        )

    def picks(self, threshold: float) -> int:
        """Return the number of picks at a threshold."""
        return len(self.ascending_scores) - int(
            np.searchsorted(self.ascending_scores, threshold, side="left")
        )


def _quality(figures: Mapping[str, float]) -> float | None:
    bad = figures.get("bad")
    return None if bad is None or not math.isfinite(bad) else min(1.0, max(0.0, 1.0 - bad))


class Predictions:
    """The candidates of all scored micrographs; any thread may call."""

    def __init__(self) -> None:
        self._seen: dict[int, MicrographPredictions] = {}
        self._calibrations: dict[int, ModelCalibration] = {}
        self._lock = threading.RLock()
        self._changes = 0
        #: The ranking of all candidates: the change it is of, when it was made, how long it took.
        self._order: tuple[int, float, float, _Ranking] | None = None
        self._ordering = threading.Lock()

    def put(self, number: int, seen: MicrographPredictions) -> None:
        """Set the candidates of a micrograph."""
        with self._lock:
            self._seen[number] = seen
            self._changes += 1

    def remove(self, number: int) -> None:
        """Remove the candidates of a micrograph, if it has any."""
        with self._lock:
            self._seen.pop(number, None)
            self._changes += 1

    def get(self, number: int) -> MicrographPredictions | None:
        """Return the candidates of a micrograph, or None if it was not scored."""
        return self._seen.get(number)

    def set_negatives(self, number: int, negatives: FloatArray) -> None:
        """Set the negatives of a micrograph."""
        with self._lock:
            if number in self._seen:
                self.put(number, self._seen[number].with_negatives(negatives))

    def clear(self) -> None:
        """Remove all candidates and calibrations."""
        with self._lock:
            self._seen.clear()
            self._calibrations.clear()
            self._changes += 1
            self._order = None

    def set_calibration(self, model: int, calibration: ModelCalibration) -> None:
        """Set the calibration of a model."""
        self._calibrations[model] = calibration

    def calibration(self, model: int) -> ModelCalibration:
        """Return the calibration of a model."""
        return self._calibrations.get(model, ModelCalibration())

    def threshold(self, model: int, setting: float | None) -> float:
        """Return the threshold for scores of a model: the user's if set, otherwise its own."""
        return self.calibration(model).threshold if setting is None else setting

    def of_model(self, model: int) -> dict[int, MicrographPredictions]:
        """Return the candidates of one model; those of all models if it has none yet."""
        with self._lock:
            own = {number: seen for number, seen in self._seen.items() if seen.model == model}
            return own or dict(self._seen)

    def histogram(self, model: int) -> dict[str, Any]:
        """Return the histogram of scores, and estimates for other thresholds."""
        with self._lock:
            own = [seen for seen in self._seen.values() if seen.model == model]
        calibration = self.calibration(model)
        fine = np.zeros(_BINS, dtype=np.int64)
        for seen in own:
            fine += seen.histogram
        result: dict[str, Any] = {
            "model": model,
            "micrographs": len(own),
            "edges": [],
            "counts": [],
            "automatic": calibration.threshold,
            "estimates": None,
        }
        if not fine.any():
            return result
        last = int(np.flatnonzero(fine)[-1]) + 1
        each = max(1, math.ceil(last / _MAX_BARS))
        bars = math.ceil(last / each)
        # Bins beyond the last one are empty.
        fine = np.pad(fine, (0, max(0, bars * each - len(fine))))[: bars * each]
        counts = fine.reshape(bars, each).sum(axis=1)
        edges: FloatArray = np.float64(_FIRST_EDGE) + _BIN_WIDTH * each * np.arange(bars + 1)
        result |= {"edges": np.round(edges, 4).tolist(), "counts": counts.tolist()}
        middles: FloatArray = np.float64(_FIRST_EDGE) + _BIN_WIDTH * (np.arange(len(fine)) + 0.5)
        probabilities = calibration.probability(middles)
        if probabilities is not None:
            result["estimates"] = _estimate_curves(fine, probabilities, edges[:-1], each)
        return result

    def page(self, model: int, start: int, count: int) -> tuple[int, list[tuple[int, int]]]:
        """Return some of all candidates by descending score, without those in contamination.

        Returns
        -------
        int
            The number of all candidates.
        list of (int, int)
            The micrograph's number and the index among its candidates.
        """
        order = self._ordered(model)
        rows = order.rows[start : start + count]
        return len(order.rows), [(int(order.micrograph[i]), int(order.place[i])) for i in rows]

    def _ordered(self, model: int) -> _Ranking:
        with self._ordering:
            kept = self._order
            if kept is not None and kept[3].model == model:
                of, made, took, order = kept
                # While micrographs are being scored, do not sort everything at each change.
                if of == self._changes or time.monotonic() - made < max(1.0, 10 * took):
                    return order
            began = time.monotonic()
            changes = self._changes
            order = _Ranking.build(model, self.of_model(model))
            now = time.monotonic()
            self._order = (changes, now, now - began, order)
            return order


@dataclass(frozen=True)
class _Ranking:
    """All candidates, ranked by descending score."""

    model: int
    micrograph: NDArray[np.int32]
    place: NDArray[np.int32]
    rows: NDArray[np.intp]

    @classmethod
    def build(cls, model: int, predictions: Mapping[int, MicrographPredictions]) -> _Ranking:
        places = [np.flatnonzero(~own.bad).astype(np.int32) for own in predictions.values()]
        empty = [np.zeros(0, np.int32)]
        micrograph = np.repeat(np.array([*predictions], np.int32), [len(own) for own in places])
        scores = [own.score[at] for own, at in zip(predictions.values(), places, strict=True)]
        rows = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
        return cls(model, micrograph, np.concatenate(empty + places), rows)


def _estimate_curves(
    fine: NDArray[np.int64], probabilities: FloatArray, thresholds: FloatArray, each: int
) -> dict[str, list[float]]:
    """Return the picks and the estimated precision and recall at thresholds."""
    picks = np.cumsum(fine[::-1])[::-1][::each]
    right = np.cumsum((fine * probabilities)[::-1])[::-1]
    return {
        "threshold": np.round(thresholds, 4).tolist(),
        "picks": picks.tolist(),
        "precision": np.round(right[::each] / np.maximum(picks, 1), 4).tolist(),
        "recall": np.round(right[::each] / max(right[0], 1e-9), 4).tolist(),
    }
