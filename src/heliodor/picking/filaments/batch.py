"""Trace the filaments of many micrographs, several at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from heliodor.conventions import FloatArray, Image, Shape
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import measure_arc, measure_length
from heliodor.data.micrographs.micrograph import open_array, open_micrograph
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure, check_pixel_size, choose_pixel_size
from heliodor.errors import BadInput
from heliodor.models.filament_maps import FilamentMaps
from heliodor.picking.batch import MAX_PARALLEL, InMemoryResults, NothingPicked
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.filaments.contamination import describe_contamination
from heliodor.picking.filaments.refinement import ScoredAxis
from heliodor.picking.filaments.settings import FilamentSettings
from heliodor.picking.filaments.tracer import trace_filaments
from heliodor.picking.filaments.width import measure_profile
from heliodor.picking.settings import InBadAreas
from heliodor.picking.user_masks import NO_MASKS, UserMasks, read_mask
from heliodor.utils.compute import one_thread_each
from heliodor.utils.hashing import FileVersion, read_unchanged
from heliodor.utils.prefetch import prefetch

log = logging.getLogger(__name__)

#: A filament must be as many pixels wide.
FEWEST_PX = 4.0
#: Less sure candidates are not kept.
FLOOR = -3.0
#: The automatic threshold is not lower: where there are no filaments, all candidates are unlikely.
LEAST_AUTOMATIC = -1.0
#: Digits of coordinates (pixels) and scores that are kept.
AXIS_DECIMALS, SCORE_DECIMALS = 3, 4
#: The profile is measured on the surest candidates of a micrograph.
SURE = 0.0


class Predictor(Protocol):
    """A network that says where filaments are."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that its maps follow from, beside the micrograph."""
        ...

    @property
    def width_angstrom(self) -> float:
        """The width of the filaments that it finds."""
        ...

    def predict(self, image: Image, pixel_size_angstrom: float) -> FilamentMaps:
        """Return the maps of one micrograph, shape (h, w), protein dark."""
        ...


@dataclass(frozen=True, eq=False)
class TracedMicrograph:
    """The candidates of one micrograph."""

    name: str
    pixel_size_angstrom: float
    #: (height, width) in pixels.
    shape: Shape
    #: In pixels of the micrograph, the surest and longest first.
    axes: tuple[ScoredAxis, ...]
    #: Mean density across its sure filaments, see `measure_profile`, and their length in pixels.
    profile: FloatArray
    profile_length_px: float
    #: Where contamination is; None if the network detects none on any micrograph.
    contamination: ContaminationMask | None = None

    def lengths_angstrom(self) -> FloatArray:
        """Return the length of each candidate, shape (n,)."""
        return np.array([measure_length(one.axis) for one in self.axes]) * self.pixel_size_angstrom

    def scores(self) -> FloatArray:
        """Return the mean log-odds of each candidate, shape (n,)."""
        return np.array([one.score for one in self.axes])


class FilamentStore(Protocol):
    """Keeps the candidates of micrographs until all are done, such as a journal."""

    def has(self, source: Source) -> bool:
        """Return whether a micrograph is done and has not changed."""
        ...

    def get(self, name: str) -> TracedMicrograph:
        """Return the candidates of a micrograph that is done."""
        ...

    def add(self, source: Source, finished: TracedMicrograph, version: FileVersion | None) -> None:
        """Keep the candidates of a micrograph, found on a version of its file."""
        ...

    def add_failure(self, source: Source, reason: str) -> None:
        """Note that a micrograph cannot be used."""
        ...

    def mark_started(self, name: str, alone: bool) -> None:
        """Note that a micrograph is started, by itself or beside others; from any thread."""
        ...


@dataclass(frozen=True)
class ExpectedLengths:
    """What is expected of the filaments above a threshold, from their scores."""

    threshold: float
    #: Share of their length that is a filament, and share of all filaments that they are.
    precision: float
    recall: float


