"""The paper's comparison of objectives (Results 4, Figure 5, Supplemental Figure 3).

    python -m benchmarks.accuracy.objectives.run --out FOLDER [--grid all] [--draws 10]
        [--workers 2]

Study, 2026-11; run it again when an objective changes. Trains with N labels drawn at random among
all true particles of the training micrographs, everything else unlabeled, and evaluates on other
micrographs whose truth is known. Every run leaves one JSON file in FOLDER/runs and is not computed
again, so the program can be stopped at any time and resumed. All settings get their first draw of
labels before any gets its second. `benchmarks.accuracy.objectives.report FOLDER` makes tables and
figures of the runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Before NumPy and PyTorch look: a process trains one network on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from benchmarks.accuracy.objectives.data import (
    DATASETS,
    judge,
    load,
)
from benchmarks.common.workers import carry_out_all

import heliodor
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.labels import LabeledImage, class_prior
from heliodor.errors import BadInput
from heliodor.training.loop import train_network
from heliodor.training.recipes import recipe
from heliodor.training.settings import TrainingSettings
from heliodor.utils.files import write_json

GRIDS = ("objectives", "autoencoder", "prior")
#: The grid of objectives; the numbers of labels are the paper's.
OBJECTIVES = ("pn", "nnpu", "ge-kl", "ge-binomial", "ge-binomial-exact")
LABELS = (10, 25, 50, 100, 250, 500, 1000)
#: The objective of the other two grids, and the numbers of labels of the grid of priors.
CHOSEN = "ge-binomial"
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)
PRIOR_LABELS = (100, 1000)


@dataclass(frozen=True)
class Run:
    """One training and what is judged of it."""

    dataset: str
    objective: str
    labels: int
    draw: int
    #: Weight of the autoencoder.
    gamma: float = 0.0
    #: The class prior is the true fraction times this.
    factor: float = 1.0
    recipe: str = "compared"
    #: None leaves these two to the recipe.
    updates: int | None = None
    width: int | None = None

    @property
    def name(self) -> str:
        """What the run's file is called; two runs never share it."""
        length = "" if self.updates is None else f"{self.updates}-updates_"
        width = "" if self.width is None else f"w{self.width}_"
        return (
            f"{self.dataset}_{self.objective}_n{self.labels}_gamma{self.gamma!r}"
            f"_pi{self.factor!r}_{self.recipe}_{length}{width}draw{self.draw}"
        )


#: What is trained alike with every objective: the paper's network at half its width and crops
#: drawn one by one, as the objectives assume, on the schedule that learns fast.
COMPARED: dict[str, Any] = {
    "network": "conv31",
    "width": 16,
    "side": 1,
    "batch": 256,
    "positives": 32,
    "near": 0.0,
    "epochs": 1,
    "epoch_updates": 400,
}


def settings_for(run: Run) -> TrainingSettings:
    """Return how to train; raises BadInput where the program cannot train so."""
    # Runs that are compared over draws start from the same weights as well.
    values: dict[str, Any] = {
        "objective": run.objective,
        "autoencoder": run.gamma,
        "seed": run.draw,
    }
    if run.recipe == "compared":
        values |= COMPARED
        name = "fast"
    else:
        name = run.recipe
    if run.updates is not None:
        values |= {"epochs": 1, "epoch_updates": run.updates}
    if run.width is not None:
        values["width"] = run.width
    return recipe(name, **values)


def draw_labels(
    truth: Sequence[FloatArray], name: str, labels: int, draw: int
) -> list[FloatArray]:
    """Choose particles at random among those of all micrographs.

    The choice depends on the data set, the number and the draw only: methods share it.
    """
    counts = [len(xy) for xy in truth]
    if labels > sum(counts):
        raise BadInput(f"{name} has {sum(counts)} particles to train on, fewer than {labels}")
    random = np.random.default_rng([zlib.crc32(name.encode()), labels, draw])
    chosen = np.zeros(sum(counts), dtype=bool)
    chosen[random.choice(len(chosen), labels, replace=False)] = True
    parts = np.split(chosen, np.cumsum(counts)[:-1])
    return [xy[own] for xy, own in zip(truth, parts, strict=True)]


