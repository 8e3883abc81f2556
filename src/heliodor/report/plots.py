"""The report's curves and histograms, as SVG text.

Each function draws one panel through matplotlib's objects, never through pyplot. The same
numbers always give the same text.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from heliodor.report.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PALE,
    PANEL_INCHES,
    RULE,
    RUST,
    add_legend,
    figure_style,
    new_panel,
    render_svg,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from heliodor.conventions import FloatArray
    from heliodor.data.coordinates.particle_diameter import Geometry
    from heliodor.report.content import EvaluationCurves

#: A curve is thinned to about this many points; more cannot be distinguished in a panel.
_MOST_POINTS: Final = 1500
_PROBABILITIES: Final = (0.01, 0.1, 0.5, 0.9, 0.99)
#: Share of an axis that a tick label takes.
_TICK_ROOM: Final = 0.1


def draw_loss_curves(history: Sequence[Mapping[str, float]], best_epoch: int | None) -> str:
    """Draw the loss and its two terms against the epoch."""
    with figure_style():
        figure, axes = new_panel("Epoch", "Loss")
        curves = (("loss", "Total", BLUE, "-"), ("positive_loss", "Labeled", RUST, "--"))
        for key, label, color, dashes in (*curves, ("unlabelled_term", "Unlabeled", GREEN, ":")):
            _plot_epochs(axes, history, key, label, color, dashes)
        _mark_epoch(axes, best_epoch)
        add_legend(axes)
        return render_svg(figure)


def draw_mean_probability(
    history: Sequence[Mapping[str, float]], expected_fraction: float | None
) -> str:
    """Draw the mean probability of unlabeled regions against the epoch, and the class prior."""
    with figure_style():
        figure, axes = new_panel("Epoch", "Mean probability, unlabeled")
        _plot_epochs(axes, history, "mean_probability", "Predicted", BLUE, "-")
        if expected_fraction is not None and np.isfinite(expected_fraction):
            label = f"Class prior π = {expected_fraction:.3g}"
            axes.axhline(expected_fraction, color=RUST, linestyle="--", label=label)
        axes.set_ylim(bottom=0.0)
        add_legend(axes)
        return render_svg(figure)


def draw_validation_curve(history: Sequence[Mapping[str, float]], best_epoch: int | None) -> str:
    """Draw the average precision on the validation micrographs against the epoch."""
    with figure_style():
        figure, axes = new_panel("Epoch", "Validation average precision")
        _plot_epochs(axes, history, "validation_ap", "Validation", BLUE, "-")
        _mark_epoch(axes, best_epoch)
        add_legend(axes)
        return render_svg(figure)


def draw_score_histogram(
    scores: FloatArray,
    threshold: float | None,
    chance: FloatArray | None = None,
    number: NDArray[np.integer[Any]] | None = None,
) -> str:
    """Draw the distribution of the candidates' scores with the threshold marked.

    The upper axis shows the probabilities of the scores, if they are known. The counts are on a
    logarithmic axis where the picks would otherwise be too few to see.

    Parameters
    ----------
    scores
        Log-odds, shape (n,).
    threshold
        The score from which on candidates are picks.
    chance
        Probability of each score; with it a line shows the estimated number of particles.
    number
        Number of candidates of each score; None: one.
    """
    scores = np.asarray(scores, dtype=np.float64)
    finite = np.isfinite(scores)
    number = np.ones(finite.size, dtype=np.intp) if number is None else number
    scores, number = scores[finite], number[finite]
    chance = None if chance is None else chance[finite]
    with figure_style():
        figure, axes = new_panel("Score", "Candidates")
        if not scores.size:
            return _draw_message(figure, axes, "No candidates")
        cut = threshold if threshold is not None and np.isfinite(threshold) else None
        edges = _bin_edges(scores, cut)
        counts, _ = np.histogram(scores, bins=edges, weights=number)
        kept = np.ones(counts.size, dtype=np.bool_)
        if cut is not None:
            # Half a bin of slack: the edge that is the threshold may be off by a rounding.
            kept = edges[:-1] > cut - 0.5 * (edges[1] - edges[0])
            passed = int(number[scores >= cut].sum())
            axes.axvline(
                cut, color=RUST, linewidth=1.4, linestyle="--", label=f"Threshold {cut:.2f}"
            )
        for chosen, color, label in (
            (~kept, PALE, "" if cut is None else f"Below {number.sum() - passed:,}"),
            (kept, BLUE, "" if cut is None else f"Picks {passed:,}"),
        ):
            left, width = edges[:-1][chosen], np.diff(edges)[chosen]
            axes.bar(left, counts[chosen], width, align="edge", color=color, label=label or None)
        if chance is not None:
            found, _ = np.histogram(scores, bins=edges, weights=chance * number)
            axes.stairs(found, edges, color=INK, linewidth=1.4, label="Estimated particles")
        if cut is not None:
            add_legend(axes)
            if kept.any() and counts.max() > 20 * max(int(counts[kept].max()), 1):
                axes.set_yscale("log")
                axes.set_ylim(bottom=0.7)
                axes.set_ylabel("Candidates (log scale)")
        axes.set_xlim(edges[0], edges[-1])
        if chance is not None:
            _probability_axis(axes, scores, chance)
        return render_svg(figure)


def draw_picks_by_defocus(defocus: Sequence[tuple[float, int]]) -> str:
    """Draw the number of picks of micrographs against their defocus.

    Parameters
    ----------
    defocus
        Defocus in micrometers and number of picks of each micrograph.
    """
    values = np.asarray(defocus, dtype=np.float64).reshape(-1, 2)
    values = values[_thinned_indices(values.sum(axis=1))]
    with figure_style():
        figure, axes = new_panel("Defocus (µm)", "Picks")
        axes.plot(values[:, 0], values[:, 1], "o", color=BLUE, ms=4, alpha=0.6, mew=0)
        axes.set_ylim(0.0, 1.08 * max(1.0, float(values[:, 1].max(initial=1.0))))
        return render_svg(figure)


def draw_score_profiles(
    histograms: Sequence[Sequence[int]],
    edges: Sequence[float],
    drawn: Sequence[Sequence[int]],
) -> str:
    """Draw the number of candidates by score of some micrographs, over a band of all.

    Parameters
    ----------
    histograms
        Number of candidates in each of n bins, of all micrographs.
    edges
        Lower edges of the n bins, rising; the last bin has no upper edge.
    drawn
        The same of at most four micrographs, drawn as lines.
    """
    with figure_style():
        figure, axes = new_panel("Score", "Candidates")
        at = np.arange(len(edges))
        low, high = np.quantile(np.asarray(histograms), (0.1, 0.9), axis=0)
        axes.fill_between(at, low, high, color=PALE, linewidth=0, label="All, 10–90%")
        strokes = ((RUST, "-"), (BLUE, "--"), (GREEN, ":"), (INK, "-."))
        for number, (own, (color, dashes)) in enumerate(zip(drawn, strokes, strict=False), 1):
            axes.plot(at, own, dashes, color=color, marker="o", ms=3, label=f"No. {number}")
        axes.set_xticks(at - 0.5, [f"{edge:g}" for edge in edges])
        axes.set_ylim(bottom=0.0)
        add_legend(axes)
        return render_svg(figure)


def draw_picks_histogram(counts: Sequence[int]) -> str:
    """Draw the histogram of the number of picks per micrograph."""
    values = np.asarray(counts, dtype=np.int64)
    with figure_style():
        figure, axes = new_panel("Picks per micrograph", "Micrographs")
        if not values.size:
            return _draw_message(figure, axes, "No micrographs")
        low, high = int(values.min()), int(values.max())
        step = max(1, -(-(high - low + 1) // 40))
        edges = np.arange(low, high + step + 1, step) - 0.5
        axes.hist(values, bins=list(edges), color=BLUE, rwidth=0.94)
        median = float(np.median(values))
        axes.axvline(
            median, color=RUST, linewidth=1.4, linestyle="--", label=f"Median {median:,.0f}"
        )
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        add_legend(axes)
        return render_svg(figure)


def draw_precision_recall(evaluation: EvaluationCurves) -> str:
    """Draw precision against recall over lines of equal F1, with the threshold in use."""
    with figure_style():
        figure, axes = new_panel("Recall", "Precision")
        axes.grid(False)
        recall = np.linspace(0.01, 1.0, 200)
        for f1 in (0.2, 0.4, 0.6, 0.8):
            # Precision at which this recall gives this F1; beyond 1 there is none.
            line = f1 * recall / np.where(2 * recall > f1, 2 * recall - f1, np.nan)
            line[line > 1.0] = np.nan
            axes.plot(recall, line, color=RULE, linewidth=0.8, zorder=1)
            axes.annotate(
                f"F1 {f1:.1f}", (1.0, f1 / (2 - f1)), (3, 0), textcoords="offset points",
                fontsize=7, color=MUTED, va="center", annotation_clip=False,
            )  # fmt: skip
        keep = _thinned_indices(evaluation.recall)
        value = evaluation.average_precision
        label = f"AP {value:.3f}" if np.isfinite(value) else "AP –"
        axes.plot(evaluation.recall[keep], evaluation.precision[keep], color=BLUE, label=label)
        if evaluation.at_threshold is not None:
            precision, recalled, _ = evaluation.at_threshold
            axes.plot(
                [recalled], [precision], "o", color=RUST, markersize=6.5, markeredgecolor="white",
                label="Threshold in use", linestyle="none", zorder=5,
            )  # fmt: skip
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.02)
        add_legend(axes)
        return render_svg(figure)


def draw_quality_by_threshold(evaluation: EvaluationCurves, threshold: float | None) -> str:
    """Draw precision, recall and F1 against the threshold on the score."""
    with figure_style():
        figure, axes = new_panel("Threshold on the score", "Precision, recall, F1")
        for values, label, color, dashes in (
            (evaluation.f1, "F1", BLUE, "-"),
            (evaluation.precision, "Precision", GREEN, "--"),
            (evaluation.recall, "Recall", MUTED, ":"),
        ):
            keep = _thinned_indices(evaluation.threshold)
            x, y = evaluation.threshold[keep], values[keep]
            axes.plot(x, y, color=color, linestyle=dashes, label=label)
        if threshold is not None and np.isfinite(threshold):
            axes.axvline(threshold, color=RUST, linewidth=1.4, linestyle="--")
            axes.annotate(
                "threshold", (threshold, 0.0), (3, 4), xycoords=("data", "axes fraction"),
                textcoords="offset points", color=RUST, fontsize=7.5,
            )  # fmt: skip
        if np.isfinite(evaluation.best_f1) and np.isfinite(evaluation.best_f1_threshold):
            axes.plot(
                [evaluation.best_f1_threshold], [evaluation.best_f1], "D", color=BLUE, zorder=5,
                markersize=5.5, markeredgecolor="white", label="Best F1", linestyle="none",
            )  # fmt: skip
        axes.set_ylim(0.0, 1.02)
        add_legend(axes)
        return render_svg(figure)


def _draw_message(figure: Figure, axes: Axes, message: str) -> str:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes, color=MUTED)
    return render_svg(figure)


def _plot_epochs(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    key: str,
    label: str,
    color: str,
    dash: str,
) -> None:
    epoch = [row.get("epoch", number) for number, row in enumerate(history, 1)]
    value = [row.get(key, np.nan) for row in history]
    # A lone value between two missing ones would be invisible as a line.
    marker = "o" if np.count_nonzero(np.isfinite(value)) <= 12 else None
    axes.plot(
        epoch, value, color=color, linestyle=dash, label=label, marker=marker, markersize=3.5
    )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _mark_epoch(axes: Axes, epoch: int | None) -> None:
    if epoch is not None:
        axes.axvline(
            epoch, color=MUTED, linewidth=1.0, linestyle="-.", label=f"Kept: epoch {epoch}"
        )


def _bin_edges(scores: FloatArray, threshold: float | None) -> FloatArray:
    """Return equal bins over the scores, one edge being the threshold."""
    low, high = float(scores.min()), float(scores.max())
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    bins = min(60, max(8, int(np.sqrt(scores.size))))
    width = max((high - low) / bins, 1e-3)
    origin = low if threshold is None else threshold
    first, last = np.floor((low - origin) / width), np.floor((high - origin) / width) + 1
    return np.asarray(origin + width * np.arange(first, last + 1), dtype=np.float64)


def _probability_axis(axes: Axes, scores: FloatArray, chance: FloatArray) -> None:
    low, high = axes.get_xlim()
    wanted = np.array(_PROBABILITIES)
    order = np.argsort(scores)
    at = np.interp(wanted, chance[order], scores[order], left=np.nan, right=np.nan)
    inside = np.flatnonzero((at >= low) & (at <= high))
    # Those nearest to one half first: where scores separate particles sharply, few have room.
    kept: list[int] = []
    for own in inside[np.argsort(abs(wanted[inside] - 0.5), kind="stable")]:
        if all(abs(at[own] - at[other]) >= _TICK_ROOM * (high - low) for other in kept):
            kept.append(int(own))
    kept.sort()
    top = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    top.set_xticks(at[kept], [f"{p:g}" for p in wanted[kept]])
    top.set_xlabel("Probability")


def _thinned_indices(values: FloatArray) -> NDArray[np.intp]:
    """Return the indices of finite values, evenly thinned, with the first and the last."""
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size <= _MOST_POINTS:
        return finite
    return finite[np.linspace(0, finite.size - 1, _MOST_POINTS).round().astype(np.intp)]


#: Percentiles of the average that are drawn as black and as white.
CONTRAST_PERCENTILES = (0.5, 99.5)


#: The average is shown out to this distance from its center, in diameters.
SHOWN_DIAMETERS = 1.1


DPI = 150


def draw_particle_average(geometry: Geometry) -> bytes:
    """Draw the average of the labels with the diameter, and its radial profiles beside it.

    Parameters
    ----------
    geometry
        The measured particle diameter.

    Returns
    -------
    bytes
        A PNG; the same for the same geometry.
    """
    extent, diameter = geometry.extent, geometry.diameter_angstrom
    with figure_style():
        width, height = PANEL_INCHES
        figure = Figure(figsize=(2 * width, height), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        pixel = geometry.average_pixel_size_angstrom
        side = geometry.average.shape[0]
        # The center is the middle of pixel side // 2; row 0 is on top.
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
        right.plot(radius, geometry.power, color=BLUE, label="Particle power")
        right.plot(radius, geometry.mean, color=RUST, linestyle="--", label="Mean")
        right.axvspan(extent.low_angstrom / 2, extent.high_angstrom / 2, color=RUST, alpha=0.12)
        right.axvline(diameter / 2, color=RUST, linewidth=1.4, label="Half the diameter")
        right.set_xlim(0.0, float(radius[-1]))
        right.set_xlabel("Distance from the center (Å)")
        right.set_ylabel("Relative to the maximum")
        right.legend(loc="upper right", fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
