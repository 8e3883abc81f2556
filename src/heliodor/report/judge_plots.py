"""The figures of `judge`, after Figures 3 and 4 of the Topaz paper."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heliodor.reconstruction.junk import JUNK_CLASS
from heliodor.report.figure_style import BLUE, MUTED, PANEL_INCHES, RUST, figure_style
from heliodor.report.plots import DPI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from heliodor.reconstruction.judgement import ClassAverages, Judgement, SetJudgement

#: The class averages beside each other, and their size in inches.
_ACROSS: Final = 10
_TILE: Final = 0.78


def draw_judgement(judgement: Judgement, averages: ClassAverages) -> bytes:
    """Draw resolution, shares of false picks, and class averages, as one PNG.

    The same judgement always gives the same bytes.
    """
    images = averages.picks + averages.random
    rows = max(1, math.ceil(np.count_nonzero(images) / _ACROSS))
    with_maps = any(one.maps is not None for one in judgement.sets)
    width, height = PANEL_INCHES
    with figure_style():
        figure = Figure(figsize=(2 * width, height + 1.25 * _TILE * rows), layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subfigures(
            2, 1, squeeze=False, height_ratios=(height, 1.25 * _TILE * rows)
        ).ravel()
        if with_maps:
            left, right = upper.subplots(1, 2)
            _plot_resolution(left, judgement.sets)
        else:
            right = upper.subplots(1, 1)
        _plot_shares(right, judgement.sets)
        _show_classes(lower.subplots(rows, _ACROSS, squeeze=False).ravel(), averages)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _plot_resolution(axes: Axes, sets: Sequence[SetJudgement]) -> None:
    """Plot the resolution against the number of picks, with the band of the splits."""
    judged = [(one.picks, one.maps) for one in sets if one.maps is not None]
    picks = np.array([number for number, _ in judged])
    values = [maps.resolution_angstrom for _, maps in judged]
    means = np.array([value.mean() for value in values])
    spread = np.array([value.std(ddof=1) for value in values])
    axes.fill_between(picks, means - spread, means + spread, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(picks, means, color=BLUE, marker="o", markersize=4)
    axes.invert_yaxis()
    axes.set_xlabel("Picks")
    axes.set_ylabel("Resolution of the halves (Å)")


def _plot_shares(axes: Axes, sets: Sequence[SetJudgement]) -> None:
    """Plot true and false picks of each set as stacked bars."""
    places = np.arange(len(sets))
    picks = np.array([one.picks for one in sets], dtype=np.float64)
    false = np.nan_to_num(np.array([one.false_share for one in sets])) * picks
    axes.bar(places, picks - false, color=BLUE, label="Particles")
    axes.bar(places, false, bottom=picks - false, color=RUST, label="False")
    names = ["all" if math.isnan(one.threshold) else f"{one.threshold:.2f}" for one in sets]
    axes.set_xticks(places, names, rotation=45 if len(sets) > 6 else 0)
    axes.set_xlabel("Threshold (log-odds)")
    axes.set_ylabel("Picks")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left")


def _show_classes(tiles: Sequence[Axes], averages: ClassAverages) -> None:
    """Show the averages of classes with images, most picks first, junk in a frame."""
    order = np.argsort(-averages.picks, kind="stable")
    images = averages.picks + averages.random
    order = order[images[order] > 0]
    for axes in tiles:
        axes.set_axis_off()
    for axes, index in zip(tiles, order, strict=False):
        image = averages.averages[index]
        axes.imshow(image, cmap="gray", origin="lower")
        axes.set_title(f"{averages.picks[index]:.0f}", fontsize=7, color=MUTED, pad=2)
        if averages.picks[index] and averages.junk[index] > JUNK_CLASS:
            axes.set_axis_on()
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_edgecolor(RUST)
                spine.set_linewidth(2.0)
