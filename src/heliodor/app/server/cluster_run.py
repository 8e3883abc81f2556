"""All micrographs on a cluster: ``heliodor pick --cluster slurm``, and its status."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from heliodor.app.server.batch_run import CLUSTER_PICKS
from heliodor.app.server.request_parsing import refuse
from heliodor.errors import BadInput
from heliodor.picking.joined_journals import FOLDER
from heliodor.utils.console import count_of
from heliodor.utils.import_path import python_command

#: The command before the words `pick` and `status`; tests use another.
COMMAND: Final = python_command("-m", "heliodor")
#: What is noted of the jobs, in the folder of the picks; see `heliodor.workflows.submissions`.
_NOTE = Path(FOLDER, "submitted.json")
#: Seconds in which jobs are submitted, and in which the scheduler says how far they are.
_SUBMIT_SECONDS, _STATUS_SECONDS = 300.0, 60.0
#: Seconds for which a status is shown without asking again.
_FRESH_SECONDS = 5.0
#: States of jobs that have not ended.
_ACTIVE = ("submitted", "running")
_NONE: dict[str, Any] = {"state": None, "text": "", "active": False}
_ASKING: dict[str, Any] = {"state": "unknown", "text": "asking the scheduler", "active": False}


class ClusterRun:
    """Submits jobs that pick or trace all micrographs, and says how far they are.

    Any thread may call.

    Parameters
    ----------
    project_folder
        The folder of the project; the results are in a folder in it.
    is_configured
        Whether the site, or the user, has said how jobs are submitted.
    note
        Called with what happens, for the log of the project.
    command
        The command before the words `pick` and `status`.
    """

    def __init__(
        self,
        project_folder: Path,
        is_configured: bool,
        note: Callable[[str], None] = lambda text: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._folder = project_folder / CLUSTER_PICKS
        self.is_configured, self._note, self._command = is_configured, note, command
        self._submitting, self._asking = threading.Lock(), threading.Lock()
        #: The last status, and when it was asked for.
        self._known: tuple[dict[str, Any], float] | None = None

    def submit(self, make_words: Callable[[], Sequence[str]]) -> dict[str, Any]:
        """Submit jobs that do what the page shows now; return their status.

        Parameters
        ----------
        make_words
            Returns the arguments of `heliodor pick`, which write into `CLUSTER_PICKS`.

        Raises
        ------
        HTTPException
            If no cluster is configured, or earlier jobs have not ended.
        BadInput
            If the jobs cannot be submitted.
        """
        if not self.is_configured:
            raise refuse("no cluster is configured in heliodor.toml", 409)
        if not self._submitting.acquire(blocking=False):
            raise refuse("jobs are being submitted already", 409)
        try:
            if self.status(fresh=True)["active"]:
                raise refuse(
                    "the jobs that were submitted have not ended; to stop them, type"
                    f" `heliodor cancel {self._folder}`",
                    409,
                )
            self._call(make_words(), _SUBMIT_SECONDS)
        finally:
            self._submitting.release()
        self._note("all micrographs submitted to the cluster")
        return self.status(fresh=True)

    def status(self, fresh: bool = False) -> dict[str, Any]:
        """Return how far the jobs are, as `heliodor status` says it.

        A dictionary with the `state` (None without jobs), a `text`, and whether jobs wait or run,
        `active`.

        Parameters
        ----------
        fresh
            Ask again, however short a time ago that was done. Otherwise, only one thread waits
            for the scheduler, and the others return what was known before.
        """
        if not self._asking.acquire(blocking=fresh):
            return _ASKING if self._known is None else self._known[0]
        try:
            now = time.monotonic()
            if not fresh and self._known is not None and now - self._known[1] < _FRESH_SECONDS:
                return self._known[0]
            found = self._ask() if (self._folder / _NOTE).is_file() else _NONE
            self._known = (found, time.monotonic())
            return found
        finally:
            self._asking.release()

    def _ask(self) -> dict[str, Any]:
        try:
            said = self._call(["status", "--json", str(self._folder)], _STATUS_SECONDS)
        except BadInput as error:  # the page says so, and asks again
            return {"state": "unknown", "text": str(error), "active": False}
        status = json.loads(said)
        state = status["state"]
        text = "\n".join([f"{self._folder}: {state}", *_describe(status)])
        return {"state": state, "text": text, "active": state in _ACTIVE}

    def _call(self, words: Sequence[str], seconds: float) -> str:
        """Run a command of heliodor; return what it prints.

        Raises
        ------
        BadInput
            If it fails, with its message.
        """
        try:
            done = subprocess.run(
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise BadInput(f"heliodor {words[0]} did not end within {seconds:.0f} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise BadInput(lines[-1].removeprefix("heliodor: "))
        return done.stdout.strip()


def _describe(status: Mapping[str, Any]) -> list[str]:
    """Return lines on the micrographs and the jobs of a status, short enough for a panel."""
    lines = []
    if status["micrographs"]:
        lines.append(
            f"{status['done']} of {count_of(status['micrographs'], 'micrograph')} done,"
            f" {status['failed']} failed, {status['remaining']} remaining"
        )
    if status["micrographs_per_hour"] is not None:
        lines.append(f"{status['micrographs_per_hour']:.0f} micrographs per hour")
    submission = status["submission"]
    if submission is None or status["state"] == "finished":
        return lines
    for step in submission["steps"]:
        numbers = {word: step[word] for word in ("waiting", "running", "ended")}
        counts = [f"{'?' if n is None else n} {word}" for word, n in numbers.items()]
        if step["waiting"] and step["reasons"]:
            counts[0] += f" ({', '.join(step['reasons'])})"
        job = step["jobs"][0].partition("_")[0]
        count = count_of(len(step["jobs"]), "process")
        lines.append(f"{step['name']}: job {job}, {count}: {', '.join(counts)}")
    return lines
