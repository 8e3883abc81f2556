"""Images of micrographs with picks, labels and truth drawn on them, as PNG.

Row 0 of the micrograph is on top. Every kind of marker differs in color, outline and shape, so
that the images can be read in print and by readers who do not see the colors.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from heliodor.conventions import FloatArray, Image
    from heliodor.picking.contamination import ContaminationMask
    from heliodor.report.content import GalleryItem

#: (left, top, right, bottom) of a part of an image, in its pixels; the last two are outside.
Window = tuple[int, int, int, int]

#: Longest side of a drawn micrograph, and of its enlarged part, in pixels.
WHOLE_PX: Final = 1000
DETAIL_PX: Final = 720
THUMBNAIL_PX: Final = 440

#: Side of the enlarged part, in particle diameters.
DETAIL_DIAMETERS: Final = 11.0

#: Sigma of the Gaussian low-pass filter for display, in particle diameters.
SMOOTHING_DIAMETERS: Final = 1.0 / 28.0

#: Percentiles of the smoothed image that are drawn as black and as white.
CONTRAST_PERCENTILES: Final = (0.5, 99.5)

_DPI: Final = 64  # a power of two: sizes in inches are then exact
_POINT: Final = 72.0 / _DPI  # points in a pixel
_GRAYS: Final = 26  # gray levels of a whole micrograph, where noise hides the steps
_DETAIL_GRAYS: Final = 44
_SHADES: Final = 6
_LEGEND_PX: Final = 46


@dataclass(frozen=True)
class _Marker:
    label: str
    color: str
    corners: int  # 0: a circle
    turn: float  # of the first corner, radians
    dashes: str | tuple[float, tuple[float, float]]


_DASHED: Final = (0.0, (2.0, 1.5))
_PICK: Final = _Marker("pick", "#35d6f5", 0, 0.0, "-")
_HIT: Final = _Marker("match", "#35d6f5", 0, 0.0, "-")
_FALSE: Final = _Marker("unmatched pick", "#ff8a2b", 4, math.pi / 4, "-")
_MISS: Final = _Marker("missed", "#ffe45c", 0, 0.0, _DASHED)
_TRUTH: Final = _Marker("truth", "#ffe45c", 0, 0.0, _DASHED)
_LABEL: Final = _Marker("label", "#ff7ad9", 4, 0.0, "-")
_BAD: Final = _Marker("contamination", "#ff5252", 4, math.pi / 4, "-")
_MARKERS: Final = (_PICK, _FALSE, _MISS, _LABEL)


def draw_micrograph(
    item: GalleryItem, diameter_angstrom: float, outline: Window | None = None
) -> bytes:
    """Draw a whole micrograph with its markers, a scale bar and a legend.

    Parameters
    ----------
    item
        The micrograph with its picks.
    diameter_angstrom
        The particle diameter: markers are drawn at this size.
    outline
        A part of the image to be framed; see `find_densest_window`.

    Returns
    -------
    bytes
        A PNG with a palette, as deterministic as the libraries that make it. The micrograph
        fills its top; a strip with the legend is below. Pixel (x, y) of the image is centered at
        ``((x + 0.5) * scale, (y + 0.5) * scale)`` of the PNG, where `scale` brings the
        image's longest side to `WHOLE_PX`.
    """
    height, width = item.image.shape
    whole = (0, 0, width, height)
    return _draw(item, diameter_angstrom, whole, WHOLE_PX, legend=True, outline=outline)


def draw_thumbnail(item: GalleryItem, diameter_angstrom: float) -> bytes:
    """Draw a whole micrograph small, with its markers; parameters as for `draw_micrograph`."""
    height, width = item.image.shape
    return _draw(item, diameter_angstrom, (0, 0, width, height), THUMBNAIL_PX, legend=False)


def draw_detail(item: GalleryItem, diameter_angstrom: float) -> bytes:
    """Draw the part of a micrograph with the most markers, enlarged, with a scale bar.

    The part has the proportions of the micrograph and is `DETAIL_DIAMETERS` long, so that
    single particles can be seen. Parameters as for `draw_micrograph`.
    """
    window = find_densest_window(item, diameter_angstrom)
    return _draw(item, diameter_angstrom, window, DETAIL_PX, legend=False)


def find_densest_window(item: GalleryItem, diameter_angstrom: float) -> Window:
    """Return (left, top, right, bottom) of the enlarged part, in pixels of the image."""
    height, width = item.image.shape
    side = DETAIL_DIAMETERS * diameter_angstrom / item.pixel_size_angstrom
    scale = min(1.0, side / max(height, width))
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    marks = np.concatenate([xy for _, xy in _positions_by_kind(item)] or [np.empty((0, 2))])
    best, most = ((width - wide) // 2, (height - tall) // 2), 0
    for top in np.unique(np.linspace(0, height - tall, 12).astype(int)):
        for left in np.unique(np.linspace(0, width - wide, 12).astype(int)):
            inside = np.all((marks >= (left, top)) & (marks < (left + wide, top + tall)), axis=1)
            count = int(np.count_nonzero(inside))
            if count > most:
                best, most = (int(left), int(top)), count
    return best[0], best[1], best[0] + wide, best[1] + tall


def _draw(
    item: GalleryItem,
    diameter_angstrom: float,
    window: Window,
    longest_px: int,
    *,
    legend: bool,
    outline: Window | None = None,
) -> bytes:
    left, top, right, bottom = window
    scale = longest_px / max(right - left, bottom - top)
    wide, tall = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    strip, grays = (_LEGEND_PX, _GRAYS) if legend else (0, _DETAIL_GRAYS)
    diameter_px = diameter_angstrom / item.pixel_size_angstrom
    gray = resize_part(
        to_gray(item.image, SMOOTHING_DIAMETERS * diameter_px), window, (wide, tall), grays
    )
    with matplotlib.style.context(["default", {"font.family": "DejaVu Sans"}]):
        figure = Figure(figsize=(wide / _DPI, (tall + strip) / _DPI), dpi=_DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, strip / (tall + strip), 1.0, tall / (tall + strip)))
        extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
        axes.imshow(
            gray,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=extent,
            interpolation="nearest",
            aspect="auto",
        )
        axes.set_axis_off()
        axes.set(xlim=extent[:2], ylim=extent[2:])
        marks, kinds = _positions_by_kind(item), [*_MARKERS]
        if item.contamination is not None:
            kinds.append(_BAD)
            _add_contamination(axes, item.contamination, item.pixel_size_angstrom)
        line = float(np.clip(diameter_px * scale / 12.0, 1.6, 3.2))
        for kind, xy in marks:
            _add_markers(axes, kind, xy, diameter_px, line)
        if outline is not None:
            _add_frame(axes, outline)
        add_scale_bar(axes, item.pixel_size_angstrom, right - left, scale)
        if legend:
            counts = [(kind, f"{len(xy):,}") for kind, xy in marks]
            if item.contamination is not None:
                counts.insert(0, (_BAD, f"{item.contamination.fraction:.0%}"))
            _add_legend(figure, counts, (wide, tall + strip))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba", dpi=_DPI)
    picture = Pillow.frombytes("RGBA", (wide, tall + strip), buffer.getvalue()).convert("RGB")
    return _png(picture, grays, kinds)


def _positions_by_kind(item: GalleryItem) -> list[tuple[_Marker, FloatArray]]:
    """Return the positions by kind of marker, in drawing order, without kinds that are absent."""
    picks, truth = item.picks_xy_px, item.truth_xy_px
    marks: list[tuple[_Marker, FloatArray]] = []
    if item.labels_xy_px is not None:
        marks.append((_LABEL, item.labels_xy_px))
    if truth is not None and item.picks_matched is not None and item.truth_matched is not None:
        marks.append((_MISS, truth[~item.truth_matched]))
        marks.append((_FALSE, picks[~item.picks_matched]))
        marks.append((_HIT, picks[item.picks_matched]))
    else:
        if truth is not None:
            marks.append((_TRUTH, truth))
        marks.append((_PICK, picks))
    return [(kind, xy[np.isfinite(xy).all(axis=1)].reshape(-1, 2)) for kind, xy in marks]


def _add_markers(axes: Axes, kind: _Marker, xy: FloatArray, diameter: float, line: float) -> None:
    # A dark line below the colored one keeps markers visible on bright ground.
    for color, width, dashes in (("#0008", line + 1.6, "-"), (kind.color, line, kind.dashes)):
        if kind.corners:
            angle = kind.turn + 2 * np.pi * np.arange(kind.corners) / kind.corners
            reach = 0.5 * diameter / math.cos(math.pi / kind.corners)
            corners = reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            shapes = PolyCollection(
                list(xy[:, None, :] + corners), closed=True, facecolors="none",
                edgecolors=color, linewidths=width * _POINT, linestyles=[dashes],
            )  # fmt: skip
            axes.add_collection(shapes, autolim=False)
        else:
            size = np.full(len(xy), diameter)
            circles = EllipseCollection(
                size, size, np.zeros(len(xy)), units="xy", offsets=xy,
                offset_transform=axes.transData, facecolors="none",
                edgecolors=color, linewidths=width * _POINT, linestyles=[dashes],
            )  # fmt: skip
            axes.add_collection(circles, autolim=False)


def _add_contamination(axes: Axes, area: ContaminationMask, pixel_size: float) -> None:
    """Outline contamination; at the micrograph's edges the outlines are open."""
    if area.mask.all() or not area.mask.any():
        return
    mask = np.pad(area.mask, 1, mode="edge").astype(np.float32)
    step = area.pixel_size_angstrom / pixel_size
    rows, columns = (step * (np.arange(side) - 1) for side in mask.shape)
    for color, width in (("#0008", 5.0), (_BAD.color, 3.0)):
        axes.contour(columns, rows, mask, levels=[0.5], colors=[color], linewidths=width * _POINT)


