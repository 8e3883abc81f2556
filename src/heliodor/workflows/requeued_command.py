"""What submitit runs: a command line that is stopped and queued again when its time is up.

Light to import: each process of a cluster waits in it for its command.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import submitit

from heliodor.errors import SOME_FAILED

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

#: Seconds in which a process that is asked to stop does.
_PATIENCE = 60


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
            try:
                code = self._process.wait()
            except BaseException:  # it is told to stop
                self._process.terminate()
                raise
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
