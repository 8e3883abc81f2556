"""How few labels, how little time and what negatives do: whole processes, several seeds.

    python -m benchmarks.accuracy.few_labels [few] [interactive] [negatives] [cost] [--out FOLDER]

few: ten labelled particles of simulated `barrel`, five draws.
interactive: thirty labels on three micrographs; the quick recipe's time and AP against the AP of
the default one, on simulated `barrel` and on beta-galactosidase.
negatives: beta-galactosidase with and without its 625 hand-marked negatives; AP, best F1, and the
precision at the same recall.
cost: a training step with the exact GE-binomial against one with the Gaussian, turn by turn.
The parts on real data are skipped where these are not there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.accuracy.main_job import (
    DATA,
    ROOT,
    heliodor,
)

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.micrographs.sources import find_sources
from heliodor.training.learner import Learner
from heliodor.training.recipes import recipe

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


def interactive(out: Path, seeds: int) -> None:
    unseen = simulate(out / "barrel_unseen", 6, 0, 1000)
    for seed in range(seeds):
        data = simulate(out / f"barrel_thirty_{seed}", 3, 30, 50 + seed)
        words = ("--micrographs", str(data / "micrographs.star"))
        words += ("--labels", str(data / "labels.star"), *BARREL, "--seed", str(seed))
        compare(
            out, f"barrel_{seed}", words, unseen / "micrographs.star", unseen / "truth.star", 60
        )
    if BETAGAL.is_dir():
        for seed in range(seeds):
            names = [source.name for source in find_sources(str(BETAGAL / "train.star"))]
            chosen = random.Random(seed).sample(names, 3)
            labels = out / f"betagal_thirty_{seed}.tsv"
            write_labels(labels, chosen, 30, seed)
            words = ("--micrographs", *(str(BETAGAL / name) for name in chosen), "--labels")
            words += (str(labels), *GALACTOSIDASE, "--seed", str(seed), "--pixel-size", "3.54")
            truth = BETAGAL / "dense.star"
            compare(out, f"betagal_{seed}", words, BETAGAL / "test.star", truth, 70)


def compare(
    out: Path, name: str, words: tuple[str, ...], unseen: Path, truth: Path, distance: float
) -> None:
    quick, fast = out / f"{name}_quick", out / f"{name}_fast"
    seconds = train(quick, *words, "--recipe", "quick"), train(fast, *words)
    soon, late = (judge(folder, unseen, truth, distance) for folder in (quick, fast))
    print(
        f"thirty labels, {name}: quick {line(soon)} in {seconds[0]:.1f} s; default {line(late)} in"
        f" {seconds[1]:.1f} s; ratio of AP {soon['ap'] / late['ap']:.3f}",
        flush=True,
    )


def write_labels(path: Path, names: Iterable[str], number: int, seed: int) -> None:
    picks = read_picks(BETAGAL / "manual_positive.star")
    own = [i for i, name in enumerate(picks.names()) if name in set(names)]
    rows = sorted(random.Random(seed).sample(own, number))
    text = "".join(f"{picks.names()[i]}\t{picks.xy_px[i, 0]}\t{picks.xy_px[i, 1]}\n" for i in rows)
    path.write_text("image_name\tx_coord\ty_coord\n" + text)


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


def cost(out: Path, seeds: int) -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(512, 512)).astype(np.float32)
    images = [LabeledImage(image, random.uniform(20, 490, (100, 2)))]
    for name in ("conv31", "resnet8"):
        whole = recipe("paper", network=name, autoencoder=0.0)
        for settings in (whole, recipe("fast", network=name)):
            learners = [
                Learner(images, 3.0, 0.02, replace(settings, objective=objective), "cpu")
                for objective in ("ge-binomial", "ge-binomial-exact")
            ]
            optimizers = [torch.optim.AdamW(learner.parameters()) for learner in learners]
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(25):
                for learner, optimizer, own in zip(learners, optimizers, seconds, strict=True):
                    began = time.process_time()
                    optimizer.zero_grad()
                    learner.compute_cost().total.backward()
                    optimizer.step()
                    own.append(time.process_time() - began)
            gaussian, exact = (statistics.median(own[3:]) for own in seconds)
            print(
                f"{name}, width {settings.width}, {settings.batch} tiles of {settings.side}^2:"
                f" Gaussian {1e3 * gaussian:.1f} ms CPU, exact {1e3 * exact:.1f} ms CPU a step,"
                f" ratio {exact / gaussian:.3f}",
                flush=True,
            )


def line(result: dict[str, Any]) -> str:
    return f"AP {result['ap']:.3f} best F1 {result['best_f1']:.3f}"


def main() -> None:
    jobs = {"few": few, "interactive": interactive, "negatives": negatives, "cost": cost}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=[*jobs], choices=[*jobs])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "learning")
    parser.add_argument("--seeds", type=int, default=3, help="of each job; few has five at least")
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(os.sched_getaffinity(0))} CPUs")
    for name in options.jobs:
        jobs[name](out, options.seeds)


if __name__ == "__main__":
    main()
