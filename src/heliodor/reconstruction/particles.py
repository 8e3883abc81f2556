"""Particle images: which positions RELION cuts out, and the tables of the images.

RELION cuts off the fractions of coordinates, and repeats the pixels at an edge where a box
extends beyond the micrograph. So whole pixels are written, rounded, and positions whose boxes are
not whole are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray, IndexArray
from heliodor.data.coordinates.formats.relion_star import X, Y
from heliodor.data.star import StarTable, read_blocks, render_blocks
from heliodor.errors import BadInput
from heliodor.reconstruction.micrograph_table import TABLE, MicrographTable
from heliodor.reconstruction.programs import Command
from heliodor.reconstruction.steps import Step

#: The side of a box in particle diameters, and of the part of it that is background.
BOX_DIAMETERS: Final = 1.5
#: What is at a position; a reversed one is a candidate on the micrograph with reversed contrast.
PICK, RANDOM, REVERSED = 0, 1, 2
#: What the names of coordinate files end with.
_SUFFIX = "_positions.star"
_IMAGE = "rlnImageName"


@dataclass(frozen=True)
class Positions:
    """Where images are cut out.

    Attributes
    ----------
    micrograph
        Index of the micrograph of each position, shape (n,), never falling.
    xy_px
        Centers (x, y) in pixels of the micrographs, shape (n, 2).
    kind
        `PICK`, `RANDOM` or `REVERSED`, shape (n,).
    score
        Log-odds, nan where there is none, shape (n,).
    """

    micrograph: IndexArray
    xy_px: FloatArray
    kind: NDArray[np.intp]
    score: FloatArray

    def __len__(self) -> int:
        return len(self.xy_px)

    @classmethod
    def of_kind(
        cls, kind: int, micrograph: IndexArray, xy_px: FloatArray, score: FloatArray
    ) -> Positions:
        """Return positions that are all of one kind, in the order of the micrographs."""
        order = np.argsort(micrograph, kind="stable")
        kinds = np.full(len(order), kind, dtype=np.intp)
        return cls(micrograph[order], xy_px[order], kinds, score[order])

    def select(self, choice: NDArray[np.bool_] | IndexArray) -> Positions:
        """Return the chosen positions."""
        return Positions(
            self.micrograph[choice], self.xy_px[choice], self.kind[choice], self.score[choice]
        )

    @classmethod
    def join(cls, parts: Sequence[Positions]) -> Positions:
        """Return all positions of several tables, in the order of the micrographs."""
        micrograph = np.concatenate([part.micrograph for part in parts])
        order = np.argsort(micrograph, kind="stable")
        return cls(
            micrograph[order],
            np.concatenate([part.xy_px for part in parts])[order],
            np.concatenate([part.kind for part in parts])[order],
            np.concatenate([part.score for part in parts])[order],
        )

    def round_to_pixels(self) -> Positions:
        """Return the positions at whole pixels, those next to them."""
        return replace(self, xy_px=np.floor(self.xy_px + 0.5))


def choose_box_px(diameter_angstrom: float, pixel_size_angstrom: float) -> int:
    """Return the side of the box around a particle in pixels, an even number."""
    return 2 * max(8, round(BOX_DIAMETERS * diameter_angstrom / pixel_size_angstrom / 2))


@dataclass(frozen=True)
class ImageSettings:
    """How images are cut out.

    Attributes
    ----------
    box_px
        Side of the box in pixels of the micrographs.
    image_px
        Side of the images after they are scaled down.
    pixel_size_angstrom
        Of the micrographs.
    diameter_angstrom
        Of the particle.
    """

    box_px: int
    image_px: int
    pixel_size_angstrom: float
    diameter_angstrom: float

    @property
    def image_pixel_size_angstrom(self) -> float:
        """Pixel size of the images."""
        return self.pixel_size_angstrom * self.box_px / self.image_px

    @property
    def mask_diameter_angstrom(self) -> float:
        """Diameter of the mask around a particle, with room for badly centered ones."""
        box = self.image_px * self.image_pixel_size_angstrom
        return min(1.15 * self.diameter_angstrom, box - 4 * self.image_pixel_size_angstrom)


def plan_extraction(
    name: str,
    positions: Positions,
    table: MicrographTable,
    settings: ImageSettings,
) -> Step:
    """Return the step in which RELION cuts out images.

    Parameters
    ----------
    positions
        At whole pixels, with whole boxes.
    """
    files = {TABLE: table.text}
    for index in range(len(table.micrographs)):
        xy = positions.xy_px[positions.micrograph == index]
        if len(xy):
            stem = table.name(index).removesuffix(".mrc")
            files[f"coordinates/{stem}{_SUFFIX}"] = render_blocks({"": {X: xy[:, 0], Y: xy[:, 1]}})
    radius = settings.mask_diameter_angstrom / 2 / settings.image_pixel_size_angstrom
    arguments = [
        *("--i", f"{name}/{TABLE}", "--extract", "--invert_contrast"),
        *("--coord_dir", f"{name}/coordinates/", "--coord_suffix", _SUFFIX),
        *("--part_star", f"{name}/particles.star", "--part_dir", f"{name}/"),
        *("--extract_size", str(settings.box_px)),
        *("--norm", "--bg_radius", str(min(int(radius), settings.image_px // 2 - 2))),
    ]
    if settings.image_px != settings.box_px:
        arguments += ["--scale", str(settings.image_px)]
    versions = [_describe_file(m.source.path) for m in table.micrographs]
    command = Command("relion_preprocess", tuple(arguments), (f"{name}/particles.star",))
    return Step(name, (command,), files, tuple(versions))


def _describe_file(path: Path) -> str:
    """Return what shows whether a file was replaced."""
    status = path.stat()
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class ImageTable:
    """The images of positions, as RELION lists them.

    Attributes
    ----------
    optics
        RELION's optics table.
    columns
        By label, one row per image.
    positions
        Where each image was cut out.
    """

    optics: Mapping[str, Any]
    columns: Mapping[str, NDArray[Any]]
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)

    def render(self, rows: IndexArray) -> str:
        """Return the STAR file of some of the images.

        They are one group, whose noise RELION estimates: by default every micrograph is a group,
        and few images of one do not say what its noise is.
        """
        particles = {label: values[rows] for label, values in self.columns.items()}
        particles["rlnGroupName"] = np.full(len(rows), "all")
        return render_blocks({"optics": self.optics, "particles": particles})

    @classmethod
    def read(cls, work: Path, step: Step, positions: Positions) -> ImageTable:
        """Read what RELION wrote, in the order of the positions.

        Raises
        ------
        BadInput
            If RELION did not extract all of them.
        """
        path = work / step.path("particles.star")
        blocks = read_blocks(path)
        table = blocks.get("particles", StarTable({}))
        names = table[_IMAGE] if _IMAGE in table else np.zeros(0, dtype=object)
        found = {_parse_image_name(str(image)): row for row, image in enumerate(names)}
        counts: dict[int, int] = {}
        rows = []
        for index in positions.micrograph:
            counts[index] = counts.get(index, 0) + 1
            rows.append(found.get((int(index), counts[index])))
        missing = rows.count(None)
        if missing or len(names) != len(positions) or "optics" not in blocks:
            raise BadInput(
                f"RELION extracted {len(names)} images at {len(positions)} positions; see"
                f" {path.parent}"
            )
        order = np.array(rows, dtype=np.intp)
        optics = {label: blocks["optics"][label] for label in blocks["optics"].columns}
        return cls(optics, {c: table[c][order] for c in table.columns}, positions)


def _parse_image_name(image: str) -> tuple[int, int]:
    """Return the index of the micrograph of an image, and its number there."""
    number, _, stack = image.partition("@")
    return int(Path(stack).stem), int(number)


def read_rows(path: Path, columns: Sequence[str], images: ImageTable, rows: IndexArray) -> Any:
    """Read columns of the particles that a refinement wrote, in the order of some images.

    Parameters
    ----------
    columns
        Labels of numbers.

    Returns
    -------
    array
        Shape (number of rows, number of columns).

    Raises
    ------
    BadInput
        If the file lacks a column or an image.
    """
    table = read_blocks(path).get("particles", StarTable({}))
    if not {_IMAGE, *columns} <= {*table.columns}:
        raise BadInput(f"{path} has no column _{columns[0]} of particles; is it of RELION 3.1?")
    values = np.array([table[label] for label in columns]).astype(np.float64).T
    found = {str(name): row for row, name in enumerate(table[_IMAGE])}
    order = [found.get(str(name)) for name in images.columns[_IMAGE][rows]]
    if None in order:
        raise BadInput(f"{path} lacks some of the images that were given to RELION")
    return values[np.array(order, dtype=np.intp)]
