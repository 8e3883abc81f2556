"""The report on the screen and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from heliodor.report.report import write_report
from helpers.reports import gallery_item, minimal_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

#: The width of A4 without the margins of the report, in CSS pixels (96 per inch).
A4_PX = int((210 - 2 * 14) / 25.4 * 96)
LONG = "MotionCorr/job002/Movies/FoilHole_25700116_Data_25700129_25700132_20260101_110001.mrc"


def test_nothing_is_wider_than_the_paper(browser: Browser, tmp_path: Path) -> None:
    epochs = [
        {
            "epoch": float(n), "update": 100.0 * n, "seconds": 12.3 * n, "learning_rate": 1e-4,
            "loss": 1 / n, "positive_loss": 0.5 / n, "unlabelled_term": 0.5 / n,
            "mean_probability": 0.1 / n, "validation_ap": 0.5,
        }
        for n in range(1, 6)
    ]  # fmt: skip
    picks = np.random.default_rng(1).uniform(10, 50, (30, 2))
    content = minimal_report(
        title=f"Particle picks: {LONG}",
        overview=[("Micrographs", LONG), ("Model", "general model (pretrained)")],
        key_figures=[(f"Picks that are particles (figure {n})", "12,345") for n in range(5)],
        settings=[("Objective", "a-very-long-value-" * 5)],
        command="heliodor pick " + LONG,
        history=epochs,
        scores=np.random.default_rng(0).normal(size=500),
        threshold=0.4,
        picks_per_micrograph=[(LONG, 30)] * 5,
        gallery=[gallery_item(picks=picks, name=LONG, shape=(60, 60))],
        defocus=[(1.0 + n, 30) for n in range(5)],
        skipped=[(LONG, "the file ends before its data")],
    )
    path = tmp_path / "report.html"
    write_report(path, content)
    page = browser.new_page(viewport={"width": A4_PX, "height": 1000})
    try:
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        for media in ("print", "screen"):
            page.emulate_media(media=media)
            wide = page.evaluate(
                """() => [...document.querySelectorAll("main *")]
                  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                  .filter((e) => !e.closest(".scroll") || matchMedia("print").matches)
                  .map((e) => [e.tagName, e.className, e.textContent.slice(0, 40)])"""
            )
            assert wide == [], media
        assert page.pdf(format="A4").startswith(b"%PDF")
    finally:
        page.close()
