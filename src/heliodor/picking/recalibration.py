"""The threshold and the probabilities of picks, from a model's calibration or from decoys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heliodor.data.micrographs.sources import Source
from heliodor.evaluation.decoy_threshold import choose_by_counts, estimate_from_decoys
from heliodor.evaluation.score_histogram import ScoreCounts
from heliodor.evaluation.score_levels import LevelRule, measure_spread
from heliodor.evaluation.thresholds import choose_strict_threshold, predict_performance
from heliodor.models.model_file import ADAPTED_KEY, Model
from heliodor.picking.batch import DecoySearch, PickingResult, count_scores
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from heliodor.picking.leveled_store import LeveledStore
from heliodor.picking.settings import PickSettings


def calibrate_picks(
    model: Model, picked: PickingResult, settings: PickSettings, level: bool = True
) -> PickingResult:
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
    level
        Whether the scores of the general model are first made comparable between micrographs; see
        `level_scores_between`. Those of a model that has adapted to the micrographs are already.
    """
    known = model.calibration
    if known is None:
        if not needs_decoys(model):
            return picked
        if level and ADAPTED_KEY not in model.card.extra:
            picked = level_scores_between(picked, model.card.diameter_angstrom)
        return _calibrate_by_decoys(model, picked, settings)
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
    return model.without_labels


def choose_decoy_search(model: Model, sources: Sequence[Source]) -> DecoySearch | None:
    """Return on which micrographs to search decoys; None where they are not needed."""
    if not needs_decoys(model):
        return None
    return DecoySearch(choose_decoy_micrographs(source.name for source in sources))


def level_scores_between(picked: PickingResult, diameter_angstrom: float) -> PickingResult:
    """Return candidates with scores that are comparable between micrographs.

    Parameters
    ----------
    picked
        With the decoys of some micrographs, by which the rule is found; see `score_levels`.
    diameter_angstrom
        The particle's.
    """
    spreads, thresholds = list[float](), list[float]()
    for name in picked.sheet.searched:
        scores = picked.store.get(name).scores
        spread = measure_spread(scores.candidates)
        if spread is None or scores.decoys is None:
            continue
        candidates, decoys = map(ScoreCounts.from_scores, (scores.candidates, scores.decoys))
        own = choose_by_counts(candidates, decoys, diameter_angstrom**2 / scores.area)
        if own is not None:
            spreads.append(spread)
            thresholds.append(own)
    rule = LevelRule.fit(spreads, thresholds)
    if rule is None:
        return picked
    store = LeveledStore(picked.store, rule)
    sheet = count_scores(store, picked.sheet.names, frozenset(picked.sheet.searched))
    return replace(picked, sheet=sheet, store=store)


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
