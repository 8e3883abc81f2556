"""The report's sections, each from the content to HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor.conventions import score_to_probability
from heliodor.picking import micrograph_quality
from heliodor.report import (
    gallery,
    html,
    plots,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliodor.picking.micrograph_quality import MicrographQuality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliodor.conventions import FloatArray
    from heliodor.report.content import GalleryItem, ReportContent

#: Tables longer than this are cut; the files beside the report hold every row.
MOST_ROWS: Final = 200
_FEW_MICROGRAPHS: Final = 12

_METHOD: Final = (
    "Method: positive-unlabelled learning after Bepler et al., Nature Methods 16, 1153 (2019)."
)
_CALIBRATED: Final = (
    "A score is the network's log-odds. Probabilities are calibrated on these micrographs: of "
    "picks at 0.8, about 80 % should be particles."
)
_NOT_CALIBRATED: Final = (
    "A score is a log-odds: the probability is 1 / (1 + exp(−score)), so 0 means 50 % and +2.2 "
    "means 90 %. It is the network's own estimate and no measured error rate."
)


def footnotes(content: ReportContent) -> tuple[str, ...]:
    """Return what scores and probabilities mean in this report, and where the method is from."""
    return (_NOT_CALIBRATED if content.calibration is None else _CALIBRATED, _METHOD)


def build_training_section(content: ReportContent) -> str:
    """Return the training curves, or nothing where an existing model was used."""
    history = content.history
    if not history:
        return ""
    figures = [
        html.picture(
            plots.draw_loss_curves(history, content.best_epoch),
            "Loss against epoch",
            "The loss and its two terms. A good run falls and levels off.",
        ),
        html.picture(
            plots.draw_mean_probability(history, content.expected_fraction),
            "Mean probability over unlabelled regions against epoch",
            "How much of the unlabelled area the network takes for particles. It should settle "
            "near the expected fraction; far above or below, reconsider that fraction.",
        ),
    ]
    if any(math.isfinite(row.get("validation_ap", math.nan)) for row in history):
        figures.append(
            html.picture(
                plots.draw_validation_curve(history, content.best_epoch),
                "Validation average precision against epoch",
                "Average precision on labelled micrographs that were held out of training.",
            )
        )
    keys = list(dict.fromkeys(key for row in history for key in row))
    rows = [[_figures(row.get(key, math.nan)) for key in keys] for row in history]
    columns = [key.replace("_", " ").capitalize() for key in keys]
    columns = [name.replace(" ap", " AP") for name in columns]
    return html.section(
        "Training", html.panels(figures), _long_table("Every epoch", columns, rows, 0)
    )


def build_picks_section(content: ReportContent) -> str:
    """Return the scores, the threshold and the number of picks on the micrographs."""
    named = content.picks_per_micrograph
    counts = np.array([count for _, count in named], dtype=np.int64)
    finite = np.isfinite(content.scores)
    many = np.ones(len(finite), int) if content.candidates is None else content.candidates
    candidates = int(many[finite].sum())
    lines = [("Candidates", f"{candidates:,}"), ("Picks", f"{counts.sum():,}")]
    chance = None if content.calibration is None else content.calibration.probability
    if content.threshold is not None and math.isfinite(content.threshold):
        lines.append(("Threshold", f"{content.threshold:.2f} log-odds"))
        least = _least(content.threshold, content.scores, chance)
        if least is not None:
            lines.append(("Least likely pick", f"probability {least:.2f}"))
    lines.append(("Micrographs", f"{counts.size:,}"))
    if counts.size:
        lines += [
            ("Picks on each", f"median {np.median(counts):,.0f}, mean {counts.mean():,.1f}"),
            ("Fewest, most", f"{counts.min():,}, {counts.max():,}"),
            ("Without picks", f"{np.count_nonzero(counts == 0):,}"),
        ]
    areas = {row.name: row.measured.contaminated_fraction for row in content.quality}
    known = [share for share in areas.values() if share is not None]
    if known:
        usual, most = f"{np.median(known):.0%}", f"{max(known):.0%}"
        lines.append(("Bad area on each", f"median {usual}, at most {most}"))
        if refused := sum(row.refused for row in content.quality):
            lines.append(("Without picks as too bad", f"{refused:,}"))
    if content.skipped:
        lines.append(
            ("Not usable", _number_of(len(content.skipped), "micrograph") + ", listed below")
        )
    figures = []
    if candidates:
        figures.append(
            html.picture(
                plots.draw_score_histogram(content.scores, content.threshold, chance, many),
                "Histogram of the candidates' scores",
                "Scores of all candidates. A threshold in a valley between two humps is a safe "
                "one; where there is no valley, look at the pictures."
                if chance is None
                else "Scores of all candidates, and how many of them are particles by the "
                "estimate.",
            )
        )
    few = counts.size <= _FEW_MICROGRAPHS
    if not few:
        figures.append(
            html.picture(
                plots.draw_picks_histogram([count for _, count in named]),
                "Histogram of the number of picks on a micrograph",
                "Micrographs far from the rest deserve a look: empty ice, carbon, contamination.",
            )
        )
    figures.append(html.facts(lines))
    rows = [[name, f"{count:,}"] for name, count in named]
    columns = ["Micrograph", "Picks"]
    if known:
        columns.insert(1, "Bad area")
        rows = [[name, _share(areas.get(name)), count] for name, count in rows]
    if few:
        listed = html.table(columns, rows, bars=" ") if rows else ""
    else:
        order = (
            np.argsort(counts, kind="stable") if counts.size > MOST_ROWS else range(counts.size)
        )
        heading = "Picks on every micrograph"
        if counts.size > MOST_ROWS:
            heading = f"Picks on the {MOST_ROWS} micrographs with the fewest, of {counts.size:,}"
        shown = [rows[index] for index in order][:MOST_ROWS]
        listed = html.folded(heading, html.table(columns, shown, bars=" "))
    return html.section("Picks", html.panels(figures), listed)


def _least(threshold: float, scores: FloatArray, chance: FloatArray | None) -> float | None:
    """Return the probability of the least likely pick, None without picks."""
    if chance is None:
        return float(score_to_probability(np.array(threshold)))
    kept = chance[scores >= threshold]
    return float(kept.min()) if len(kept) else None


def build_evaluation_section(content: ReportContent) -> str:
    """Return the comparison with the truth, or nothing where none was given."""
    evaluation = content.evaluation
    if evaluation is None:
        return ""
    best = round(evaluation.best_f1_threshold, 2)
    lines = [
        ("Average precision", _quality(evaluation.average_precision)),
        ("Best F1", f"{_quality(evaluation.best_f1)} at score {_figures(best)}"),
    ]
    if evaluation.at_threshold is not None:
        names = ("Precision in use", "Recall in use", "F1 in use")
        lines += [
            (name, _quality(v)) for name, v in zip(names, evaluation.at_threshold, strict=True)
        ]
    lines.append(("Match distance", f"{evaluation.match_distance_angstrom:,.1f} Å"))
    figures = [
        html.picture(
            plots.draw_precision_recall(evaluation),
            "Precision against recall",
            "Truth in cryoEM is usually incomplete: people leave out particles that are there. "
            "A pick without truth may be a real particle, so the precision is a lower bound.",
        ),
        html.picture(
            plots.draw_quality_by_threshold(evaluation, content.threshold),
            "Precision, recall and F1 against the threshold",
            "What another threshold would have given.",
        ),
        html.facts(lines),
    ]
    columns = ["Micrograph", "Picks", "Truth", "Matched", "Precision", "Recall", "F1", "AP"]
    rows = [
        [name, f"{picks:,}", f"{truth:,}", f"{hits:,}", *(_quality(value) for value in quality)]
        for name, picks, truth, hits, *quality in evaluation.rows
    ]
    return html.section(
        "Agreement with the truth",
        html.panels(figures),
        _long_table("Every micrograph", columns, rows),
    )


def build_gallery_section(content: ReportContent) -> str:
    """Return the micrographs' pictures, or nothing where there are none."""
    if not content.gallery:
        return ""
    diameter = content.diameter_angstrom
    sigma = diameter * gallery.SMOOTHING_DIAMETERS
    low, high = gallery.CONTRAST_PERCENTILES
    meaning = ""
    if any(item.picks_matched is not None for item in content.gallery):
        meaning = (
            "A hit is a pick matched to a true particle; a pick without truth is a false one, or "
            "a particle the truth leaves out. "
        )
    if any(item.bad_areas is not None for item in content.gallery):
        meaning += "Bad areas (carbon, ice, aggregates, gold) are outlined in red. "
    words = (
        f"Marks are drawn at the particle's diameter, {diameter:g} Å. {meaning}The most crowded "
        "part of each micrograph, framed in white, is enlarged beside it. The pictures are "
        f"smoothed for the eye (Gaussian, σ = {sigma:.1f} Å) and their contrast is stretched "
        f"from percentile {low:g} to {high:g}; the network saw neither."
    )
    items = []
    for item in content.gallery:
        window = left, top, right, bottom = gallery.find_densest_window(item, diameter)
        place = f"x {left} to {right}, y {top} to {bottom} of {item.image.shape[::-1]}"
        items.append(
            html.pair(
                item.name,
                _gallery_note(item),
                html.picture(
                    gallery.draw_micrograph(item, diameter, window), f"Picks on {item.name}"
                ),
                html.picture(gallery.draw_detail(item, diameter), f"Part of {item.name}: {place}"),
            )
        )
    return html.section("Micrographs", html.paragraph(words), *items)


