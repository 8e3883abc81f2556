"""Labels: in two tabs of one project, and with every tool of the pointer."""

from __future__ import annotations

from typing import Any

import pytest

from browser.page import (
    PageInUse,
    Truth,
    by_name,
)

pytestmark = pytest.mark.slow


def test_what_one_tab_does_appears_in_the_other(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    one: PageInUse = open_page(server.url)
    other: PageInUse = open_page(server.url, beside=one)
    first, second, third, fourth = simulated.apart(0, 4)

    one.click(*first)
    other.wait_for_labels(1, 0)
    other.click(*second)
    other.click(*third, button="right")
    one.wait_for_labels(2, 1)
    # Undo affects only what was done in the same tab.
    one.press("Control+z")
    other.wait_for_labels(1, 1)
    one.wait_for_labels(1, 1)
    # Both tabs at once: nothing is lost.
    one.click(*first)
    other.click(*fourth)
    one.wait_for_labels(3, 1)
    other.wait_for_labels(3, 1)
    one.saved()
    other.saved()
    assert len(by_name(server.project / "labels.star")["barrel_0001"]) == 3
    assert len(by_name(server.project / "negatives.star")["barrel_0001"]) == 1


def test_labels_and_rejections_show_who_made_them(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    one: PageInUse = open_page(server.url)
    first, second = simulated.apart(0, 2)
    one.click(*first)
    one.saved()
    assert not (server.project / "authors.jsonl").exists()
    one.page.locator("#share-button").click()
    one.page.locator("#my-name").fill(" Anna  B. ")
    one.page.locator("#my-name").press("Tab")
    one.picture("name")
    one.page.locator("#share-close").click()
    one.click(*second)
    one.click(200, 900, button="right")
    one.wait_for_labels(2, 1)
    one.saved()
    other: PageInUse = open_page(server.url, beside=one)  # of the same browser
    other.wait_for_labels(2, 1)
    for (x, y), says in ((second, "labeled by Anna B., "), ((200, 900), "rejected by Anna B., ")):
        other.page.mouse.move(*other.on_screen(x, y))
        other.wait_for("#pointer-pick", says)
    other.page.mouse.move(*other.on_screen(*first))
    assert "by" not in other.text("#pointer-pick")
    other.picture("author")
    # The history is in the log, and undoing belongs to a tab.
    one.press("Control+z")
    other.wait_for_labels(2, 0)
    other.page.locator("#log-button").click()
    other.wait_for("#history-lines", "Anna B.: 1 labeled, 1 rejected, 1 removed on")
    other.picture("history")
    assert "Anna" not in (server.project / "labels.star").read_text()


def test_what_is_exported_is_what_the_page_shows(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    page.choose(3)
    page.wait_for_picks()
    first, second = simulated.apart(3, 2)
    page.press("5")
    page.page.locator("#export-what").select_option("labels")
    page.page.locator("#export-format").select_option("star")
    # Saving is slow, and the export must wait for it.
    page.page.route(
        "**/labels", lambda route: (page.page.wait_for_timeout(700), route.continue_())
    )
    page.click(*first)
    page.click(*second)
    page.page.locator("#export").click()
    page.wait_for("#export-message", "2 labels on 1 micrograph", 20_000)
    page.page.unroute_all(behavior="wait")


def test_the_eraser_removes_what_it_passes_over(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.page.wait_for_timeout(300)
    for x, y in ((200, 200), (400, 200), (600, 200), (200, 500)):
        page.click(x, y)
    page.click(400, 350, button="right")
    page.wait_for_labels(4, 1)

    page.press("b")
    mouse = page.page.mouse
    mouse.move(*page.on_screen(150, 200))
    mouse.down()
    mouse.move(*page.on_screen(480, 200), steps=12)
    mouse.up()
    page.wait_for_labels(2, 1)
    page.press("Control+z")
    page.wait_for_labels(4, 1)
    page.press("Control+Shift+z", "b")
    # A click on a label removes it; a double click zooms out and changes nothing.
    page.click(600, 200)
    page.wait_for_labels(1, 1)
    page.page.wait_for_timeout(500)
    page.page.mouse.dblclick(*page.on_screen(800, 800))
    page.wait_for_labels(1, 1)
    page.page.keyboard.down("Alt")
    page.click(200, 500)
    page.page.keyboard.up("Alt")
    page.wait_for_labels(0, 2)
    page.saved()
    assert "barrel_0001" not in by_name(server.project / "labels.star")
    assert len(by_name(server.project / "negatives.star")["barrel_0001"]) == 2
