"""The command `convert`: coordinates from one program's files into another's.

What is done to coordinates, in this order: those below the threshold are dropped, x and y are
swapped, scaled, mirrored within the micrograph, and shifted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from heliodor.data.coordinates.labels import mask_outside
from heliodor.data.coordinates.picks import (
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
)
from heliodor.data.coordinates.transforms import (
    apply_frame,
    find_orientation_columns,
    update_micrograph_columns,
)
from heliodor.data.coordinates.writers import (
    WriteContext,
    choose_format,
    find_dropped_columns,
    plan_files,
    write_picks,
)
from heliodor.data.micrographs.headers import TIFF_NOTE, read_header
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.names import is_tiff, strip_cryosparc_uid, strip_image_suffix
from heliodor.data.micrographs.sources import (
    MicrographInputs,
    Source,
    find_sources,
    resolve_path,
)
from heliodor.data.micrographs.working_images import same_pixel_size
from heliodor.errors import BadInput
from heliodor.report.coordinate_preview import (
    draw_micrograph_with_most_picks,
    read_views_with_most_picks,
)
from heliodor.utils.locking import lock_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConversionSettings:
    """What to do with coordinates; pixels are those of the micrographs they are made for."""

    frame: Frame = Frame()
    shift_px: tuple[float, float] = (0.0, 0.0)
    #: Find the frame from the pictures.
    fit: bool = False
    #: Write even what plainly does not lie on the particles of the pictures.
    trust: bool = False
    threshold: float | None = None
    box_px: int | None = None
    #: (height, width) of all micrographs, where their files are not at hand.
    shape: Shape | None = None
    pixel_size_angstrom: float | None = None
    #: The folder of the micrographs in the names that are written.
    root: str | None = None
    #: The suffix of the names that are written.
    image_suffix: str | None = None
    strip_uid: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.frame.scale) and 1e-3 <= self.frame.scale <= 1e3):
            raise BadInput(f"a scale of {self.frame.scale:g} is not plausible")
        if self.fit and self.frame != Frame():
            raise BadInput("give either --fit or what to swap, flip and scale, not both")
        if self.box_px is not None and not 0 < self.box_px < 100_000:
            raise BadInput(f"a box of {self.box_px} pixels is not plausible")
        if self.pixel_size_angstrom is not None and not 0 < self.pixel_size_angstrom < 1e3:
            raise BadInput(f"a pixel size of {self.pixel_size_angstrom:g} A is not plausible")
        if self.shape is not None and min(self.shape) < 1:
            raise BadInput("a micrograph has at least a pixel: give --shape-px as in 5760x4092")
        if self.image_suffix is not None and not self.image_suffix.startswith("."):
            raise BadInput(f"the suffix {self.image_suffix!r} must begin with a dot, as in .mrc")


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    to: str | None = None,
    settings: ConversionSettings = ConversionSettings(),
    micrographs: MicrographInputs | None = None,
    picture: Path | None = None,
) -> list[Path]:
    """Convert files of coordinates and say what was assumed, a line each.

    Parameters
    ----------
    inputs
        Files, folders or patterns of coordinates.
    out
        The file, or the folder where a format has a file a micrograph.
    to
        One of `output.FORMATS`; None tells it from the suffix of `out`.
    micrographs
        The micrographs that the result is for. Their names are then the ones that are written,
        and the pictures must not plainly show that the coordinates lie elsewhere.
    picture
        Where to draw the micrograph with most picks, as they are written, as a PNG.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    BadInput
        If something cannot be read or written, or the coordinates do not fit the pictures.
    """
    out = Path(out)
    wanted = choose_format(to, out)
    if settings.fit and micrographs is None:
        raise BadInput("--fit looks at the pictures: give --micrographs")
    if picture is not None and micrographs is None:
        raise BadInput("--picture draws one of the micrographs: give --micrographs")
    if settings.box_px is not None and wanted.name not in ("box", "cbox"):
        raise BadInput(f"{wanted.name} has no boxes, so that --box-px would do nothing")
    read = find_files(list(inputs), settings.threshold is not None)
    picks = _chosen(_read(read, settings.threshold is not None), settings.threshold)
    sources: dict[str, Source] = {}
    if micrographs is not None:
        picks, sources = _named_as(picks, find_sources(micrographs))
    frame = _fitting(picks, sources) if settings.fit else settings.frame
    shapes, pixel_sizes = _known_of(picks, sources, settings, frame)
    picks = apply_frame(picks, frame, shapes, settings.shift_px)
    shifted = "".join(f", shifted by {x:g}, {y:g} px" for x, y in [settings.shift_px] if x or y)
    log.info(f"coordinates: {frame}{shifted}")
    turned = find_orientation_columns(picks) if frame.swap or frame.needs_shape else []
    if turned:
        log.warning(f"{', '.join(turned)} hold angles or shifts, and stay as they are")
    if micrographs is not None and not settings.fit:
        verdict = _verdict(picks, sources)
        if verdict.is_wrong and not settings.trust:
            raise BadInput(
                f"nothing was written: {verdict}; convert with --fit, or write them as they are"
                " with --trust"
            )
        log.info(f"frame: {verdict}")
    _say_outside(picks, shapes)
    moved = picks
    names = _new_names(picks.micrographs, settings)
    given = WriteContext(
        settings.box_px,
        {names[old]: shape for old, shape in shapes.items()},
        {names[old]: size for old, size in pixel_sizes.items()},
    )
    lost = find_dropped_columns(picks, wanted)
    exactly = settings.pixel_size_angstrom is not None
    picks = update_micrograph_columns(
        picks, shapes, pixel_sizes if micrographs or exactly else {}, exactly
    )
    picks = replace(picks, micrographs=tuple(names.values()))
    _refuse_to_replace(read, {*plan_files(out, picks, wanted).values()})
    if lost:
        log.info(f"columns: {wanted.name} has no room for {', '.join(lost)}")
    if picture is not None:
        draw_micrograph_with_most_picks(picture, moved, sources, pixel_sizes)
    # A folder that is not there yet is nobody's, and is made when nothing is refused any more.
    with lock_folder(out if wanted.file_of and out.is_dir() else None):
        files = write_picks(out, picks, wanted, given)
    log.info(
        f"wrote {len(picks)} picks on {len(picks.micrographs)} micrographs into {out}"
        f" ({wanted.description})"
    )
    others = _others(out, files) if wanted.name in ("box", "cbox", "eman2") else 0
    if others:
        log.warning(f"{others} other {wanted.suffix} files were in {out} before, and still are")
    if wanted.name in ("star", "autopick") and any(
        is_tiff(source.path.name) for source in sources.values()
    ):
        log.warning(TIFF_NOTE)
    return files


def _refuse_to_replace(read: Sequence[Path], files: set[Path]) -> None:
    """Keep what was read: done again, a conversion of its own result would be another one."""
    kept = {resolve_path(path) for path in read}
    for file in sorted(files):
        if resolve_path(file) in kept:
            raise BadInput(f"{file} is one of the files that were read; give another name with -o")


def _others(out: Path, files: Sequence[Path]) -> int:
    """Count the files of the same kind that a folder held before."""
    if not out.is_dir():
        return 0
    written = {file.name for file in files}
    return sum(p.suffix == files[0].suffix and p.name not in written for p in out.iterdir())


def _read(files: Sequence[Path], candidates: bool) -> Picks:
    """Read the picks and say what they are taken for."""
    picks = read_picks(files, candidates)
    log.info(
        f"read {len(picks)} picks on {len(picks.micrographs)} micrographs from {len(files)}"
        f" file{'s' * (len(files) > 1)} ({describe_formats(files)})"
    )
    log.info("origin: 0-based, y grows from the first row stored in the micrograph's file")
    return replace(picks, extra={k: v for k, v in picks.extra.items() if k != "selected"})


def _chosen(picks: Picks, threshold: float | None) -> Picks:
    if threshold is None:
        return picks
    if np.isnan(picks.score).all():
        raise BadInput("the picks have no scores, so that no --threshold can be set")
    return picks.select(picks.score >= threshold)


def _named_as(picks: Picks, sources: Sequence[Source]) -> tuple[Picks, dict[str, Source]]:
    """Return the picks of the micrographs given, by their names, and the micrographs."""
    found = match_names(picks.micrographs, sources)
    strangers = [name for name in picks.micrographs if name not in found]
    if not found:
        raise BadInput(
            f"none of the micrographs given is one that the picks name: those name"
            f" {picks.micrographs[0] if picks.micrographs else 'none'}, the micrographs are like"
            f" {sources[0].name}"
        )
    if strangers:
        log.warning(
            f"the picks of {len(strangers)} micrographs (such as {strangers[0]}) were left out:"
            " no micrograph given is of their name"
        )
    kept = [own for name, own in picks.split_by_micrograph() if name in found]
    named = [replace(own, micrographs=(found[own.micrographs[0]].name,)) for own in kept]
    return Picks.concatenate(named), {source.name: source for source in found.values()}


def _known_of(
    picks: Picks, sources: dict[str, Source], settings: ConversionSettings, frame: Frame
) -> tuple[dict[str, Shape], dict[str, float]]:
    """Return the micrographs' shapes and pixel sizes, as they are once the picks are moved."""
    shapes: dict[str, Shape] = {}
    sizes: dict[str, float] = {}
    heights, widths = picks.first_positive_values(HEIGHT), picks.first_positive_values(WIDTH)
    said = picks.first_positive_values(PIXEL_SIZE)
    differing, unread = [], []
    for name in picks.micrographs:
        own = None
        if name in sources:
            try:
                header = read_header(sources[name].path)
            except BadInput as error:
                unread.append(str(error))
            else:
                shapes[name], own = header.shape, header.pixel_size_angstrom
            own = sources[name].pixel_size_angstrom or own
        elif settings.shape is not None:
            shapes[name] = settings.shape
        elif name in heights and name in widths:
            sides = heights[name], widths[name]
            height, width = sides[::-1] if frame.swap else sides
            shapes[name] = round(height * frame.scale), round(width * frame.scale)
        scaled = said[name] / frame.scale if name in said else None
        if own and scaled and not same_pixel_size(own, scaled):
            differing.append(
                f"the picks of {name} are in pixels of {scaled:.4g} A, the micrograph has"
                f" {own:.4g} A a pixel: give --scale {said[name] / own:.4g}"
            )
        size = settings.pixel_size_angstrom or own or scaled
        if size:
            sizes[name] = size
    for number, found in ((len(differing), differing), (len(unread), unread)):
        if number:
            more = f" (and {number - 1} more micrographs like it)" if number > 1 else ""
            log.warning(found[0] + more)
    return shapes, sizes


