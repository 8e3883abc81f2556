"""How to convert and to check coordinates.

Light to import: the command line is made from these classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from heliodor.errors import BadInput
from heliodor.utils.settings import option, parse_segments, parse_shape

if TYPE_CHECKING:
    from heliodor.conventions import Shape
    from heliodor.data.coordinates.frame_detection import Frame

_COORDINATES, _INPUT, _OUTPUT, _PICKING = "Coordinates", "Input", "Output", "Picking"
_PARTICLE = "Particle"


def _parse_shift(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f"--shift-px must be two numbers, as in 3,-2, not {text!r}") from error
    if not abs(x) + abs(y) < 1e6:
        raise BadInput(f"--shift-px must be two numbers of pixels, not {text!r}")
    return x, y


@dataclass(frozen=True)
class ConversionSettings:
    """How to convert; lengths in pixels are of the micrographs that the result is for."""

    fit: bool = option(
        False, help="Find swaps, flips and the scale from the micrographs.", group=_COORDINATES
    )
    #: Even if the images show that the picks do not lie on particles.
    trust: bool = option(
        False, help="Write coordinates that do not match the images.", group=_COORDINATES
    )
    scale: float = option(
        1.0,
        help="Multiply coordinates: 0.5 for micrographs binned by two.",
        group=_COORDINATES,
        metavar="FACTOR",
    )
    swap_xy: bool = option(False, help="Swap x and y (first).", group=_COORDINATES)
    flip_x: bool = option(False, help="Mirror x within the micrograph.", group=_COORDINATES)
    flip_y: bool = option(False, help="Mirror y within the micrograph.", group=_COORDINATES)
    shift_px: tuple[float, float] = option(
        (0.0, 0.0),
        help="Add to coordinates (last), in pixels.",
        group=_COORDINATES,
        metavar="DX,DY",
        default="0,0",
        parse=_parse_shift,
    )
    threshold: float | None = option(
        None,
        help="Keep picks with at least this score (in picks.tsv, among all candidates).",
        group=_PICKING,
        metavar="SCORE",
    )
    box_px: int | None = option(
        None,
        help="Side of the boxes in pixels; for RELION (star, autopick), picks whose boxes an edge"
        " of the micrograph cuts off are left out.",
        group=_COORDINATES,
        metavar="N",
        default="as in the input files",
    )
    #: (height, width)
    shape: Shape | None = option(
        None,
        help="Width and height of all micrographs, if they are not available.",
        group=_COORDINATES,
        metavar="WxH",
        name="shape_px",
        parse=partial(parse_shape, name="--shape-px"),
    )
    pixel_size_angstrom: float | None = option(
        None,
        help="Pixel size of the micrographs of the result.",
        group=_COORDINATES,
        metavar="ANGSTROM",
    )
    segments_angstrom: float | None = option(
        None,
        help="Write points along filaments: helical segments at this distance, or at the rise"
        " times a number of asymmetric units, as in 4.75x10.",
        group=_COORDINATES,
        metavar="ANGSTROM",
        parse=parse_segments,
    )
    start_end: bool = option(
        False,
        help="Read rows as pairs: start and end of each filament (RELION's manual picking).",
        group=_COORDINATES,
    )
    root: str | None = option(
        None, help="Folder in the names of the micrographs.", group=_OUTPUT, metavar="DIR"
    )
    image_suffix: str | None = option(
        None, help="Suffix in the names of the micrographs.", group=_OUTPUT, metavar=".EXT"
    )
    strip_uid: bool = option(
        False, help="Remove cryoSPARC's 21-digit uid from micrograph names.", group=_OUTPUT
    )
    strip_aligned: bool = option(
        False,
        help="Remove what cryoSPARC's motion correction appends to micrograph names, such as"
        " _patch_aligned_doseweighted.",
        group=_OUTPUT,
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 1e-3 <= self.scale <= 1e3):
            raise BadInput(f"a scale of {self.scale:g} is not plausible", parameter="scale")
        if self.fit and (self.swap_xy or self.flip_x or self.flip_y or self.scale != 1.0):
            raise BadInput(
                "give either --fit or what to swap, flip and scale, not both", parameter="fit"
            )
        if self.box_px is not None and not 0 < self.box_px < 100_000:
            raise BadInput(f"a box of {self.box_px} pixels is not plausible", parameter="box_px")
        if self.pixel_size_angstrom is not None and not 0 < self.pixel_size_angstrom < 1e3:
            raise BadInput(
                f"a pixel size of {self.pixel_size_angstrom:g} Å is not plausible",
                parameter="pixel_size",
            )
        if self.segments_angstrom is not None and not 0.1 <= self.segments_angstrom <= 1e5:
            raise BadInput(
                f"a distance of {self.segments_angstrom:g} Å between segments is not plausible",
                parameter="segments",
            )
        if self.shape is not None and min(self.shape) < 1:
            raise BadInput(
                "the shape must be 1x1 pixels or more: give --shape-px as in 5760x4092",
                parameter="shape_px",
            )
        if self.image_suffix is not None and not self.image_suffix.startswith("."):
            raise BadInput(
                f"the suffix {self.image_suffix!r} must begin with a dot, as in .mrc",
                parameter="image_suffix",
            )

    @property
    def frame(self) -> Frame:
        """What to swap, flip and scale."""
        from heliodor.data.coordinates.frame_detection import Frame

        return Frame(self.swap_xy, self.flip_x, self.flip_y, self.scale)


@dataclass(frozen=True)
class CheckSettings:
    """What to check."""

    distance_angstrom: float | None = option(
        None,
        help="Picks closer than this are duplicates.",
        group=_PICKING,
        metavar="ANGSTROM",
        default="2 pixels",
    )
    pixel_size_angstrom: float | None = option(
        None,
        help="Pixel size of the micrographs.",
        group=_INPUT,
        metavar="ANGSTROM",
        default="from the STAR file, otherwise from the headers",
    )
    headers_only: bool = option(
        False, help="Read only headers: fast, but finds less.", group=_INPUT
    )
    diameter_angstrom: float | None = option(
        None,
        help="Longest diameter of the particle: also check whether particles look like that, in"
        " size and contrast.",
        group=_PARTICLE,
        metavar="ANGSTROM",
        default="not checked",
    )

    def __post_init__(self) -> None:
        if self.diameter_angstrom is not None and self.headers_only:
            raise BadInput(
                "whether particles look as large as the diameter is seen in the micrographs;"
                " leave out --headers-only or --diameter",
                parameter="diameter",
            )
        for name in ("distance", "pixel_size", "diameter"):
            value = getattr(self, f"{name}_angstrom")
            if value is not None and not 0 < value < 1e5:
                raise BadInput(
                    f"a {name.replace('_', ' ')} of {value:g} Å is not plausible", parameter=name
                )
