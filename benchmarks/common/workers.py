"""Carry out independent jobs in several processes, each with one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

# Before NumPy and PyTorch are imported, here and in the processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    torch.set_num_threads(1)


def carry_out_all(
    jobs: Sequence[Callable[[], str]], workers: int, tell: Callable[[str], None]
) -> None:
    """Carry out jobs, in this process where one worker is enough.

    Parameters
    ----------
    jobs
        Each returns a line about its result. They must be picklable: functions of modules, or
        `functools.partial` of such.
    tell
        Called with each line, as soon as it is there.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, once the processes are terminated.
    concurrent.futures.process.BrokenProcessPool
        If a process was killed.
    """
    if workers == 1:
        torch.set_num_threads(1)
        for job in jobs:
            tell(job())
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker) as pool:
        try:
            for done in as_completed([pool.submit(job) for job in jobs]):
                tell(done.result())
        except (KeyboardInterrupt, BrokenProcessPool):
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
