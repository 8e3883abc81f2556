"""Two tabs with one project, and a server that is away for a while."""

from __future__ import annotations

from typing import Any

import pytest
from page_in_use import PageInUse, Truth, by_name

pytestmark = pytest.mark.slow


def here(page: PageInUse, particles: int, negatives: int) -> None:
    """Wait until the page shows so many labels and rejections."""
    page.page.wait_for_function(
        """([particles, negatives]) =>
          document.getElementById("here-labels").textContent === String(particles)
          && document.getElementById("here-negatives").textContent === String(negatives)""",
        arg=[particles, negatives],
        timeout=10_000,
    )


def test_what_one_tab_does_appears_in_the_other(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    one: PageInUse = open_page(server.url)
    other: PageInUse = open_page(server.url.split("?")[0], beside=one)
    first, second, third, fourth = simulated.apart(0, 4)

    one.click(*first)
    here(other, 1, 0)
    other.click(*second)
    other.click(*third, button="right")
    here(one, 2, 1)
    # Each takes back what it did itself, not what the other one did.
    one.press("Control+z")
    here(other, 1, 1)
    here(one, 1, 1)
    # Both at once: nothing is lost.
    one.click(*first)
    other.click(*fourth)
    here(one, 3, 1)
    here(other, 3, 1)
    one.saved()
    other.saved()
    assert len(by_name(server.project / "labels.star")["barrel_0001"]) == 3
    assert len(by_name(server.project / "negatives.star")["barrel_0001"]) == 1


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
    here(page, 3, 0)
    page.press("Control+z")
    here(page, 2, 0)
    page.page.context.set_offline(False)
    page.saved()
    here(page, 2, 0)
    assert len(by_name(server.project / "labels.star")["barrel_0001"]) == 2


def test_a_brush_erases_what_it_passes_over(serve: Any, open_page: Any, simulated: Truth) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.page.wait_for_timeout(300)
    for x, y in ((200, 200), (400, 200), (600, 200), (200, 500)):
        page.click(x, y)
    page.click(400, 350, button="right")
    here(page, 4, 1)

    page.press("b")
    mouse = page.page.mouse
    mouse.move(*page.on_screen(150, 200))
    mouse.down()
    mouse.move(*page.on_screen(480, 200), steps=12)
    mouse.up()
    here(page, 2, 1)
    page.press("Control+z")
    here(page, 4, 1)
    page.press("Control+Shift+z", "b")
    # A click on a label takes it away; a double click shows the whole and changes nothing.
    page.click(600, 200)
    here(page, 1, 1)
    page.page.wait_for_timeout(500)
    page.page.mouse.dblclick(*page.on_screen(800, 800))
    here(page, 1, 1)
    page.page.keyboard.down("Alt")
    page.click(200, 500)
    page.page.keyboard.up("Alt")
    here(page, 0, 2)
    page.saved()
    assert "barrel_0001" not in by_name(server.project / "labels.star")
    assert len(by_name(server.project / "negatives.star")["barrel_0001"]) == 2
