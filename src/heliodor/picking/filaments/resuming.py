"""Tracing that continues after an interruption, or a crash of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure
from heliodor.picking.filaments.batch import (
    MicrographTracer,
    TracedMicrograph,
    TracingResult,
    trace_each,
    trace_with,
)
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.resuming import most_parallel, recover


@dataclass(frozen=True)
class ResumableTracing:
    """Traces micrographs, and keeps what it finds in a journal."""

    tracer: MicrographTracer
    journal: JoinedJournals[TracedMicrograph]
    #: As of `trace_micrographs`.
    threads: int
    on_cpu: bool

    def run(
        self,
        sources: Sequence[Source],
        threshold: float | None,
        progress: Callable[[int, int], None],
    ) -> TracingResult:
        """Trace the micrographs that the journal lacks, and return the candidates of all.

        Raises
        ------
        NothingPicked
            If not a single micrograph can be used.
        """
        return trace_with(
            self.tracer, sources, threshold, self.journal, progress, self._threads, self.on_cpu,
            self._recover(sources),
        )  # fmt: skip

    def score(
        self,
        sources: Sequence[Source],
        wanted: Iterable[Source],
        settle: Callable[[int, Source, Failure | None], None],
    ) -> None:
        """Trace some of the micrographs, and keep what was found.

        Parameters
        ----------
        sources
            All micrographs.
        wanted
            Those to trace, which are taken as they are needed.
        settle
            Called with each that is done; see `trace_each`.
        """
        self._trace(wanted, settle, self._threads, self._recover(sources))

    def is_settled(self, source: Source) -> bool:
        """Return whether a micrograph is done, or could not be used, as far as has been read."""
        return self.journal.has(source) or self.journal.has_failed(source)

    @property
    def _threads(self) -> int:
        return min(self.threads, most_parallel())

    def _recover(self, sources: Sequence[Source]) -> dict[str, str]:
        """Find out which micrograph crashed the process, if one did; return those excluded."""

        def trace_alone(suspects: Sequence[Source]) -> None:
            self._trace(suspects, lambda count, source, failure: None, 1)

        return recover(self.journal, sources, {}, trace_alone)

    def _trace(
        self,
        wanted: Iterable[Source],
        settle: Callable[[int, Source, Failure | None], None],
        threads: int,
        excluded: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        trace_each(self.tracer, wanted, self.journal, settle, threads, self.on_cpu, excluded)
