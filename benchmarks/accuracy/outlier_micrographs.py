"""Which outlier micrographs are flagged, and how many ordinary ones.

    python -m benchmarks.accuracy.outlier_micrographs OUT [--particle shell] [--contaminants 0]
        [--data DATA]

Study, 2026-11. Trains on five simulated micrographs with twenty labels each, and picks on 48 of
the same kind and two of each kind of outlier. For each kind: how much of it looks unlike training,
how many picks it has, how many of its micrographs are flagged and why; how much of the flagged
ordinary ones is carbon or crystals; and the duration. With --data also how much of real
micrographs is unlike training.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from heliodor.conventions import Image
from heliodor.data.coordinates.formats.tables import write_table
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION, Normalizer
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages, working_pixel_size
from heliodor.models.model_file import Model, load_model
from heliodor.models.novelty import NoveltyReference
from heliodor.picking.micrograph_quality import NAME
from heliodor.picking.score_maps import card_step
from heliodor.picking.scoring import score_smoothly
from heliodor.simulation import SimulationSettings, simulate_micrograph
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.workflows.run import run

PIXEL = 4.0
TRAINING, ORDINARY, EACH, LABELS = 5, 48, 2, 20
#: Carbon and crystals have to cover so much before a micrograph counts as covered.
COVERED = 0.25
#: What flags say, told apart by.
REASONS = {"picks": "usual", "unlike": "unlike", "scores": "median score", "level": "levelled"}


def misfits(base: SimulationSettings) -> Iterator[tuple[str, Image]]:
    """Yield micrographs that do not belong, each with its kind."""
    other = {
        "without particles": {"particles_per_micrograph": 0},
        "of 3.8 to 4 um defocus": {"defocus_min_um": 3.8, "defocus_max_um": 4.0},
        "magnified 1.3 times": {"pixel_size_angstrom": PIXEL / 1.3},
        "of a third of the signal": {"snr": base.resolved_snr / 3},
    }
    for seed, (kind, change) in enumerate(other.items(), 200):
        for index in range(EACH):
            yield kind, simulate_micrograph(replace(base, seed=seed, **change), index).image
    dirty, found = replace(base, seed=210, contaminants=2.0), 0
    for index in range(200):
        micrograph = simulate_micrograph(dirty, index)
        if found < EACH and micrograph.blocked.mean() > COVERED:
            found += 1
            yield "covered by carbon or crystals", micrograph.image
    for index in range(EACH):
        image = simulate_micrograph(replace(base, seed=211), index).image
        random = np.random.default_rng(index)
        mean, sd = float(image.mean()), float(image.std())
        noise = random.standard_normal(image.shape).astype(np.float32)
        yield "of noise alone", mean + sd * noise
        dead = image.copy()
        dead[:, : image.shape[1] // 2] = (mean + 0.1 * sd * noise)[:, : image.shape[1] // 2]
        yield "of half a detector", dead
        waves = np.sin(np.arange(image.shape[1], dtype=np.float32) / 4)
        yield "with stripes", image + np.float32(0.7 * sd) * waves
        yield "that moved", gaussian_filter1d(image, 4, axis=0)


def simulated(out: Path, particle: str, level: float) -> None:
    """Train, pick, and print a line for each kind."""
    base = SimulationSettings(particle=particle, contaminants=level, seed=101)
    labels = []
    for index in range(TRAINING):
        micrograph = simulate_micrograph(base, index)
        path = out / "train" / f"t{index}.mrc"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mrc(path, micrograph.image, PIXEL)
        labels.append(Picks.on(path.name, micrograph.xy_px[:LABELS]))
    write_table(out / "labels.csv", Picks.concatenate(labels), ",")
    kinds: dict[str, str] = {}

    def add(kind: str, image: Image) -> None:
        path = out / "pick" / f"m{len(kinds):03d}.mrc"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mrc(path, image.astype(np.float32), PIXEL)
        kinds[path.name] = kind

    covered = {}
    for index in range(ORDINARY):
        micrograph = simulate_micrograph(replace(base, seed=102), index)
        covered[f"m{index:03d}.mrc"] = float(micrograph.blocked.mean())
        add("ordinary", micrograph.image)
    for kind, image in misfits(base):
        add(kind, image)
    diameter = base.resolved_particle.diameter_angstrom
    data = DataSettings(diameter, expected_particles=base.particles_to_place)
    pick_on = str(out / "pick")
    run(str(out / "train"), out / "labels.csv", out / "run", data, TrainingSettings(), pick_on)
    with (out / "run" / NAME).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    by_kind = defaultdict(list)
    for row in rows:
        by_kind[kinds[Path(row["micrograph"]).name]].append(row)
    print(f"\n{particle}, trained with contaminants at level {level:g}\n")
    print(
        "| micrographs | unlike training | picks | flagged | for picks | unlike | scores | level |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind, own in by_kind.items():
        share = [float(row["unlike_training"]) for row in own]
        picks = [int(row["picks"]) for row in own]
        why = [sum(word in row["outlier"] for row in own) for word in REASONS.values()]
        flagged = sum(bool(row["outlier"]) for row in own)
        print(
            f"| {len(own)} {kind} | {np.median(share):.2f} (at most {max(share):.2f}) |"
            f" {np.median(picks):.0f} | {flagged} | {' | '.join(map(str, why))} |"
        )
    named = [covered[Path(r["micrograph"]).name] for r in by_kind["ordinary"] if r["outlier"]]
    shares = [f"{share:.0%}" for share in named]
    print(f"\nof the flagged ordinary ones is covered: {', '.join(shares) or 'none flagged'}")
    timed(load_model(out / "run" / "model.safetensors"))


def timed(model: Model) -> None:
    """Print how long it takes to tell what is unlike training, beside the scoring."""
    image = np.random.default_rng(0).standard_normal((950, 950)).astype(np.float32)
    step = card_step(model, model.card.working_pixel_size_angstrom)
    reference = model.novelty
    assert reference is not None
    jobs = {
        "scoring": lambda: score_smoothly(model.network, image, step),
        "unlike training": lambda: reference.novel_fraction(image),
    }
    for name, job in jobs.items():
        job()
        times = []
        for _ in range(9):
            started = time.perf_counter()
            job()
            times.append(time.perf_counter() - started)
        print(f"{name}: {1000 * np.median(times):.1f} ms for 950 x 950 pixels")


def real(data: Path) -> None:
    """Print what of real micrographs is unlike others of their set, and unlike another set."""
    seen: dict[str, list[Image]] = {}
    sizes = {}
    for name, diameter in (("betagal", 180.0), ("t20s", 150.0)):
        images = WorkingImages(
            working_pixel_size(diameter, "resnet8"), diameter_angstrom=diameter,
            coarsest_angstrom=20.0,
        )  # fmt: skip
        prepared = [images.get(source) for source in find_sources(data / name / "micrographs")]
        size = prepared[0].working_pixel_size_angstrom
        normalizer = Normalizer("micrograph", flatten_px=FLATTEN_FRACTION * diameter / size)
        seen[name] = [normalizer.apply(image.image) for image in prepared]
        sizes[name] = diameter / size
    print("\n| trained on | tried on | unlike training, median | most |\n|---|---|---|---|")
    for name, images in seen.items():
        for number in (1, 2, 7):
            reference = NoveltyReference.fit(images[:number], sizes[name])
            assert reference is not None
            for other, others in seen.items():
                tried = images[7:] if other == name else others
                shares = [reference.novel_fraction(image) for image in tried]
                print(
                    f"| {number} of {name} | {len(tried)} of {other} | {np.median(shares):.3f} |"
                    f" {max(shares):.3f} |"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, help="folder for data and results")
    parser.add_argument("--particle", default="shell", help="particle of simulate [shell]")
    parser.add_argument("--contaminants", type=float, default=0.0, help="per micrograph [0]")
    parser.add_argument("--data", type=Path, help="folder of the real data")
    asked = parser.parse_args()
    simulated(asked.out, asked.particle, asked.contaminants)
    if asked.data is not None:
        real(asked.data)
