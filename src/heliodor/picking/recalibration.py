"""The threshold and the probabilities of picks, from a model's calibration or from decoys."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from heliodor.data.micrographs.sources import Source
from heliodor.evaluation import thresholds
from heliodor.evaluation.thresholds import choose_threshold, predict_performance
from heliodor.models.model_file import GENERAL_KEY, Model
from heliodor.picking.batch import DecoySearch, PickingResult
from heliodor.picking.candidates import FLOOR
from heliodor.picking.settings import PickSettings

#: Micrographs on which decoys are looked for: this number, or this share if that is more.
DECOY_MICROGRAPHS, DECOY_SHARE = 16, 0.02


def choose_decoy_micrographs(names: Iterable[str]) -> frozenset[str]:
    """Choose the micrographs on which decoys are looked for, independent of their order.

    By a fingerprint of their names, so that a set that is picked in parts, or again with some
    more, is sampled in nearly the same way.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(ranked[: max(DECOY_MICROGRAPHS, math.ceil(DECOY_SHARE * len(ranked)))])


def calibrate_picks(model: Model, picked: PickingResult, settings: PickSettings) -> PickingResult:
    """Return picks with calibrated probabilities, and a threshold where none was given.

    Parameters
    ----------
    model
        The model that picked. If it does not know its labels' scores, for example because it is
        another program's, the picks are returned unchanged; for the general model the threshold is
        chosen by target-decoy counting.
    picked
        Its candidates.
    settings
        Settings of the picking.
    """
    known = model.calibration
    if known is None:
        return _by_excess(model, picked, settings)
    # The calibration of the training, not of these micrographs: a micrograph has the same picks
    # whatever others are picked with it.
    calibration = known.for_other_micrographs()
    counts, threshold = picked.sheet.candidates, settings.threshold
    if threshold is None:
        threshold = model.card.threshold
        if settings.max_fdr is not None:
            threshold = choose_threshold(calibration, counts, settings.max_fdr)
    outlook = predict_performance(calibration, counts, threshold)
    return replace(picked, threshold=threshold, calibration=calibration, expected=outlook)


def get_clear_above(model: Model) -> float | None:
    """Return the score above which decoys next to a candidate do not count; None: no decoys.

    Decoys are only needed for the general model: others know the scores of their labels.
    """
    needed = model.calibration is None and GENERAL_KEY in model.card.extra
    return thresholds.CLEAR_ABOVE if needed else None


def choose_decoy_search(model: Model, sources: Sequence[Source]) -> DecoySearch | None:
    """Return on which micrographs to search decoys; None where they could not be used."""
    above = get_clear_above(model)
    if above is None:
        return None
    return DecoySearch(choose_decoy_micrographs(source.name for source in sources), above)


def _by_excess(model: Model, picked: PickingResult, settings: PickSettings) -> PickingResult:
    if settings.threshold is not None or GENERAL_KEY not in model.card.extra:
        return picked
    exclusion = settings.distances_px(model.card.diameter_angstrom, 1.0).exclusion_px
    area = math.pi * exclusion**2
    found = thresholds.find_decoy_threshold(picked.sheet, area, settings.max_fdr, FLOOR)
    return picked if found is None else replace(picked, threshold=found)
