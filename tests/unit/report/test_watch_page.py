from __future__ import annotations

from dataclasses import replace

from heliodor.report.watch_page import (
    REFRESH_SECONDS,
    WatchedMicrograph,
    WatchState,
    render_watch_page,
)

STATE = WatchState(
    ended=False,
    found=12,
    done=9,
    picks=1800,
    failed=1,
    incomplete=2,
    threshold=0.5,
    threshold_from=8,
    per_hour=412.4,
    recent=[
        WatchedMicrograph("in/<b>.mrc", "12:00:01", 211),
        WatchedMicrograph("in/c.mrc", "12:00:00", None, "it is truncated"),
    ],
    at="2026-11-29 12:00:02+00:00",
)


def test_the_page_shows_how_far_it_is() -> None:
    page = render_watch_page(STATE)
    assert "9 of 12 micrographs picked" in page
    for figure in ("1,800", "200", "412", "211", "failed: it is truncated"):
        assert figure in page
    assert "Threshold: 0.50 log-odds, from 8 micrographs." in page
    assert "&lt;b&gt;.mrc" in page
    assert "<b>.mrc" not in page
    assert f'http-equiv="refresh" content="{REFRESH_SECONDS}"' in page


def test_the_page_of_an_ended_run_is_not_loaded_again() -> None:
    page = render_watch_page(replace(STATE, ended=True))
    assert "http-equiv" not in page


def test_before_the_first_micrograph_there_are_no_figures() -> None:
    page = render_watch_page(
        replace(STATE, found=0, done=0, picks=0, per_hour=None, threshold_from=0, recent=[])
    )
    assert "No micrograph has been picked since the start." in page
    assert page.count("–") == 2
