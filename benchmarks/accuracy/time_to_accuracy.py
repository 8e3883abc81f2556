"""The time that Topaz and heliodor take to train, and the accuracy then, on the same labels.

    python -m benchmarks.accuracy.time_to_accuracy [--out FOLDER] [--only topaz|heliodor]
        [--cpu N ...]

Study, 2026-11, superseded: it trains heliodor from scratch, and fine-tuning from the general model
is now the default (see `benchmarks.accuracy.general_model.run`). A hundred labels on simulated
`stick` and on beta-galactosidase (skipped where the data are missing); average precision on
micrographs that are not trained on. Topaz 0.3.20 trains its conv31 from scratch with its defaults,
10 epochs of 1,000 updates, or as many as fit into --minutes; its pi is set so that, after what it
subtracts, it is the true fraction. Both programs run as whole processes on the same CPUs with as
many threads. Each result is kept as JSON in FOLDER and not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.topaz_peer import install

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
LABELS = 100
#: Both work at the micrographs' pixel size times this: the particle is 23 to 25 pixels long.
SCALE = 2
#: Topaz's training radius in its pixels, and the number of pixels it counts for it (a known slip:
#: 29 are right).
RADIUS, DISC, ITS_DISC = 3, 29, 203


@dataclass(frozen=True)
class Job:
    """A data set: what to learn from and what to judge on."""

    name: str
    learn: Path
    labels: Path
    unseen: Path
    truth: Path
    diameter: float
    pixel: float
    match: float
    expected: float


def stick(out: Path) -> Job:
    """Simulate twice; the labels lie on five micrographs of ten."""
    for name, extra in (
        ("learn", ("--count", "10", "--labels", str(LABELS), "--seed", "21")),
        ("unseen", ("--count", "6", "--seed", "22")),
    ):
        if not (out / name / "truth.star").exists():
            subprocess.run(
                [*HELIODOR, "simulate", str(out / name), "--particle", "stick", *extra], check=True
            )
    learn, unseen = out / "learn", out / "unseen"
    stars = [folder / "micrographs.star" for folder in (learn, unseen)]
    return Job(
        "stick", stars[0], learn / "labels.star", stars[1], unseen / "truth.star", 180, 4, 72, 95
    )


def betagal(out: Path) -> Job:
    """Draw a hundred of the hand picks on the training micrographs."""
    folder = DATA / "betagal"
    names = {source.name for source in find_sources(str(folder / "train.star"))}
    picks = read_picks(folder / "manual_positive.star")
    rows = [i for i, name in enumerate(picks.names()) if name in names]
    chosen = sorted(random.Random(0).sample(rows, LABELS))
    labels = out / "labels.tsv"
    out.mkdir(parents=True, exist_ok=True)
    write_table(labels, ((picks.names()[i], *picks.xy_px[i]) for i in chosen))
    learn, unseen = folder / "train.star", folder / "test.star"
    return Job("betagal", learn, labels, unseen, folder / "dense.star", 180, 3.54, 70, 640)


def write_table(path: Path, rows: Iterable[tuple[str, float, float]]) -> None:
    lines = ["image_name\tx_coord\ty_coord", *(f"{n}\t{x:.2f}\t{y:.2f}" for n, x, y in rows)]
    path.write_text("\n".join(lines) + "\n")


def judge(job: Job, picks: Path) -> dict[str, float]:
    command = [*HELIODOR, "evaluate", "--picks", str(picks), "--truth", str(job.truth), "--json"]
    command += ["--match-distance", str(job.match), "--pixel-size", str(job.pixel)]
    command += ["--micrographs", str(job.unseen)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(result.stdout)
    return {"ap": figures["micro"]["average_precision"], "best_f1": figures["best_f1"]}


def run_topaz(job: Job, out: Path, program: Path, threads: int, minutes: float) -> dict[str, Any]:
    """Preprocess, train, and pick with the model of every epoch; seconds are of the first two."""
    learn, unseen = (find_sources(str(star)) for star in (job.learn, job.unseen))
    small = out / "small"
    small.mkdir(parents=True, exist_ok=True)
    common = ("-j", str(threads))

    def preprocess(sources: list[Any]) -> float:
        files = [str(source.path) for source in sources]
        return timed(
            [str(program), "preprocess", "-s", str(SCALE), *common, "-o", str(small), *files]
        )

    def shrunk(source: Any) -> Path:
        return small / f"{source.path.stem}.mrc"

    seconds = preprocess(learn)
    preprocess(unseen)
    images, targets = out / "images.txt", out / "targets.txt"
    rows = "".join(f"{s.path.stem}\t{shrunk(s)}\n" for s in learn)
    images.write_text("image_name\tpath\n" + rows)
    labels = read_picks(job.labels)
    rounded = [
        (Path(name).stem, *(int(v) for v in xy.round()))
        for name, xy in zip(labels.names(), labels.xy_px / SCALE, strict=True)
    ]
    write_table(targets, rounded)
    pixels = sum(shrunk(source).stat().st_size for source in learn) / 4
    positive, labelled = job.expected * len(learn) * DISC, len(labels) * DISC
    wanted = (positive - labelled) / (pixels - labelled)
    pi = wanted + len(labels) * ITS_DISC / pixels
    command = [str(program), "train", "-m", "conv31", "--no-pretrained", "-d", "-1", *common]
    command += ["--train-images", str(images), "--train-targets", str(targets)]
    command += ["-r", str(RADIUS), "--pi", f"{pi:.6f}", "--save-prefix", str(out / "model")]
    began = time.time()
    train = timed([*command, "-o", str(out / "curve.txt")], 60 * minutes)
    epochs = []
    for model in sorted(out.glob("model_epoch*.sav"), key=lambda p: p.stat().st_mtime):
        picks = out / f"{model.stem}.txt"
        extract = [str(program), "extract", "-m", str(model), "-d", "-1", *common]
        extract += ["-r", str(round(job.diameter / 2 / job.pixel / SCALE)), "-x", str(SCALE)]
        timed([*extract, "-o", str(picks), *(str(shrunk(s)) for s in unseen)])
        after = seconds + model.stat().st_mtime - began
        epochs.append({"epoch": model.stem, "seconds": after, **judge(job, picks)})
    return {"pi": pi, "preprocess": seconds, "train": train, "epochs": epochs}


def run_heliodor(job: Job, out: Path, threads: int, recipe: str, seed: int) -> dict[str, Any]:
    """Train with a recipe's defaults, as one process, and pick with the model."""
    train = [*HELIODOR, "train", "--micrographs", str(job.learn), "--labels", str(job.labels)]
    train += ["--diameter", str(job.diameter), "--expected-particles", str(job.expected)]
    train += ["--recipe", recipe, "--seed", str(seed)]
    common = ["--threads", str(threads), "-o", str(out)]
    seconds = timed([*train, *common])
    pick = [*HELIODOR, "pick", "--model", str(out / "model.safetensors")]
    timed([*pick, "--micrographs", str(job.unseen), *common])
    return {"seconds": seconds, "seed": seed, **judge(job, out / "picks.tsv")}