@dataclass(frozen=True)
class TracingResult:
    """The filaments of many micrographs, and the micrographs that failed."""

    micrographs: tuple[TracedMicrograph, ...]
    failures: list[Failure]
    width_angstrom: float
    #: Mean log-odds at or above which a candidate is a filament.
    threshold: float
    expected: ExpectedLengths

    @classmethod
    def combine(
        cls,
        micrographs: Sequence[TracedMicrograph],
        failures: list[Failure],
        width_angstrom: float,
        threshold: float | None = None,
    ) -> TracingResult:
        """Choose the threshold of micrographs that have been traced.

        Parameters
        ----------
        threshold
            As of `trace_micrographs`.
        """
        expected = choose_threshold(micrographs, threshold)
        own = tuple(micrographs)
        return cls(own, failures, width_angstrom, expected.threshold, expected)

    def filaments(self, threshold: float | None = None) -> Filaments:
        """Return the filaments, numbered from 1 on each micrograph.

        Parameters
        ----------
        threshold
            Instead of the one that was chosen; `FLOOR` or less for all candidates.
        """
        least = self.threshold if threshold is None else threshold
        found = []
        for traced in self.micrographs:
            chosen = [one for one in traced.axes if one.score >= least]
            found += [
                Filament(traced.name, one.axis, number, self.width_angstrom, one.scores)
                for number, one in enumerate(chosen, 1)
            ]
        return Filaments(
            tuple(traced.name for traced in self.micrographs),
            tuple(found),
            {traced.name: traced.pixel_size_angstrom for traced in self.micrographs},
            {traced.name: traced.shape for traced in self.micrographs},
        )

    def mean_profile(self) -> FloatArray:
        """Return the mean profile across the sure filaments of all micrographs, nan if none."""
        known = [one for one in self.micrographs if one.profile_length_px > 0.0]
        if not known:
            return np.full(1, np.nan) if not self.micrographs else self.micrographs[0].profile
        weights = np.array([one.profile_length_px for one in known])
        # Micrographs differ in brightness and contrast.
        shapes = np.array([_standardize(one.profile) for one in known])
        return np.asarray((weights[:, None] * shapes).sum(axis=0) / weights.sum())


def _standardize(profile: FloatArray) -> FloatArray:
    ends = np.concatenate([profile[:8], profile[-8:]])
    depth = float(np.abs(profile - np.median(ends)).max())
    return np.asarray((profile - np.median(ends)) / (depth or 1.0))


def trace_micrographs(
    predictor: Predictor,
    sources: Sequence[Source],
    settings: FilamentSettings,
    pixel_size_angstrom: float | None = None,
    threshold: float | None = None,
    bad_areas: InBadAreas = "leave-out",
    masks: UserMasks = NO_MASKS,
    store: FilamentStore | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 1,
    on_cpu: bool = True,
) -> TracingResult:
    """Trace many micrographs; one that cannot be used is reported and does not affect the others.

    Parameters
    ----------
    predictor
        The network.
    pixel_size_angstrom
        Of all micrographs; None takes that in their list or their headers.
    threshold
        Mean log-odds of filaments; None chooses it, see `choose_threshold`.
    bad_areas
        Whether filaments end where contamination is detected, or a mask has it.
    masks
        Contamination that a user gives for some micrographs, in place of what is detected.
    store
        Keeps the candidates. Micrographs that it has are not read again.
    threads
        Micrographs that are worked on at a time.
    on_cpu
        Whether each thread takes a micrograph from its file to its candidates; otherwise one
        micrograph at a time is given to the network.

    Raises
    ------
    NothingPicked
        If not a single micrograph can be used.
    """
    tracer = MicrographTracer(predictor, settings, pixel_size_angstrom, bad_areas, masks)
    store = InMemoryResults[TracedMicrograph]() if store is None else store
    return trace_with(tracer, sources, threshold, store, progress, threads, on_cpu)


def trace_with(
    tracer: MicrographTracer,
    sources: Sequence[Source],
    threshold: float | None,
    store: FilamentStore,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 1,
    on_cpu: bool = True,
    excluded: Mapping[str, str] = MappingProxyType({}),
) -> TracingResult:
    """Trace many micrographs; see `trace_micrographs`.

    Parameters
    ----------
    excluded
        Names of micrographs that cannot be used, and why.

    Raises
    ------
    NothingPicked
        If not a single micrograph can be used.
    """
    remaining = [source for source in sources if not store.has(source)]
    before = len(sources) - len(remaining)
    if before:
        log.info(f"already traced: {before} of {len(sources)} micrographs")
    failures: list[Failure] = []

    def settle(count: int, source: Source, failure: Failure | None) -> None:
        if failure is not None:
            failures.append(failure)
        if progress is not None:
            progress(before + count, len(sources))

    trace_each(tracer, remaining, store, settle, threads, on_cpu, excluded)
    failed = {failure.name for failure in failures}
    in_order = tuple(store.get(source.name) for source in sources if source.name not in failed)
    if not in_order:
        reason = failures[0].reason if failures else "no micrographs were given"
        raise NothingPicked(f"no micrograph could be picked: {reason}", failures)
    width = tracer.predictor.width_angstrom
    return TracingResult.combine(in_order, failures, width, threshold)


