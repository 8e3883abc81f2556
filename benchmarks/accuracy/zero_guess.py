"""The estimated number of particles, the automatic threshold, and the calibration.

    python -m benchmarks.accuracy.zero_guess [--folder FOLDER] [--only NAME ...] [--seed 7]
        [--start FACTOR] [--objective NAME]

Simulated data of all five particles at two noise levels and two densities, and beta-galactosidase
(skipped where the data are missing): 12 micrographs each, with 100 labels, and with ten easy ones
(the quarter of the strongest particles on the quarter of micrographs with the thinnest ice).
`heliodor run` gets micrographs, labels and the diameter only, and picks on all 12. Prints a row
per data set, and how many reach each target. Results in FOLDER are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.star import write_blocks
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.simulation.builtin_particles import PARTICLES
from heliodor.simulation.dataset import choose_labels
from heliodor.simulation.micrograph import simulate_layers
from heliodor.simulation.settings import SimulationSettings
from heliodor.utils.files import write_text

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
COUNT, LABELS, EASY = 12, 100, 10
#: Angstrom per pixel of the real data; the simulated have 4.
SIZES = {"betagal": 3.54}
NOISE, DENSITY = (0.12, 0.06), (0.5, 1.5)


def make(folder: Path, name: str, seed: int) -> None:
    """Write a data set's micrographs.star, truth.star, labels.star and easy.star."""
    if name == "betagal":
        return make_betagal(folder, seed)
    particle, snr, density = name.split("_")
    settings = SimulationSettings(particle=particle, snr=float(snr), count=COUNT, seed=seed)
    number = max(3, round(settings.particles_to_place * float(density)))
    settings = replace(settings, particles_per_micrograph=number)
    places, ease, thin, names = [], [], [], []
    (folder / "micrographs").mkdir(parents=True, exist_ok=True)
    for index in range(COUNT):
        layers = simulate_layers(settings, index)
        own = layers.micrograph
        names.append(f"micrographs/{particle}_{index:02d}.mrc")
        write_mrc(folder / names[-1], own.image, settings.pixel_size_angstrom)
        spread = settings.resolved_particle.diameter_angstrom / settings.pixel_size_angstrom / 2
        energy = gaussian_filter(layers.signal.astype(np.float32) ** 2, spread)
        places.append(own.xy_px)
        ease.append(_at(energy, own.xy_px))
        thin.append(float(np.median(layers.transmission)))
    labelled(folder, names, places, ease, thin, settings.pixel_size_angstrom, seed)
    (folder / "diameter").write_text(f"{settings.resolved_particle.diameter_angstrom:g}")


def make_betagal(folder: Path, seed: int) -> None:
    sources = [
        s for part in ("train", "test") for s in find_sources(str(DATA / f"betagal/{part}.star"))
    ]
    known = {
        Path(n).stem: own.xy_px
        for n, own in read_picks(DATA / "betagal/dense.star").split_by_micrograph()
    }
    places, ease, names, size = [], [], [], SIZES["betagal"]
    for source in sources:
        image = read_micrograph(source.path).image
        spread = 180 / size
        contrast = gaussian_filter(image, spread) - gaussian_filter(image, spread / 8)
        places.append(known[source.path.stem])
        ease.append(_at(contrast / contrast.std(), places[-1]))
        names.append(str(source.path))
    # How thick the ice is nobody wrote down: contrast tells.
    labelled(folder, names, places, ease, [float(np.median(e)) for e in ease], size, seed)
    (folder / "diameter").write_text("180")


def _at(values: np.ndarray, xy: np.ndarray) -> np.ndarray:
    columns, rows = (np.clip(np.rint(xy).astype(int), 0, np.array(values.shape[::-1]) - 1)).T
    return values[rows, columns]


