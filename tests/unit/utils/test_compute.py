from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
from heliodor.utils.compute import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(20):
    if i == 5:
        before = faults()
    # Two at a time, so that the second is what lies at the end of the heap.
    first, second = np.ones(2**21), np.ones(2**21)
    del first, second
print(faults() - before)
"""


def faults(how: str) -> int:
    """Count the pages that the system had to provide."""
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is asked")
def test_freed_memory_is_used_again() -> None:
    assert faults("keep") < faults("leave") / 4
