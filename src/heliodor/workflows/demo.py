"""The command `demo`: run the program on simulated micrographs."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from pathlib import Path

from heliodor.errors import BadInput
from heliodor.simulation import SimulationSettings, simulate
from heliodor.training.initialization import choose_start
from heliodor.training.recipes import recipe
from heliodor.training.settings import DataSettings
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder
from heliodor.workflows.run import RunResult, run

log = logging.getLogger(__name__)

#: Ten micrographs for training and six, of another seed, for picking and evaluation.
TRAINING_SET = SimulationSettings(particle="barrel", count=10, labels=100, seed=1)
TEST_SET = SimulationSettings(particle="barrel", count=6, seed=2)
#: A quick training, as the particles are easy to see.
RECIPE = recipe("fast", effort="quick")
#: The model to start from; None is the default, the general model.
START: str | None = None


#: Where the results are, and their report, in the folder of the demonstration.
RESULTS, REPORT = "results", "report.html"


def demo(
    out: Path, compute: ComputeSettings = ComputeSettings(), command_line: str = ""
) -> RunResult:
    """Simulate barrel-shaped particles, train on 100 of them, pick other micrographs, report."""
    compute.start()  # refuse impossible settings before anything is simulated
    folder = create_output_folder(out)
    datasets = {"learn": ("training", TRAINING_SET), "unseen": ("test", TEST_SET)}
    if any((folder / name).exists() for name in datasets):
        raise BadInput(
            f"{folder} contains an earlier demonstration; remove it or give another folder with -o"
        )
    log.info(f"in one to two minutes, the report will be {folder / RESULTS / REPORT}")
    for name, (purpose, settings) in datasets.items():
        with console.progress(f"simulating {purpose} micrographs") as progress:
            simulate(folder / name, settings, progress)
    return run(
        folder / "learn" / "micrographs.star",
        folder / "learn" / "labels.star",
        folder / RESULTS,
        DataSettings(diameter_angstrom=TRAINING_SET.resolved_particle.diameter_angstrom),
        choose_start(RECIPE, START, ()),
        pick_micrographs=folder / "unseen" / "micrographs.star",
        truth=folder / "unseen" / "truth.star",
        compute=compute,
        command_line=command_line,
    )


def open_report(out: Path) -> None:
    """Open the report of a demonstration in the browser, where somebody sits at a desktop."""
    if not _has_desktop():
        return
    report = (out / RESULTS / REPORT).absolute()
    if not webbrowser.open(report.as_uri()):
        log.info(f"no browser could be opened; the report is {report}")


def _has_desktop() -> bool:
    """Return whether the command was typed in a terminal of a desktop."""
    if not sys.stderr.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
