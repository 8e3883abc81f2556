"""Levels: the threshold, and what scores mean, on the micrographs that have been scored so far."""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

import numpy as np
import torch

from heliodor.app.engine.prediction import Prediction
from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import FEWEST_MICROGRAPHS, Calibration
from heliodor.evaluation.score_histogram import MicrographScores, ScoreSheet
from heliodor.models.model_file import Model
from heliodor.picking.batch import InMemoryStore, PickingResult
from heliodor.picking.decoys import (
    ScoredPositions,
    measure_candidate_area,
    score_clear_decoys,
)
from heliodor.picking.recalibration import calibrate_picks, get_clear_above
from heliodor.picking.settings import PickSettings

#: Numbers of micrographs at which all is estimated anew; on more, decoys are not looked for.
UPDATE_AT: Final = (1, FEWEST_MICROGRAPHS, 8)
#: Candidates of these probabilities are between sure and out of the question.
UNCERTAIN_RANGE: Final = (0.02, 0.98)


class LogisticCalibration(NamedTuple):
    """A probability that follows the score: sigmoid(slope * score + offset)."""

    slope: float
    offset: float


class ThresholdEstimate(NamedTuple):
    """What is known of a model's scores on a project's micrographs."""

    #: Log-odds from which candidates are picks.
    threshold: float
    #: None where probabilities are not known.
    calibration: LogisticCalibration | None


class RunningThreshold:
    """Scores of the first micrographs that a model has looked at, with decoys' beside them.

    Parameters
    ----------
    model
        One that knows what its labels score, or the general one; of others nothing follows.
    device
        Where to look for decoys.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._model, self._device = model, device
        self._above = get_clear_above(model)
        self._lock = threading.Lock()
        self._known: dict[int, MicrographScores] = {}
        self._begun = set[int]()

    def claim(self, micrograph: int) -> bool:
        """Tell, once, whether a micrograph is to be looked at for decoys too."""
        with self._lock:
            if (
                self._above is None
                or len(self._begun) >= UPDATE_AT[-1]
                or micrograph in self._begun
            ):
                return False
            self._begun.add(micrograph)
            return True

    def add(self, micrograph: int, found: Prediction) -> ThresholdEstimate | None:
        """Look for decoys on a micrograph; return the estimate where there is a better one now."""
        scores = self._scores(found)
        with self._lock:
            self._known[micrograph] = scores
            if len(self._known) not in UPDATE_AT:
                return None
            known = dict(sorted(self._known.items()))
        names = [str(own) for own in known]
        sheet = ScoreSheet(names, names)
        for name, own in zip(names, known.values(), strict=True):
            sheet.add(name, own)
        card = self._model.card
        before = PickingResult((), [], card.threshold, sheet, InMemoryStore())
        after = calibrate_picks(self._model, before, PickSettings())
        if self._model.calibration is not None and len(known) < FEWEST_MICROGRAPHS:
            return None  # too few: what it has from its training is better
        line = None
        if after.calibration is not None:
            line = fit_logistic(after.calibration, sheet.candidates.values)
        return ThresholdEstimate(after.threshold, line)

    def _scores(self, found: Prediction) -> MicrographScores:
        """Return the scores of a micrograph, as picking a whole set has them."""
        model, image, look = self._model, found.image, found.look
        assert self._above is not None
        own = found.candidates
        good = ~own.bad
        decoys = score_clear_decoys(
            model,
            image,
            found.normalised,
            ScoredPositions(own.xy_px[good], own.score[good]),
            PickSettings(),
            look.contamination,
            self._above,
            self._device,
        )
        size = image.working_pixel_size_angstrom
        area = measure_candidate_area(look.score, look.contamination, size)
        return MicrographScores(own.score[good], decoys, area)


def fit_logistic(calibration: Calibration, scores: FloatArray) -> LogisticCalibration | None:
    """Return the straight line in log-odds that is nearest to a calibration where it matters.

    Parameters
    ----------
    calibration
        Its curve is monotone, and near to straight between sure and out of the question.
    scores
        Log-odds of candidates, by which the fit is weighted.

    Returns
    -------
    Line or None
        None where no candidate is in doubt, or better scores do not mean more.
    """
    chance = calibration.probability(scores)
    inside = (chance > UNCERTAIN_RANGE[0]) & (chance < UNCERTAIN_RANGE[1])
    x, p = scores[inside], chance[inside]
    if len(np.unique(x)) < 2:
        return None
    slope, offset = np.polyfit(x, np.log(p / (1 - p)), 1, w=np.sqrt(p * (1 - p)))
    return LogisticCalibration(float(slope), float(offset)) if slope > 0 else None
