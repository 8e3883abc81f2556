"""The command `status`: how far picking, or training, into a folder has come.

It only reads, and may be used while others write.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from heliodor.errors import BadInput
from heliodor.picking.claims import EXPIRY_SECONDS, Member, list_members
from heliodor.picking.joined_journals import FOLDER, JournalReaders
from heliodor.picking.journal import NAME, JournalReader, Session
from heliodor.utils.console import align_columns, count_of
from heliodor.utils.files import LOCK_FILE, is_running
from heliodor.workflows.picking_job import PickingJob
from heliodor.workflows.submissions import JOBS, RECORDS, SUBMITTED, StepStatus, Submission

#: The speed is that of so many of the last micrographs.
WINDOW = 100

#: submitted: its processes wait for their turn; unmerged: all micrographs are done, but the
#: results have not been written.
State = Literal["submitted", "running", "interrupted", "unmerged", "finished"]

#: running; ended: as it should, or by a signal that it heeded; silent: killed, or its host is.
ProcessState = Literal["running", "ended", "silent"]


@dataclass(frozen=True)
class ProcessStatus:
    """What one process has done."""

    #: Which part it picks: I/N, or claim; empty for all micrographs.
    part: str
    host: str
    process: int
    state: ProcessState
    #: Numbers of micrographs.
    done: int
    failed: int
    in_progress: int
    #: When it started, and when it last finished a micrograph: seconds since 1970.
    started: float
    last: float | None
    #: Of late; None if that is not known.
    micrographs_per_hour: float | None


@dataclass(frozen=True)
class SubmissionStatus:
    """Processes that were started with --cluster."""

    cluster: str
    #: train, pick, run or judge.
    command: str
    #: When they were started: seconds since 1970.
    at: float
    steps: list[StepStatus]


@dataclass(frozen=True)
class PickingStatus:
    """How far picking into a folder has come; numbers are those of micrographs."""

    folder: str
    state: State
    micrographs: int
    done: int
    failed: int
    in_progress: int
    remaining: int
    #: Of all processes; None if none is running, or that is not known.
    micrographs_per_hour: float | None
    seconds_left: float | None
    #: Why micrographs failed, by their names.
    failures: dict[str, str]
    processes: list[ProcessStatus]
    #: What --cluster started last; None if nothing is known of it.
    submission: SubmissionStatus | None = None


def read_status(out: str | Path) -> PickingStatus:
    """Return how far picking into a folder has come, by one process or in parts.

    Parameters
    ----------
    out
        The output folder.

    Raises
    ------
    BadInput
        If nothing has been picked into it, and nothing was started to do so.
    """
    folder = Path(out)
    submission = Submission.read(folder)
    picked = _read_picked(folder)
    if submission is not None:
        return _add_submission(picked, submission, folder)
    if picked is None:
        raise BadInput(
            f"nothing has been picked into {folder}; name the folder that was given to"
            " heliodor pick with -o"
        )
    return picked


def _read_picked(folder: Path) -> PickingStatus | None:
    """Return how far picking has come by what the processes have noted; None: not begun."""
    job = PickingJob.read(folder)
    readers = list(JournalReaders[Any](folder, None, None))
    main = next((reader for reader in readers if reader.path == folder / NAME), None)
    # One process may have taken over what parts began.
    is_single = main is not None and main.sessions and _state_of_single(folder, main) == "running"
    if job is not None and not is_single:
        return _read_parts(folder, job, readers)
    if main is None or not main.sessions:
        record = _read_record(folder)
        return None if record is None else _describe_finished(folder, record)
    return _read_single(folder, main)


def _read_parts(
    folder: Path, job: PickingJob, readers: Sequence[JournalReader[Any]]
) -> PickingStatus:
    """Return the status of a job that several processes share."""
    names = {name for name, *_ in job.sources}
    heads = {r.head for r in readers if any(s.job == job.digest for s in r.sessions)}
    members = {m.name: path for path, m in list_members(folder / FOLDER).items()}
    done, failures = set[str](), dict[str, str]()
    processes = list[ProcessStatus]()
    for reader in readers:
        if reader.head not in heads:
            continue
        done |= names & reader.list_times().keys()
        failures |= {n: why for n, (why, _) in reader.list_failures().items() if n in names}
        if reader.sessions and (session := reader.sessions[-1]).job == job.digest:
            state = _state_of_member(members.get(session.name))
            processes.append(_describe(reader, session, state))
    failures = {name: why for name, why in failures.items() if name not in done}
    is_finished = job.has_been_merged(folder)
    return _summarize(folder, len(names), len(done), failures, processes, is_finished)


def _read_single(folder: Path, journal: JournalReader[Any]) -> PickingStatus:
    """Return the status of picking by one process."""
    session = journal.sessions[-1]
    state = _state_of_single(folder, journal)
    own = _describe(journal, session, state)
    done = session.done + own.done
    failures = {n: why for n, (why, at) in journal.list_failures().items() if at >= session.at}
    is_finished = (folder / "run.json").is_file() and state != "running"
    return _summarize(folder, session.micrographs, done, failures, [own], is_finished)


def _read_record(folder: Path, name: str = "run.json") -> dict[str, Any] | None:
    """Return the record of a folder; None if it has none.

    Raises
    ------
    BadInput
        If it is damaged.
    """
    path = folder / name
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadInput(f"{path} is not the record of a command of heliodor")
    return record


def _describe_finished(folder: Path, record: dict[str, Any]) -> PickingStatus | None:
    """Return the status of a run that left its record and no notes of its processes."""
    if record.get("command") == "train":
        return None
    try:
        counts = record.get("filaments_per_micrograph")
        done = len(record["picks_per_micrograph"] if counts is None else counts)
        failures = {str(row["micrograph"]): str(row["reason"]) for row in record["failed"]}
    except (LookupError, TypeError) as error:
        raise BadInput(f"{folder / 'run.json'} is not the record of heliodor pick") from error
    return _summarize(folder, done + len(failures), done, failures, [], True)


def _add_submission(
    picked: PickingStatus | None, submission: Submission, folder: Path
) -> PickingStatus:
    """Return a status with what the scheduler says of the processes that were started.

    Parameters
    ----------
    picked
        By what the processes have noted; None if none has begun.
    """
    steps = submission.ask()
    if picked is None:
        picked = _summarize(folder, submission.micrographs or 0, 0, {}, [], False)
    is_alive = not all(step.has_ended for step in steps)
    if _has_written_results(submission, folder):
        state: State = "finished"
    elif picked.state == "running" or any(step.running for step in steps):
        state = "running"
    elif is_alive:
        state = "submitted"
    else:
        state = "unmerged" if picked.state == "unmerged" and picked.done else "interrupted"
    if state != "finished" and picked.state == "finished":
        # These are the results of an earlier run, or of a step.
        micrographs = max(picked.micrographs, submission.micrographs or 0)
        remaining = max(0, micrographs - picked.done - picked.failed)
        picked = replace(picked, micrographs=micrographs, remaining=remaining)
    own = SubmissionStatus(submission.cluster, submission.command, submission.at, steps)
    return replace(picked, state=state, submission=own)


def _has_written_results(submission: Submission, folder: Path) -> bool:
    """Return whether the results of the processes that were started have been written."""
    name = RECORDS[submission.command]
    try:
        # By the clock of the file system: that of this host may differ.
        written = os.stat(folder / name).st_mtime_ns
        is_new = written >= os.stat(folder / FOLDER / SUBMITTED).st_mtime_ns
    except OSError:
        return False
    record = _read_record(folder, name) if is_new else None
    return record is not None and record.get("command") == submission.command


def _state_of_member(presence: Path | None) -> ProcessState:
    """Return the state of a process by its presence, which it renews while it works."""
    member = None if presence is None else Member.read(presence)
    if presence is None or member is None:
        return "ended"
    if member.is_of_this_machine():
        return "running" if is_running(member.process) else "silent"
    return "running" if _age(presence) <= EXPIRY_SECONDS else "silent"


def _state_of_single(folder: Path, journal: JournalReader[Any]) -> ProcessState:
    """Return the state of a process that picks alone, which holds the lock of the folder."""
    session = journal.sessions[-1]
    if not (folder / LOCK_FILE).exists():
        return "ended"
    if session.host == socket.gethostname():
        return "running" if is_running(session.process) else "silent"
    return "running" if _age(journal.path) <= EXPIRY_SECONDS else "silent"


def _age(path: Path) -> float:
    """Return how long ago a file was changed, by the clock of this host, in seconds."""
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return float("inf")


def _describe(reader: JournalReader[Any], session: Session, state: ProcessState) -> ProcessStatus:
    """Return what a process has done since it started."""
    times = sorted(at for at in reader.list_times().values() if at >= session.at)
    failed = [name for name, (_, at) in reader.list_failures().items() if at >= session.at]
    speed = None
    if state == "running" and times:
        first, *others = [session.at, *times][-WINDOW - 1 :]
        if len(others) > 1 and first == session.at:
            first, *others = (
                others  # what the process did before its first micrograph is no measure
            )
        speed = 3600 * len(others) / max(0.1, others[-1] - first)
    return ProcessStatus(
        session.part,
        session.host,
        session.process,
        state,
        len(times),
        len(failed),
        len(reader.list_interrupted()) if state == "running" else 0,
        session.at,
        times[-1] if times else None,
        None if speed is None else round(speed, 1),
    )


def _summarize(
    folder: Path,
    micrographs: int,
    done: int,
    failures: dict[str, str],
    processes: list[ProcessStatus],
    is_finished: bool,
) -> PickingStatus:
    """Return the status of all processes together."""
    running = [process for process in processes if process.state == "running"]
    remaining = 0 if is_finished else max(0, micrographs - done - len(failures))
    speeds = [p.micrographs_per_hour for p in running if p.micrographs_per_hour is not None]
    speed = sum(speeds) if speeds else None
    if is_finished:
        state: State = "finished"
    elif running:
        state = "running"
    else:
        state = "interrupted" if remaining else "unmerged"
    return PickingStatus(
        str(folder),
        state,
        micrographs,
        done,
        len(failures),
        min(remaining, sum(process.in_progress for process in running)),
        remaining,
        None if speed is None else round(speed, 1),
        round(3600 * remaining / speed, 1) if speed and remaining else None,
        failures,
        processes,
    )


def render_status(status: PickingStatus) -> str:
    """Return a status as text."""
    lines = [f"{status.folder}: {status.state}"]
    if status.micrographs:
        lines.append(
            f"{status.done} of {count_of(status.micrographs, 'micrograph')} done,"
            f" {status.failed} failed, {status.in_progress} in progress,"
            f" {status.remaining} remaining"
        )
    if status.micrographs_per_hour is not None:
        left = status.seconds_left
        lines.append(
            f"{status.micrographs_per_hour:.0f} micrographs per hour"
            + ("" if left is None else f", {_duration(left)} left")
        )
    if status.state == "unmerged":
        lines.append(f"the results have not been written; run `heliodor merge {status.folder}`")
    if status.state == "interrupted":
        lines.append("no process is at work; run the same command again to continue")
    if status.submission is not None and status.state != "finished":
        lines += _render_submission(status.submission, status)
    if status.processes:
        rows = [("part", "host", "process", "state", "done", "failed", "per hour", "last done")]
        rows += [
            (
                process.part or "all",
                process.host,
                str(process.process),
                process.state,
                str(process.done),
                str(process.failed),
                _number(process.micrographs_per_hour),
                "" if process.last is None else f"{_duration(_since(process.last))} ago",
            )
            for process in status.processes
        ]
        lines += ["", *align_columns(rows)]
    return "\n".join(lines)


def _render_submission(submission: SubmissionStatus, status: PickingStatus) -> list[str]:
    """Return what is known of the processes that were started, as lines of text."""
    is_slurm = submission.cluster == "slurm"
    verb = "submitted to SLURM" if is_slurm else "started on this computer"
    when = f"`heliodor {submission.command}` was {verb} {_duration(_since(submission.at))} ago"
    rows = [("step", "job" if is_slurm else "", "processes", "waiting", "running", "ended")]
    for step in submission.steps:
        waiting = _count(step.waiting)
        if step.waiting and step.reasons:
            waiting += f" ({', '.join(step.reasons)})"
        job = step.jobs[0].partition("_")[0] if is_slurm else ""
        counts = (str(len(step.jobs)), waiting, _count(step.running), _count(step.ended))
        rows.append((step.name, job, *counts))
    if status.state == "interrupted":
        hint = f"the messages of the processes are in {Path(status.folder, FOLDER, JOBS)}"
    else:
        hint = f"`heliodor cancel {status.folder}` stops it"
    if any(step.waiting is None for step in submission.steps):
        hint += "; SLURM cannot be asked from here (squeue)"
    return [f"{when}; {hint}", "", *align_columns(rows)]


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _since(moment: float) -> float:
    return max(0.0, time.time() - moment)


def _duration(seconds: float) -> str:
    """Return a duration in the two largest units that it has."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
