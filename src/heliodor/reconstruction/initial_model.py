"""An initial model from the images themselves, for refinements without a reference.

Stochastic gradient descent from random orientations (Punjani et al., Nature Methods 14, 290
(2017)), as RELION does it. The hand of the model is as likely wrong as right; the correlation of
two halves does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.errors import BadInput
from heliodor.reconstruction.classification import ClassAssignment
from heliodor.reconstruction.particles import PICK, ImageSettings, ImageTable
from heliodor.reconstruction.programs import Command
from heliodor.reconstruction.refinement import PADDING
from heliodor.reconstruction.steps import Step

#: The folder of the step.
NAME: Final = "initial"
#: Fewer images do not make a model, and more do not make a better one at this resolution.
FEWEST_IMAGES, MOST_IMAGES = 100, 2000
#: Iterations at the first resolution, on the way to the last one, and there.
_ITERATIONS: Final = (30, 60, 30)
#: Images of an iteration in the beginning, and in the end.
_SUBSETS: Final = (100, 250)
#: The first and the last resolution as shares of the diameter, and the limits of the last one,
#: angstrom.
_FIRST_SHARE, _LAST_SHARE = 0.33, 0.2
_LAST_LIMITS: Final = (15.0, 40.0)
#: Classes of whose picks more is junk are left out.
_MOST_JUNK: Final = 0.5


def choose_images(
    images: ImageTable,
    found: Sequence[ClassAssignment],
    junk: Sequence[FloatArray],
    seed: int,
) -> IndexArray:
    """Return the images of the surest picks that are not in classes of junk.

    Parameters
    ----------
    images
        All images.
    found, junk
        The classes of each portion, and the share of junk of each class.
    seed
        Draws the images if picks have no scores.

    Returns
    -------
    ndarray of int
        Rows of the images, rising, at most `MOST_IMAGES`.

    Raises
    ------
    BadInput
        If there are too few.
    """
    usable = np.zeros(len(images), dtype=bool)
    for one, shares in zip(found, junk, strict=True):
        usable[one.rows] = (shares <= _MOST_JUNK)[one.number - 1]
    rows = np.flatnonzero(usable & (images.positions.kind == PICK))
    if len(rows) < FEWEST_IMAGES:
        raise BadInput(
            f"only {len(rows)} picks are in 2D classes that look like particles, too few for an"
            f" initial model ({FEWEST_IMAGES}); give a map with --reference, or judge the picks by"
            " their 2D classes alone with --quick"
        )
    drawn = np.random.default_rng(seed).permutation(len(rows))
    scores = np.nan_to_num(images.positions.score[rows])
    order = np.lexsort((drawn, -scores))
    return np.sort(rows[order[:MOST_IMAGES]])


def plan_initial_model(
    images: ImageTable,
    rows: IndexArray,
    settings: ImageSettings,
    symmetry: str,
    version: str,
    seed: int,
    depends: Sequence[str],
) -> Step:
    """Return the step that makes the model, the only output of its command.

    Parameters
    ----------
    rows
        The images to use.
    symmetry
        Point group, which is imposed from the beginning.
    version
        Of RELION, which from 4 on has other options for it.
    seed
        Of the random orientations.
    depends
        Keys of the steps that made the images.
    """
    last = float(np.clip(_LAST_SHARE * settings.diameter_angstrom, *_LAST_LIMITS))
    first = max(last, _FIRST_SHARE * settings.diameter_angstrom)
    ends = ("ini", "fin")
    if int(version.split(".")[0]) < 4:
        kind, iterations = "sgd", sum(_ITERATIONS)
        names = ("ini", "inbetween", "fin")
        how = ["--sgd", "--sgd_write_iter", str(iterations)]
        for name, number in zip(names, _ITERATIONS, strict=True):
            how += [f"--sgd_{name}_iter", str(number)]
    else:
        kind, iterations = "grad", sum(_ITERATIONS)
        how = ["--grad", "--iter", str(iterations), "--grad_write_iter", str(iterations)]
        for name, number in zip(ends, (_ITERATIONS[0], _ITERATIONS[2]), strict=True):
            how += [f"--grad_{name}_frac", f"{number / iterations:.3g}"]
    for name, resolution, subset in zip(ends, (first, last), _SUBSETS, strict=True):
        how += [f"--{kind}_{name}_resol", f"{resolution:.1f}"]
        how += [f"--{kind}_{name}_subset", str(subset)]
    made = f"run_it{iterations:03d}_class001.mrc"
    command = Command(
        "relion_refine",
        (
            *("--i", f"{NAME}/particles.star", "--o", f"{NAME}/run", "--denovo_3dref", *how),
            *("--K", "1", "--sym", symmetry, "--ctf", "--ctf_intact_first_peak"),
            *("--particle_diameter", f"{settings.mask_diameter_angstrom:.1f}"),
            *("--flatten_solvent", "--zero_mask", "--oversampling", "1"),
            *("--healpix_order", "1", "--offset_range", "4", "--offset_step", "2"),
            *("--pad", f"{PADDING}", "--pool", "30", "--j", "1", "--random_seed", str(seed + 1)),
            *("--dont_combine_weights_via_disc", "--preread_images"),
        ),
        (f"{NAME}/{made}",),
    )
    files = {"particles.star": images.render(rows)}
    return Step(NAME, (command,), files, tuple(depends), frozenset({made}))
