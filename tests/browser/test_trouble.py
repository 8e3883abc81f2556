"""What the page does if the server cannot be reached or a file cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from browser.page import (
    PageInUse,
    Truth,
    by_name,
)

pytestmark = pytest.mark.slow


def test_what_cannot_be_saved_is_kept_and_saved_later(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    places = simulated.apart(0, 3)
    page.page.wait_for_timeout(300)

    page.page.context.set_offline(True)
    for x, y in places:
        page.click(x, y)
    page.wait_for("#saving", "Not saved: 3", 10_000)
    page.wait_for_labels(3, 0)
    page.press("Control+z")
    page.wait_for_labels(2, 0)
    page.page.context.set_offline(False)
    page.saved()
    page.wait_for_labels(2, 0)
    assert len(by_name(server.project / "labels.star")["barrel_0001"]) == 2


def test_a_micrograph_that_cannot_be_read_is_reported_and_skipped(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    os.link(simulated.files[0], folder / "a_good.mrc")
    (folder / "b_broken.mrc").write_bytes(b"this is no micrograph")
    os.link(simulated.files[1], folder / "c_good.mrc")
    server = serve(folder, "--diameter", 150, "--pixel-size", 4)
    page: PageInUse = open_page(server.url)

    page.press("n")
    page.wait_for("#micrograph-name", "b_broken.mrc", 10_000)
    page.wait_for("#stage-failed", "This micrograph cannot be used", 10_000)
    page.page.locator("#row-1.failed").wait_for()
    page.click(500, 500)
    page.press("n")
    page.wait_for("#micrograph-name", "c_good.mrc", 10_000)
    page.page.locator("#stage-failed").wait_for(state="hidden")
    page.wait_for_picture()
    page.wait_for_labels(0, 0)
    page.click(500, 500)
    page.wait_for_labels(1, 0)
    page.saved()
    assert set(by_name(server.project / "labels.star")) == {"c_good"}
    page.wait_until_scored()
    page.press("5")
    page.page.locator("#export").click()
    page.wait_for("#export-message", "Micrographs: 1 failed.", 10_000)
    page.page.locator("#run").click()
    page.wait_for("#run-message", "Picked 2 of 3 micrographs, 1 failed: ")
    page.wait_for("#run-failed", "b_broken.mrc is ", 10_000)
    page.wait_for("#run-message", "threshold ")
    page.picture("a-failed")


def test_a_micrograph_replaced_while_the_page_is_open_is_shown_again(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    os.link(simulated.files[0], folder / "a.mrc")
    os.link(simulated.files[1], folder / "b.mrc")
    server = serve(folder, "--diameter", 150, "--pixel-size", 4)
    page: PageInUse = open_page(server.url)

    def pixels() -> Any:
        return page.page.evaluate(
            """() => {
              const canvas = document.getElementById("micrograph-image");
              const { width, height } = canvas;
              const context = canvas.getContext("2d");
              return context.getImageData(width / 2, height / 2, 64, 64).data.join();
            }"""
        )

    def thumbnails() -> Any:
        return page.page.evaluate(
            "performance.getEntriesByType('resource').map((one) => one.name)"
            ".filter((name) => name.includes('/0/thumbnail'))"
        )

    page.wait_for_picks()
    page.page.wait_for_timeout(1000)
    before = pixels()
    assert len(thumbnails()) == 1
    page.press("n")
    page.wait_for("#micrograph-name", "b.mrc", 10_000)
    os.link(simulated.files[2], folder / "new")
    os.replace(folder / "new", folder / "a.mrc")
    page.press("p")
    page.wait_for("#micrograph-name", "a.mrc", 10_000)
    page.page.wait_for_function(
        "() => performance.getEntriesByType('resource')"
        ".filter((one) => one.name.includes('/0/thumbnail')).length === 2",
        timeout=20_000,
    )
    page.wait_for_picks()
    page.page.wait_for_timeout(1000)
    after = pixels()
    assert after != before
    # The same as in a page that is opened now.
    page.page.reload()
    page.wait_for_picture()
    page.page.wait_for_timeout(1000)
    assert pixels() == after
