"""Picking: particle centres on whole micrographs, in the pixels of the original files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from heliodor.bad_areas import BadAreas, refuse_unknown, with_distance
from heliodor.borders import dead_border
from heliodor.conventions import Image, to_original
from heliodor.errors import BadInput
from heliodor.labels import LabelledImage
from heliodor.model_file import Model
from heliodor.networks import Network
from heliodor.picks import Picks
from heliodor.preparation import WorkingImage, WorkingImages
from heliodor.scoring import Maps, lattice_step, score_both, score_smoothly
from heliodor.suppression import suppress

#: Candidates below this log-odds are not worth listing.
FLOOR = -6.0
#: No centre is nearer to a dead border than this share of the diameter.
GUARD = 0.25
#: The most by which a micrograph's log-odds are moved to the level of the training's.
MOST_LEVELLING = 1.0


#: The most thresholds of a series.
MOST_SERIES = 50

#: smooth: of a lattice as fine as the network's training asks for, and a surface through it;
#: dense: of every pixel.
Scores = Literal["smooth", "dense"]
#: leave-out: candidates whose centre lies in a bad area are none; keep: they are like others.
InBadAreas = Literal["leave-out", "keep"]


class Distances(NamedTuple):
    """How far apart picks are, and how far from the edge, in working pixels."""

    exclusion_px: float
    margin_px: int


@dataclass(frozen=True)
class PickSettings:
    """How to pick; lengths in angstrom, None takes what follows from the model's diameter."""

    #: Log-odds from which a candidate is a pick; None chooses it, by what is to be expected of
    #: these micrographs.
    threshold: float | None = None
    #: The largest share of false picks to expect where the threshold is chosen; None chooses the
    #: highest expected F1.
    max_fdr: float | None = None
    #: No two picks are nearer than this; the particle's radius by default.
    exclusion_radius_angstrom: float | None = None
    #: No pick's centre is nearer to an edge than this. RELION extracts a box that crosses an
    #: edge all the same; half a diameter leaves out the particles that are cut off.
    edge_margin_angstrom: float = 0.0
    scores: Scores = "smooth"
    #: So many nested sets of picks are written beside, at falling thresholds; 0: none.
    threshold_series: int = 0
    #: What becomes of candidates in bad areas; of models without a contaminant output none are
    #: known.
    bad_areas: InBadAreas = "leave-out"
    #: No picks on micrographs of which a larger fraction is bad area; None: on all.
    max_contamination: float | None = None
    #: Whether the bad areas of each micrograph are written as an image.
    bad_area_masks: bool = False

    def __post_init__(self) -> None:
        if self.bad_areas not in get_args(InBadAreas):
            raise BadInput(
                f"--bad-areas must be {' or '.join(get_args(InBadAreas))}, not {self.bad_areas!r}"
            )
        if self.max_contamination is not None and not 0 <= self.max_contamination <= 1:
            raise BadInput(
                "the largest fraction of bad area (--max-contamination) must lie between 0 and 1,"
                f" not {self.max_contamination:g}"
            )
        if self.scores not in get_args(Scores):
            raise BadInput(f"the scores {self.scores!r} are none of {', '.join(get_args(Scores))}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput("the threshold must be a number (log-odds)")
        if self.max_fdr is not None:
            if self.threshold is not None:
                raise BadInput(
                    "a threshold and a largest share of false picks (--max-fdr) were given; the"
                    " second chooses the first, so give one of them"
                )
            if not 0 < self.max_fdr < 1:
                raise BadInput(
                    "the largest share of false picks (--max-fdr) must lie between 0 and 1, not"
                    f" {self.max_fdr:g}"
                )
        if self.threshold_series != 0 and not 2 <= self.threshold_series <= MOST_SERIES:
            raise BadInput(
                f"a series of thresholds has 2 to {MOST_SERIES} of them, not"
                f" {self.threshold_series}"
            )
        for name in ("exclusion_radius", "edge_margin"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 <= value < 1e5:
                raise BadInput(f"the {name.replace('_', ' ')} must be 0 A or more, not {value:g}")

    def check_for(self, contaminant: bool) -> None:
        """Refuse what is asked of bad areas where a model does not tell `contaminant`s."""
        asked = {
            "--bad-areas keep": self.bad_areas != "leave-out",
            "--max-contamination": self.max_contamination is not None,
            "--bad-area-masks": self.bad_area_masks,
        }
        for option, given in asked.items():
            if given and not contaminant:
                refuse_unknown(option)

    def refuses(self, bad_areas: BadAreas | None) -> bool:
        """Tell whether a micrograph is to have no picks, as too much of it is bad area."""
        most = self.max_contamination
        return most is not None and bad_areas is not None and bad_areas.fraction > most

    def leaves_out(self, bad_areas: BadAreas | None) -> BadAreas | None:
        """Return the areas in which nothing is a candidate, None for none."""
        return bad_areas if self.bad_areas == "leave-out" else None

    def threshold_for(self, model: Model) -> float:
        """Return the threshold, log-odds: as given, else the model's until one is chosen."""
        return model.card.threshold if self.threshold is None else self.threshold

    def distances_px(self, diameter_angstrom: float, pixel_size_angstrom: float) -> Distances:
        """Return the exclusion radius and the edge margin in pixels of the given size."""
        exclusion = self.exclusion_radius_angstrom
        if exclusion is None:
            exclusion = diameter_angstrom / 2
        margin = math.ceil(self.edge_margin_angstrom / pixel_size_angstrom)
        return Distances(exclusion / pixel_size_angstrom, margin)


def images_for(model: Model, pixel_size_angstrom: float | None = None) -> WorkingImages:
    """Return micrographs as a model needs them; the pixel size is the user's, where given.

    Raises
    ------
    BadInput
        If the model serves any diameter and was not told one; see `general.for_diameter`.
    """
    card = model.card
    if card.any_diameter:
        raise BadInput(
            "this model picks particles of any size, and a diameter was not given; the commands"
            " `pick` and `train` take --diameter, in angstrom"
        )
    return WorkingImages(
        card.working_pixel_size_angstrom,
        pixel_size_angstrom,
        card.diameter_angstrom,
        finer=card.finer,
        keep_bytes=0,  # none is wanted twice
        threads=torch.get_num_threads(),
    )


def score_micrograph(
    model: Model, image: WorkingImage, device: torch.device | str = "cpu"
) -> Image:
    """Return the smooth log-odds of every pixel of a working image, levelled, shape (h, w)."""
    return score_normalised(model, image, model.normalizer.apply(image.image), device)


def score_normalised(
    model: Model,
    image: WorkingImage,
    normalised: Image,
    device: torch.device | str = "cpu",
    scores: Scores = "smooth",
) -> Image:
    """Do as `score_micrograph`, given what the network is to see of the image."""
    step = 1 if scores == "dense" else card_step(model, image.working_pixel_size_angstrom)
    score = score_smoothly(model.network, normalised, step, device)
    return _levelled(model, image, normalised, score)[0]


class Look(NamedTuple):
    """What a model sees on one micrograph."""

    #: Levelled log-odds of a particle at every pixel of the working image, shape (h, w).
    score: Image
    #: By how much they were moved to be level.
    shift: float
    #: None of models that have no contaminant output.
    bad_areas: BadAreas | None


def look_at(
    model: Model,
    image: WorkingImage,
    normalised: Image,
    device: torch.device | str = "cpu",
    scores: Scores = "smooth",
) -> Look:
    """Do as `score_normalised`, and find the bad areas in the same pass."""
    step = 1 if scores == "dense" else card_step(model, image.working_pixel_size_angstrom)
    return looked(model, image, normalised, score_both(model.network, normalised, step, device))


def looked(model: Model, image: WorkingImage, normalised: Image, maps: Maps) -> Look:
    """Return what a model sees where its network has told the maps of an image."""
    score, shift = _levelled(model, image, normalised, maps.particle)
    size = image.working_pixel_size_angstrom
    diameter_px = model.card.diameter_angstrom / size
    found = bad_areas_of(model.network, maps.contaminant, score, diameter_px, size)
    return Look(score, shift, found)


def bad_areas_of(
    network: Network,
    contaminant: Image | None,
    score: Image,
    diameter_px: float,
    pixel_size_angstrom: float = 1.0,
) -> BadAreas | None:
    """Return the bad areas of an image, None where its network tells none.

    Parameters
    ----------
    contaminant
        Log-odds of a contaminant at the pixels [::stride, ::stride].
    score
        Of the particle, levelled: not finite in dead borders. Shape (h, w).
    diameter_px
        The particle's, in pixels of the score.
    pixel_size_angstrom
        Of the score; by default the areas are in its pixels.
    """
    if contaminant is None:
        return None
    step = network.stride
    return BadAreas.of(
        contaminant,
        step * pixel_size_angstrom,
        diameter_px * pixel_size_angstrom,
        np.isfinite(score[::step, ::step]),
    )


def _levelled(
    model: Model, image: WorkingImage, normalised: Image, score: Image
) -> tuple[Image, float]:
    card = model.card
    guard_px = card.diameter_angstrom * GUARD / image.working_pixel_size_angstrom
    return level_and_shift(score, normalised, card.background, guard_px)


def card_step(model: Model, pixel_size_angstrom: float) -> int:
    """Return the distance of scored pixels that a model's training allows; see `lattice_step`."""
    return lattice_step(model.network, model.card.training_radius_angstrom / pixel_size_angstrom)


def level(score: Image, image: Image, background: float | None, guard_px: float = 0.0) -> Image:
    """Make the log-odds of one micrograph comparable with those of others.

    Defocus, dose and ice move all log-odds of a micrograph up or down together, so that one
    threshold finds too much on one and too little on another. Most of any micrograph is
    background: its median is moved to where it lay in training, by no more than `MOST_LEVELLING`,
    for a micrograph of nothing but carbon has another background. In dead borders nothing is
    ever found.

    Parameters
    ----------
    score
        Log-odds, shape (h, w).
    image
        The image that was scored.
    background
        The median log-odds of the training micrographs; None leaves the level as it is.
    guard_px
        Centres this near to a dead border are out of the question too: much of such a particle
        is not there to be seen, and a bar's end looks like many things.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Minus infinity in dead borders.
    """
    return level_and_shift(score, image, background, guard_px)[0]


def level_and_shift(
    score: Image, image: Image, background: float | None, guard_px: float = 0.0
) -> tuple[Image, float]:
    """Do as `level`; return also by how much the log-odds were moved."""
    alive = dead_border(image).grown(math.ceil(guard_px)).alive(score.shape)
    shift = 0.0
    if background is not None:
        shift = background - float(np.median(score[alive]))
    out = np.full(score.shape, -np.inf, dtype=np.float32)
    shift = float(np.clip(shift, -MOST_LEVELLING, MOST_LEVELLING))
    out[alive] = score[alive] + np.float32(shift)
    return out, shift


def candidates(
    model: Model,
    image: WorkingImage,
    score: Image,
    settings: PickSettings,
    bad_areas: BadAreas | None = None,
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
    bad_areas
        Of the micrograph, where they are known. Candidates in them are left out, unless the
        settings keep them, after the suppression: what lies beside a peak in such an area is no
        candidate in its stead.

    Returns
    -------
    Picks
        In original pixels and in falling order of log-odds, down to -6 or the threshold,
        whichever is lower.
    """
    distances = settings.distances_px(
        model.card.diameter_angstrom, image.working_pixel_size_angstrom
    )
    # Just below, so that a candidate exactly at the threshold is one.
    floor = math.nextafter(min(FLOOR, settings.threshold_for(model)), -math.inf)
    rows_columns, scores = suppress(score, distances.exclusion_px, floor, distances.margin_px)
    working = rows_columns[:, ::-1].astype(np.float64)
    xy = to_original(working, image.original_shape, image.shape)
    picks = Picks.on(image.source.name, xy, scores.astype(np.float64))
    if bad_areas is None:
        return picks
    places = working * image.working_pixel_size_angstrom
    picks = with_distance(picks, bad_areas.distance_angstrom(places))
    if settings.refuses(bad_areas):
        return picks.select(np.zeros(0, np.intp))
    if settings.leaves_out(bad_areas) is not None:
        return picks.select(~bad_areas.contains(places))
    return picks


class OperatingPoint(NamedTuple):
    """What a model's scores mean on the micrographs it was trained on, log-odds."""

    #: Their median pixel.
    background: float
    #: Where they give as many picks as particles are expected; None where not even all
    #: candidates, one at every place that is free, would be enough.
    threshold: float | None


def operating_point(
    network: Network,
    images: Sequence[LabelledImage],
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
        Normalised working images, at least one.
    expected_particles
        Mean number an image.
    exclusion_px, margin_px
        Exclusion radius and edge margin in working pixels.
    radius_px
        Training radius, by which the pixels that are scored are chosen as in picking.
    diameter_px
        The particle's, where candidates in bad areas do not count; None counts them.
    """
    step = lattice_step(network, radius_px)
    both = [score_both(network, item.image, step, device) for item in images]
    maps = [level(own.particle, i.image, None) for own, i in zip(both, images, strict=True)]
    medians = [float(np.median(score[np.isfinite(score)])) for score in maps]
    background = float(np.median(medians))
    ranked = []
    for (_, contaminant), score, item in zip(both, maps, images, strict=True):
        levelled = level(score, item.image, background)
        places, own = suppress(levelled, exclusion_px, margin_px=margin_px)
        if diameter_px is not None:
            bad_areas = bad_areas_of(network, contaminant, score, diameter_px)
            if bad_areas is not None:
                own = own[~bad_areas.contains(places[:, ::-1].astype(np.float64))]
        ranked.append(own)
    falling = np.sort(np.concatenate(ranked))[::-1]
    position = max(1, round(expected_particles * len(images)))
    return OperatingPoint(
        background, float(falling[position - 1]) if position <= len(falling) else None
    )
