"""The report's sections, each built from the content as data for the templates."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from heliodor import __version__
from heliodor.picking import micrograph_quality
from heliodor.report import crops, gallery, plots
from heliodor.report.elements import (
    MOST_ROWS,
    MOST_ROWS_UNFOLDED,
    Code,
    Columns,
    Element,
    Facts,
    Figure,
    MicrographImages,
    Paragraph,
    Section,
    Table,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliodor.conventions import FloatArray
    from heliodor.report.content import EvaluationCurves, GalleryItem, ReportContent

_CALIBRATED: Final = (
    "Probabilities are calibrated on these micrographs, without ground truth: of picks with "
    "probability 0.8, about 80% are expected to be particles. A score is the raw output of the "
    "network (log-odds), by which candidates are ranked; it is not a probability."
)
_NOT_CALIBRATED: Final = (
    "Scores are not calibrated here, so that the probability of a pick is not known. A score is "
    "the raw output of the network (log-odds), by which candidates are ranked."
)
_TOPAZ: Final = (
    "Bepler, T. et al. Positive-unlabeled convolutional neural networks for particle picking in "
    "cryo-electron micrographs. Nature Methods 16, 1153–1160 (2019). doi:10.1038/s41592-019-0575-8"
)
_RELION: Final = (
    "RELION 4 or 5: enter autopick.star, next to this report, as Input coordinates of a Particle "
    "extraction job; do not use the Import job. RELION 3.1 finds coordinates by their suffix and "
    "needs one more file: write the name of your micrographs' STAR file into "
    "coords_suffix_autopick.star, next to autopick.star, and enter that file."
)
_CRYOSPARC: Final = (
    "cryoSPARC: convert the picks with the command below (FOLDER is the folder of this report, "
    "MICROGRAPHS is where the micrographs are), then load heliodor_picks.cs with "
    "cryosparc-tools as an External job with the slots location and pick_stats, and extract "
    "from it."
)
_CONVERT: Final = "heliodor convert FOLDER -o heliodor_picks.cs --micrographs MICROGRAPHS"
_NUMBER_OF_CURVES: Final = 4  # of outlier micrographs; more lines cannot be distinguished
_SKIPPED_BINS: Final = 2  # the lowest scores, nearly all background, would dwarf the others


def overview(content: ReportContent) -> list[tuple[str, str]]:
    """Return the data set, the date, the model and the sizes, for the top of the report."""
    pairs = list(content.overview)
    if content.started:
        started = datetime.fromisoformat(content.started)
        pairs.insert(0, ("Date", f"{started:%Y-%m-%d %H:%M}"))
    return pairs


def build_lead(content: ReportContent) -> MicrographImages | None:
    """Return the images at the top of the report: a micrograph with a usual number of picks."""
    if not content.gallery:
        return None
    usual = content.gallery[len(content.gallery) // 2]
    return _micrograph_images(usual, content.diameter_angstrom)


def build_crops_section(content: ReportContent) -> Section | None:
    """Return crops of the picks and their average, or None without picks to crop."""
    found = crops.cut_crops(content.gallery, content.diameter_angstrom)
    if not len(found):
        return None
    shown = min(len(found), crops.COLUMNS * crops.ROWS)
    sheet = Figure(
        crops.draw_sheet(found),
        f"Crops of {shown} picks",
        f"{shown} of {len(found):,} picks, evenly chosen, from the highest score (upper left) to "
        "the lowest (lower right). If particles become rare in the last row, a higher threshold "
        "gives fewer false picks.",
    )
    average = Figure(
        crops.draw_average(found),
        "Average of picks",
        f"Average of {len(found):,} picks, which were not rotated to each other: particles in "
        "different orientations average to a round shape. It should be sharp at its edge and in "
        "the middle of the image.",
    )
    text = (
        "Particles on the micrographs shown in this report, "
        f"{crops.SIDE_DIAMETERS:g} diameters wide."
    )
    return Section("Picked particles", [Paragraph(text), sheet, Columns([average])])


def build_gallery_section(content: ReportContent) -> Section | None:
    """Return the images of micrographs, or None where there are none."""
    if not content.gallery:
        return None
    diameter = content.diameter_angstrom
    sigma = diameter * gallery.SMOOTHING_DIAMETERS
    sentences = [f"Markers are drawn at the particle diameter, {diameter:g} Å."]
    if any(item.picks_matched is not None for item in content.gallery):
        sentences.append(
            "A match is a pick with a true particle. An unmatched pick is a false positive, or a "
            "particle that the truth does not include. Missed particles are false negatives."
        )
    if any(item.contamination is not None for item in content.gallery):
        sentences.append("Contamination (carbon, ice, aggregates, gold) is outlined in red.")
    sentences.append(
        "The frame marks the part with the most markers, enlarged on the right. Images are "
        f"low-pass filtered (Gaussian, σ = {sigma:.1f} Å) and stretched in contrast for display "
        "only."
    )
    # That in the middle is at the top of the report.
    middle = len(content.gallery) // 2
    others = [*content.gallery[:middle], *content.gallery[middle + 1 :]]
    images = [_micrograph_images(item, diameter) for item in others]
    return Section("Micrographs", [Paragraph(" ".join(sentences)), *images])


def _micrograph_images(item: GalleryItem, diameter_angstrom: float) -> MicrographImages:
    window = left, top, right, bottom = gallery.find_densest_window(item, diameter_angstrom)
    place = f"x {left} to {right}, y {top} to {bottom} of {item.image.shape[::-1]}"
    return MicrographImages(
        item.name,
        _gallery_note(item),
        Figure(gallery.draw_micrograph(item, diameter_angstrom, window), f"Picks on {item.name}"),
        Figure(gallery.draw_detail(item, diameter_angstrom), f"Part of {item.name}: {place}"),
    )


def _gallery_note(item: GalleryItem) -> str:
    parts = [_count(len(item.picks_xy_px), "pick")]
    known = item.picks_probability
    if known is not None and known.size:
        parts.append(f"probability {known.min():.2f} to {known.max():.2f}")
    if item.truth_xy_px is not None:
        parts.append(f"{len(item.truth_xy_px):,} in the truth")
    if item.labels_xy_px is not None:
        parts.append(_count(len(item.labels_xy_px), "label"))
    if item.contamination is not None:
        parts.append(f"{item.contamination.fraction:.0%} contamination")
    return " · ".join(parts)


def build_picks_section(content: ReportContent) -> Section:
    """Return the number of picks per micrograph, also against the defocus."""
    columns = Columns([*_picks_figures(content), Facts(_picks_facts(content))])
    return Section("Picks per micrograph", [columns, *_picks_table(content)])


def build_scores_section(content: ReportContent) -> Section:
    """Return the scores of the candidates and the threshold, folded."""
    meaning = _NOT_CALIBRATED if content.calibration is None else _CALIBRATED
    if content.calibration is not None and content.calibration.reliability is not None:
        meaning += " The calibration plot above compares the probabilities with the truth."
    columns = Columns([*_score_figures(content), Facts(_score_facts(content))])
    return Section("Scores and threshold", [Paragraph(meaning), columns], folded=True)


def _counts_of(content: ReportContent) -> tuple[FloatArray, int]:
    """Return the number of picks of each micrograph, and the number of candidates of all."""
    counts = np.array([count for _, count in content.picks_per_micrograph], dtype=np.float64)
    finite = np.isfinite(content.scores)
    if content.score_counts is None:
        return counts, int(finite.sum())
    return counts, int(content.score_counts[finite].sum())


def _picks_facts(content: ReportContent) -> list[tuple[str, str]]:
    counts, _ = _counts_of(content)
    facts = [("Picks", f"{counts.sum():,.0f}"), ("Micrographs", f"{counts.size:,}")]
    if counts.size:
        mean = f"{counts.mean():,.1f}"
        facts += [
            ("Picks per micrograph", f"median {np.median(counts):,.0f}, mean {mean}"),
            ("Minimum, maximum", f"{counts.min():,.0f}, {counts.max():,.0f}"),
            ("Without picks", f"{np.count_nonzero(counts == 0):,}"),
        ]
    shares = [share for share in _contamination(content).values() if share is not None]
    if shares:
        median, most = f"{np.median(shares):.0%}", f"{max(shares):.0%}"
        facts.append(("Contamination", f"median {median}, at most {most}"))
        if excluded := sum(row.refused for row in content.quality):
            facts.append(("Excluded (contamination)", f"{excluded:,}"))
    if content.skipped:
        facts.append(("Skipped", _count(len(content.skipped), "micrograph") + ", listed below"))
    return facts


def _score_facts(content: ReportContent) -> list[tuple[str, str]]:
    counts, candidates = _counts_of(content)
    facts = [("Candidates", f"{candidates:,}"), ("Picks", f"{counts.sum():,.0f}")]
    if content.threshold is not None and math.isfinite(content.threshold):
        chance = None if content.calibration is None else content.calibration.probability
        lowest = _lowest_probability(content.threshold, content.scores, chance)
        if lowest is not None:
            facts.append(("Lowest probability of a pick", f"{lowest:.2f}"))
        facts.append(("Threshold", f"score {content.threshold:.2f}"))
    return facts


def _score_figures(content: ReportContent) -> list[Figure]:
    _, candidates = _counts_of(content)
    figures = []
    if candidates:
        chance = None if content.calibration is None else content.calibration.probability
        caption = (
            "Scores of all candidates. If the histogram has two peaks, place the threshold "
            "between them; otherwise judge by the images."
            if chance is None
            else "Scores of all candidates. Black line: estimated number of particles among them. "
            "Upper axis: probability of a score."
        )
        histogram = plots.draw_score_histogram(
            content.scores, content.threshold, chance, content.score_counts
        )
        figures.append(Figure(histogram, "Histogram of the scores of candidates", caption))
    return figures


def _picks_figures(content: ReportContent) -> list[Figure]:
    counts, _ = _counts_of(content)
    figures = []
    if len(content.defocus) > 1:
        figures.append(
            Figure(
                plots.draw_picks_by_defocus(content.defocus),
                "Number of picks against the defocus",
                "Each point is a micrograph. Few picks at low defocus, where particles are faint, "
                "are usual.",
            )
        )
    if counts.size > MOST_ROWS_UNFOLDED:
        figures.append(
            Figure(
                plots.draw_picks_histogram(counts.astype(int).tolist()),
                "Histogram of the number of picks per micrograph",
                "Check micrographs far from the rest: empty ice, carbon, contamination.",
            )
        )
    return figures


def _picks_table(content: ReportContent) -> list[Element]:
    counts, _ = _counts_of(content)
    if not counts.size:
        return []
    rows = [[name, f"{count:,}"] for name, count in content.picks_per_micrograph]
    columns = ["Micrograph", "Picks"]
    areas = _contamination(content)
    if any(share is not None for share in areas.values()):
        columns.insert(1, "Contamination")
        rows = [[name, _percent(areas.get(name), 1), count] for name, count in rows]
    order, fold = list(range(counts.size)), "Picks on every micrograph"
    if counts.size > MOST_ROWS:
        order = np.argsort(counts, kind="stable")[:MOST_ROWS].tolist()
        fold = f"The {MOST_ROWS} micrographs with the fewest picks, of {counts.size:,}"
    if counts.size <= MOST_ROWS_UNFOLDED:
        fold = ""
    longest = max(counts[order].max(), 1.0)
    bars = [100.0 * counts[index] / longest for index in order]
    return [Table(columns, [rows[index] for index in order], bars=bars, fold=fold)]


def _contamination(content: ReportContent) -> Mapping[str, float | None]:
    """Return the contaminated share of each micrograph's area."""
    return {row.name: row.measured.contaminated_fraction for row in content.quality}


