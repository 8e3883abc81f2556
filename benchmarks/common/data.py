"""Data of the speed benchmarks: simulated micrographs, links to them, and real ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common.processes import run

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.data.micrographs.micrograph import read_micrograph, write_mrc
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.simulation.builtin_particles import PARTICLES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HELIODOR_DATA", ROOT.parent / "shared" / "data"))
HELIODOR = Path(sys.executable).with_name("heliodor")
DROP_IN = Path(sys.executable).with_name("heliodor-topaz")
#: What is simulated for all stages but the one of blobs; its diameter, and that of each by name.
PARTICLE = "barrel"
LABELS = 100
#: A picking is right this near to a particle, in diameters.
MATCH = 0.4


def diameter(particle: str) -> float:
    """Return the longest diameter of a particle that can be simulated, angstrom."""
    return PARTICLES[particle].diameter_angstrom


def large(work: Path, quick: bool) -> list[Path]:
    """Simulate float32 micrographs of 4096 x 4096 pixels of 1 A, once for a work folder."""
    number = 3 if quick else 5
    folder = work / f"large_{number}"
    if not (folder / "truth.star").exists():
        size = ("--size-px", "4096x4096", "--pixel-size", "1", "--count", str(number))
        run([HELIODOR, "simulate", folder, "--particle", PARTICLE, *size, "--seed", "5"])
    return sorted((folder / "micrographs").glob("*.mrc"))


def linked(files: list[Path], number: int, folder: Path) -> Path:
    """Return a folder of so many hard links to the files, each under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        path = folder / f"mic_{i:04d}.mrc"
        if not path.exists():
            path.hardlink_to(files[i % len(files)])
    return folder


def huge(file: Path, folder: Path, shape: tuple[int, int]) -> Path:
    """Write a micrograph of another shape, of repetitions of one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"huge_{shape[1]}x{shape[0]}.mrc"
    if not path.exists():
        image = read_micrograph(file).image
        times = [-(-side // own) for side, own in zip(shape, image.shape, strict=True)]
        write_mrc(path, np.tile(image, times)[: shape[0], : shape[1]], 1.0)
    return path


@dataclass(frozen=True)
class Simulated:
    """Micrographs to learn from, with labels, and others to judge on."""

    particle: str
    folder: Path
    unseen_count: int

    @property
    def unseen(self) -> Path:
        """The folder of those to judge on."""
        return self.folder / f"unseen_{self.unseen_count}"

    def make(self) -> Simulated:
        """Simulate both, at the usual size and sampling, where they are not there yet."""
        learn = self.folder / "learn"
        for folder, more in (
            (learn, ("--count", "10", "--labels", str(LABELS), "--seed", "1")),
            (self.unseen, ("--count", str(self.unseen_count), "--seed", "2")),
        ):
            if not (folder / "truth.star").exists():
                run([HELIODOR, "simulate", folder, "--particle", self.particle, *more])
        return self

    def model(self) -> Path:
        """Train the default model on the labels, where it is not there yet."""
        out, learn = self.folder / "model", self.folder / "learn"
        if not (out / "model.safetensors").exists():
            expected = len(read_picks(learn / "truth.star")) / 10
            command: list[str | Path] = [
                HELIODOR,
                "train",
                "--micrographs",
                learn / "micrographs.star",
            ]
            command += ["--labels", learn / "labels.star", "--seed", "0", "-o", out]
            command += ["--diameter", f"{diameter(self.particle):g}"]
            run([*command, "--expected-particles", f"{expected:g}"])
        return out / "model.safetensors"

    def average_precision(self, picks: Path, out: Path) -> float:
        """Judge picks on the unseen micrographs."""
        command: list[str | Path] = [
            HELIODOR,
            "evaluate",
            "--picks",
            picks,
            "--truth",
            self.unseen / "truth.star",
        ]
        command += ["--match-distance", f"{MATCH * diameter(self.particle):g}"]
        command += ["--micrographs", self.unseen / "micrographs.star", "--pixel-size", "4"]
        run([*command, "-o", out])
        figures: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
        return float(figures["micro"]["average_precision"])


def scored_images(work: Path, number: int, real: Path = DATA) -> dict[int, list[Path]]:
    """Write normalized images to score, as arrays, by their side: 512 and 1024 pixels.

    Real ones where they are there (T20S at 7.84 A; beta-galactosidase at 7.08 A, whole, and its
    middle), else simulated ones.
    """
    found: dict[int, list[Path]] = {512: [], 1024: []}
    normalizer = Normalizer.fit([], "micrograph")
    folder = work / "scored"
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in _images(work, number, real):
        path = folder / f"{name}.npy"
        np.save(path, normalizer.apply(image))
        found[image.shape[0]].append(path)
    return found


def _images(work: Path, number: int, real: Path) -> Iterator[tuple[str, Any]]:
    small = sorted((real / "t20s" / "micrographs").glob("*.mrc"))[:number]
    wide = sorted((real / "betagal" / "micrographs").glob("*.mrc"))[:number]
    if not small or not wide:
        simulated = Simulated(PARTICLE, work / PARTICLE, number).make()
        wide = sorted((simulated.unseen / "micrographs").glob("*.mrc"))
    for i, path in enumerate(small):
        yield f"t20s_{i}", read_micrograph(path).image
    for i, path in enumerate(wide):
        image = fourier_crop(read_micrograph(path).image, (1024, 1024))
        yield f"wide_{i}", image
        yield f"middle_{i}", image[256:768, 256:768]


def image_files(images: list[Path], folder: Path) -> list[Path]:
    """Write images as MRC files of 8 A a pixel, as RELION hands them over."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{path.stem}.mrc" for path in images]
    for path, file in zip(images, files, strict=True):
        write_mrc(file, np.load(path), 8.0)
    return files
