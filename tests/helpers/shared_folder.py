"""Folders that are made once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder that the first process to ask for it fills; no test may change it.

    The worker processes of pytest-xdist run the tests of one session. What takes seconds to make,
    such as a training, is made by one of them while the others wait.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of the session, which holds those of the workers
    folder = base / "shared" / name
    finished = folder.with_name(f"{name}.finished")
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            make(folder)
            finished.touch()
    return folder
