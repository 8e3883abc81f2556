"""Starting several processes that pick in parts: on this computer, or as a SLURM job array.

Each of them is a command line, ``heliodor pick ... --part claim``, which submitit starts. It keeps
the command lines and the messages of the processes in ``OUT/.picking/jobs``.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import submitit

from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.picking.claims import list_members
from heliodor.picking.joined_journals import FOLDER
from heliodor.utils import console
from heliodor.utils.console import count_of
from heliodor.utils.files import create_output_folder, create_subfolder, write_json
from heliodor.utils.threads import resolve_threads
from heliodor.workflows.cluster_settings import DEFAULT_MINUTES, ClusterSettings
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.picking_status import read_status

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)

#: The folder of submitit's files, and the list of jobs, in that of the parts.
JOBS, SUBMITTED = "jobs", "submitted.json"
#: How often a process that reaches its time limit is queued again.
MOST_REQUEUES: Final = 50
#: Seconds between two looks at the processes.
POLL_SECONDS: Final = 1.0
#: Seconds in which a process that is asked to stop does.
_PATIENCE = 60
#: Processes on this computer have no time limit.
_YEAR_MINUTES = 60 * 24 * 365


class RequeuedCommand(submitit.helpers.CommandFunction):
    """A command line that is stopped and queued again when its time is up."""

    _process: subprocess.Popen[bytes] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """Run the command, with its messages in the files of the job.

        Raises
        ------
        FailedJobError
            If it ends with an error; micrographs that cannot be used are none.
        """
        with subprocess.Popen(self.command, cwd=self.cwd) as self._process:
            code = self._process.wait()
        if code not in (0, SOME_FAILED):
            raise submitit.core.utils.FailedJobError(f"the command ended with code {code}")
        return ""

    def checkpoint(self) -> DelayedSubmission:
        """Stop the command, which keeps what it has done, and return what to queue again."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        return submitit.helpers.DelayedSubmission(RequeuedCommand(self.command, cwd=self.cwd))


