"""Write filaments in the format of another program.

Formats take the points of the axes, as `to_points` returns them, so that they are planned and
written as those of particles are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.data.coordinates import writers
from heliodor.data.coordinates.formats import box, cbox, cryosparc, relion_autopick
from heliodor.data.coordinates.formats.filament_columns import CBOX_FILAMENT, CS_FILAMENT, TUBE
from heliodor.data.coordinates.formats.relion_star import SCORE, X, Y
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.writers import Format, WriteContext, plan_files, write_picks
from heliodor.data.filaments.curve import fit_curve
from heliodor.data.filaments.filament import (
    WIDTH_ANGSTROM,
    Filament,
    Filaments,
    from_points,
    make_tubes_different,
    to_points,
)
from heliodor.data.filaments.geometry import (
    direction_angle_deg,
    measure_arc,
    remove_repeated_points,
)
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.data.micrographs.sources import relion_output_stem
from heliodor.data.micrographs.star_list import NAME, OPTICS_GROUP, PIXEL_SIZE
from heliodor.data.star import render_blocks
from heliodor.errors import BadInput
from heliodor.utils.files import write_text

#: The block of a STAR file whose rows are points of axes.
BLOCK = "filaments"
#: RELION's list of manually picked coordinate files, and the suffix of these.
MANUAL_LIST, MANUAL_SUFFIX = "manualpick.star", "_manualpick.star"
#: RELION reads the identities of filaments as integers up to this.
LARGEST_TUBE = 2**31 - 1


def renumber_large_tubes(filaments: Sequence[Filament]) -> list[Filament]:
    """Return filaments with identities that RELION can read; small ones are kept."""
    small = [one if one.tube_id <= LARGEST_TUBE else replace(one, tube_id=1) for one in filaments]
    return make_tubes_different(small) if small != [*filaments] else small


def render_filaments(table: Filaments, optics: Mapping[str, Any] | None = None) -> str:
    """Return the axes of all filaments as one STAR file, a row for each point.

    Parameters
    ----------
    optics
        Columns of the optics group of all micrographs; by default groups with the pixel sizes,
        if all of them are known.
    """
    filaments = renumber_large_tubes(table.filaments)
    counts = [len(one.axis_px) for one in filaments]
    xy = np.concatenate([np.zeros((0, 2)), *(one.axis_px for one in filaments)])
    columns: dict[str, Any] = {
        X: xy[:, 0],
        Y: xy[:, 1],
        NAME: np.repeat(np.array([one.micrograph for one in filaments], object), counts),
        TUBE: np.repeat(np.array([one.tube_id for one in filaments], object), counts),
    }
    widths = np.repeat([one.width_angstrom for one in filaments], counts)
    if not np.isnan(widths).all():
        columns[WIDTH_ANGSTROM] = widths
    scores = np.concatenate([np.zeros(0), *(one.scores for one in filaments)])
    if not np.isnan(scores).all():
        columns[SCORE] = scores
    sizes = [table.pixel_sizes.get(name) for name in columns[NAME]]
    if optics is not None:
        columns[OPTICS_GROUP] = np.ones(len(xy), dtype=int)
    elif None not in sizes and sizes:
        numbers = {size: n for n, size in enumerate(dict.fromkeys(sizes), 1)}
        columns[OPTICS_GROUP] = np.array([numbers[size] for size in sizes])
        optics = {
            "rlnOpticsGroupName": [f"opticsGroup{n}" for n in numbers.values()],
            OPTICS_GROUP: [*numbers.values()],
            PIXEL_SIZE: [*numbers],
        }
    elif any(sizes):
        columns[PIXEL_SIZE] = np.array([math.nan if s is None else s for s in sizes])
    return render_blocks(({} if optics is None else {"optics": optics}) | {BLOCK: columns})


def _write_filaments(path: Path, points: Picks, given: WriteContext) -> None:
    write_text(path, render_filaments(_with_sizes(points, given)))


def _with_sizes(points: Picks, given: WriteContext) -> Filaments:
    table = from_points(points)
    return replace(table, pixel_sizes={**table.pixel_sizes, **given.pixel_sizes})


def _write_start_end(path: Path, points: Picks, _: WriteContext) -> None:
    """Write one pair of rows for each straight part of an axis, as RELION picks them by hand."""
    filaments = renumber_large_tubes(from_points(points).filaments)
    pairs = [_pair_points(one.axis_px) for one in filaments]
    xy = np.concatenate([np.zeros((0, 2)), *pairs])
    tubes = [one.tube_id for one, own in zip(filaments, pairs, strict=True) for _ in own]
    write_text(path, render_blocks({"": {X: xy[:, 0], Y: xy[:, 1], TUBE: tubes}}))


def _pair_points(axis_px: Any) -> Any:
    """Return the ends of each straight part of an axis, shape (2 n - 2, 2)."""
    return np.stack([axis_px[:-1], axis_px[1:]], axis=1).reshape(-1, 2)


def _write_boxes(path: Path, points: Picks, given: WriteContext) -> None:
    table = _with_sizes(points, given)
    side = _choose_side(path, table, given)
    side += side % 2
    parts = []
    for one in table:
        # As they will be read: two points in one pixel are one point.
        rounded = np.floor(one.axis_px - side / 2 + 0.5) + side // 2
        parts.append(_pair_points(remove_repeated_points(rounded)))
    xy = np.concatenate([np.zeros((0, 2)), *parts])
    tags = np.resize(np.array([-1, -2], dtype=object), len(xy))
    own = Picks.on(points.micrographs[0], xy)
    box.write_picks(path, replace(own, extra={box.TAG: tags}), side)


def _write_helices(path: Path, points: Picks, given: WriteContext) -> None:
    from heliodor.data.filaments.helix_text import render_helices

    table = _with_sizes(points, given)
    side = _choose_side(path, table, given)
    write_text(path, render_helices(points.micrographs[0], table.filaments, side))


def _write_cbox(path: Path, points: Picks, given: WriteContext) -> None:
    table = _with_sizes(points, given)
    side = _choose_side(path, table, given)
    filaments = renumber_large_tubes(table.filaments)
    numbers = np.repeat([one.tube_id for one in filaments], [len(f.axis_px) for f in filaments])
    ordered = to_points(replace(table, filaments=tuple(filaments)))
    cbox.write_picks(path, replace(ordered, extra={CBOX_FILAMENT: numbers}), side)


def _write_cs(path: Path, points: Picks, given: WriteContext) -> None:
    """Write points with cryoSPARC's fields of filaments; the pose is the angle of the axis."""
    table = _with_sizes(points, given)
    ordered = to_points(table)
    columns: dict[str, list[Any]] = {"position_A": [], "filament_pose": [], "arc_length_A": []}
    uids: list[Any] = []
    spacings: list[Any] = []
    for one in table:
        curve, arc = fit_curve(one.axis_px), measure_arc(one.axis_px)
        pixel = given.pixel_sizes.get(one.micrograph, math.nan)
        along = arc * (curve.length_px / arc[-1])
        count = len(arc)
        columns["position_A"].append(arc * pixel)
        columns["filament_pose"].append(np.radians(direction_angle_deg(curve.directions(along))))
        columns["arc_length_A"].append(np.full(count, arc[-1] * pixel))
        spacings.append(np.full(count, arc[-1] * pixel / (count - 1)))
        uids.append(np.full(count, _make_uid(one), dtype=np.uint64))
    fields = {
        f"filament/{key}": np.concatenate([np.zeros(0), *parts]).astype(np.float32)
        for key, parts in (columns | {"inter_box_dist_A": spacings}).items()
    }
    fields[CS_FILAMENT] = np.concatenate([np.zeros(0, np.uint64), *uids])
    labeled = replace(ordered, extra=fields)
    cryosparc.write_picks(path, labeled, given.shapes, given.pixel_sizes)


