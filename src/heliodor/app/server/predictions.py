"""The candidates of all micrographs, to be counted, sorted and shown."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.app.candidates import Candidates
from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import SCORE_STEP, ScoreCounts
from heliodor.evaluation.thresholds import (
    IntervalEstimate,
    choose_strict_threshold,
    predict_performances,
)
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.corrections import SAME_DIAMETERS, near
from heliodor.picking.micrograph_quality import MicrographMeasurements

#: Candidates with lower scores are not shown.
MIN_SCORE = -5.0
#: The bins of the fine histograms: first edge, width and number.
_FIRST_EDGE, _BIN_WIDTH, _BINS = MIN_SCORE, 0.05, 1000
#: About so many bars has a histogram of the page.
_MAX_BARS = 60

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelCalibration:
    """The threshold of a model and the meaning of its scores."""

    #: Log-odds from which candidates are picks by default.
    threshold: float = 0.0
    #: None where probabilities are not known.
    calibration: Calibration | None = None
    #: The number of micrographs that they are from; None: the labels of the training.
    micrographs: int | None = None
    #: Whether the threshold is final; before, it may move while micrographs are scored.
    settled: bool = False

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> ModelCalibration:
        """Read the record of a model; raises ValueError if it has numbers that are not finite."""
        threshold = float(message.get("threshold") or 0.0)
        if not math.isfinite(threshold):
            raise ValueError("a threshold is not finite")
        micrographs = message.get("micrographs")
        return cls(
            threshold,
            _read_calibration(message.get("calibration")),
            None if micrographs is None else int(micrographs),
            bool(message.get("settled", False)),
        )

    def probability(self, score: FloatArray) -> FloatArray | None:
        """Return the probabilities of candidates, or None if they are not known."""
        return None if self.calibration is None else self.calibration.probability(score)

    def for_micrographs(self, number: int) -> Calibration | None:
        """Return the calibration for so many micrographs like those it is from."""
        if self.calibration is None or not self.micrographs:
            return self.calibration
        return _scale_particles(self.calibration, number / self.micrographs)


def _read_calibration(values: Mapping[str, Any] | None) -> Calibration | None:
    """Read what the engine says of a calibration; None where it knows none.

    Raises
    ------
    ValueError
        If it is not one.
    """
    if values is None or "score" not in values:  # an earlier version knew only a line
        return None
    found = Calibration.from_dict(values, min_labels=0)
    particles = [float(number) for number in values.get("repeat_particles", [])]
    if len(particles) != len(found.repeats) or not all(map(math.isfinite, particles)):
        raise ValueError("the calibration is incomplete")
    repeats = zip(found.repeats, particles, strict=True)
    return replace(
        found, repeats=tuple(replace(curve, particles=number) for curve, number in repeats)
    )


def _scale_particles(calibration: Calibration, scale: float) -> Calibration:
    curve, *repeats = (
        replace(own, particles=scale * own.particles)
        for own in (calibration.curve, *calibration.repeats)
    )
    return replace(calibration, curve=curve, repeats=tuple(repeats))


@dataclass(frozen=True)
class MicrographPredictions:
    """The candidates of one micrograph by descending score, and which of them can be picks.

    Scores in contamination are lowered, as in picking.
    """

    model: int
    xy_px: FloatArray
    score: FloatArray
    bad: Bools
    diameter_px: float
    #: Fraction of the micrograph without contamination, 0 to 1; None if unknown.
    quality: float | None
    #: Those that are not on a negative.
    selectable: Bools
    #: The scores of those, ascending.
    ascending_scores: FloatArray
    #: The numbers of those by score.
    histogram: NDArray[np.uint32]
    #: Where the model, or the user, sees contamination; None where the model detects none.
    contamination: ContaminationMask | None = None
    #: What picking measures on a micrograph besides its candidates.
    measured: MicrographMeasurements = field(default_factory=MicrographMeasurements)

    @classmethod
    def from_candidates(
        cls,
        candidates: Candidates,
        negatives: FloatArray,
        diameter_px: float,
        measured: MicrographMeasurements | None = None,
    ) -> MicrographPredictions:
        """Build from what the engine found on a micrograph.

        Parameters
        ----------
        candidates
            With what the user says about contamination and the threshold.
        negatives
            (x, y) in pixels of the original file.
        diameter_px
            Of the particle.
        measured
            What was measured on the micrograph, if anything.
        """
        score, bad = candidates.score, candidates.bad
        order = np.argsort(-score, kind="stable")
        order = order[score[order] >= MIN_SCORE]
        none = np.zeros(0)
        predictions = cls(
            candidates.model, candidates.xy_px[order], score[order], bad[order], diameter_px,
            _quality(candidates.figures), bad[order], none, none.astype(np.uint32),
            candidates.contamination,
            MicrographMeasurements() if measured is None else measured,
        )  # fmt: skip
        return predictions.with_negatives(negatives)

    def with_negatives(self, negatives: FloatArray) -> MicrographPredictions:
        """Return the same with other negatives, (x, y) in pixels of the original file."""
        selectable = ~near(self.xy_px, negatives, SAME_DIAMETERS * self.diameter_px)
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
        #: The micrographs that do not count.
        self._excluded: frozenset[int] = frozenset()
        self._lock = threading.RLock()
        self._changes = 0
        #: The largest share of false picks at the automatic threshold; None: that of highest F1.
        self.max_fdr: float | None = None
        #: The threshold for it: the model, the share, the change it is of, and when it was made.
        self._limited: tuple[int, float, int, float, float] | None = None
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

    def exclude(self, numbers: Iterable[int]) -> None:
        """Set which micrographs do not count in histograms and rankings."""
        with self._lock:
            self._excluded = frozenset(numbers)
            self._changes += 1

    def clear(self) -> None:
        """Remove all candidates and calibrations."""
        with self._lock:
            self._seen.clear()
            self._calibrations.clear()
            self._changes += 1
            self._order = None

    def set_calibration(self, model: int, calibration: ModelCalibration) -> None:
        """Set the calibration of a model."""
        with self._lock:
            self._calibrations[model] = calibration
            self._changes += 1
            self._limited = None

    def calibration(self, model: int) -> ModelCalibration:
        """Return the calibration of a model."""
        return self._calibrations.get(model, ModelCalibration())

    def threshold(self, model: int, setting: float | None) -> float:
        """Return the threshold for scores of a model: the user's if set, otherwise its own."""
        return self.automatic_threshold(model) if setting is None else setting

    def automatic_threshold(self, model: int) -> float:
        """Return the threshold of a model, or that at which few enough picks are false."""
        known = self.calibration(model)
        if self.max_fdr is None or known.calibration is None:
            return known.threshold
        with self._lock:
            kept, now = self._limited, time.monotonic()
            if kept is not None and kept[:2] == (model, self.max_fdr):
                # While micrographs are being scored, not at each change.
                if kept[2] == self._changes or now - kept[3] < 1.0:
                    return kept[4]
            scores = [own.ascending_scores for own in self.of_model(model).values()]
            calibration = known.for_micrographs(len(scores))
            assert calibration is not None
            joined = np.concatenate([np.zeros(0), *scores])
            counts = ScoreCounts.from_scores(joined)
            threshold = choose_strict_threshold(calibration, counts, self.max_fdr, known.threshold)
            self._limited = (model, self.max_fdr, self._changes, now, threshold)
            return threshold

    def of_model(self, model: int) -> dict[int, MicrographPredictions]:
        """Return the candidates of one model; those of all models if it has none yet.

        Without the excluded micrographs.
        """
        with self._lock:
            all_seen = {n: seen for n, seen in self._seen.items() if n not in self._excluded}
        return {n: seen for n, seen in all_seen.items() if seen.model == model} or all_seen

    def histogram(self, model: int) -> dict[str, Any]:
        """Return the histogram of scores, and estimates for other thresholds."""
        own = [seen for seen in self.of_model(model).values() if seen.model == model]
        calibration = self.calibration(model)
        fine = np.zeros(_BINS, dtype=np.int64)
        for seen in own:
            fine += seen.histogram
        result: dict[str, Any] = {
            "model": model,
            "micrographs": len(own),
            "edges": [],
            "counts": [],
            "automatic": self.automatic_threshold(model),
            "settled": calibration.settled,
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
        known = calibration.for_micrographs(len(own))
        if known is not None:
            result["estimates"] = _estimate_curves(known, fine, edges[:-1])
        return result

    def page(self, model: int, start: int, count: int) -> tuple[int, list[tuple[int, int]]]:
        """Return some of all candidates by descending score.

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
        places = [np.arange(len(own.score), dtype=np.int32) for own in predictions.values()]
        empty = [np.zeros(0, np.int32)]
        micrograph = np.repeat(np.array([*predictions], np.int32), [len(own) for own in places])
        scores = [own.score[at] for own, at in zip(predictions.values(), places, strict=True)]
        rows = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
        return cls(model, micrograph, np.concatenate(empty + places), rows)


def _estimate_curves(
    calibration: Calibration, fine: NDArray[np.int64], thresholds: FloatArray
) -> dict[str, list[float | None]]:
    """Return the precision and recall to expect at thresholds, with their ranges.

    The same estimates as `heliodor pick` gives; None where the range is not known.
    """
    found = np.flatnonzero(fine)
    middles: FloatArray = np.float64(_FIRST_EDGE) + _BIN_WIDTH * (found + 0.5)
    counts = ScoreCounts(np.rint(middles / SCORE_STEP).astype(np.int64), fine[found])
    performances = predict_performances(calibration, counts, thresholds.tolist())
    columns: dict[str, list[float | None]] = {"threshold": np.round(thresholds, 4).tolist()}
    for name in ("precision", "recall"):
        estimates: list[IntervalEstimate] = [getattr(own, name) for own in performances]
        for end in ("value", "low", "high"):
            columns[name if end == "value" else f"{name}_{end}"] = [
                _known(getattr(own, end), own) for own in estimates
            ]
    return columns


def _known(value: float, estimate: IntervalEstimate) -> float | None:
    """Return a rounded value, None if the range of its estimate is not known."""
    ends = (estimate.value, estimate.low, estimate.high)
    return round(value, 4) if all(map(math.isfinite, ends)) else None
