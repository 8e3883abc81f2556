"""Picking: particle centres on whole micrographs, in the pixels of the original files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from heliodor.borders import dead_border
from heliodor.conventions import Image, to_original
from heliodor.errors import BadInput
from heliodor.labels import LabelledImage
from heliodor.lookahead import looking_ahead
from heliodor.model_file import Model
from heliodor.networks import Network
from heliodor.picks import Picks
from heliodor.preparation import Failure, WorkingImage, WorkingImages
from heliodor.scoring import score_image, score_smoothly
from heliodor.sources import Source
from heliodor.suppression import suppress

#: Candidates below this log-odds are not worth listing.
FLOOR = -6.0
#: No centre is nearer to a dead border than this share of the diameter.
GUARD = 0.25
#: The most micrographs that are prepared at a time while others are scored.
MOST_AHEAD = 4
#: The most by which a micrograph's log-odds are moved to the level of the training's.
MOST_LEVELLING = 1.0


class Distances(NamedTuple):
    """How far apart picks are, and how far from the edge, in working pixels."""

    exclusion_px: float
    margin_px: int


@dataclass(frozen=True)
class PickSettings:
    """How to pick; lengths in angstrom, None takes what follows from the model's diameter."""

    #: Log-odds from which a candidate is a pick; None takes the model's own threshold.
    threshold: float | None = None
    #: No two picks are nearer than this; the particle's radius by default.
    exclusion_radius_angstrom: float | None = None
    #: No pick's centre is nearer to an edge than this. RELION extracts a box that crosses an
    #: edge all the same; half a diameter leaves out the particles that are cut off.
    edge_margin_angstrom: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput("the threshold must be a number (log-odds)")
        for name in ("exclusion_radius", "edge_margin"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 <= value < 1e5:
                raise BadInput(f"the {name.replace('_', ' ')} must be 0 A or more, not {value:g}")

    def threshold_for(self, model: Model) -> float:
        """Return the threshold in force, log-odds."""
        return model.card.threshold if self.threshold is None else self.threshold

    def distances_px(self, diameter_angstrom: float, pixel_size_angstrom: float) -> Distances:
        """Return the exclusion radius and the edge margin in pixels of the given size."""
        exclusion = self.exclusion_radius_angstrom
        if exclusion is None:
            exclusion = diameter_angstrom / 2
        margin = math.ceil(self.edge_margin_angstrom / pixel_size_angstrom)
        return Distances(exclusion / pixel_size_angstrom, margin)


def images_for(model: Model, pixel_size_angstrom: float | None = None) -> WorkingImages:
    """Return micrographs as a model needs them; the pixel size is the user's, where given."""
    card = model.card
    return WorkingImages(
        card.working_pixel_size_angstrom,
        pixel_size_angstrom,
        card.diameter_angstrom,
        threads=min(torch.get_num_threads(), MOST_AHEAD),
    )


def score_micrograph(
    model: Model, image: WorkingImage, device: torch.device | str = "cpu"
) -> Image:
    """Return the log-odds of every pixel of a working image, levelled, shape (h, w)."""
    return _score_normalised(model, image, model.normalizer.apply(image.image), device)


def _score_normalised(
    model: Model, image: WorkingImage, normalised: Image, device: torch.device | str
) -> Image:
    """Do what `score_micrograph` does with what the network is to see of an image."""
    score = score_image(model.network, normalised, device)
    guard_px = model.card.diameter_angstrom * GUARD / image.working_pixel_size_angstrom
    return level(score, normalised, model.card.background, guard_px)


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
    alive = dead_border(image).grown(math.ceil(guard_px)).alive(score.shape)
    shift = 0.0
    if background is not None:
        shift = background - float(np.median(score[alive]))
    out = np.full(score.shape, -np.inf, dtype=np.float32)
    out[alive] = score[alive] + np.float32(np.clip(shift, -MOST_LEVELLING, MOST_LEVELLING))
    return out


def candidates(model: Model, image: WorkingImage, score: Image, settings: PickSettings) -> Picks:
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
    xy = to_original(rows_columns[:, ::-1].astype(np.float64), image.original_shape, image.shape)
    return Picks.on(image.source.name, xy, scores.astype(np.float64))


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
    """
    # Half the stride finds nearly every peak at nearly its height, in a fraction of the time.
    step = max(1, network.stride // 2)
    maps = [
        level(score_smoothly(network, item.image, step, device), item.image, None)
        for item in images
    ]
    medians = [float(np.median(score[np.isfinite(score)])) for score in maps]
    background = float(np.median(medians))
    ranked = [
        suppress(level(score, item.image, background), exclusion_px, margin_px=margin_px)[1]
        for score, item in zip(maps, images, strict=True)
    ]
    falling = np.sort(np.concatenate(ranked))[::-1]
    position = max(1, round(expected_particles * len(images)))
    return OperatingPoint(
        background, float(falling[position - 1]) if position <= len(falling) else None
    )


@dataclass(frozen=True)
class Picked:
    """The candidates of many micrographs and those that failed."""

    candidates: Picks
    failures: list[Failure]
    threshold: float

    @property
    def picks(self) -> Picks:
        """The candidates from the threshold on; micrographs without any stay listed."""
        return self.candidates.select(self.candidates.score >= self.threshold)


def pick_all(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str = "cpu",
    done: Callable[[WorkingImage, Image, Picks], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finished: Mapping[str, Picks] | None = None,
) -> Picked:
    """Pick on many micrographs; one that cannot be used is reported and spoils no other.

    Parameters
    ----------
    done
        Called with each micrograph, its score map and its candidates as soon as they are there.
    finished
        Candidates, by name, of micrographs that were picked on before; those are not read.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    finished = finished or {}
    tables: list[Picks] = []
    failures: list[Failure] = []

    def ready(source: Source) -> tuple[WorkingImage, Image]:
        """Do what can be done ahead of the network."""
        image = images.get(source)
        return image, model.normalizer.apply(image.image)

    others = [source for source in sources if source.name not in finished]
    with looking_ahead(ready, others, images.threads) as prepared:
        for number, source in enumerate(sources, 1):
            if source.name in finished:
                tables.append(finished[source.name])
            else:
                _, future = next(prepared)
                try:
                    image, normalised = future.result()
                    score = _score_normalised(model, image, normalised, device)
                    own = candidates(model, image, score, settings)
                except BadInput as error:
                    failures.append(Failure(source.name, str(error)))
                else:
                    tables.append(own)
                    if done is not None:
                        done(image, score, own)
            if progress is not None:
                progress(number, len(sources))
    if not tables:
        reason = failures[0].reason if failures else "none was given"
        raise BadInput(f"no micrograph could be picked on: {reason}")
    return Picked(Picks.concatenate(tables), failures, settings.threshold_for(model))