def _make_uid(one: Filament) -> int:
    """Return an identity among all micrographs: that of cryoSPARC, or one made from the names."""
    if one.tube_id > LARGEST_TUBE:
        return one.tube_id
    key = f"{one.micrograph}\0{one.tube_id}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") | 2**32


def _choose_side(path: Path, table: Filaments, given: WriteContext) -> int:
    """Return the side of boxes: the given one, that of the files, or the width of filaments."""
    if given.box_px is not None:
        return given.box_px
    sides = [
        one.box_px
        if one.box_px > 0
        else one.width_angstrom / table.pixel_sizes.get(one.micrograph, math.nan)
        for one in table
    ]
    known = [side for side in sides if 0 < side < math.inf]
    if len(table) and not known:
        raise BadInput(
            f"{path} cannot be written, as its format needs a box size and the filaments have"
            " none; give --box-px, the width of the filaments in pixels"
        )
    return max(2, math.ceil(max(known, default=2)))


FORMATS = {
    one.name: one
    for one in (
        Format(
            "filaments",
            "one STAR file with the points of axes",
            ".star",
            _write_filaments,
        ),
        Format(
            "start-end",
            "RELION's start-end coordinates",
            ".star",
            _write_start_end,
            lambda name: f"{relion_output_stem(name)}{MANUAL_SUFFIX}",
        ),
        Format(
            "box",
            "EMAN helix boxes; corners of boxes, whole pixels",
            ".box",
            _write_boxes,
            lambda name: f"{micrograph_stem(name)}.box",
        ),
        Format(
            "helix",
            "EMAN2 and SPHIRE helices; centers",
            ".txt",
            _write_helices,
            lambda name: f"{micrograph_stem(name)}_helix_ptcl_coords.txt",
        ),
        Format(
            "cbox",
            "crYOLO CBOX with filaments; corners of boxes",
            ".cbox",
            _write_cbox,
            lambda name: f"{micrograph_stem(name)}.cbox",
        ),
        Format(
            "cs",
            "cryoSPARC; points as fractions of the micrograph's width and height",
            ".cs",
            _write_cs,
        ),
    )
}
_BY_SUFFIX = {one.suffix: one for one in reversed(FORMATS.values())}


