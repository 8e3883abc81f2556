"""Picking with the pretrained networks of Topaz, unchanged and trained further."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.general_model.data import Task, average_precision
from benchmarks.accuracy.time_to_accuracy import (
    DISC,
    ITS_DISC,
    RADIUS,
    kept,
    write_table,
)

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import read_micrograph

#: Below any score: every place that is no neighbor of a better one is a candidate.
LOWEST = "-1000"
#: Larger images are scored in parts of this many pixels; its scores are the same.
PART = 512


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and those in which the processor worked for it.

    Where other programs want the same processor, only the second says what a program needs.
    """

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def spent(command: list[str]) -> Spent:
    """Run a command on one thread, and say how long it took."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.perf_counter() - began, used)


def shrink(task: Task, part: str, scale: int, out: Path, topaz: Path) -> tuple[list[Path], Spent]:
    """Preprocess the micrographs of a part as its authors say, `scale` times smaller."""
    folder = out / f"{part}_{scale}"
    folder.mkdir(parents=True, exist_ok=True)
    sources = task.sources(part)
    made = [folder / f"{source.path.stem}.mrc" for source in sources]
    command = [str(topaz), "preprocess", "-s", str(scale), "-j", "1", "-o", str(folder)]
    command += [str(source.path) for source in sources]
    return made, Spent(**kept(folder / "spent.json", lambda: vars(spent(command))))


def extract(
    task: Task, images: list[Path], scale: int, picks: Path, topaz: Path, *more: str
) -> Spent:
    """Pick on preprocessed images; the radius is the particle's, as its authors advise."""
    radius = round(task.diameter / 2 / task.pixel / scale)
    command = [str(topaz), "extract", "-d", "-1", "-j", "1", "-r", str(radius), "-x", str(scale)]
    if max(read_micrograph(images[0]).image.shape) > PART:
        command += ["-p", str(PART)]
    return spent([*command, *more, "-o", str(picks), *map(str, images)])


def as_shipped(task: Task, scale: int, out: Path, topaz: Path) -> dict[str, Any]:
    """Pick with the model that it takes when none is named."""
    images, before = shrink(task, "unseen", scale, out, topaz)
    picks = out / f"shipped_{scale}.txt"
    took = before + extract(task, images, scale, picks, topaz, "-t", LOWEST)
    return {
        "pixel": task.pixel * scale, "ap": average_precision(task, picks),
        "candidates": len(read_picks(picks)), "seconds": took.wall, "cpu": took.cpu,
    }  # fmt: skip


def trained(
    task: Task, labels: int, updates: int, epochs: int, folder: Path, topaz: Path, scale: int = 2
) -> dict[str, Any]:
    """Train its default network from its shipped weights; judge it after each epoch.

    All is its default but the number of updates, and pi, which it would make seven times as
    large from the number of particles as it is: it is told the one that is right after what it
    subtracts. Seconds are those of preprocessing and training; those of an epoch, to its end.
    """
    out = folder / f"trained_{labels}_{updates * epochs}"
    out.mkdir(parents=True, exist_ok=True)
    learn, before = shrink(task, "learn", scale, folder, topaz)
    unseen, _ = shrink(task, "unseen", scale, folder, topaz)
    images, targets, prefix = out / "images.txt", out / f"targets_{labels}.txt", out / "model"
    rows = "".join(f"{path.stem}\t{path}\n" for path in learn)
    images.write_text("image_name\tpath\n" + rows)
    table = read_picks(task.labels(labels))
    places = (table.xy_px / scale).round()
    centres = zip(table.names(), places, strict=True)
    write_table(targets, ((Path(n).stem, int(x), int(y)) for n, (x, y) in centres))
    pixels = sum(read_micrograph(path).image.size for path in learn)
    positive, labelled = task.expected * len(learn) * DISC, len(table) * DISC
    pi = (positive - labelled) / (pixels - labelled) + len(table) * ITS_DISC / pixels
    command = [str(topaz), "train", "-d", "-1", "-j", "1", "-r", str(RADIUS), "--pi", f"{pi:.6f}"]
    command += ["--train-images", str(images), "--train-targets", str(targets)]
    command += ["--epoch-size", str(updates), "--num-epochs", str(epochs)]
    began = time.time()
    took = spent([*command, "--save-prefix", str(prefix), "-o", str(out / "curve.txt")])
    points = []
    for epoch in range(1, epochs + 1):
        # It writes as many digits as the last epoch needs.
        (model,) = (p for p in out.glob("model_epoch*.sav") if int(p.stem[11:]) == epoch)
        picks = out / f"{model.stem}.txt"
        extract(task, unseen, scale, picks, topaz, "-t", LOWEST, "-m", str(model))
        points.append(
            {
                "updates": epoch * updates,
                "ap": average_precision(task, picks),
                "seconds": model.stat().st_mtime - began + before.wall,
            }
        )
    total = before + took
    return {
        "labels": len(table), "pi": pi, "points": points,
        "seconds": total.wall, "cpu": total.cpu, "preprocess": before.wall,
        "seconds_an_update": took.wall / updates / epochs,
        "cpu_an_update": took.cpu / updates / epochs,
    }  # fmt: skip
