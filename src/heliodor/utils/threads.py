"""How many threads to use: what this process may have, never what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

from heliodor.errors import BadInput

#: More than any computer has; asked for many more, the libraries end the process.
MAX_THREADS = 4096


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


def resolve_threads(threads: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads
        What the user asked for; None takes all that the process may use.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"the number of threads must be at least 1, not {threads}")
    if threads is not None and threads > MAX_THREADS:
        raise BadInput(f"no computer has {threads} threads; give {MAX_THREADS} at most")
    return usable_cpus() if threads is None else threads


def limit_blas_threads() -> None:
    """Keep NumPy's linear algebra to one thread, for a program that has just begun.

    To be called before NumPy is imported. Matrices here are small, and threads that wait for each
    other in a busy loop make a fit take minutes where others use the processors too.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
