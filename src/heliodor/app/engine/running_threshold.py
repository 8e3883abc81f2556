"""The threshold and the calibration of the general model, from the micrographs scored so far."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

from heliodor.app.engine.prediction import SETTINGS, Prediction
from heliodor.conventions import FloatArray
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import DatasetScores, MicrographScores
from heliodor.models.model_file import Model
from heliodor.picking.batch import InMemoryStore, PickingResult
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.decoys import score_decoys
from heliodor.picking.recalibration import calibrate_picks, needs_decoys
from heliodor.picking.settings import PickSettings

#: Numbers of micrographs at which a provisional threshold is estimated.
UPDATE_AT: Final = (1, 3, 8)


class ThresholdEstimate(NamedTuple):
    """The threshold and the calibration of a model on the micrographs of a project."""

    #: Log-odds from which candidates are picks.
    threshold: float
    #: None where probabilities cannot be estimated.
    calibration: Calibration | None
    #: The number of micrographs that it is from.
    micrographs: int
    #: Whether no other micrographs are waited for.
    settled: bool


class RunningThreshold:
    """Estimates a model's threshold from the candidates and decoys of some micrographs.

    From the same micrographs as picking does, so that in the end the threshold is the same.

    Parameters
    ----------
    model
        The model in use; only the threshold of the general model is estimated.
    device
        Where decoys are searched.
    names
        The names of all micrographs of the project.
    settings
        Of picking.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        names: Sequence[str],
        settings: PickSettings = SETTINGS,
    ) -> None:
        self._model, self._device, self._settings = model, device, settings
        chosen = choose_decoy_micrographs(names) if needs_decoys(model) else frozenset()
        #: The numbers of the micrographs that decoys are searched on.
        self.chosen = frozenset(i for i, name in enumerate(names) if name in chosen)
        self._lock = threading.Lock()
        self._scores: dict[int, MicrographScores] = {}
        self._failed = set[int]()
        self._claimed = set[int]()

    @property
    def missing(self) -> list[int]:
        """The micrographs that were neither measured nor failed."""
        return sorted(self.chosen - self._scores.keys() - self._failed)

    def claim(self, micrograph: int) -> bool:
        """Return, once per micrograph, whether decoys are to be searched on it."""
        with self._lock:
            if micrograph not in self.chosen - self._claimed:
                return False
            self._claimed.add(micrograph)
            return True

    def search_decoys(self, prediction: Prediction) -> FloatArray:
        """Return the scores of the decoys on a micrograph, the same as picking finds."""
        return score_decoys(
            self._model,
            prediction.image,
            prediction.normalized,
            self._settings,
            prediction.score_maps.contamination,
            self._device,
        )

    def add(
        self, micrograph: int, scores: MicrographScores, provisional: bool = True
    ) -> ThresholdEstimate | None:
        """Add the scores of a micrograph; return a new estimate where there is a better one.

        Parameters
        ----------
        provisional
            Whether an estimate is wanted although others are waited for.
        """
        with self._lock:
            self._scores[micrograph] = scores
            self._claimed.add(micrograph)
            if self.missing and not (provisional and len(self._scores) in UPDATE_AT):
                return None
            return self._estimate()

    def fail(self, micrograph: int) -> ThresholdEstimate | None:
        """Note that a micrograph cannot be used; return the estimate if it was the last one."""
        with self._lock:
            if micrograph not in self.chosen or micrograph in self._failed:
                return None
            self._failed.add(micrograph)
            return None if self.missing or not self._scores else self._estimate()

    def _estimate(self) -> ThresholdEstimate:
        all_scores = dict(sorted(self._scores.items()))
        names = [str(number) for number in all_scores]
        sheet = DatasetScores(names, names)
        for name, scores_of_one in zip(names, all_scores.values(), strict=True):
            sheet.add(name, scores_of_one)
        card = self._model.card
        before = PickingResult((), [], card.threshold, sheet, InMemoryStore())
        # The page shows the scores as they are.
        after = calibrate_picks(self._model, before, self._settings, level=False)
        return ThresholdEstimate(
            after.threshold, after.calibration, len(self._scores), not self.missing
        )
