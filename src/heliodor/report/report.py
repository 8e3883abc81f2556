"""The report: one HTML file with the settings, the course and the results of a run.

It needs no other file, no network and no script, so it can be mailed, archived and printed.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from heliodor import __version__
from heliodor.report import sections
from heliodor.report.calibration_section import build_calibration_section
from heliodor.report.content import ReportContent
from heliodor.report.figure_style import FONT_STACK
from heliodor.utils.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup

    from heliodor.report.elements import Section


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to a file, whole or not at all."""
    write_text(path, render_report(content))


def render_report(content: ReportContent) -> str:
    """Return the report as one HTML page; the same content always gives the same text."""
    optional = (
        sections.build_crops_section(content),
        sections.build_gallery_section(content),
        sections.build_picks_section(content),
        sections.build_outlier_section(content),
        sections.build_skipped_section(content),
        sections.build_evaluation_section(content),
        sections.build_next_steps_section(),
        sections.build_citation_section(),
        build_calibration_section(content.calibration),
        sections.build_scores_section(content),
        sections.build_run_section(content),
        sections.build_training_section(content),
    )
    return render_template(
        "report.html.j2",
        title=content.title,
        program=f"heliodor {__version__}",
        overview=sections.overview(content),
        lead=sections.build_lead(content),
        key_figures=content.key_figures,
        warnings=content.warnings,
        sections=[section for section in optional if section is not None],
        fonts=FONT_STACK,
        css=_templates().get_template("report.css").render(),
    )


def render_section(section: Section) -> str:
    """Return the HTML of one section, as it is in the report."""
    return render_template("section.html.j2", section=section)


def render_template(template: str, **values: object) -> str:
    """Return a page from a template of this package."""
    page = _templates().get_template(template).render(**values)
    # File names may hold bytes that are not characters; they become question marks.
    return page.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _templates() -> Environment:
    from jinja2 import (  # only where a report is written
        Environment,
        PackageLoader,
        StrictUndefined,
    )

    environment = Environment(
        loader=PackageLoader("heliodor.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(text: str) -> Markup:
    """Return escaped text that may break after each slash and underscore."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([/_])(?=.)", r"\1<wbr>", str(escape(text))))
