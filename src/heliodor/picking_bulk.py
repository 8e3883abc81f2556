"""Picking on many micrographs: as many at a time as there are processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import numpy as np
import torch

from heliodor.calibration import Calibration, MicrographScores
from heliodor.conventions import Image, to_working
from heliodor.decoys import Found, cleared, find
from heliodor.errors import BadInput
from heliodor.journal import Finished
from heliodor.lookahead import looking_ahead
from heliodor.model_file import Model
from heliodor.picking import (
    FLOOR,
    PickSettings,
    candidates,
    score_and_shift,
    score_normalised,
)
from heliodor.picks import Picks
from heliodor.preparation import Failure, WorkingImage, WorkingImages
from heliodor.quality import Measured, Row
from heliodor.sources import Source
from heliodor.threads import one_thread_each
from heliodor.threshold import Expected

#: The most micrographs that are worked on at a time, as each takes memory.
MOST_AT_A_TIME = 16


@dataclass(frozen=True)
class Picked:
    """The candidates of many micrographs and those that failed."""

    candidates: Picks
    failures: list[Failure]
    threshold: float
    #: Of each micrograph, by name.
    scores: dict[str, MicrographScores] = field(default_factory=dict, repr=False)
    #: What scores mean on these micrographs, and what to expect of the picks; None: not known.
    calibration: Calibration | None = field(default=None, repr=False)
    expected: Expected | None = None
    #: A row for each micrograph, in their order, where they were looked at side by side.
    quality: tuple[Row, ...] = ()

    @property
    def picks(self) -> Picks:
        """The candidates from the threshold on; micrographs without any stay listed."""
        return self.candidates.select(self.candidates.score >= self.threshold)


@dataclass(frozen=True)
class DecoySearch:
    """Where decoys are looked for; see `decoys`."""

    #: Names of micrographs.
    on: frozenset[str]
    #: Candidates that score more are too likely particles for decoys beside them.
    above: float


#: A micrograph with its score map, its candidates, the scores of these and of decoys, and what was
#: measured on it.
_Scored = tuple[WorkingImage, Image, Picks, MicrographScores, Measured]


def pick_all(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str = "cpu",
    done: Callable[[WorkingImage, Image, Picks, MicrographScores, Measured], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finished: Mapping[str, Finished] | None = None,
    search: DecoySearch | None = None,
) -> Picked:
    """Pick on many micrographs; one that cannot be used is reported and spoils no other.

    Parameters
    ----------
    done
        Called with each micrograph, its score map, its candidates, its scores and what was
        measured on it, as soon as they are there.
    finished
        What was found, by name, on micrographs that were picked on before; those are not read.
    search
        Where decoys are looked for; None: nowhere.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    finished = finished or {}
    tables: list[Picks] = []
    scores: dict[str, MicrographScores] = {}
    failures: list[Failure] = []
    reference = model.novelty

    def prepare(source: Source) -> tuple[WorkingImage, Image]:
        """Do what can be done ahead of the network."""
        image = images.get(source)
        return image, model.normalizer.apply(image.image)

    def score(image: WorkingImage, normalised: Image) -> _Scored:
        own, shift = score_and_shift(model, image, normalised, device, settings.scores)
        picks = candidates(model, image, own, settings)
        decoys = None
        if search is not None and image.source.name in search.on:
            size = image.working_pixel_size_angstrom
            distances = settings.distances_px(model.card.diameter_angstrom, size)
            reverse = score_normalised(model, image, -normalised, device, settings.scores)
            xy = to_working(picks.xy_px, image.original_shape, image.shape)
            radius, there = distances.exclusion_px, find(reverse, distances, FLOOR)
            decoys = cleared(there, Found(xy, picks.score), search.above, radius)
        area = np.count_nonzero(np.isfinite(own)) * image.working_pixel_size_angstrom**2
        scored = MicrographScores(picks.score, decoys, float(area))
        unlike = float("nan") if reference is None else reference.share(normalised)
        measured = Measured(
            None if isnan(unlike) else unlike,
            None if model.card.background is None else shift,
        )
        return image, own, picks, scored, measured

    # Processors each take a micrograph from its file to its picks; a GPU takes one at a time,
    # and the processors see to it that the next is at hand.
    alone = torch.device(device).type == "cpu"
    ahead: Callable[[Source], Any] = (lambda s: score(*prepare(s))) if alone else prepare
    others = [source for source in sources if source.name not in finished]
    at_a_time = min(images.threads, MOST_AT_A_TIME)
    with one_thread_each(alone), looking_ahead(ahead, others, at_a_time) as results:
        for number, source in enumerate(sources, 1):
            if source.name in finished:
                known = finished[source.name]
                tables.append(known.candidates)
                scores[source.name] = known.scores
            else:
                _, future = next(results)
                try:
                    result = future.result()
                    image, score_map, own, scored, measured = result if alone else score(*result)
                except BadInput as error:
                    failures.append(Failure(source.name, str(error)))
                else:
                    tables.append(own)
                    scores[source.name] = scored
                    if done is not None:
                        done(image, score_map, own, scored, measured)
            if progress is not None:
                progress(number, len(sources))
    if not tables:
        reason = failures[0].reason if failures else "none was given"
        raise BadInput(f"no micrograph could be picked on: {reason}")
    return Picked(Picks.concatenate(tables), failures, settings.threshold_for(model), scores)
