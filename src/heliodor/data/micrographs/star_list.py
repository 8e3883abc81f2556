"""The micrographs in a RELION STAR file, with their pixel sizes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heliodor.data.star import find_tables, read_blocks
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number, refuse_damaged

if TYPE_CHECKING:
    from heliodor.data.star import StarTable

log = logging.getLogger(__name__)

NAME = "rlnMicrographName"


PIXEL_SIZE, ORIGINAL_PIXEL_SIZE = "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"


DETECTOR = ("rlnDetectorPixelSize", "rlnMagnification")


OPTICS_GROUP = "rlnOpticsGroup"
#: Names of blocks that list micrographs, of which the first is taken.
BLOCKS = ("micrographs", "", "particles")


@refuse_damaged
def read_micrographs(path: str | Path) -> list[tuple[str, float | None]]:
    """Read the micrographs of a STAR file and their pixel sizes, if they are given.

    Returns
    -------
    list of (str, float or None)
        Name and angstrom per pixel, each name once, in the file's order.

    Raises
    ------
    BadInput
        If no block lists micrographs, or the list is empty.
    """
    blocks = read_blocks(path)
    table, note = find_tables(blocks, (NAME,), BLOCKS)
    if table is None:
        raise BadInput(f"{path} has no column _{NAME}: it does not list micrographs")
    if note is not None:
        log.warning(f"{path}: {note}")
    if not len(table):
        raise BadInput(f"{path} lists no micrographs: the table is empty")
    sizes = pixel_sizes(table, blocks.get("optics"), detector=True)
    rows = zip((str(name) for name in table[NAME]), sizes, strict=True)
    return list(dict(rows).items())


def pixel_sizes(
    table: StarTable, optics: StarTable | None, detector: bool = False
) -> list[float | None]:
    """Return each row's pixel size: its optics group's, its own, or the original micrograph's.

    Parameters
    ----------
    detector
        Whether to use RELION 3.0's detector pixel size and magnification as well. In tables of
        extracted particles they are those of the rescaled particles.
    """
    columns = [values_of_rows(table, optics, PIXEL_SIZE)]
    if detector and {*DETECTOR} <= {*table.columns}:
        pairs = zip(*(map(as_positive, table[name]) for name in DETECTOR), strict=True)
        columns.append([1e4 * size / times if size and times else None for size, times in pairs])
    columns.append(values_of_rows(table, optics, ORIGINAL_PIXEL_SIZE))
    return [next((size for size in sizes if size), None) for sizes in zip(*columns, strict=True)]


def values_of_rows(table: StarTable, optics: StarTable | None, column: str) -> list[float | None]:
    """Return a column's positive numbers per row, from the optics group or the row itself."""
    if optics is not None and column in optics:
        if OPTICS_GROUP in table:
            groups = dict(zip(optics[OPTICS_GROUP], optics[column], strict=True))
            return [as_positive(groups.get(group)) for group in table[OPTICS_GROUP]]
        if len(optics) == 1:
            return [as_positive(optics[column][0])] * len(table)
    if column in table:
        return [as_positive(value) for value in table[column]]
    return [None] * len(table)


def as_positive(value: Any) -> float | None:
    """Return a positive, finite number, or None."""
    number = parse_number(value)
    return number if np.isfinite(number) and number > 0 else None
