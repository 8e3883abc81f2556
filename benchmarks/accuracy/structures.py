"""Accuracy on simulated micrographs of atomic models, without labels and with some, beside Topaz.

    python -m benchmarks.accuracy.structures FOLDER FILE ... [--snr 0.08] [--seed 700]
        [--labels 30 200] [--topaz ENVIRONMENT] [--updates 500]

Atomic models (.cif, .pdb) are of particles that are in no training. Of each, four micrographs to
train on and four to pick on are simulated, 1024 x 1024 pixels at 4 Å, with contaminants. AP of all
candidates, matched within 0.4 of the diameter: heliodor with its default options, without labels
and with each number of labels; Topaz's resnet8, trained from its own weights at 8 Å with the most
labels. Whole processes with one thread. Results in FOLDER are not computed again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from pathlib import Path

from benchmarks.accuracy.general_model import heliodor_runs, topaz_runs
from benchmarks.accuracy.general_model.data import PIXEL, Task
from benchmarks.accuracy.time_to_accuracy import kept, write_table
from benchmarks.common.tables import markdown
from benchmarks.common.topaz_peer import install

from heliodor.data.coordinates.formats import read_picks
from heliodor.simulation.dataset import simulate
from heliodor.simulation.settings import SimulationSettings
from heliodor.simulation.structures import read_structure

#: Of each kind: to train on, and to pick on.
MICROGRAPHS = 4
#: Topaz's downsampling, to 8 Å.
TOPAZ_SCALE = 2


def simulate_task(file: Path, out: Path, snr: float, seed: int) -> Task:
    """Simulate micrographs of a structure, unless they are there; return the task on them."""
    particle = read_structure(file)
    for number, folder in enumerate((out / "learn", out / "unseen")):
        if not (folder / "micrographs.star").exists():
            simulate(
                folder,
                SimulationSettings(
                    particle=particle, count=MICROGRAPHS, snr=snr, seed=seed + number
                ),
            )
    learn, unseen = (out / part / "micrographs.star" for part in ("learn", "unseen"))
    number = len(read_picks(out / "learn" / "truth.star"))
    return Task(
        file.stem, learn, unseen, out / "unseen" / "truth.star", particle.diameter_angstrom, PIXEL,
        number / MICROGRAPHS,
    )  # fmt: skip


def draw_labels(task: Task, number: int, seed: int) -> Path:
    """Write so many random labels, and return their file; more labels hold those of fewer."""
    truth = read_picks(task.learn.parent / "truth.star")
    rows = random.Random(seed).sample(range(len(truth)), len(truth))[:number]
    if len(rows) < number:
        raise SystemExit(f"{task.name} has {len(rows)} particles to train on, not {number}")
    names, path = truth.names(), task.labels(number)
    # Under the name that `Task.labels` gives it, whose ending says STAR; formats are told apart by
    # what is in a file.
    write_table(path, ((names[i], *truth.xy_px[i]) for i in sorted(rows)))
    return path


def measure(file: Path, options: argparse.Namespace) -> list[list[str]]:
    """Carry out everything on one structure; return the rows of the table."""
    out = options.folder / file.stem
    task = simulate_task(file, out, options.snr, options.seed)
    head = [task.name, f"{task.diameter:.0f}"]
    zero = kept(
        out / "0.json", heliodor_runs.as_shipped, task, heliodor_runs.General(None), out / "0"
    )
    rows = [[*head, "none", f"{zero['ap']:.3f}", "", "", ""]]
    most = max(options.labels)
    for number in options.labels:
        labels = draw_labels(task, number, options.seed)
        result = out / f"{number}.json"
        if not result.exists():  # resumed, an interrupted training would take less time
            shutil.rmtree(out / f"{number}", ignore_errors=True)
        own = kept(
            result, heliodor_runs.trained, task, labels, "general", options.seed, out / f"{number}"
        )
        cells = ["", ""]
        if options.topaz and number == most:
            its = kept(
                out / f"topaz_{number}_{options.updates}.json", topaz_runs.trained, task, number,
                options.updates, 1, out / "topaz", options.topaz, TOPAZ_SCALE,
            )  # fmt: skip
            cells = [f"{its['points'][-1]['ap']:.3f}", f"{its['cpu']:.0f}"]
        rows.append([*head, str(number), f"{own['ap']:.3f}", f"{own['cpu']:.0f}", *cells])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--snr", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=700)
    parser.add_argument("--labels", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--topaz", type=Path, help="environment of its own, see topaz_peer")
    parser.add_argument("--updates", type=int, default=500)
    options = parser.parse_args()
    options.topaz = options.topaz and install(options.topaz)
    rows = [row for file in options.files for row in measure(file, options)]
    head = ["structure", "diameter, Å", "labels", "AP", "CPU s", "Topaz: AP", "CPU s"]
    print(markdown(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
