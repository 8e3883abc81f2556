"""The calibration section: expected precision and recall, and probabilities against truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.evaluation.thresholds import (
    ExpectedPerformance,
    format_estimate,
    predict_performances,
)
from heliodor.report.elements import Columns, Facts, Figure, Paragraph, Section
from heliodor.report.figure_style import (
    BLUE,
    GREEN,
    MUTED,
    RUST,
    add_legend,
    figure_style,
    new_panel,
    render_svg,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliodor.conventions import FloatArray
    from heliodor.evaluation.calibration import Calibration
    from heliodor.evaluation.metrics import Evaluation
    from heliodor.evaluation.score_histogram import ScoreCounts

#: Number of thresholds the curves are drawn through.
POINTS: Final = 60
#: The curves end where candidates are particles with this probability.
LEAST_CHANCE: Final = 0.02
#: Less probable candidates show little about the calibration, and there are so many of them that
#: they would hide the others.
LIKELY: Final = 0.05

_INTRODUCTION: Final = (
    "Estimated by the program, without ground truth, from the scores of all candidates, of the "
    "labels, if there are any, and of micrographs with inverted contrast. Parentheses and shaded "
    "bands are 90% intervals. Dark contaminants that look like particles count as particles, so "
    "the true precision can be lower."
)


@dataclass(frozen=True)
class Reliability:
    """Probabilities of candidates and the share that is true, by groups, shape (n,) each."""

    #: Mean probability of each group.
    stated: FloatArray
    #: Share of its candidates that are particles.
    true: FloatArray
    #: Number of its candidates.
    candidates: FloatArray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean deviation by candidates; nan without any."""
        count = self.candidates.sum()
        deviation = np.abs(self.stated - self.true) * self.candidates
        return float(deviation.sum() / count) if count else math.nan


@dataclass(frozen=True)
class CalibrationSummary:
    """The expected quality of the picks.

    Attributes
    ----------
    at_threshold
        Expected at the threshold in use.
    curve
        Expected at other thresholds, falling.
    probability
        Of the report's scores.
    reliability
        None where there is no truth.
    measured
        Precision, recall and F1 at the threshold, where there is truth.
    """

    at_threshold: ExpectedPerformance
    curve: Sequence[ExpectedPerformance]
    probability: FloatArray
    reliability: Reliability | None = None
    measured: tuple[float, float, float] | None = None


def summarize_calibration(
    calibration: Calibration | None,
    outlook: ExpectedPerformance | None,
    scores: ScoreCounts,
    evaluation: Evaluation | None = None,
) -> CalibrationSummary | None:
    """Return the expected quality of picks, or None where their scores are not calibrated.

    Parameters
    ----------
    calibration, outlook
        Of the micrographs picked on, and at the threshold in use.
    scores
        Of all candidates.
    evaluation
        Against the truth, if there is one.
    """
    if calibration is None or outlook is None:
        return None
    chance = calibration.probability(scores.values)
    shown = [outlook.threshold, *scores.values[chance >= LEAST_CHANCE]]
    low, high = min(shown), max(shown)
    thresholds = np.linspace(high, low, POINTS).tolist() if high > low else [high]
    curve = [one for one in predict_performances(calibration, scores, thresholds) if one.picks]
    if evaluation is None:
        return CalibrationSummary(outlook, curve, chance)
    micro = evaluation.micro
    return CalibrationSummary(
        outlook,
        curve,
        chance,
        compute_reliability(calibration, evaluation),
        (micro.precision, micro.recall, micro.f1),
    )


