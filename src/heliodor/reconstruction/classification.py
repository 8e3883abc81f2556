"""2D classification of picks and decoys together, in portions of a size that is quick to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mrcfile
import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.errors import BadInput
from heliodor.reconstruction.particles import (
    ImageSettings,
    ImageTable,
    read_rows,
)
from heliodor.reconstruction.programs import Command
from heliodor.reconstruction.steps import Step

#: The most images that are classified together; more are classified in several portions.
PORTION: Final = 5000
#: Iterations, and the classes for so many images.
ITERATIONS: Final = 10
_IMAGES_PER_CLASS, FEWEST_CLASSES, MOST_CLASSES = 400, 8, 12
#: In-plane angles, degrees, and the search for the center, in pixels of the images.
_ANGLE, _RANGE, _STEP = 12, 3, 2


@dataclass(frozen=True)
class Portion:
    """Images that are classified together.

    Attributes
    ----------
    step
        The step in which RELION does it.
    rows
        The images, shape (n,).
    classes
        The number of classes.
    """

    step: Step
    rows: IndexArray
    classes: int


def divide_into_portions(images: int, seed: int) -> list[IndexArray]:
    """Return the rows of images that are classified together, divided at random."""
    count = math.ceil(images / PORTION)
    order = np.random.default_rng(seed).permutation(images)
    return [np.sort(order[number::count]) for number in range(count)]


def count_classes(images: int) -> int:
    """Return the number of classes for so many images."""
    return int(np.clip(images // _IMAGES_PER_CLASS, FEWEST_CLASSES, MOST_CLASSES))


def plan_classification(
    images: ImageTable, settings: ImageSettings, has_ctf: bool, seed: int, depends: Sequence[str]
) -> list[Portion]:
    """Return the portions into which images are divided at random, each with its step.

    Parameters
    ----------
    images
        Picks and decoys.
    has_ctf
        Whether the contrast transfer functions are known.
    depends
        Keys of the steps that made the images.
    """
    portions = []
    for number, rows in enumerate(divide_into_portions(len(images), seed)):
        classes = count_classes(len(rows))
        name = f"classes/{number + 1}"
        arguments = [
            *("--i", f"{name}/particles.star", "--o", f"{name}/run"),
            *("--K", str(classes), "--iter", str(ITERATIONS), "--tau2_fudge", "2"),
            *("--particle_diameter", f"{settings.mask_diameter_angstrom:.1f}"),
            *("--flatten_solvent", "--zero_mask", "--norm", "--scale"),
            *("--oversampling", "0", "--psi_step", str(_ANGLE)),
            *("--offset_range", str(_RANGE), "--offset_step", str(_STEP)),
            *("--pad", "1", "--pool", "30", "--j", "1", "--random_seed", str(seed + 1)),
            *("--dont_combine_weights_via_disc", "--preread_images"),
        ]
        if has_ctf:
            arguments += ["--ctf", "--ctf_intact_first_peak"]
        last = f"run_it{ITERATIONS:03d}"
        made = [f"{last}_data.star", f"{last}_classes.mrcs", f"{last}_model.star"]
        outputs = tuple(f"{name}/{file}" for file in made)
        command = Command("relion_refine", tuple(arguments), outputs)
        files = {"particles.star": images.render(rows)}
        step = Step(name, (command,), files, tuple(depends), frozenset(made))
        portions.append(Portion(step, rows, classes))
    return portions


@dataclass(frozen=True)
class ClassAssignment:
    """What the classification of a portion found.

    Attributes
    ----------
    rows
        The images, shape (n,).
    number
        The class of each image, from 1, shape (n,).
    averages
        The average of each class, particles bright, shape (k, h, w).
    """

    rows: IndexArray
    number: IndexArray
    averages: FloatArray


def read_classification(work: Path, portion: Portion, images: ImageTable) -> ClassAssignment:
    """Read what RELION found for a portion.

    Raises
    ------
    BadInput
        If a file cannot be read.
    """
    step, last = portion.step, f"run_it{ITERATIONS:03d}"
    path = work / step.path(f"{last}_data.star")
    numbers = read_rows(path, ("rlnClassNumber",), images, portion.rows)[:, 0]
    stack = work / step.path(f"{last}_classes.mrcs")
    try:
        averages = np.array(mrcfile.read(stack), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise BadInput(f"{stack} cannot be read ({error})") from error
    if numbers.min(initial=1) < 1 or numbers.max(initial=1) > len(averages):
        raise BadInput(f"{path} has class numbers that {stack} has no average of")
    return ClassAssignment(portion.rows, numbers.astype(np.intp), averages)
