"""The command `watch`: pick micrographs while the microscope records them.

Each micrograph is picked as soon as it is complete, with the threshold in force. Without labels
the threshold is estimated from the scores of all micrographs: after the first ones, whenever their
number has doubled, and in pauses. So estimates take a small share of the time, and the picks of
earlier micrographs change a few times only, and less and less. The last estimate is that of all:
the results are then those of `pick` on the same micrographs.

If the file of the model is replaced, as `train --watch` does, the new model picks what arrives
from then on. Micrographs that were picked before keep their picks until the new model has picked
them too, when no others wait. So all results are those of one model in the end.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from heliodor.data.coordinates.formats import relion_autopick
from heliodor.data.micrographs.arrivals import Arrivals, Look
from heliodor.data.micrographs.sources import Source, are_named_from_here
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.models.model_file import fingerprint_model
from heliodor.models.registry import find_named_model
from heliodor.picking.batch import PickingResult, add_probability
from heliodor.picking.claims import Member
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.picking.journal import PARTICLES, MicrographResult, Session
from heliodor.picking.output_files import autopick_name, coordinate_text
from heliodor.report.watch_page import WatchedMicrograph, WatchState, render_watch_page
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder, refuse_other_content, write_text
from heliodor.utils.hashing import read_file_state
from heliodor.workflows.pick import (
    OutputFiles,
    lock_for_picking,
    pick_and_record,
    refuse_filaments,
)
from heliodor.workflows.picking_setup import PickingSetup, PickRequest, prepare_picking
from heliodor.workflows.run_record import RunRecord

log = logging.getLogger(__name__)

#: The status page in the output folder.
PAGE = "watch.html"
#: The most micrographs that are picked between two looks.
MOST_AT_ONCE = 32
#: A pause after which the threshold is estimated again.
PAUSE_SECONDS = 60.0
#: The least time between two versions of the status page.
PAGE_SECONDS = 5.0
#: Looking, listing and estimating in pauses take no more than one part in this many of the time.
SPARING = 10
#: The most micrographs of an earlier model that are picked again between two looks, so that those
#: that arrive do not wait for long.
MOST_AGAIN = 8
#: The micrographs that the status page shows.
SHOWN = 50


def watch(
    request: PickRequest,
    out: str | Path,
    compute: ComputeSettings = ComputeSettings(),
    every_seconds: float = 1.0,
    until_minutes: float | None = None,
    events: Path | None = None,
    command_line: str = "",
) -> PickingResult:
    """Pick micrographs as they arrive, until none has arrived for a while.

    Parameters
    ----------
    request
        What to pick and with what. Its folders, patterns and lists are looked at again and again;
        they may name nothing yet.
    out
        The output folder. What an earlier `watch` or `pick` has found there is kept.
    every_seconds
        The time between two looks.
    until_minutes
        End when no micrograph has arrived for so long; None: never.
    events
        The file to which a line of JSON is added for each micrograph; None: standard output.

    Returns
    -------
    PickingResult
        That of all micrographs.

    Raises
    ------
    BadInput
        If an input cannot be used, or no micrograph arrives in time.
    """
    check_watching(every_seconds, until_minutes, request.mask)
    if request.adapt:
        raise BadInput(
            "the general model cannot adapt to micrographs that have not arrived; pick with"
            " heliodor pick --adapt when some are there, and watch with --model"
            " OUT/adapted.safetensors",
            parameter="adapt",
        )
    request.refuse_additions("picking micrographs as they arrive")
    loaded = request.load_model()
    folder = create_output_folder(out)
    with lock_for_picking(folder):
        refuse_filaments(folder)
        record = RunRecord("pick", request.as_arguments(compute), command_line)
        setup = prepare_picking(request, loaded, [], folder, compute, record)
        watcher = _Watcher(request, compute, folder, command_line, setup, EventWriter(events))
        return watcher.run(every_seconds, until_minutes)


def check_watching(
    every_seconds: float, until_minutes: float | None, mask: str | list[str] | None
) -> None:
    """Check how micrographs are waited for, and that no masks are given.

    Raises
    ------
    BadInput
        If a value is impossible.
    """
    if not 0.1 <= every_seconds <= 3600:
        raise BadInput(
            f"the time between two looks must be from 0.1 to 3600 s, not {every_seconds:g}",
            parameter="every",
        )
    if until_minutes is not None and not 0 < until_minutes < 1e6:
        raise BadInput(
            f"the minutes to wait for micrographs must be more than 0, not {until_minutes:g}",
            parameter="until",
        )
    if mask:
        raise BadInput(
            "masks of your own cannot be given while micrographs arrive; pick with heliodor pick"
            " when all are there",
            parameter="mask",
        )


@dataclass
class EventWriter:
    """Writes a line of JSON for each thing that happens, for programs that wait for it."""

    #: None: standard output.
    path: Path | None

    def __post_init__(self) -> None:
        if self.path is not None:
            refuse_other_content(self.path, rb'\{"event": ', "a file of events", "events")

    def write(self, event: str, **values: Any) -> None:
        """Write a line.

        Raises
        ------
        BadInput
            If it cannot be written.
        """
        at = datetime.now().astimezone().isoformat(timespec="seconds")
        line = json.dumps({"event": event, "at": at, **values})
        if self.path is None:
            print(line, flush=True)
            return
        try:
            # Opened each time, so that the file may be moved away.
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be written ({error.strerror}); name another file",
                parameter="events",
            ) from error


class _ModelFile:
    """Looks whether the file of a model was replaced."""

    def __init__(self, request: PickRequest) -> None:
        self._path: Path | None = None
        if isinstance(request.model, str | Path):
            path = Path(request.model)
            self._path = path if path.is_file() else find_named_model(str(request.model))
        #: None before the first look: the model may have been replaced since it was loaded.
        self._state: list[int] | None = None

    def was_replaced(self) -> bool:
        """Return whether it may have changed since the last call."""
        before, self._state = self._state, self._read()
        return self._state is not None and self._state != before

    def _read(self) -> list[int] | None:
        if self._path is None:
            return None
        return read_file_state(self._path) or None


@dataclass
class _Threshold:
    """The threshold in force, and what it was estimated from."""

    value: float
    calibration: Calibration | None
    micrographs: int = 0
    #: When it was estimated, and how long that took.
    at: float = 0.0
    seconds: float = 0.0
    result: PickingResult | None = field(default=None, repr=False)


class _Watcher:
    """Picks the micrographs of one folder; see `watch`."""

    def __init__(
        self,
        request: PickRequest,
        compute: ComputeSettings,
        folder: Path,
        command_line: str,
        setup: PickingSetup,
        events: EventWriter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request, self._compute, self._folder = request, compute, folder
        self._model_file = _ModelFile(request)
        self._command_line, self._setup, self._events = command_line, setup, events
        self._clock = clock
        self._journal = JoinedJournals(folder, setup.key, PARTICLES)
        self._journal.remove_unusable()
        self._arrivals = Arrivals(request.micrographs, self._is_settled, clock)
        model = setup.model
        self._threshold = _Threshold(setup.settings.threshold_for(model), model.calibration)
        #: The numbers of picks of the micrographs that are done, and why the others failed.
        self._counts: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        #: The numbers of picks of micrographs that still have those of an earlier model.
        self._outdated: dict[str, int] = {}
        #: The coordinate file of each micrograph.
        self._files: dict[str, Path] = {}
        self._recent: deque[WatchedMicrograph] = deque(maxlen=SHOWN)
        self._started, self._picked = clock(), 0
        #: When the list and the page were written, how long the list took, and whether it is old.
        self._listed_at = self._paged_at = float("-inf")
        self._list_seconds, self._list_is_old = 0.0, False
        #: Whether micrographs were picked, or failed, since the threshold was estimated.
        self._is_stale = False

    def run(self, every_seconds: float, until_minutes: float | None) -> PickingResult:
        """Pick until nothing has arrived for so long, then estimate the threshold for all."""
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
            again = [source for source in look.arrived if source.name in self._outdated]
            arrived = [source for source in look.arrived if source.name not in self._outdated]
            for start in range(0, len(arrived), MOST_AT_ONCE):
                self._pick(look, arrived[start : start + MOST_AT_ONCE])
                self._estimate_if_due(look, active)
                if self._renew_model():
                    break  # the others have not been picked, so that they arrive again
            else:
                if again:
                    self._pick(look, again[:MOST_AGAIN])
                self._estimate_if_due(look, active)
            self._write_list(look.sources)
            if self._renew_model():
                active = self._clock()
            idle = self._clock() - active
            if until_minutes is not None and idle >= 60 * until_minutes:
                return self._finish(look)
            self._write_page(look)
            if len(again) <= MOST_AGAIN:
                time.sleep(max(every_seconds, SPARING * took))

    def _renew_model(self) -> bool:
        """Take the model from its file if that was replaced; return whether there is another."""
        if not self._model_file.was_replaced():
            return False
        try:
            loaded = self._request.load_model()
            if fingerprint_model(loaded) == fingerprint_model(self._setup.model):
                return False
            record = RunRecord("pick", {}, self._command_line)
            setup = prepare_picking(self._request, loaded, [], self._folder, self._compute, record)
        except BadInput as error:
            log.warning(f"the model was not replaced: {error}")
            return False
        self._setup = setup
        self._journal = JoinedJournals(self._folder, setup.key, PARTICLES)
        self._journal.remove_unusable()
        self._journal.own.add_session(Session.begin(Member.this_process(""), 0, 0))
        self._arrivals.forget()
        self._outdated |= self._counts
        self._counts = {}
        self._threshold = _Threshold(setup.settings.threshold_for(loaded), loaded.calibration)
        self._is_stale = False
        log.info(
            f"{self._request.model} has another model; micrographs that were picked before are"
            " picked again when no others wait"
        )
        self._events.write(
            "model", model=str(self._request.model), picked_before=len(self._outdated)
        )
        return True

    def _is_settled(self, source: Source) -> bool:
        return self._journal.has(source) or self._journal.has_failed(source)

    def _list_settled(self, sources: Iterable[Source]) -> list[Source]:
        """Return the micrographs that are done or failed, in order."""
        return [s for s in sources if s.name in self._counts or s.name in self._failures]

    def _take_over(self, look: Look) -> None:
        """Count what an earlier run has done."""
        new = {source.name for source in look.arrived} | look.incomplete.keys()
        reasons: dict[str, str] | None = None
        for source in look.sources:
            name = source.name
            if name in self._counts or name in self._failures or name in new:
                continue
            if self._journal.has(source):
                path = self._folder / autopick_name(source)
                if not path.exists():  # it ended between the two
                    self._keep(source, path)
                    continue
                scores = self._journal.get(name).candidates.score
                self._counts[name] = int((scores >= self._threshold.value).sum())
            else:
                reasons = self._list_reasons() if reasons is None else reasons
                self._failures[name] = reasons.get(name, "it failed before")

    def _list_reasons(self) -> dict[str, str]:
        return {
            name: reason
            for reader in self._journal.readers
            for name, (reason, _) in reader.list_failures().items()
        }

    def _pick(self, look: Look, arrived: Sequence[Source]) -> None:
        """Pick micrographs that have arrived, with the threshold in force."""
        names = {source.name for source in arrived}
        known = [
            s for s in look.sources
            if s.name in names or s.name in self._outdated or s.name in self._counts
            or s.name in self._failures
        ]  # fmt: skip
        files = OutputFiles.choose(self._folder, known, self._setup.settings.threshold_series)
        self._move_files(files)
        picking = replace(self._setup, sources=known).start(self._journal, files.excluded)

        def settle(count: int, source: Source, failure: Failure | None) -> None:
            if failure is not None:
                self._fail(source, failure.reason)
            else:
                self._keep(source, files.picks[source.name])

        picking.score(known, arrived, settle)
        self._list_is_old = self._is_stale = True

    def _keep(self, source: Source, path: Path) -> None:
        """Write the picks of a micrograph, and say that it is done."""
        found, threshold = self._write_picks(source.name, path), self._threshold
        picks = int((found.candidates.score >= threshold.value).sum())
        self._counts[source.name] = picks
        self._outdated.pop(source.name, None)
        self._failures.pop(source.name, None)
        self._picked += 1
        self._events.write(
            "picked",
            micrograph=source.name,
            picks=picks,
            threshold=round(threshold.value, 3),
            coordinates=str(path),
            pixel_size_angstrom=found.pixel_size_angstrom,
        )
        self._note(source.name, picks)

    def _write_picks(self, name: str, path: Path) -> MicrographResult:
        """Write the picks of a micrograph at the threshold in force, and return its result."""
        found, threshold = self._journal.get(name), self._threshold
        candidates = add_probability(found.candidates, threshold.calibration)
        self._journal.write(path, coordinate_text(candidates, threshold.value))
        return found

    def _fail(self, source: Source, reason: str) -> None:
        """Say that a micrograph cannot be used; it is picked when its file has changed."""
        self._failures[source.name] = reason
        self._counts.pop(source.name, None)
        self._outdated.pop(source.name, None)
        log.warning(f"skipped {source.name}: {reason}")
        self._events.write("failed", micrograph=source.name, reason=reason)
        self._note(source.name, None, reason)

    def _note(self, name: str, picks: int | None, reason: str = "") -> None:
        at = datetime.now().strftime("%H:%M:%S")
        self._recent.appendleft(WatchedMicrograph(name, at, picks, reason))

    def _move_files(self, files: OutputFiles) -> None:
        """Remove files whose micrograph now has another one, as a namesake has arrived."""
        for name, path in self._files.items():
            if (new := files.picks.get(name)) is not None and new != path:
                if name in self._outdated:
                    with suppress(FileNotFoundError):
                        path.replace(new)
                    continue
                path.unlink(missing_ok=True)
                if name in self._counts:
                    self._write_picks(name, new)
        self._files = files.picks

    def _estimate_if_due(self, look: Look, active: float) -> None:
        """Estimate the threshold if their number has doubled, or in a pause.

        Not while some still have picks of an earlier model, which the lists would lack; the
        threshold of a model that was trained on labels is known without.
        """
        if self._outdated:
            return
        known, now = self._threshold, self._clock()
        has_doubled = len(self._counts) >= max(1, 2 * known.micrographs)
        is_pause = self._is_stale and now - active >= PAUSE_SECONDS
        if has_doubled or (is_pause and now - known.at >= SPARING * known.seconds):
            self._estimate(look)

    def _estimate(self, look: Look, is_last: bool = False) -> None:
        """Estimate the threshold from all micrographs that are done, and write all results."""
        began, before = self._clock(), self._threshold.value
        settled = self._list_settled(look.sources)
        setup = replace(self._setup, sources=settled)
        record = RunRecord("pick", self._request.as_arguments(self._compute), self._command_line)
        if is_last:
            record.skip(list_incomplete(look))
        picked = pick_and_record(
            setup,
            self._folder,
            record,
            report=is_last and self._request.report,
            journal=self._journal,
        )
        self._counts = {row.name: row.picks for row in picked.quality}
        self._failures = {failure.name: failure.reason for failure in picked.failures}
        self._files |= {s.name: self._folder / autopick_name(s) for s in settled}
        now = self._clock()
        self._threshold = _Threshold(
            picked.threshold,
            picked.calibration,
            len(self._counts),
            now,
            now - began,
            picked,
        )
        self._list_is_old = self._is_stale = False
        self._journal.own.add_session(
            Session.begin(Member.this_process(""), len(look.sources), len(settled))
        )
        self._events.write(
            "threshold",
            threshold=round(picked.threshold, 3),
            before=round(before, 3),
            micrographs=len(self._counts),
            picks=sum(self._counts.values()),
        )

    def _finish(self, look: Look) -> PickingResult:
        """Return the result of all micrographs, after a last estimate.

        Raises
        ------
        BadInput
            If no micrograph has arrived.
        """
        if not self._counts:
            self._journal.own.remove_if_empty()
            why = next(iter({**self._failures, **look.incomplete}.values()), "none has arrived")
            raise BadInput(f"no micrograph could be picked: {why}")
        if self._is_stale or look.incomplete or self._request.report:
            self._estimate(look, is_last=True)
        result = self._threshold.result
        assert result is not None
        incomplete = list_incomplete(look)
        self._failures |= {failure.name: failure.reason for failure in incomplete}
        self._write_page(look, ended=True)
        return replace(result, failures=[*result.failures, *incomplete])

    def _write_list(self, sources: Sequence[Source]) -> None:
        """Write RELION's list of the picked micrographs, unless that takes too much time."""
        now = self._clock()
        if not self._list_is_old or now - self._listed_at < SPARING * self._list_seconds:
            return
        counts = self._outdated | self._counts
        with_picks = {s.name: self._files[s.name] for s in sources if counts.get(s.name)}
        relion_autopick.write_autopick_list(
            self._folder, with_picks, whole_paths=not are_named_from_here(sources)
        )
        self._listed_at = self._clock()
        self._list_seconds, self._list_is_old = self._listed_at - now, False

    def _write_page(self, look: Look, ended: bool = False) -> None:
        """Write the status page, now and then."""
        now = self._clock()
        if now - self._paged_at < PAGE_SECONDS and not ended:
            return
        self._paged_at = now
        seconds = now - self._started
        state = WatchState(
            ended,
            len(look.sources),
            len(self._counts) + len(self._outdated),
            sum(self._counts.values()) + sum(self._outdated.values()),
            len(self._failures),
            len(look.incomplete) if not ended else 0,
            self._threshold.value,
            self._threshold.micrographs,
            3600 * self._picked / seconds if self._picked and seconds > 0 else None,
            list(self._recent),
            datetime.now().astimezone().isoformat(timespec="seconds", sep=" "),
        )
        write_text(self._folder / PAGE, render_watch_page(state))


def list_incomplete(look: Look) -> list[Failure]:
    """Return the micrographs that are incomplete at the end."""
    return [Failure(name, f"incomplete: {why}") for name, why in look.incomplete.items()]
