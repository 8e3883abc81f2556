"""The status page of `watch`: how far it is, for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliodor import __version__
from heliodor.report.figure_style import FONT_STACK
from heliodor.report.report import render_template

#: How often a browser loads the page again.
REFRESH_SECONDS = 10


@dataclass(frozen=True)
class WatchedMicrograph:
    """A micrograph that was picked, or failed."""

    name: str
    #: Time of day.
    at: str
    #: Number of picks; None if it failed.
    picks: int | None
    #: Why it failed.
    reason: str = ""


@dataclass(frozen=True)
class WatchState:
    """How far `watch` is; numbers are those of micrographs, unless noted."""

    ended: bool
    found: int
    done: int
    #: Of all of them together.
    picks: int
    failed: int
    incomplete: int
    #: The threshold in force, log-odds, and the number of micrographs that it follows from.
    threshold: float
    threshold_from: int
    #: None before the first one.
    per_hour: float | None
    #: The last ones first.
    recent: Sequence[WatchedMicrograph]
    #: When the page was written.
    at: str
    #: What is picked, in the plural.
    noun: str = "picks"


def render_watch_page(state: WatchState) -> str:
    """Return the page; a browser loads it again while micrographs are awaited."""
    figures = [
        ("Micrographs picked", f"{state.done:,}"),
        (state.noun.capitalize(), f"{state.picks:,}"),
        (
            f"{state.noun.capitalize()} per micrograph",
            f"{state.picks / state.done:.0f}" if state.done else "–",
        ),
        ("Micrographs per hour", "–" if state.per_hour is None else f"{state.per_hour:.0f}"),
        ("Being written", f"{state.incomplete:,}"),
        ("Failed", f"{state.failed:,}"),
    ]
    return render_template(
        "watch.html.j2",
        state=state,
        figures=figures,
        refresh=REFRESH_SECONDS,
        program=f"heliodor {__version__}",
        fonts=FONT_STACK,
    )
