"""Repeat a piece of work on request and report its time and memory; for any interpreter.

Imports nothing but the standard library, because the environment of Topaz runs this too. Linux
only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def memory_mb(key: str) -> float:
    """Return a line of this process's status in MB: VmRSS, what it has; VmHWM, its most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"this system does not tell {key}")


def forget_peak() -> None:
    """Let VmHWM start anew at what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")


def serve(work: Callable[[int], None]) -> None:
    """Do the work once for each number on a line of the input, and tell what it took.

    Tells, as a line of JSON: `seconds`; `peak_mb`, the most that the process ever had; and
    `above_mb`, the most that the work took on top of what the process had before it first began.
    """
    base, most = memory_mb("VmRSS"), memory_mb("VmHWM")
    for line in sys.stdin:
        forget_peak()
        began = time.perf_counter()
        work(int(line))
        seconds = time.perf_counter() - began
        peak = memory_mb("VmHWM")
        most = max(most, peak)
        told = {"seconds": seconds, "peak_mb": most, "above_mb": max(0.0, peak - base)}
        print(json.dumps(told), flush=True)
