"""Conversion of filaments: between formats, and to segments along them.

In this order, filaments below the threshold are dropped, x and y are swapped, scaled, flipped
within the micrograph, and shifted, and segments are cut.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates import writers
from heliodor.data.coordinates.formats import find_files, is_empty_coordinate_file, read_picks
from heliodor.data.coordinates.formats.filament_columns import PSI_PRIOR, TUBE, HoldsFilaments
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.transforms import apply_frame
from heliodor.data.filaments.filament import FILAMENT, Filaments, from_points, to_points
from heliodor.data.filaments.grouping import group_points
from heliodor.data.filaments.readers import describe_filament_formats, read_filaments
from heliodor.data.filaments.segments import add_optics, cut_segments, mask_whole_segments
from heliodor.data.filaments.writers import FORMATS, choose_format, write_filaments
from heliodor.data.micrographs.names import is_micrograph_name
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    are_named_from_here,
    find_sources,
)
from heliodor.errors import BadInput
from heliodor.utils.console import count_of
from heliodor.utils.files import refuse_to_replace
from heliodor.utils.locking import lock_folder
from heliodor.workflows.conversion_steps import (
    match_to_sources,
    measure_micrographs,
    prepare_output,
    warn_of_picks_outside,
)
from heliodor.workflows.settings import ConversionSettings

log = logging.getLogger(__name__)

#: Formats that only filaments have.
FILAMENTS_ONLY: Final = frozenset(FORMATS) - frozenset(writers.FORMATS)
#: Formats of filaments into which segments are written as their points.
_OF_POINTS: Final = frozenset({"cbox", "cs"}) | FILAMENTS_ONLY


def are_relion_segments(files: Sequence[Path]) -> bool:
    """Return whether files hold helical segments with RELION's priors, each of them.

    Raises
    ------
    BadInput
        If a file cannot be read, or only some of the files hold segments.
    """
    filled = [file for file in files if not is_empty_coordinate_file(file)] or files
    segments = [file for file in filled if _has_segments(file)]
    if segments and len(segments) < len(filled):
        other = next(file for file in filled if file not in segments)
        raise BadInput(
            f"{segments[0]} holds helical segments, and {other} does not; convert them one by one"
        )
    return bool(segments)


def _has_segments(file: Path) -> bool:
    try:
        extra = read_picks([file], True, filaments=True).extra
    except HoldsFilaments:
        return False
    return TUBE in extra and PSI_PRIOR in extra


def convert_filaments(
    inputs: Sequence[str | Path],
    out: Path,
    to: str | None,
    settings: ConversionSettings,
    micrographs: MicrographInputs | None,
    picture: Path | None,
) -> list[Path]:
    """Convert files of filaments; see `heliodor.workflows.convert.convert`.

    Raises
    ------
    BadInput
        If something cannot be read or written, or an option is only for particles.
    """
    _refuse_options(settings, picture)
    segments = settings.segments_angstrom
    if segments is None or to in FILAMENTS_ONLY:
        target = choose_format(to, out)
    else:
        target = writers.choose_format(to, out)
    _check_box(target, settings)
    files = find_files(list(inputs))
    table = read_filaments(files, settings.start_end)
    log.info(
        f"read {count_of(len(table), 'filament')} on"
        f" {count_of(len(table.micrographs), 'micrograph')} from {count_of(len(files), 'file')}"
        f" ({describe_filament_formats(files, settings.start_end)})"
    )
    points = to_points(table.keep_scored(settings.threshold))
    sources: dict[str, Source] = {}
    if micrographs is not None:
        points, sources = match_to_sources(points, find_sources(micrographs))
    shapes, sizes = measure_micrographs(points, sources, settings, settings.frame)
    points = apply_frame(points, settings.frame, shapes, settings.shift_px)
    shifted = "".join(f", shifted by {x:g}, {y:g} px" for x, y in [settings.shift_px] if x or y)
    log.info(f"coordinates: {settings.frame}{shifted}")
    warn_of_picks_outside(points, shapes)
    what = count_of(len({*points.extra[FILAMENT].tolist()}), "filament")
    if segments is not None:
        moved = replace(from_points(points), pixel_sizes=sizes)
        points = cut_segments(moved, segments)
        if target.name in _OF_POINTS:
            target, points = FORMATS[target.name], _join_segments(points, moved)
        elif settings.box_px is not None and target.name in ("star", "autopick"):
            points = _leave_out_cut_segments(points, shapes, settings.box_px)
        what = f"{count_of(len(points), 'segment')} of {what}"
        if target.name == "star":
            points = add_optics(points)
    renamed, context = prepare_output(
        points, shapes, sizes, settings, keep_columns=micrographs is None
    )
    if settings.root is None and not are_named_from_here([*sources.values()]):
        context = replace(context, whole_paths=True)
    planned = sorted({*writers.plan_files(out, renamed, target).values()})
    if image := next((path for path in planned if is_micrograph_name(path.name)), None):
        raise BadInput(
            f"the output {image} has the name of a micrograph; give the name of a coordinate file"
            " with -o"
        )
    refuse_to_replace(planned, files)
    with lock_folder(out if target.file_of and out.is_dir() else None):
        written = write_filaments(out, renamed, target, context)
    log.info(f"wrote {what} into {out} ({target.description})")
    return written


def _refuse_options(settings: ConversionSettings, picture: Path | None) -> None:
    """Refuse options that need particles."""
    given = {
        "fit": (settings.fit, "--fit finds the frame in which coordinates lie on particles"),
        "trust": (settings.trust, "--trust is for coordinates that do not lie on particles"),
        "picture": (picture is not None, "--picture draws particles"),
    }
    for name, (is_given, why) in given.items():
        if is_given:
            raise BadInput(f"{why}; leave it out for filaments", parameter=name)


def _check_box(target: writers.Format, settings: ConversionSettings) -> None:
    has_boxes = target.name in ("box", "cbox", "helix", "star", "autopick")
    if settings.box_px is not None and not has_boxes:
        raise BadInput(f"the format {target.name} has no boxes; omit --box-px", parameter="box_px")


def _join_segments(segments: Picks, origin: Filaments) -> Picks:
    """Return the points of filaments whose axes run through the segments of others."""
    cut, left_out = group_points(segments, Path("segments"))
    if left_out:
        log.warning(f"{count_of(left_out, 'filament')} shorter than two segments left out")
    old = {(one.micrograph, one.tube_id): one for one in origin}
    filaments = [
        replace(one, width_angstrom=of.width_angstrom, box_px=of.box_px)
        for one in cut
        for of in [old[one.micrograph, one.tube_id]]
    ]
    return to_points(replace(cut, filaments=tuple(filaments), shapes=origin.shapes))


def _leave_out_cut_segments(segments: Picks, shapes: dict[str, Shape], box_px: int) -> Picks:
    """Return the segments whose boxes RELION finds whole on their micrographs."""
    whole = np.ones(len(segments), dtype=bool)
    for name, rows in segments.rows():
        if name not in shapes and len(rows):
            raise BadInput(
                f"whether boxes are cut off depends on the size of {name}, which is not known;"
                " give --micrographs or --shape-px",
                parameter="box_px",
            )
        if len(rows):
            whole[rows] = mask_whole_segments(segments.xy_px[rows], shapes[name], box_px)
    if cut := int(np.count_nonzero(~whole)):
        log.info(f"{count_of(cut, 'segment')} left out: an edge cuts off a box of {box_px} pixels")
    return segments.select(whole)
