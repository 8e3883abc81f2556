"""Editing on the micrograph: selections, contamination, groups of picks, and undo of all of it."""

from __future__ import annotations

from typing import Any

import pytest

from browser.page import DIAMETER, PageInUse, Truth

pytestmark = pytest.mark.slow


@pytest.fixture
def page(serve: Any, open_page: Any, simulated: Truth) -> PageInUse:
    server = serve(simulated.micrographs, "--diameter", DIAMETER)
    opened: PageInUse = open_page(server.url)
    opened.wait_until_scored()
    opened.wait_for_picks()
    return opened


def _drag(page: PageInUse, *corners: tuple[float, float], **how: Any) -> None:
    """Drag from one position to others while the whole micrograph is shown."""
    page.page.mouse.move(*page.on_screen(*corners[0]))
    page.page.mouse.down(**how)
    for corner in corners[1:]:
        page.page.mouse.move(*page.on_screen(*corner), steps=4)
    page.page.mouse.up(**how)


def _wait_for_number(page: PageInUse, name: str, value: int) -> None:
    page.page.wait_for_function(
        "([id, value]) => Number(document.getElementById(id).textContent) === value",
        arg=[name, value],
        timeout=10_000,
    )


def test_what_is_in_a_rectangle_is_rejected_labeled_or_removed(page: PageInUse) -> None:
    picks = page.number("#pick-count")
    page.press("a")
    _drag(page, (200, 200), (700, 600))
    said = page.text("#selection-message")
    count = int(said.split()[0])
    assert 3 < count < picks
    page.picture("e1-selection")
    page.press("x")
    page.wait_for_labels(0, count)
    assert page.number("#pick-count") == picks - count
    page.press("Control+z")
    page.wait_for_labels(0, 0)
    _drag(page, (200, 200), (700, 600))
    page.page.locator("#selection-label").click()
    page.wait_for_labels(count, 0)
    _drag(page, (200, 200), (700, 600))
    assert f"0 picks and {count} labels" in page.text("#selection-message")
    page.press("Delete")
    page.wait_for_labels(0, 0)
    page.saved()


def test_a_lasso_selects_what_it_surrounds(page: PageInUse) -> None:
    page.press("a")
    _drag(page, (200, 200), (700, 600))
    in_rectangle = int(page.text("#selection-message").split()[0])
    page.page.locator("#select-lasso").click()
    _drag(page, (200, 200), (700, 200), (200, 600), (200, 210))
    in_triangle = int(page.text("#selection-message").split()[0])
    assert 0 < in_triangle < in_rectangle
    page.press("Escape")
    assert page.page.locator("#selection").is_hidden()


def test_strokes_of_the_brush_can_be_undone_and_survive_a_reload(page: PageInUse) -> None:
    before = page.number("#pick-count")
    page.page.locator("#brush-size").fill("70")
    page.press("g")
    _drag(page, (200, 300), (800, 500))
    page.page.wait_for_function(
        "before => Number(document.getElementById('pick-count').textContent) < before", arg=before
    )
    painted = page.number("#pick-count")
    page.picture("e2-painted")
    assert page.page.locator("#use-detected").is_visible()
    page.press("Control+z")
    _wait_for_number(page, "pick-count", before)
    assert page.page.locator("#use-detected").is_hidden()
    page.press("Control+Shift+z")
    _wait_for_number(page, "pick-count", painted)
    page.page.wait_for_timeout(500)
    page.page.reload()
    page.wait_for_picks()
    assert page.number("#pick-count") == painted
    page.page.locator("#brush-size").fill("70")
    page.press("g")
    _drag(page, (200, 300), (800, 500), button="right")  # the opposite of painting
    _wait_for_number(page, "pick-count", before)
    page.page.locator("#use-detected").click()
    _wait_for_number(page, "pick-count", before)
    page.wait_for("#contamination-share", "None found", 10_000)


def test_a_group_is_rejected_in_one_step(page: PageInUse) -> None:
    page.press("3")
    page.page.locator("#inspect-view button", has_text="groups").click()
    page.page.locator("#groups-make").click()
    tiles = page.page.locator("#groups .group")
    tiles.first.wait_for(timeout=30_000)
    assert page.page.locator("#averages canvas").count() == 6
    page.page.wait_for_timeout(300)
    page.picture("e3-groups")
    sizes, bars = page.page.evaluate(
        """() => {
          const all = (part) => [...document.querySelectorAll(`.group ${part}`)];
          return [all(".score").map((one) => Number(one.textContent)),
            all(".share").map((one) => one.offsetWidth)];
        }"""
    )
    widest = max(bars)
    assert widest > 20
    assert bars == pytest.approx([widest * size / max(sizes) for size in sizes], abs=1.5)
    tiles.last.click()
    page.page.locator("#group-crops canvas").first.wait_for()
    count = int(page.text("#groups-selected").split(":")[1].split()[0])
    page.page.locator("#groups-reject").click()
    page.saved()
    assert sum(page.get("/api/micrographs")["negatives"]) == count
    page.press("Control+z")
    page.saved()
    assert sum(page.get("/api/micrographs")["negatives"]) == 0


def test_options_of_picking_can_be_undone(page: PageInUse) -> None:
    before = page.number("#pick-count")
    page.press("3")
    page.page.locator("#threshold-more summary").click()
    page.page.locator("#threshold-offset").fill("3")
    page.page.locator("#threshold-offset").press("Enter")
    page.page.wait_for_function(
        "before => Number(document.getElementById('pick-count').textContent) < before", arg=before
    )
    page.press("Control+z")
    _wait_for_number(page, "pick-count", before)
    page.page.locator("#edge-margin").fill("300")
    page.page.locator("#edge-margin").press("Enter")
    page.page.wait_for_timeout(1000)
    page.wait_until_scored()
    page.page.wait_for_function(
        "before => Number(document.getElementById('pick-count').textContent) < before", arg=before
    )
    found = page.get("/api/micrographs/0/picks")
    assert min(found["x"] + found["y"]) > 300 / 4 - 1
    page.picture("e4-options")


def test_excluding_and_reviewing_can_be_undone(page: PageInUse) -> None:
    page.press("e", "Control+z")
    assert page.page.locator("#exclude").get_attribute("aria-pressed") == "false"
    page.page.locator("#reviewed").click()
    page.press("Control+z")
    assert page.page.locator("#reviewed").get_attribute("aria-pressed") == "false"
    page.page.wait_for_timeout(500)
    rows = page.get("/api/micrographs")
    assert not any(rows["excluded"] + rows["done"])
