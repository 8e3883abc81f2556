"""Two models side by side."""

from __future__ import annotations

from typing import Any

import pytest

from browser.page import PATIENCE, PageInUse, Truth

pytestmark = pytest.mark.slow


def test_the_picks_of_two_models_are_seen_side_by_side(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    page: PageInUse = open_page(serve(simulated.micrographs, "--diameter", 150).url)
    page.wait_until_scored()
    page.press("2")
    assert page.page.locator("#compare-button").is_hidden()
    page.choose(0)
    for x, y in simulated.apart(0, 8):
        page.click(float(x), float(y))
    page.wait_for_labels(8, 0)
    page.saved()
    page.press("t")
    page.wait_for("#train-message", "Model 1 trained in ")
    page.page.locator("#compare-button").click()
    page.page.wait_for_function("() => document.getElementById('compare-second').value !== ''")
    assert page.page.locator("#compare-first").input_value() == "0"
    assert page.page.locator("#compare-second").input_value() == "1"
    page.page.locator("#compare-start").click()
    page.page.locator("#compare-shown").wait_for(state="visible", timeout=PATIENCE)
    page.wait_for("#compare-message", "4 micrographs, each model at its own threshold", 10_000)
    for side, name in enumerate(("General model", "Model 1")):
        assert page.text(f"#compare-name-{side}") == name
        assert "of 8 labels found" in page.text(f"#compare-figures-{side}")
        assert page.page.evaluate(
            """(side) => {
              const canvas = document.getElementById(`compare-marks-${side}`);
              const { width, height } = canvas;
              const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
              return data.some((value) => value > 0);
            }""",
            side,
        )
    (compared, *_) = page.get("/api/comparison")["result"]
    shared = [sum(side["shared"]) for side in compared["sides"]]
    assert shared[0] == shared[1] > 50
    page.page.wait_for_timeout(500)
    page.picture("compare")
    page.page.locator("#compare-next").click()
    page.wait_for("#compare-micrograph", "(2 of 4)", 5000)
    page.press("Escape")
    # Neither the model in use nor the picks have changed.
    assert page.get("/api/project")["engine"]["model"] == 1
