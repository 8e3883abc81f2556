"""Figures for notebooks: a micrograph with its picks."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from heliodor.conventions import FloatArray, Image, to_working
from heliodor.data.micrographs.fourier_crop import fourier_crop
from heliodor.report.figure_style import BLUE

#: Pixels along the longest side of the image that is drawn.
DRAWN_PX = 1000
#: Gray values outside these percentiles are black or white.
PERCENTILES = (0.5, 99.5)


class NotebookFigure(Figure):
    """A figure that a notebook shows, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def draw_picks(image: Image, xy_px: FloatArray, diameter_px: float, title: str) -> Figure:
    """Draw a micrograph with a ring around each pick.

    Parameters
    ----------
    image
        Shape (h, w).
    xy_px
        Centers in pixels of the image, shape (n, 2).
    diameter_px
        Of the rings, in pixels of the image.
    title
        Printed above it.
    """
    height, width = image.shape
    factor = min(1.0, DRAWN_PX / max(image.shape))
    shape = (round(height * factor), round(width * factor))
    small = fourier_crop(image, shape) if factor < 1 else image
    low, high = np.percentile(small, PERCENTILES)
    figure = NotebookFigure(figsize=(7, 7 * height / width), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(small, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    rings = np.full(len(xy_px), diameter_px * factor)
    axes.add_collection(
        EllipseCollection(
            rings, rings, np.zeros(len(xy_px)), units="x", facecolors="none", edgecolors=BLUE,
            linewidths=1.2, offsets=to_working(xy_px, image.shape, shape),
            offset_transform=axes.transData,
        )
    )  # fmt: skip
    return figure
