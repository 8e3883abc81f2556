"""The command `convert`: convert coordinates between file formats.

In this order, picks below the threshold are dropped, x and y are swapped, scaled, flipped within
the micrograph, and shifted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates.formats import (
    describe_formats,
    find_files,
    read_picks,
)
from heliodor.data.coordinates.formats.filament_columns import HoldsFilaments
from heliodor.data.coordinates.frame_detection import (
    FITS,
    Frame,
    FrameVerdict,
    judge_frame,
)
from heliodor.data.coordinates.label_assignment import read_views_with_most_picks
from heliodor.data.coordinates.picks import (
    Picks,
)
from heliodor.data.coordinates.refined_shifts import (
    apply_refined_shifts,
    describe_unknown_shifts,
)
from heliodor.data.coordinates.transforms import (
    apply_frame,
    find_orientation_columns,
)
from heliodor.data.coordinates.writers import (
    Format,
    choose_format,
    find_dropped_columns,
    plan_files,
    write_picks,
)
from heliodor.data.micrographs.headers import TIFF_NOTE
from heliodor.data.micrographs.names import (
    is_micrograph_name,
    is_tiff,
)
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    are_named_from_here,
    find_sources,
)
from heliodor.errors import BadInput
from heliodor.report.coordinate_preview import draw_micrograph_with_most_picks
from heliodor.utils.files import refuse_to_replace
from heliodor.utils.locking import lock_folder
from heliodor.workflows.conversion_steps import (
    leave_out_cut_boxes,
    match_to_sources,
    measure_micrographs,
    prepare_output,
    warn_of_picks_outside,
)
from heliodor.workflows.convert_filaments import (
    FILAMENTS_ONLY,
    are_relion_segments,
    convert_filaments,
)
from heliodor.workflows.settings import ConversionSettings

log = logging.getLogger(__name__)

#: Formats of RELION, which extracts boxes that an edge cuts off, without a message.
_RELION = ("star", "autopick")


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    to: str | None = None,
    settings: ConversionSettings = ConversionSettings(),
    micrographs: MicrographInputs | None = None,
    picture: Path | None = None,
) -> list[Path]:
    """Convert coordinate files, and log what was assumed.

    Parameters
    ----------
    inputs
        Files, folders or patterns of coordinates.
    out
        The file, or the folder for formats with one file per micrograph.
    to
        One of `writers.FORMATS`; None derives it from the suffix of `out`.
    micrographs
        The micrographs that the result is for. Their names are written, and the conversion is
        refused if the images show that the coordinates lie elsewhere.
    picture
        PNG file for a picture of the micrograph with the most picks.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    BadInput
        If something cannot be read or written, or the coordinates do not match the images.
    """
    out = Path(out)
    if settings.segments_angstrom is not None or settings.start_end or to in FILAMENTS_ONLY:
        return convert_filaments(inputs, out, to, settings, micrographs, picture)
    target = choose_format(to, out)
    _check_options(target, settings, micrographs, picture)
    files = find_files(list(inputs), settings.threshold is not None)
    try:
        picks = _read(files, settings.threshold)
    except HoldsFilaments:
        if target.name not in _RELION or not are_relion_segments(files):
            return convert_filaments(files, out, to, settings, micrographs, picture)
        picks = _read(files, settings.threshold, segments=True)
    sources: dict[str, Source] = {}
    if micrographs is not None:
        picks, sources = match_to_sources(picks, find_sources(micrographs))
    moved, shapes, pixel_sizes = _move(picks, sources, settings)
    if settings.box_px is not None and target.name in _RELION:
        moved = leave_out_cut_boxes(moved, shapes, settings.box_px)
    renamed, context = prepare_output(
        moved, shapes, pixel_sizes, settings, keep_columns=micrographs is None
    )
    if settings.root is None and not are_named_from_here([*sources.values()]):
        context = replace(context, whole_paths=True)
    planned = sorted({*plan_files(out, renamed, target).values()})
    if image := next((p for p in (*planned, picture) if p and is_micrograph_name(p.name)), None):
        raise BadInput(
            f"the output {image} has the name of a micrograph; give the name of a coordinate file"
            " with -o, and that of a PNG file with --picture"
        )
    refuse_to_replace(planned, files)
    if dropped := find_dropped_columns(moved, target):
        log.info(f"columns that {target.name} cannot hold are dropped: {', '.join(dropped)}")
    if picture is not None:
        draw_micrograph_with_most_picks(picture, moved, sources, pixel_sizes)
    # A folder that does not exist yet needs no lock; it is created once nothing can be refused.
    with lock_folder(out if target.file_of and out.is_dir() else None):
        written = write_picks(out, renamed, target, context)
    _log_written(out, written, renamed, target, sources)
    return written


def _check_options(
    target: Format,
    settings: ConversionSettings,
    micrographs: MicrographInputs | None,
    picture: Path | None,
) -> None:
    """Refuse settings that need micrographs without any, and boxes for formats without them."""
    if settings.fit and micrographs is None:
        raise BadInput("--fit compares the coordinates with the images: give --micrographs")
    if picture is not None and micrographs is None:
        raise BadInput("--picture draws one of the micrographs: give --micrographs")
    if settings.box_px is not None and target.name not in ("box", "cbox", *_RELION):
        raise BadInput(f"the format {target.name} has no boxes; omit --box-px")


def _read(files: Sequence[Path], threshold: float | None, segments: bool = False) -> Picks:
    """Read the picks, without those below the threshold, and log how they are interpreted.

    Parameters
    ----------
    segments
        Whether helical segments are read too.
    """
    picks = read_picks(files, threshold is not None, segments)
    log.info(
        f"read {len(picks)} picks on {len(picks.micrographs)} micrographs from {len(files)}"
        f" file{'s' * (len(files) > 1)} ({describe_formats(files)})"
    )
    log.info("origin: 0-based, y grows from the first row stored in the micrograph's file")
    picks = replace(picks, extra={k: v for k, v in picks.extra.items() if k != "selected"})
    if threshold is None:
        return picks
    if np.isnan(picks.score).all():
        raise BadInput("the picks have no scores; omit --threshold")
    return picks.select(picks.score >= threshold)


def _move(
    picks: Picks, sources: dict[str, Source], settings: ConversionSettings
) -> tuple[Picks, dict[str, Shape], dict[str, float]]:
    """Bring picks into the frame of the micrographs, and check them there.

    Returns
    -------
    Picks, dict, dict
        The picks in the new frame, and the shapes and pixel sizes of the micrographs.
    """
    frame = _fit_frame(picks, sources) if settings.fit else settings.frame
    shapes, pixel_sizes = measure_micrographs(picks, sources, settings, frame)
    in_table = {name: size * frame.scale for name, size in pixel_sizes.items()}
    picks, note = apply_refined_shifts(picks, in_table)
    for sentence in (note, describe_unknown_shifts(picks)):
        if sentence is not None:
            log.warning(sentence)
    moved = apply_frame(picks, frame, shapes, settings.shift_px)
    shifted = "".join(f", shifted by {x:g}, {y:g} px" for x, y in [settings.shift_px] if x or y)
    log.info(f"coordinates: {frame}{shifted}")
    orientations = find_orientation_columns(moved) if frame.swap or frame.needs_shape else []
    if orientations:
        log.warning(f"{', '.join(orientations)} contain angles or shifts, and are not changed")
    if sources and not settings.fit:
        verdict = _judge_frame(moved, sources)
        if verdict.is_wrong and not settings.trust:
            raise BadInput(
                f"nothing was written: {verdict}; convert with --fit, or write them unchanged"
                " with --trust"
            )
        (log.warning if verdict.is_chance else log.info)(f"frame: {verdict}")
    warn_of_picks_outside(moved, shapes)
    return moved, shapes, pixel_sizes


def _log_written(
    out: Path,
    written: Sequence[Path],
    picks: Picks,
    target: Format,
    sources: dict[str, Source],
) -> None:
    log.info(
        f"wrote {len(picks)} picks on {len(picks.micrographs)} micrographs into {out}"
        f" ({target.description})"
    )
    others = _count_others(out, written) if target.name in ("box", "cbox", "eman2") else 0
    if others:
        log.warning(f"{out} already contained {others} other {target.suffix} files, kept")
    if target.name in ("star", "autopick") and any(
        is_tiff(source.path.name) for source in sources.values()
    ):
        log.warning(TIFF_NOTE)


def _count_others(out: Path, written: Sequence[Path]) -> int:
    """Count the files of the same kind that a folder contained before."""
    if not out.is_dir():
        return 0
    names = {file.name for file in written}
    return sum(p.suffix == written[0].suffix and p.name not in names for p in out.iterdir())


def _judge_frame(picks: Picks, sources: dict[str, Source]) -> FrameVerdict:
    tables = picks.split_by_micrograph()
    return judge_frame(
        read_views_with_most_picks((sources[name], table.xy_px) for name, table in tables)
    )


def _fit_frame(picks: Picks, sources: dict[str, Source]) -> Frame:
    """Return the frame in which the picks match the images; refuse if there is none."""
    verdict = _judge_frame(picks, sources)
    if not verdict.is_transformed and (
        verdict.fit_unchanged < FITS or verdict.displacement_px is not None
    ):
        raise BadInput(f"no frame can be fitted: {verdict}")
    (log.warning if verdict.by_extent else log.info)(f"frame: {verdict}")
    return verdict.frame
