"""The command `watch --filaments`: trace filaments while the microscope records.

Each micrograph is traced as soon as it is complete. Then the results of all micrographs so far are
written, each file as a whole, with the threshold that follows from all of them. With many
micrographs that is done less often, so that it takes a small share of the time. After the last
time the results are those of `pick --filaments` on the same micrographs.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from heliodor.data.filaments.segments import SEGMENTS_FOLDER, SEGMENTS_STAR
from heliodor.data.micrographs.arrivals import Arrivals, Look
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.picking import contamination
from heliodor.picking.claims import Member
from heliodor.picking.filaments.batch import TracedMicrograph, TracingResult
from heliodor.picking.filaments.codec import FILAMENTS
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import Session
from heliodor.report.watch_page import WatchedMicrograph, WatchState, render_watch_page
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, write_text
from heliodor.workflows.pick import FILAMENTS_STAR, lock_for_picking
from heliodor.workflows.pick_filaments import (
    TABLE,
    FilamentPicks,
    refuse_particles,
    remove_filament_outputs,
    write_filament_results,
)
from heliodor.workflows.run_record import RunRecord
from heliodor.workflows.tracing_setup import FilamentRequest, TracingSetup
from heliodor.workflows.watch import (
    MOST_AT_ONCE,
    PAGE,
    PAGE_SECONDS,
    SHOWN,
    SPARING,
    EventWriter,
    check_watching,
    list_incomplete,
)

log = logging.getLogger(__name__)


def watch_filaments(
    request: FilamentRequest,
    out: str | Path,
    compute: ComputeSettings = ComputeSettings(),
    every_seconds: float = 1.0,
    until_minutes: float | None = None,
    events: Path | None = None,
    command_line: str = "",
) -> FilamentPicks:
    """Trace micrographs as they arrive, until none has arrived for a while.

    Parameters
    ----------
    request
        What to trace and with what; its folders, patterns and lists may name nothing yet.
    out, every_seconds, until_minutes, events
        As of `heliodor.workflows.watch.watch`.

    Returns
    -------
    FilamentPicks
        The filaments of all micrographs.

    Raises
    ------
    BadInput
        If an input cannot be used, or no micrograph arrives in time.
    """
    check_watching(every_seconds, until_minutes, request.mask)
    device = compute.start()
    predictor = request.load_predictor(device)
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_particles(folder)
        setup = TracingSetup.create(request, predictor, [], device)
        watcher = _FilamentWatcher(setup, compute, folder, command_line, EventWriter(events))
        return watcher.run(every_seconds, until_minutes)


class _FilamentWatcher:
    """Traces the micrographs of one folder; see `watch_filaments`."""

    def __init__(
        self,
        setup: TracingSetup,
        compute: ComputeSettings,
        folder: Path,
        command_line: str,
        events: EventWriter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._setup, self._compute, self._folder = setup, compute, folder
        self._command_line, self._events, self._clock = command_line, events, clock
        self._journal = JoinedJournals(folder, setup.key, FILAMENTS)
        self._journal.remove_unusable()
        self._tracing = setup.start(self._journal)
        self._arrivals = Arrivals(setup.request.micrographs, self._tracing.is_settled, clock)
        #: The candidates of the micrographs that are done, and why the others failed.
        self._traced: dict[str, TracedMicrograph] = {}
        self._failures: dict[str, str] = {}
        #: What was written last; None before.
        self._written: FilamentPicks | None = None
        #: When that was, and how long it took.
        self._written_at, self._write_seconds = float("-inf"), 0.0
        #: Whether micrographs were traced, or failed, since then.
        self._is_stale = False
        self._recent: deque[WatchedMicrograph] = deque(maxlen=SHOWN)
        self._started, self._count, self._paged_at = clock(), 0, float("-inf")

    def run(self, every_seconds: float, until_minutes: float | None) -> FilamentPicks:
        """Trace until nothing has arrived for so long, then write the results of all."""
        active = self._clock()
        log.info(f"waiting for micrographs; results are in {self._folder}")
        self._journal.own.add_session(Session.begin(Member.this_process(""), 0, 0))
        while True:
            began = self._clock()
            look = self._arrivals.look()
            took = self._clock() - began
            self._take_over(look)
            if look.changed:
                active = self._clock()
            for start in range(0, len(look.arrived), MOST_AT_ONCE):
                self._trace(look, look.arrived[start : start + MOST_AT_ONCE])
            if self._is_stale and self._is_due():
                self._write(look)
            if until_minutes is not None and self._clock() - active >= 60 * until_minutes:
                return self._finish(look)
            self._write_page(look)
            time.sleep(max(every_seconds, SPARING * took))

    def _take_over(self, look: Look) -> None:
        """Take what an earlier run has done."""
        new = {source.name for source in look.arrived} | look.incomplete.keys()
        for source in look.sources:
            name = source.name
            if name in self._traced or name in self._failures or name in new:
                continue
            if self._journal.has(source):
                self._traced[name] = self._journal.get(name)
            else:
                reasons = [
                    reader.list_failures()[name][0]
                    for reader in self._journal.readers
                    if name in reader.list_failures()
                ]
                self._failures[name] = reasons[-1] if reasons else "it failed before"
            self._is_stale = True

    def _trace(self, look: Look, arrived: Sequence[Source]) -> None:
        """Trace micrographs that have arrived, and write the results of all."""
        names = {source.name for source in arrived}
        known = [
            source
            for source in look.sources
            if source.name in names or source.name in self._traced or source.name in self._failures
        ]
        failed = dict[str, str]()

        def settle(count: int, source: Source, failure: Failure | None) -> None:
            if failure is None:
                self._traced[source.name] = self._journal.get(source.name)
                self._failures.pop(source.name, None)
                self._count += 1
            else:
                failed[source.name] = failure.reason
                self._traced.pop(source.name, None)
                log.warning(f"skipped {source.name}: {failure.reason}")

        self._tracing.score(known, arrived, settle)
        self._failures |= failed
        self._is_stale = True
        if self._is_due():
            self._write(look)
        for source in arrived:
            self._say(source.name)

    def _say(self, name: str) -> None:
        """Say that a micrograph is done, or failed."""
        at = datetime.now().strftime("%H:%M:%S")
        if (reason := self._failures.get(name)) is not None:
            self._events.write("failed", micrograph=name, reason=reason)
            self._recent.appendleft(WatchedMicrograph(name, at, None, reason))
            return
        traced = self._traced[name]
        assert self._written is not None
        threshold = self._written.result.threshold
        count = int((traced.scores() >= threshold).sum())
        self._events.write(
            "picked",
            micrograph=name,
            filaments=count,
            threshold=round(threshold, 3),
            pixel_size_angstrom=traced.pixel_size_angstrom,
        )
        self._recent.appendleft(WatchedMicrograph(name, at, count))

    def _is_due(self) -> bool:
        """Return whether the results are to be written now, if they are out of date."""
        if not self._traced:
            return False
        return self._clock() - self._written_at >= SPARING * self._write_seconds

    def _write(self, look: Look, is_last: bool = False) -> FilamentPicks:
        """Write the results of all micrographs that are done."""
        began, request = self._clock(), self._setup.request
        sources = [s for s in look.sources if s.name in self._traced or s.name in self._failures]
        record = RunRecord("pick", request.as_arguments(self._compute), self._command_line)
        record.add_inputs("picking", sources)
        failures = [Failure(s.name, self._failures[s.name]) for s in sources
                    if s.name in self._failures]  # fmt: skip
        # They have been mentioned already.
        record.failures += failures
        if is_last:
            record.skip(list_incomplete(look))
        traced = [self._traced[s.name] for s in sources if s.name in self._traced]
        width = self._setup.predictor.width_angstrom
        result = TracingResult.combine(traced, failures, width, request.picking.threshold)
        picked = FilamentPicks.summarize(result, record)
        if self._written is None:
            wanted = {FILAMENTS_STAR, TABLE, "run.json", *(request.settings.to or ())}
            if request.settings.segments_angstrom is not None:
                wanted |= {SEGMENTS_STAR, SEGMENTS_FOLDER}
            if request.picking.bad_area_masks:
                wanted.add(contamination.FOLDER)
            remove_filament_outputs(self._folder, look.sources, wanted)
        write_filament_results(
            replace(self._setup, sources=sources), picked, self._folder,
            report=is_last and request.report, level=logging.INFO if is_last else logging.DEBUG,
        )  # fmt: skip
        before = None if self._written is None else round(self._written.result.threshold, 3)
        self._written, self._is_stale = picked, False
        self._written_at = self._clock()
        self._write_seconds = self._written_at - began
        self._journal.own.add_session(
            Session.begin(Member.this_process(""), len(look.sources), len(sources))
        )
        log.info(
            f"{count_of(len(picked.filaments), 'filament')} on"
            f" {count_of(len(traced), 'micrograph')} in {self._folder / FILAMENTS_STAR}"
        )
        self._events.write(
            "threshold",
            threshold=round(result.threshold, 3),
            before=before,
            micrographs=len(traced),
            filaments=len(picked.filaments),
        )
        return picked

    def _finish(self, look: Look) -> FilamentPicks:
        """Write the results of all micrographs, and return them.

        Raises
        ------
        BadInput
            If no micrograph has arrived.
        """
        if not self._traced:
            self._journal.own.remove_if_empty()
            why = next(iter({**self._failures, **look.incomplete}.values()), "none has arrived")
            raise BadInput(f"no micrograph could be picked: {why}")
        picked = self._write(look, is_last=True)
        incomplete = list_incomplete(look)
        self._failures |= {failure.name: failure.reason for failure in incomplete}
        self._write_page(look, ended=True)
        picked.result.failures.extend(incomplete)
        return picked

    def _write_page(self, look: Look, ended: bool = False) -> None:
        """Write the status page, now and then."""
        now = self._clock()
        if now - self._paged_at < PAGE_SECONDS and not ended:
            return
        self._paged_at = now
        seconds, written = now - self._started, self._written
        state = WatchState(
            ended,
            len(look.sources),
            len(self._traced),
            0 if written is None else len(written.filaments),
            len(self._failures),
            0 if ended else len(look.incomplete),
            0.0 if written is None else written.result.threshold,
            0 if written is None else len(written.result.micrographs),
            3600 * self._count / seconds if self._count and seconds > 0 else None,
            list(self._recent),
            datetime.now().astimezone().isoformat(timespec="seconds", sep=" "),
            "filaments",
        )
        write_text(self._folder / PAGE, render_watch_page(state))
