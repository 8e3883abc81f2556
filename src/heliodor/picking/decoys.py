"""Decoys: candidates where there are no particles, on micrographs with reversed contrast.

Noise looks the same dark and bright, so a network finds as many false candidates, with the same
scores, on a reversed micrograph as on the micrograph itself. Particles are the exception: a
network trained on few labels may take a bright particle, or the fringes around it, for particles
too. So decoys next to likely particles do not count, nor does the area there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from heliodor.conventions import FloatArray, Image, to_original
from heliodor.data.micrographs.dead_borders import DeadBorder
from heliodor.data.micrographs.working_images import WorkingImage
from heliodor.evaluation.score_histogram import DatasetScores
from heliodor.models.model_file import Model
from heliodor.picking.boxes import mask_boxes_on
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.label_scores import INVERT
from heliodor.picking.nms import suppress
from heliodor.picking.score_maps import FLOOR, score_normalized
from heliodor.picking.settings import Distances, PickSettings

#: Candidates are likely particles if they score more than as many decoys as it takes for the
#: discs around these to cover this share of the area.
CLEARED_SHARE = 0.1
#: The contrast of the micrographs is inverted if at least this number of decoys score more than
#: 0 log-odds, this many times as many per area as candidates. Real micrographs have 5 to 100 times
#: as many such candidates as decoys.
MANY_DECOYS, OUTNUMBERED = 30, 3.0


@dataclass(frozen=True)
class ScoredPositions:
    """Candidates or decoys on one image, in its pixels."""

    xy_px: FloatArray
    score: FloatArray


def score_decoys(
    model: Model,
    image: WorkingImage,
    normalized: Image,
    settings: PickSettings,
    contamination: ContaminationMask | None,
    device: torch.device | str = "cpu",
) -> FloatArray:
    """Return the scores of the decoys of one micrograph, log-odds, shape (n,).

    Parameters
    ----------
    image, normalized
        The micrograph, and what the network sees of it.
    contamination
        Of the micrograph, where candidates in it are lowered or dropped; None: none.
    """
    size = image.working_pixel_size_angstrom
    distances = settings.distances_for(model, size)
    inverted = score_normalized(model, image, -normalized, device, settings.scores)
    decoys = find_positions(inverted, distances, contamination, size)
    if settings.box_px is None:
        return decoys.score
    xy_px = to_original(decoys.xy_px, image.original_shape, image.shape)
    return decoys.score[mask_boxes_on(image, xy_px, settings.box_px)]


def find_positions(
    score: Image,
    distances: Distances,
    contamination: ContaminationMask | None,
    pixel_size_angstrom: float = 1.0,
) -> ScoredPositions:
    """Return the local maxima of a score map; in contamination their log-odds are lowered.

    Parameters
    ----------
    score
        Log-odds, shape (h, w), with pixels of the given size.
    distances
        Exclusion radius and edge margin; see `nms.suppress`.
    contamination
        Of the same image; None: none.
    """
    rows_columns, scores = suppress(score, distances.exclusion_px, FLOOR, distances.margin_px)
    maxima = ScoredPositions(rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64))
    if contamination is None:
        return maxima
    order, weighed = contamination.weigh(maxima.xy_px * pixel_size_angstrom, maxima.score, FLOOR)
    return ScoredPositions(maxima.xy_px[order], weighed)


def measure_candidate_area(
    score: Image,
    contamination: ContaminationMask | None,
    pixel_size_angstrom: float = 1.0,
    margin_px: int = 0,
) -> float:
    """Return the area in which there may be candidates, in the square of the pixel size's unit.

    Parameters
    ----------
    score
        Log-odds, not finite in dead borders, shape (h, w).
    contamination
        Of the micrograph, where candidates in it are lowered or dropped; None: none.
    margin_px
        Width of the margin along the edges without candidates.
    """
    inner = np.isfinite(score[DeadBorder().at_least(margin_px).live_region(score.shape)])
    area = float(np.count_nonzero(inner)) * pixel_size_angstrom**2
    return area if contamination is None else area * (1 - contamination.left_out_fraction)


def choose_clear_above(
    decoys: Sequence[ScoredPositions], area_px: float, radius_px: float
) -> float:
    """Choose the score above which a candidate is likely enough to void the decoys next to it.

    Parameters
    ----------
    decoys
        Of all images, all of them.
    area_px
        Of all images.
    radius_px
        Of the disc without decoys.
    """
    falling = np.sort(np.concatenate([positions.score for positions in decoys]))[::-1]
    if not len(falling):
        return 0.0
    count = int(CLEARED_SHARE * area_px / (math.pi * radius_px**2))
    return float(falling[min(count, len(falling) - 1)])


def keep_clear_decoys(
    decoys: ScoredPositions, candidates: ScoredPositions, clear_above: float, radius_px: float
) -> FloatArray:
    """Return the scores of the decoys that are not next to likely particles.

    Parameters
    ----------
    decoys, candidates
        Of one image.
    clear_above
        Candidates that score more are likely particles.
    radius_px
        Decoys within this distance of one are dropped.
    """
    likely = candidates.xy_px[candidates.score > clear_above]
    if not len(likely) or not len(decoys.xy_px):
        return decoys.score
    return np.asarray(decoys.score[KDTree(likely).query(decoys.xy_px)[0] > radius_px])


def describe_inverted_contrast(scores: DatasetScores) -> str | None:
    """Return a warning if there are far more likely particles with inverted contrast.

    Parameters
    ----------
    scores
        Of all micrographs, with decoys on some of them.
    """
    candidates = sum(group.paired.at_least(0.0).total for group in scores.groups)
    decoys = sum(group.decoys.at_least(0.0).total for group in scores.groups)
    if decoys < MANY_DECOYS or decoys <= OUTNUMBERED * candidates:
        return None
    return (
        "the contrast of the micrographs seems to be the opposite of that which the model was"
        f" trained on: {decoys} likely particles were found on inverted copies of some"
        f" micrographs, but only {candidates} on the micrographs; {INVERT}"
    )
