"""Data of `run.py`: simulated particles and beta-galactosidase."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.time_to_accuracy import write_table

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.star import write_blocks
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.simulation.builtin_particles import PARTICLES
from heliodor.simulation.dataset import choose_labels

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
LEARN, UNSEEN = 8, 6
#: Sizes of the labeled parts: each holds the smaller ones.
LABELS = (10, 30, 200)
#: The first of the seeds; no other benchmark uses those from here on.
SEED = 300
PIXEL = 4.0


@dataclass(frozen=True)
class Task:
    """A data set: what to learn from and what to judge on."""

    name: str
    learn: Path
    """STAR of the micrographs that labels lie on."""
    unseen: Path
    truth: Path
    """Every particle of the unseen ones."""
    diameter: float
    """Angstrom."""
    pixel: float
    """Angstrom."""
    expected: float
    """Particles a micrograph to learn from, on average."""

    def sources(self, part: str) -> list[Source]:
        """Return the micrographs of the part `learn` or `unseen`."""
        return find_sources(str(self.learn if part == "learn" else self.unseen))

    def labels(self, number: int) -> Path:
        """Return where the first `number` labels of simulated micrographs are."""
        return self.learn.parent / f"labels_{number}.star"


def simulated(out: Path, name: str, snr: float | None = None) -> Task:
    """Make, or find again, the micrographs of a particle, and its labels.

    A folder holds those of one signal-to-noise ratio; None: the usual one.
    """
    seed = SEED + 2 * list(PARTICLES).index(name)
    learn, unseen = out / name / "learn", out / name / "unseen"
    for folder, count, own in ((learn, LEARN, seed), (unseen, UNSEEN, seed + 1)):
        if not (folder / "micrographs.star").exists():
            extra = ["--count", str(count), "--labels", str(max(LABELS)), "--seed", str(own)]
            extra += [] if snr is None else ["--snr", f"{snr:g}"]
            subprocess.run(
                [*HELIODOR, "simulate", str(folder), "--particle", name, *extra],
                check=True, capture_output=True,
            )  # fmt: skip
    truth = read_picks(learn / "truth.star")
    every = [(name, table.xy_px) for name, table in truth.split_by_micrograph()]
    for number in LABELS:
        chosen = choose_labels([len(xy) for _, xy in every], number, seed)
        rows = [(every[image][0], *every[image][1][row].tolist()) for image, row in chosen]
        names = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        write_blocks(learn / f"labels_{number}.star", {"particles": columns})
    # The largest part is what the command itself has written.
    written, again = (read_picks(learn / f) for f in ("labels.star", f"labels_{max(LABELS)}.star"))
    if written.names() != again.names() or abs(written.xy_px - again.xy_px).max() > 0.01:
        raise SystemExit(f"the labels of {learn} are not those that `simulate` chooses")
    stars = [folder / "micrographs.star" for folder in (learn, unseen)]
    diameter = PARTICLES[name].diameter_angstrom
    return Task(
        name, stars[0], stars[1], unseen / "truth.star", diameter, PIXEL, len(truth) / LEARN
    )


def betagal(out: Path, labels: int = 1000) -> Task | None:
    """Return the real micrographs with a thousand of their hand picks; None without the data."""
    folder = DATA / "betagal"
    if not folder.is_dir():
        print(f"no {folder}: skipped (set HELIODOR_DATA)")
        return None
    names = {source.name for source in find_sources(str(folder / "train.star"))}
    picks = read_picks(folder / "manual_positive.star")
    rows = [i for i, name in enumerate(picks.names()) if name in names]
    chosen = sorted(random.Random(SEED).sample(rows, labels))
    where = out / "betagal" / f"labels_{labels}.tsv"
    where.parent.mkdir(parents=True, exist_ok=True)
    write_table(where, ((picks.names()[i], *picks.xy_px[i]) for i in chosen))
    learn, unseen = (folder / f"{part}.star" for part in ("train", "test"))
    return Task("betagal", learn, unseen, folder / "dense.star", 180.0, 3.54, 640.0)


def average_precision(task: Task, picks: Path) -> float:
    """Judge every candidate, ranked by score, against the truth of the unseen micrographs."""
    stems = {source.path.stem for source in task.sources("unseen")}
    found = {
        Path(n).stem: own for n, own in read_picks(picks, candidates=True).split_by_micrograph()
    }
    every = {Path(n).stem: own.xy_px for n, own in read_picks(task.truth).split_by_micrograph()}
    if missing := stems - every.keys():
        raise SystemExit(f"no truth for {', '.join(sorted(missing))} in {task.truth}")
    truth = {stem: every[stem] for stem in sorted(stems)}
    ranked = {stem: (own.xy_px, own.score) for stem, own in found.items() if stem in stems}
    distance = MATCH_FRACTION * task.diameter / task.pixel
    return evaluate_picks(ranked, truth, distance).micro.average_precision