def _lowest_probability(
    threshold: float, scores: FloatArray, chance: FloatArray | None
) -> float | None:
    """Return the lowest probability of a pick, None without picks or if it is not known."""
    if chance is None:
        return None
    of_picks = chance[scores >= threshold]
    return float(of_picks.min()) if len(of_picks) else None


def build_evaluation_section(content: ReportContent) -> Section | None:
    """Return the comparison with the truth, or None where none was given."""
    evaluation = content.evaluation
    if evaluation is None:
        return None
    figures = [
        Figure(
            plots.draw_precision_recall(evaluation),
            "Precision against recall",
            "If the truth is incomplete, as manual picks usually are, an unmatched pick may be a "
            "real particle, and precision is a lower bound.",
        ),
        Figure(
            plots.draw_quality_by_threshold(evaluation, content.threshold),
            "Precision, recall and F1 against the threshold",
            "Precision, recall and F1 against the threshold on the score.",
        ),
    ]
    names = ["Micrograph", "Picks", "Truth", "Matched", "Precision", "Recall", "F1", "AP"]
    rows = [
        [name, f"{picks:,}", f"{truth:,}", f"{hits:,}", *(_quality(value) for value in quality)]
        for name, picks, truth, hits, *quality in evaluation.rows
    ]
    columns = Columns([*figures, Facts(_evaluation_facts(evaluation))])
    return Section(
        "Agreement with the truth", [columns, *table_of("Every micrograph", names, rows)]
    )


