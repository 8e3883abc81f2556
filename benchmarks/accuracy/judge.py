"""Is `heliodor judge` right about picks whose truth is known? Needs RELION.

    python -m benchmarks.accuracy.judge FOLDER [--parts shares maps picker] [--count 20]
        [--particles barrel] [--snr 0.05] [--image-px 40] [--without-relion]

shares  known particles with random positions among them, in four bins of scores with shares of
        0, 1/3, 1/2 and 1 of these: the shares that `judge --quick` says; for each of --particles
maps    all known particles against a random half of them, against all with half as many random
        positions: resolution and area under the FSC, with their scatter
picker  picks of the general model without labels, with a threshold series: the false share of each
        set, and F1 at the threshold recommended by the classes against the best F1 of the series;
        for each of --particles

Random positions are at least 0.6 diameters from any particle. Micrographs are simulated without
contaminants, with 100 particles each for the barrel. What is there in FOLDER is used again.
With --without-relion, the parts shares and picker are done as where there is no RELION.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
from benchmarks.common.tables import markdown
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.relion_star import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.reconstruction.particles import choose_box_px
from heliodor.simulation.builtin_particles import PARTICLES

HELIODOR = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
#: Pixels of the micrographs: their side, and their size in angstrom.
SIDE, PIXEL = 1024, 4.0
#: Of the particle's diameter: no random position is nearer to a particle.
CLEAR = 0.6
#: Point groups of the built-in particles, as RELION names them.
SYMMETRY = {"barrel": "D7", "ribosome": "C1", "trimer": "C3", "shell": "O", "stick": "C1"}
#: Particles and random positions in each bin of the part `shares`, per micrograph.
BINS = ((30, 0), (30, 15), (25, 25), (0, 25))


#: Set to a folder without programs by --without-relion.
PATH = os.environ.get("PATH", "")


def heliodor(*words: object) -> None:
    subprocess.run([*HELIODOR, *map(str, words)], check=True, env=os.environ | {"PATH": PATH})


def simulate(folder: Path, particle: str, count: int, snr: float) -> Path:
    """Simulate micrographs, unless they are there, and return their folder."""
    if not (folder / "truth.star").exists():
        number = ("--particles", 100) if particle == "barrel" else ()
        heliodor("simulate", folder, "--particle", particle, "--count", count, *number,
                 "--snr", snr, "--contaminants", 0, "--seed", 1)  # fmt: skip
    return folder


def judge(picks: Path, data: Path, out: Path, *words: object) -> dict:
    """Judge picks, and return what the record says."""
    heliodor("judge", picks, "--micrographs", data / "micrographs.star", "-o", out, *words)
    return json.loads((out / "judge.json").read_text())["judgement"]


def truth_of(data: Path, diameter: float) -> dict[str, np.ndarray]:
    """Return the true centers by micrograph whose boxes are whole, as those that are judged."""
    box = choose_box_px(diameter, PIXEL)
    tables = read_picks(data / "truth.star").split_by_micrograph()
    found = {name: own.xy_px for name, own in tables}
    whole = {name: mask_whole_boxes(np.floor(xy + 0.5), (SIDE, SIDE), box)
             for name, xy in found.items()}  # fmt: skip
    return {name: xy[whole[name]] for name, xy in found.items()}


def draw_random(truth: np.ndarray, number: int, diameter: float, rng: np.random.Generator):
    """Return random positions with whole boxes that are far from particles."""
    margin = choose_box_px(diameter, PIXEL) / 2
    drawn = rng.uniform(margin, SIDE - margin, size=(200 * number, 2))
    return drawn[KDTree(truth).query(drawn)[0] >= CLEAR * diameter / PIXEL][:number]


def write_set(path: Path, parts: list[tuple[str, np.ndarray, float]]) -> Path:
    """Write positions with the score of each part."""
    picks = Picks.concatenate(
        Picks.on(name, xy, np.full(len(xy), score)) for name, xy, score in parts
    )
    write_picks(path, picks)
    return path


def measure_shares(folder: Path, particle: str, count: int, snr: float, image: list) -> None:
    """Mix known particles with random positions, and see what share is found."""
    data = simulate(folder / f"{particle}-{snr:g}", particle, count, snr)
    diameter, rng, parts = PARTICLES[particle].diameter_angstrom, np.random.default_rng(5), []
    for name, xy in truth_of(data, diameter).items():
        xy = rng.permutation(xy)
        random = draw_random(xy, sum(n for _, n in BINS), diameter, rng)
        used = [0, 0]
        for score, numbers in zip((4.0, 3.0, 2.0, 1.0), BINS, strict=True):
            for place, (source, number) in enumerate(zip((xy, random), numbers, strict=True)):
                own = source[used[place] : used[place] + number]
                parts.append((name, own, score))
                used[place] += len(own)
    name = "shares" if particle == "barrel" else f"shares-{particle}"
    picks = write_set(folder / f"{name}.star", parts)
    found = judge(picks, data, folder / name, "--quick", "--diameter", diameter,
                  "--thresholds", "4,3,2,1", *image)  # fmt: skip
    rows = []
    print(f"{particle}, SNR {snr:g}")
    for numbers, each in zip(BINS, found["bins"], strict=True):
        true = numbers[1] / sum(numbers)
        share = each["junk"]["value"]
        rows.append([f"{true:.2f}", f"{each['picks']}", f"{share:.3f}",
                     f"{each['junk']['error']:.3f}", f"{share - true:+.3f}"])  # fmt: skip
    print(markdown(("true share", "picks", "said", "standard error", "difference"), rows))


def write_reference(path: Path, particle: str, voxel: float, side: int) -> Path:
    """Write the particle as a map, filtered with a Gaussian of 8 Å, unless it is there."""
    if path.exists():
        return path
    blobs = PARTICLES[particle].blobs
    edges = [(np.arange(side + 1) - side // 2 - 0.5) * voxel] * 3
    grid, _ = np.histogramdd(blobs.positions[:, ::-1], edges, weights=blobs.weights)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(gaussian_filter(grid, 8.0 / voxel).astype(np.float32))
        mrc.voxel_size = voxel
    return path


def measure_maps(folder: Path, count: int, snr: float, image_px: int) -> None:
    """Refine all particles, half of them, and all with random positions among them."""
    data = simulate(folder / f"barrel-{snr:g}", "barrel", count, snr)
    diameter, rng = PARTICLES["barrel"].diameter_angstrom, np.random.default_rng(6)
    reference = write_reference(folder / "reference.mrc", "barrel", PIXEL, 64)
    sets: dict[str, list[tuple[str, np.ndarray, float]]] = {}
    for name, xy in truth_of(data, diameter).items():
        xy = rng.permutation(xy)
        random = draw_random(xy, len(xy) // 2, diameter, rng)
        half = (name, xy[: len(xy) // 2], 2.0)
        # The scores make nested sets: half, all, and all with false ones.
        parts = [half, (name, xy[len(xy) // 2 :], 1.0), (name, random, 0.0)]
        sets.setdefault("nested", []).extend(parts)
    picks = write_set(folder / "nested.star", sets["nested"])
    found = judge(picks, data, folder / "maps", "--diameter", diameter, "--thresholds", "2,1,0",
                  "--reference", reference, "--symmetry", SYMMETRY["barrel"],
                  "--image-px", image_px)  # fmt: skip
    rows = []
    for name, one in zip(("half", "all", "all + 50% false"), found["sets"], strict=True):
        resolution, area = (np.array(one["maps"][k]) for k in ("resolution_angstrom", "area"))
        rows.append([name, f"{one['picks']}", f"{one['false_share']:.2f}",
                     f"{resolution.mean():.2f} ± {resolution.std(ddof=1):.2f}",
                     f"{area.mean():.4f} ± {area.std(ddof=1):.4f}",
                     f"{one['maps']['offset_angstrom']:.1f}"])  # fmt: skip
    head = ("set", "picks", "false share said", "resolution Å", "area", "median offset Å")
    print(markdown(head, rows))
    print(f"recommended: {found['by_maps']}; by classes: {found['by_classes']}")


def measure_picker(folder: Path, particle: str, count: int, snr: float, image: list) -> None:
    """Judge picks of the general model, and compare with the truth."""
    data = simulate(folder / f"{particle}-{snr:g}", particle, count, snr)
    diameter = PARTICLES[particle].diameter_angstrom
    picks = folder / f"picks-{particle}-{snr:g}"
    if not (picks / "run.json").exists():
        heliodor("pick", data / "micrographs.star", "--diameter", diameter,
                 "--threshold-series", 8, "-o", picks)  # fmt: skip
    found = judge(picks, data, folder / f"judge-{particle}-{snr:g}", "--quick", *image)
    candidates = dict(read_picks(picks, candidates=True).split_by_micrograph())
    truth, box = truth_of(data, diameter), choose_box_px(diameter, PIXEL)
    scores, hits = [], []
    for name, xy in truth.items():
        own = candidates[name]
        whole = mask_whole_boxes(np.floor(own.xy_px + 0.5), (SIDE, SIDE), box)
        own = own.select(whole)
        own = own.select(np.argsort(-own.score, kind="stable"))
        matched = match_picks(own.xy_px, xy, MATCH_FRACTION * diameter / PIXEL)
        scores.append(own.score)
        hits.append(matched.is_true_positive)
    score, hit = np.concatenate(scores), np.concatenate(hits)
    total = sum(map(len, truth.values()))

    def f1(threshold: float) -> float:
        chosen = score >= threshold
        return 2 * hit[chosen].sum() / (chosen.sum() + total)

    rows = []
    for one in found["sets"]:
        chosen = score >= one["threshold"]
        rows.append([f"{one['threshold']:.2f}", f"{one['picks']}", f"{1 - hit[chosen].mean():.3f}",
                     f"{one['false_share']:.3f}", f"{f1(one['threshold']):.3f}"])  # fmt: skip
    print(f"{particle}, SNR {snr:g}")
    print(markdown(("threshold", "picks", "false", "said", "F1"), rows))
    best = max(f1(threshold) for threshold in np.unique(score))
    chosen = f1(found["by_classes"]["threshold"])
    print(f"F1 at the recommended threshold {chosen:.3f}, best {best:.3f}: {chosen / best:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parts = ("shares", "maps", "picker")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--particles", nargs="+", choices=SYMMETRY, default=["barrel"])
    parser.add_argument("--snr", type=float, default=0.05)
    parser.add_argument("--image-px", type=int, default=40)
    parser.add_argument("--without-relion", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    image = ["--image-px", given.image_px]
    if given.without_relion:
        global PATH
        PATH, image = str(given.folder), []
    if "shares" in given.parts:
        for particle in given.particles:
            measure_shares(given.folder, particle, given.count, given.snr, image)
    if "maps" in given.parts:
        measure_maps(given.folder, given.count, given.snr, given.image_px)
    if "picker" in given.parts:
        for particle in given.particles:
            measure_picker(given.folder, particle, given.count, given.snr, image)


if __name__ == "__main__":
    main()
