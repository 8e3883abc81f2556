"""The interface of RELION External jobs.

RELION and a job communicate through files in the job's folder: an empty file marks how the job
ended, another one asks it to stop, and a table lists the results that other jobs can use. RELION
shows a job as running until the first of these exists, so a job must write it however it ends.
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
#: RELION writes this file when the user aborts the job.
ABORT = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
#: Seconds between checks for that file.
CHECK_INTERVAL_S = 0.5


class OutputKind(Enum):
    """What a result of a job is for other jobs."""

    COORDINATES = "coordinates"
    MODEL = "model"


#: Node types by version of RELION; 3.1 has numbers, and none for models.
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
    """Run the block as a job of RELION, and mark in its folder how it ended.

    Messages go to standard output (RELION's ``run.out``), because RELION shows the content of
    ``run.err`` as errors.

    Parameters
    ----------
    folder
        The job's folder, ``External/jobNNN/``; created if necessary.

    Raises
    ------
    BadInput
        If the same job is already running; its folder is then left unchanged.
    Stopped
        In the block, if the user aborts the job or a signal ends it.
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
        (folder / ABORT).unlink(missing_ok=True)  # otherwise it would stop a continued job
        (folder / ended).touch()


def mark_failed(folder: Path) -> None:
    """Mark a job as failed after its process died, unless another process is running it."""
    with suppress(BadInput):
        folder = create_output_folder(folder)
        with lock_folder(folder):
            (folder / FAILURE).touch()


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Raise `Stopped` in the block on a signal, or when the user aborts the job."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(CHECK_INTERVAL_S):
            if (folder / ABORT).exists():
                _thread.interrupt_main(signal.SIGTERM)
                return

    if (folder / ABORT).exists():  # aborted while the job was queued
        raise Stopped(signal.SIGTERM)
    with handle_signals():
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def detect_relion_version(folder: Path) -> int:
    """Return the version of RELION from its files: 3 (for 3.1), 4 or 5; by default, the newest."""
    texts = [_read_text(path) for path in (folder / "job.star", Path("default_pipeline.star"))]
    if texts[0] and "_rlnJobTypeLabel" not in texts[0]:
        return 3
    versions = [int(n) for text in texts for n in re.findall(r"^# version (\d+)", text, re.M)]
    return 4 if versions and max(versions) < 50000 else 5


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write_output_nodes(
    folder: Path, files: Sequence[tuple[str, OutputKind]], micrographs: MicrographInputs = ""
) -> None:
    """List the results that other jobs can use, for RELION.

    Parameters
    ----------
    folder
        The job's folder.
    files
        Names of files in it, and their types.
    micrographs
        The STAR file of the micrographs. RELION 3.1 expects it to be named in a file whose own
        name ends with the suffix of the coordinate files.
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
