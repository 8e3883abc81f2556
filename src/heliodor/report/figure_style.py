"""The style of the report's figures, their size, and their SVG.

Neither a user's matplotlibrc nor an application's settings change the style, and it is in effect
only while a figure is drawn.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

#: Width and height of a panel in inches: 376 x 284 pixels on a screen.
PANEL_INCHES: Final = (3.92, 2.96)

#: Fonts of the page and of its panels: those of the reader's system.
FONT_STACK: Final = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

INK, MUTED, RULE = "#1f2933", "#66727f", "#e3e7eb"
BLUE, RUST, GREEN, PALE = "#1c5d8f", "#b8501a", "#3f7d58", "#b9c7d4"

_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "heliodor",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#9aa5b1",
    "ytick.color": "#9aa5b1",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.7,
    "lines.dash_capstyle": "butt",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.2,
}


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which panels are drawn and saved."""
    return matplotlib.style.context(["default", _STYLE])


def new_panel(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Return a new figure and its axes."""
    figure = Figure(figsize=PANEL_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """Put the legend above the axes, if anything in them has a label."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        columns = len(handles) if len(handles) <= 3 else 2
        axes.figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def render_svg(figure: Figure) -> str:
    """Return the figure's SVG with texts in the fonts of the reader's system."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    # Without prologue and metadata the SVG refers to no external resource.
    text = buffer.getvalue()
    text = re.sub(r"(?s)\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :])
    text = re.sub(r"(font:[^;\"]*?px) [^;\"]+", rf"\1 {FONT_STACK}", text)
    return re.sub(r"font-family: ?[^;\"]+", f"font-family: {FONT_STACK}", text)
