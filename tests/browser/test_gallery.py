"""The candidates by score: what a click on one does in each mode; and typing a diameter."""

from __future__ import annotations

from typing import Any

import pytest

from browser.page import PATIENCE, PageInUse, Truth

pytestmark = pytest.mark.slow


def counts(page: PageInUse) -> tuple[int, int]:
    """Return how many labels and negatives the server has."""
    rows = page.get("/api/micrographs")
    return sum(rows["labels"]), sum(rows["negatives"])


def wait_for_crop(page: PageInUse, kind: str | None) -> None:
    """Wait until the first candidate of the gallery has a marker of a kind, or none."""
    page.page.wait_for_function(
        """(kind) => {
          const crop = document.querySelector("#gallery .crop:not([hidden])");
          const icon = crop?.querySelector("svg.icon");
          return kind ? icon?.classList.contains(kind) : Boolean(crop) && !icon;
        }""",
        arg=kind,
        timeout=10_000,
    )


def test_candidates_are_rejected_confirmed_and_shown(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.press("3")
    crop = page.page.locator("#gallery .crop").first
    crop.wait_for(timeout=PATIENCE)
    # All have been scored: their order no longer changes.
    page.wait_until_scored()
    page.page.wait_for_timeout(2500)
    threshold = page.page.locator("#threshold").input_value()
    # A click only shows a candidate, and the one shown is marked.
    page.page.locator("#gallery .crop[title*='show on its micrograph']").first.wait_for()
    crop.click()
    page.page.locator("#gallery .crop.shown").wait_for()
    assert page.page.locator("#threshold").input_value() == threshold
    page.press("f")

    page.page.locator("#gallery-click button", has_text="Reject").click()
    page.page.locator("#gallery .crop[title*='mark as not a particle']").first.wait_for()
    crop.click()
    wait_for_crop(page, "negative")
    page.saved()
    assert counts(page) == (0, 1)

    page.page.locator("#gallery-click button", has_text="Confirm").click()
    crop.click()
    wait_for_crop(page, "particle")
    page.saved()
    assert counts(page) == (1, 0)

    # Undo shows on the candidate, too.
    page.press("Control+z")
    wait_for_crop(page, "negative")
    page.press("Control+z")
    wait_for_crop(page, None)
    page.saved()
    assert counts(page) == (0, 0)

    page.page.locator("#gallery-click button", has_text="Show").click()
    page.press("f")
    crop.click()
    page.page.wait_for_function(
        "() => parseInt(document.getElementById('zoom').textContent) > 100", timeout=10_000
    )
    assert page.page.locator("#threshold").input_value() == threshold


def test_a_typed_diameter_is_checked_and_gives_up_the_keyboard(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    field = page.page.locator("#diameter")
    field.fill("99999")
    field.press("Enter")
    page.wait_for("#toast", "The diameter must be between 20 and 5,000 Å.", 5_000)
    assert field.input_value() == "150"
    field.fill("160")
    field.press("Enter")
    page.wait_for("#confirm", "from 150 to 160 Å", 5_000)
    with page.page.expect_response("**/api/settings"):
        page.page.locator("#confirm button", has_text="Change diameter").click()
    # The keys are shortcuts again.
    page.press("n")
    page.wait_for("#micrograph-name", simulated.files[1].name, 10_000)
    assert page.get("/api/project")["settings"]["diameter"] == 160
    page.page.wait_for_function("() => document.title.startsWith('Picking: ')", timeout=PATIENCE)
