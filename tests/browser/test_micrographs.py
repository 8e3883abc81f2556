"""Micrographs in the list and on screen: their names, exclusion, and contamination."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from browser.page import PageInUse, Truth, by_name
from helpers.fake_slurm import HOLD, write_slurm

pytestmark = pytest.mark.slow


def test_names_that_differ_in_the_middle_can_be_told_apart(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    page: PageInUse = open_page(serve(simulated.micrographs, "--diameter", 150).url)
    said = page.page.evaluate(
        """async () => {
          const { shortenNames } = await import("/static/short_names.js");
          const epu = (hole, data, time) =>
            `FoilHole_${hole}_Data_${data}_00016_20260101_${time}_fractions`;
          const numbers = [...Array(1000).keys()];
          const hole = (n) => 1234000 + (n >> 2);
          const many = numbers.map((n) => epu(hole(n), 900 + n, 120000));
          const other = numbers.map((n) => epu(hole(n), 9 + (n & 3), 120000 + n));
          const same = ["a_very_long_name_of_a_micrograph", "another_very_long_name_of_it"];
          return [many, other, same, ["a_1", "a_2"]].map(shortenNames);
        }"""
    )
    many, other, same, short = said
    for names in (many, other):
        assert len({*names}) == 1000
        assert max(map(len, names)) <= 24
    assert many[0] == "…1234000…900…"
    assert same == ["a_very_long_name_of_a_micrograph", "another_very_long_name_of_it"]
    assert short == ["a_1", "a_2"]


def test_an_excluded_micrograph_is_in_no_result(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    page.press("3")
    page.page.wait_for_timeout(2000)
    before = page.number("#inspect-picks")
    page.choose(1)
    page.press("e")
    page.page.locator("#row-1.excluded").wait_for()
    assert page.text("#list-count") == "4 micrographs, 1 excluded"
    page.page.wait_for_function(
        """(before) => Number(document.getElementById("inspect-picks").textContent
             .replace(",", "")) < before""",
        arg=before,
        timeout=10_000,
    )
    page.press("5")
    page.page.locator("#export").click()
    page.wait_for("#export-message", "1 excluded", 10_000)
    page.wait_for("#export-message", "picks_autopick/autopick.star", 10_000)
    exported = by_name(server.project / "export" / "picks_autopick" / "autopick.star")
    assert {*exported} == {file.stem for i, file in enumerate(simulated.files) if i != 1}
    page.page.locator("#run").click()
    page.wait_for("#run-message", "Picked 3 micrographs: ")
    picked = by_name(server.project / "picks" / "picks.tsv")
    assert {name: len(xy) for name, xy in picked.items()} == {
        name: len(xy) for name, xy in exported.items()
    }
    page.page.locator("#exclude").click()
    page.wait_for("#run-changes", "other micrographs are excluded")
    assert page.text("#list-count") == "4 micrographs"


def test_contamination_is_outlined_and_switched_off(
    serve: Any, open_page: Any, contaminated: Truth
) -> None:
    server = serve(contaminated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    rows = page.get("/api/micrographs")
    most = min(range(len(rows["quality"])), key=lambda n: rows["quality"][n])
    assert rows["quality"][most] < 0.95
    page.choose(most)
    page.wait_for_picks()
    page.wait_for("#contamination-share", "outlined in orange", 10_000)
    page.page.wait_for_timeout(500)
    page.picture("contamination")
    orange = """() => {
      const canvas = document.getElementById("markers");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let found = 0;
      for (let i = 0; i < data.length; i += 4)
        if (data[i] > 240 && data[i + 1] > 100 && data[i + 1] < 140 && data[i + 2] < 90
            && data[i + 3] > 200) found += 1;
      return found;
    }"""
    assert page.page.evaluate(orange) > 100
    page.press("c")
    page.page.wait_for_timeout(200)
    assert page.page.evaluate(orange) == 0
    page.press("c")
    before = page.number("#pick-count")
    page.page.locator("#ignore-contamination").check()
    page.page.wait_for_function(
        "(before) => Number(document.getElementById('pick-count').textContent) > before",
        arg=before,
        timeout=10_000,
    )
    page.press("5")
    page.page.locator("#export").click()
    page.wait_for("#export-message", "Saved ", 10_000)
    page.page.locator("#run").click()
    page.wait_for("#run-message", "Picked ")
    page.wait_for("#run-message", "Output: ")
    exported = by_name(server.project / "export" / "picks_autopick" / "autopick.star")
    picked = by_name(server.project / "picks" / "picks.tsv")
    assert {n: len(xy) for n, xy in picked.items() if len(xy)} == {
        n: len(xy) for n, xy in exported.items()
    }
    page.page.reload()
    page.wait_for_picture()
    page.choose(most)
    assert page.page.locator("#ignore-contamination").is_checked()


def test_a_label_stays_where_it_was_clicked(serve: Any, open_page: Any, simulated: Truth) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.wait_until_scored()
    page.choose(0)
    page.wait_for_picks()
    picks = page.get("/api/micrographs/0/picks")
    best = max(
        (i for i, (x, y) in enumerate(zip(picks["x"], picks["y"], strict=True))
         if 100 < x < 900 and 100 < y < 900),
        key=lambda i: picks["score"][i],
    )  # fmt: skip
    x, y = picks["x"][best], picks["y"][best]
    # A third of a diameter away from a pick: the pick is the same particle, the place is not.
    page.click(x + 12, y)
    page.wait_for_labels(1, 0)
    page.saved()
    labels = page.get("/api/micrographs/0/labels")
    assert labels["x"][0] == pytest.approx(x + 12, abs=1.5)
    page.press("Control+z")
    page.click(x + 2, y)
    page.wait_for_labels(1, 0)
    page.saved()
    labels = page.get("/api/micrographs/0/labels")
    assert (labels["x"][0], labels["y"][0]) == pytest.approx((x, y), abs=0.02)
    # A label can be dragged, and put back by undo.
    mouse = page.page.mouse
    mouse.move(*page.on_screen(x + 3, y))
    mouse.down()
    mouse.move(*page.on_screen(x + 33, y + 20), steps=5)
    mouse.up()
    page.saved()
    labels = page.get("/api/micrographs/0/labels")
    moved = (labels["x"][0], labels["y"][0])
    assert moved == pytest.approx((x + 30, y + 20), abs=1.5)
    page.press("Control+z")
    page.wait_for_labels(1, 0)
    page.saved()
    labels = page.get("/api/micrographs/0/labels")
    assert (labels["x"][0], labels["y"][0]) == pytest.approx((x, y), abs=0.02)


def test_the_command_for_a_cluster_is_shown_and_copied(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.press("5")
    page.page.locator("#cluster-command").click()
    page.wait_for("#cluster-text", "--cluster slurm")
    text = page.page.locator("#cluster-text").inner_text()
    assert text.startswith("cd ")
    assert f"-o {server.project}/cluster_picks" in text
    assert page.page.evaluate("navigator.clipboard.readText()") == text
    page.picture("cluster_command")


def test_jobs_are_submitted_to_a_cluster_and_shown(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slurm(tmp_path / "bin")
    (tmp_path / "bin" / HOLD).touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text("[cluster]\njobs = 3\n")
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    page.press("5")
    page.page.locator("#cluster-submit").click()
    page.wait_for("#cluster-status", "Resources")
    shown = page.page.locator("#cluster-status").inner_text()
    assert shown.startswith(f"{server.project}/cluster_picks: submitted")
    page.picture("cluster_submit")
    # The scheduler's answer is shown in place of a second submission.
    page.page.locator("#cluster-submit").click()
    page.wait_for("#cluster-text", "have not ended")
    page.page.reload()
    page.page.locator("#list .row").first.wait_for()
    page.press("5")
    page.wait_for("#cluster-status", "Resources")
