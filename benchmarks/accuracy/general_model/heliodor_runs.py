"""Picking with the general model of heliodor, unchanged and fine-tuned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.accuracy.general_model.data import (
    HELIODOR,
    PIXEL,
    SEED,
    Task,
    average_precision,
)
from benchmarks.accuracy.general_model.topaz_runs import Spent, spent
from matplotlib.image import imread

from heliodor.data.coordinates.formats import read_picks

#: Micrographs of 1024 x 1024 pixels at 4 A: 0.168 square micrometres each.
EMPTY, SIDE = 12, 1024
AREA_UM2 = (SIDE * PIXEL * 1e-4) ** 2
#: What there is on micrographs without particles, as `simulate` is told.
KINDS = {"ice": "0", "carbon": "0,carbon=4", "crystals": "0,crystals=4"}
#: Nobody tells how large a particle is that is not there.
DIAMETERS = (120, 180, 250)


@dataclass(frozen=True)
class General:
    """The general model: the shipped one, or that of a file."""

    file: Path | None

    @property
    def name(self) -> str:
        """Return what its results are kept under."""
        if self.file is None:
            return "shipped"
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]

    @property
    def picking(self) -> list[str]:
        """Return what names it to `pick`."""
        return [] if self.file is None else ["--model", str(self.file)]

    @property
    def start(self) -> str:
        """Return what names it to `train --from`."""
        return "general" if self.file is None else str(self.file)


def pick(micrographs: Path, out: Path, *more: str) -> Spent:
    command = [*HELIODOR, "pick", "--micrographs", str(micrographs), "-o", str(out)]
    return spent([*command, "--device", "cpu", "--threads", "1", *more])


def as_shipped(task: Task, general: General, out: Path) -> dict[str, Any]:
    """Pick with nothing but the diameter."""
    took = pick(task.unseen, out, *general.picking, "--diameter", f"{task.diameter:g}")
    return {
        "ap": average_precision(task, out / "picks.tsv"),
        "candidates": len(read_picks(out / "picks.tsv", candidates=True)),
        "picks": len(read_picks(out / "picks.tsv")),
        "truth": sum(_true_counts(task)), "seconds": took.wall, "cpu": took.cpu,
    }  # fmt: skip


def trained(
    task: Task, labels: Path, start: str, seed: int, out: Path, effort: str = "normal"
) -> dict[str, Any]:
    """Train from a model, or from scratch, with the defaults; seconds are those of training."""
    command = [*HELIODOR, "train", "--micrographs", str(task.learn), "--labels", str(labels)]
    command += ["--diameter", f"{task.diameter:g}", "--from", start, "--seed", str(seed)]
    command += ["--effort", effort]
    took = spent([*command, "--device", "cpu", "--threads", "1", "-o", str(out)])
    pick(task.unseen, out / "unseen", "--model", str(out / "model.safetensors"))
    return {
        "ap": average_precision(task, out / "unseen" / "picks.tsv"),
        "labels": len(read_picks(labels)), "seconds": took.wall, "cpu": took.cpu,
    }  # fmt: skip


def without_particles(kind: str, out: Path) -> Path:
    """Make, or find again, micrographs without particles."""
    folder = out / "without_particles" / kind
    if not (folder / "micrographs.star").exists():
        seed = SEED + 50 + list(KINDS).index(kind)
        command = [*HELIODOR, "simulate", str(folder), "--particles", "0", "--seed", str(seed)]
        spent([*command, "--count", str(EMPTY), "--contaminants", KINDS[kind], "--masks"])
    return folder / "micrographs.star"


def false_picks(kind: str, general: General, bad_areas: str, out: Path, data: Path) -> Any:
    """Count the picks at the automatic threshold where no particle is, for each diameter.

    Those whose center is on carbon or a crystal are counted once more, by themselves.
    """
    micrographs = without_particles(kind, data)
    masks = {p.stem: imread(p) > 0 for p in (micrographs.parent / "masks").glob("*.png")}
    counts, bad = {}, {}
    for diameter in DIAMETERS:
        folder = out / f"{kind}_{bad_areas}_{diameter}"
        more = ["--diameter", str(diameter), "--bad-areas", bad_areas]
        pick(micrographs, folder, *general.picking, *more)
        table = read_picks(folder / "picks.tsv")
        counts[str(diameter)], bad[str(diameter)] = len(table), 0
        for name, own in table.split_by_micrograph():
            columns, rows = np.clip(np.rint(own.xy_px).astype(int), 0, SIDE - 1).T
            bad[str(diameter)] += int(masks[Path(name).stem][rows, columns].sum())
    return {
        "picks": counts, "on_bad": bad, "area_um2": len(masks) * AREA_UM2,
        "bad_um2": AREA_UM2 * float(sum(mask.mean() for mask in masks.values())),
    }  # fmt: skip


def _true_counts(task: Task) -> list[int]:
    stems = {source.path.stem for source in task.sources("unseen")}
    by_name = read_picks(task.truth).split_by_micrograph()
    return [len(own) for name, own in by_name if Path(name).stem in stems]


def median(results: list[dict[str, Any]], what: str) -> float:
    return float(np.median([result[what] for result in results]))
