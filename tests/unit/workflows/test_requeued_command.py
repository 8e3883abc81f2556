"""A command line that is stopped and queued again when its time is up."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest
import submitit

from heliodor.workflows.requeued_command import RequeuedCommand


def test_a_command_whose_time_is_up_is_stopped_and_queued_again() -> None:
    command = RequeuedCommand([sys.executable, "-c", "import time; time.sleep(60)"])
    errors = list[BaseException]()

    def run() -> None:
        try:
            command()
        except submitit.core.utils.FailedJobError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while command._process is None:
        time.sleep(0.01)
    again = command.checkpoint()
    thread.join(30)
    assert not thread.is_alive()
    assert command._process.returncode == -signal.SIGTERM
    assert len(errors) == 1
    assert isinstance(again.function, RequeuedCommand)
    assert again.function.command == command.command


@pytest.mark.parametrize(("code", "is_error"), [(0, False), (3, False), (2, True)])
def test_micrographs_that_failed_are_no_error_of_a_process(code: int, is_error: bool) -> None:
    command = RequeuedCommand([sys.executable, "-c", f"raise SystemExit({code})"])
    if is_error:
        with pytest.raises(submitit.core.utils.FailedJobError, match="ended with code 2"):
            command()
    else:
        assert command() == ""


def test_waiting_for_a_command_takes_little_memory() -> None:
    """Each process of a cluster does, beside its command."""
    code = "import sys, heliodor.workflows.requeued_command; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
