"""The table of micrographs, with a thousand names of EPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from browser.page import PageInUse, Truth
from heliodor.data.star import write_blocks

pytestmark = pytest.mark.slow

COUNT = 1000
#: Longest duration of any action of the user, in milliseconds.
QUICK = 100


@pytest.fixture
def grid(simulated: Truth, tmp_path: Path) -> Path:
    """Return the STAR file of 1,000 micrographs with names of EPU and a defocus."""
    folder = tmp_path / "many"
    folder.mkdir()
    names = []
    for n in range(COUNT):
        hole, data, time = 25700000 + 7 * (n >> 2), 25700100 + 13 * n, 110000 + n
        name = f"FoilHole_{hole}_Data_{data}_{data + 3}_20260101_{time}_fractions.mrc"
        os.link(simulated.files[n % 4], folder / name)
        names.append(str(folder / name))
    star = tmp_path / "micrographs_ctf.star"
    columns = {
        "rlnMicrographName": names,
        "rlnMicrographPixelSize": [4.0] * COUNT,
        "rlnDefocusU": [8000.0 + 20 * (n * 7919 % COUNT) for n in range(COUNT)],
        "rlnDefocusV": [7900.0 + 20 * (n * 7919 % COUNT) for n in range(COUNT)],
        "rlnCtfMaxResolution": [3.0 + 0.01 * (n * 104729 % COUNT) for n in range(COUNT)],
    }
    write_blocks(star, {"micrographs": columns})
    return star


def shown_names(page: PageInUse) -> list[str]:
    """Return the names in the table from top to bottom, and check that none is cut off."""
    cells: list[list[Any]] = page.page.evaluate(
        """() => [...document.querySelectorAll(".table-row:not([hidden])")]
          .map((row) => [row.getBoundingClientRect().top, row.querySelector(".name")])
          .map(([top, cell]) => [top, cell.textContent, cell.scrollWidth <= cell.clientWidth])"""
    )
    assert all(whole for _, _, whole in cells)
    return [name for _, name, _ in sorted(cells)]


def test_a_thousand_micrographs_are_told_apart_sorted_filtered_and_excluded_quickly(
    serve: Any, open_page: Any, grid: Path
) -> None:
    page: PageInUse = open_page(serve(grid, "--diameter", 100).url)
    page.page.set_viewport_size({"width": 1024, "height": 768})
    page.press("m")
    page.wait_for("#table-count", "1,000 micrographs", 10_000)
    page.page.wait_for_function("() => document.querySelectorAll('#table-head .cell').length > 10")
    page.page.wait_for_timeout(3000)
    page.picture("table")
    page.page.set_viewport_size({"width": 1024, "height": 768})

    # Every row has another name, all of which can be read.
    seen: set[str] = set()
    while True:
        page.page.wait_for_timeout(60)
        seen |= {*shown_names(page)}
        moved = page.page.evaluate(
            """() => {
              const rows = document.getElementById("table-rows");
              const before = rows.scrollTop;
              rows.scrollTop += rows.clientHeight / 2;
              return rows.scrollTop > before;
            }"""
        )
        if not moved:
            break
    assert len(seen) == COUNT
    assert page.page.evaluate("document.querySelectorAll('.table-row').length") < 60

    started = len(page.timings())

    def column(key: str) -> list[float]:
        page.page.wait_for_timeout(100)
        values = page.page.evaluate(
            """(key) => [...document.querySelectorAll(".table-row:not([hidden])")]
              .map((row) => [row.getBoundingClientRect().top, row.querySelector("." + key)])
              .map(([top, cell]) => [top, Number(cell.textContent)])""",
            key,
        )
        return [value for _, value in sorted(values)]

    header = page.page.locator("#table-head .defocus button")
    header.click()
    found = column("defocus")
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(2.793, abs=0.006)
    assert page.page.locator("#table-head .defocus").get_attribute("aria-sort") == "descending"
    header.click()
    found = column("defocus")
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.795, abs=0.006)
    field = page.page.locator("#table-filter")
    field.fill("defocus > 2 and CTF resolution below 4")
    count = sum(
        0.795 + 0.002 * (n * 7919 % COUNT) > 2 and 3 + 0.01 * (n * 104729 % COUNT) < 4
        for n in range(COUNT)
    )
    page.wait_for("#table-count", f"{count} of 1,000 micrographs", 5000)
    field.fill("thickness > 2")
    page.wait_for("#table-problem", "is not a column with numbers", 5000)
    for text, number in (
        ("_25700113_", 1), ("not excluded", COUNT), ("defocus 19950 to 20050 Å", 6),
        ("defocus between 2.0 and 2.1, not _25700113_", 50),
    ):  # fmt: skip
        field.fill(text)
        part = "" if number == COUNT else f"{number:,} of "
        page.page.wait_for_function(
            "(said) => document.getElementById('table-count').textContent.startsWith(said)",
            arg=f"{part}1,000 micrographs",
            timeout=5000,
        )
    page.page.locator("#table-exclude").click()
    page.wait_for("#table-count", "50 of 1,000 micrographs, 50 excluded", 5000)
    assert page.text("#list-count") == "1,000 micrographs, 50 excluded"
    assert sum(page.get("/api/micrographs")["excluded"]) == 50
    page.page.locator("#toast button").click()
    page.wait_for("#list-count", "1,000 micrographs", 5000)
    field.fill("")
    first = page.page.locator(".table-row:not([hidden]) input").first
    first.uncheck()
    page.wait_for("#table-count", "1,000 micrographs, 1 excluded", 5000)
    first.check()

    slowest = sorted(page.timings()[started:], key=lambda one: -one[1])[:5]
    print("slowest actions", slowest)
    names = {name for name, _ in page.timings()[started:]}
    assert {"sort table", "filter table", "exclude shown", "table row", "draw table"} <= names
    assert slowest[0][1] < QUICK, slowest


def test_the_table_is_used_with_the_keyboard_and_notes_are_kept(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    page.press("m", "ArrowDown", "ArrowDown")
    page.wait_for("#table-current", "barrel_0003", 10_000)
    page.press("e")
    page.page.locator(".table-row.excluded").wait_for()
    page.press("e")
    page.page.locator("#table-note").focus()
    page.page.keyboard.type("thick ice")
    page.press("Enter")
    page.page.wait_for_timeout(300)
    assert page.get("/api/micrographs")["note"] == ["", "", "thick ice", ""]
    page.page.locator("#table-filter").fill("ice")
    page.wait_for("#table-count", "1 of 4 micrographs", 5000)
    page.page.locator("#table-filter").fill("")
    page.press("Escape")
    page.press("w")
    page.wait_for("#spectrum-message", "Defocus ", 20_000)
    page.picture("spectrum")
    page.press("w")
    page.page.locator("#table-rows").focus()
    page.press("Enter")
    page.page.locator("#table").wait_for(state="hidden")
    assert page.text("#micrograph-name") == "barrel_0003.mrc"
    page.page.reload()
    page.wait_for_picture()
    assert page.get("/api/micrographs")["note"][2] == "thick ice"
