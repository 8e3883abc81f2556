"""The report's section on certainty: what to expect of the picks, and how it agrees with truth."""

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
from heliodor.report import html
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
    from heliodor.evaluation.thresholds import IntervalEstimate

#: Thresholds the curves are drawn through.
POINTS: Final = 60
#: The curves end where candidates are particles with this probability.
LEAST_CHANCE: Final = 0.02
#: Candidates less likely than this say nothing about how well probabilities hold: there are so
#: many of them that they would hide the others.
LIKELY: Final = 0.05

_WORDS: Final = (
    "Estimated without any truth: the scores of background are measured on micrographs with their "
    "contrast reversed, those of particles follow from the labels. Bands hold nine of ten repeats "
    "with resampled micrographs and labels. Dark contaminants that look like particles count as "
    "particles."
)


@dataclass(frozen=True)
class Reliability:
    """How candidates of like probability agree with the truth, shape (n,) each."""

    #: Mean probability stated, of each group.
    stated: FloatArray
    #: Share of its candidates that are particles.
    true: FloatArray
    candidates: FloatArray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean difference, by candidates; nan without any."""
        number = self.candidates.sum()
        away = np.abs(self.stated - self.true) * self.candidates
        return float(away.sum() / number) if number else math.nan


@dataclass(frozen=True)
class CalibrationSummary:
    """What is known of the picks without looking at them.

    Attributes
    ----------
    at_threshold
        What to expect of the picks.
    curve
        The same at other thresholds, falling.
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
    """Gather what is known of picks, or None where their scores are not calibrated.

    Parameters
    ----------
    calibration, outlook
        Of the micrographs picked on, and at the threshold in force.
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
    curve = [own for own in predict_performances(calibration, scores, thresholds) if own.picks]
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
    number: FloatArray = np.bincount(group, called[likely], 10).astype(np.float64)
    there = number > 0
    stated = np.bincount(group, (chance * called)[likely], 10)[there] / number[there]
    true = np.bincount(group, hits[likely], 10)[there] / number[there]
    return Reliability(stated, true, number[there])


def build_calibration_section(known: CalibrationSummary | None) -> str:
    """Return the section, or nothing where scores are not calibrated."""
    if known is None:
        return ""
    at = known.at_threshold
    rows = [
        ("Precision", format_estimate(at.precision)),
        ("Recall", format_estimate(at.recall)),
        ("F1", format_estimate(at.f1)),
        ("Particles there", format_estimate(at.particles, "{:,.0f}")),
    ]
    if known.measured is not None:
        rows[:3] = [
            (name, words + (f"; in truth {value:.2f}" if math.isfinite(value) else ""))
            for (name, words), value in zip(rows, known.measured, strict=False)
        ]
    figures = [
        html.picture(
            _curves(known.curve, at.threshold),
            "Expected precision and recall against the threshold",
            "What to expect of other thresholds. A lower one finds more particles, and more that "
            "are none: --max-fdr says what share of those to allow.",
        )
    ]
    if known.reliability is not None:
        figures.append(
            html.picture(
                _diagram(known.reliability),
                "Share of particles against the probability stated",
                "Do probabilities hold? Of picks stated at 0.8, 80 % should be in the truth; "
                f"on average they are {known.reliability.error:.3f} away. Where the truth leaves "
                "particles out, points lie below the line.",
            )
        )
    panels = html.panels([*figures, html.facts(rows)])
    return html.section("What to expect", html.paragraph(_WORDS), panels)


def _curves(curve: Sequence[ExpectedPerformance], threshold: float) -> str:
    """Draw expected precision and recall with their bands against the threshold."""
    with figure_style():
        figure, axes = new_panel("Threshold on the score (log-odds)", "Expected")
        at = [own.threshold for own in curve]
        for values, label, colour, dashes in (
            ([own.precision for own in curve], "Precision", GREEN, "--"),
            ([own.recall for own in curve], "Recall", BLUE, "-"),
        ):
            axes.plot(at, [own.value for own in values], dashes, color=colour, label=label)
            low, high = ([_or_value(own, side) for own in values] for side in ("low", "high"))
            axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
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


def _or_value(own: IntervalEstimate, side: str) -> float:
    value = float(getattr(own, side))
    return value if math.isfinite(value) else own.value


def _diagram(known: Reliability) -> str:
    """Draw the share of particles of each group against the probability stated."""
    with figure_style():
        figure, axes = new_panel("Probability stated", "Share in the truth")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=":", label="As stated")
        wide = np.sqrt(known.true * (1 - known.true) / np.maximum(known.candidates, 1))
        axes.errorbar(
            known.stated, known.true, wide, color=BLUE, marker="o", markersize=4.5,
            linestyle="-", linewidth=1.2, label=f"{known.candidates.sum():,.0f} candidates",
        )  # fmt: skip
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.02)
        add_legend(axes)
        return render_svg(figure)
