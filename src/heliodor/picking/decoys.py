"""Decoys: candidates where there are no particles, on micrographs with their contrast reversed.

Noise looks the same dark and bright, so a network finds as much and as good in a reversed
micrograph as it wrongly finds in the micrograph itself. Only at particles this is not so: a
network of few labels may take a bright particle for one too, and fringes around it for others.
So decoys beside likely particles do not count, nor does the room there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from heliodor.conventions import FloatArray, Image
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.nms import suppress
from heliodor.picking.settings import Distances

#: Likely particles are candidates that score more than so many decoys do that discs around
#: these would cover this share of the area.
CLEARED_SHARE = 0.1


@dataclass(frozen=True)
class ScoredPositions:
    """Candidates or decoys on one image, in its own pixels."""

    xy_px: FloatArray
    score: FloatArray


def find_maxima(score: Image, distances: Distances, floor: float) -> ScoredPositions:
    """Return the local maxima of a score map, from a score on; see `nms.suppress`."""
    rows_columns, scores = suppress(score, distances.exclusion_px, floor, distances.margin_px)
    return ScoredPositions(rows_columns[:, ::-1].astype(np.float64), scores.astype(np.float64))


def drop_contaminated(
    found: ScoredPositions,
    contamination: ContaminationMask | None,
    pixel_size_angstrom: float = 1.0,
) -> ScoredPositions:
    """Return what does not lie in bad areas; all where there are None.

    Parameters
    ----------
    found
        On an image with pixels of the given size.
    contamination
        Of the image.
    """
    if contamination is None:
        return found
    kept = ~contamination.contains(found.xy_px * pixel_size_angstrom)
    return ScoredPositions(found.xy_px[kept], found.score[kept])


def choose_clear_above(
    decoys: Sequence[ScoredPositions], area_px: float, radius_px: float
) -> float:
    """Return the score from which on candidates are too likely particles for decoys beside them.

    Parameters
    ----------
    decoys
        Of all images, none left out.
    area_px
        Of all images.
    radius_px
        Of the disc without decoys.
    """
    falling = np.sort(np.concatenate([own.score for own in decoys]))[::-1]
    if not len(falling):
        return 0.0
    number = int(CLEARED_SHARE * area_px / (math.pi * radius_px**2))
    return float(falling[min(number, len(falling) - 1)])


def keep_clear_decoys(
    decoys: ScoredPositions, candidates: ScoredPositions, above: float, radius_px: float
) -> FloatArray:
    """Return the scores of the decoys that are not beside likely particles.

    Parameters
    ----------
    decoys, candidates
        Of one image.
    above
        Candidates that score more are likely particles.
    radius_px
        Decoys this near to one are left out.
    """
    likely = candidates.xy_px[candidates.score > above]
    if not len(likely) or not len(decoys.xy_px):
        return decoys.score
    return np.asarray(decoys.score[KDTree(likely).query(decoys.xy_px)[0] > radius_px])
