"""The report's section on trust: which micrographs differ from the rest, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from heliodor.picking import micrograph_quality
from heliodor.report import html, plots
from heliodor.report.sections import MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heliodor.picking.micrograph_quality import Row

#: So many of them are drawn; more lines cannot be told apart.
DRAWN: Final = 4
#: So many bins of the lowest scores, background nearly all of it, would dwarf the others.
BELOW: Final = 2

_WORDS: Final = (
    "These differ from the others in their number of picks, in their scores, or in what they look "
    "like. That is no verdict: look at them, and leave out what is carbon, broken or empty. "
    f"Every micrograph has its line in {micrograph_quality.NAME}."
)


def trust_section(rows: Sequence[Row]) -> str:
    """Return the micrographs to look at and why, or nothing where none differs.

    Parameters
    ----------
    rows
        Of all micrographs.
    """
    found = micrograph_quality.outliers(rows)
    if not found:
        return ""
    cells = [
        [row.name, "; ".join(row.flags), f"{row.picks:,}", _share(row.measured.unlike_training)]
        for row in found[:MOST_ROWS]
    ]
    table = html.table(["Micrograph", "Why", "Picks", "Unlike training"], cells, 2)
    if len(found) > MOST_ROWS:
        table = html.paragraph(f"The first {MOST_ROWS} of {len(found):,}:") + table
    picture = html.picture(
        plots.score_profiles(
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


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
