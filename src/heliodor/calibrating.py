"""Calibrating: a trained network's scores on its own micrographs, and a model's on others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from heliodor.calibration import (
    FEWEST_MICROGRAPHS,
    Calibration,
    MicrographScores,
    calibrate,
)
from heliodor.conventions import FloatArray, Image
from heliodor.decoys import Found, clear_above, cleared, find
from heliodor.labels import LabelledImage
from heliodor.lookahead import looking_ahead
from heliodor.matching import match
from heliodor.model_file import Model
from heliodor.networks import Network
from heliodor.picking import FLOOR, GUARD, Distances, PickSettings, level
from heliodor.picking_bulk import Picked
from heliodor.picks import PROBABILITY, Picks
from heliodor.scoring import lattice_step, score_smoothly
from heliodor.threads import one_thread_each
from heliodor.threshold import best_threshold, expected

#: A label's candidate is no farther from it than this share of the diameter.
REACH = 0.4
#: Micrographs on which decoys are looked for: so many, or this share, if that is more.
DECOY_MICROGRAPHS, DECOY_SHARE = 16, 0.02


class Level(NamedTuple):
    """Where a network's scores lie on the micrographs it was trained on."""

    #: Their median pixel, log-odds.
    background: float
    #: None where too little is known to calibrate.
    calibration: Calibration | None
    #: Of all candidates on the images, shape (n,).
    scores: FloatArray


def calibrate_network(
    network: Network,
    labelled: Sequence[LabelledImage],
    others: Sequence[Image],
    distances: Distances,
    diameter_px: float,
    radius_px: float,
    device: torch.device | str = "cpu",
    threads: int = 1,
    seed: int = 0,
) -> Level:
    """Find the level of a newly trained network's scores, and what they mean.

    Parameters
    ----------
    network
        In evaluation mode.
    labelled
        Normalised images with labels, at least one.
    others
        Normalised images without.
    distances
        Exclusion radius and edge margin.
    diameter_px
        Of the particle, in working pixels.
    radius_px
        Training radius, by which the pixels that are scored are chosen as in picking; 0 scores
        all.
    threads
        Images that are scored at a time.
    seed
        Of the resampling.
    """
    step = lattice_step(network, radius_px)
    alone = torch.device(device).type == "cpu"
    images = [*(item.image for item in labelled), *others]
    workers = threads if alone else 1

    def scored(image: Image) -> tuple[Image, Image]:
        return score_smoothly(network, image, step, device), score_smoothly(
            network, -image, step, device
        )

    with one_thread_each(alone), looking_ahead(scored, images, workers) as results:
        maps = [future.result() for _, future in results]
    own_maps = [own for own, _ in maps]
    alive = [
        np.isfinite(level(own, image, None)) for own, image in zip(own_maps, images, strict=True)
    ]
    medians = [float(np.median(own[here])) for own, here in zip(own_maps, alive, strict=True)]
    background = float(np.median(medians[: len(labelled)]))

    def searched(number: int) -> tuple[Found, Found]:
        guard = GUARD * diameter_px
        levelled = (level(own, images[number], background, guard) for own in maps[number])
        candidates, decoys = (find(own, distances, FLOOR) for own in levelled)
        return candidates, decoys

    with one_thread_each(alone), looking_ahead(searched, range(len(images)), workers) as pairs:
        found = [future.result() for _, future in pairs]
    areas = [float(np.count_nonzero(here)) for here in alive]
    labels = [
        label_scores(candidates, item.xy_px, REACH * diameter_px)
        for item, (candidates, _) in zip(labelled, found, strict=False)
    ]
    above = clear_above([decoys for _, decoys in found], sum(areas), distances.exclusion_px)
    micrographs = [
        MicrographScores(own.score, cleared(decoys, own, above, distances.exclusion_px), area)
        for (own, decoys), area in zip(found, areas, strict=True)
    ]
    calibration = calibrate(
        micrographs,
        np.concatenate(labels),
        math.pi * (diameter_px / 2) ** 2,
        math.pi * distances.exclusion_px**2,
        above,
        FLOOR,
        seed,
    )
    return Level(background, calibration, np.concatenate([own.score for own, _ in found]))


def label_scores(candidates: Found, xy_px: FloatArray, reach_px: float) -> FloatArray:
    """Return the scores of the candidates on labelled particles, one a label that has one."""
    pairs = match(candidates.xy_px, xy_px, reach_px)
    return candidates.score[pairs.is_true_positive]


def decoy_sample(names: Iterable[str]) -> frozenset[str]:
    """Choose the micrographs on which decoys are looked for, whatever their order.

    By a fingerprint of their names, so that a set that is picked on in parts, or again with
    some more, is sampled in much the same way.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(ranked[: max(DECOY_MICROGRAPHS, math.ceil(DECOY_SHARE * len(ranked)))])


def calibrated(model: Model, picked: Picked, settings: PickSettings) -> Picked:
    """Return picks with the probabilities that hold, and the threshold where none was given.

    Parameters
    ----------
    model
        The model that picked. Of one that does not know its labels' scores, such as another
        program's, the picks come back as they are.
    picked
        Its candidates.
    settings
        As they were picked with.
    """
    known = model.calibration
    if known is None:
        return picked
    calibration = _of_picking(model, known, picked, settings)
    candidates, threshold = with_probability(picked.candidates, calibration), settings.threshold
    if threshold is None:
        threshold = best_threshold(calibration, candidates.score, settings.max_fdr)
    outlook = expected(calibration, candidates.score, threshold)
    return replace(
        picked,
        candidates=candidates,
        threshold=threshold,
        calibration=calibration,
        expected=outlook,
    )


def _of_picking(
    model: Model, known: Calibration, picked: Picked, settings: PickSettings
) -> Calibration:
    """Return the calibration on the micrographs picked on; of too few, that of the training."""
    if len(picked.scores) < FEWEST_MICROGRAPHS:
        return known.elsewhere()
    diameter = model.card.diameter_angstrom
    exclusion = settings.distances_px(diameter, 1.0).exclusion_px
    own = calibrate(
        [picked.scores[name] for name in sorted(picked.scores)],
        known.labels,
        math.pi * (diameter / 2) ** 2,
        math.pi * exclusion**2,
        known.clear_above,
        FLOOR,
        model.card.seed,
    )
    return known.elsewhere() if own is None else own


def with_probability(candidates: Picks, calibration: Calibration | None) -> Picks:
    """Return candidates with the probability of each, where it is known."""
    if calibration is None:
        return candidates
    chance = calibration.probability(candidates.score)
    return replace(candidates, extra={**candidates.extra, PROBABILITY: chance})
