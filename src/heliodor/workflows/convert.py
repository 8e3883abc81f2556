"""The command `convert`: convert coordinates between file formats.

In this order, picks below the threshold are dropped, x and y are swapped, scaled, flipped within
the micrograph, and shifted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates.formats import (
    describe_formats,
    find_files,
    read_picks,
)
from heliodor.data.coordinates.frame_detection import (
    FITS,
    Frame,
    FrameVerdict,
    judge_frame,
)
from heliodor.data.coordinates.label_assignment import read_views_with_most_picks
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import (
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
)
from heliodor.data.coordinates.refined_shifts import (
    apply_refined_shifts,
    describe_unknown_shifts,
)
from heliodor.data.coordinates.transforms import (
    apply_frame,
    find_orientation_columns,
    update_micrograph_columns,
)
from heliodor.data.coordinates.writers import (
    Format,
    WriteContext,
    choose_format,
    find_dropped_columns,
    plan_files,
    write_picks,
)
from heliodor.data.micrographs.headers import TIFF_NOTE, read_header
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import (
    is_tiff,
    strip_aligned,
    strip_cryosparc_uid,
    strip_image_suffix,
)
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    are_named_from_here,
    find_sources,
)
from heliodor.data.micrographs.working_images import same_binning, same_pixel_size
from heliodor.errors import BadInput
from heliodor.reconstruction.particles import mask_whole_boxes
from heliodor.report.coordinate_preview import draw_micrograph_with_most_picks
from heliodor.utils.console import count_of
from heliodor.utils.files import refuse_to_replace
from heliodor.utils.locking import lock_folder
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
    target = choose_format(to, out)
    _check_options(target, settings, micrographs, picture)
    files = find_files(list(inputs), settings.threshold is not None)
    picks = _read(files, settings.threshold)
    sources: dict[str, Source] = {}
    if micrographs is not None:
        picks, sources = _match_to_sources(picks, find_sources(micrographs))
    moved, shapes, pixel_sizes = _move(picks, sources, settings)
    if settings.box_px is not None and target.name in _RELION:
        moved = _leave_out_cut_boxes(moved, shapes, settings.box_px)
    renamed, context = _prepare_output(
        moved, shapes, pixel_sizes, settings, keep_columns=micrographs is None
    )
    if settings.root is None and not are_named_from_here([*sources.values()]):
        context = replace(context, whole_paths=True)
    refuse_to_replace(sorted({*plan_files(out, renamed, target).values()}), files)
    if dropped := find_dropped_columns(moved, target):
        log.info(f"columns that {target.name} cannot hold are dropped: {', '.join(dropped)}")
    if picture is not None:
        draw_micrograph_with_most_picks(picture, moved, sources, pixel_sizes)
    # A folder that does not exist yet needs no lock; it is created once nothing can be refused.
    with lock_folder(out if target.file_of and out.is_dir() else None):
        written = write_picks(out, renamed, target, context)
    _log_written(out, written, renamed, target, sources)
    return written


def _leave_out_cut_boxes(picks: Picks, shapes: dict[str, Shape], box_px: int) -> Picks:
    """Return the picks whose boxes RELION finds whole on their micrographs.

    Raises
    ------
    BadInput
        If the shape of a micrograph is not known.
    """
    whole = np.ones(len(picks), dtype=bool)
    for name, rows in picks.rows():
        if not len(rows):
            continue
        if name not in shapes:
            raise BadInput(
                f"whether boxes are cut off depends on the size of {name}, which is not known;"
                " give --micrographs or --shape-px",
                parameter="box_px",
            )
        whole[rows] = mask_whole_boxes(picks.xy_px[rows], shapes[name], box_px)
    if cut := int(np.count_nonzero(~whole)):
        log.info(f"{count_of(cut, 'pick')} left out: an edge cuts off a box of {box_px} pixels")
    return picks.select(whole)


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


def _read(files: Sequence[Path], threshold: float | None) -> Picks:
    """Read the picks, without those below the threshold, and log how they are interpreted."""
    picks = read_picks(files, threshold is not None)
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


def _match_to_sources(picks: Picks, sources: Sequence[Source]) -> tuple[Picks, dict[str, Source]]:
    """Return the picks on some micrographs under the names of these, and the micrographs."""
    matches = match_names(picks.micrographs, sources, picks.file_stems)
    unmatched = [name for name in picks.micrographs if name not in matches]
    if not matches:
        raise BadInput(
            "the picks are on none of the micrographs given: they are on micrographs like"
            f" {picks.micrographs[0] if picks.micrographs else 'none'}, the micrographs are like"
            f" {sources[0].name}"
        )
    if unmatched:
        log.warning(
            f"the picks of {len(unmatched)} micrographs (such as {unmatched[0]}) are ignored: no"
            " matching micrograph was given"
        )
    tables = [table for name, table in picks.split_by_micrograph() if name in matches]
    named = [replace(table, micrographs=(matches[table.micrographs[0]].name,)) for table in tables]
    return Picks.concatenate(named), {source.name: source for source in matches.values()}


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
    shapes, pixel_sizes = _measure_micrographs(picks, sources, settings, frame)
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
    _warn_of_picks_outside(moved, shapes)
    return moved, shapes, pixel_sizes


def _prepare_output(
    picks: Picks,
    shapes: dict[str, Shape],
    pixel_sizes: dict[str, float],
    settings: ConversionSettings,
    keep_columns: bool,
) -> tuple[Picks, WriteContext]:
    """Return the picks under the names to be written, and what their format may need to know.

    Parameters
    ----------
    keep_columns
        Keep the pixel sizes that were read, unless the settings have one.
    """
    names = _choose_names(picks.micrographs, settings)
    context = WriteContext(
        settings.box_px,
        {names[old]: shape for old, shape in shapes.items()},
        {names[old]: size for old, size in pixel_sizes.items()},
    )
    exactly = settings.pixel_size_angstrom is not None
    updated = update_micrograph_columns(
        picks, shapes, {} if keep_columns and not exactly else pixel_sizes, exactly
    )
    return replace(updated, micrographs=tuple(names.values())), context


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


def _measure_micrographs(
    picks: Picks, sources: dict[str, Source], settings: ConversionSettings, frame: Frame
) -> tuple[dict[str, Shape], dict[str, float]]:
    """Return the shapes and pixel sizes (Å) of the micrographs in the new frame, where known."""
    shapes: dict[str, Shape] = {}
    pixel_sizes: dict[str, float] = {}
    heights, widths = picks.first_positive_values(HEIGHT), picks.first_positive_values(WIDTH)
    in_picks = picks.first_positive_values(PIXEL_SIZE)
    differing, unreadable = [], []
    for name in picks.micrographs:
        size = None
        if name in sources:
            try:
                header = read_header(sources[name].path)
            except BadInput as error:
                unreadable.append(str(error))
            else:
                shapes[name], size = header.shape, header.pixel_size_angstrom
            size = sources[name].pixel_size_angstrom or size
        elif settings.shape is not None:
            shapes[name] = settings.shape
        elif name in heights and name in widths:
            sides = heights[name], widths[name]
            height, width = sides[::-1] if frame.swap else sides
            shapes[name] = round(height * frame.scale), round(width * frame.scale)
        scaled = in_picks[name] / frame.scale if name in in_picks else None
        if size and scaled and not same_pixel_size(size, scaled):
            advice = (
                "their coordinates are not changed"
                if same_binning(size, scaled)
                else f"give --scale {in_picks[name] / size:.4g}"
            )
            differing.append(
                f"the picks on {name} have {scaled:.4g} Å/pixel, the micrograph has"
                f" {size:.4g} Å/pixel: {advice}"
            )
        size = settings.pixel_size_angstrom or size or scaled
        if size:
            pixel_sizes[name] = size
    for warnings in (differing, unreadable):
        if warnings:
            others = len(warnings) - 1
            log.warning(warnings[0] + (f" (and {others} more micrographs)" if others else ""))
    return shapes, pixel_sizes


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


def _warn_of_picks_outside(picks: Picks, shapes: dict[str, Shape]) -> None:
    outside = {
        name: int(np.count_nonzero(mask_outside(table.xy_px, shapes[name])))
        for name, table in picks.split_by_micrograph()
        if name in shapes
    }
    if total := sum(outside.values()):
        first = next(name for name, count in outside.items() if count)
        log.warning(f"{total} picks lie outside their micrographs (some of them on {first})")


def _choose_names(names: Sequence[str], settings: ConversionSettings) -> dict[str, str]:
    """Return the names of micrographs to be written, by those read."""
    chosen: dict[str, str] = {}
    for name in names:
        new = strip_cryosparc_uid(name) if settings.strip_uid else name
        new = strip_aligned(new) if settings.strip_aligned else new
        if settings.root is not None:
            new = str(PurePosixPath(settings.root) / PurePosixPath(new).name)
        if settings.image_suffix is not None:
            new = strip_image_suffix(new) + settings.image_suffix
        chosen[name] = new
    if len(set(chosen.values())) < len(chosen):
        same = next(new for new in chosen.values() if list(chosen.values()).count(new) > 1)
        one, other = [name for name, new in chosen.items() if new == same][:2]
        raise BadInput(
            f"{one} and {other} would get the same name {same}; convert them separately"
        )
    return chosen
