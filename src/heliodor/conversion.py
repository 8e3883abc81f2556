"""The command `convert`: coordinates from one program's files into another's.

What is done to coordinates, in this order: those below the threshold are dropped, x and y are
swapped, scaled, mirrored within the micrograph, and shifted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from heliodor import console
from heliodor.conventions import Shape, to_working
from heliodor.errors import BadInput
from heliodor.files import writing
from heliodor.formats import find_files, read_picks, reader_of
from heliodor.formats.cryosparc import without_uid
from heliodor.formats.star import OPTICS
from heliodor.formats.star import PIXEL_SIZE as STAR_PIXEL_SIZE
from heliodor.frame import MOST_VIEWS, Frame, Verdict, View, judge_frame
from heliodor.header import read_header, without_suffix
from heliodor.labels import outside
from heliodor.micrograph import read_micrograph
from heliodor.naming import match_names
from heliodor.output import Given, format_for, left_out, write_picks
from heliodor.picks import BOX, HEIGHT, PIXEL_SIZE, WIDTH, Picks
from heliodor.preparation import same_pixel_size
from heliodor.resample import fourier_crop
from heliodor.sources import Inputs, Source, find_sources

#: Where the particles' size is not known, so many of the marks in a picture fit side by side.
MARKS_ACROSS = 30
#: Columns that are lengths in pixels of the micrograph.
_LENGTHS = (BOX, HEIGHT, WIDTH)
#: Columns that are the micrograph's sampling.
_SAMPLINGS = (PIXEL_SIZE, STAR_PIXEL_SIZE, OPTICS + STAR_PIXEL_SIZE)


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
    micrographs: Inputs | None = None,
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
    wanted = format_for(to, out)
    if settings.fit and micrographs is None:
        raise BadInput("--fit looks at the pictures: give --micrographs")
    if picture is not None and micrographs is None:
        raise BadInput("--picture draws one of the micrographs: give --micrographs")
    picks = _chosen(_read(inputs, settings.threshold is not None), settings.threshold)
    sources: dict[str, Source] = {}
    if micrographs is not None:
        picks, sources = _named_as(picks, find_sources(micrographs))
    shapes, pixel_sizes = _known_of(picks, sources, settings)
    frame = settings.frame
    if settings.fit:
        frame = _fitting(picks, sources)
    picks = _moved(picks, frame, shapes, settings.shift_px)
    if micrographs is not None and not settings.fit:
        verdict = _verdict(picks, sources)
        if verdict.wrong and not settings.trust:
            raise BadInput(
                f"nothing was written: {verdict}; convert with --fit, or write them as they are"
                " with --trust"
            )
        console.say(f"frame: {verdict}")
    _say_outside(picks, shapes)
    if picture is not None:
        _draw(picture, picks, sources, pixel_sizes)
    names = _new_names(picks.micrographs, settings)
    given = Given(
        settings.box_px,
        {names[old]: shape for old, shape in shapes.items()},
        {names[old]: size for old, size in pixel_sizes.items()},
    )
    picks = replace(picks, micrographs=tuple(names.values()))
    lost = left_out(picks, wanted)
    if lost:
        console.say(f"columns: {wanted.name} has no room for {', '.join(lost)}")
    files = write_picks(out, picks, wanted, given)
    console.say(
        f"wrote {len(picks)} picks on {len(picks.micrographs)} micrographs into {out}"
        f" ({wanted.says})"
    )
    return files


def _read(inputs: Sequence[str | Path], candidates: bool) -> Picks:
    """Read the picks and say what they are taken for."""
    files = find_files(list(inputs), candidates)
    picks = read_picks(files, candidates)
    says = dict.fromkeys(reader_of(file).says for file in files)
    console.say(
        f"read {len(picks)} picks on {len(picks.micrographs)} micrographs from {len(files)}"
        f" file{'s' * (len(files) > 1)} ({' and '.join(says)})"
    )
    console.say("origin: 0-based, y grows from the first row stored in the micrograph's file")
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
        console.warn(
            f"the picks of {len(strangers)} micrographs (such as {strangers[0]}) were left out:"
            " no micrograph given is of their name"
        )
    kept = [own for name, own in picks.by_micrograph() if name in found]
    named = [replace(own, micrographs=(found[own.micrographs[0]].name,)) for own in kept]
    return Picks.concatenate(named), {source.name: source for source in found.values()}


def _known_of(
    picks: Picks, sources: dict[str, Source], settings: ConversionSettings
) -> tuple[dict[str, Shape], dict[str, float]]:
    """Return the micrographs' shapes and pixel sizes, as they are once the picks are moved."""
    shapes: dict[str, Shape] = {}
    sizes: dict[str, float] = {}
    heights, widths = picks.measures(HEIGHT), picks.measures(WIDTH)
    said = picks.measures(PIXEL_SIZE)
    frame = settings.frame
    for name in picks.micrographs:
        if name in sources:
            header = read_header(sources[name].path)
            shapes[name] = header.shape
            own = sources[name].pixel_size_angstrom or header.pixel_size_angstrom
        elif settings.shape is not None:
            shapes[name], own = settings.shape, None
        else:
            own = None
            if name in heights and name in widths:
                sides = heights[name], widths[name]
                height, width = sides[::-1] if frame.swap else sides
                shapes[name] = round(height * frame.scale), round(width * frame.scale)
        scaled = said[name] / frame.scale if name in said else None
        if own and scaled and not same_pixel_size(own, scaled) and not settings.fit:
            console.warn(
                f"the picks of {name} are in pixels of {scaled:.4g} A, the micrograph has"
                f" {own:.4g} A a pixel: give --scale {said[name] / own:.4g}"
            )
        size = settings.pixel_size_angstrom or own or scaled
        if size:
            sizes[name] = size
    return shapes, sizes


