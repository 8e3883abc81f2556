"""Training with few labels, and with negatives: whole processes, several seeds.

    python -m benchmarks.accuracy.few_labels [few] [negatives] [--out FOLDER]

Study, 2026-11.

few: ten labeled particles of simulated `barrel`, five draws.
negatives: beta-galactosidase with and without its 625 hand-marked negatives; AP, best F1, and the
precision at the same recall. Skipped where the data are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.accuracy.main_job import (
    DATA,
    ROOT,
    heliodor,
)

BETAGAL = DATA / "betagal"
BARREL = ("--diameter", "150", "--expected-particles", "119")
GALACTOSIDASE = ("--diameter", "180", "--expected-particles", "640")


def simulate(folder: Path, count: int, labels: int, seed: int) -> Path:
    if not (folder / "truth.star").exists():
        options = ("--count", str(count), "--labels", str(labels), "--seed", str(seed))
        heliodor("simulate", str(folder), "--particle", "barrel", *options)
    return folder


def train(out: Path, *words: str) -> float:
    """Train as one process, without picking, and return its seconds."""
    return heliodor("train", *words, "-o", str(out))


def judge(out: Path, unseen: Path, truth: Path, distance: float) -> dict[str, Any]:
    """Pick with the model of a folder and compare with the truth."""
    model = ("--model", str(out / "model.safetensors"))
    heliodor("pick", *model, "--micrographs", str(unseen), "-o", str(out))
    command = [
        sys.executable,
        "-c",
        "from heliodor.cli.main import main; main()",
        "evaluate",
        "--json",
    ]
    command += ["--picks", str(out / "picks.tsv"), "--truth", str(truth)]
    command += ["--match-distance", str(distance), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    figures = json.loads((out / "evaluation.json").read_text())
    return {"ap": figures["micro"]["average_precision"], "best_f1": figures["best_f1"]}


def precision_at(out: Path, recall: float) -> float:
    """Return the precision at the first threshold that reaches a recall."""
    lines = (out / "curve.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    for line in lines[1:]:
        row = dict(zip(names, map(float, line.split("\t")), strict=True))
        if row["recall"] >= recall:
            return row["precision"]
    return 0.0


def few(out: Path, seeds: int) -> None:
    unseen = simulate(out / "barrel_unseen", 6, 0, 1000)
    found = []
    for seed in range(max(5, seeds)):
        data = simulate(out / f"barrel_ten_{seed}", 10, 10, seed)
        folder = out / f"few_{seed}"
        words = ("--micrographs", str(data / "micrographs.star"))
        words += ("--labels", str(data / "labels.star"), *BARREL, "--seed", str(seed))
        seconds = train(folder, *words)
        result = judge(folder, unseen / "micrographs.star", unseen / "truth.star", 60)
        found.append(result["ap"])
        print(f"ten labels, draw {seed}: {line(result)}, {seconds:.1f} s", flush=True)
    print(f"ten labels, median AP {statistics.median(found):.3f}")


def negatives(out: Path, seeds: int) -> None:
    if not BETAGAL.is_dir():
        print(f"no {BETAGAL}: skipped (set HELIODOR_DATA)")
        return
    words = ("--micrographs", str(BETAGAL / "train.star"), *GALACTOSIDASE)
    words += ("--labels", str(BETAGAL / "manual_positive.star"))
    rows = []
    for seed in range(seeds):
        results = []
        for name, more in (
            ("without", ()),
            ("with", ("--negatives", str(BETAGAL / "manual_negative.star"))),
        ):
            folder = out / f"betagal_{name}_{seed}"
            seconds = train(folder, *words, *more, "--seed", str(seed))
            result = judge(folder, BETAGAL / "test.star", BETAGAL / "dense.star", 70)
            result |= {f"p{r}": precision_at(folder, r / 100) for r in (70, 80, 90)}
            results.append(result)
            told = " ".join(f"{key} {value:.3f}" for key, value in result.items())
            print(f"betagal {name} negatives, seed {seed}: {told}, {seconds:.1f} s", flush=True)
        rows.append({key: results[1][key] - results[0][key] for key in results[0]})
    means = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
    print("negatives change " + " ".join(f"{key} {value:+.4f}" for key, value in means.items()))


def line(result: dict[str, Any]) -> str:
    return f"AP {result['ap']:.3f} best F1 {result['best_f1']:.3f}"


def main() -> None:
    jobs = {"few": few, "negatives": negatives}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "jobs", nargs="*", default=[*jobs], choices=[*jobs], help="what to run [all]"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "out" / "learning",
        help="folder for data and results",
    )
    parser.add_argument("--seeds", type=int, default=3, help="of each job; few has five at least")
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(os.sched_getaffinity(0))} CPUs")
    for name in options.jobs:
        jobs[name](out, options.seeds)


if __name__ == "__main__":
    main()
