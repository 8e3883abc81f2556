"""Crops of the picked particles and their average, by which people judge picks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter, map_coordinates

from heliodor.report.gallery import CONTRAST_PERCENTILES, SMOOTHING_DIAMETERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from heliodor.conventions import FloatArray
    from heliodor.report.content import GalleryItem

#: The side of a crop in diameters.
SIDE_DIAMETERS: Final = 1.6
#: Crops in a row and rows of the sheet.
COLUMNS: Final = 10
ROWS: Final = 4
#: Most crops of the average.
MOST_AVERAGED: Final = 2000
_CELL_PX, _AVERAGE_PX, _GAP_PX = 92, 300, 3
#: Fewer gray levels are invisible, and halve the file.
_GRAYS: Final = 32


def cut_crops(items: Sequence[GalleryItem], diameter_angstrom: float) -> NDArray[np.float32]:
    """Cut out the picks of some micrographs, from the highest score to the lowest.

    Parameters
    ----------
    items
        Micrographs of one scale.
    diameter_angstrom
        The particle diameter.

    Returns
    -------
    ndarray
        Shape (n, s, s) with s odd: each pick is in the middle of its crop, to a fraction of a
        pixel. Those that reach beyond their micrograph are left out. At most `MOST_AVERAGED`,
        evenly chosen.
    """
    if not items:
        return np.zeros((0, 1, 1), np.float32)
    size = items[0].pixel_size_angstrom
    reach = max(2, round(0.5 * SIDE_DIAMETERS * diameter_angstrom / size))
    places: list[tuple[float, int, FloatArray]] = []
    for number, item in enumerate(items):
        height, width = item.image.shape
        xy, score = item.picks_xy_px, item.picks_score
        limits = np.array([width, height]) - 1 - reach
        whole = np.isfinite(xy).all(axis=1) & ((xy >= reach) & (xy <= limits)).all(axis=1)
        places += [(float(s), number, own) for s, own in zip(score[whole], xy[whole], strict=True)]
    places.sort(key=lambda place: -place[0])
    chosen = np.unique(
        np.linspace(0, len(places) - 1, min(len(places), MOST_AVERAGED)).astype(int)
    )
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    crops = np.empty((len(chosen), len(steps), len(steps)), np.float32)
    for row, index in enumerate(chosen.tolist()):
        _, which, (x, y) = places[index]
        rows, columns = np.meshgrid(y + steps, x + steps, indexing="ij")
        crops[row] = map_coordinates(items[which].image, [rows, columns], order=1, mode="nearest")
    return crops


def draw_sheet(crops: NDArray[np.float32]) -> bytes:
    """Draw a sheet of crops, evenly chosen, as a PNG: the highest score is at the upper left."""
    number = min(len(crops), COLUMNS * ROWS)
    chosen = np.linspace(0, len(crops) - 1, number).round().astype(int)
    side = crops.shape[1]
    sigma = SMOOTHING_DIAMETERS * side / SIDE_DIAMETERS
    smooth = gaussian_filter(crops[chosen], (0, sigma, sigma), mode="nearest")
    # Ice of different thickness must not make some crops darker than others.
    gray = _stretch(smooth - np.median(smooth, axis=(1, 2), keepdims=True))
    rows = -(-number // COLUMNS)
    step = _CELL_PX + _GAP_PX
    sheet = Pillow.new("L", (COLUMNS * step - _GAP_PX, rows * step - _GAP_PX), 255)
    for place, own in enumerate(gray):
        cell = _resized(own, _CELL_PX)
        sheet.paste(cell, (place % COLUMNS * step, place // COLUMNS * step))
    return _encode(sheet)


def draw_average(crops: NDArray[np.float32]) -> bytes:
    """Draw the average of crops as a PNG."""
    return _encode(_resized(_stretch(crops.mean(axis=0, dtype=np.float64)), _AVERAGE_PX))


def _stretch(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values from 0 to 255, with one contrast for all images."""
    low, high = np.percentile(image, CONTRAST_PERCENTILES)
    scaled = (image - low) / (high - low) if high > low else np.full(image.shape, 0.5)
    return np.asarray(255 * np.clip(scaled, 0, 1), dtype=np.float32)


def _resized(gray: NDArray[np.float32], side: int) -> Pillow.Image:
    large = Pillow.fromarray(gray).resize((side, side), Pillow.Resampling.BICUBIC)
    levels = np.round(np.clip(np.asarray(large), 0, 255) / 255 * (_GRAYS - 1)) / (_GRAYS - 1)
    return Pillow.fromarray(np.round(255 * levels).astype(np.uint8))


def _encode(image: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
