"""The page of `judge`: what it found, for a browser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from heliodor import __version__
from heliodor.reconstruction.judgement_tables import OWN_AVERAGES, describe_junk, spell_scatter
from heliodor.report.elements import Element, Figure, Paragraph, Section, Table
from heliodor.report.figure_style import FONT_STACK
from heliodor.report.judge_plots import draw_judgement
from heliodor.report.report import render_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliodor.reconstruction.judgement import (
        BinJudgement,
        ClassAverages,
        Judgement,
        MadeBy,
    )
    from heliodor.reconstruction.junk import Share

_CAPTION = (
    "Resolution against the number of picks, with the standard deviation of the splits as a band"
    " (where maps were made); particles and false picks at each threshold; {} with their numbers"
    " of picks, junk in frames."
)
_AVERAGES: dict[MadeBy, str] = {
    "RELION": "class averages of RELION",
    "heliodor": "heliodor's own averages of groups of crops that look alike",
}


def render_judge_page(
    judgement: Judgement, averages: ClassAverages, notes: Sequence[str] = ()
) -> str:
    """Return the page; the same judgement always gives the same text."""
    largest = judgement.sets[-1]
    figures = [("Picks", f"{largest.picks:,}")]
    if not math.isnan(largest.false_share):
        figures.append(("False", f"{largest.false_share:.0%}"))
    chosen = judgement.recommendation
    if chosen is not None:
        figures.append(("Recommended threshold", f"{chosen.threshold:.2f}"))
    sections = [
        Section("Judgement", _sentences(judgement)),
        Section(
            "Figure",
            [
                Figure(
                    draw_judgement(judgement, averages),
                    "resolution, shares of false picks, and class averages",
                    _CAPTION.format(_AVERAGES[averages.made_by]),
                )
            ],
        ),
        Section("Sets", [_sets_table(judgement)]),
        Section(
            "Picks between thresholds", [_bins_table(judgement.bins), *_about_bins(judgement)]
        ),
    ]
    return render_template(
        "judge.html.j2",
        title=f"{largest.picks:,} picks judged",
        program=f"heliodor {__version__}",
        figures=figures,
        notes=notes,
        sections=sections,
        fonts=FONT_STACK,
    )


def _sentences(judgement: Judgement) -> list[Element]:
    """Return what was found, in sentences."""
    texts = []
    classes = "classes" if judgement.classes_by == "RELION" else "groups"
    for name, found in (("maps", judgement.by_maps), (classes, judgement.by_classes)):
        if found is not None:
            texts.append(
                f"By the {name}: pick with --threshold {found.threshold:.3f}, as {found.reason}."
            )
    if judgement.junk_below is not None:
        sentence = describe_junk(judgement.junk_below)
        texts.append(f"{sentence[0].upper()}{sentence[1:]}.")
    if judgement.worse_below is not None:
        texts.append(f"Below {judgement.worse_below:.3f}, added picks make the map worse.")
    if judgement.classes_by == "heliodor":
        texts.append(f"{OWN_AVERAGES[0].upper()}{OWN_AVERAGES[1:]}.")
    if judgement.left_out:
        texts.append(
            f"{judgement.left_out:,} picks whose boxes are cut off by an edge were left out."
        )
    return [Paragraph(text) for text in texts or ["The picks have no scores to choose by."]]


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _sets_table(judgement: Judgement) -> Table:
    rows = []
    for one in judgement.sets:
        maps = one.maps
        row = [_number(one.threshold, 3), f"{one.picks:,}", _number(one.false_share)]
        row += (
            ["–"] * 3
            if maps is None
            else [
                spell_scatter(maps.resolution_angstrom, 2),
                spell_scatter(maps.area, 4),
                _number(maps.offset_angstrom, 1),
            ]
        )
        rows.append(row)
    columns = ("Threshold", "Picks", "False share", "Resolution (Å)", "Area under the FSC",
               "Median offset (Å)")  # fmt: skip
    return Table(columns, rows, 0)


def _bins_table(bins: Sequence[BinJudgement]) -> Table:
    rows = [
        [
            _number(each.low, 3),
            _number(each.high, 3),
            f"{each.picks:,}",
            f"{_number(each.junk.value)} ± {_number(each.junk.error)}",
            _number(each.reversed_picks, 0),
            _number(each.false_share),
            *_map_cells(each.as_decoys_in_map),
        ]
        for each in bins
    ]
    columns = ("From", "To", "Picks", "Classified as random positions", "With reversed contrast",
               "False share")  # fmt: skip
    if any(each.as_decoys_in_map is not None for each in bins):
        return Table((*columns, "As random positions in the map"), rows, 0)
    return Table(columns, [row[:-1] for row in rows], 0)


def _map_cells(share: Share | None) -> list[str]:
    return ["–" if share is None else f"{_number(share.value)} ± {_number(share.error)}"]


def _about_bins(judgement: Judgement) -> list[Element]:
    """Return what to know about the shares."""
    about = list[Element]()
    if any(each.as_decoys_in_map is not None for each in judgement.bins):
        about.append(
            Paragraph(
                "As random positions in the map: each pick of one half was compared with the map"
                " of the other half, and so were random positions. This is the share of the picks"
                " that agree with it no better than these do; map_scores.tsv has each pick."
            )
        )
    if judgement.reversed_known:
        return [
            *about,
            Paragraph(
                "The false share follows from the number of candidates on micrographs with"
                " reversed contrast, corrected for the room that particles with higher scores"
                " take. The share classified as random positions are is shown beside it: false"
                " picks of a model look like particles to it."
            ),
        ]
    return [
        *about,
        Paragraph(
            "The false share is that of picks classified as random positions are. False picks that"
            " look like particles are not among them, so that it is a lower limit for a picker"
            " whose candidates with reversed contrast are not known."
        ),
    ]