def choose_format(name: str | None, out: Path) -> Format:
    """Return the format with a name, or by the suffix of the output file if there is no name.

    Raises
    ------
    BadInput
        If there is no such format, or it is one of particles.
    """
    name = "filaments" if name == "star" else name
    found = FORMATS.get(name) if name is not None else _BY_SUFFIX.get(out.suffix.lower())
    if found is not None:
        return found
    if name in writers.FORMATS or (name is None and out.suffix.lower() in (".csv", ".tsv")):
        raise BadInput(
            f"{name or out.suffix[1:]} is a format of particles, and the input holds filaments;"
            " give --segments ANGSTROM to write points along them, or --to with one of"
            f" {', '.join(FORMATS)}"
        )
    if name is not None:
        raise BadInput(
            f"the format of filaments must be one of {', '.join(FORMATS)}, not {name!r}"
        )
    raise BadInput(
        f"the name {out} has no suffix of a known format; give --to, one of {', '.join(FORMATS)}"
    )


def write_filaments(
    out: Path, points: Picks, wanted: Format, given: WriteContext = WriteContext()
) -> list[Path]:
    """Write filaments to one file, or to one file per micrograph in a folder.

    Parameters
    ----------
    out
        The file or the folder, as for `heliodor.data.coordinates.writers.plan_files`.
    points
        The points of the axes, as `to_points` returns them.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    BadInput
        If something that the format needs is unknown, or a file cannot be written.
    """
    planned = plan_files(out, points, wanted)
    written = write_picks(out, points, wanted, given)
    if wanted.name != "start-end" or out in written:
        return written
    names = [*planned]
    paths = [
        str(planned[name].absolute()) if given.whole_paths else str(planned[name])
        for name in names
    ]
    relion_autopick.write_coordinate_files(out / MANUAL_LIST, names, paths)
    return [out / MANUAL_LIST, *written]