def trace_each(
    tracer: MicrographTracer,
    sources: Iterable[Source],
    store: FilamentStore,
    settle: Callable[[int, Source, Failure | None], None],
    threads: int = 1,
    on_cpu: bool = True,
    excluded: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Find the candidates of micrographs and store them; see `trace_micrographs`.

    Parameters
    ----------
    sources
        Taken as they are needed, a few ahead.
    settle
        Called with each micrograph in order, when it is in the store: the number of micrographs so
        far, the micrograph, and why it cannot be used, or None.
    excluded
        Names of micrographs that cannot be used, and why.
    """
    parallel = min(threads, MAX_PARALLEL) if on_cpu else 1

    def trace(source: Source) -> tuple[TracedMicrograph, FileVersion | None]:
        if source.name in excluded:
            raise BadInput(excluded[source.name])
        store.mark_started(source.name, parallel == 1)
        return tracer.trace(source)

    with one_thread_each(on_cpu), prefetch(trace, sources, parallel) as results:
        for count, (source, future) in enumerate(results, 1):
            failure = None
            try:
                traced, version = future.result()
            except BadInput as error:
                failure = Failure(source.name, str(error))
                store.add_failure(source, failure.reason)
            else:
                store.add(source, traced, version)
            settle(count, source, failure)


def trace_one(
    predictor: Predictor,
    source: Source,
    settings: FilamentSettings,
    pixel_size_angstrom: float | None = None,
) -> TracedMicrograph:
    """Trace one micrograph; parameters as for `trace_micrographs`.

    Raises
    ------
    BadInput
        If it cannot be used.
    """
    tracer = MicrographTracer(predictor, settings, pixel_size_angstrom, "leave-out", NO_MASKS)
    return tracer.trace(source)[0]


def choose_threshold(
    traced: Sequence[TracedMicrograph], threshold: float | None = None
) -> ExpectedLengths:
    """Choose the threshold with the highest expected F1 of lengths.

    The score at a point of an axis is the log-odds that a filament passes there. The expected
    correct length of a candidate is the sum of these probabilities along it.

    Parameters
    ----------
    threshold
        The one to expect precision and recall for; None: the best one.
    """
    scores, lengths, correct = [], [], []
    for one in traced:
        for axis in one.axes:
            weights = point_lengths(axis.axis) * one.pixel_size_angstrom
            scores.append(axis.score)
            lengths.append(float(weights.sum()))
            correct.append(float((weights * expit(axis.scores)).sum()))
    order = np.argsort(-np.array(scores), kind="stable")
    ranked = np.array(scores)[order]
    found, true = np.cumsum(np.array(lengths)[order]), np.cumsum(np.array(correct)[order])
    if not len(ranked):
        return ExpectedLengths(0.0 if threshold is None else threshold, math.nan, math.nan)
    all_true = float(true[-1])
    if threshold is None:
        best = int(np.argmax(2.0 * true / (found + all_true)))
        # Halfway to the next candidate, so that rounding changes nothing.
        below = float(ranked[best + 1]) if best + 1 < len(ranked) else float(ranked[best]) - 1.0
        threshold = max(LEAST_AUTOMATIC, 0.5 * (float(ranked[best]) + below))
    count = int(np.count_nonzero(ranked >= threshold))
    if not count:
        return ExpectedLengths(threshold, math.nan, 0.0)
    return ExpectedLengths(
        threshold, float(true[count - 1] / found[count - 1]), float(true[count - 1] / all_true)
    )


def point_lengths(axis: FloatArray) -> FloatArray:
    """Return the length that each point of a polyline stands for, shape (n,)."""
    arc = measure_arc(axis)
    middles = np.concatenate([[0.0], 0.5 * (arc[1:] + arc[:-1]), arc[-1:]])
    return np.diff(middles)


@dataclass(frozen=True)
class MicrographTracer:
    """The steps of tracing one micrograph; for the fields see `trace_micrographs`."""

    predictor: Predictor
    settings: FilamentSettings
    pixel_size_angstrom: float | None
    bad_areas: InBadAreas
    masks: UserMasks

    def __post_init__(self) -> None:
        if self.pixel_size_angstrom is not None:
            check_pixel_size(self.pixel_size_angstrom)

    def trace(self, source: Source) -> tuple[TracedMicrograph, FileVersion | None]:
        """Take a micrograph from its file to its candidates."""
        if source.pixels is not None:
            return self._trace(source, *self._read(source)), None
        (image, size), version = read_unchanged(source.path, lambda: self._read(source))
        return self._trace(source, image, size), version

    def _read(self, source: Source) -> tuple[Image, float]:
        opened = (
            open_micrograph(source.path)
            if source.pixels is None
            else nullcontext(open_array(source.pixels, source.name))
        )
        with opened as micrograph:
            size = choose_pixel_size(
                source, micrograph.header_pixel_size_angstrom, self.pixel_size_angstrom
            )
            width = self.predictor.width_angstrom
            height, columns = micrograph.shape
            if width / size < FEWEST_PX:
                raise BadInput(
                    f"{source.name} has {size:.3g} Å/pixel, too coarse for filaments of"
                    f" {width:g} Å; use less binned micrographs, or check the width and the pixel"
                    " size"
                )
            if 2.0 * width > min(height, columns) * size:
                raise BadInput(
                    f"filaments of {width:g} Å are too wide for {source.name}"
                    f" ({columns * size:.0f} x {height * size:.0f} Å); check the width and the"
                    " pixel size"
                )
            return micrograph.read_cropped(micrograph.shape), size

    def _trace(self, source: Source, image: Image, size: float) -> TracedMicrograph:
        maps = self.predictor.predict(image, size)
        shape: Shape = (image.shape[0], image.shape[1])
        path = self.masks.files.get(source.name)
        masked = None if path is None else _find_masked(path, maps, shape, size)
        contamination = describe_contamination(
            maps, masked, shape, size, self.predictor.width_angstrom
        )
        blocked = None
        if self.bad_areas == "leave-out":
            blocked = masked
            if masked is None:
                maps = lower_in_contamination(maps)
        geometry = self.settings.geometry_px(self.predictor.width_angstrom, size)
        axes = tuple(
            ScoredAxis(np.round(one.axis, AXIS_DECIMALS), np.round(one.scores, SCORE_DECIMALS))
            for one in trace_filaments(maps, geometry, shape, blocked)
            if one.score >= FLOOR
        )
        sure = [one.axis for one in axes if one.score >= SURE]
        profile = measure_profile(image, sure, geometry.width_px)
        length = float(sum(measure_length(axis) for axis in sure))
        return TracedMicrograph(source.name, size, shape, axes, profile, length, contamination)


def _find_masked(path: Path, maps: FilamentMaps, shape: Shape, size: float) -> NDArray[np.bool_]:
    """Return the points of the lattice in the contamination of a mask."""
    mask, mask_size = read_mask(path)
    height, width = maps.axis.shape
    xs = maps.first_px[0] + maps.spacing_px * np.arange(width)
    ys = maps.first_px[1] + maps.spacing_px * np.arange(height)
    per_pixel = [count / side for count, side in zip(mask.shape, shape, strict=True)]
    if mask_size is not None:
        per_pixel = [size / mask_size] * 2
    rows, columns = (
        np.clip(np.rint(places * scale), 0, count - 1).astype(np.intp)
        for places, scale, count in zip((ys, xs), per_pixel, mask.shape, strict=True)
    )
    return np.asarray(mask[np.ix_(rows, columns)])


def lower_in_contamination(maps: FilamentMaps) -> FilamentMaps:
    """Return maps whose log-odds of a filament are lowered where contamination is likely.

    As for particles, log-odds c of contamination lower those of a filament by log(1 + exp(c)).
    """
    if maps.contaminant is None:
        return maps
    return replace(maps, axis=maps.axis - np.logaddexp(0.0, maps.contaminant))