def _gallery_note(item: GalleryItem) -> str:
    scores = item.picks_score[np.isfinite(item.picks_score)]
    parts = [_number_of(len(item.picks_xy_px), "pick")]
    if scores.size:
        parts.append(f"scores {scores.min():.1f} to {scores.max():.1f}")
    if item.truth_xy_px is not None:
        parts.append(f"{len(item.truth_xy_px):,} in the truth")
    if item.labels_xy_px is not None:
        parts.append(_number_of(len(item.labels_xy_px), "label") + " given")
    if item.bad_areas is not None:
        parts.append(f"{item.bad_areas.fraction:.0%} bad area")
    return " · ".join(parts)


def build_run_section(content: ReportContent) -> str:
    """Return the settings, the time each stage took and the command."""
    if not (content.settings or content.stage_seconds or content.command):
        return ""
    body = [html.facts(content.settings)]
    if content.stage_seconds:
        total = sum(seconds for _, seconds in content.stage_seconds if math.isfinite(seconds))
        stages = [(name, _duration(seconds)) for name, seconds in content.stage_seconds]
        body.append(html.facts([*stages, ("Together", _duration(total))]))
    command = html.code(content.command) if content.command else ""
    return html.section("What was run", html.panels([part for part in body if part]), command)


def build_skipped_section(content: ReportContent) -> str:
    """Return the micrographs that could not be used and why, or nothing."""
    if not content.skipped:
        return ""
    rows = [list(failure) for failure in content.skipped]
    listed = _long_table("Every one", ["Micrograph", "Reason"], rows, 2)
    return html.section(f"Micrographs that could not be used ({len(rows):,})", listed)


