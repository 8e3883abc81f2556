"""Transforms of picks into another coordinates frame, with the columns that depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliodor.conventions import Shape
from heliodor.data.coordinates.formats.filament_columns import PSI_PRIOR
from heliodor.data.coordinates.formats.relion_star import OPTICS
from heliodor.data.coordinates.frame_detection import Frame
from heliodor.data.coordinates.picks import BOX, HEIGHT, PIXEL_SIZE, WIDTH, Picks
from heliodor.data.micrographs.star_list import PIXEL_SIZE as STAR_PIXEL_SIZE
from heliodor.data.micrographs.working_images import same_pixel_size
from heliodor.errors import BadInput
from heliodor.utils.parsing import parse_number

#: Columns with lengths in pixels of the micrograph; the last two are those of crYOLO.
_LENGTHS = (BOX, HEIGHT, WIDTH, "EstWidth", "EstHeight")
#: Columns with the pixel size of the micrograph.
_SAMPLINGS = (PIXEL_SIZE, STAR_PIXEL_SIZE, OPTICS + STAR_PIXEL_SIZE)
#: Prefixes of columns that a swap or a flip would change as well, of RELION, crYOLO and
#: cryoSPARC.
_ANGLES = ("rlnAngle", "rlnOrigin", "Angle", "pick_stats/angle", "alignments", "filament/")


def apply_frame(
    picks: Picks, frame: Frame, shapes: Mapping[str, Shape], shift_px: tuple[float, float]
) -> Picks:
    """Return picks in another frame, with their lengths and pixel sizes scaled too.

    Parameters
    ----------
    picks
        Picks in the frame in which they were read.
    frame
        The transform of their positions.
    shapes
        (height, width) of the micrographs in the new frame; needed only for flips.
    shift_px
        Added last, (x, y).

    Raises
    ------
    BadInput
        If the shape of a micrograph is needed and unknown.
    """
    xy = picks.xy_px.copy()
    for name, own in picks.rows():
        if frame.needs_shape and name not in shapes and len(own):
            raise BadInput(
                f"the size of {name} is unknown, so its picks cannot be flipped; give"
                " --micrographs, or --shape-px for all"
            )
        xy[own] = frame.apply(xy[own], shapes.get(name)) + np.array(shift_px)
    extra = dict(picks.extra)
    if frame.swap and HEIGHT in extra and WIDTH in extra:
        extra[HEIGHT], extra[WIDTH] = extra[WIDTH], extra[HEIGHT]
    if PSI_PRIOR in extra and (frame.swap or frame.needs_shape):
        extra[PSI_PRIOR] = _turn_psi(extra[PSI_PRIOR], frame)
    if frame.scale != 1:
        extra |= {c: _scale_column(extra[c], frame.scale) for c in _LENGTHS if c in extra}
        extra |= {c: _scale_column(extra[c], 1 / frame.scale) for c in _SAMPLINGS if c in extra}
    return Picks(picks.micrographs, picks.micrograph_index, xy, picks.score, extra)


def _scale_column(values: Any, factor: float) -> Any:
    """Return a column multiplied by a factor; values that are not numbers are kept."""
    numbers = [parse_number(value) for value in values]
    return np.array(
        [v if n != n else n * factor for v, n in zip(values, numbers, strict=True)], dtype=object
    )


def _turn_psi(values: Any, frame: Frame) -> Any:
    """Return RELION's psi of helical segments after the swap and the flips of a frame.

    The axis of a segment has the direction -psi, from x to y.
    """
    angles = np.radians([-parse_number(value) for value in values])
    x, y = np.cos(angles), np.sin(angles)
    x, y = (y, x) if frame.swap else (x, y)
    x, y = (-x if frame.flip_x else x), (-y if frame.flip_y else y)
    return -np.degrees(np.arctan2(y, x))


def find_orientation_columns(picks: Picks) -> list[str]:
    """Return the columns that `apply_frame` should have changed, if their values differ."""
    found = (c for c in picks.extra if c.startswith(_ANGLES) and c != PSI_PRIOR)
    return [c for c in found if len({str(value) for value in picks.extra[c]}) > 1]


def update_micrograph_columns(
    picks: Picks,
    shapes: Mapping[str, Shape],
    pixel_sizes: Mapping[str, float],
    exactly: bool = False,
) -> Picks:
    """Return picks with the known sizes and pixel sizes of their micrographs in their columns.

    Parameters
    ----------
    shapes
        (height, width) of micrographs; they only replace values of existing columns.
    pixel_sizes
        Angstrom per pixel of micrographs.
    exactly
        Whether pixel sizes also replace values that differ by no more than rounding.
    """
    extra = dict(picks.extra)
    for place, column in enumerate((HEIGHT, WIDTH)):
        if column in extra:
            sides = {name: float(shape[place]) for name, shape in shapes.items()}
            extra[column] = _update_column(picks, sides, column, exactly=True)
    if pixel_sizes:
        columns = [PIXEL_SIZE, *(c for c in _SAMPLINGS[1:] if c in extra)]
        extra |= {
            column: _update_column(picks, pixel_sizes, column, exactly) for column in columns
        }
    return Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, picks.score, extra)


def _update_column(picks: Picks, known: Mapping[str, float], column: str, exactly: bool) -> Any:
    """Return a column with the known number of the micrograph of each pick."""
    values = picks.extra.get(column, [None] * len(picks))
    numbers = [known.get(name) for name in picks.micrographs]
    updated = []
    for value, place in zip(values, picks.micrograph_index, strict=True):
        known_number, stored = numbers[place], parse_number(value)
        if known_number is not None and stored != known_number:
            rounded = not exactly and stored > 0 and same_pixel_size(stored, known_number)
            value = value if rounded else known_number
        updated.append(value)
    return np.array(updated, dtype=object)
