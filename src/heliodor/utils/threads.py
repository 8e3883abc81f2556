"""Choose the number of threads: of the CPUs this process may use, not of all in the machine."""

from __future__ import annotations

import os
from pathlib import Path

from heliodor.errors import BadInput

#: With many more threads, libraries abort the process.
MAX_THREADS = 4096


#: Environment variables that limit the number of threads.
_VARIABLES = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")


def usable_cpus() -> int:
    """Return how many CPUs this process may use, by its affinity, cgroup quota and SLURM job.

    One thread per core of a whole node would slow down this and all other programs if a
    scheduler has assigned only a few cores.
    """
    return min(_find_limits().values())


def explain_usable_cpus() -> list[str]:
    """Return what limits the number of CPUs that this process may use, as short phrases."""
    return [f"{what} {count}" for what, count in _find_limits().items()]


def _find_limits() -> dict[str, int]:
    """Return the limits of the number of CPUs, all at least 1, by where each comes from."""
    if hasattr(os, "sched_getaffinity"):
        limits = {"CPUs of this process:": len(os.sched_getaffinity(0))}
    else:
        limits = {"CPUs of this computer:": max(1, os.cpu_count() or 1)}
    quota = _cgroup_quota()
    if quota is not None:
        limits["cgroup quota:"] = max(1, int(quota))
    for variable in _VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            limits[f"{variable} ="] = int(value)
    return limits


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
        The number asked for; None takes all CPUs that the process may use.
    """
    if threads is not None and threads < 1:
        raise BadInput(f"the number of threads must be at least 1, not {threads}")
    if threads is not None and threads > MAX_THREADS:
        raise BadInput(f"the number of threads must be at most {MAX_THREADS}, not {threads}")
    return usable_cpus() if threads is None else threads


def limit_blas_threads() -> None:
    """Limit the linear algebra of NumPy to one thread.

    Call this before NumPy is imported. The matrices are small, and threads that wait for each
    other in a busy loop make a fit take minutes when other programs use the CPUs too.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
