"""Quick groups of picks: what rejecting the junk groups removes, false picks and particles.

    python -m benchmarks.accuracy.crop_groups FOLDER [--particles ribosome shell barrel trimer]
        [--count 12] [--draws 4] [--seed 21] [--snr RATIO] [--real]

Simulated micrographs with contaminants at twice the usual level are picked with the general model,
contamination ignored (`--bad-areas keep`), at the threshold where 20% of the picks are false: the
false ones are those of a real picker, on carbon, ice and aggregates, and between particles. From
the picks 500 are drawn, several times, and grouped with and without the features of the network.
A rule stands for the user: a group is rejected if less than a half, or a third, of its picks are
true.

--real adds apoferritin (test micrographs) at the threshold where 20% of the picks are not in the
published list, which is incomplete on contamination. Micrographs are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from heliodor.app.engine.prediction import predict
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.sources import find_sources
from heliodor.evaluation.matching import MATCH_FRACTION, match_picks
from heliodor.models.pretrained import load_model_for_picking
from heliodor.picking.crop_groups import cut_crops, group_crops
from heliodor.picking.score_maps import open_working_images
from heliodor.simulation.builtin_particles import PARTICLES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
FALSE_SHARE, CROPS = 0.2, 500
#: Candidates with lower scores are not looked at; at the threshold all are higher.
FLOOR = -3.0
RULES = (1 / 2, 1 / 3)


class Picked(NamedTuple):
    """The picks of a set by descending score."""

    crops: NDArray[np.float32]
    features: NDArray[np.float16]
    score: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    #: Of the features; see `group_crops`.
    noise: NDArray[np.float16]


def pick(micrographs: Path, truth: Path, diameter: float) -> Picked:
    """Pick at the threshold where the stated share of the picks is false."""
    model = load_model_for_picking(None, diameter)
    images = open_working_images(model, None)
    by_stem = {Path(n).stem: own.xy_px for n, own in read_picks(truth).split_by_micrograph()}
    score, features, is_true, crops, noise = [], [], [], [], []
    for source in find_sources(str(micrographs)):
        found = predict(model, images.get(source), 0, torch.device("cpu")).candidates
        found = found.in_contamination(None, 1.0).at_least(FLOOR)
        original = read_micrograph(source.path)
        size = original.header_pixel_size_angstrom
        assert size is not None
        wanted = by_stem.get(source.path.stem, np.zeros((0, 2)))
        reach = MATCH_FRACTION * diameter / size
        score.append(found.score)
        assert found.all_features is not None
        assert found.feature_noise is not None
        features.append(found.all_features)
        noise.append(found.feature_noise)
        is_true.append(match_picks(found.xy_px, wanted, reach).is_true_positive)
        crops.append(cut_crops(original.image, size, found.xy_px, diameter))
    scores = np.concatenate(score)
    order = np.argsort(-scores, kind="stable")
    true = np.concatenate(is_true)[order]
    false_share = np.cumsum(~true) / np.arange(1, len(true) + 1)
    kept = order[: int(np.flatnonzero(false_share <= FALSE_SHARE)[-1]) + 1]
    return Picked(
        np.concatenate(crops)[kept],
        np.concatenate(features)[kept],
        scores[kept],
        true[: len(kept)],
        np.concatenate(noise),
    )


def reject(
    group: NDArray[np.intp], is_true: NDArray[np.bool_], rule: float
) -> tuple[float, float]:
    """Return the shares of the false picks and of the particles in the rejected groups."""
    true_share = np.bincount(group, is_true) / np.bincount(group)
    rejected = (true_share < rule)[group]
    return float(rejected[~is_true].mean()), float(rejected[is_true].mean())


def measure(name: str, picked: Picked, draws: int) -> None:
    """Print a row of the table for each way to group."""
    for how in ("network and detail", "crops alone"):
        results: dict[float, list[tuple[float, float]]] = {rule: [] for rule in RULES}
        seconds = []
        for seed in range(draws):
            random = np.random.default_rng(seed)
            drawn = random.permutation(len(picked.crops))[:CROPS]
            seen = dict[str, NDArray[np.floating]]()
            if how.startswith("network"):
                seen |= {"features": picked.features[drawn], "scores": picked.score[drawn]}
                seen |= {"noise": picked.noise}
            start = time.perf_counter()
            found = group_crops(picked.crops[drawn], seed=seed, **seen)
            seconds.append(time.perf_counter() - start)
            for rule in RULES:
                results[rule].append(reject(found.group, picked.is_true[drawn], rule))
        cells = [f"{a:.0%}, {b:.1%}" for a, b in (np.mean(results[r], axis=0) for r in RULES)]
        print(
            f"| {name} | {len(picked.crops)} | {how} | {' | '.join(cells)} |"
            f" {np.mean(seconds):.1f} s |",
            flush=True,
        )


def simulate(folder: Path, particle: str, count: int, seed: int, snr: float | None) -> Path:
    """Make micrographs, or find them again."""
    own = folder / f"{particle}_{count}_{seed}{'' if snr is None else f'_{snr:g}'}"
    if not (own / "micrographs.star").is_file():
        command = [sys.executable, "-m", "heliodor", "simulate", str(own), "--particle", particle]
        more = ["--count", str(count), "--contaminants", "2", "--seed", str(seed)]
        more += [] if snr is None else ["--snr", str(snr)]
        subprocess.run([*command, *more], check=True, capture_output=True)
    return own


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--particles", nargs="+", default=["ribosome", "shell", "barrel", "trimer"]
    )
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--snr", type=float)
    parser.add_argument("--real", action="store_true")
    chosen = parser.parse_args()
    print("| set | picks | grouped by | rejected where < 1/2 true: false, lost | < 1/3 true |"
          " time |\n|---|---|---|---|---|---|")  # fmt: skip
    for particle in chosen.particles:
        own = simulate(chosen.folder, particle, chosen.count, chosen.seed, chosen.snr)
        diameter = PARTICLES[particle].diameter_angstrom
        measure(
            particle, pick(own / "micrographs.star", own / "truth.star", diameter), chosen.draws
        )
    if chosen.real:
        folder = DATA / "apoferritin"
        if not folder.is_dir():
            print(f"no {folder}: skipped (set HELIODOR_DATA)")
            return
        measure(
            "apoferritin", pick(folder / "test.star", folder / "truth.star", 125.0), chosen.draws
        )


if __name__ == "__main__":
    main()
