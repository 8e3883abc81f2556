"""What this process takes of the machine: as many threads as it may have, and memory it keeps."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from heliodor.errors import BadInput


def usable_cpus() -> int:
    """Return the CPUs this process may use: its affinity, its cgroup's quota, its job's share.

    Programs that start one thread a core of the whole node slow themselves and everybody
    else down many times over when a scheduler has given them only a few.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None:
        cpus = min(cpus, max(1, int(quota)))
    for variable in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            cpus = min(cpus, int(value))
    return max(1, cpus)


def _cgroup_quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else float(quota) / float(period)


def set_threads(threads: int | None = None) -> int:
    """Fix the number of threads that PyTorch uses in this process.

    Parameters
    ----------
    threads
        What the user asked for; None takes all that the process may use.

    Returns
    -------
    int
        The number in force.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"the number of threads must be at least 1, not {threads}")
    import torch

    number = usable_cpus() if threads is None else threads
    torch.set_num_threads(number)
    return number


def keep_freed_memory() -> bool:
    """Let this process keep up to a gigabyte of memory that it has freed, to use it again.

    The C library of most Linux systems gives each large array back when it is freed, and every
    page of the next one is cleared and mapped anew: an eighth of the time of a training on a CPU.

    Returns
    -------
    bool
        Whether the C library has such settings, and took them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # M_MMAP_MAX, no arrays apart from the heap, and M_TRIM_THRESHOLD: numbers of malloc.h.
    return all(mallopt(parameter, value) == 1 for parameter, value in ((-4, 0), (-1, 2**30)))
