"""Picking many micrographs, as many at a time as there are processors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import torch

from heliodor.conventions import FloatArray, Image
from heliodor.data.coordinates.picks import PROBABILITY, Picks
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import (
    Failure,
    WorkingImage,
    WorkingImages,
)
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import DatasetScores
from heliodor.evaluation.thresholds import ExpectedPerformance
from heliodor.models.model_file import Model
from heliodor.picking.boxes import margin_of_boxes
from heliodor.picking.candidates import find_candidates
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.decoys import (
    measure_candidate_area,
    score_decoys,
)
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements, MicrographQuality
from heliodor.picking.score_maps import compute_score_maps
from heliodor.picking.settings import PickSettings
from heliodor.picking.user_masks import NO_MASKS, UserMasks
from heliodor.utils.compute import one_thread_each
from heliodor.utils.hashing import FileVersion
from heliodor.utils.prefetch import prefetch

log = logging.getLogger(__name__)

R = TypeVar("R")

#: Why a micrograph is skipped that ends the process, for example by a fault of a library.
CRASHED = "the program crashed on {path}; fix or remove it"
#: Most micrographs that are worked on at a time, as each takes memory.
MAX_PARALLEL = 16


class NothingPicked(BadInput):
    """Not a single micrograph could be picked.

    Parameters
    ----------
    sentence
        The message.
    failures
        All micrographs, with the reasons.
    """

    def __init__(self, sentence: str, failures: Sequence[Failure]) -> None:
        super().__init__(sentence)
        self.failures = failures


class ResultStore(Protocol):
    """Keeps the results of micrographs until all are done, such as a `Journal`."""

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done."""
        ...

    def get(self, name: str) -> MicrographResult:
        """Return the result of a micrograph that is done."""
        ...

    def add(self, source: Source, finished: MicrographResult, version: FileVersion | None) -> None:
        """Keep the result of a micrograph, made from a version of its file."""
        ...

    def add_failure(self, source: Source, reason: str) -> None:
        """Note that a micrograph cannot be used."""
        ...

    def has_decoys(self, name: str) -> bool:
        """Return whether decoys were looked for on a micrograph that is done, or need not be."""
        ...

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started, by itself or beside others; from any thread."""
        ...


class InMemoryResults(Generic[R]):
    """The results of a few micrographs."""

    def __init__(self) -> None:
        self._results: dict[str, R] = {}

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done."""
        return source.name in self._results

    def get(self, name: str) -> R:
        """Return the result of a micrograph that is done."""
        return self._results[name]

    def add(self, source: Source, finished: R, version: FileVersion | None = None) -> None:
        """Keep the result of a micrograph."""
        self._results[source.name] = finished

    def add_failure(self, source: Source, reason: str) -> None:
        """Do nothing: whoever picks keeps the failures."""

    def mark_started(self, name: str, alone: bool) -> None:
        """Do nothing: only a journal needs to know."""


class InMemoryStore(InMemoryResults[MicrographResult]):
    """A store for a few micrographs."""

    def has_decoys(self, name: str) -> bool:
        """Return whether decoys were looked for on a micrograph that is done, or need not be."""
        result = self._results[name]
        return result.decoys is not None or result.refused


@dataclass(frozen=True)
class PickingResult:
    """The results of many micrographs, and those that failed.

    With thousands of micrographs the candidates may be on disk: `table` and `tables` read those
    of one at a time, `candidates` and `picks` those of all.
    """

    #: Those that were picked, in order.
    micrographs: tuple[str, ...]
    failures: list[Failure]
    threshold: float
    sheet: DatasetScores = field(repr=False)
    store: ResultStore = field(repr=False)
    #: What scores mean on these micrographs, and what to expect of the picks; None: not known.
    calibration: Calibration | None = field(default=None, repr=False)
    expected: ExpectedPerformance | None = None
    #: For each micrograph, in their order, where they were compared.
    quality: tuple[MicrographQuality, ...] = ()

    def table(self, micrograph: str) -> Picks:
        """Return the candidates of a micrograph, best first, with their probabilities."""
        return add_probability(self.store.get(micrograph).candidates, self.calibration)

    def tables(self) -> Iterator[tuple[str, Picks]]:
        """Yield the name and the candidates of each micrograph."""
        for name in self.micrographs:
            yield name, self.table(name)

    @property
    def candidates(self) -> Picks:
        """All candidates, read into memory."""
        return Picks.concatenate(table for _, table in self.tables())

    @property
    def picks(self) -> Picks:
        """The candidates at or above the threshold; micrographs without any stay listed."""
        picks = (table.select(table.score >= self.threshold) for _, table in self.tables())
        return Picks.concatenate(picks)


