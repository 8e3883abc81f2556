"""Picking: particle centres on whole micrographs, in the pixels of the original files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from heliodor.conventions import Image, to_original
from heliodor.errors import BadInput
from heliodor.model_file import Model
from heliodor.networks import Network
from heliodor.picks import Picks
from heliodor.preparation import Failure, WorkingImage, WorkingImages
from heliodor.sampler import LabelledImage
from heliodor.scoring import score_image
from heliodor.sources import Source
from heliodor.suppression import suppress

#: Candidates below this log-odds are not worth listing.
FLOOR = -6.0


@dataclass(frozen=True)
class PickSettings:
    """How to pick; lengths in angstrom, None takes what follows from the model's diameter."""

    #: Log-odds from which a candidate is a pick; None takes the model's own threshold.
    threshold: float | None = None
    #: No two picks are nearer than this; the particle's radius by default.
    exclusion_radius_angstrom: float | None = None
    #: No pick's centre is nearer to an edge than this. Programs that extract particles leave
    #: out those whose box crosses an edge by themselves.
    edge_margin_angstrom: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput("the threshold must be a number (log-odds)")
        for name in ("exclusion_radius", "edge_margin"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 <= value < 1e5:
                raise BadInput(f"the {name.replace('_', ' ')} must be 0 A or more, not {value:g}")

    def threshold_for(self, model: Model) -> float:
        """Return the threshold in force."""
        return model.card.threshold if self.threshold is None else self.threshold


def score_micrograph(
    model: Model, image: WorkingImage, device: torch.device | str = "cpu"
) -> Image:
    """Return the log-odds of every pixel of a working image, shape (h, w)."""
    return score_image(model.network, model.normalizer.apply(image.image), device)


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
    pixel = image.working_pixel_size_angstrom
    half = model.card.diameter_angstrom / 2
    exclusion = settings.exclusion_radius_angstrom
    floor = min(FLOOR, settings.threshold_for(model))
    rows_columns, scores = suppress(
        score,
        (half if exclusion is None else exclusion) / pixel,
        math.nextafter(floor, -math.inf),
        math.ceil(settings.edge_margin_angstrom / pixel),
    )
    xy = to_original(rows_columns[:, ::-1].astype(np.float64), image.original_shape, image.shape)
    return Picks.on(image.source.name, xy, scores.astype(np.float64))


def operating_threshold(
    network: Network,
    images: Sequence[LabelledImage],
    expected_particles: float,
    exclusion_px: float,
    device: torch.device | str = "cpu",
) -> float:
    """Return the log-odds at which images give as many picks as particles are expected.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Normalised working images, at least one.
    expected_particles
        Mean number an image.
    exclusion_px
        Exclusion radius in working pixels.
    """
    scores = []
    for item in images:
        scores.append(suppress(score_image(network, item.image, device), exclusion_px)[1])
    ranked = np.sort(np.concatenate(scores))[::-1]
    position = round(expected_particles * len(images))
    return float(ranked[min(max(position, 1), len(ranked)) - 1])


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
) -> Picked:
    """Pick on many micrographs; one that cannot be used is reported and spoils no other.

    Parameters
    ----------
    done
        Called with each micrograph, its score map and its picks (from the threshold on) as
        soon as they are there.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    threshold = settings.threshold_for(model)
    tables: list[Picks] = []
    failures: list[Failure] = []
    for number, source in enumerate(sources, 1):
        try:
            image = images.get(source)
            score = score_micrograph(model, image, device)
            own = candidates(model, image, score, settings)
        except BadInput as error:
            failures.append(Failure(source.name, str(error)))
        else:
            tables.append(own)
            if done is not None:
                done(image, score, own.select(own.score >= threshold))
        if progress is not None:
            progress(number, len(sources))
    if not tables:
        reason = failures[0].reason if failures else "none was given"
        raise BadInput(f"no micrograph could be picked on: {reason}")
    return Picked(Picks.concatenate(tables), failures, threshold)
