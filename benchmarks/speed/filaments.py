"""How long tracing filaments takes on a large micrograph, compared with picking particles.

    python -m benchmarks.speed.filaments [--pixel-sizes 1 4] [--side 4096] [--repeats 3]

Check. Whole processes of `heliodor pick` on one thread: CPU seconds, median of the repeats, in
turns. The micrograph is simulated with filaments; particles are looked for on the same one, with
the diameter that is usual for a protein of 180 A. The last column is the ratio, of which at most 2
is asked for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.tables import markdown

from heliodor.simulation.dataset import simulate
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.settings import SimulationSettings

MOST = 2.0
HEAD = ("filament", "Å/pixel", "filaments, CPU s", "particles, CPU s", "ratio")


def measure_cpu(words: list[str], folder: Path) -> float:
    """Run `heliodor` and return its CPU seconds."""
    before = os.times()
    run = subprocess.run(
        [sys.executable, "-m", "heliodor", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"heliodor {' '.join(words)} ended in {run.returncode}: {run.stderr}")
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system


def measure(kind: str, pixel: float, side: int, repeats: int, diameter: float) -> tuple[str, ...]:
    """Return a row of the table."""
    width = FILAMENTS[kind].width_angstrom
    settings = SimulationSettings(
        filament=kind, count=1, shape=(side, side), pixel_size_angstrom=pixel, seed=110
    )
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder / "set", settings)
        shared = ["pick", "set/micrographs.star", "--threads", "1"]
        for number in range(repeats):
            own = [*shared, "--filaments", "--width", f"{width:g}", "-o", f"filaments{number}"]
            ours.append(measure_cpu(own, folder))
            own = [*shared, "--diameter", f"{diameter:g}", "-o", f"particles{number}"]
            theirs.append(measure_cpu(own, folder))
    one, other = statistics.median(ours), statistics.median(theirs)
    return kind, f"{pixel:g}", f"{one:.1f}", f"{other:.1f}", f"{one / other:.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=["amyloid"], choices=FILAMENTS)
    parser.add_argument("--pixel-sizes", nargs="+", type=float, default=[1.0, 4.0])
    parser.add_argument("--side", type=int, default=4096, help="of the micrograph, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--diameter", type=float, default=180.0, help="of the particles, angstrom")
    given = parser.parse_args()
    rows = []
    for kind in given.kinds:
        for pixel in given.pixel_sizes:
            row = measure(kind, pixel, given.side, given.repeats, given.diameter)
            rows.append(row)
            print(markdown(HEAD, [row]), flush=True)
    missed = [row for row in rows if float(row[-1]) > MOST]
    print(f"at most {MOST:g} times: {'missed by ' + str(missed) if missed else 'met'}")


if __name__ == "__main__":
    main()
