"""Training and picking on a GPU beside the CPUs of the same machine, as whole processes.

    python -m benchmarks.speed.gpu FOLDER [--count 24] [--device cuda] [--width 16]

Study, not run yet. Simulated micrographs (barrel, 1024 x 1024 at 4 Å/pixel), 200 labels. Each
command runs --repeats times, devices in turns. The table gives medians, the AP of both models, and
the share of the picks of the CPU that the GPU finds with the same model within 2 pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from heliodor.data.coordinates.formats import read_picks
from heliodor.simulation import SimulationSettings, simulate

#: Picks nearer than this in both are the same, pixels.
SAME_PX = 2.0


def timed(*arguments: object) -> float:
    """Run heliodor and return its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "heliodor", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def same_share(one: Path, other: Path) -> float:
    """Return the share of the picks of one STAR that are in another."""
    tables = [read_picks(path / "autopick.star") for path in (one, other)]
    found = total = 0
    for name in set(tables[0].names()):
        first, second = (t.xy_px[np.array(t.names()) == name] for t in tables)
        total += len(first)
        if len(second):
            found += int((cKDTree(second).query(first)[0] < SAME_PX).sum())
    return found / max(total, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for data and results")
    parser.add_argument("--count", type=int, default=24, help="micrographs [24]")
    parser.add_argument("--device", default="cuda", help="[cuda]")
    parser.add_argument("--repeats", type=int, default=3, help="of each command [3]")
    parser.add_argument("--scratch", nargs="*", default=[], help="more options of heliodor train")
    given = parser.parse_args()
    data = given.folder / "data"
    if not (data / "truth.star").exists():
        simulate(data, SimulationSettings(count=given.count, labels=200, seed=31))
    stars = ("--micrographs", data / "micrographs.star")
    seconds: dict[str, list[float]] = {}
    for turn in range(given.repeats):
        for device in ("cpu", given.device):
            out = given.folder / f"{device}_{turn}"
            own = ("--device", device, "--resume", "never", "-o")
            train = ("train", *stars, "--labels", data / "labels.star", "--diameter", 150)
            took = timed(*train, *given.scratch, *own, out)
            seconds.setdefault(f"train {device}", []).append(took)
            model = ("--model", given.folder / "cpu_0" / "model.safetensors")
            for scores in ("smooth", "dense"):
                picks = given.folder / f"{device}_{scores}"
                took = timed("pick", *model, *stars, "--scores", scores, *own, picks)
                seconds.setdefault(f"pick {scores} {device}", []).append(took)
    for name, values in sorted(seconds.items()):
        print(f"{name:24s} {statistics.median(values):8.2f} s   of {len(values)}")
    for scores in ("smooth", "dense"):
        pair = [given.folder / f"{device}_{scores}" for device in ("cpu", given.device)]
        print(f"picks the same, {scores}: {same_share(*pair):.2%}, {same_share(*pair[::-1]):.2%}")
    for device in ("cpu", given.device):
        out = given.folder / f"ap_{device}"
        model = ("--model", given.folder / f"{device}_0" / "model.safetensors")
        timed("pick", *model, *stars, "--device", "cpu", "--resume", "never", "-o", out)
        judge = [sys.executable, "-m", "heliodor", "evaluate", "--picks", out / "picks.tsv"]
        judge += ["--truth", data / "truth.star", "--match-distance", 60, "--json"]
        text = subprocess.run([*map(str, judge)], check=True, capture_output=True, text=True)
        found = json.loads(text.stdout)["micro"]["average_precision"]
        print(f"learnt on {device}: particle AP {found:.4f}")


if __name__ == "__main__":
    main()
