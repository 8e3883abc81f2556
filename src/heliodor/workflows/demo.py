"""The demonstration: simulated micrographs, a hundred labels, the whole job."""

from __future__ import annotations

from pathlib import Path

from heliodor.errors import BadInput
from heliodor.simulation import SimulationSettings, simulate
from heliodor.training.initialization import choose_start
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import console
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder
from heliodor.workflows.run import RunResult, run

#: Ten micrographs to learn from and six, of another seed, to pick on.
TRAINING_SET = SimulationSettings(particle="barrel", count=10, labels=100, seed=1)
TEST_SET = SimulationSettings(particle="barrel", count=6, seed=2)
RECIPE = TrainingSettings()
#: What it begins with; None is the default, the general model.
START: str | None = None


def demo(
    out: Path, compute: ComputeSettings = ComputeSettings(), command_line: str = ""
) -> RunResult:
    """Simulate barrel-shaped particles, learn from 100 of them, pick the unseen, report."""
    compute.start()  # refuses what it cannot do before anything is simulated
    folder = create_output_folder(out)
    sets = {"learn": TRAINING_SET, "unseen": TEST_SET}
    if any((folder / name).exists() for name in sets):
        raise BadInput(
            f"{folder} holds an earlier demonstration; remove it or give another with -o"
        )
    for name, settings in sets.items():
        with console.progress(f"simulating micrographs to {name}") as progress:
            simulate(folder / name, settings, progress)
    return run(
        folder / "learn" / "micrographs.star",
        folder / "learn" / "labels.star",
        folder / "results",
        DataSettings(diameter_angstrom=TRAINING_SET.resolved_particle.diameter_angstrom),
        choose_start(RECIPE, START, ()),
        pick_micrographs=folder / "unseen" / "micrographs.star",
        truth=folder / "unseen" / "truth.star",
        compute=compute,
        command_line=command_line,
    )
