"""The micrographs as RELION needs them: optics, defocus, and names without surprises."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from heliodor.conventions import Shape
from heliodor.data.micrographs.compression import is_compressed
from heliodor.data.micrographs.headers import TIFF_NOTE, read_header
from heliodor.data.micrographs.names import is_tiff
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.star_list import BLOCKS, NAME, PIXEL_SIZE, OpticsGroups
from heliodor.data.micrographs.working_images import choose_pixel_size, same_pixel_size
from heliodor.data.star import StarTable, find_tables, read_blocks, render_blocks
from heliodor.errors import BadInput
from heliodor.utils.files import create_subfolder

#: The folder of links to the micrographs, and the table of them.
LINKS, TABLE = "micrographs", "micrographs.star"
VOLTAGE, ABERRATION, CONTRAST = (
    *("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"),
)
DEFOCUS: Final = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
PHASE_SHIFT = "rlnPhaseShift"
#: RELION wants these of every table, also where no contrast transfer function is used.
_UNUSED = {VOLTAGE: 300.0, ABERRATION: 2.7, CONTRAST: 0.1}


@dataclass(frozen=True)
class JudgedMicrograph:
    """A micrograph from which particles are extracted.

    Attributes
    ----------
    source
        The micrograph.
    shape
        (height, width).
    pixel_size_angstrom
        Of its file.
    """

    source: Source
    shape: Shape
    pixel_size_angstrom: float


def open_micrograph(
    source: Source, given_angstrom: float | None = None, for_relion: bool = True
) -> JudgedMicrograph:
    """Read the header of a micrograph.

    Parameters
    ----------
    for_relion
        Whether RELION is to read it.

    Raises
    ------
    BadInput
        If it cannot be read, by RELION or at all, or its pixel size is not known.
    """
    if for_relion and is_tiff(source.path.name):
        raise BadInput(f"{source.path} is a TIFF file: {TIFF_NOTE}")
    header = read_header(source.path)
    if for_relion and is_compressed(source.path):
        raise BadInput(f"{source.path} is compressed, which RELION cannot read; decompress it")
    size = choose_pixel_size(source, header.pixel_size_angstrom, given_angstrom)
    return JudgedMicrograph(source, header.shape, size)


def check_one_pixel_size(micrographs: Sequence[JudgedMicrograph]) -> float:
    """Return the pixel size of micrographs in angstrom, which must be the same for all.

    Raises
    ------
    BadInput
        If it is not.
    """
    first = micrographs[0]
    for other in micrographs:
        if not same_pixel_size(first.pixel_size_angstrom, other.pixel_size_angstrom):
            raise BadInput(
                f"{first.source.name} has {first.pixel_size_angstrom:g} Å/pixel,"
                f" {other.source.name} {other.pixel_size_angstrom:g}; judge them separately"
            )
    return first.pixel_size_angstrom


@dataclass(frozen=True)
class _Row:
    """What a STAR file has of a micrograph, by column, as it is written."""

    optics: dict[str, str]
    defocus: dict[str, str]

    @property
    def has_ctf(self) -> bool:
        """Whether the contrast transfer function is known."""
        return set(_UNUSED) <= self.optics.keys() and set(DEFOCUS) <= self.defocus.keys()


class MicrographTable:
    """The table of micrographs that RELION extracts from.

    Attributes
    ----------
    micrographs
        In the order of the table.
    has_ctf
        Whether the contrast transfer functions of all of them are known.
    text
        The STAR file, with the names of links in the folder of the work.
    """

    def __init__(self, micrographs: Sequence[JudgedMicrograph], stars: Sequence[Path]) -> None:
        self.micrographs = tuple(micrographs)
        known = {name: row for star in stars for name, row in _read_rows(star).items()}
        rows = [known.get(m.source.name, _Row({}, {})) for m in self.micrographs]
        self.has_ctf = all(row.has_ctf for row in rows)
        self.text = self._render(rows)

    def name(self, index: int) -> str:
        """Return the name of a micrograph's link, relative to the folder of the work."""
        return f"{LINKS}/{index:06d}.mrc"

    def link(self, work: Path) -> None:
        """Make the links to the micrographs, whose own names RELION might not read.

        Raises
        ------
        BadInput
            If a link cannot be made.
        """
        create_subfolder(work, LINKS)
        for index, micrograph in enumerate(self.micrographs):
            path, target = work / self.name(index), os.path.abspath(micrograph.source.path)
            try:
                if path.is_symlink() and os.readlink(path) != target:
                    path.unlink()
                if not path.is_symlink():
                    path.symlink_to(target)
            except OSError as error:
                raise BadInput(f"{path} cannot be made ({error.strerror})") from error

    def _render(self, rows: Sequence[_Row]) -> str:
        groups: dict[tuple[str, ...], int] = {}
        columns: dict[str, list[Any]] = {NAME: [], "rlnOpticsGroup": []}
        labels = [*DEFOCUS, PHASE_SHIFT] if self.has_ctf else []
        columns |= {label: [] for label in labels}
        for index, row in enumerate(rows):
            optics = row.optics if self.has_ctf else {}
            values = tuple(str(optics.get(label, _UNUSED[label])) for label in _UNUSED)
            columns[NAME].append(self.name(index))
            columns["rlnOpticsGroup"].append(groups.setdefault(values, len(groups) + 1))
            for label in labels:
                columns[label].append(row.defocus.get(label, "0"))
        sizes = [m.pixel_size_angstrom for m in self.micrographs[:1]] * len(groups)
        table: dict[str, list[Any]] = {
            "rlnOpticsGroupName": [f"opticsGroup{number}" for number in groups.values()],
            "rlnOpticsGroup": [*groups.values()],
            PIXEL_SIZE: sizes,
        }
        for label, column in zip(_UNUSED, zip(*groups, strict=True), strict=True):
            table[label] = [*column]
        return render_blocks({"optics": table, "micrographs": columns})


def _read_rows(star: Path) -> dict[str, _Row]:
    """Return what a STAR file has of each micrograph, by its name there."""
    blocks = read_blocks(star)
    table, _ = find_tables(blocks, (NAME,), BLOCKS)
    if table is None:
        return {}
    groups = OpticsGroups.find(table, blocks.get("optics"), star)
    names = [str(name) for name in table[NAME]]
    optics = {label: _values(table, groups, label) for label in _UNUSED}
    defocus = {label: _values(table, groups, label) for label in (*DEFOCUS, PHASE_SHIFT)}
    return {
        name: _Row(_known(optics, row), _known(defocus, row)) for row, name in enumerate(names)
    }


def _values(table: StarTable, groups: OpticsGroups, label: str) -> list[str | None]:
    """Return the values of a column of each row, from the row itself or its optics group."""
    if label in table:
        return [str(value) for value in table[label]]
    if groups.optics is not None and label in groups.optics:
        column = groups.optics[label]
        return [None if row is None else str(column[row]) for row in groups.rows]
    return [None] * len(table)


def _known(columns: dict[str, list[str | None]], row: int) -> dict[str, str]:
    return {
        label: value
        for label, values in columns.items()
        if (value := values[row]) is not None and value != "nan"
    }
