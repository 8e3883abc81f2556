"""Picking by several processes, on one or more hosts, into one output folder.

Each process scores some of the micrographs and writes a journal of its own. When all micrographs
are done, one of them, or the command `merge`, reads all journals, calibrates the scores and
writes the results: the same as one process would have written.
"""

from __future__ import annotations

import itertools
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.models.model_file import Model, fingerprint_model
from heliodor.picking.batch import PickingResult
from heliodor.picking.claims import Claims, Member, Presence
from heliodor.picking.filaments.batch import TracingResult
from heliodor.picking.joined_journals import (
    ENDING,
    FOLDER,
    JOB,
    JoinedJournals,
    JournalReaders,
    forget_job,
)
from heliodor.picking.journal import PARTICLES, Session
from heliodor.picking.run_key import journal_key
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.console import count_of
from heliodor.utils.files import (
    create_output_folder,
    create_subfolder,
    remove_partial_files,
)
from heliodor.utils.hashing import digest
from heliodor.utils.locking import lock_folder
from heliodor.workflows.app_scores import take_app_scores
from heliodor.workflows.pick import OutputFiles, pick_and_record, refuse_filaments, remove_outputs
from heliodor.workflows.picking_job import PickingJob
from heliodor.workflows.picking_setup import PickAdditions, PickRequest, prepare_picking
from heliodor.workflows.run_record import RunRecord

log = logging.getLogger(__name__)

R = TypeVar("R")

#: What is typed for a part that takes micrographs as long as there are any.
CLAIM: Final = "claim"
#: The most micrographs that are claimed at a time, and the least number of claims on a data set
#: from which they are, so that processes end at about the same time.
MOST_CLAIMED, LEAST_CLAIMS = 16, 256
#: Seconds between two looks at what other processes have done; the first ones follow sooner, each
#: after this many times the time, as processes that take from the same list end at about the same
#: time.
POLL_SECONDS: Final = 2.0
FIRST_POLL_SECONDS: Final = 0.125
SLOWING: Final = 1.4
#: Looking at how far other processes are takes one part in this many of the time.
SPARING: Final = 100
#: Claims on other work than micrographs.
ADAPT, APP_SCORES, MERGE = "adapt", "app-scores", "merge"
#: Parts that a message names, and the characters of the longest command that it contains.
_NAMED, _LONGEST_COMMAND = 5, 300


