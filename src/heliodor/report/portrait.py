"""The portrait of a particle: its average around labels, with the diameter, as a PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from heliodor.report.figure_style import (
    BLUE,
    PANEL_INCHES,
    RUST,
    style,
)

if TYPE_CHECKING:
    from heliodor.data.coordinates.particle_diameter import Geometry

#: Percentiles of the average that are drawn black and white.
CONTRAST_PERCENTILES = (0.5, 99.5)
#: The average is shown out to this distance from its centre, in diameters.
SHOWN_DIAMETERS = 1.1
DPI = 150


def draw_portrait(geometry: Geometry) -> bytes:
    """Draw the average with the diameter around it, and beside it what the rings show.

    Parameters
    ----------
    geometry
        What was measured.

    Returns
    -------
    bytes
        A PNG; the same for the same geometry.
    """
    extent, diameter = geometry.extent, geometry.diameter_angstrom
    with style():
        width, height = PANEL_INCHES
        figure = Figure(figsize=(2 * width, height), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        pixel = geometry.average_pixel_size_angstrom
        side = geometry.average.shape[0]
        # The centre is the middle of pixel side // 2; row 0 is on top.
        reach = (-side // 2 - 0.5) * pixel, (side - side // 2 - 0.5) * pixel
        low, high = np.percentile(geometry.average, CONTRAST_PERCENTILES)
        left.imshow(
            geometry.average,
            cmap="gray",
            vmin=float(low),
            vmax=float(high),
            extent=(reach[0], reach[1], reach[1], reach[0]),
        )
        left.add_patch(Circle((0.0, 0.0), diameter / 2, fill=False, edgecolor=RUST, linewidth=1.4))
        shown = min(SHOWN_DIAMETERS * diameter, reach[1])
        left.set_xlim(-shown, shown)
        left.set_ylim(shown, -shown)
        left.grid(False)
        left.set_xlabel("Distance (Å)")
        left.set_title(f"Average of {geometry.labels_averaged} labels, {diameter:g} Å", fontsize=9)

        radius = geometry.radius_angstrom
        right.plot(radius, geometry.power, color=BLUE, label="Power of the particles")
        right.plot(radius, geometry.mean, color=RUST, linestyle="--", label="Mean")
        right.axvspan(extent.low_angstrom / 2, extent.high_angstrom / 2, color=RUST, alpha=0.12)
        right.axvline(diameter / 2, color=RUST, linewidth=1.4, label="Half the diameter")
        right.set_xlim(0.0, float(radius[-1]))
        right.set_xlabel("Distance from the centre (Å)")
        right.set_ylabel("Share of the largest")
        right.legend(loc="upper right", fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
