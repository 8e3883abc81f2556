"""The report: one HTML file that says what was run, how it went and what was found.

It needs no other file, no network and no script, so it can be mailed, archived and printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliodor import __version__
from heliodor.report import (
    calibration_section as certainty,
)
from heliodor.report import (
    html,
    sections,
)
from heliodor.report.content import ReportContent
from heliodor.utils.files import write_text

if TYPE_CHECKING:
    from pathlib import Path


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to a file, whole or not at all."""
    write_text(path, render_report(content))


def render_report(content: ReportContent) -> str:
    """Return the report as one HTML page; the same content always gives the same text."""
    return html.document(
        content.title,
        [
            html.masthead(content.title, f"heliodor {__version__} · particle picking report"),
            html.headline(content.headline),
            html.notice("Please read", content.warnings),
            sections.picks_section(content),
            certainty.certainty_section(content.certainty),
            sections.trust_section(content.quality),
            sections.evaluation_section(content),
            sections.gallery_section(content),
            sections.training_section(content),
            sections.run_section(content),
            sections.failures_section(content),
            html.footer(sections.footnotes(content)),
        ],
    )
