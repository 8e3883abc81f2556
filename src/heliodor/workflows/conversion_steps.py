"""Steps that the conversions of particles and of filaments share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates.frame_detection import Frame
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import HEIGHT, PIXEL_SIZE, WIDTH, Picks
from heliodor.data.coordinates.transforms import update_micrograph_columns
from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.coordinates.writers import WriteContext
from heliodor.data.micrographs.headers import read_header
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import (
    strip_aligned,
    strip_cryosparc_uid,
    strip_image_suffix,
)
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import same_binning, same_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.console import count_of
from heliodor.workflows.settings import ConversionSettings

log = logging.getLogger(__name__)


def leave_out_cut_boxes(picks: Picks, shapes: dict[str, Shape], box_px: int) -> Picks:
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


def match_to_sources(picks: Picks, sources: Sequence[Source]) -> tuple[Picks, dict[str, Source]]:
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


def prepare_output(
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
    names = choose_names(picks.micrographs, settings)
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


def measure_micrographs(
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


def warn_of_picks_outside(picks: Picks, shapes: dict[str, Shape]) -> None:
    """Warn of picks outside their micrographs, where the shapes of these are known."""
    outside = {
        name: int(np.count_nonzero(mask_outside(table.xy_px, shapes[name])))
        for name, table in picks.split_by_micrograph()
        if name in shapes
    }
    if total := sum(outside.values()):
        first = next(name for name, count in outside.items() if count)
        log.warning(f"{total} picks lie outside their micrographs (some of them on {first})")


def choose_names(names: Sequence[str], settings: ConversionSettings) -> dict[str, str]:
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
