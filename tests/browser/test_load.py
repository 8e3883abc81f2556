"""A heavy load: 1,000 micrographs, 500 labels, 200 undo steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser.page import (
    PageInUse,
    Truth,
    by_name,
)

pytestmark = pytest.mark.slow

#: Longest duration of any action of the user, in milliseconds.
QUICK = 100


@pytest.fixture
def thousand(simulated: Truth, tmp_path: Path) -> Path:
    """Return a folder of 1,000 micrographs that take the disk space of four."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1000):
        os.link(simulated.files[number % 4], folder / f"grid_{number:04d}.mrc")
    return folder


def heap(page: PageInUse) -> float:
    """Return the megabytes of the page's objects after garbage collection."""
    session = page.page.context.new_cdp_session(page.page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used) / 2**20


def places() -> list[tuple[float, float]]:
    """Return 500 positions that are too far apart to be hit by the same click."""
    across, down = np.meshgrid(np.linspace(50, 970, 25), np.linspace(50, 970, 20))
    return [(float(x), float(y)) for x, y in zip(across.ravel(), down.ravel(), strict=True)]


def test_500_labels_and_1000_micrographs_stay_quick(
    serve: Any, open_page: Any, thousand: Path
) -> None:
    server = serve(thousand, "--diameter", 100, "--pixel-size", 4)
    page: PageInUse = open_page(server.url)
    assert page.text("#list-count") == "1,000 micrographs"
    # What the page does while it starts is not counted.
    page.page.wait_for_timeout(1500)
    started = len(page.timings())

    page.page.evaluate(
        """() => {
          window.longTasks = [];
          new PerformanceObserver((seen) => {
            for (const one of seen.getEntries()) window.longTasks.push(one.duration);
          }).observe({ type: "longtask" });
        }"""
    )
    for x, y in places():
        page.click(x, y)
    assert page.number("#label-count") == 500
    page.press(*["Control+z"] * 200)
    assert page.number("#label-count") == 300
    page.press(*["Control+Shift+z"] * 200)
    assert page.number("#label-count") == 500
    page.saved()
    assert len(by_name(server.project / "labels.star")["grid_0000"]) == 500

    elements = page.page.evaluate("document.querySelectorAll('#list .row').length")
    assert elements < 30
    for key in ("n", "n", "p", "d"):
        page.press(key)
        page.wait_for_picture()
    page.page.locator("#list").hover()
    for _ in range(20):
        page.page.mouse.wheel(0, 3000)
    page.page.locator("#list-sort").select_option("labels")
    page.page.locator("#list-filter").fill("_09")
    assert page.text("#list-count") == "100 of 1,000 micrographs"
    page.page.locator("#list-filter").fill("")
    page.page.locator("#stage").hover()
    for step in (-300, -300, -300, 300, 300, 300):
        page.page.mouse.wheel(0, step)

    slowest = sorted(page.timings()[started:], key=lambda one: -one[1])[:5]
    print("slowest actions", slowest, "long tasks", page.page.evaluate("longTasks"))
    assert len(page.timings()) > 1000
    assert slowest[0][1] < QUICK, slowest


def test_the_memory_of_the_page_does_not_grow(serve: Any, open_page: Any, thousand: Path) -> None:
    server = serve(thousand, "--diameter", 100, "--pixel-size", 4)
    page: PageInUse = open_page(server.url)

    def go_on(steps: int) -> None:
        for _ in range(steps):
            page.press("n")
            page.page.wait_for_timeout(60)
        page.wait_for_picture()

    go_on(60)
    before = heap(page)
    go_on(200)
    after = heap(page)
    print(f"megabytes before {before:.1f}, after {after:.1f}")
    assert page.text("#micrograph-name") == "grid_0260.mrc"
    assert after < before + 4
    assert page.page.evaluate("document.querySelectorAll('*').length") < 1200
