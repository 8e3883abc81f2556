"""The client of a warm worker: a call of `extract` that lets another process do the work.

RELION starts one process per micrograph, and each would load PyTorch and the model again. So the
first one starts a worker, which stays for the next ones. A worker reads and computes; only the
client writes, with its own working folder, permissions and umask, and writes nothing if it has
been killed. If anything goes wrong with a worker, the client does the work itself.

Do not import slow modules here.
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
from heliodor.utils.import_path import python_command

#: A worker reports every second that it is alive; after this time without a report it is given up.
ALIVE_TIMEOUT_S = 30.0
#: Prefixes of the environment variables that must be the same in the worker and the client.
ENVIRONMENT_PREFIXES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "ATEN_"),
    *("TORCH", "PYTORCH", "CUDA", "CUBLAS", "CUDNN", "NVIDIA_", "HIP_", "ROCR_", "HSA_"),
    *("LD_", "DYLD_", "MALLOC_", "PYTHON", "HELIODOR_", "SLURM_CPUS_PER_TASK"),
    *("HOME", "LANG", "LC_"),
)


def may_use_worker(args: argparse.Namespace) -> bool:
    """Return whether a worker may do a call and would save time.

    It would not for many images in one call; and such a call must stop if its process is killed.

    Raises
    ------
    BadInput
        If $HELIODOR_WORKER is neither 0 nor 1.
    """
    wanted = os.environ.get("HELIODOR_WORKER", "1")
    if wanted not in ("", "0", "1"):
        raise BadInput(f"HELIODOR_WORKER is {wanted!r}; set it to 0 (no worker) or 1")
    one = len(args.paths) == 1 and not (args.targets or args.per_micrograph or args.filaments)
    return one and wanted != "0" and not args.no_worker


def extract(args: argparse.Namespace) -> int | None:
    """Let a worker do a call, and write its results.

    Returns
    -------
    int or None
        The exit code; None if no worker was available and nothing was done or reported.

    Raises
    ------
    BadInput
        If the picks cannot be written.
    """
    if not may_use_worker(args):
        return None
    read_idle_timeout()  # report a mistake before the work
    try:
        answer = _ask_worker(args)
    except (OSError, ValueError):
        # The work is then done here, which does not need the worker or reports the error again.
        return None
    if answer is None:
        return None
    sys.stderr.write(answer["err"])
    sys.stderr.flush()
    if answer["code"] in (0, SOME_FAILED):
        write_output(answer["out"], table_file(args.output))
    return int(answer["code"])


def read_idle_timeout() -> float:
    """Return the time in seconds that a worker waits for the next call.

    Raises
    ------
    BadInput
        If $HELIODOR_WORKER_IDLE is not a positive number.
    """
    text = os.environ.get("HELIODOR_WORKER_IDLE", "") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadInput(
            f"HELIODOR_WORKER_IDLE is {text!r}; set it to a number of seconds greater than 0"
        )
    return seconds


def results_folder(args: argparse.Namespace) -> str:
    """Return the folder of the results; the working folder if they go to standard output."""
    output = args.output or os.curdir
    return os.path.abspath(output if os.path.isdir(output) else os.path.dirname(output))


def make_worker_key(args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that must be the same for a worker and its client."""
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
    """Return a worker's answer, or None if no worker is available."""
    place = find_slot_folder()
    if place is None:
        return None
    request = {
        "cwd": os.getcwd(),
        "job": results_folder(args),
        # The worker returns what it would print, and writes no file.
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
    """Ask the worker of a slot that this process has locked, after starting it if necessary."""
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
                    os.kill(worker, signal.SIGKILL)  # it hangs
            slot.remove()
            return None
    return answer if "code" in answer else None


def _start_worker(slot: WorkerSlot) -> None:
    """Start a worker that inherits no files, terminal or process group.

    It gets a socket that already listens, so there is no need to wait for its start, and if the
    start fails, its connections end. It forks at once, so it is not a child of this process.
    """
    import subprocess  # slow to import, and most calls do not need it

    with slot.listen() as listening:
        command = python_command("-m", "heliodor.integrations.topaz.worker.process")
        subprocess.run(
            [*command, str(listening.fileno()), slot.stem],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            check=False,
        )
