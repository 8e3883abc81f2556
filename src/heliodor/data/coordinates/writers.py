"""Write picks in the format of another program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import Shape
from heliodor.data.coordinates.formats import (
    box,
    cbox,
    cryosparc,
    eman2,
    relion_autopick,
    relion_star,
    tables,
)
from heliodor.data.coordinates.picks import BOX, Picks
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.data.micrographs.sources import relion_output_stem
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number


@dataclass(frozen=True)
class WriteContext:
    """What some formats need in addition to the picks."""

    #: Side of the boxes in pixels; None takes the largest box of the picks.
    box_px: int | None = None
    #: (height, width) of each micrograph.
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    #: Angstrom per pixel of each micrograph.
    pixel_sizes: Mapping[str, float] = field(default_factory=dict)
    #: Whether RELION's lists name files by absolute paths, as the project is not the current
    #: folder.
    whole_paths: bool = False
    #: The RELION project whose paths RELION's lists have, if it is known.
    project: RelionProject | None = None


@dataclass(frozen=True)
class Format:
    """A format that can be written."""

    name: str
    #: What its coordinates are, as part of a sentence.
    description: str
    #: Suffix of its files.
    suffix: str
    write: Callable[[Path, Picks, WriteContext], None]
    #: Returns the file of a micrograph in a folder; None if one file has all micrographs.
    file_of: Callable[[str], str] | None = None
    #: Whether the format can hold a column of the picks.
    can_store: Callable[[str, NDArray[Any]], bool] = lambda _, values: values.ndim == 1


def _write_box(path: Path, picks: Picks, given: WriteContext) -> None:
    side = _choose_box_side(path, picks, given)
    box.write_picks(path, picks, side + side % 2)


def _write_cbox(path: Path, picks: Picks, given: WriteContext) -> None:
    cbox.write_picks(path, picks, _choose_box_side(path, picks, given))


def _choose_box_side(path: Path, picks: Picks, given: WriteContext) -> int:
    """Return the side of the boxes: the given one, or the largest of the picks."""
    if given.box_px is not None:
        return given.box_px
    sides = [side for side in map(parse_number, picks.extra.get(BOX, ())) if 0 < side < math.inf]
    if not sides and len(picks):
        raise BadInput(
            f"{path} cannot be written, as its format needs a box size and the picks have none;"
            " give --box-px, the side of the box in pixels"
        )
    return max(1, math.ceil(max(sides, default=2)))


FORMATS = {
    one.name: one
    for one in (
        Format(
            "star",
            "one RELION STAR file; centers",
            ".star",
            lambda path, picks, _: relion_star.write_picks(path, picks),
        ),
        Format(
            "autopick",
            "RELION's auto-picking folder; centers",
            ".star",
            lambda path, picks, _: relion_autopick.write_one_autopick(path, picks),
            lambda name: f"{relion_output_stem(name)}_autopick.star",
            relion_autopick.can_store,
        ),
        Format(
            "box",
            "EMAN1 boxes; corners of boxes, whole pixels",
            ".box",
            _write_box,
            lambda name: f"{micrograph_stem(name)}.box",
            lambda name, _: name in (BOX, box.TAG),
        ),
        Format(
            "eman2",
            "EMAN2 info files; centers",
            ".json",
            lambda path, picks, _: eman2.write_picks(path, picks),
            eman2.info_file_name,
            lambda name, _: name == eman2.TYPE,
        ),
        Format(
            "cbox",
            "crYOLO CBOX; corners of boxes, confidences",
            ".cbox",
            _write_cbox,
            lambda name: f"{micrograph_stem(name)}.cbox",
            cbox.can_store,
        ),
        Format(
            "cs",
            "cryoSPARC; centers as fractions of the micrograph's width and height",
            ".cs",
            lambda path, picks, given: cryosparc.write_picks(
                path, picks, given.shapes, given.pixel_sizes
            ),
            can_store=cryosparc.can_store,
        ),
        Format(
            "topaz",
            "Topaz's table; centers, micrographs by their stems",
            ".txt",
            lambda path, picks, _: tables.write_topaz(path, picks),
        ),
        Format(
            "csv",
            "CSV; centers",
            ".csv",
            lambda path, picks, _: tables.write_table(path, picks, ","),
        ),
        Format(
            "tsv",
            "TSV; centers",
            ".tsv",
            lambda path, picks, _: tables.write_table(path, picks, "\t"),
        ),
    )
}
_BY_SUFFIX = {one.suffix: one for one in reversed(FORMATS.values())}


def choose_format(name: str | None, out: Path) -> Format:
    """Return the format with a name, or by the suffix of the output file if there is no name.

    Raises
    ------
    BadInput
        If there is no such format, or no format has the suffix.
    """
    if name is not None:
        if name not in FORMATS:
            raise BadInput(f"the format must be one of {', '.join(FORMATS)}, not {name!r}")
        return FORMATS[name]
    suffix = out.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise BadInput(
            f"the name {out} has no suffix of a known format; give --to, one of"
            f" {', '.join(FORMATS)}"
        )
    return _BY_SUFFIX[suffix]


def plan_files(out: Path, picks: Picks, wanted: Format) -> dict[str, Path]:
    """Return the files that `write_picks` would write, by micrograph.

    Parameters
    ----------
    out
        The file; for a format with one file per micrograph the folder, or the file if there is
        only one micrograph and the name has the suffix of the format.

    Returns
    -------
    dict
        The file of each micrograph, by name; the same file for all if the format has only one.

    Raises
    ------
    BadInput
        If two micrographs would get the same file, or `out` is a folder or a file where it must
        not be.
    """
    if wanted.file_of is None:
        if out.is_dir():
            raise BadInput(f"{out} is a folder, but {wanted.name} is one file; give its name")
        return dict.fromkeys(picks.micrographs, out)
    if len(picks.micrographs) == 1 and out.suffix.lower() == wanted.suffix and not out.is_dir():
        return {picks.micrographs[0]: out}
    if (out.exists() and not out.is_dir()) or out.suffix.lower() == wanted.suffix:
        raise BadInput(
            f"{wanted.name} has one file per micrograph, and there are {len(picks.micrographs)}:"
            f" {out} must be a folder; give another name with -o"
        )
    owners: dict[str, str] = {}
    for name in picks.micrographs:
        other = owners.setdefault(wanted.file_of(name), name)
        if other != name:
            raise BadInput(
                f"the picks of {other} and of {name} would both be in {wanted.file_of(name)};"
                " convert the folders separately"
            )
    return {name: out / file for file, name in owners.items()}


def write_picks(
    out: Path, picks: Picks, wanted: Format, given: WriteContext = WriteContext()
) -> list[Path]:
    """Write picks to one file, or to one file per micrograph in a folder.

    Parameters
    ----------
    out
        The file or the folder, as for `plan_files`.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    BadInput
        As `plan_files`, or if something that the format needs is unknown.
    """
    files = plan_files(out, picks, wanted)
    if wanted.file_of is None:
        wanted.write(out, picks, given)
        return [out]
    # RELION leaves out micrographs without picks; other programs get an empty file.
    listed = wanted.name == "autopick" and out not in files.values()
    written = {}
    for name, own in picks.split_by_micrograph():
        if len(own) or not listed:
            wanted.write(files[name], own, given)
            written[name] = files[name]
    if listed:
        counts = zip(picks.micrographs, picks.counts(), strict=True)
        relion_autopick.write_autopick_list(
            out,
            {name: written[name] for name, count in counts if count},
            whole_paths=given.whole_paths,
            project=given.project,
        )
        return [out / "autopick.star", *written.values()]
    return list(written.values())


def find_dropped_columns(picks: Picks, wanted: Format) -> list[str]:
    """Return the columns that a format cannot hold."""
    return [c for c, values in picks.extra.items() if not wanted.can_store(c, np.asarray(values))]
