"""Candidates: particle centers on whole micrographs, in the pixels of the original files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from heliodor.conventions import FloatArray, Image, IndexArray, Shape, to_original
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.models.model_file import Model
from heliodor.models.networks import Network
from heliodor.picking.boxes import mask_boxes_on
from heliodor.picking.contamination import ContaminationMask, add_distances
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import FLOOR, find_contamination, level_scores
from heliodor.picking.scoring import lattice_step, score_with_contaminants
from heliodor.picking.settings import PickSettings


def find_candidates(
    model: Model,
    image: WorkingImage,
    score: Image,
    settings: PickSettings,
    contamination: ContaminationMask | None = None,
) -> Picks:
    """Return the ranked candidates of one micrograph.

    Exact greedy non-maximum suppression (Bepler et al., Methods 9).

    Parameters
    ----------
    model
        A trained model.
    image
        The micrograph at the model's working pixel size.
    score
        Its log-odds, shape (h, w).
    settings
        Threshold and distances.
    contamination
        Of the micrograph, where it is known. Unless the settings keep candidates in it as they
        are, their log-odds are lowered after the suppression: a pixel next to a lowered peak does
        not take its place.

    Returns
    -------
    Picks
        In original pixels and descending order of log-odds, down to -6 or the threshold,
        whichever is lower.
    """
    maxima = find_maxima(model, image, score, settings)
    picks, xy_angstrom = maxima.picks, maxima.xy_angstrom
    if contamination is None:
        return picks
    picks = add_distances(picks, contamination.distance_angstrom(xy_angstrom))
    if settings.refuses(contamination):
        return picks.select(np.zeros(0, np.intp))
    if settings.leaves_out(contamination) is None:
        return picks
    order, weighed = contamination.weigh(xy_angstrom, picks.score, _floor(model, settings))
    return replace(picks.select(order), score=weighed)


class Maxima(NamedTuple):
    """The candidates of a micrograph before contamination is considered."""

    picks: Picks
    #: (x, y) from the center of the working image's first pixel, shape (n, 2).
    xy_angstrom: FloatArray


def find_maxima(model: Model, image: WorkingImage, score: Image, settings: PickSettings) -> Maxima:
    """Return the candidates of a micrograph as if nothing of it were contaminated.

    Parameters
    ----------
    model, image, score, settings
        As for `find_candidates`.
    """
    distances = settings.distances_for(model, image.working_pixel_size_angstrom)
    floor = _floor(model, settings)
    rows_columns, scores = suppress(score, distances.exclusion_px, floor, distances.margin_px)
    working = correct_centers(
        rows_columns, score.shape, model.card.center_correction_px, distances.margin_px
    )
    xy = to_original(working, image.original_shape, image.shape)
    picks = Picks.on(image.source.name, xy, scores.astype(np.float64))
    xy_angstrom = working * image.working_pixel_size_angstrom
    if settings.box_px is not None:
        # After the suppression: the flank of a particle at the edge does not take its place.
        whole = mask_boxes_on(image, picks.round_values().xy_px, settings.box_px)
        picks, xy_angstrom = picks.select(np.flatnonzero(whole)), xy_angstrom[whole]
    return Maxima(picks, xy_angstrom)


def _floor(model: Model, settings: PickSettings) -> float:
    # Just below, so that a candidate exactly at the threshold is included.
    return math.nextafter(min(FLOOR, settings.threshold_for(model)), -math.inf)


def correct_centers(
    rows_columns: IndexArray, shape: Shape, correction_px: Sequence[float], margin_px: int = 0
) -> FloatArray:
    """Return the centers (x, y) of local maxima, corrected for the shift of the network.

    Parameters
    ----------
    rows_columns
        The maxima, shape (n, 2).
    shape
        (height, width) of the score map.
    correction_px
        `ModelCard.center_correction_px`.
    margin_px
        Width of the margin along the edges, out of which no center is moved.
    """
    last = np.array(shape[::-1], dtype=np.float64) - 1 - margin_px
    centers = rows_columns[:, ::-1] + np.array(correction_px, dtype=np.float64)
    return np.asarray(np.clip(centers, float(margin_px), last))


class OperatingPoint(NamedTuple):
    """What a model's scores mean on the micrographs it was trained on, log-odds."""

    #: Their median pixel.
    background: float
    #: At which there are as many picks as expected particles; None where even all candidates
    #: would be too few.
    threshold: float | None


def find_operating_point(
    network: Network,
    images: Sequence[LabeledImage],
    expected_particles: float,
    exclusion_px: float,
    margin_px: int = 0,
    device: torch.device | str = "cpu",
    radius_px: float = 0.0,
    diameter_px: float | None = None,
) -> OperatingPoint:
    """Find the background and the threshold of a newly trained network.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Normalized working images, at least one.
    expected_particles
        Mean number per image.
    exclusion_px, margin_px
        Exclusion radius and edge margin in working pixels.
    radius_px
        Training radius, which decides which pixels are scored, as in picking.
    diameter_px
        The particle's; if given, scores at edges and of candidates in contamination are lowered.
    """
    step = lattice_step(network, radius_px)
    both = [score_with_contaminants(network, item.image, step, device) for item in images]
    maps = [level_scores(own.particle, i.image, None) for own, i in zip(both, images, strict=True)]
    medians = [float(np.median(score[np.isfinite(score)])) for score in maps]
    background = float(np.median(medians))
    ranked = []
    for (_, contaminant), score, item in zip(both, maps, images, strict=True):
        levelled = level_scores(score, item.image, background, diameter_px or 0.0)
        places, found = suppress(levelled, exclusion_px, margin_px=margin_px)
        own = found.astype(np.float64)
        if diameter_px is not None:
            contamination = find_contamination(network, contaminant, score, diameter_px)
            if contamination is not None:
                xy = places[:, ::-1].astype(np.float64)
                own = contamination.weigh(xy, own, -math.inf)[1]
        ranked.append(own)
    falling = np.sort(np.concatenate(ranked))[::-1]
    position = max(1, round(expected_particles * len(images)))
    return OperatingPoint(
        background, float(falling[position - 1]) if position <= len(falling) else None
    )
