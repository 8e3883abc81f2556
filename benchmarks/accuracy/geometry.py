"""The diameter that is estimated from labels, on simulated and on real particles.

    python -m benchmarks.accuracy.geometry [labels] [defocus] [random] [--data DATA] [--draws N]

Study, 2026-11.

labels: five particles, two signal-to-noise ratios, half and one and a half times the usual number
per micrograph, eight micrographs each. 20, 50 and 100 labels are drawn several times, each
displaced by 8 Å along x and y (standard deviation). Printed are the median and the range of the
ratio of estimated to true diameter, the number of draws without an estimate, how often the true
diameter lies in the interval, how often training would question the true diameter, and the
duration. On real micrographs the labels are unchanged, and `true` is the known size of the
molecule.
defocus: the same ratio for each particle without noise, at several defoci and without any contrast
transfer.
random: the contrast of random positions on micrographs full of particles, which must not look like
a particle.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heliodor.conventions import (
    WORKING_DIAMETER_PX,
    FloatArray,
    Image,
)
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.label_assignment import assign_labels
from heliodor.data.coordinates.labels import LabeledImage
from heliodor.data.coordinates.particle_average import (
    SIDE_PX,
    BoxScale,
    LabeledView,
    cut_scales,
)
from heliodor.data.coordinates.particle_diameter import (
    FINEST_ANGSTROM,
    NETWORK,
    find_diameter_conflict,
    measure_geometry,
)
from heliodor.data.coordinates.particle_extent import measure_extent
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.normalization import FLATTEN_FRACTION, Normalizer
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from heliodor.simulation import (
    PARTICLES,
    SimulationSettings,
    simulate_micrograph,
)
from heliodor.simulation.optics import (
    Optics,
    apply_transfer,
    contrast_transfer,
)
from heliodor.simulation.projection import add_projection, draw_orientations

LABELS, SNRS, DENSITIES, COUNT = (20, 50, 100), (0.12, 0.06), (0.5, 1.5), 8
OFF_ANGSTROM = 8.0
DEFOCI_UM, VIEWS = (None, 0.7, 1.5, 3.0), 60
#: Folder, labels, pixel size and longest diameter in angstrom.
REAL = (
    ("betagal", "manual_positive.star", 3.54, 180.0),
    ("t20s", "weak_autopicks.star", 7.84, 150.0),
)


@dataclass(frozen=True)
class Scene:
    """Micrographs with all particles that could be labeled."""

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
    number = max(3, round(settings.particles_to_place * density))
    settings = replace(settings, particles_per_micrograph=number)
    made = [simulate_micrograph(settings, index) for index in range(COUNT)]
    return Scene(
        f"{particle}, SNR {snr:g}, {density:g} of the usual number",
        [one.image for one in made],
        [one.xy_px for one in made],
        settings.pixel_size_angstrom,
        settings.resolved_particle.diameter_angstrom,
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
    cells, seconds, covered, doubted, total = [], list[float](), 0, 0, 0
    for number in LABELS:
        ratios, refused = [], 0
        for seed in range(draws):
            pixel = fine.pixel_size_angstrom
            views = [LabeledView(i, pixel, xy) for i, xy in fine.drawn(number, seed)]
            images = [LabeledImage(i, xy) for i, xy in working.drawn(number, seed)]
            started = time.process_time()
            doubted += (
                find_diameter_conflict(images, working.pixel_size_angstrom, true) is not None
            )
            seconds.append(time.process_time() - started)
            try:
                extent = measure_geometry(views, scene.pixel_size_angstrom).extent
            except BadInput:  # nothing stands out
                refused += 1
                continue
            inside = extent.low_angstrom <= true <= extent.high_angstrom
            ratios.append(extent.diameter_angstrom / true)
            covered, total = covered + inside, total + 1
            if scene.off_angstrom:
                all_of[number].append((ratios[-1], inside))
        cell = (
            f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        )
        cells.append(f"{cell}; {refused} refused" if refused else cell)
    return (
        f"| {scene.name} | {true:g} | {' | '.join(cells)} | {covered} of {total} |"
        f" {doubted} of {len(seconds)} | {np.median(seconds):.2f} |"
    )


def labels(data: Path, draws: int) -> None:
    numbers = " | ".join(f"{number} labels" for number in LABELS)
    print(f"| set | true, A | {numbers} | true in the interval | true doubted | in s |")
    print("|---|---|---|---|---|---|---|---|")
    all_of: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for scene in scenes(data):
        print(judged(scene, draws, all_of), flush=True)
    print("\n| simulated | within 15 % | within 20 % | within 50 % | true in the interval |")
    print("|---|---|---|---|---|")
    for number, found in all_of.items():
        off = np.array([abs(ratio - 1) for ratio, _ in found])
        shares = " | ".join(f"{np.mean(off <= most):.0%}" for most in (0.15, 0.2, 0.5))
        inside = np.mean([inside for _, inside in found])
        print(f"| {number} labels | {shares} | {inside:.0%} |")


def defocus() -> None:
    names = (
        "no contrast transfer" if defocus is None else f"{defocus:g} um" for defocus in DEFOCI_UM
    )
    print(f"| without noise | {' | '.join(names)} |\n|---|---|---|---|---|")
    for name, kind in PARTICLES.items():
        true = kind.diameter_angstrom
        pixel = true / 24
        random = np.random.default_rng(0)
        boxes = np.zeros((VIEWS, SIDE_PX, SIDE_PX), np.float32)
        middle = np.full(2, SIDE_PX // 2)
        for box, angles in zip(boxes, draw_orientations(random, VIEWS, kind, False), strict=True):
            add_projection(box, kind.blobs, angles, middle, pixel)
        cells = []
        for defocus in DEFOCI_UM:
            shown = boxes
            if defocus is not None:
                optics = Optics(300.0, 2.7, 0.1, 1e4 * defocus, 1e4 * defocus, 0.0, 150.0)
                transfer = contrast_transfer((SIDE_PX, SIDE_PX), pixel, optics)
                shown = np.stack([apply_transfer(box, transfer) for box in boxes])
            scale = BoxScale(pixel, shown, np.full((VIEWS, 4), SIDE_PX))
            # Without noise what is largest stands out most: only a factor of 1.5 is looked at.
            extent = measure_extent([scale], true / 1.5, true * 1.3, draws=0)
            cells.append("none" if extent is None else f"{extent.diameter_angstrom / true:.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def random_points(draws: int) -> None:
    found = []
    for particle in PARTICLES:
        scene = simulated(particle, 0.12, 1.5)
        height, width = scene.images[0].shape
        for seed in range(2 * draws):
            random = np.random.default_rng(seed)
            for number in (5, 12):
                views = [
                    LabeledView(i, 4.0, random.uniform(0, (width - 1, height - 1), (number, 2)))
                    for i in scene.images
                ]
                extent = measure_extent(cut_scales(views, 1600.0), 40.0, 1600.0, draws=0)
                found.append(0.0 if extent is None else extent.contrast)
    print(
        f"{len(found)} sets of 40 and 96 points at random: contrast {np.median(found):.1f}"
        f" (median), {max(found):.1f} (most); from 2 on in {np.mean(np.array(found) >= 2):.0%},"
        f" from 4 on in {np.mean(np.array(found) >= 4):.0%}"
    )


PARTS = ("labels", "defocus", "random")


def main(parts: list[str], data: Path, draws: int) -> None:
    if "labels" in parts:
        labels(data, draws)
    if "defocus" in parts:
        defocus()
    if "random" in parts:
        random_points(draws)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} [all]"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of the real data"
    )
    parser.add_argument("--draws", type=int, default=5, help="draws of labels per set [5]")
    options = parser.parse_args()
    if unheard := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unheard))} is none of {', '.join(PARTS)}")
    main(options.parts or list(PARTS), options.data, options.draws)