def _evaluation_facts(evaluation: EvaluationCurves) -> list[tuple[str, str]]:
    facts = []
    if evaluation.at_threshold is not None:
        names = ("Precision at threshold", "Recall at threshold", "F1 at threshold")
        facts += list(zip(names, map(_quality, evaluation.at_threshold), strict=True))
    best = round(evaluation.best_f1_threshold, 2)
    facts += [
        ("Best F1", f"{_quality(evaluation.best_f1)} at score {_number(best)}"),
        ("Average precision (AP)", _quality(evaluation.average_precision)),
    ]
    if evaluation.region_average_precision is not None:
        facts.append(("Region AP", _quality(evaluation.region_average_precision)))
    facts.append(("Match distance", f"{evaluation.match_distance_angstrom:,.1f} Å"))
    return facts


def build_outlier_section(content: ReportContent) -> Section | None:
    """Return the outlier micrographs and why they are outliers, or None where there are none."""
    rows = content.quality
    outliers = micrograph_quality.find_outliers(rows)
    if not outliers:
        return None
    cells = [
        [
            row.name,
            "; ".join(row.flags),
            f"{row.picks:,}",
            _percent(row.measured.unlike_training),
        ]
        for row in outliers[:MOST_ROWS]
    ]
    elements: list[Element] = [
        Paragraph(
            "These micrographs differ from the others in the number of their picks, in their "
            "scores or in their appearance. Inspect them before you exclude any: some show "
            "carbon, damage or no particles, others are just unusual. "
            f"{micrograph_quality.NAME}, next to this report, has a line for every micrograph."
        )
    ]
    if len(outliers) > MOST_ROWS:
        elements.append(Paragraph(f"The first {MOST_ROWS} of {len(outliers):,}:"))
    elements.append(Table(["Micrograph", "Reason", "Picks", "Unlike training"], cells, 2))
    if content.outliers:
        thumbnails = [
            Figure(
                gallery.draw_thumbnail(item, content.diameter_angstrom),
                f"The outlier {item.name}",
                item.name,
            )
            for item in content.outliers
        ]
        elements.append(Columns(thumbnails))
    profiles = plots.draw_score_profiles(
        [row.histogram[_SKIPPED_BINS:] for row in rows],
        micrograph_quality.EDGES[_SKIPPED_BINS - 1 :],
        [row.histogram[_SKIPPED_BINS:] for row in outliers[:_NUMBER_OF_CURVES]],
    )
    figure = Figure(
        profiles,
        "Number of candidates by score, on outlier micrographs and on all",
        "Number of candidates by score. Band: the middle 80% of all micrographs. Lines: the first "
        "micrographs of the list above, numbered in its order.",
    )
    heading = f"Outlier micrographs ({len(outliers):,} of {len(rows):,})"
    return Section(heading, [*elements, Columns([figure])])


