"""The client of a warm worker: a call of `extract` that another process does the work of.

RELION starts one process a micrograph, and each would read PyTorch and the model anew. So the
first one starts a worker, which stays for the next ones. A worker reads and computes, and only
its client writes: with its own working folder, rights and umask, and nothing at all once it has
been killed. Where anything is amiss with a worker the client does the work itself.

Nothing slow is imported here.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import heliodor
from heliodor.errors import SOME_FAILED, BadInput
from heliodor.integrations.topaz.model_lookup import (
    NO_MODEL,
    file_identity,
    find_model_file,
)
from heliodor.integrations.topaz.output import table_file, write_output
from heliodor.integrations.topaz.worker import messages
from heliodor.integrations.topaz.worker.registry import (
    WorkerSlot,
    find_slot_folder,
    is_full,
    list_slots,
)

#: A worker says every second that it is alive; one that has not for so long is given up.
ALIVE_TIMEOUT_S = 30.0
#: What the worker's environment has to have in common with the client's.
ENVIRONMENT_PREFIXES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "ATEN_"),
    *("TORCH", "PYTORCH", "CUDA", "CUBLAS", "CUDNN", "NVIDIA_", "HIP_", "ROCR_", "HSA_"),
    *("LD_", "DYLD_", "MALLOC_", "PYTHON", "HELIODOR_", "SLURM_CPUS_PER_TASK"),
    *("HOME", "LANG", "LC_"),
)


def may_use_worker(args: argparse.Namespace) -> bool:
    """Tell whether a worker may do a call, and whether it would gain anything.

    With many images in one call it does not, and such a call is to end as its process is killed.

    Raises
    ------
    BadInput
        If $HELIODOR_WORKER is neither 0 nor 1.
    """
    wanted = os.environ.get("HELIODOR_WORKER", "1")
    if wanted not in ("", "0", "1"):
        raise BadInput(f"HELIODOR_WORKER is {wanted!r}; set it to 0 for no worker, or to 1")
    one = len(args.paths) == 1 and not (args.targets or args.per_micrograph)
    return one and wanted != "0" and not args.no_worker


def extract(args: argparse.Namespace) -> int | None:
    """Have a worker do a call, and write what it found.

    Returns
    -------
    int or None
        The exit code; None where no worker could be had and nothing was done or said.

    Raises
    ------
    BadInput
        If the picks cannot be written.
    """
    if not may_use_worker(args):
        return None
    read_idle_timeout()  # a mistake is to be told before the work
    try:
        answer = _ask_worker(args)
    except (OSError, ValueError):
        # Whatever is wrong, doing the work here meets it again or does without the worker.
        return None
    if answer is None:
        return None
    sys.stderr.write(answer["err"])
    sys.stderr.flush()
    if answer["code"] in (0, SOME_FAILED):
        write_output(answer["out"], table_file(args.output))
    return int(answer["code"])


def read_idle_timeout() -> float:
    """Return how long a worker waits for the next call.

    Raises
    ------
    BadInput
        If $HELIODOR_WORKER_IDLE is no number of seconds.
    """
    text = os.environ.get("HELIODOR_WORKER_IDLE", "") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadInput(f"HELIODOR_WORKER_IDLE is {text!r}; set it to a number of seconds above 0")
    return seconds


def results_folder(args: argparse.Namespace) -> str:
    """Return the folder that the results go to: this one where they go to no file."""
    output = args.output or os.curdir
    return os.path.abspath(output if os.path.isdir(output) else os.path.dirname(output))


def make_worker_key(args: argparse.Namespace) -> dict[str, Any]:
    """Return all that a worker must have in common with its client."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    host = [os.uname().nodename]
    with suppress(OSError):  # on Linux: the same containers, and the same limits of a job
        host += [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")]
        host.append(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    environment = {
        name: own for name, own in os.environ.items() if name.startswith(ENVIRONMENT_PREFIXES)
    }
    return {
        "program": [heliodor.__version__, heliodor.__file__, sys.executable],
        "model": NO_MODEL
        if args.model == NO_MODEL
        else file_identity(find_model_file(args.model)),
        "device": args.device,
        "threads": args.num_threads,
        "cpus": cpus,
        "host": host,
        "environment": environment,
    }


def _ask_worker(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return a worker's answer; None if there is none."""
    place = find_slot_folder()
    if place is None:
        return None
    request = {
        "cwd": os.getcwd(),
        "job": results_folder(args),
        # The worker hands back what it would print, and so writes no file.
        "args": {**vars(args), "output": None, "given": [], "defaults": {}},
    }
    for slot in list_slots(place, make_worker_key(args)):
        lock = slot.acquire()
        if lock is not None:
            try:
                return _exchange(slot, lock, request)
            finally:
                os.close(lock)
    return None


def _exchange(slot: WorkerSlot, lock: int, request: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the worker of a slot that this process has taken, starting it if need be."""
    connection = slot.connect()
    if connection is None and not is_full(os.path.dirname(slot.stem)):
        _start_worker(slot)
        connection = slot.connect()
    if connection is None:
        slot.remove()
        return None
    worker: int | None = None
    with connection:
        if not messages.is_same_user(connection):
            return None
        try:
            connection.settimeout(ALIVE_TIMEOUT_S)
            messages.send_lock(connection, lock)
            messages.send(connection, request)
            while "alive" in (answer := messages.receive(connection)):
                worker = int(answer["alive"])
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and worker is not None:
                with suppress(OSError):
                    os.kill(worker, signal.SIGKILL)  # it hangs, and would for ever
            slot.remove()
            return None
    return answer if "code" in answer else None


def _start_worker(slot: WorkerSlot) -> None:
    """Start a worker that nothing of this process is left in: no files, terminal or group.

    It is given a socket that listens already, so there is no waiting for it to come up, and if
    it does not, its connections end. Its first process ends at once, so it is nobody's child.
    """
    import subprocess  # not for each of thousands of calls

    with slot.listen() as listening:
        command = [sys.executable, "-P", "-m", "heliodor.integrations.topaz.worker.process"]
        subprocess.run(
            [*command, str(listening.fileno()), slot.stem],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            check=False,
        )
