"""Micrographs that arrive while the page is open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from browser.page import PageInUse, Truth

pytestmark = pytest.mark.slow


def test_a_new_micrograph_appears_in_the_list_and_in_the_table(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    folder = tmp_path / "arriving"
    folder.mkdir()
    for number in range(2):
        os.link(simulated.files[number], folder / f"grid_{number}.mrc")
    page: PageInUse = open_page(serve(folder, "--diameter", 150).url)
    page.wait_until_scored()
    page.choose(1)
    page.click(500, 500)
    page.wait_for_labels(1, 0)
    page.saved()
    page.press("m")
    os.link(simulated.files[2], folder / "grid_0b.mrc")
    page.page.locator("#look-button").click()
    page.wait_for("#list-count", "3 micrographs", 20_000)
    page.wait_for("#table-count", "3 micrographs", 20_000)
    page.wait_for("#row-2 .name", "0b", 5000)
    page.wait_until_scored()
    rows = page.get("/api/micrographs")
    assert rows["labels"] == [0, 1, 0]
    assert all(number is not None for number in rows["picks"])
    page.press("Escape")
    assert page.text("#micrograph-name") == "grid_1.mrc"
    page.wait_for_labels(1, 0)
    page.page.locator("#look-button").click()
    page.wait_for("#toast", "No new micrographs", 10_000)
