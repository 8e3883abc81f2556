"""Crops around many positions, in one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from heliodor.app.server.tiles import (
    MicrographTiles,
    count_levels,
    encode_jpeg,
    open_preview,
)
from heliodor.errors import BadInput

#: The side of a crop in pixels and in particle diameters, and the crops per row.
CROP_PX, CROP_DIAMETERS, CROPS_PER_ROW = 96, 1.5, 10
#: Without a preview, crops come from a zoom level at which a diameter has about so many pixels.
_DIAMETER_PX = 36.0
_GRAY = 128


def render_sprite(
    positions: Sequence[tuple[int, float, float]],
    tiles: MicrographTiles,
    preview: Callable[[int], Path],
    diameter_angstrom: float,
) -> bytes:
    """Return crops around positions, ten per row, as a JPEG file.

    Parameters
    ----------
    positions
        The micrograph's number, and x and y in pixels of its file. A micrograph that cannot be
        read gives gray squares.
    preview
        Returns the path of a micrograph's preview, which may be missing.
    diameter_angstrom
        The particle's diameter.
    """
    rows = math.ceil(len(positions) / CROPS_PER_ROW)
    sheet = Pillow.new("L", (CROPS_PER_ROW * CROP_PX, max(1, rows) * CROP_PX), _GRAY)
    for index, (number, x, y) in enumerate(positions):
        try:
            picture = open_micrograph_image(number, tiles, preview(number), diameter_angstrom)
            height, width = tiles.header(number).shape
            side = CROP_DIAMETERS * diameter_angstrom / tiles.pixel_size(number)
        except BadInput:
            continue
        crop = _crop(picture, x * picture.width / width, y * picture.height / height,
                   side * picture.width / width)  # fmt: skip
        sheet.paste(crop, (index % CROPS_PER_ROW * CROP_PX, index // CROPS_PER_ROW * CROP_PX))
    return encode_jpeg(sheet)


def open_micrograph_image(
    number: int, tiles: MicrographTiles, preview: Path, diameter_angstrom: float
) -> Pillow.Image:
    """Return the image of a whole micrograph, as fine as crops need it.

    Without a preview, or with a damaged one, it is made from the micrograph.
    """

    def read() -> Any:
        with open_preview(preview) as picture:
            return np.asarray(picture.convert("L"))

    try:
        key = ("preview", number, preview.stat().st_mtime_ns)
        return Pillow.fromarray(tiles.cache.get(key, read, lambda array: int(array.nbytes)))
    except (OSError, SyntaxError, ValueError):  # as the library says that a file is damaged
        shape, size = tiles.header(number).shape, tiles.pixel_size(number)
        level = int(max(0.0, math.log2(max(1.0, diameter_angstrom / size / _DIAMETER_PX))))
        return Pillow.fromarray(tiles.gray_level(number, min(level, count_levels(shape) - 1)))


def _crop(picture: Pillow.Image, x: float, y: float, side: float) -> Pillow.Image:
    """Return the crop around (x, y), where pixel 0 has its center at 0; gray beyond the edge."""
    scale = side / CROP_PX
    corner = 0.5 - side / 2
    return picture.transform(
        (CROP_PX, CROP_PX),
        Pillow.Transform.AFFINE,
        (scale, 0.0, x + corner, 0.0, scale, y + corner),
        Pillow.Resampling.BILINEAR,
        fillcolor=_GRAY,
    )
