"""The threshold and the probabilities of picks, from a model's calibration or from decoys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heliodor.data.micrographs.sources import Source
from heliodor.evaluation.decoy_threshold import estimate_from_decoys
from heliodor.evaluation.thresholds import choose_strict_threshold, predict_performance
from heliodor.models.model_file import GENERAL_KEY, Model
from heliodor.picking.batch import DecoySearch, PickingResult
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.settings import PickSettings


def calibrate_picks(model: Model, picked: PickingResult, settings: PickSettings) -> PickingResult:
    """Return picks with calibrated probabilities, and a threshold where none was given.

    Parameters
    ----------
    model
        The model that picked. If it does not know its labels' scores, for example because it is
        another program's, the picks are returned unchanged; those of the general model are
        calibrated by decoys.
    picked
        Its candidates.
    settings
        Settings of the picking.
    """
    known = model.calibration
    if known is None:
        return _calibrate_by_decoys(model, picked, settings) if needs_decoys(model) else picked
    # The calibration of the training, not of these micrographs: a micrograph has the same picks
    # whatever others are picked with it.
    calibration = known.for_other_micrographs()
    counts, threshold = picked.sheet.candidates, settings.threshold
    if threshold is None:
        threshold = model.card.threshold
        if settings.max_fdr is not None:
            threshold = choose_strict_threshold(calibration, counts, settings.max_fdr, threshold)
    outlook = predict_performance(calibration, counts, threshold)
    return replace(picked, threshold=threshold, calibration=calibration, expected=outlook)


def needs_decoys(model: Model) -> bool:
    """Return whether the threshold follows from decoys: that of the general model does.

    Other models know the scores of their labels.
    """
    return model.calibration is None and GENERAL_KEY in model.card.extra


def choose_decoy_search(model: Model, sources: Sequence[Source]) -> DecoySearch | None:
    """Return on which micrographs to search decoys; None where they are not needed."""
    if not needs_decoys(model):
        return None
    return DecoySearch(choose_decoy_micrographs(source.name for source in sources))


def _calibrate_by_decoys(
    model: Model, picked: PickingResult, settings: PickSettings
) -> PickingResult:
    found = estimate_from_decoys(picked.sheet, model.card.diameter_angstrom)
    if found is None:
        return picked
    threshold, counts = settings.threshold, picked.sheet.candidates
    if found.calibration is None:
        return replace(picked, threshold=found.threshold if threshold is None else threshold)
    if threshold is None:
        threshold = found.threshold
        if settings.max_fdr is not None:
            threshold = choose_strict_threshold(
                found.calibration, counts, settings.max_fdr, threshold
            )
    return replace(
        picked,
        threshold=threshold,
        calibration=found.calibration,
        expected=predict_performance(found.calibration, counts, threshold),
    )
