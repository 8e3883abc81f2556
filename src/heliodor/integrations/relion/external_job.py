"""RELION's External jobs: how a program that RELION has started answers it.

RELION knows of a job what lies in the job's folder: an empty file says how the job ended, another
asks it to stop, and a table names the results that other jobs can take. RELION takes a job for
running until one of the first is there, so each way to end leaves one.
"""

from __future__ import annotations

import _thread
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from heliodor.errors import BadInput
from heliodor.utils.files import create_output_folder, write_text
from heliodor.utils.locking import lock_folder
from heliodor.utils.signals import Stopped, handle_signals

if TYPE_CHECKING:
    from heliodor.data.micrographs.sources import MicrographInputs

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{how}" for how in ("SUCCESS", "FAILURE", "ABORTED"))
#: RELION's user asks the job to stop.
ABORT = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
#: Seconds between two looks for the user's wish to stop.
CHECK_INTERVAL_S = 0.5


class OutputKind(Enum):
    """What a result is to other jobs."""

    COORDINATES = "coordinates"
    MODEL = "model"


#: How versions of RELION call them; 3.1 has numbers, and none for a model.
_NODE_TYPES: dict[int, dict[OutputKind, str]] = {
    3: {OutputKind.COORDINATES: "2"},
    4: {
        OutputKind.COORDINATES: "MicrographsCoords.star.relion.autopick",
        OutputKind.MODEL: "ProcessData.safetensors.heliodor.model",
    },
    5: {
        OutputKind.COORDINATES: "MicrographCoordsGroup.star.relion.autopick",
        OutputKind.MODEL: "ParamsData.safetensors.heliodor.model",
    },
}


@contextmanager
def run_as_job(folder: str | Path) -> Iterator[None]:
    """Be a job of RELION while the block runs, and say in its folder how it ended.

    What is told to the person watching goes to standard output, RELION's ``run.out``: what is in
    ``run.err`` looks like an error there.

    Parameters
    ----------
    folder
        The job's folder, ``External/jobNNN/``; made if need be.

    Raises
    ------
    BadInput
        If the same job is at work already; what is in its folder is then left as it is.
    Stopped
        In the block, if the user aborts the job, or a signal ends it.
    """
    folder = create_output_folder(folder)
    with lock_folder(folder):
        yield from _run_job(folder)


def _run_job(folder: Path) -> Iterator[None]:
    for name in (SUCCESS, FAILURE, ABORTED):
        (folder / name).unlink(missing_ok=True)
    ended = FAILURE
    try:
        with _stoppable(folder), redirect_stderr(sys.stdout):
            yield
        ended = SUCCESS
    except Stopped:
        if (folder / ABORT).exists():
            ended = ABORTED
        raise
    finally:
        (folder / ABORT).unlink(missing_ok=True)  # or it would stop the job's continuation
        (folder / ended).touch()


def mark_failed(folder: Path) -> None:
    """Say in a job's folder that it failed, for a process that died; not where one is at work."""
    with suppress(BadInput):
        folder = create_output_folder(folder)
        with lock_folder(folder):
            (folder / FAILURE).touch()


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Raise `Stopped` in the block on a signal, or when the file that asks to stop is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(CHECK_INTERVAL_S):
            if (folder / ABORT).exists():
                _thread.interrupt_main(signal.SIGTERM)
                return

    if (folder / ABORT).exists():  # pressed while the job was waiting in a queue
        raise Stopped(signal.SIGTERM)
    with handle_signals():
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def detect_relion_version(folder: Path) -> int:
    """Tell from what RELION wrote whether it is 3 (3.1), 4 or 5; without that, the newest."""
    said = [_read_text(path) for path in (folder / "job.star", Path("default_pipeline.star"))]
    if said[0] and "_rlnJobTypeLabel" not in said[0]:
        return 3
    versions = [int(n) for text in said for n in re.findall(r"^# version (\d+)", text, re.M)]
    return 4 if versions and max(versions) < 50000 else 5


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write_output_nodes(
    folder: Path, files: Sequence[tuple[str, OutputKind]], micrographs: MicrographInputs = ""
) -> None:
    """Tell RELION of the results that other jobs can take.

    Parameters
    ----------
    folder
        The job's folder.
    files
        Names of files in it, and what they are.
    micrographs
        The STAR file of the micrographs. RELION 3.1 takes coordinates by a file that names it
        and whose own name ends as those of the coordinate files do.
    """
    from heliodor.data.star import write_blocks

    relion = detect_relion_version(folder)
    rows = []
    for name, kind in files:
        if relion == 3 and kind is OutputKind.COORDINATES:
            name = f"coords_suffix_{name}"
            write_text(folder / name, f"{micrographs}\n")
        if kind in _NODE_TYPES[relion]:
            rows.append(((folder / name).as_posix(), _NODE_TYPES[relion][kind]))
    column = "rlnPipeLineNodeType" if relion == 3 else "rlnPipeLineNodeTypeLabel"
    table = {"rlnPipeLineNodeName": [name for name, _ in rows], column: [kind for _, kind in rows]}
    write_blocks(folder / OUTPUT_NODES, {"output_nodes": table})
