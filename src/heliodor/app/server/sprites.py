"""Crops: many small pictures around places, as one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from heliodor.app.server.tiles import (
    Pictures,
    jpeg,
    levels_of,
)
from heliodor.errors import BadInput

#: Side of a crop in pixels and in particle diameters, and crops in a row.
CROP_PX, DIAMETERS, ACROSS = 96, 1.5, 10
#: Where there is no preview, a diameter has about so many pixels of the picture cut from.
_ENOUGH_PX = 36.0
_BEYOND = 128


def sprite(
    places: Sequence[tuple[int, float, float]],
    pictures: Pictures,
    preview: Callable[[int], Path],
    diameter_angstrom: float,
) -> bytes:
    """Return squares around places, ten in a row, as a JPEG file.

    Parameters
    ----------
    places
        Micrograph, and x and y in pixels of its file. A micrograph that cannot be read gives
        grey squares.
    preview
        Tells where a micrograph's picture may be that is quick to read.
    diameter_angstrom
        The particle's.
    """
    rows = math.ceil(len(places) / ACROSS)
    sheet = Pillow.new("L", (ACROSS * CROP_PX, max(1, rows) * CROP_PX), _BEYOND)
    for position, (number, x, y) in enumerate(places):
        try:
            picture = _picture(number, pictures, preview(number), diameter_angstrom)
            height, width = pictures.header(number).shape
            side = DIAMETERS * diameter_angstrom / pictures.pixel_size(number)
        except BadInput:
            continue
        own = _cut(picture, x * picture.width / width, y * picture.height / height,
                   side * picture.width / width)  # fmt: skip
        sheet.paste(own, (position % ACROSS * CROP_PX, position // ACROSS * CROP_PX))
    return jpeg(sheet)


def _picture(
    number: int, pictures: Pictures, preview: Path, diameter_angstrom: float
) -> Pillow.Image:
    """Return a picture of a whole micrograph, as fine as crops need it."""
    try:
        stamp = preview.stat().st_mtime_ns
    except OSError:
        shape, size = pictures.header(number).shape, pictures.pixel_size(number)
        level = int(max(0.0, math.log2(max(1.0, diameter_angstrom / size / _ENOUGH_PX))))
        return Pillow.fromarray(pictures.grey_level(number, min(level, levels_of(shape) - 1)))

    def read() -> Any:
        try:
            with Pillow.open(preview) as picture:
                return np.asarray(picture.convert("L"))
        except OSError as error:
            raise BadInput(f"{preview} is no picture ({error})") from error

    made = pictures.cache.get(("preview", number, stamp), read, lambda own: int(own.nbytes))
    return Pillow.fromarray(made)


def _cut(picture: Pillow.Image, x: float, y: float, side: float) -> Pillow.Image:
    """Return the square around a place, the centre of pixel 0 being 0; grey beyond the edge."""
    scale = side / CROP_PX
    corner = 0.5 - side / 2
    return picture.transform(
        (CROP_PX, CROP_PX),
        Pillow.Transform.AFFINE,
        (scale, 0.0, x + corner, 0.0, scale, y + corner),
        Pillow.Resampling.BILINEAR,
        fillcolor=_BEYOND,
    )
