"""Starting the processes of a job: on this computer, or as jobs that are submitted to SLURM.

Each of them is a command line, such as ``heliodor pick ... --part claim``, which submitit starts.
It keeps the command lines and the messages of the processes in ``OUT/.picking/jobs``. A job has
one step, or several, of which each begins when the one before has ended.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import submitit

from heliodor.errors import BadInput
from heliodor.picking.claims import list_members
from heliodor.picking.joined_journals import FOLDER
from heliodor.utils import console
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, create_subfolder
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.cluster_settings import DEFAULT_MINUTES, ClusterSettings
from heliodor.workflows.parts import SPARING
from heliodor.workflows.picking_status import read_status
from heliodor.workflows.requeued_command import RequeuedCommand
from heliodor.workflows.site_settings import read_cluster_defaults
from heliodor.workflows.submissions import JOBS, RECORDS, Command, Step, Submission

log = logging.getLogger(__name__)

#: How often a process that reaches its time limit is queued again.
MOST_REQUEUES: Final = 50
#: Seconds between two looks at the processes.
POLL_SECONDS: Final = 0.5
#: Processes on this computer have no time limit.
_YEAR_MINUTES = 60 * 24 * 365
#: The names of steps.
TRAINING, PICKING, RESULTS, JUDGING = "training", "picking", "results", "judging"


@dataclass(frozen=True)
class StepPlan:
    """What the processes of a step are to do."""

    name: str
    #: The command line of each process, from the command on.
    words: Sequence[str]
    processes: int = 1
    #: Does what one of the processes on this computer does, with so many threads, and returns when
    #: that is done: this process then is one of them. None: it only waits for them.
    own: Callable[[int], None] | None = None


def submit(
    command: Command,
    plans: Sequence[StepPlan],
    out: str | Path,
    settings: ClusterSettings,
    threads: int | None = None,
    micrographs: int | None = None,
) -> tuple[str, list[str]]:
    """Start the processes of a job; on this computer, wait for them.

    Parameters
    ----------
    plans
        The steps of the job, in order.
    settings
        With the defaults of the site and of the user; see `complete_settings`.
    threads
        Of each process.
    micrographs
        The number to pick, for `read_status`.

    Returns
    -------
    str, list
        The job scripts if none was submitted, otherwise an empty text; and the micrographs that
        are known to have failed.

    Raises
    ------
    BadInput
        If there is no SLURM, this computer has fewer GPUs than the settings say, or the processes
        did not finish.
    """
    if settings.cluster != "slurm" and settings.gpus:
        _require_gpus(settings.gpus)
    folder = create_output_folder(out)
    create_subfolder(folder, FOLDER)
    jobs = create_subfolder(folder, f"{FOLDER}/{JOBS}").absolute()
    submission = Submission.begin(settings.cluster or "local", command, [], micrographs)
    if settings.cluster == "slurm":
        return _submit_steps(plans, submission, folder, jobs, settings, threads), []
    for plan in plans:
        _run_here(plan, submission, folder, jobs, settings, threads)
    Submission.forget(folder)
    return "", _list_failed(folder / RECORDS[command])


def _require_gpus(count: int) -> None:
    """Raise `BadInput` unless PyTorch can use so many GPUs on this computer."""
    import torch  # slow to import

    found = torch.cuda.device_count()
    if found < count:
        raise BadInput(
            f"PyTorch can use {count_of(found, 'GPU')} on this computer, not {count}; see"
            " heliodor doctor",
            parameter="gpus",
        )


def complete_settings(settings: ClusterSettings) -> ClusterSettings:
    """Return the settings with the defaults of the site and of the user, which are for SLURM.

    Raises
    ------
    BadInput
        If a file with defaults cannot be used.
    """
    if settings.cluster != "slurm":
        return settings
    return settings.with_defaults(read_cluster_defaults())


def _command_of_process(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "heliodor", *words]


def _run_here(
    plan: StepPlan,
    submission: Submission,
    folder: Path,
    jobs: Path,
    settings: ClusterSettings,
    threads: int | None,
) -> None:
    """Start the processes of a step on this computer, work as one of them, and wait for them.

    Raises
    ------
    BadInput
        If they did not finish.
    """
    command = _command_of_process(plan.words)
    if threads is None:
        threads = max(1, resolve_threads(None) // plan.processes)
        command += ["--threads", str(threads)]
    own = plan.own
    count = plan.processes - (own is not None)
    executor = submitit.LocalExecutor(jobs)
    running = []
    with _without_current_folder():
        for number in range(count):
            devices = [number % settings.gpus] if settings.gpus else []
            executor.update_parameters(
                timeout_min=_YEAR_MINUTES, gpus_per_node=len(devices), visible_gpus=devices
            )
            running.append(executor.submit(RequeuedCommand(command, cwd=os.getcwd())))
    if running:
        step = Step(plan.name, tuple(job.job_id for job in running))
        replace(submission, steps=(step,)).write(folder)
        beside = " beside this one" if own is not None else ""
        log.info(
            f"{plan.name}: started {count_of(count, 'process')}{beside} in {folder}; messages are"
            f" in {jobs}"
        )
    next_look = 0.0
    try:
        if own is not None:
            own(threads)
        with console.progress(plan.name) as progress:
            while not all(job.done() for job in running):
                began = time.monotonic()
                if plan.name == PICKING and began >= next_look:
                    status = read_status(folder)
                    if own is None or status.remaining:
                        progress(status.micrographs - status.remaining, status.micrographs)
                    # It reads all journals, which grow.
                    next_look = began + SPARING * (time.monotonic() - began)
                # The others end at about the same time as this one.
                time.sleep(POLL_SECONDS if own is None else POLL_SECONDS / 5)
    except BaseException:
        if Submission.read(folder) is not None:  # not stopped by another command
            cancel(folder)
        raise
    failed = own is None and all(job.exception() for job in running)
    Submission.forget(folder)
    if plan.name == PICKING and (failed or read_status(folder).state != "finished"):
        raise BadInput(
            f"the processes ended before all micrographs in {folder} were done; see their messages"
            f" in {jobs}"
        )
    if failed:
        raise BadInput(f"the process of the step {plan.name!r} failed; see its messages in {jobs}")


def _list_failed(path: Path) -> list[str]:
    """Return the micrographs that failed, by the record of the command."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return [str(row["micrograph"]) for row in record["failed"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is not the record of a finished job") from error


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """Let processes that are started in the block not look for modules in the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def _submit_steps(
    plans: Sequence[StepPlan],
    submission: Submission,
    folder: Path,
    jobs: Path,
    settings: ClusterSettings,
    threads: int | None,
) -> str:
    """Submit a job for each step, or return their scripts."""
    steps, scripts = list[Step](), list[str]()
    for plan in plans:
        command = _command_of_process(plan.words)
        executor = _prepare_slurm(plan, steps, jobs, settings, threads)
        if settings.dry_run:
            inner: Any = executor._executor
            if plan.processes > 1:
                inner.parameters["map_count"] = plan.processes
            script = str(inner._make_submission_file_text(inner._submitit_command_str, ""))
            title = f"# {plan.name}\n" if len(plans) > 1 else ""
            scripts.append(f"{title}{script}\n# each process runs\n# {shlex.join(command)}\n")
            steps.append(Step(plan.name, (f"JOB-OF-{plan.name.upper()}",)))
            continue
        try:
            with executor.batch():
                submitted = [
                    executor.submit(RequeuedCommand(command, cwd=os.getcwd()))
                    for _ in range(plan.processes)
                ]
        except (
            submitit.core.utils.FailedJobError,
            submitit.core.utils.FailedSubmissionError,
        ) as why:
            if steps:
                cancel(folder)
            raise BadInput(f"SLURM did not accept the job ({' '.join(str(why).split())})") from why
        steps.append(Step(plan.name, tuple(job.job_id for job in submitted)))
        replace(submission, steps=tuple(steps)).write(folder)
    if settings.dry_run:
        return "\n".join(scripts)
    number = sum(len(step.jobs) for step in steps)
    last = "; the last one writes the results" if number > 1 else ""
    numbers = ", ".join(step.number for step in steps)
    log.info(
        f"submitted job{'s' * (len(steps) > 1)} {numbers} with {count_of(number, 'process')}"
        f"{last}. `heliodor status {folder}` shows how far it is, `heliodor cancel {folder}`"
        f" stops it, and its messages are in {jobs}"
    )
    return ""


def _prepare_slurm(
    plan: StepPlan,
    before: Sequence[Step],
    jobs: Path,
    settings: ClusterSettings,
    threads: int | None,
) -> submitit.AutoExecutor:
    """Return what submits the processes of a step, to begin when the steps before have ended."""
    try:
        executor = submitit.AutoExecutor(
            jobs,
            cluster="slurm",
            slurm_max_num_timeout=MOST_REQUEUES,
            slurm_python=f"{shlex.quote(sys.executable)} -P",
        )
    except RuntimeError as error:
        raise BadInput(
            "there is no SLURM on this computer (srun is not on the PATH); submit from a login"
            " node, or use --cluster local",
            parameter="cluster",
        ) from error
    # Also after the failure of a node.
    additional: dict[str, Any] = {"requeue": True}
    if before:
        additional["kill-on-invalid-dep"] = "yes"
    wanted: dict[str, Any] = {
        "name": "heliodor",
        "timeout_min": settings.time_min or DEFAULT_MINUTES,
        "cpus_per_task": threads or 1,
        "gpus_per_node": settings.gpus or None,
        "mem_gb": settings.memory_gb,
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_setup": settings.setup or None,
        "slurm_array_parallelism": settings.array_parallelism or plan.processes,
        # What processes that failed have left undone, the last step does; but not without a model.
        "slurm_dependency": ",".join(
            f"{'afterok' if step.name == TRAINING else 'afterany'}:{step.number}"
            for step in before
        ) or None,
        "slurm_additional_parameters": additional,
    }  # fmt: skip
    executor.update_parameters(**{k: v for k, v in wanted.items() if v is not None})
    return executor


def cancel(out: str | Path) -> None:
    """Stop the processes that were started for an output folder; what they have done is kept.

    Raises
    ------
    BadInput
        If none were started, or the scheduler cannot be asked.
    """
    folder = Path(out)
    submission = Submission.read(folder)
    if submission is None:
        raise BadInput(f"no processes were started in {folder} with --cluster")
    if submission.cluster == "slurm":
        _ask_scheduler(["scancel", *(step.number for step in submission.steps)])
    else:
        _stop_here(folder, [job for step in submission.steps for job in step.jobs])
    Submission.forget(folder)
    log.info(f"stopped {count_of(submission.processes, 'process')}; the same command continues")


def _ask_scheduler(words: list[str]) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except OSError as error:
        raise BadInput(f"{words[0]} cannot be started ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        raise BadInput(f"{words[0]} failed: {' '.join(error.stderr.split())}") from error


def _stop_here(folder: Path, jobs: Sequence[str]) -> None:
    """Stop processes of this computer: those that start commands, and the commands."""
    for job in jobs:
        if job.isdecimal() and b"submitit" in _command_of(int(job)):
            with suppress(ProcessLookupError):
                os.kill(int(job), signal.SIGINT)
    for member in list_members(folder / FOLDER).values():
        if member.process == os.getpid() or not member.is_of_this_machine():
            continue
        if b"heliodor" in _command_of(member.process):
            with suppress(ProcessLookupError):
                os.kill(member.process, signal.SIGTERM)


def _command_of(process: int) -> bytes:
    """Return the command line of a process; empty if there is none (or no /proc)."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