def add_probability(candidates: Picks, calibration: Calibration | None) -> Picks:
    """Return candidates with the probability of each, where it is known."""
    if calibration is None:
        return candidates
    chance = calibration.probability(candidates.score)
    return replace(candidates, extra={**candidates.extra, PROBABILITY: chance})


@dataclass(frozen=True)
class DecoySearch:
    """On which micrographs to look for decoys; see `heliodor.picking.decoys`."""

    #: Names of micrographs.
    micrographs: frozenset[str]


#: A micrograph with its score map, and its result.
_Scored = tuple[WorkingImage, Image, MicrographResult]


@dataclass(frozen=True)
class _MicrographPicker:
    """The steps of picking one micrograph; for the fields see `pick_micrographs`."""

    model: Model
    images: WorkingImages
    settings: PickSettings
    device: torch.device | str
    search: DecoySearch | None
    store: ResultStore
    #: Whether one micrograph is worked on at a time.
    alone: bool
    excluded: Mapping[str, str]
    masks: UserMasks = NO_MASKS

    def read(self, source: Source) -> tuple[WorkingImage, Image]:
        """Do what can be done ahead of the network: read and normalize a micrograph."""
        if source.name in self.excluded:
            raise BadInput(self.excluded[source.name])
        self.store.mark_started(source.name, self.alone)
        image = self.images.get(source)
        return image, self.model.normalizer.apply(image.image)

    def read_and_pick(self, source: Source) -> _Scored:
        """Take a micrograph from its file to its candidates."""
        return self.pick(*self.read(source))

    def pick(self, image: WorkingImage, normalized: Image) -> _Scored:
        """Score a micrograph and find its candidates."""
        score, shift, contamination = compute_score_maps(
            self.model, image, normalized, self.device, self.settings.scores
        )
        contamination = self.masks.replace(contamination, image, score)
        candidates = find_candidates(self.model, image, score, self.settings, contamination)
        refused = self.settings.refuses(contamination)
        masked = self.settings.leaves_out(contamination)
        decoys = None if refused else self._decoys(image, normalized, masked)
        size = image.working_pixel_size_angstrom
        margin_px = self.settings.distances_for(self.model, size).margin_px
        if self.settings.box_px is not None:
            margin_px = max(margin_px, margin_of_boxes(image, self.settings.box_px))
        result = MicrographResult(
            candidates,
            image.pixel_size_angstrom,
            decoys,
            measure_candidate_area(score, masked, size, margin_px),
            measure_micrograph(self.model, normalized, shift, contamination),
            contamination,
            refused,
        )
        return image, score, result

    def _decoys(
        self,
        image: WorkingImage,
        normalized: Image,
        contamination: ContaminationMask | None,
    ) -> FloatArray | None:
        """Return the scores of the decoys, None where none are looked for."""
        if self.search is None or image.source.name not in self.search.micrographs:
            return None
        return score_decoys(
            self.model, image, normalized, self.settings, contamination, self.device
        )


