"""Kill training at random moments, resume it until it ends, and compare the results.

    python -m benchmarks.reliability.chaos_train --kills 20 --seed 0 [--estimate] [--folder FOLDER]

Regression check. A small simulated set is trained on without interruption, and then with `kill -9`
at N random moments. When a training ends, its model is compared byte by byte with the first one,
and so is `training.tsv` except for the column of seconds; then the next training starts, until the
kills are used up. With --estimate the number of particles is estimated first, by a training of its
own, which then takes most of the time. Prints where each kill hit, and exits with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from heliodor.simulation import SimulationSettings, simulate
from heliodor.training.checkpoint import NAME
from heliodor.training.completion_record import NAME as RECEIPT

PARTICLES = 10
MODEL, HISTORY = "model.safetensors", "training.tsv"
#: A recipe in which everything has a state: autoencoder, dropout, validation.
RECIPE = (
    "--network conv31 --width 2 --objective ge-binomial --autoencoder auto --dropout 0.1"
    " --validation-share 0.2 --epochs 10 --epoch-updates 25 --threads 1"
).split()
#: What a training says as it enters a stage, the last ones first.
STAGES = (
    ("wrote", "after the model"),
    (" of 10:", "between two epochs or in one"),
    ("resuming after", "in an epoch gone on with"),
    ("expected particles per micrograph", "in the first epoch"),
    ("training at", "before the first epoch"),
    ("reading", "reading"),
    ("training conv31", "reading"),
)


def command(data: Path, out: Path, estimate: bool) -> list[str]:
    """Return the training's words."""
    counted = [] if estimate else ["--expected-particles", str(PARTICLES)]
    call = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "train"]
    files = ["--micrographs", data / "micrographs.star", "--labels", data / "labels.star"]
    return [*call, *map(str, files), "--diameter", "180", "-o", str(out), *RECIPE, *counted]


def train(words: list[str], log: Path, seconds: float | None) -> bool:
    """Train, for so many seconds at most; return whether it came to its end."""
    with log.open("w") as stream:
        process = subprocess.Popen(words, stderr=stream, stdout=stream)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
    if code:
        raise SystemExit(f"the training failed ({code}):\n{log.read_text()}")
    return True


def stage(said: str) -> str:
    """Return where a training was, from what it had said."""
    last = max(STAGES, key=lambda own: said.rfind(own[0]))
    if said.rfind(last[0]) < 0:
        return "starting"
    if last[1].startswith("between") and "epoch 10 of 10:" in said:
        return "calibrating and writing"
    return last[1]


def left(out: Path) -> tuple[bytes, list[list[str]]]:
    """Return the model, and the history without its seconds."""
    rows = [line.split("\t") for line in (out / HISTORY).read_text().splitlines()]
    seconds = rows[0].index("seconds")
    return (out / MODEL).read_bytes(), [row[:seconds] + row[seconds + 1 :] for row in rows]


def main(kills: int, seed: int, folder: Path, estimate: bool) -> int:
    data, whole, out, log = (folder / name for name in ("data", "whole", "out", "log.txt"))
    settings = SimulationSettings(
        count=6, shape=(160, 160), pixel_size_angstrom=8.0, particles_per_micrograph=PARTICLES,
        labels=40, seed=seed,
    )  # fmt: skip
    simulate(data, settings)
    started = time.perf_counter()
    train(command(data, whole, estimate), log, None)
    length = time.perf_counter() - started
    print(f"uninterrupted: {length:.1f} s", flush=True)
    draw, places, same = random.Random(seed), Counter[str](), []
    while sum(places.values()) < kills:
        shutil.rmtree(out, ignore_errors=True)
        ended = False
        while not ended and sum(places.values()) < kills:
            seconds = draw.uniform(0, length)
            ended = train(command(data, out, estimate), log, seconds)
            if not ended:
                where = stage(log.read_text())
                places[where] += 1
                print(f"kill {sum(places.values())}: after {seconds:.1f} s, {where}", flush=True)
        if not ended:
            train(command(data, out, estimate), log, None)
        same.append(left(out) == left(whole))
        rest = sorted(p.name for p in out.iterdir() if ".part" in p.name or p.name == NAME)
        kept = (out / RECEIPT).exists()
        verdict = "identical" if same[-1] else "DIFFERENT"
        over = ", ".join(rest) or "nothing"
        print(f"training {len(same)}: {verdict}; left over: {over}; receipt: {kept}", flush=True)
    print(f"{sum(places.values())} kills in {len(same)} trainings:")
    for place, number in places.most_common():
        print(f"  {number:4d} {place}")
    print("all identical" if all(same) else "NOT all identical")
    return 0 if all(same) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="number of kills [20]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    parser.add_argument(
        "--estimate", action="store_true", help="estimate the number of particles first"
    )
    parser.add_argument("--folder", type=Path, help="an empty folder to work in")
    own = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(own.kills, own.seed, own.folder or Path(temporary), own.estimate))
