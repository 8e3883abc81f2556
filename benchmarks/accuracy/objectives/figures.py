"""The figures of `report.py`."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from benchmarks.accuracy.objectives.cells import (
    CHOSEN,
    METRICS,
    Cells,
    Draws,
    Paired,
    Row,
    by_factor,
    by_gamma,
    by_objective,
    collect,
    places_of,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from heliodor.report.figure_style import figure_style
from heliodor.utils.files import atomic_write

#: Colors of Okabe and Ito, told apart with any color vision, and by marker in print.
OBJECTIVE_LOOKS = {
    "pn": ("#E69F00", "s"),
    "nnpu": ("#56B4E9", "^"),
    "ge-kl": ("#009E73", "D"),
    "ge-binomial": ("#D55E00", "o"),
    "ge-binomial-exact": ("#0072B2", "v"),
}
GAMMA_LOOKS = {"γ = 0": ("#000000", "o"), "γ = 1": ("#E69F00", "s"), "γ = 10/N": ("#0072B2", "^")}
LINES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#E69F00", "D"))


def draw_figure(
    path: Path,
    grids: Mapping[str, Cells],
    looks: Mapping[str, tuple[str, str]],
    xlabel: str,
    logarithmic: bool,
    marked: tuple[str, str] | None = None,
) -> None:
    """Draw means and standard deviations, a row of panels a metric and a column a data set."""
    datasets = sorted({dataset for cells in grids.values() for dataset in cells})
    if not datasets:
        return
    size = (0.6 + 2.7 * len(datasets), 0.5 + 2.1 * len(grids))
    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(grids), len(datasets), squeeze=False, sharex=True)
        for row, (metric, cells) in enumerate(grids.items()):
            for column, dataset in enumerate(datasets):
                axes, lines = panels[row][column], cells.get(dataset, {})
                draw_lines(axes, lines, looks, logarithmic)
                if marked and marked[0] in lines and marked[1] in lines:
                    draw_marks(axes, lines[marked[0]], lines[marked[1]])
                if row == 0:
                    axes.set_title(dataset, fontsize=9)
                if column == 0:
                    axes.set_ylabel(METRICS[metric])
                if row == len(grids) - 1:
                    axes.set_xlabel(xlabel)
        # The panels share the axis.
        ticks = sorted(
            {t for cells in grids.values() for c in cells.values() for t in places_of(c)}
        )
        figure.axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        figure.axes[0].xaxis.set_minor_locator(NullLocator())
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            handles |= {str(h.get_label()): h for h in axes.get_legend_handles_labels()[0]}
        shown = {name: handles[name] for name in looks if name in handles}
        figure.legend(
            list(shown.values()), list(shown), loc="outside upper center", ncols=len(shown)
        )
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
    with atomic_write(path) as aside:
        # A third of the size with as many colors as such a drawing needs.
        PIL.Image.open(drawn).convert("RGB").quantize(64).save(aside, optimize=True)


def draw_lines(
    axes: Any,
    lines: Mapping[str, Mapping[float, Draws]],
    looks: Mapping[str, tuple[str, str]],
    logarithmic: bool,
) -> None:
    names = [name for name in looks if name in lines]
    if logarithmic:
        axes.set_xscale("log")
    for i, name in enumerate(names):
        line = sorted(lines[name].items())
        # Moved apart a little, or the error bars would hide each other.
        aside = i - (len(names) - 1) / 2
        x = [at * 1.03**aside if logarithmic else at + 0.01 * aside for at, _ in line]
        spread = [statistics.stdev(d.values()) if len(d) > 1 else 0.0 for _, d in line]
        means = [statistics.fmean(d.values()) for _, d in line]
        colour, marker = looks[name]
        axes.errorbar(
            *(x, means, spread), label=name, color=colour, marker=marker, markersize=4,
            linewidth=1.2, elinewidth=0.8, capsize=2,
        )  # fmt: skip


def draw_marks(axes: Any, one: Mapping[float, Draws], other: Mapping[float, Draws]) -> None:
    """Mark along the upper edge where one of two series is better than the other."""
    for place in one.keys() & other.keys():
        test = Paired.of(one[place], other[place])
        if test is not None and test.mark:
            axes.annotate(
                *(test.mark, (place, 1.0)), xycoords=("data", "axes fraction"), ha="center",
                va="top", fontsize=11,
            )  # fmt: skip


def draw_all(rows: Sequence[Row], out: Path, suffix: str) -> None:
    """Draw the three figures."""
    grids = {metric: collect(rows, metric, by_objective) for metric in METRICS}
    path, n = out / f"objectives{suffix}.png", "Labeled particles N"
    draw_figure(path, grids, OBJECTIVE_LOOKS, n, True, marked=(CHOSEN, "ge-kl"))
    grids = {metric: collect(rows, metric, by_gamma) for metric in METRICS}
    draw_figure(out / f"autoencoder{suffix}.png", grids, GAMMA_LOOKS, n, True)
    grids = {metric: collect(rows, metric, by_factor) for metric in METRICS}
    names = {name for cells in grids.values() for lines in cells.values() for name in lines}
    ordered = sorted(names, key=lambda name: int(name.split()[-1]))
    looks = {name: LINES[i % len(LINES)] for i, name in enumerate(ordered)}
    draw_figure(out / f"prior{suffix}.png", grids, looks, "Class prior / true fraction", False)
