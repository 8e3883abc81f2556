"""The data sets of `run.py`, ready for networks, and the evaluation of networks on them."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.conventions import TRAINING_RADIUS_FRACTION, to_working
from heliodor.data.coordinates.labels import LabeledImage, make_label_mask
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.micrographs.working_images import WorkingImages, working_pixel_size
from heliodor.errors import BadInput
from heliodor.evaluation.matching import MATCH_FRACTION
from heliodor.evaluation.metrics import evaluate_picks
from heliodor.evaluation.ranking import average_precision
from heliodor.models.networks import Network
from heliodor.picking.nms import suppress
from heliodor.picking.scoring import score_lattice
from heliodor.simulation import (
    PARTICLES,
    SimulationSettings,
    simulate,
)
from heliodor.simulation.settings import SNR
from heliodor.utils.files import atomic_write
from heliodor.workflows.ground_truth import GroundTruth

ROOT = Path(__file__).resolve().parents[3]
#: Regions are judged on every second pixel of every second row: a quarter of the work.
LATTICE_PX = 2

REAL = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class Simulated:
    """Micrographs made on the spot, every particle known."""

    particle: str
    snr: float = SNR
    training: int = 20
    test: int = 6
    side_px: int = 1024

    @property
    def diameter_angstrom(self) -> float:
        """The particle's own."""
        return PARTICLES[self.particle].diameter_angstrom

    @property
    def match_angstrom(self) -> float:
        """A pick this near to a particle is on it."""
        return MATCH_FRACTION * self.diameter_angstrom

    def read(self, folder: Path) -> tuple[list[Source], list[Source], list[Path]]:
        """Return sources to train on, sources to test on and the files of the truth."""
        sources, truths = [], []
        for seed, (name, count) in enumerate((("train", self.training), ("test", self.test)), 1):
            settings = SimulationSettings(
                particle=self.particle,
                count=count,
                shape=(self.side_px, self.side_px),
                snr=self.snr,
                seed=seed,
            )
            if not (folder / name / "micrographs.star").exists():
                print(f"simulating {count} micrographs of {self.particle} ({name})", flush=True)
                simulate(folder / name, settings)
            sources.append(find_sources(folder / name / "micrographs.star"))
            truths.append(folder / name / "truth.star")
        return sources[0], sources[1], truths


@dataclass(frozen=True)
class Betagal:
    """Real micrographs (EMPIAR-10017); the truth is a published dense list, not complete.

    All are of the training split: the other one is kept for reporting the whole program.
    """

    diameter_angstrom: float = 180.0
    match_angstrom: float = 70.0
    test: int = 3

    def read(self, folder: Path) -> tuple[list[Source], list[Source], list[Path]]:
        """Return sources to train on, sources to test on and the files of the truth."""
        star = REAL / "betagal" / "train.star"
        if not star.exists():
            raise BadInput(f"there is no {star} (set HELIODOR_DATA)")
        sources = find_sources(star)
        truth = star.with_name("dense.star")
        return sources[: -self.test], sources[-self.test :], [truth, truth]


DATASETS: dict[str, Simulated | Betagal] = {
    "trimer": Simulated("trimer"),
    "stick": Simulated("stick", snr=0.06),
    "betagal": Betagal(),
}


@dataclass(frozen=True)
class Data:
    """A data set as networks see it: normalized working images and all true particles."""

    training: list[LabeledImage]
    test: list[LabeledImage]
    pixel_size_angstrom: float
    diameter_angstrom: float
    match_angstrom: float

    @property
    def radius_px(self) -> float:
        """The training radius; it also makes the positive regions that are ranked."""
        return self.diameter_angstrom * TRAINING_RADIUS_FRACTION / self.pixel_size_angstrom


@lru_cache
def load(name: str, out: Path) -> Data:
    """Return a data set, made the first time and kept in the output folder."""
    known = DATASETS[name]
    # The name holds all that the data depend on, so that changed data are made anew.
    folder = out / "data" / f"{name}-{zlib.crc32(repr(known).encode()):08x}"
    arrays = folder / "prepared.npz"
    if not arrays.exists():
        prepare(known, folder, arrays)
    with np.load(arrays) as kept:
        parts = {
            part: [
                LabeledImage(kept[f"{part}_image_{i}"], kept[f"{part}_xy_{i}"])
                for i in range(int(kept[f"{part}_count"]))
            ]
            for part in ("training", "test")
        }
        pixel = float(kept["pixel_size_angstrom"])
    return Data(**parts, pixel_size_angstrom=pixel, **_sizes(known))


def _sizes(known: Simulated | Betagal) -> dict[str, float]:
    return {key: getattr(known, key) for key in ("diameter_angstrom", "match_angstrom")}


def prepare(known: Simulated | Betagal, folder: Path, arrays: Path) -> None:
    """Read or simulate a data set, crop and normalize it, and write it as arrays."""
    wanted = working_pixel_size(known.diameter_angstrom, "conv31")
    images = WorkingImages(wanted)
    training, test, truths = known.read(folder)
    content: dict[str, Any] = {}
    for part, sources, file in zip(("training", "test"), (training, test), truths, strict=True):
        truth = GroundTruth.read(file, sources)
        content[f"{part}_count"] = len(sources)
        for i, source in enumerate(sources):
            image = images.get(source)
            content[f"{part}_image_{i}"] = Normalizer("micrograph").apply(image.image)
            xy = truth.xy_px.get(source.name, np.zeros((0, 2)))
            content[f"{part}_xy_{i}"] = to_working(xy, image.original_shape, image.shape)
            content["pixel_size_angstrom"] = image.working_pixel_size_angstrom
    with atomic_write(arrays) as aside:
        np.savez(aside, **content)


def judge(network: Network, data: Data) -> dict[str, float]:
    """Return the average precision of regions and of picks, and the best F1 of these."""
    masks, scores, picks, truth = [], [], {}, {}
    pixel = data.pixel_size_angstrom
    for i, item in enumerate(data.test):
        score = score_lattice(network, item.image, LATTICE_PX)
        mask = make_label_mask(item.xy_px, item.shape, data.radius_px)
        masks.append(mask[::LATTICE_PX, ::LATTICE_PX].ravel())
        scores.append(score.ravel())
        # No floor: objectives differ in how low they put the log-odds of what they find.
        radius = data.diameter_angstrom / 2 / pixel / LATTICE_PX
        rows_columns, heights = suppress(score, radius)
        picks[str(i)] = (LATTICE_PX * pixel * rows_columns[:, ::-1], heights)
        truth[str(i)] = pixel * item.xy_px
    found = evaluate_picks(picks, truth, data.match_angstrom)
    return {
        "region_ap": average_precision(np.concatenate(masks), np.concatenate(scores)),
        "particle_ap": found.micro.average_precision,
        "best_f1": found.best_f1,
    }