def carry_out(run: Run, out: Path) -> dict[str, Any]:
    """Train and judge; return what is written of the run."""
    data = load(run.dataset, out)
    labels = draw_labels([i.xy_px for i in data.training], run.dataset, run.labels, run.draw)
    images = [LabeledImage(i.image, xy) for i, xy in zip(data.training, labels, strict=True)]
    expected = float(np.mean([len(i.xy_px) for i in data.training]))
    true_prior = class_prior(expected, images, data.radius_px)
    prior, settings = run.factor * true_prior, settings_for(run)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    trained = train_network(images, [], data.radius_px, prior, settings, "cpu")
    ended, cpu_ended = time.perf_counter(), time.process_time()
    figures = judge(trained.network, data)
    last = trained.history[-1]
    return {
        **asdict(run),
        "prior": prior,
        **{key: value if np.isfinite(value) else None for key, value in figures.items()},
        "training_seconds": round(ended - begun, 2),
        "judging_seconds": round(time.perf_counter() - ended, 2),
        # Of one thread: what the run takes where nothing else wants the processor.
        "training_cpu_seconds": round(cpu_ended - cpu_begun, 2),
        "judging_cpu_seconds": round(time.process_time() - cpu_ended, 2),
        "loss": last.loss,
        "mean_probability": last.mean_probability,
        "settings": asdict(settings),
        "versions": {"heliodor": heliodor.__version__, "torch": torch.__version__},
    }


def wanted_runs(options: argparse.Namespace) -> list[Run]:
    """Return the runs asked for, each once; the draws of labels come last."""

    def cells() -> Iterator[dict[str, Any]]:
        grids = (
            ("objectives", "autoencoder", "prior") if options.grid == "all" else (options.grid,)
        )
        for labels in options.labels:
            if "objectives" in grids:
                for objective in options.objectives:
                    yield {"objective": objective, "labels": labels}
            if "autoencoder" in grids:
                for gamma in (0.0, 1.0, 10 / labels):
                    yield {"objective": CHOSEN, "labels": labels, "gamma": gamma}
            if "prior" in grids and labels in PRIOR_LABELS:
                for factor in FACTORS:
                    yield {"objective": CHOSEN, "labels": labels, "factor": factor}

    common = {"recipe": options.recipe, "updates": options.updates, "width": options.width}
    runs = (
        Run(dataset=dataset, draw=draw, **cell, **common)
        for draw in range(options.draws)
        for dataset in options.datasets
        for cell in cells()
    )
    return list(dict.fromkeys(runs))


def attempt(run: Run, out: Path) -> str:
    """Carry a run out and write its file; return a line that tells what came of it."""
    try:
        result = carry_out(run, out)
        write_json(out / "runs" / f"{run.name}.json", result)
    except Exception as error:  # whatever it is, the other runs go on
        return f"FAILED {run.name}: {type(error).__name__}: {error}"
    return (
        f"{run.name}: region AP {result['region_ap'] or 0:.3f}, particle AP"
        f" {result['particle_ap'] or 0:.3f}, {result['training_seconds']:.0f} +"
        f" {result['judging_seconds']:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    runs, failed = [], 0
    for name in options.datasets:
        try:
            load(name, options.out)
        except BadInput as error:
            print(f"{name} is skipped: {error}", flush=True)
            options.datasets = [other for other in options.datasets if other != name]
    wanted = wanted_runs(options)
    for run in wanted:
        try:
            settings_for(run)
        except BadInput as error:
            failed += 1
            print(f"FAILED {run.name}: {error}", flush=True)
        else:
            if not (options.out / "runs" / f"{run.name}.json").exists():
                runs.append(run)
    there = len(wanted) - len(runs) - failed
    print(f"{len(wanted)} runs: {there} are there already, {len(runs)} to do", flush=True)
    number = 0

    def tell(line: str) -> None:
        nonlocal number, failed
        number, failed = number + 1, failed + line.startswith("FAILED")
        print(f"[{number}/{len(runs)}] {line}", flush=True)

    try:
        jobs = [partial(attempt, run, options.out) for run in runs]
        carry_out_all(jobs, options.workers, tell)
    except KeyboardInterrupt:
        print("stopped; call again to go on")
        return 130
    except BrokenProcessPool:
        print("a process was killed, for want of memory perhaps; call again to go on")
        return 1
    print(f"{failed} failed" if failed else "all done", flush=True)
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--datasets", default=[*DATASETS], choices=[*DATASETS], help="[all]", **listed
    )
    parser.add_argument("--objectives", default=[*OBJECTIVES], choices=[*OBJECTIVES], **listed)
    parser.add_argument("--labels", default=[*LABELS], type=int, nargs="+", metavar="N")
    parser.add_argument("--draws", type=int, default=10, help="draws 0 to K - 1 of labels")
    parser.add_argument("--grid", default="objectives", choices=[*GRIDS, "all"])
    parser.add_argument("--workers", type=int, default=1, help="processes, each of one thread")
    parser.add_argument("--updates", type=int, help="instead of the recipe's, for a trial")
    parser.add_argument(
        "--recipe", default="compared", help="how to train: compared, or a recipe of the program"
    )
    parser.add_argument("--width", type=int, help="of the network, instead of the recipe's")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