def measure_micrograph(
    model: Model, normalized: Image, shift: float, contamination: ContaminationMask | None
) -> MicrographMeasurements:
    """Return what a micrograph's quality is judged by.

    Parameters
    ----------
    normalized
        What the network sees of it.
    shift
        What was added to its log-odds to level them.
    contamination
        Of the micrograph; None where it is not detected.
    """
    reference = model.novelty
    unlike = math.nan if reference is None else reference.novel_fraction(normalized)
    return MicrographMeasurements(
        None if math.isnan(unlike) else unlike,
        None if model.card.background is None else shift,
        None if contamination is None else contamination.fraction,
    )


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
    excluded: Mapping[str, str] = MappingProxyType({}),
    masks: UserMasks = NO_MASKS,
) -> PickingResult:
    """Pick many micrographs; one that cannot be used is reported and does not affect the others.

    Parameters
    ----------
    done
        Called with each micrograph, its score map and its result, as soon as the result is in
        the store.
    store
        Keeps the results. Micrographs that it already has are not read again, unless decoys are
        searched for that it does not have.
    search
        Where to look for decoys; None: nowhere.
    repeat
        Names of micrographs that are picked even if the store has them.
    max_parallel
        Most micrographs that are worked on at a time; None: as many as there are processors.
    excluded
        Names of micrographs that cannot be used, and why.
    masks
        Contamination that a user gives for some micrographs, in place of what the model detects.

    Raises
    ------
    NothingPicked
        If not a single micrograph can be used.
    """
    store = InMemoryStore() if store is None else store
    searched = frozenset[str]() if search is None else search.micrographs
    finished = _finished_before(sources, store, searched, repeat) - excluded.keys()
    remaining = [source for source in sources if source.name not in finished]
    failures: list[Failure] = []

    def settle(count: int, source: Source, failure: Failure | None) -> None:
        if failure is not None:
            failures.append(failure)
            log.debug(f"{source.name} failed: {failure.reason}")
        else:
            log.debug(f"{source.name} is picked")
        if progress is not None:
            progress(len(finished) + count, len(sources))

    if progress is not None and finished:
        progress(len(finished), len(sources))
    score_micrographs(
        model, remaining, images, settings, device, store, search, settle, done, max_parallel,
        excluded, masks,
    )  # fmt: skip
    names = {source.name for source in sources} - {failure.name for failure in failures}
    if not names:
        reason = failures[0].reason if failures else "no micrographs were given"
        raise NothingPicked(f"no micrograph could be picked: {reason}", failures)
    picked = tuple(source.name for source in sources if source.name in names)
    sheet = count_scores(store, picked, searched, settings.max_contamination is not None)
    return PickingResult(picked, failures, settings.threshold_for(model), sheet, store)


def score_micrographs(
    model: Model,
    sources: Iterable[Source],
    images: WorkingImages,
    settings: PickSettings,
    device: torch.device | str,
    store: ResultStore,
    search: DecoySearch | None,
    settle: Callable[[int, Source, Failure | None], None],
    done: Callable[[WorkingImage, Image, MicrographResult], None] | None = None,
    max_parallel: int | None = None,
    excluded: Mapping[str, str] = MappingProxyType({}),
    masks: UserMasks = NO_MASKS,
) -> None:
    """Find the candidates of micrographs and store them; see `pick_micrographs`.

    Parameters
    ----------
    sources
        Taken as they are needed, a few ahead.
    settle
        Called with each micrograph in order, when it is in the store: the number of micrographs so
        far, the micrograph, and why it cannot be used, or None.
    """
    max_parallel = min(images.threads, MAX_PARALLEL, max_parallel or MAX_PARALLEL)
    picker = _MicrographPicker(
        model, images, settings, device, search, store, max_parallel == 1, excluded, masks
    )
    # On CPUs each thread takes a micrograph from its file to its candidates; a GPU takes one at
    # a time, and the threads read ahead for it.
    on_cpu = torch.device(device).type == "cpu"
    ahead: Callable[[Source], Any] = picker.read_and_pick if on_cpu else picker.read
    with one_thread_each(on_cpu), prefetch(ahead, sources, max_parallel) as results:
        for count, (source, future) in enumerate(results, 1):
            failure = None
            try:
                result = future.result()
                image, score_map, found = result if on_cpu else picker.pick(*result)
                if not image.is_current():  # replaced in the meantime
                    image, score_map, found = picker.read_and_pick(source)
            except BadInput as error:
                failure = Failure(source.name, str(error))
                store.add_failure(source, failure.reason)
            else:
                store.add(source, found, image.version)
                if done is not None:
                    done(image, score_map, found)
            settle(count, source, failure)


def _finished_before(
    sources: Sequence[Source],
    store: ResultStore,
    searched: frozenset[str],
    repeat: Container[str],
) -> set[str]:
    """Return the names of the micrographs whose results the store already has."""
    finished = {s.name for s in sources if s.name not in repeat and store.has(s)}
    # As part of another set these may not have been searched for decoys.
    return {name for name in finished if name not in searched or store.has_decoys(name)}


def count_scores(
    store: ResultStore, names: Sequence[str], searched: Container[str], refusing: bool = False
) -> DatasetScores:
    """Count the scores of micrographs.

    Parameters
    ----------
    store
        Has their results.
    names
        Of the micrographs; only these count.
    searched
        Those whose decoys count.
    refusing
        Whether some may be excluded because too much of them is contamination; they do not count.
    """
    if refusing:
        names = [name for name in names if not store.get(name).refused]
    sheet = DatasetScores(names, searched)
    for name in names:
        scores = store.get(name).scores
        sheet.add(name, scores if name in searched else replace(scores, decoys=None))
    return sheet
