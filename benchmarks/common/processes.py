"""Measured processes: whole ones, and ones that repeat a piece of work in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

#: A small process that starts the measured one. The peak memory that Linux tells of a process
#: begins with that of the one which started it, and the benchmark itself is not small.
STARTER = """
import json, os, sys, time
told, command = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(told, False)
began = time.perf_counter()
pid = os.posix_spawnp(command[0], command, os.environ)
_, status, used = os.wait4(pid, 0)
seconds = time.perf_counter() - began
found = {"seconds": seconds, "peak_mb": used.ru_maxrss * 1024 / 1e6}
found["code"] = os.waitstatus_to_exitcode(status)
os.write(told, json.dumps(found).encode())
"""


class Run(NamedTuple):
    """What a process or a piece of work took."""

    seconds: float
    #: The most memory that the process had.
    peak_mb: float
    #: What the work took of it, where only a piece of work is meant.
    above_mb: float | None = None


def run(command: Sequence[str | Path], folder: Path | None = None) -> Run:
    """Run a command as a process of its own, in a folder, and tell what it took.

    Raises
    ------
    RuntimeError
        If it fails; its last words are told.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        starter = [sys.executable, "-I", "-S", "-c", STARTER, str(told.fileno())]
        subprocess.run(
            [*starter, *map(str, command)],
            check=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[told.fileno()],
        )
        said.seek(0)
        told.seek(0)
        found = json.loads(told.read())
        if found["code"]:
            words = said.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(map(str, command))} ended in {found['code']}: {words}")
    return Run(found["seconds"], found["peak_mb"])


class Worker:
    """A process that serves turns of a piece of work; see `benchmarks.common.turns.serve`."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self, number: int = 0) -> Run:
        """Let it do the work once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a measured process ended in {self.process.wait()}")
        return Run(**json.loads(line))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # of one that has ended already
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def median(runs: Sequence[Run]) -> Run:
    """Return the median of the seconds and the highest of the peaks."""
    above = [run.above_mb for run in runs if run.above_mb is not None]
    return Run(
        statistics.median(run.seconds for run in runs),
        max(run.peak_mb for run in runs),
        max(above) if above else None,
    )


def in_turn(programs: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, Run]:
    """Run programs one after the other, several times over, and return the medians."""
    took: dict[str, list[Run]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            took[name].append(program())
    return {name: median(runs) for name, runs in took.items()}