def labelled(folder, names, places, ease, thin, size, seed) -> None:
    random = np.random.default_rng(seed)
    everything = [(i, k) for i, xy in enumerate(places) for k in range(len(xy))]
    best = np.argsort(thin)[::-1][: max(1, round(len(names) / 4))]
    pool = [(i, k) for i in best for k in range(len(places[i]))]
    strong = np.argsort([-ease[i][k] for i, k in pool])[: max(EASY, len(pool) // 4)]
    easy = sorted(pool[n] for n in random.permutation(strong)[:EASY])
    chosen = {
        "truth": everything,
        "labels": choose_labels([len(xy) for xy in places], LABELS, seed),
        "easy": easy,
    }
    folder.mkdir(parents=True, exist_ok=True)
    optics = {"rlnOpticsGroupName": ["opticsGroup1"], "rlnOpticsGroup": [1]}
    optics["rlnMicrographPixelSize"] = [size]
    for kind, rows in chosen.items():
        table = {
            "rlnMicrographName": [names[i] for i, _ in rows],
            "rlnCoordinateX": [float(places[i][k][0]) for i, k in rows],
            "rlnCoordinateY": [float(places[i][k][1]) for i, k in rows],
            "rlnOpticsGroup": [1] * len(rows),
        }
        write_blocks(folder / f"{kind}.star", {"optics": optics, "particles": table})
    table = {"rlnMicrographName": names, "rlnOpticsGroup": [1] * len(names)}
    write_blocks(folder / "micrographs.star", {"optics": optics, "micrographs": table})


def run(folder: Path, labels: str, seed: int, *more: str) -> Path:
    out = folder / "_".join(["run", labels, *(word.lstrip("-") for word in more)])
    if not (out / "run.json").exists():
        command = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "run"]
        command += ["--micrographs", str(folder / "micrographs.star"), "--seed", str(seed)]
        command += ["--labels", str(folder / f"{labels}.star"), "-o", str(out)]
        command += ["--diameter", (folder / "diameter").read_text(), *more]
        subprocess.run(command, check=True, capture_output=True)
    return out


def judge(folder: Path, out: Path) -> dict[str, float]:
    """Return what was estimated and what is true."""
    result = json.loads((out / "run.json").read_text())["expected"]
    with (out / "picks.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    score = np.array([float(row["log_odds"]) for row in rows])
    chance = np.array([float(row["probability"]) for row in rows])
    size = float(rows[0]["pixel_size_angstrom"])
    xy = np.array([(float(row["x_px"]), float(row["y_px"])) for row in rows])
    hit, number = hits_of(folder, [row["micrograph"] for row in rows], xy, score, size)
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(hit[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + number)
    chosen = score >= result["threshold"]
    likely = chance > 0.05
    tenth = np.minimum((chance * 10).astype(int), 9)
    error = sum(abs((chance - hit)[likely & (tenth == n)].sum()) for n in range(10))
    true = result["particles"]
    return {
        "count": true["value"] / number,
        "low": true["low"] / number,
        "high": true["high"] / number,
        "best": float(f1.max()),
        "f1": 2 * hit[chosen].sum() / (chosen.sum() + number),
        "precision": hit[chosen].mean() if chosen.any() else math.nan,
        "stated": result["precision"]["value"],
        "stated_low": result["precision"]["low"],
        "stated_high": result["precision"]["high"],
        "recall": hit[chosen].sum() / number,
        "stated_recall": result["recall"]["value"],
        "ece": float(error / max(likely.sum(), 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps data and results [a temporary one]")
    parser.add_argument("--only", nargs="*", help="names of data sets, such as barrel_0.06_1.5")
    parser.add_argument(
        "--labels", nargs="*", default=["labels", "easy"], help="which labels [both]"
    )
    parser.add_argument("--seed", type=int, default=7, help="of the simulated data [7]")
    parser.add_argument(
        "--start", type=float, help="start the estimate at FACTOR times the true number"
    )
    parser.add_argument("--objective", help="training objective")
    options = parser.parse_args()
    names = [f"{p}_{s:g}_{d:g}" for p in PARTICLES for s in NOISE for d in DENSITY]
    if (DATA / "betagal").is_dir():
        names.append("betagal")
    else:
        print(f"no {DATA / 'betagal'}: the real data are skipped (set HELIODOR_DATA)")
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        print("data | labels | particles | F1 | best | precision, stated | recall, stated | ECE")
        for number, name in enumerate(names):
            if options.only and name not in options.only:
                continue
            folder = base / name
            if not (folder / "diameter").exists():
                make(folder, name, options.seed * 1000 + number)
            more = [] if options.objective is None else ["--objective", options.objective]
            if options.start is not None:
                sources = find_sources(str(folder / "micrographs.star"))
                true = len(read_picks(folder / "truth.star")) / len(sources)
                more += ["--expected-particles", f"{true * options.start:.1f}"]
            for labels in options.labels:
                row = judge(folder, run(folder, labels, options.seed, *more))
                rows.append(row)
                if not more:
                    write_text(folder / f"{labels}.json", json.dumps(row))
                print(line(name, labels, row), flush=True)
    summary(rows)


def hits_of(
    folder: Path, names: list[str], xy_px: np.ndarray, score: np.ndarray, size: float
) -> tuple[np.ndarray, int]:
    """Return which candidates are matched to particles, best scores first, and how many are."""
    truth = {
        Path(n).stem: p.xy_px for n, p in read_picks(folder / "truth.star").split_by_micrograph()
    }
    reach = MATCH_FRACTION * float((folder / "diameter").read_text())
    stems = np.array([Path(name).stem for name in names])
    hit = np.zeros(len(names), bool)
    for stem, places in truth.items():
        own = np.flatnonzero(stems == stem)
        own = own[np.argsort(-score[own], kind="stable")]
        hit[own] = match_picks(xy_px[own], places, reach / size).is_true_positive
    return hit, sum(map(len, truth.values()))


def line(name: str, labels: str, r: dict[str, float]) -> str:
    return (
        f"{name} | {labels} | {r['count']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
        f" | {r['f1']:.3f} | {r['best']:.3f} | {r['precision']:.2f}, {r['stated']:.2f}"
        f" ({r['stated_low']:.2f} to {r['stated_high']:.2f})"
        f" | {r['recall']:.2f}, {r['stated_recall']:.2f} | {r['ece']:.3f}"
    )


def summary(rows: list[dict[str, float]]) -> None:
    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    off, share = np.abs(column("count") - 1), column("f1") / column("best")
    close = np.abs(column("precision") - column("stated")) <= 0.1
    print(f"{len(rows)} runs: particles within 25 % on {np.mean(off <= 0.25):.0%}, within 50 % on")
    print(f"{np.mean(off <= 0.5):.0%}; F1 over the best: median {np.median(share):.3f}, worst")
    print(f"{share.min():.3f}; ECE median {np.median(column('ece')):.3f}; stated precision within")
    print(f"0.10 on {np.mean(close):.0%}")


if __name__ == "__main__":
    main()
