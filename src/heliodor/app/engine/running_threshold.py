"""The threshold and the calibration of a model, from the micrographs scored so far."""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

import numpy as np
import torch

from heliodor.app.engine.prediction import Prediction
from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import DatasetScores, MicrographScores
from heliodor.models.model_file import Model
from heliodor.picking.batch import InMemoryStore, PickingResult
from heliodor.picking.decoys import (
    measure_candidate_area,
    score_decoys,
)
from heliodor.picking.recalibration import calibrate_picks, needs_decoys
from heliodor.picking.settings import PickSettings

#: Numbers of micrographs at which the threshold is estimated; no decoys are searched on more.
UPDATE_AT: Final = (1, 3, 8)
#: The fit uses candidates with probabilities in this range.
UNCERTAIN_RANGE: Final = (0.02, 0.98)


class LogisticCalibration(NamedTuple):
    """Calibrated probability as sigmoid(slope * score + offset)."""

    slope: float
    offset: float


class ThresholdEstimate(NamedTuple):
    """The threshold and the calibration of a model on the micrographs of a project."""

    #: Log-odds from which candidates are picks.
    threshold: float
    #: None where probabilities cannot be estimated.
    calibration: LogisticCalibration | None


class RunningThreshold:
    """Estimates a model's threshold from the candidates and decoys of the first micrographs.

    Parameters
    ----------
    model
        The model in use; only the threshold of the general model is estimated.
    device
        Where decoys are searched.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._model, self._device = model, device
        self._needed = needs_decoys(model)
        self._lock = threading.Lock()
        self._scores: dict[int, MicrographScores] = {}
        self._claimed = set[int]()

    def claim(self, micrograph: int) -> bool:
        """Return, once per micrograph, whether it is to be added."""
        with self._lock:
            if (
                not self._needed
                or len(self._claimed) >= UPDATE_AT[-1]
                or micrograph in self._claimed
            ):
                return False
            self._claimed.add(micrograph)
            return True

    def add(self, micrograph: int, prediction: Prediction) -> ThresholdEstimate | None:
        """Search decoys on a micrograph; return a new estimate where there is a better one now."""
        scores = self._measure(prediction)
        with self._lock:
            self._scores[micrograph] = scores
            if len(self._scores) not in UPDATE_AT:
                return None
            all_scores = dict(sorted(self._scores.items()))
        names = [str(number) for number in all_scores]
        sheet = DatasetScores(names, names)
        for name, scores_of_one in zip(names, all_scores.values(), strict=True):
            sheet.add(name, scores_of_one)
        card = self._model.card
        before = PickingResult((), [], card.threshold, sheet, InMemoryStore())
        after = calibrate_picks(self._model, before, PickSettings())
        calibration = None
        if after.calibration is not None:
            calibration = fit_logistic(after.calibration, sheet.candidates.values)
        return ThresholdEstimate(after.threshold, calibration)

    def _measure(self, prediction: Prediction) -> MicrographScores:
        """Return the scores of a micrograph, the same as picking measures."""
        model, image, maps = self._model, prediction.image, prediction.score_maps
        candidates = prediction.candidates
        good = ~candidates.bad
        decoys = score_decoys(
            model,
            image,
            prediction.normalized,
            PickSettings(),
            maps.contamination,
            self._device,
        )
        size = image.working_pixel_size_angstrom
        area = measure_candidate_area(maps.score, maps.contamination, size)
        return MicrographScores(candidates.score[good], decoys, area)


def fit_logistic(calibration: Calibration, scores: FloatArray) -> LogisticCalibration | None:
    """Fit a logistic curve to a calibration, where its probabilities are neither 0 nor 1.

    Parameters
    ----------
    calibration
        Its curve is monotone, and nearly straight in log-odds in `UNCERTAIN_RANGE`.
    scores
        Log-odds of candidates, where the curve is fitted.

    Returns
    -------
    LogisticCalibration or None
        None where no candidate is in that range, or the slope is not positive.
    """
    chance = calibration.probability(scores)
    inside = (chance > UNCERTAIN_RANGE[0]) & (chance < UNCERTAIN_RANGE[1])
    x, p = scores[inside], chance[inside]
    if len(np.unique(x)) < 2:
        return None
    slope, offset = np.polyfit(x, np.log(p / (1 - p)), 1, w=np.sqrt(p * (1 - p)))
    return LogisticCalibration(float(slope), float(offset)) if slope > 0 else None