def build_skipped_section(content: ReportContent) -> Section | None:
    """Return the micrographs that could not be used and why, or None."""
    if not content.skipped:
        return None
    rows = [list(one) for one in content.skipped]
    table = table_of("Every skipped micrograph", ["Micrograph", "Reason"], rows, 2)
    return Section(f"Skipped micrographs ({len(rows):,})", table)


def build_next_steps_section() -> Section:
    """Return how to use the picks in other programs."""
    return Section("Next step", [Paragraph(_RELION), Paragraph(_CRYOSPARC), Code(_CONVERT)])


def build_citation_section() -> Section:
    """Return what to cite."""
    text = f"Please name heliodor with its version ({__version__}), and cite its method:"
    return Section("How to cite", [Paragraph(text), Paragraph(_TOPAZ)])


def build_run_section(content: ReportContent) -> Section | None:
    """Return the settings, the time each stage took and the command, or None without any."""
    parts = []
    if content.settings:
        parts.append(Facts(content.settings))
    if content.stage_seconds:
        total = sum(seconds for _, seconds in content.stage_seconds if math.isfinite(seconds))
        stages = [(name, _duration(seconds)) for name, seconds in content.stage_seconds]
        parts.append(Facts([*stages, ("Total", _duration(total))]))
    elements: list[Element] = [Columns(parts)] if parts else []
    if content.command:
        elements.append(Code(content.command))
    return Section("Settings and run time", elements, folded=True) if elements else None


def build_training_section(content: ReportContent) -> Section | None:
    """Return the training curves, or None where an existing model was used."""
    history = content.history
    if not history:
        return None
    reference = (
        ""
        if content.expected_fraction is None
        else " The objective drives it toward the class prior π."
    )
    figures = [
        Figure(
            plots.draw_loss_curves(history, content.best_epoch),
            "Loss against epoch",
            "The loss and its two terms. Normally it falls and levels off.",
        ),
        Figure(
            plots.draw_mean_probability(history, content.expected_fraction),
            "Mean probability of unlabeled regions against epoch",
            "Mean probability that the network gives to unlabeled regions; not calibrated."
            + reference,
        ),
    ]
    if any(math.isfinite(row.get("validation_ap", math.nan)) for row in history):
        figures.append(
            Figure(
                plots.draw_validation_curve(history, content.best_epoch),
                "Validation average precision against epoch",
                "Average precision on labeled micrographs that were not used for training.",
            )
        )
    keys = list(dict.fromkeys(key for row in history for key in row))
    rows = [[_number(row.get(key, math.nan)) for key in keys] for row in history]
    names = [key.replace("_", " ").capitalize().replace(" ap", " AP") for key in keys]
    names = [name.replace("nlabelled", "nlabeled") for name in names]
    table = table_of("Every epoch", names, rows, 0)
    return Section("Training curves", [Columns(figures), *table], folded=True)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{share:.{digits}%}"


def _quality(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _number(value: float) -> str:
    """Format a number for reading: whole numbers as such, others to four digits, nan a dash."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