def _moved(
    picks: Picks, frame: Frame, shapes: dict[str, Shape], shift_px: tuple[float, float]
) -> Picks:
    """Return the picks in their new frame, with the columns that go with it, and say so."""
    xy = picks.xy_px.copy()
    for position, name in enumerate(picks.micrographs):
        own = picks.micrograph_index == position
        if frame.needs_shape and name not in shapes and own.any():
            raise BadInput(
                f"the size of {name} is not known, so its picks cannot be flipped; give"
                " --micrographs, or --shape-px for all"
            )
        xy[own] = frame.apply(xy[own], shapes.get(name)) + np.array(shift_px)
    shifted = f", shifted by {shift_px[0]:g}, {shift_px[1]:g} px" if any(shift_px) else ""
    console.say(f"coordinates: {frame}{shifted}")
    extra = dict(picks.extra)
    if frame.swap and HEIGHT in extra and WIDTH in extra:
        extra[HEIGHT], extra[WIDTH] = extra[WIDTH], extra[HEIGHT]
    if frame.scale != 1:
        extra |= {c: _times(extra[c], frame.scale) for c in _LENGTHS if c in extra}
        extra |= {c: _times(extra[c], 1 / frame.scale) for c in _SAMPLINGS if c in extra}
        if PIXEL_SIZE in extra and not {STAR_PIXEL_SIZE, OPTICS + STAR_PIXEL_SIZE} & {*extra}:
            # What else a STAR file says of the pixel size is that of the unscaled micrographs.
            extra[STAR_PIXEL_SIZE] = extra[PIXEL_SIZE]
    return replace(picks, xy_px=xy, extra=extra)


def _times(values: Any, factor: float) -> Any:
    """Return a column of numbers, or of their spellings, times a factor; others stay."""

    def one(value: Any) -> Any:
        try:
            return float(value) * factor
        except (TypeError, ValueError):
            return value

    return np.array([one(value) for value in values], dtype=object)


def _views(picks: Picks, sources: dict[str, Source]) -> list[View]:
    """Return the pictures with most picks."""
    fullest = sorted(picks.by_micrograph(), key=lambda named: -len(named[1]))[:MOST_VIEWS]
    views = []
    for name, own in fullest:
        if len(own):
            image = read_micrograph(sources[name].path).image
            views.append(View(image, (image.shape[0], image.shape[1]), own.xy_px))
    return views


def _verdict(picks: Picks, sources: dict[str, Source]) -> Verdict:
    return judge_frame(_views(picks, sources))


def _fitting(picks: Picks, sources: dict[str, Source]) -> Frame:
    """Return the frame that the pictures show, or refuse where they show none."""
    verdict = _verdict(picks, sources)
    if not verdict.decided or (verdict.displacement_px is not None and not verdict.turned):
        raise BadInput(f"no frame can be fitted: {verdict}")
    console.say(f"frame: {verdict}")
    return verdict.frame if verdict.turned else Frame()


def _draw(
    path: Path, picks: Picks, sources: dict[str, Source], pixel_sizes: dict[str, float]
) -> None:
    """Draw the fullest micrograph with its picks, to be looked at."""
    from heliodor.gallery import PICTURE_PX, draw_micrograph
    from heliodor.report import GalleryItem

    counts = picks.counts()
    name = picks.micrographs[int(np.argmax(counts))]
    if name not in pixel_sizes:
        raise BadInput(
            f"the pixel size of {name} is not known, for a --picture; give --pixel-size"
        )
    own = picks.select(picks.micrograph_index == int(np.argmax(counts)))
    image = read_micrograph(sources[name].path).image
    height, width = image.shape
    factor = min(1.0, PICTURE_PX / max(image.shape))
    small = fourier_crop(image, (round(height * factor), round(width * factor)))
    shape = (small.shape[0], small.shape[1])
    item = GalleryItem(
        name,
        small,
        pixel_sizes[name] * width / shape[1],
        to_working(own.xy_px, (height, width), shape),
        own.score,
        *(None,) * 4,
    )
    side = own.measures(BOX).get(name, width / MARKS_ACROSS)
    with writing(path) as aside:
        aside.write_bytes(draw_micrograph(item, side * pixel_sizes[name]))
    console.say(f"drew {name} with its {len(own)} picks into {path}")


def _say_outside(picks: Picks, shapes: dict[str, Shape]) -> None:
    lost = {
        name: int(np.count_nonzero(outside(own.xy_px, shapes[name])))
        for name, own in picks.by_micrograph()
        if name in shapes
    }
    total = sum(lost.values())
    if total:
        first = next(name for name, number in lost.items() if number)
        console.warn(f"{total} picks lie outside their micrographs (some of them on {first})")


def _new_names(names: Sequence[str], settings: ConversionSettings) -> dict[str, str]:
    """Return the names that are written."""
    out: dict[str, str] = {}
    for name in names:
        new = without_uid(name) if settings.strip_uid else name
        if settings.root is not None:
            new = str(PurePosixPath(settings.root) / PurePosixPath(new).name)
        if settings.image_suffix is not None:
            new = without_suffix(new) + settings.image_suffix
        out[name] = new
    if len(set(out.values())) < len(out):
        same = next(new for new in out.values() if list(out.values()).count(new) > 1)
        one, other = [name for name, new in out.items() if new == same][:2]
        raise BadInput(f"{one} and {other} would both be called {same}; convert them apart")
    return out