def _verdict(picks: Picks, sources: dict[str, Source]) -> FrameVerdict:
    named = picks.split_by_micrograph()
    return judge_frame(
        read_views_with_most_picks((sources[name], own.xy_px) for name, own in named)
    )


def _fitting(picks: Picks, sources: dict[str, Source]) -> Frame:
    """Return the frame that the pictures show, or refuse where they show none."""
    verdict = _verdict(picks, sources)
    if not verdict.is_transformed and (
        verdict.fit_unchanged < FITS or verdict.displacement_px is not None
    ):
        raise BadInput(f"no frame can be fitted: {verdict}")
    log.info(f"frame: {verdict}")
    return verdict.frame if verdict.is_transformed else Frame()


def _say_outside(picks: Picks, shapes: dict[str, Shape]) -> None:
    lost = {
        name: int(np.count_nonzero(mask_outside(own.xy_px, shapes[name])))
        for name, own in picks.split_by_micrograph()
        if name in shapes
    }
    total = sum(lost.values())
    if total:
        first = next(name for name, number in lost.items() if number)
        log.warning(f"{total} picks lie outside their micrographs (some of them on {first})")


def _new_names(names: Sequence[str], settings: ConversionSettings) -> dict[str, str]:
    """Return the names that are written."""
    out: dict[str, str] = {}
    for name in names:
        new = strip_cryosparc_uid(name) if settings.strip_uid else name
        if settings.root is not None:
            new = str(PurePosixPath(settings.root) / PurePosixPath(new).name)
        if settings.image_suffix is not None:
            new = strip_image_suffix(new) + settings.image_suffix
        out[name] = new
    if len(set(out.values())) < len(out):
        same = next(new for new in out.values() if list(out.values()).count(new) > 1)
        one, other = [name for name, new in out.items() if new == same][:2]
        raise BadInput(f"{one} and {other} would both be called {same}; convert them apart")
    return out
