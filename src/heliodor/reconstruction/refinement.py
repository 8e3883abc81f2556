"""3D refinement of independent halves of the picks, from a low-resolution reference.

A first pass compares images and reference by cross correlation, because the scale of the reference
is unknown; global and then local searches by maximum likelihood follow. Each half has its own
reference from the first pass on. The halves are split several times, because the resolution of
one split is uncertain by tenths of an angstrom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mrcfile
import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.errors import BadInput
from heliodor.reconstruction.fsc import ShellCorrelation, compare_halves
from heliodor.reconstruction.particles import ImageSettings, ImageTable, read_rows
from heliodor.reconstruction.programs import Command
from heliodor.reconstruction.steps import Step
from heliodor.utils.hashing import fingerprint_file

#: Iterations with global searches, the first by cross correlation, and with local ones.
GLOBAL, LOCAL = 4, 3
#: The reference is filtered to this share of the diameter, but not beyond these, angstrom.
_FILTER_SHARE: Final = 0.27
_FILTER_LIMITS: Final = (20.0, 40.0)
#: Images are moved by this share of the diameter at most in each global iteration, within these
#: numbers of pixels: with larger ranges, a few small images find wrong orientations.
_RANGE_SHARE: Final = 0.12
_RANGE_LIMITS_PX: Final = (2, 4)
#: Transforms are padded to this many times the size of the images. Without padding, interpolation
#: in small images is so inaccurate that iterations by maximum likelihood lose the orientations.
PADDING: Final = 2
#: Fewer picks in a half do not make a map.
FEWEST_PER_HALF: Final = 50
_SYMMETRY = re.compile(r"C[1-9]\d?|D[1-9]\d?|T|O|I[1-4]?", re.IGNORECASE)
_SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst")


def check_symmetry(symmetry: str) -> str:
    """Return a point group as RELION spells it.

    Raises
    ------
    BadInput
        If it is not one.
    """
    if not _SYMMETRY.fullmatch(symmetry):
        raise BadInput(
            f"the symmetry {symmetry!r} is not a point group such as C1, D7, T, O or I",
            parameter="symmetry",
        )
    return symmetry.upper()


def count_operators(symmetry: str) -> int:
    """Return the number of rotations in a point group."""
    letter, number = symmetry[0], symmetry[1:]
    if letter in "CD":
        return int(number) * (2 if letter == "D" else 1)
    return {"T": 12, "O": 24, "I": 60}[letter]


def plan_reference(path: Path, settings: ImageSettings) -> Step:
    """Return the step that brings a map to the size of the images.

    Raises
    ------
    BadInput
        If the map cannot be read, or has no pixel size.
    """
    try:
        with mrcfile.open(path, permissive=True, header_only=True) as mrc:
            voxel = float(mrc.voxel_size.x)
            shape = tuple(int(mrc.header[axis]) for axis in ("nx", "ny", "nz"))
    except (OSError, ValueError) as error:
        raise BadInput(f"the reference {path} cannot be read as a map ({error})") from error
    if len({*shape}) != 1 or shape[0] < 8:
        raise BadInput(f"the reference {path} is not a cubic map: its shape is {shape}")
    if not 0.1 < voxel < 100:
        raise BadInput(f"the reference {path} has no voxel size in its header; set it")
    arguments = (
        *("--i", str(path.absolute()), "--o", "reference/map.mrc"),
        *("--angpix", f"{voxel:.6g}"),
        *("--rescale_angpix", f"{settings.image_pixel_size_angstrom:.6g}"),
        *("--force_header_angpix", f"{settings.image_pixel_size_angstrom:.6g}"),
        *("--new_box", str(settings.image_px)),
    )
    command = Command("relion_image_handler", arguments, ("reference/map.mrc",))
    return Step("reference", (command,), {}, (fingerprint_file(path),))


@dataclass(frozen=True)
class HalfSettings:
    """How halves are refined.

    Attributes
    ----------
    symmetry
        Point group.
    seed
        Of the splits.
    splits
        How often the picks are split into halves.
    """

    symmetry: str
    seed: int
    splits: int


@dataclass(frozen=True)
class SplitPlan:
    """One split of a set into halves, each with its step and its images."""

    steps: tuple[Step, Step]
    rows: tuple[IndexArray, IndexArray]


def split_rows(rows: IndexArray, total: int, seed: int) -> tuple[IndexArray, IndexArray]:
    """Return two halves of some images; an image is in the same half whatever the others are.

    Parameters
    ----------
    rows
        The images.
    total
        The number of all images, of which these are some.
    """
    half = np.random.default_rng(seed).random(total) < 0.5
    return rows[half[rows]], rows[~half[rows]]


def plan_split(
    name: str,
    images: ImageTable,
    rows: IndexArray,
    settings: ImageSettings,
    halves: HalfSettings,
    number: int,
    depends: Sequence[str],
) -> SplitPlan:
    """Return the steps that refine the halves of one split.

    Parameters
    ----------
    name
        Of the set.
    rows
        Its images.
    number
        Of the split.
    depends
        Keys of the steps that made the images and the reference.
    """
    parts = split_rows(rows, len(images), halves.seed + number)
    steps = [
        _plan_half(f"{name}/split{number + 1}_half{half}", images.render(part), settings, halves,
                   depends)
        for half, part in enumerate(parts, 1)
    ]  # fmt: skip
    return SplitPlan((steps[0], steps[1]), parts)


def _plan_half(
    name: str,
    particles: str,
    settings: ImageSettings,
    halves: HalfSettings,
    depends: Sequence[str],
) -> Step:
    ini_high = float(np.clip(_FILTER_SHARE * settings.diameter_angstrom, *_FILTER_LIMITS))
    shift_px = _RANGE_SHARE * settings.diameter_angstrom / settings.image_pixel_size_angstrom
    range_px = int(np.clip(math.ceil(shift_px), *_RANGE_LIMITS_PX))
    common = [
        *("--sym", halves.symmetry, "--ctf", "--ctf_intact_first_peak"),
        *("--particle_diameter", f"{settings.mask_diameter_angstrom:.1f}"),
        *("--flatten_solvent", "--zero_mask", "--norm", "--scale", "--K", "1"),
        *("--tau2_fudge", "2", "--oversampling", "1", "--pad", f"{PADDING}"),
        *("--pool", "30", "--j", "1"),
        *("--dont_combine_weights_via_disc", "--preread_images"),
        *("--random_seed", str(halves.seed + 1)),
    ]
    wide, fine = f"global_it{GLOBAL:03d}", f"local_it{LOCAL:03d}"
    commands = (
        Command(
            "relion_refine",
            (
                *("--i", f"{name}/particles.star", "--ref", "reference/map.mrc"),
                *("--o", f"{name}/global", "--firstiter_cc", "--ini_high", f"{ini_high:.1f}"),
                *("--iter", str(GLOBAL), "--healpix_order", "2"),
                *("--offset_range", f"{range_px}", "--offset_step", f"{range_px // 2}", *common),
            ),
            (f"{name}/{wide}_data.star", f"{name}/{wide}_class001.mrc"),
        ),
        Command(
            "relion_refine",
            (
                *("--i", f"{name}/{wide}_data.star", "--ref", f"{name}/{wide}_class001.mrc"),
                *("--o", f"{name}/local", "--iter", str(LOCAL), "--healpix_order", "3"),
                *("--sigma_ang", "4", "--offset_range", "3", "--offset_step", "1", *common),
            ),
            (f"{name}/{fine}_data.star", f"{name}/{fine}_class001.mrc"),
        ),
        Command(
            "relion_reconstruct",
            (
                *("--i", f"{name}/{fine}_data.star", "--o", f"{name}/map.mrc"),
                *("--sym", halves.symmetry, "--ctf", "--ctf_intact_first_peak"),
                *("--pad", f"{PADDING}"),
            ),
            (f"{name}/map.mrc",),
        ),
    )
    keep = frozenset({f"{fine}_data.star", f"{fine}_class001.mrc", "map.mrc"})
    return Step(name, commands, {"particles.star": particles}, tuple(depends), keep)


@dataclass(frozen=True)
class RefinedSplit:
    """What the refinement of one split found.

    Attributes
    ----------
    shells
        The correlation of the halves.
    offsets_angstrom
        How far each image was moved, shape (n,).
    """

    shells: ShellCorrelation
    offsets_angstrom: FloatArray


def read_split(
    work: Path, plan: SplitPlan, images: ImageTable, settings: ImageSettings
) -> RefinedSplit:
    """Read the maps and the offsets of one split.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    maps = [work / step.path("map.mrc") for step in plan.steps]
    offsets = [
        np.hypot(*read_rows(work / step.path(f"local_it{LOCAL:03d}_data.star"), _SHIFTS, images,
                            rows).T)
        for step, rows in zip(plan.steps, plan.rows, strict=True)
    ]  # fmt: skip
    shells = compare_halves(maps[0], maps[1], settings.mask_diameter_angstrom)
    return RefinedSplit(shells, np.concatenate(offsets))