def _add_frame(axes: Axes, window: Window) -> None:
    left, top, right, bottom = window
    for color, width in (("#000a", 5.0), ("white", 2.4)):
        frame = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False,
            edgecolor=color, linewidth=width * _POINT, zorder=4,
        )  # fmt: skip
        axes.add_patch(frame)


def add_scale_bar(axes: Axes, pixel_size: float, wide: int, scale: float) -> None:
    """Draw, lower left, a bar of 1, 2 or 5 times a power of ten nm, up to a sixth of the width."""
    length_nm = _round_length(wide * pixel_size / 10.0 / 6.0)
    length = length_nm * 10.0 / pixel_size
    unit = 1.0 / scale  # one pixel of the drawn image
    x, y = axes.get_xlim()[0] + 28 * unit, axes.get_ylim()[0] - 28 * unit
    ground = (x - 14 * unit, y - 40 * unit), length + 28 * unit, 54 * unit
    axes.add_patch(Rectangle(*ground, color="#000000a8", linewidth=0, zorder=5))
    axes.add_patch(Rectangle((x, y), length, 6 * unit, color="white", linewidth=0, zorder=6))
    axes.text(
        x + length / 2, y - 19 * unit, f"{length_nm:g} nm", color="white",
        fontsize=23 * _POINT, ha="center", va="center", zorder=6,
    )  # fmt: skip