@dataclass(frozen=True)
class Part:
    """Which of the micrographs a process picks."""

    #: From 1 to `count`; None for a process that claims micrographs.
    number: int | None
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read I/N or claim.

        Raises
        ------
        BadInput
            If it is neither.
        """
        if text == CLAIM:
            return cls(None)
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and max(len(number), len(count)) < 10:
            part = cls(int(number), int(count))
            if 1 <= int(number) <= int(count):
                return part
        raise BadInput(
            f"the part must be I/N, such as 2/8, with I from 1 to N, or claim, not {text!r}",
            parameter="part",
        )

    def __str__(self) -> str:
        return CLAIM if self.number is None else f"{self.number}/{self.count}"

    def describe(self) -> str:
        """Return the part in words."""
        return "those that are not taken yet" if self.number is None else f"part {self}"

    def choose(self, sources: Sequence[Source]) -> list[Source]:
        """Return the micrographs of this part: each N-th, as neighbors take about as long."""
        if self.number is None:
            return list(sources)
        return list(sources[self.number - 1 :: self.count])


@dataclass(frozen=True)
class PartResult(Generic[R]):
    """The outcome of a part."""

    #: The micrographs that this process could not use.
    failures: list[Failure]
    #: Those that are not done yet, in all parts.
    remaining: int
    #: The results, if this process has merged the parts.
    merged: R | None = None


def pick_part(
    part: Part,
    request: PickRequest,
    out: str | Path,
    compute: ComputeSettings = ComputeSettings(),
    command_line: str = "",
) -> PartResult[PickingResult]:
    """Pick a part of the micrographs; the process that finds all of them done merges the parts.

    Parameters
    ----------
    part
        Which micrographs.
    request
        What to pick, the same for all parts.
    out
        The output folder, which all processes see.

    Raises
    ------
    BadInput
        If an input cannot be used, the other parts were started with another request, or the
        same part is being picked by another process.
    """
    if isinstance(request.model, Model):
        raise BadInput(
            "parts are picked by several processes, which need the model as a file; save it, and"
            " give the name of the file",
            parameter="model",
        )
    loaded = request.load_model()
    folder = create_output_folder(out)
    refuse_filaments(folder)
    where = create_subfolder(folder, FOLDER).absolute()
    sources = request.leave_out(find_sources(request.micrographs))
    additions = request.read_additions(sources)
    record = RunRecord("pick", request.as_arguments(compute), command_line)
    own = PickingJob.create(
        request, fingerprint_model(loaded), sources, out, command_line, additions.corrections
    )
    with Presence(where, Member.this_process(str(part))).kept() as presence:
        job = agree(own, folder, presence)
        claims = Claims(where / job.claims_name, presence)
        setup = prepare_picking(
            request,
            loaded,
            sources,
            folder,
            compute,
            record,
            turn=lambda: take_turn(claims, ADAPT),
        )
        name = f"{FOLDER}/{presence.member.name}{ENDING}"
        journal = JoinedJournals(folder, setup.key, PARTICLES, name=name)
        if additions.app_scores is not None:
            with take_turn(claims, APP_SCORES):
                journal.refresh()
                key = journal_key(setup.model, setup.settings, setup.images)
                used = take_app_scores(additions.app_scores, sources, key, setup.masks, journal)
            log.info(f"scores of the app are used for {count_of(used, 'micrograph')}")
        files = OutputFiles.choose(folder, sources, request.settings.threshold_series)
        work = PartWork(part, job, setup.start(journal, files.excluded), sources, folder, claims)
        return finish_part(work, lambda: _merge(job, folder, claims, compute, is_complete=True))


def finish_part(work: PartWork, merge: Callable[[], R]) -> PartResult[R]:
    """Score the micrographs of a part, and merge all parts if they are done.

    Parameters
    ----------
    merge
        Merges them, and returns the results.

    Raises
    ------
    BadInput
        If the part cannot be picked, or the parts cannot be merged.
    """
    failures = work.run()
    if remaining := len(work.list_remaining()):
        log.info(
            f"done; {count_of(remaining, 'micrograph')} of other parts"
            f" {'is' if remaining == 1 else 'are'} not, and the last part merges all"
        )
        return PartResult(failures, remaining)
    return PartResult(failures, 0, _merge_once(work.job, work.folder, work.claims, merge))


def merge(
    out: str | Path, compute: ComputeSettings = ComputeSettings()
) -> PickingResult | TracingResult:
    """Merge the parts in an output folder: calibrate the scores, and write all results.

    Parameters
    ----------
    out
        The output folder. What was picked, and how, is known from the parts.

    Raises
    ------
    BadInput
        If the folder has no parts, micrographs are not done, or another process merges them.
    """
    folder = Path(out)
    job = PickingJob.read(folder)
    if job is None:
        raise BadInput(
            f"there are no unmerged parts in {folder}; pick with --part, or name the folder that"
            " was given with -o"
        )
    where = create_subfolder(folder, FOLDER).absolute()
    with Presence(where, Member.this_process(MERGE)).kept() as presence:
        claims = Claims(where / job.claims_name, presence)
        if not claims.take(MERGE):
            raise BadInput(
                f"the parts in {folder} are being merged by {claims.holder(MERGE)}; wait until it"
                " has finished"
            )
        if job.is_of_filaments:
            from heliodor.workflows.filament_parts import merge_filaments

            return merge_filaments(job, folder, claims, compute, is_complete=False)
        return _merge(job, folder, claims, compute, is_complete=False)


def agree(job: PickingJob, folder: Path, presence: Presence) -> PickingJob:
    """Write the job, or return that of the first part if it is the same.

    Another one is replaced if it is finished, or if it has found nothing and nobody works on it:
    its options may have been a mistake.

    Raises
    ------
    BadInput
        If there is another one.
    """
    while not job.write(folder):
        first = PickingJob.read(folder)
        if first is None:
            continue  # finished in the meantime
        if first.digest == job.digest:
            return first
        if job.is_corrected_otherwise(first) and not first.has_been_merged(folder):
            log.warning(
                "the labels or negatives have changed since the first part was started; the"
                " results are corrected by what they were then. Pick again when the parts are done"
            )
            return first
        is_begun = presence.list_others() or any(
            reader.list_times()
            for reader in JournalReaders[Any](folder, None, None)
            if any(session.job == first.digest for session in reader.sessions)
        )
        if is_begun and not first.has_been_merged(folder):
            raise BadInput(
                f"other parts in {folder} were started with {job.describe_difference(first)};"
                " give all parts the same, choose another folder, or, to begin again with other"
                f" options, remove {folder / FOLDER / JOB}"
            )
        forget_job(folder)
    return job


@contextmanager
def take_turn(claims: Claims, name: str) -> Iterator[None]:
    """Wait until no other process does some work, and do it in the block."""
    said = False
    while not claims.take(name):
        if not said and (holder := claims.holder(name)) is not None:
            log.info(f"waiting for {holder}")
            said = True
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        claims.release(name)


class PartPicking(Protocol):
    """Finds what is on micrographs, and keeps it in a journal of this process."""

    @property
    def journal(self) -> JoinedJournals[Any]:
        """The journals of all processes."""
        ...

    def score(
        self,
        sources: Sequence[Source],
        wanted: Iterable[Source],
        settle: Callable[[int, Source, Failure | None], None],
    ) -> None:
        """Score some of the micrographs, and keep what was found."""
        ...

    def is_settled(self, source: Source) -> bool:
        """Return whether a micrograph is done, or could not be used, as far as has been read."""
        ...


@dataclass
class PartWork:
    """Scores the micrographs of one part."""

    part: Part
    job: PickingJob
    picking: PartPicking
    #: The micrographs of all parts.
    sources: Sequence[Source]
    folder: Path
    claims: Claims
    failures: list[Failure] = field(default_factory=list)
    #: Names of micrographs that are known to be done, or to have failed.
    _settled: set[str] = field(default_factory=set)
    #: When to look again at what other processes have done, by the clock of the process.
    _next_look: float = 0.0

    def run(self) -> list[Failure]:
        """Score the micrographs; return those that this process could not use."""
        if self.part.number is not None:
            self._take_part()
        sources = self.part.choose(self.sources)
        wanted = [source for source in sources if not self._is_settled(source)]
        done = len(sources) - len(wanted)
        log.info(
            f"picking {self.part.describe()} of {count_of(len(self.sources), 'micrograph')}"
            + (f" ({done} of {len(sources)} done before)" if done else "")
        )
        if wanted:
            # The results of an earlier run are out of date.
            self.job.forget_merged(self.folder)
        member = self.claims.presence.member
        self.picking.journal.own.add_session(
            Session.begin(member, len(sources), done, self.job.digest)
        )
        if self.part.number is None:
            self._score_claimed({source.name for source in wanted})
        else:
            self._score(wanted, len(wanted))
        return self.failures

    def list_remaining(self) -> list[Source]:
        """Return the micrographs of all parts that are not done yet."""
        self.claims.presence.refresh_folder()
        self.picking.journal.refresh()
        return [source for source in self.sources if not self._is_settled(source)]

    def _is_settled(self, source: Source) -> bool:
        if source.name not in self._settled and self.picking.is_settled(source):
            self._settled.add(source.name)
        return source.name in self._settled

    def _take_part(self) -> None:
        """Claim the part itself, so that no other process picks it at the same time.

        Raises
        ------
        BadInput
            If another process does.
        """
        name, presence = f"part-{self.part.number}-of-{self.part.count}", self.claims.presence
        first = dict[str, float]()
        while not self.claims.take(name):
            if (holder := self.claims.holder(name)) is not None:
                renewed = presence.read_renewal(holder)
                if not first:
                    log.info(f"part {self.part} was given to {holder}; waiting for a sign of it")
                before = first.setdefault(holder.name, renewed)
                if holder.is_of_this_machine() or renewed > before:
                    raise BadInput(
                        f"part {self.part} is already being picked in {self.folder} ({holder});"
                        " wait until it has finished, or stop it"
                    )
            time.sleep(POLL_SECONDS)

    def _score(self, wanted: Iterable[Source], total: int) -> None:
        """Score micrographs, and keep those that cannot be used."""
        with console.progress("picking") as progress:

            def settle(count: int, source: Source, failure: Failure | None) -> None:
                self._settled.add(source.name)
                if failure is not None:
                    self.failures.append(failure)
                    log.warning(f"skipped {failure.name}: {failure.reason}")
                if self.part.number is None:
                    self._look_at_others()
                    progress(len(self._settled), len(self.sources))
                else:
                    progress(count, total)

            self.picking.score(self.sources, wanted, settle)

    def _look_at_others(self) -> None:
        """Read what other processes have done, unless that was done a short time ago."""
        if (began := time.monotonic()) >= self._next_look:
            self.picking.journal.refresh()
            for source in self.sources:
                self._is_settled(source)
            # The journals grow.
            self._next_look = began + SPARING * (time.monotonic() - began)

    def _score_claimed(self, wanted: set[str]) -> None:
        """Claim micrographs and score them, until all are done, also by other processes."""
        batches = _divide(self.sources)
        names = [name for name, own in batches.items() if any(s.name in wanted for s in own)]
        # Each process begins at another place, so that two rarely ask for the same.
        place = int(digest([self.claims.presence.member.name.encode()])[:8], 16)
        place %= max(1, len(names))
        names = names[place:] + names[:place]
        said, pause = False, FIRST_POLL_SECONDS
        while names and not self.job.has_been_merged(self.folder):
            claimed = self._claimed(names, batches)
            if (first := next(claimed, None)) is not None:
                self._score(itertools.chain([first], claimed), len(wanted))
            elif not said:
                log.info("all micrographs have been taken; waiting for the other processes")
                said = True
            self.picking.journal.refresh()
            names = [n for n in names if not all(map(self._is_settled, batches[n]))]
            if first is not None:
                pause = FIRST_POLL_SECONDS
            elif names:
                time.sleep(pause)
                pause = min(SLOWING * pause, POLL_SECONDS)
                self.claims.refresh()

    def _claimed(
        self, names: Sequence[str], batches: Mapping[str, Sequence[Source]]
    ) -> Iterator[Source]:
        """Claim micrographs, as many as are needed, and yield those that are not done."""
        while (name := self.claims.take_free(names)) is not None:
            yield from (source for source in batches[name] if not self._is_settled(source))
        while (name := self.claims.take_abandoned(names)) is not None:
            self.picking.journal.refresh()  # what their process has done before it ended
            yield from (source for source in batches[name] if not self._is_settled(source))


def _divide(sources: Sequence[Source]) -> dict[str, Sequence[Source]]:
    """Divide micrographs into those that are claimed together, by the name of the claim."""
    size = max(1, min(MOST_CLAIMED, len(sources) // LEAST_CLAIMS))
    return {
        str(start // size): sources[start : start + size] for start in range(0, len(sources), size)
    }


def _merge_once(job: PickingJob, folder: Path, claims: Claims, merge: Callable[[], R]) -> R | None:
    """Merge the parts, unless another process does or did; return the results if this one did."""
    if not claims.take(MERGE):
        log.info(f"all parts are done; {claims.holder(MERGE) or 'another process'} merges them")
        return None
    current = PickingJob.read(folder)
    if current is None or current.digest != job.digest:
        raise BadInput(
            f"the parts in {folder} were not merged, as another job has begun there; run it again"
            " when that has finished"
        )
    if job.has_been_merged(folder):
        log.info(f"all parts in {folder} are done and merged")
        claims.remove()
        return None
    return merge()


def _merge(
    job: PickingJob, folder: Path, claims: Claims, compute: ComputeSettings, is_complete: bool
) -> PickingResult:
    """Merge the parts, as the process that has claimed to.

    Parameters
    ----------
    is_complete
        Whether it is known that all micrographs are done.
    """
    with job.as_started(folder) as out, lock_folder(out):
        remove_partial_files(out)
        request = job.read_request(out)
        record = RunRecord("pick", request.as_arguments(compute), job.command_line)
        loaded = request.load_model()
        if fingerprint_model(loaded) != job.model:
            raise BadInput(
                f"the model {request.model} is not the one that the parts in {out} were picked"
                " with; restore it, or pick all parts again"
            )
        sources = job.list_sources()
        setup = prepare_picking(
            request, loaded, sources, out, compute, record, turn=lambda: take_turn(claims, ADAPT)
        )
        journal = JoinedJournals(out, setup.key, PARTICLES)
        if not is_complete:
            refuse_incomplete(job, setup.start(journal, {}), sources, out, claims.presence)
        record.results["parts"] = describe_processes(journal, job)
        project = request.relion_project
        additions = PickAdditions(
            job.read_corrections(folder),
            relion_project=None if project is None else RelionProject.open(project, sources),
            level=request.app_scores is None,
        )
        picked = pick_and_record(setup, out, record, request.report, additions=additions)
        if request.exclude is not None:
            kept = {source.name for source in sources}
            remove_outputs(out, find_sources(request.micrographs), kept)
        job.note_merged(out)
    claims.remove()
    return picked


def describe_processes(journal: JoinedJournals[Any], job: PickingJob) -> list[dict[str, Any]]:
    """Return which processes have picked the parts, for the record."""
    return [
        {
            "part": session.part,
            "host": session.host,
            "process": session.process,
            "micrographs": len(reader.list_times()),
        }
        for reader in journal.readers
        for session in reader.sessions[-1:]
        if session.job == job.digest
    ]


def refuse_incomplete(
    job: PickingJob,
    picking: PartPicking,
    sources: Sequence[Source],
    folder: Path,
    presence: Presence,
) -> None:
    """Refuse to merge parts that are not done.

    Raises
    ------
    BadInput
        If there are any; it names them, and the command to pick them.
    """
    remaining = [source for source in sources if not picking.is_settled(source)]
    if not remaining:
        return
    journal = picking.journal
    sessions = [s for reader in journal.readers for s in reader.sessions if s.job == job.digest]
    journal.own.remove_if_empty()
    latest = max(sessions, key=lambda s: s.at, default=None)
    part = Part.parse(CLAIM if latest is None else latest.part)
    if part.number is None:
        missing, todo = "", [part]
    else:
        place = {source.name: index for index, source in enumerate(sources)}
        lacks = Counter(place[source.name] % part.count + 1 for source in remaining)
        todo = [Part(number, part.count) for number in sorted(lacks)]
        named = [
            f"part {own} lacks {count_of(lacks[own.number or 0], 'micrograph')}"
            for own in todo[:_NAMED]
        ]
        if len(todo) > _NAMED:
            named.append(f"and {count_of(len(todo) - _NAMED, 'more part')}")
        missing = f" ({', '.join(named)})"
    at_work = len(presence.list_others())
    wait = f"wait for {count_of(at_work, 'process')} at work, or " if at_work else ""
    raise BadInput(
        f"{len(remaining)} of {count_of(len(sources), 'micrograph')} in {folder}"
        f" {'is' if len(remaining) == 1 else 'are'} not done{missing}; {wait}run"
        f" {_command_for(job, todo[0])}{' and so on' if len(todo) > 1 else ''}"
    )


def _command_for(job: PickingJob, part: Part) -> str:
    """Return the command that picks a part."""
    words = [word for word in shlex.split(job.command_line) if not word.startswith("--part=")]
    if "--part" in words:
        place = words.index("--part")
        del words[place : place + 2]
    shown = shlex.join([*words, "--part", str(part)])
    if not words or len(shown) > _LONGEST_COMMAND:
        return f"the same command with --part {part}"
    return f"`{shown}`"
