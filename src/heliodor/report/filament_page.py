"""The report of `pick --filaments`: micrographs with traced axes, lengths and straightness."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from PIL import Image as Pillow

from heliodor import __version__
from heliodor.report import gallery
from heliodor.report.elements import Columns, Element, Facts, Figure, Paragraph, Section, table_of
from heliodor.report.figure_style import (
    BLUE,
    FONT_STACK,
    MUTED,
    RUST,
    figure_style,
    new_panel,
    render_svg,
)
from heliodor.report.report import render_template

if TYPE_CHECKING:
    from heliodor.conventions import FloatArray, Image

#: Longest side of a drawn micrograph in pixels, its gray levels, and the width of an axis.
_LONGEST_PX: Final = 1000
_GRAYS: Final = 26
_LINE_PX: Final = 3.0
_DPI: Final = 64
_COLOR: Final = "#35d6f5"
#: Sigma of the Gaussian low-pass filter for display, in widths of the filament.
_SMOOTHING: Final = 1.0 / 14.0


@dataclass(frozen=True)
class FilamentItem:
    """A micrograph that is drawn with its filaments."""

    name: str
    #: Shape (h, w), protein dark.
    image: Image
    pixel_size_angstrom: float
    #: Axes (x, y) in pixels of `image`.
    axes_px: Sequence[FloatArray]


@dataclass(frozen=True)
class FilamentReport:
    """What the report shows."""

    title: str
    command: str
    warnings: Sequence[str]
    #: Name and reason.
    skipped: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    key_figures: Sequence[tuple[str, str]]
    width_angstrom: float
    #: Of each filament: length, distance of its ends over its length, mean log-odds.
    lengths_angstrom: FloatArray
    straightness: FloatArray
    scores: FloatArray
    threshold: float
    #: Mean density across sure filaments, and its positions in widths; empty if not measured.
    profile: FloatArray
    profile_positions: FloatArray
    #: Name, number of filaments and their length in angstrom of each micrograph.
    micrographs: Sequence[tuple[str, int, float]]
    gallery: Sequence[FilamentItem]


def render_filament_page(content: FilamentReport) -> str:
    """Return the report as one HTML page; the same content always gives the same text."""
    found = (
        _gallery_section(content),
        Section("Filaments", _filament_elements(content)),
        Section("Micrographs", _micrograph_table(content)) if content.micrographs else None,
        _skipped_section(content),
        Section("Run", [Facts(content.settings), Paragraph(content.command)]),
    )
    return render_template(
        "filaments.html.j2",
        title=content.title,
        program=f"heliodor {__version__}",
        figures=content.key_figures,
        notes=content.warnings,
        sections=[section for section in found if section is not None],
        fonts=FONT_STACK,
    )


def _gallery_section(content: FilamentReport) -> Section | None:
    if not content.gallery:
        return None
    elements: list[Element] = [
        Paragraph(
            "From many filaments to few. Lines are the traced axes. Images are low-pass filtered"
            f" (Gaussian, σ = {_SMOOTHING * content.width_angstrom:.1f} Å) and stretched in"
            " contrast for display only."
        )
    ]
    for item in content.gallery:
        count = len(item.axes_px)
        caption = f"{item.name}: {count:,} filament{'s' * (count != 1)}"
        image = draw_filaments(item, content.width_angstrom)
        elements.append(Figure(image, f"Filaments on {item.name}", caption))
    return Section("Traced filaments", elements)


def draw_filaments(item: FilamentItem, width_angstrom: float) -> bytes:
    """Draw a micrograph with the axes of its filaments and a scale bar, as PNG."""
    height, width = item.image.shape
    scale = _LONGEST_PX / max(height, width)
    wide, tall = (max(1, round(side * scale)) for side in (width, height))
    smooth = gallery.to_gray(item.image, _SMOOTHING * width_angstrom / item.pixel_size_angstrom)
    gray = gallery.resize_part(smooth, (0, 0, width, height), (wide, tall), _GRAYS)
    with matplotlib.style.context(["default", {"font.family": "DejaVu Sans"}]):
        figure = Drawing(figsize=(wide / _DPI, tall / _DPI), dpi=_DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        axes.imshow(
            gray, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest",
            aspect="auto",
        )  # fmt: skip
        axes.set_axis_off()
        axes.set(xlim=extent[:2], ylim=extent[2:])
        # A dark line below the colored one keeps axes visible on bright ground.
        for color, thick in (("#0008", _LINE_PX + 1.6), (_COLOR, _LINE_PX)):
            lines = LineCollection(
                [np.asarray(axis) for axis in item.axes_px], colors=color,
                linewidths=thick * 72.0 / _DPI,
            )  # fmt: skip
            axes.add_collection(lines, autolim=False)
        gallery.add_scale_bar(axes, item.pixel_size_angstrom, width, scale)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba", dpi=_DPI)
    picture = Pillow.frombytes("RGBA", (wide, tall), buffer.getvalue()).convert("RGB")
    encoded = io.BytesIO()
    picture.quantize(64, dither=Pillow.Dither.NONE).save(encoded, format="PNG", optimize=True)
    return encoded.getvalue()


def _filament_elements(content: FilamentReport) -> list[Element]:
    if not len(content.lengths_angstrom):
        return [Paragraph("There are no filaments.")]
    lengths = content.lengths_angstrom / 10.0
    facts = [
        ("Median length", f"{np.median(lengths):,.0f} nm"),
        ("Shortest and longest", f"{lengths.min():,.0f} and {lengths.max():,.0f} nm"),
        ("Median straightness", f"{np.median(content.straightness):.3f}"),
    ]
    figures: list[Figure | Facts] = [
        Figure(
            _draw_histogram(lengths, "Length (nm)", "Filaments"),
            "Histogram of the lengths of filaments",
            "Lengths. Filaments that leave the micrograph are cut at its edge.",
        ),
        Figure(
            _draw_histogram(content.straightness, "Distance of the ends / length", "Filaments"),
            "Histogram of the straightness of filaments",
            "Straightness: 1 is a straight line.",
        ),
        Figure(
            _draw_histogram(content.scores, "Mean log-odds", "Filaments", content.threshold),
            "Histogram of the scores of candidates",
            "Scores of all candidates; those at or above the threshold are filaments.",
        ),
    ]
    if len(content.profile) and not np.isnan(content.profile).any():
        figures.append(
            Figure(
                _draw_profile(content),
                "Mean density across the filaments",
                "Mean density across straightened filaments, protein down; the dashed lines are"
                f" {content.width_angstrom:g} Å apart.",
            )
        )
    return [Facts(facts), Columns(figures)]


def _draw_histogram(
    values: FloatArray, x_label: str, y_label: str, threshold: float | None = None
) -> str:
    with figure_style():
        figure, axes = new_panel(x_label, y_label)
        bins = int(np.clip(math.ceil(2.0 * len(values) ** (1.0 / 3.0)), 5, 40))
        axes.hist(values, bins=bins, color=BLUE)
        if threshold is not None:
            axes.axvline(threshold, color=RUST, linestyle="--")
        return render_svg(figure)


def _draw_profile(content: FilamentReport) -> str:
    with figure_style():
        positions = content.profile_positions * content.width_angstrom
        figure, axes = new_panel("Distance from the axis (Å)", "Density")
        axes.plot(positions, content.profile, color=BLUE)
        for side in (-0.5, 0.5):
            axes.axvline(side * content.width_angstrom, color=MUTED, linestyle="--")
        axes.set_yticklabels([])
        return render_svg(figure)


def _micrograph_table(content: FilamentReport) -> list[Element]:
    most = max(length for _, _, length in content.micrographs) or 1.0
    rows = [[name, f"{count:,}", f"{length / 10.0:,.0f}"]
            for name, count, length in content.micrographs]  # fmt: skip
    return table_of(
        "Every micrograph",
        ["Micrograph", "Filaments", "Length in all (nm)"],
        rows,
        1,
        [100.0 * length / most for _, _, length in content.micrographs],
    )


def _skipped_section(content: FilamentReport) -> Section | None:
    if not content.skipped:
        return None
    rows = [list(one) for one in content.skipped]
    table = table_of("Every skipped micrograph", ["Micrograph", "Reason"], rows, 2)
    return Section(f"Skipped micrographs ({len(rows):,})", table)
