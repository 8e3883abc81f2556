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
            html.headline(content.key_figures),
            html.notice("Please read", content.warnings),
            sections.build_picks_section(content),
            certainty.build_calibration_section(content.calibration),
            sections.build_outlier_section(content.quality),
            sections.build_evaluation_section(content),
            sections.build_gallery_section(content),
            sections.build_training_section(content),
            sections.build_run_section(content),
            sections.build_skipped_section(content),
            html.footer(sections.footnotes(content)),
        ],
    )
