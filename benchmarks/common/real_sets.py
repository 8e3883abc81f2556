"""Real micrographs with known particles: which to train on, which to pick on, and labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.accuracy.general_model.data import DATA, Task
from benchmarks.accuracy.objectives.run import draw_labels

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import Source, find_sources
from heliodor.data.star import write_blocks

#: test: labels on the micrographs of train.star, picks on those of test.star. train: both on those
#: of train.star, for choosing constants.
Split = Literal["test", "train"]
SPLITS: tuple[Split, ...] = ("test", "train")


@dataclass(frozen=True)
class RealSet:
    """A folder of the real data."""

    name: str
    #: Of the particle and of the pixels, angstrom.
    diameter: float
    pixel: float
    truth_file: str = "truth.star"
    #: Whether the truth has every particle; otherwise precision against it is a lower bound.
    complete: bool = False

    @property
    def folder(self) -> Path:
        """Where it is."""
        return DATA / self.name

    def fingerprint(self) -> bytes:
        """Return what is the same as long as its lists and its truth are."""
        files = [self.folder / name for name in ("train.star", "test.star", self.truth_file)]
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).digest()

    def parts(self, split: Split, most: int | None = None) -> tuple[list[Source], list[Source]]:
        """Return the micrographs to train on and those to pick on, at most so many of these."""
        train = find_sources(str(self.folder / "train.star"))
        if split == "test":
            return train, find_sources(str(self.folder / "test.star"))[:most]
        # Alternately, as neighbors in the list were often recorded one after the other.
        return train[1::2], train[::2][:most]

    def truth(self, sources: list[Source]) -> dict[str, FloatArray]:
        """Return the particles of micrographs by their stem, (x, y) in pixels, shape (n, 2).

        Raises
        ------
        SystemExit
            If the truth lacks a micrograph.
        """
        path = self.folder / self.truth_file
        known = {Path(n).stem: own.xy_px for n, own in read_picks(path).split_by_micrograph()}
        stems = [source.path.stem for source in sources]
        if missing := [stem for stem in stems if stem not in known]:
            raise SystemExit(f"no truth for {', '.join(missing)} in {path}")
        return {stem: known[stem] for stem in stems}

    def task(self, split: Split, out: Path, draw: int, most: int | None = None) -> Task:
        """Return the task that `write_task` has written for a draw of labels."""
        learn, _ = self.parts(split, most)
        number = sum(len(xy) for xy in self.truth(learn).values())
        folder = _task_folder(self, split, out, draw, most)
        truth = self.folder / self.truth_file
        return Task(
            self.name, folder / "learn.star", folder / "unseen.star", truth, self.diameter,
            self.pixel, number / len(learn),
        )  # fmt: skip


#: Those with truth, in the order of the tables.
REAL_SETS = {
    real.name: real
    for real in (
        RealSet("apoferritin", 125.0, 3.0, complete=True),
        RealSet("betagal", 180.0, 3.54, "dense.star"),
        RealSet("ribosome80s", 290.0, 5.36),
        RealSet("trpv1", 140.0, 4.556),
    )
}


def write_task(
    real: RealSet, split: Split, out: Path, draw: int, labels: int, most: int | None = None
) -> None:
    """Write the lists of micrographs, and so many labels drawn at random from the truth.

    Raises
    ------
    BadInput
        If there are fewer particles than labels on the micrographs to train on.
    """
    learn, unseen = real.parts(split, most)
    folder = _task_folder(real, split, out, draw, most)
    folder.mkdir(parents=True, exist_ok=True)
    optics = {
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": [1],
        "rlnMicrographPixelSize": [real.pixel],
    }
    for name, sources in (("learn", learn), ("unseen", unseen)):
        table = {
            "rlnMicrographName": [str(source.path.absolute()) for source in sources],
            "rlnOpticsGroup": [1] * len(sources),
        }
        write_blocks(folder / f"{name}.star", {"optics": optics, "micrographs": table})
    if not labels:
        return
    drawn = draw_labels(list(real.truth(learn).values()), f"{real.name}_{split}", labels, draw)
    rows = [
        (str(source.path.absolute()), *map(float, place))
        for source, places in zip(learn, drawn, strict=True)
        for place in places
    ]
    names = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    write_blocks(folder / f"labels_{labels}.star", {"particles": columns})


def _task_folder(real: RealSet, split: Split, out: Path, draw: int, most: int | None) -> Path:
    few = "" if most is None else f"_{most}"
    return out / "data" / f"{real.name}_{split}{few}_{draw}"