def compute_reliability(calibration: Calibration, evaluation: Evaluation) -> Reliability:
    """Compare probabilities with the truth, in ten groups of equal width.

    Guo et al., ICML 2017, for the reliability diagram and the expected calibration error.
    """
    points = evaluation.curve
    called = np.diff(points.called, prepend=0)
    hits = np.diff(np.nan_to_num(points.precision) * points.called, prepend=0.0)
    chance = calibration.probability(points.threshold)
    likely = chance >= LIKELY
    group = np.minimum((chance[likely] * 10).astype(np.intp), 9)
    count: FloatArray = np.bincount(group, called[likely], 10).astype(np.float64)
    filled = count > 0
    stated = np.bincount(group, (chance * called)[likely], 10)[filled] / count[filled]
    true = np.bincount(group, hits[likely], 10)[filled] / count[filled]
    return Reliability(stated, true, count[filled])


def build_calibration_section(summary: CalibrationSummary | None) -> Section | None:
    """Return the section, or None where scores are not calibrated."""
    if summary is None:
        return None
    expected = summary.at_threshold
    facts = [
        ("Precision", format_estimate(expected.precision)),
        ("Recall", format_estimate(expected.recall)),
        ("F1", format_estimate(expected.f1)),
        ("Estimated particles", format_estimate(expected.particles, "{:,.0f}")),
    ]
    if summary.measured is not None:
        facts[:3] = [
            (name, text + (f"; measured {value:.2f}" if math.isfinite(value) else ""))
            for (name, text), value in zip(facts, summary.measured, strict=False)
        ]
    figures = [
        Figure(
            _draw_curves(summary.curve, expected.threshold),
            "Expected precision and recall against the threshold",
            "Expected precision and recall at other thresholds. A lower threshold finds more "
            "particles and more false positives; --max-fdr limits the share of false positives.",
        )
    ]
    if summary.reliability is not None:
        figures.append(
            Figure(
                _draw_reliability(summary.reliability),
                "Share of particles against the probability",
                "Calibration: where probabilities are right, points lie on the dotted line (of "
                "picks with probability 0.8, 80% are in the truth). Mean deviation: "
                f"{summary.reliability.error:.3f}. If the truth is incomplete, points lie below "
                "the line.",
            )
        )
    columns = Columns([*figures, Facts(facts)])
    return Section(
        "Expected precision and recall", [Paragraph(_INTRODUCTION), columns], folded=True
    )


def _draw_curves(curve: Sequence[ExpectedPerformance], threshold: float) -> str:
    """Draw expected precision and recall with their bands against the threshold."""
    with figure_style():
        figure, axes = new_panel("Threshold on the score", "Expected")
        thresholds = [one.threshold for one in curve]
        for estimates, label, color, dashes in (
            ([one.precision for one in curve], "Precision", GREEN, "--"),
            ([one.recall for one in curve], "Recall", BLUE, "-"),
        ):
            values = [one.value for one in estimates]
            axes.plot(thresholds, values, dashes, color=color, label=label)
            low = [_or_value(one.low, one.value) for one in estimates]
            high = [_or_value(one.high, one.value) for one in estimates]
            axes.fill_between(thresholds, low, high, color=color, alpha=0.18, linewidth=0)
        axes.axvline(
            threshold,
            color=RUST,
            linewidth=1.4,
            linestyle="--",
            label=f"Threshold {threshold:.2f}",
        )
        axes.set_ylim(0.0, 1.02)
        add_legend(axes)
        return render_svg(figure)


def _or_value(bound: float, value: float) -> float:
    return bound if math.isfinite(bound) else value


def _draw_reliability(reliability: Reliability) -> str:
    """Draw the share of particles of each group against the probability."""
    true, count = reliability.true, reliability.candidates
    with figure_style():
        figure, axes = new_panel("Probability", "Share in the truth")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=":", label="Ideal")
        deviation = np.sqrt(true * (1 - true) / np.maximum(count, 1))
        axes.errorbar(
            reliability.stated, true, deviation, color=BLUE, marker="o", markersize=4.5,
            linestyle="-", linewidth=1.2, label=f"{count.sum():,.0f} candidates",
        )  # fmt: skip
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.02)
        add_legend(axes)
        return render_svg(figure)
