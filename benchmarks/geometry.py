"""The diameter told by labels against the true one, on simulated and on real particles.

    python benchmarks/geometry.py [DATA] [--draws N]

Five particles, two signal-to-noise ratios, half and one and a half times the usual number a
micrograph, eight micrographs each. Of each set 20, 50 and 100 labels are drawn several times, each
off its particle by 8 A along x and y (standard deviation), and the ratio of the diameter found to
the true one is printed: the median, and the least and most of all draws. Then how often the true
diameter lies in the interval, and how often training would call the true diameter into question.
On real micrographs labels are as they are, and `true` is what is known of the molecule.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heliodor.assignment import assign_labels
from heliodor.average import LabelledView
from heliodor.conventions import WORKING_DIAMETER_PX, FloatArray, Image
from heliodor.dataset import FLATTEN_FRACTION
from heliodor.formats import read_picks
from heliodor.geometry import FINEST_ANGSTROM, NETWORK, diameter_doubt, measure_geometry
from heliodor.labels import LabelledImage
from heliodor.micrograph import read_micrograph
from heliodor.normalize import Normalizer
from heliodor.resample import fourier_crop
from heliodor.simulate import PARTICLES, SimulationSettings, simulate_micrograph
from heliodor.sources import find_sources

LABELS, SNRS, DENSITIES, COUNT = (20, 50, 100), (0.12, 0.06), (0.5, 1.5), 8
OFF_ANGSTROM = 8.0
#: Folder, labels, pixel size and longest diameter in angstrom.
REAL = (
    ("betagal", "manual_positive.star", 3.54, 180.0),
    ("t20s", "weak_autopicks.star", 7.84, 150.0),
)


@dataclass(frozen=True)
class Scene:
    """Micrographs with all particles that could be labelled."""

    name: str
    images: list[Image]
    xy_px: list[FloatArray]
    pixel_size_angstrom: float
    diameter_angstrom: float
    #: How far labels are put off, angstrom.
    off_angstrom: float = OFF_ANGSTROM

    def at(self, pixel_size_angstrom: float) -> Scene:
        """Return the scene at a coarser sampling, or as it is."""
        factor = min(1.0, self.pixel_size_angstrom / pixel_size_angstrom)
        images = [
            fourier_crop(image, (round(image.shape[0] * factor), round(image.shape[1] * factor)))
            for image in self.images
        ]
        scaled = [xy * factor for xy in self.xy_px]
        return replace(
            self,
            images=images,
            xy_px=scaled,
            pixel_size_angstrom=self.pixel_size_angstrom / factor,
        )

    def drawn(self, number: int, seed: int) -> Iterator[tuple[Image, FloatArray]]:
        """Draw labels from all particles."""
        random = np.random.default_rng(seed)
        owner = np.repeat(np.arange(len(self.images)), [len(xy) for xy in self.xy_px])
        every = np.concatenate(self.xy_px)
        every = every + random.normal(0, self.off_angstrom / self.pixel_size_angstrom, every.shape)
        chosen = random.permutation(len(owner))[:number]
        for index, image in enumerate(self.images):
            own = chosen[owner[chosen] == index]
            if len(own):
                yield image, every[own]


def simulated(particle: str, snr: float, density: float) -> Scene:
    settings = SimulationSettings(particle=particle, snr=snr, seed=7)
    number = max(3, round(settings.wanted_particles * density))
    settings = replace(settings, particles_per_micrograph=number)
    made = [simulate_micrograph(settings, index) for index in range(COUNT)]
    return Scene(
        f"{particle}, SNR {snr:g}, {density:g} of the usual number",
        [one.image for one in made],
        [one.xy_px for one in made],
        settings.pixel_size_angstrom,
        settings.kind.diameter_angstrom,
    )


def real(folder: Path, labels: str, pixel_size: float, diameter: float) -> Scene:
    labelled, _ = assign_labels(read_picks(folder / labels), find_sources(folder / "micrographs"))
    images = [read_micrograph(item.source.path).image for item in labelled]
    return Scene(folder.name, images, [i.xy_px for i in labelled], pixel_size, diameter, 0.0)


def scenes(data: Path) -> Iterator[Scene]:
    for particle in PARTICLES:
        for snr in SNRS:
            for density in DENSITIES:
                yield simulated(particle, snr, density)
    for name, *known in REAL:
        if (data / name).is_dir():
            yield real(data / name, *known)
        else:
            print(f"no {data / name}: left out")


def judged(scene: Scene, draws: int, all_of: dict[int, list[tuple[float, bool]]]) -> str:
    """Return a row of the table, and add the simulated ratios to those of all sets."""
    true = scene.diameter_angstrom
    fine = scene.at(FINEST_ANGSTROM)
    working = scene.at(true / WORKING_DIAMETER_PX[NETWORK])
    flat = FLATTEN_FRACTION * true / working.pixel_size_angstrom
    normal = Normalizer.fit(working.images, "micrograph", flat)
    working = replace(working, images=[normal.apply(image) for image in working.images])
    cells, covered, doubted, total = [], 0, 0, 0
    for number in LABELS:
        ratios = []
        for seed in range(draws):
            pixel = fine.pixel_size_angstrom
            views = [LabelledView(i, pixel, xy) for i, xy in fine.drawn(number, seed)]
            extent = measure_geometry(views, scene.pixel_size_angstrom).extent
            inside = extent.low_angstrom <= true <= extent.high_angstrom
            images = [LabelledImage(i, xy) for i, xy in working.drawn(number, seed)]
            doubted += diameter_doubt(images, working.pixel_size_angstrom, true) is not None
            ratios.append(extent.diameter_angstrom / true)
            covered, total = covered + inside, total + 1
            if scene.off_angstrom:
                all_of[number].append((ratios[-1], inside))
        cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return (
        f"| {scene.name} | {true:g} | {' | '.join(cells)} | {covered} of {total} |"
        f" {doubted} of {total} |"
    )


def main(data: Path, draws: int) -> None:
    numbers = " | ".join(f"{number} labels" for number in LABELS)
    print(f"| set | true, A | {numbers} | true in the interval | true doubted |")
    print("|---|---|---|---|---|---|---|")
    all_of: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for scene in scenes(data):
        print(judged(scene, draws, all_of), flush=True)
    print("\n| simulated, labels | within 15 % | within 20 % | within 50 % | in the interval |")
    print("|---|---|---|---|---|")
    for number, found in all_of.items():
        off = np.array([abs(ratio - 1) for ratio, _ in found])
        shares = " | ".join(f"{np.mean(off <= most):.0%}" for most in (0.15, 0.2, 0.5))
        print(f"| {number} | {shares} | {np.mean([inside for _, inside in found]):.0%} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    main(options.data, options.draws)