def _round_length(target: float) -> float:
    power = 10.0 ** math.floor(math.log10(target))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= target)


def _add_legend(figure: Figure, counts: list[tuple[_Marker, str]], shape: tuple[int, int]) -> None:
    wide, tall = shape
    axes = figure.add_axes(
        (0.0, 0.0, 1.0, _LEGEND_PX / tall), xlim=(0, wide), ylim=(_LEGEND_PX, 0)
    )
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), wide, _LEGEND_PX, color="#3c444c", lw=0))
    x = 12.0
    for kind, count in counts[::-1]:
        _add_markers(axes, kind, np.array([[x + 14.0, _LEGEND_PX / 2]]), 22.0, 2.2)
        text = axes.text(
            x + 36.0, _LEGEND_PX / 2 + 0.5, f"{kind.label} {count}", color="white",
            fontsize=21 * _POINT, va="center",
        )  # fmt: skip
        x += 36.0 + text.get_window_extent().width + 26.0


def to_gray(image: Image, sigma_px: float) -> Image:
    """Return the image low-pass filtered and stretched to 0 to 255."""
    pixels = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(pixels)
    if not finite.all():
        middle = np.float32(np.median(pixels[finite])) if finite.any() else np.float32(0.0)
        pixels = np.where(finite, pixels, middle)
    smooth = gaussian_filter(pixels, sigma_px, mode="nearest")
    low, high = np.percentile(smooth, CONTRAST_PERCENTILES)
    stretched = (smooth - low) / (high - low) if high > low else np.full(smooth.shape, 0.5)
    return np.asarray(255.0 * np.clip(stretched, 0.0, 1.0), dtype=np.float32)


def resize_part(
    gray: Image, window: Window, size: tuple[int, int], grays: int
) -> NDArray[np.uint8]:
    """Return a part of a gray image at a size (width, height), with so many gray levels."""
    left, top, right, bottom = window
    part = Pillow.fromarray(np.ascontiguousarray(gray[top:bottom, left:right]))
    pixels = np.clip(np.asarray(part.resize(size, Pillow.Resampling.BICUBIC)), 0, 255)
    # Fewer gray levels: invisible, and half the file size.
    levels = np.round(pixels / 255.0 * (grays - 1)) / (grays - 1)
    return np.asarray(np.round(255.0 * levels), dtype=np.uint8)


def _png(picture: Pillow.Image, grays: int, kinds: Sequence[_Marker]) -> bytes:
    """Encode with one fixed palette: the grays, and each marker's color over the grays."""
    plain = np.linspace(0.0, 1.0, grays)[:, None] * np.ones(3)
    under = np.linspace(0.0, 1.0, _SHADES)[:, None] * np.ones(3)
    mixes = [
        opacity * np.array(to_rgb(kind.color)) + (1.0 - opacity) * under
        for kind in kinds
        for opacity in (0.25, 0.5, 0.75)
    ]
    pure = np.array([to_rgb(kind.color) for kind in kinds])
    colors = np.round(255.0 * np.concatenate([plain, pure, *mixes])).astype(np.uint8)
    palette = Pillow.new("P", (1, 1))
    palette.putpalette(colors.tobytes())
    indexed = picture.quantize(palette=palette, dither=Pillow.Dither.NONE)
    buffer = io.BytesIO()
    indexed.save(buffer, format="PNG")
    return buffer.getvalue()
