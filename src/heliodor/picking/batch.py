"""Picking on many micrographs: as many at a time as there are processors."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch

from heliodor.conventions import Image, to_working
from heliodor.data.coordinates.picks import PROBABILITY, Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
)
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import ScoreSheet
from heliodor.evaluation.thresholds import Expected
from heliodor.models.model_file import Model
from heliodor.picking.candidates import FLOOR, find_candidates
from heliodor.picking.decoys import (
    ScoredPositions,
    drop_contaminated,
    find_maxima,
    keep_clear_decoys,
)
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements, MicrographQuality
from heliodor.picking.score_maps import compute_score_maps, score_normalized
from heliodor.picking.settings import PickSettings
from heliodor.utils.compute import one_thread_each
from heliodor.utils.prefetch import looking_ahead

#: Of a micrograph that ends the process, as where a library fails on what is in it.
CRASHED = "the program crashed on {path}; look at the file, and leave it out or mend it"
#: The most micrographs that are worked on at a time, as each takes memory.
MAX_PARALLEL = 16


class ResultStore(Protocol):
    """Where what was found on micrographs is kept until all are done, such as a `Journal`."""

    def has(self, source: Source) -> bool:
        """Tell whether a micrograph is done already."""
        ...

    def get(self, name: str) -> MicrographResult:
        """Return what was found on a micrograph that is done."""
        ...

    def add(self, source: Source, finished: MicrographResult) -> None:
        """Keep what was found on a micrograph."""
        ...

    def mark_started(self, name: str, alone: bool) -> None:
        """Hear that a micrograph is begun, by itself or beside others; by any thread."""
        ...


class InMemoryStore:
    """A store of a few micrographs."""

    def __init__(self) -> None:
        self._found: dict[str, MicrographResult] = {}

    def has(self, source: Source) -> bool:
        """Tell whether a micrograph is done already."""
        return source.name in self._found

    def get(self, name: str) -> MicrographResult:
        """Return what was found on a micrograph that is done."""
        return self._found[name]

    def add(self, source: Source, finished: MicrographResult) -> None:
        """Keep what was found on a micrograph."""
        self._found[source.name] = finished

    def mark_started(self, name: str, alone: bool) -> None:
        """Hear that a micrograph is begun, which is of no interest here."""


@dataclass(frozen=True)
class PickingResult:
    """What was found on many micrographs, and those that failed.

    Of thousands of micrographs the candidates may lie on disk: `table` and `tables` read those of
    one at a time, `find_candidates` and `picks` all.
    """

    #: Those that were picked on, in order.
    micrographs: tuple[str, ...]
    failures: list[Failure]
    threshold: float
    sheet: ScoreSheet = field(repr=False)
    store: ResultStore = field(repr=False)
    #: What scores mean on these micrographs, and what to expect of the picks; None: not known.
    calibration: Calibration | None = field(default=None, repr=False)
    expected: Expected | None = None
    #: A row for each micrograph, in their order, where they were looked at side by side.
    quality: tuple[MicrographQuality, ...] = ()

    def table(self, micrograph: str) -> Picks:
        """Return the candidates of a micrograph, best first, with their probabilities."""
        return add_probability(self.store.get(micrograph).candidates, self.calibration)

    def tables(self) -> Iterator[tuple[str, Picks]]:
        """Go through the candidates of all micrographs, one at a time."""
        for name in self.micrographs:
            yield name, self.table(name)

    @property
    def candidates(self) -> Picks:
        """All candidates, read into memory."""
        return Picks.concatenate(own for _, own in self.tables())

    @property
    def picks(self) -> Picks:
        """The candidates from the threshold on; micrographs without any stay listed."""
        found = (own.select(own.score >= self.threshold) for _, own in self.tables())
        return Picks.concatenate(found)


def add_probability(candidates: Picks, calibration: Calibration | None) -> Picks:
    """Return candidates with the probability of each, where it is known."""
    if calibration is None:
        return candidates
    chance = calibration.probability(candidates.score)
    return replace(candidates, extra={**candidates.extra, PROBABILITY: chance})


@dataclass(frozen=True)
class DecoySearch:
    """Where decoys are looked for; see `decoys`."""

    #: Names of micrographs.
    micrographs: frozenset[str]
    #: Candidates that score more are too likely particles for decoys beside them.
    clear_above: float


#: A micrograph with its score map, and what was found on it.
_Scored = tuple[WorkingImage, Image, MicrographResult]


def pick_micrographs(
    model: Model,
    sources: Sequence[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str = "cpu",
    done: Callable[[WorkingImage, Image, MicrographResult], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    store: ResultStore | None = None,
    search: DecoySearch | None = None,
    repeat: Container[str] = frozenset(),
    max_parallel: int | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> PickingResult:
    """Pick on many micrographs; one that cannot be used is reported and spoils no other.

    Parameters
    ----------
    done
        Called with each micrograph, its score map and what was found on it, as soon as that is
        in the store.
    store
        Keeps what is found. What it knows already is not read again, unless decoys are searched
        for that it does not know.
    search
        Where decoys are looked for; None: nowhere.
    repeat
        Names of micrographs that are picked on even if the store knows them.
    max_parallel
        Micrographs at most under way at a time; None: as many as there are processors.
    refused
        Names of micrographs that are not tried, as the program has crashed on them, and why.

    Raises
    ------
    BadInput
        If not a single micrograph can be used.
    """
    store = InMemoryStore() if store is None else store
    searched = frozenset[str]() if search is None else search.micrographs
    names: list[str] = []
    failures: list[Failure] = []
    reference = model.novelty

    def prepare(source: Source) -> tuple[WorkingImage, Image]:
        """Do what can be done ahead of the network."""
        if source.name in refused:
            raise BadInput(refused[source.name])
        store.mark_started(source.name, max_parallel == 1)
        image = images.get(source)
        return image, model.normalizer.apply(image.image)

    def score(image: WorkingImage, normalised: Image) -> _Scored:
        own, shift, contamination = compute_score_maps(
            model, image, normalised, device, settings.scores
        )
        picks = find_candidates(model, image, own, settings, contamination)
        refused, without = settings.refuses(contamination), settings.leaves_out(contamination)
        size = image.working_pixel_size_angstrom
        decoys = None
        if search is not None and image.source.name in searched and not refused:
            distances = settings.distances_px(model.card.diameter_angstrom, size)
            reverse = score_normalized(model, image, -normalised, device, settings.scores)
            xy = to_working(picks.xy_px, image.original_shape, image.shape)
            radius = distances.exclusion_px
            there = drop_contaminated(find_maxima(reverse, distances, FLOOR), without, size)
            decoys = keep_clear_decoys(
                there, ScoredPositions(xy, picks.score), search.clear_above, radius
            )
        area = np.count_nonzero(np.isfinite(own)) * size**2
        if without is not None:
            area *= 1 - without.fraction
        unlike = float("nan") if reference is None else reference.share(normalised)
        measured = MicrographMeasurements(
            None if isnan(unlike) else unlike,
            None if model.card.background is None else shift,
            None if contamination is None else contamination.fraction,
        )
        found = MicrographResult(
            picks, image.pixel_size_angstrom, decoys, float(area), measured, contamination, refused
        )
        return image, own, found

    # Processors each take a micrograph from its file to its picks; a GPU takes one at a time,
    # and the processors see to it that the next is at hand.
    alone = torch.device(device).type == "cpu"
    ahead: Callable[[Source], Any] = (lambda s: score(*prepare(s))) if alone else prepare
    kept = {s.name for s in sources if s.name not in repeat and store.has(s)}
    for name in kept & searched:
        # In another set of micrographs this one may not have been searched for decoys.
        found = store.get(name)
        if found.decoys is None and not found.refused:
            kept.remove(name)
    others = [source for source in sources if source.name not in kept]
    max_parallel = min(images.threads, MAX_PARALLEL, max_parallel or MAX_PARALLEL)
    with one_thread_each(alone), looking_ahead(ahead, others, max_parallel) as results:
        for number, source in enumerate(sources, 1):
            name = source.name
            if name in kept:
                names.append(name)
            else:
                _, future = next(results)
                try:
                    result = future.result()
                    image, score_map, found = result if alone else score(*result)
                except BadInput as error:
                    failures.append(Failure(name, str(error)))
                else:
                    store.add(source, found)
                    if done is not None:
                        done(image, score_map, found)
                    names.append(name)
            if progress is not None:
                progress(number, len(sources))
    if not names:
        reason = failures[0].reason if failures else "none was given"
        raise BadInput(f"no micrograph could be picked on: {reason}")
    sheet = count_scores(store, names, searched, settings.max_contamination is not None)
    return PickingResult(tuple(names), failures, settings.threshold_for(model), sheet, store)


def count_scores(
    store: ResultStore, names: Sequence[str], searched: Container[str], refusing: bool = False
) -> ScoreSheet:
    """Count the scores of micrographs.

    Parameters
    ----------
    store
        Knows them.
    names
        Of the micrographs, which alone decide on the result.
    searched
        Those of which the decoys count.
    refusing
        Whether some may be refused, as too much of them is bad area; they do not count.
    """
    if refusing:
        names = [name for name in names if not store.get(name).refused]
    sheet = ScoreSheet(names, searched)
    for name in names:
        scores = store.get(name).scores
        sheet.add(name, scores if name in searched else replace(scores, decoys=None))
    return sheet
