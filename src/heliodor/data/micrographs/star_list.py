"""The micrographs in a RELION STAR file, with their pixel sizes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliodor.data.star import find_tables, read_blocks
from heliodor.errors import BadInput
from heliodor.utils.parsing import as_positive, parse_number, refuse_damaged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliodor.data.star import StarTable

log = logging.getLogger(__name__)

NAME, MOVIE = "rlnMicrographName", "rlnMicrographMovieName"
#: How columns of RELION's tables of tomograms begin.
TOMOGRAM_PREFIXES = ("rlnTomo", "rlnCenteredCoordinate")


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
        why = describe_other_tables(blocks) or "it does not list micrographs"
        raise BadInput(f"{path} has no column _{NAME}: {why}")
    if note is not None:
        log.warning(f"{path}: {note}")
    if not len(table):
        raise BadInput(f"{path} lists no micrographs: the table is empty")
    missing = next((row for row, name in enumerate(table[NAME], 1) if name != name), None)
    if missing is not None:
        raise BadInput(f"{path} has no _{NAME} in row {missing} of its table; remove the row")
    groups = OpticsGroups.find(table, blocks.get("optics"), path)
    sizes = pixel_sizes(table, groups, detector=True)
    originals = groups.values(table, ORIGINAL_PIXEL_SIZE)
    unknown = [old for size, old in zip(sizes, originals, strict=True) if old and not size]
    if unknown:
        log.warning(
            f"{path} has only the pixel size of the movies (_{ORIGINAL_PIXEL_SIZE}"
            f" {unknown[0]:g}), which motion correction may have changed; that of the micrographs"
            " is read from their headers, unless you set it"
        )
    rows = zip((str(name) for name in table[NAME]), sizes, strict=True)
    return list(dict(rows).items())


def describe_other_tables(blocks: Mapping[str, StarTable]) -> str | None:
    """Return what a STAR file is, as a sentence, if it is of tomograms or movies."""
    columns = {column for table in blocks.values() for column in table.columns}
    if any(column.startswith(TOMOGRAM_PREFIXES) for column in columns):
        return "it belongs to tomograms, and heliodor finds particles in micrographs"
    if MOVIE in columns:
        return (
            "it lists movies; correct their motion, and give the list of the micrographs"
            " (corrected_micrographs.star)"
        )
    return None


@dataclass(frozen=True)
class OpticsGroups:
    """The optics groups of the rows of a table."""

    #: The optics table, if its rows can be assigned to those of the table.
    optics: StarTable | None
    #: For each row of the table, the row of its group in the optics table, or None.
    rows: list[int | None]

    @classmethod
    def find(cls, table: StarTable, optics: StarTable | None, path: str | Path) -> OpticsGroups:
        """Find the optics group of each row; groups are compared as numbers.

        An optics table with one row is used for all rows if either table has no groups. What
        cannot be assigned is logged, with the name of the file.

        Raises
        ------
        BadInput
            If the optics table has one group twice, with different values.
        """
        if optics is None or not len(optics):
            return cls(None, [None] * len(table))
        if OPTICS_GROUP not in table or OPTICS_GROUP not in optics:
            if len(optics) == 1:
                return cls(optics, [0] * len(table))
            where = "its optics table" if OPTICS_GROUP in table else "its rows"
            log.warning(
                f"{path} has {len(optics)} optics groups, but no _{OPTICS_GROUP} in {where}: they"
                " are not used"
            )
            return cls(None, [None] * len(table))
        place: dict[str, int] = {}
        for row, group in enumerate(map(spell_group, optics[OPTICS_GROUP])):
            first = place.setdefault(group, row)
            others = [c for c in optics.columns if c != OPTICS_GROUP]
            different = [c for c in others if not _is_same(optics[c][first], optics[c][row])]
            if different:
                raise BadInput(
                    f"{path} has the optics group {group} twice, with different values of"
                    f" _{different[0]}; join the files that it was made from with `heliodor"
                    " convert`, which gives each group its own number"
                )
        groups = [*map(spell_group, table[OPTICS_GROUP])]
        strange = [group for group in groups if group not in place]
        if strange:
            log.warning(
                f"{path} has {len(strange)} rows of the optics group {strange[0]}, which its"
                " optics table does not have: their pixel size is not known from it"
            )
        return cls(optics, [place.get(group) for group in groups])

    def values(self, table: StarTable, column: str) -> list[float | None]:
        """Return a column's positive numbers per row, from the optics group or the row itself."""
        if self.optics is not None and column in self.optics:
            numbers = [*map(as_positive, self.optics[column])]
            return [None if row is None else numbers[row] for row in self.rows]
        if column in table:
            return [as_positive(value) for value in table[column]]
        return [None] * len(table)


@lru_cache(maxsize=4096)
def spell_group(value: Any) -> str:
    """Return the number of an optics group in one spelling: 1 for 1.0, 1.000000 and 01."""
    number = parse_number(value)
    return str(int(number)) if number.is_integer() else str(value)


def _is_same(one: Any, other: Any) -> bool:
    return str(one) == str(other) or parse_number(one) == parse_number(other)


def pixel_sizes(
    table: StarTable, groups: OpticsGroups, detector: bool = False
) -> list[float | None]:
    """Return each row's pixel size: its optics group's, or its own.

    The pixel size of the movie (``rlnMicrographOriginalPixelSize``) is not that of a micrograph:
    motion correction may have binned it.

    Parameters
    ----------
    detector
        Whether to use RELION 3.0's detector pixel size and magnification as well. In tables of
        extracted particles they are those of the rescaled particles.
    """
    columns = [groups.values(table, PIXEL_SIZE)]
    if detector and {*DETECTOR} <= {*table.columns}:
        pairs = zip(*(map(as_positive, table[name]) for name in DETECTOR), strict=True)
        columns.append([1e4 * size / times if size and times else None for size, times in pairs])
    return [next((size for size in sizes if size), None) for sizes in zip(*columns, strict=True)]