def timed(command: list[str], most: float | None = None) -> float:
    """Run a command to its end, or until its time is over, and return its seconds."""
    began = time.perf_counter()
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=most)
    except subprocess.TimeoutExpired:
        print(f"stopped after {most:.0f} s: {' '.join(command[:2])}")
    return time.perf_counter() - began


def kept(path: Path, compute: Any, *arguments: Any) -> dict[str, Any]:
    """Return a result of an earlier run, or compute and keep it."""
    if not path.exists():
        result = compute(*arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1))
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "out" / "time_to_accuracy"
    )
    parser.add_argument("--only", choices=["topaz", "heliodor"], help="one program")
    parser.add_argument("--data", choices=["stick", "betagal"], help="one data set")
    parser.add_argument("--cpu", type=int, nargs="+", help="run on these CPUs alone")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="limit of the training of Topaz [30]"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of heliodor: 0, 1, ... [3]")
    parser.add_argument("--recipes", nargs="+", default=["fast", "quick"], help="of heliodor")
    options = parser.parse_args()
    if options.cpu:
        os.sched_setaffinity(0, options.cpu)
    threads = len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    out = options.out.absolute()
    for make in (stick, betagal):
        if options.data not in (None, make.__name__):
            continue
        if make is betagal and not (DATA / "betagal").is_dir():
            print(f"no {DATA / 'betagal'}: skipped (set HELIODOR_DATA)")
            continue
        job = make(out / make.__name__)
        name = f"{job.name}_{threads}threads"
        if options.only != "heliodor":
            arguments = (job, out / job.name / f"topaz_{threads}", install(out / "topaz"), threads)
            kept_in = out / f"{name}_topaz.json"
            done = kept(kept_in, run_topaz, *arguments, options.minutes)
            for epoch in done["epochs"]:
                print(f"{name} topaz {line(epoch)}", flush=True)
        if options.only == "topaz":
            continue
        for recipe in options.recipes:
            for seed in range(options.seeds):
                folder = out / job.name / f"heliodor_{threads}_{recipe}_{seed}"
                kept_in = out / f"{name}_heliodor_{recipe}_{seed}.json"
                done = kept(kept_in, run_heliodor, job, folder, threads, recipe, seed)
                print(f"{name} heliodor {recipe} seed {seed} {line(done)}", flush=True)


def line(result: dict[str, Any]) -> str:
    return f"{result['seconds']:8.1f} s  AP {result['ap']:.3f}  best F1 {result['best_f1']:.3f}"


if __name__ == "__main__":
    main()
