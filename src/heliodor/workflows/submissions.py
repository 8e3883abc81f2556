"""What was started with ``--cluster`` for an output folder, and what the scheduler says of it.

Noted in ``OUT/.picking/submitted.json``. Light to import, without the library that submits.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from heliodor.errors import BadInput
from heliodor.picking.joined_journals import FOLDER
from heliodor.utils.files import is_running, write_json
from heliodor.workflows.cluster_settings import Cluster

#: The file, in the folder of the processes that pick at the same time; and the folder beside it
#: with their messages.
SUBMITTED, JOBS = "submitted.json", "jobs"
#: Seconds in which the scheduler answers.
PATIENCE_SECONDS: Final = 30.0
#: The states of SLURM's jobs that have not started, or will be started again.
_WAITING: Final = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
#: What squeue says of a job that it has forgotten.
_FORGOTTEN: Final = "Invalid job id"

#: What a job is part of.
Command = Literal["train", "pick", "run", "judge"]
#: The record that each command leaves in its folder at the end.
RECORDS: Final[Mapping[Command, str]] = {
    "train": "run.json",
    "pick": "run.json",
    "run": "run.json",
    "judge": "judge.json",
}


@dataclass(frozen=True)
class Step:
    """Processes that do one part of the work, at the same time."""

    #: Such as training, in words.
    name: str
    #: SLURM's job, with _0, _1, ... if it is an array; on this computer, the processes.
    jobs: tuple[str, ...]

    @property
    def number(self) -> str:
        """The number of SLURM's job."""
        return self.jobs[0].partition("_")[0]


@dataclass(frozen=True)
class StepStatus:
    """What the scheduler says of a step; the numbers are None if it cannot be asked."""

    name: str
    jobs: list[str]
    waiting: int | None
    running: int | None
    ended: int | None
    #: Why processes wait, as SLURM says it, such as Priority.
    reasons: list[str] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        """Whether it is known that no process waits or runs."""
        return self.waiting == 0 and self.running == 0


@dataclass(frozen=True)
class Submission:
    """Processes that were started for an output folder."""

    cluster: Cluster
    command: Command
    steps: tuple[Step, ...]
    #: Number of micrographs to pick; None if that is not known.
    micrographs: int | None
    #: When they were started: seconds since 1970.
    at: float

    @classmethod
    def begin(
        cls, cluster: Cluster, command: Command, steps: Sequence[Step], micrographs: int | None
    ) -> Submission:
        """Return a submission that is made now."""
        return cls(cluster, command, tuple(steps), micrographs, round(time.time(), 1))

    @classmethod
    def read(cls, folder: Path) -> Submission | None:
        """Read what was noted in an output folder; None if nothing was.

        Raises
        ------
        BadInput
            If the note is damaged.
        """
        path = folder / FOLDER / SUBMITTED
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(_damaged(path)) from error
        try:
            return cls._from_note(value)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise BadInput(_damaged(path)) from error

    @classmethod
    def _from_note(cls, value: Any) -> Submission:
        steps = tuple(
            Step(str(step["name"]), tuple(str(job) for job in step["jobs"]))
            for step in value["steps"]
        )
        micrographs = value["micrographs"]
        own = cls(
            value["cluster"],
            value["command"],
            steps,
            None if micrographs is None else int(micrographs),
            float(value["at"]),
        )
        is_known = own.cluster in get_args(Cluster) and own.command in get_args(Command)
        # They become arguments of other programs, and processes to stop.
        are_numbers = all(job.replace("_", "", 1).isdecimal() for s in steps for job in s.jobs)
        if not is_known or not are_numbers or not all(step.jobs for step in steps):
            raise ValueError("impossible values")
        return own

    def write(self, folder: Path) -> None:
        """Note it in an output folder."""
        write_json(folder / FOLDER / SUBMITTED, asdict(self))

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the note from an output folder."""
        (folder / FOLDER / SUBMITTED).unlink(missing_ok=True)

    @property
    def processes(self) -> int:
        """The number of processes of all steps."""
        return sum(len(step.jobs) for step in self.steps)

    def ask(self) -> list[StepStatus]:
        """Return what the scheduler, or this computer, says of each step."""
        ask = _ask_slurm if self.cluster == "slurm" else _look_here
        return [ask(step) for step in self.steps]


def _damaged(path: Path) -> str:
    return f"{path} is damaged; stop the processes yourself, and remove it"


def _look_here(step: Step) -> StepStatus:
    """Return which processes of this computer run."""
    running = sum(is_running(int(job)) for job in step.jobs)
    return StepStatus(step.name, list(step.jobs), 0, running, len(step.jobs) - running)


def _ask_slurm(step: Step) -> StepStatus:
    """Ask SLURM about the job of a step."""
    command = ["squeue", "--noheader", "--array", "--jobs", step.number, "--format", "%T|%r"]
    unknown = StepStatus(step.name, list(step.jobs), None, None, None)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return unknown
    if done.returncode != 0:
        if _FORGOTTEN not in done.stderr:
            return unknown
        return StepStatus(step.name, list(step.jobs), 0, 0, len(step.jobs))
    rows = [line.partition("|") for line in done.stdout.splitlines() if line.strip()]
    counts = Counter(state.strip() in _WAITING for state, _, _ in rows)
    reasons = {reason.strip() for state, _, reason in rows if state.strip() in _WAITING}
    return StepStatus(
        step.name,
        list(step.jobs),
        counts[True],
        counts[False],
        max(0, len(step.jobs) - len(rows)),
        sorted(reasons - {"", "None"}),
    )
