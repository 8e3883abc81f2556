"""Classes of picks and decoys without RELION: quick groups of crops that look alike.

Nothing is refined, and views of one particle are not separated; see
`heliodor.picking.crop_groups`. What RELION's classes are asked for, in which of them positions
without particles gather, can be asked of these groups as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from heliodor.conventions import IndexArray
from heliodor.data.micrographs.ctf import CtfParameters, flip_phases
from heliodor.data.micrographs.working_images import Failure, prepare_working_image
from heliodor.errors import BadInput
from heliodor.picking.crop_groups import DIAMETER_PX, Crops, as_gray, cut_crops, group_crops
from heliodor.reconstruction.classification import (
    ClassAssignment,
    count_classes,
    divide_into_portions,
)
from heliodor.reconstruction.micrograph_table import MicrographTable
from heliodor.reconstruction.particles import REVERSED, Positions
from heliodor.utils.prefetch import prefetch

#: The most images that are grouped, drawn at random: more would take memory and say little more.
MOST_IMAGES: Final = 20_000


def draw_rows(positions: int, seed: int) -> IndexArray:
    """Return which of the positions are grouped, at most `MOST_IMAGES`, rising."""
    drawn = np.random.default_rng(seed).permutation(positions)[:MOST_IMAGES]
    return np.sort(drawn).astype(np.intp)


def cut_position_crops(
    positions: Positions,
    table: MicrographTable,
    diameter_angstrom: float,
    ctf: Mapping[str, CtfParameters],
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Crops, IndexArray, list[Failure]]:
    """Cut crops from micrographs, whose phases are flipped where the CTF is known.

    Parameters
    ----------
    positions
        In pixels of the micrographs; the contrast of crops at reversed ones is reversed.
    ctf
        By the names of micrographs; nothing is corrected on others.
    threads
        Most micrographs that are read at a time.

    Returns
    -------
    Crops, ndarray of int, list of Failure
        The crops, shape (n, s, s); the row of the positions of each, shape (n,); and the
        micrographs that cannot be used.
    """
    used = np.unique(positions.micrograph)
    rows = [np.flatnonzero(positions.micrograph == index) for index in used]

    def cut(place: int) -> Crops:
        micrograph = table.micrographs[int(used[place])]
        own = prepare_working_image(
            micrograph.source,
            diameter_angstrom / DIAMETER_PX,
            micrograph.pixel_size_angstrom,
            coarsest_angstrom=math.inf,
        )
        known = ctf.get(micrograph.source.name)
        pixel, image = own.working_pixel_size_angstrom, own.image
        if known is not None:
            image = flip_phases(image, pixel, known)
        scale = np.array(own.shape[::-1]) / np.array(own.original_shape[::-1])
        xy_px = positions.xy_px[rows[place]] * scale
        crops = cut_crops(image, pixel, xy_px, diameter_angstrom)
        crops[positions.kind[rows[place]] == REVERSED] *= -1
        return crops

    crops, kept, failures = list[Crops](), list[IndexArray](), list[Failure]()
    with prefetch(cut, range(len(used)), threads) as results:
        for place, future in results:
            try:
                crops.append(future.result())
                kept.append(rows[place])
            except BadInput as error:
                name = table.micrographs[int(used[place])].source.name
                failures.append(Failure(name, str(error)))
            if progress is not None:
                progress(place + 1, len(used))
    if not crops:
        raise BadInput(f"none of the micrographs can be used: {failures[0].reason}")
    return np.concatenate(crops), np.concatenate(kept), failures


def group_images(crops: Crops, seed: int) -> list[ClassAssignment]:
    """Group crops in portions of a size that is quick to do.

    Parameters
    ----------
    crops
        Of picks and decoys, shape (n, s, s).
    seed
        The same seed gives the same groups.
    """
    found = []
    for rows in divide_into_portions(len(crops), seed):
        groups = group_crops(crops[rows], None, count_classes(len(rows)), seed)
        # Particles are dark on micrographs, and bright in averages as RELION shows them.
        averages = as_gray(-groups.averages).astype(np.float64)
        found.append(ClassAssignment(rows, groups.group + 1, averages))
    return found
