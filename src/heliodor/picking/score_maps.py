"""Score maps of one micrograph: log-odds that are comparable between micrographs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from heliodor.conventions import Image
from heliodor.data.micrographs.dead_borders import find_dead_border
from heliodor.data.micrographs.working_images import WorkingImage, WorkingImages
from heliodor.errors import BadInput
from heliodor.models.model_file import Model
from heliodor.models.networks import Network
from heliodor.picking.contamination import ContaminationMask, ScoredCenters
from heliodor.picking.dark_candidates import doubt_dark_candidates
from heliodor.picking.nms import suppress
from heliodor.picking.scoring import (
    NetworkOutput,
    lattice_step,
    score_smoothly,
    score_with_contaminants,
)
from heliodor.picking.settings import Scores

#: Candidates below this log-odds are not worth listing.
FLOOR = -6.0
#: No center is nearer to a dead border than this share of the diameter.
GUARD = 0.25
#: What the log-odds are lowered by at an edge of a micrograph, and the share of the diameter
#: within which they are: chosen on real micrographs, see docs/general-model.md.
EDGE_DOUBT, EDGE_REACH = 3.0, 0.3
#: Largest shift of a micrograph's log-odds to the level of training.
MOST_LEVELLING = 1.0


def open_working_images(
    model: Model, pixel_size_angstrom: float | None = None, keep_bytes: int = 0
) -> WorkingImages:
    """Return working images as a model needs them; a given pixel size replaces the headers'.

    Parameters
    ----------
    keep_bytes
        Memory for images that are needed again; 0 where none is needed twice.

    Raises
    ------
    BadInput
        If the model is for any diameter and was not given one; see
        `pretrained.rescale_to_diameter`.
    """
    card = model.card
    if card.any_diameter:
        raise BadInput(
            "this model picks particles of any size, so it needs the diameter of the particle in"
            " angstrom (--diameter)"
        )
    return WorkingImages(
        card.working_pixel_size_angstrom,
        pixel_size_angstrom,
        card.diameter_angstrom,
        finer=card.finer,
        keep_bytes=keep_bytes,
        threads=torch.get_num_threads(),
    )


def score_micrograph(
    model: Model, image: WorkingImage, device: torch.device | str = "cpu"
) -> Image:
    """Return the smooth log-odds of every pixel of a working image, leveled, shape (h, w)."""
    return score_normalized(model, image, model.normalizer.apply(image.image), device)


def score_normalized(
    model: Model,
    image: WorkingImage,
    normalized: Image,
    device: torch.device | str = "cpu",
    scores: Scores = "smooth",
) -> Image:
    """Do as `score_micrograph`, with the normalized image."""
    step = 1 if scores == "dense" else card_step(model, image.working_pixel_size_angstrom)
    score = score_smoothly(model.network, normalized, step, device)
    return _level(model, image, normalized, score)[0]


class ScoreMaps(NamedTuple):
    """The score map of one micrograph, and its contamination."""

    #: Levelled log-odds of a particle at every pixel of the working image, shape (h, w).
    score: Image
    #: How much was added to level them.
    shift: float
    #: None for models without a contaminant output.
    contamination: ContaminationMask | None


def compute_score_maps(
    model: Model,
    image: WorkingImage,
    normalized: Image,
    device: torch.device | str = "cpu",
    scores: Scores = "smooth",
) -> ScoreMaps:
    """Do as `score_normalized`, and detect contamination in the same pass."""
    step = 1 if scores == "dense" else card_step(model, image.working_pixel_size_angstrom)
    return assemble_score_maps(
        model, image, normalized, score_with_contaminants(model.network, normalized, step, device)
    )


def assemble_score_maps(
    model: Model, image: WorkingImage, normalized: Image, maps: NetworkOutput
) -> ScoreMaps:
    """Return the score maps of an image from the output of the network."""
    score, shift = _level(model, image, normalized, maps.particle)
    size = image.working_pixel_size_angstrom
    diameter_px = model.card.diameter_angstrom / size
    # Of labels it is known what they are, however dark.
    dark = normalized if model.without_labels else None
    found = find_contamination(model.network, maps.contaminant, score, diameter_px, size, dark)
    return ScoreMaps(score, shift, found)


def find_contamination(
    network: Network,
    contaminant: Image | None,
    score: Image,
    diameter_px: float,
    pixel_size_angstrom: float = 1.0,
    dark_on: Image | None = None,
) -> ContaminationMask | None:
    """Return the contamination of an image, None if its network does not detect it.

    Parameters
    ----------
    contaminant
        Log-odds of a contaminant at the pixels [::stride, ::stride].
    score
        Of the particle, leveled: not finite in dead borders. Shape (h, w).
    diameter_px
        The particle's, in pixels of the score.
    pixel_size_angstrom
        Of the score; by default lengths are in its pixels.
    dark_on
        What the network sees of the micrograph, shape (h, w): candidates that are too dark on it
        to be particles are contamination too. None: they are not.
    """
    if contaminant is None:
        return None
    step, alive = network.stride, np.isfinite(score[:: network.stride, :: network.stride])
    diameter_angstrom, candidates = diameter_px * pixel_size_angstrom, None
    if (contaminant >= 0).any():  # most micrographs are clean
        candidates = _find_centers(score, diameter_px, 1, pixel_size_angstrom)
    found = ContaminationMask.from_log_odds(
        contaminant, step * pixel_size_angstrom, diameter_angstrom, alive, candidates
    )
    if dark_on is None:
        return found
    # On the lattice of the mask, which takes a tenth of the time.
    coarse = _find_centers(score, diameter_px, step, pixel_size_angstrom)
    order, weighed = found.weigh(coarse.xy_angstrom, coarse.score, -math.inf)
    xy = coarse.xy_angstrom[order]
    doubt = doubt_dark_candidates(dark_on, xy / pixel_size_angstrom, weighed, diameter_px)
    return found.with_discs(xy, doubt, diameter_angstrom, alive)


def _find_centers(
    score: Image, diameter_px: float, step: int, pixel_size_angstrom: float
) -> ScoredCenters:
    """Return the local maxima of every `step`-th pixel of every `step`-th row."""
    places, found = suppress(score[::step, ::step], diameter_px / 2 / step, FLOOR)
    xy = places[:, ::-1].astype(np.float64) * (step * pixel_size_angstrom)
    return ScoredCenters(xy, found.astype(np.float64))


def _level(
    model: Model, image: WorkingImage, normalized: Image, score: Image
) -> tuple[Image, float]:
    card = model.card
    diameter_px = card.diameter_angstrom / image.working_pixel_size_angstrom
    return level_scores_with_shift(score, normalized, card.background, diameter_px)


def card_step(model: Model, pixel_size_angstrom: float) -> int:
    """Return the distance between scored pixels for a model; see `lattice_step`."""
    return lattice_step(model.network, model.card.training_radius_angstrom / pixel_size_angstrom)


def level_scores(
    score: Image, image: Image, background: float | None, diameter_px: float = 0.0
) -> Image:
    """Make the log-odds of one micrograph comparable with those of others.

    Defocus, dose and ice shift all log-odds of a micrograph together, so that one threshold gives
    too many picks on one micrograph and too few on another. Most of any micrograph is background:
    its median is shifted to that of training, by no more than `MOST_LEVELLING`, because a
    micrograph full of carbon has a different background. Nothing is found in dead borders or
    within a quarter of the diameter of them, where much of a particle is missing. At an edge, half
    a particle whose center lies outside and its mirror image, by which the micrograph is padded,
    look like a whole particle, so the log-odds there are lowered by `EDGE_DOUBT`, and by less with
    the distance.

    Parameters
    ----------
    score
        Log-odds, shape (h, w).
    image
        The image that was scored.
    background
        The median log-odds of the training micrographs; None: no shift.
    diameter_px
        The particle's; 0 turns off the margins of dead borders and edges.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Minus infinity in dead borders.
    """
    return level_scores_with_shift(score, image, background, diameter_px)[0]


def level_scores_with_shift(
    score: Image, image: Image, background: float | None, diameter_px: float = 0.0
) -> tuple[Image, float]:
    """Do as `level_scores`, and also return the shift of the log-odds."""
    alive = find_dead_border(image).widen(math.ceil(GUARD * diameter_px)).live_region(score.shape)
    shift = 0.0
    if background is not None:
        shift = background - float(np.median(score[alive]))
    out = np.full(score.shape, -np.inf, dtype=np.float32)
    shift = float(np.clip(shift, -MOST_LEVELLING, MOST_LEVELLING))
    out[alive] = score[alive] + np.float32(shift)
    _doubt_edges(out, EDGE_REACH * diameter_px)
    return out, shift


def _doubt_edges(score: Image, reach_px: float) -> None:
    """Lower log-odds at the edges, by less with the distance from them."""
    if reach_px <= 0:
        return
    height, width = score.shape
    rows, columns = (
        np.clip(1.0 - np.minimum(np.arange(n), np.arange(n)[::-1]) / reach_px, 0.0, 1.0)
        for n in (height, width)
    )
    doubt = np.maximum(rows[:, None], columns[None, :])
    score -= np.float32(EDGE_DOUBT) * doubt.astype(np.float32)