def _long_table(
    heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
    """Show a short table as it is, fold a longer one and cut a very long one."""
    if not rows:
        return ""
    table = html.table(columns, rows[:MOST_ROWS], text_columns)
    if len(rows) <= _FEW_MICROGRAPHS:
        return table
    if len(rows) > MOST_ROWS:
        heading = f"{heading}: the first {MOST_ROWS} of {len(rows):,}"
    return html.folded(heading, table)


def _number_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _quality(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _figures(value: float) -> str:
    """Format a number for reading: whole numbers as such, others to four figures, nan a dash."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


#: So many of them are drawn; more lines cannot be told apart.
DRAWN: Final = 4


#: So many bins of the lowest scores, background nearly all of it, would dwarf the others.
BELOW: Final = 2


_WORDS: Final = (
    "These differ from the others in their number of picks, in their scores, or in what they look "
    "like. That is no verdict: look at them, and leave out what is carbon, broken or empty. "
    f"Every micrograph has its line in {micrograph_quality.NAME}."
)


def build_outlier_section(rows: Sequence[MicrographQuality]) -> str:
    """Return the micrographs to look at and why, or nothing where none differs.

    Parameters
    ----------
    rows
        Of all micrographs.
    """
    found = micrograph_quality.find_outliers(rows)
    if not found:
        return ""
    cells = [
        [
            row.name,
            "; ".join(row.flags),
            f"{row.picks:,}",
            _whole_percent(row.measured.unlike_training),
        ]
        for row in found[:MOST_ROWS]
    ]
    table = html.table(["Micrograph", "Why", "Picks", "Unlike training"], cells, 2)
    if len(found) > MOST_ROWS:
        table = html.paragraph(f"The first {MOST_ROWS} of {len(found):,}:") + table
    picture = html.picture(
        plots.draw_score_profiles(
            [row.histogram[BELOW:] for row in rows],
            micrograph_quality.EDGES[BELOW - 1 :],
            [row.histogram[BELOW:] for row in found[:DRAWN]],
        ),
        "Number of candidates by their score, on micrographs that differ and on all",
        "How many candidates of a micrograph score how much: the band holds the middle eight "
        "tenths of all micrographs, the lines are the first of the list, by their place in it.",
    )
    heading = f"Micrographs to look at ({len(found):,} of {len(rows):,})"
    return html.section(heading, html.paragraph(_WORDS), table, html.panels([picture]))


def _whole_percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