def submit_parts(
    words: Sequence[str],
    request: PickRequest,
    out: str | Path,
    settings: ClusterSettings,
    threads: int | None = None,
) -> tuple[str, list[str]]:
    """Start the processes; on this computer, wait for them.

    Parameters
    ----------
    words
        The command line of one process, from ``pick`` on, without ``--part``.
    request
        What they pick, to refuse what can be refused at once.
    threads
        Of each process.

    Returns
    -------
    str, list
        The job script if none was submitted, otherwise an empty text; and the micrographs that are
        known to have failed.

    Raises
    ------
    BadInput
        If an input cannot be used, there is no SLURM, or the processes did not finish.
    """
    request.refuse_additions("--cluster")
    model = request.load_model()
    request.settings.check_for(model.card.contaminant)
    find_sources(request.micrographs)
    folder = create_output_folder(out)
    create_subfolder(folder, FOLDER)
    jobs = create_subfolder(folder, f"{FOLDER}/{JOBS}").absolute()
    command = [sys.executable, "-P", "-m", "heliodor", *words, "--part", "claim"]
    if settings.cluster == "local":
        if threads is None:
            each = max(1, resolve_threads(None) // settings.jobs)
            command += ["--threads", str(each)]
        return "", _run_here(command, folder, jobs, settings)
    return _submit_array(command, folder, jobs, settings, threads), []


def _run_here(
    command: list[str], folder: Path, jobs: Path, settings: ClusterSettings
) -> list[str]:
    """Start processes on this computer and wait for them; return the micrographs that failed."""
    executor = submitit.LocalExecutor(jobs)
    running = []
    with _without_current_folder():
        for number in range(settings.jobs):
            devices = [number % settings.gpus] if settings.gpus else []
            executor.update_parameters(
                timeout_min=_YEAR_MINUTES, gpus_per_node=len(devices), visible_gpus=devices
            )
            running.append(executor.submit(RequeuedCommand(command, cwd=os.getcwd())))
    _note(folder, "local", [job.job_id for job in running])
    log.info(
        f"started {count_of(settings.jobs, 'process')} in {folder}; their messages are in {jobs}"
    )
    try:
        with console.progress("picking") as progress:
            while not all(job.done() for job in running):
                with suppress(BadInput):  # none of them has begun
                    status = read_status(folder)
                    progress(status.micrographs - status.remaining, status.micrographs)
                time.sleep(POLL_SECONDS)
    except BaseException:
        cancel(folder)
        raise
    (folder / FOLDER / SUBMITTED).unlink(missing_ok=True)
    if all(job.exception() for job in running) or read_status(folder).state != "finished":
        raise BadInput(
            f"the processes ended before all micrographs in {folder} were done; see their messages"
            f" in {jobs}"
        )
    return list(read_status(folder).failures)


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


def _submit_array(
    command: list[str], folder: Path, jobs: Path, settings: ClusterSettings, threads: int | None
) -> str:
    """Submit a job array, or return its script."""
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
    wanted: dict[str, Any] = {
        "name": "heliodor",
        "timeout_min": settings.time_min or DEFAULT_MINUTES,
        "cpus_per_task": threads or 1,
        "gpus_per_node": settings.gpus or None,
        "mem_gb": settings.memory_gb,
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_setup": None if settings.setup is None else [settings.setup],
        "slurm_array_parallelism": settings.array_parallelism or settings.jobs,
        # Also after the failure of a node.
        "slurm_additional_parameters": {"requeue": True},
    }
    executor.update_parameters(**{k: v for k, v in wanted.items() if v is not None})
    if settings.dry_run:
        inner: Any = executor._executor
        inner.parameters["map_count"] = settings.jobs
        script = str(inner._make_submission_file_text(inner._submitit_command_str, ""))
        return f"{script}\n# each process runs\n# {shlex.join(command)}\n"
    try:
        with executor.batch():
            submitted = [
                executor.submit(RequeuedCommand(command, cwd=os.getcwd()))
                for _ in range(settings.jobs)
            ]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as why:
        raise BadInput(f"SLURM did not accept the job ({' '.join(str(why).split())})") from why
    names = [job.job_id for job in submitted]
    _note(folder, "slurm", names)
    number = names[0].partition("_")[0]
    log.info(
        f"submitted job {number} with {count_of(settings.jobs, 'process')}; the last one writes"
        f" the results. `heliodor status {folder}` shows how far it is, `heliodor cancel {folder}`"
        f" stops it, and its messages are in {jobs}"
    )
    return ""


def cancel(out: str | Path) -> None:
    """Stop the processes that were started for an output folder; what they have done is kept.

    Raises
    ------
    BadInput
        If none were started, or the scheduler cannot be asked.
    """
    folder = Path(out)
    path = folder / FOLDER / SUBMITTED
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        cluster, jobs = value["cluster"], [str(job) for job in value["jobs"]]
    except FileNotFoundError as error:
        raise BadInput(f"no processes were started in {folder} with --cluster") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is damaged; stop the processes yourself") from error
    if cluster == "slurm":
        numbers = sorted({job.partition("_")[0] for job in jobs})
        if not all(number.isdecimal() for number in numbers):
            raise BadInput(f"{path} is damaged; stop the processes yourself")
        _ask_scheduler(["scancel", *numbers])
    else:
        _stop_here(folder, jobs)
    path.unlink(missing_ok=True)
    log.info(f"stopped {count_of(len(jobs), 'process')}; the same command continues")


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
        if member.is_of_this_machine() and b"heliodor" in _command_of(member.process):
            with suppress(ProcessLookupError):
                os.kill(member.process, signal.SIGTERM)


def _command_of(process: int) -> bytes:
    """Return the command line of a process; empty if there is none (or no /proc)."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _note(folder: Path, cluster: str, jobs: Sequence[str]) -> None:
    write_json(folder / FOLDER / SUBMITTED, {"cluster": cluster, "jobs": list(jobs)})
