"""What contamination masks cost and save: accuracy on real sets, false picks on simulated ones.

    python -m benchmarks.accuracy.contamination FOLDER [--parts real simulated] [--split test]
        [--kinds carbon crystals] [--count 6]

real       the general model without labels on each real set (skipped where the data are missing):
           average precision of all candidates, matched within 0.4 of the diameter, with
           `--bad-areas keep` and `leave-out`, and the median and the largest contaminated share
simulated  particles with carbon or ice crystals at level 4 and no other contaminants: false picks
           whose center is on them, and true picks anywhere, at equal thresholds

Micrographs are kept in FOLDER and made once. The constants were chosen with `--split train` and
with `--seed 11`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.image import imread

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.batch import PickingResult
from heliodor.picking.score_maps import open_working_images
from heliodor.picking.settings import PickSettings
from heliodor.simulation.builtin_particles import PARTICLES
from heliodor.workflows.in_memory import pick_in_memory

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
#: Diameter in angstrom, coordinates, and pixel size in angstrom if the headers lack it.
REAL = {
    "apoferritin": (125.0, "truth.star", None),
    "betagal": (180.0, "dense.star", 3.54),
    "ribosome80s": (290.0, "truth.star", None),
    "trpv1": (140.0, "truth.star", None),
}
KINDS = {"carbon": "0,carbon=4", "crystals": "0,crystals=4"}
THRESHOLDS = (-2.0, -1.5, -1.0, -0.5)
HOW = ("keep", "leave-out")


class Truth(NamedTuple):
    """What is known of some micrographs."""

    micrographs: str
    #: Coordinates of the particles by the name of the micrograph, pixels.
    xy_px: dict[str, np.ndarray]
    diameter_angstrom: float
    pixel_size_angstrom: float | None


def pick(truth: Truth, bad_areas: str) -> PickingResult:
    """Pick with the general model; a threshold is given, so that none is estimated."""
    model = load_model_for_picking(None, truth.diameter_angstrom)
    images = open_working_images(model, truth.pixel_size_angstrom)
    settings = PickSettings(threshold=0.0, bad_areas=bad_areas)  # type: ignore[arg-type]
    return pick_in_memory(model, find_sources(truth.micrographs), images, settings)


def read_truth(micrographs: Path, file: Path, diameter: float, pixel: float | None) -> Truth:
    by_stem = {Path(n).stem: own.xy_px for n, own in read_picks(file).split_by_micrograph()}
    sources = find_sources(str(micrographs))
    xy = {s.name: by_stem.get(s.path.stem, np.zeros((0, 2))) for s in sources}
    return Truth(str(micrographs), xy, diameter, pixel)


def reach_px(truth: Truth, picked: PickingResult, name: str) -> float:
    size = picked.store.get(name).pixel_size_angstrom
    return MATCH_FRACTION * truth.diameter_angstrom / size


def average_precision(truth: Truth, picked: PickingResult) -> float:
    """Return the average precision of all candidates; all micrographs have one pixel size."""
    ranked = {name: (own.xy_px, own.score) for name, own in picked.tables()}
    distance = reach_px(truth, picked, picked.micrographs[0])
    wanted = {name: truth.xy_px[name] for name in ranked}
    return evaluate_picks(ranked, wanted, distance).micro.average_precision


def measure_real(split: str) -> None:
    print("\n| set | AP, keep | AP, leave-out | difference | contaminated, median (largest) |")
    print("|---|---|---|---|---|")
    for name, (diameter, file, pixel) in REAL.items():
        folder = DATA / name
        if not folder.is_dir():
            print(f"no {folder}: skipped (set HELIODOR_DATA)")
            continue
        truth = read_truth(folder / f"{split}.star", folder / file, diameter, pixel)
        results = {how: pick(truth, how) for how in HOW}
        keep, leave = (average_precision(truth, results[how]) for how in HOW)
        masked = results["leave-out"]
        found = [masked.store.get(n).contamination for n in masked.micrographs]
        shares = [0.0 if own is None else own.fraction for own in found]
        print(
            f"| {name}, {split} | {keep:.3f} | {leave:.3f} | {leave - keep:+.4f} |"
            f" {np.median(shares):.2f} ({max(shares):.2f}) |",
            flush=True,
        )


def simulate(folder: Path, particle: str, kind: str, count: int, seed: int) -> Path:
    """Make micrographs, or find them again."""
    own = folder / f"{particle}_{kind}_{count}_{seed}"
    if not (own / "micrographs.star").is_file():
        command = [*HELIODOR, "simulate", str(own), "--particle", particle, "--count", str(count)]
        more = ["--contaminants", KINDS[kind], "--masks", "--seed", str(seed)]
        subprocess.run([*command, *more], check=True, capture_output=True)
    return own


def count_picks(folder: Path, truth: Truth, picked: PickingResult) -> tuple[list[int], list[int]]:
    """Return the false picks on contaminants and the true picks at each threshold."""
    false, true = np.zeros(len(THRESHOLDS), int), np.zeros(len(THRESHOLDS), int)
    for name, own in picked.tables():
        mask = imread(folder / "masks" / f"{Path(name).stem}.png") > 0
        reach = reach_px(truth, picked, name)
        is_true = match_picks(own.xy_px, truth.xy_px[name], reach).is_true_positive
        false += _above(own, ~is_true & _lies_on(own, mask))
        true += _above(own, is_true)
    return false.tolist(), true.tolist()


def _lies_on(picks: Picks, mask: np.ndarray) -> np.ndarray:
    columns, rows = np.clip(np.rint(picks.xy_px).astype(int), 0, np.array(mask.shape[::-1]) - 1).T
    return np.asarray(mask[rows, columns])


def _above(picks: Picks, chosen: np.ndarray) -> list[int]:
    return [int(np.count_nonzero(chosen & (picks.score >= level))) for level in THRESHOLDS]


def measure_simulated(
    folder: Path, particles: Iterable[str], kinds: Iterable[str], count: int, seed: int
) -> None:
    levels = ", ".join(f"{level:g}" for level in THRESHOLDS)
    print(f"\nthresholds {levels}; {count} micrographs each, seed {seed}\n")
    print("| set | false picks on them, keep | leave-out | true picks, keep | leave-out |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        sums = {how: np.zeros((2, len(THRESHOLDS)), int) for how in HOW}
        for particle in particles:
            own = simulate(folder, particle, kind, count, seed)
            diameter = PARTICLES[particle].diameter_angstrom
            truth = read_truth(own / "micrographs.star", own / "truth.star", diameter, None)
            counts = {how: count_picks(own, truth, pick(truth, how)) for how in HOW}
            for how in HOW:
                sums[how] += np.array(counts[how])
            print(_row(f"{particle}, {kind}", counts), flush=True)
        print(_row(f"all, {kind}", {how: (*own.tolist(),) for how, own in sums.items()}))


def _row(name: str, counts: dict[str, tuple[list[int], list[int]]]) -> str:
    cells = [", ".join(map(str, counts[how][what])) for what in (0, 1) for how in HOW]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="keeps the simulated micrographs")
    parts = ("real", "simulated")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="[both]")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="[test]")
    particles = ["trimer", "shell", "barrel"]
    parser.add_argument("--particles", nargs="+", choices=list(PARTICLES), default=particles)
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="[all]"
    )
    parser.add_argument("--count", type=int, default=6, help="micrographs of each kind [6]")
    parser.add_argument("--seed", type=int, default=500, help="[500]")
    options = parser.parse_args()
    if "real" in options.parts:
        measure_real(options.split)
    if "simulated" in options.parts:
        measure_simulated(
            options.folder, options.particles, options.kinds, options.count, options.seed
        )


if __name__ == "__main__":
    main()
