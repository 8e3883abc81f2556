"""A user draws, traces, rejects, trains and exports filaments in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import starfile

from browser.conftest import OpenPage, Serve
from browser.page import PATIENCE, PageInUse
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.star import write_blocks
from heliodor.picking.user_masks import read_mask
from helpers.filament_network import PIXEL, SHAPE, WIDTH_ANGSTROM, axes_of, write_micrographs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where on screen a position is while the whole micrograph is shown."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    height, width = SHAPE
    zoom = min(box["width"] / width, box["height"] / height)
    return (
        box["x"] + box["width"] / 2 + (x - width / 2 + 0.5) * zoom,
        box["y"] + box["height"] / 2 + (y - height / 2 + 0.5) * zoom,
    )


def click(page: Page, x: float, y: float, pause: float = 450) -> None:
    """Click a position, not so soon that it is a double click."""
    page.mouse.click(*on_screen(page, x, y))
    page.wait_for_timeout(pause)


def expect(used: PageInUse, name: str, value: int) -> None:
    """Wait until a number is shown, and all is saved."""
    used.page.wait_for_function(
        "([name, value]) => document.getElementById(name).textContent === String(value)"
        " && document.getElementById('saving').textContent !== 'Saving…'",
        arg=[f"{name}-count", value],
        timeout=10_000,
    )


def test_filaments_are_drawn_traced_rejected_trained_and_exported(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = write_micrographs(tmp_path / "mics", 2)
    server = serve(folder, "--filaments", "--width", WIDTH_ANGSTROM, "--threads", 1)
    used = open_page(server.url)
    page, labels = used.page, server.project / "filament_labels.star"
    first = axes_of(2)[0]

    # Drawn with three clicks and a double click.
    for x, y in first[[0, 3, 6]]:
        click(page, x, y)
    page.mouse.dblclick(*on_screen(page, *first[8]))
    expect(used, "label", 1)
    (drawn,) = read_filaments(labels)
    np.testing.assert_allclose(drawn.axis_px, first[[0, 3, 6, 8]], atol=1.0)
    assert drawn.width_angstrom == WIDTH_ANGSTROM

    # A point is dragged, which can be undone and redone.
    page.mouse.move(*on_screen(page, *first[3]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, first[3, 0], first[3, 1] + 8), steps=4)
    page.mouse.up()
    page.wait_for_timeout(300)
    (moved,) = read_filaments(labels)
    np.testing.assert_allclose(moved.axis_px[1], first[3] + [0, 8], atol=1.0)
    page.keyboard.press("Control+z")
    page.wait_for_timeout(300)
    np.testing.assert_array_equal(read_filaments(labels).filaments[0].axis_px, drawn.axis_px)

    # One ended by Enter is removed by Delete; one that is not wanted, forgotten by Escape.
    for x, y in ((40, 120), (250, 120)):
        click(page, x, y)
    page.keyboard.press("Enter")
    expect(used, "label", 2)
    used.picture("filaments-drawn")
    page.keyboard.press("Delete")
    expect(used, "label", 1)
    click(page, 40, 120)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(used, "label", 1)

    # What cannot be saved is saved later.
    page.context.set_offline(True)
    for x, y in ((40, 120), (250, 120)):
        click(page, x, y)
    page.keyboard.press("Enter")
    used.wait_for("#saving", "Not saved", 10_000)
    assert len(read_filaments(labels)) == 1
    page.context.set_offline(False)
    used.saved()
    assert len(read_filaments(labels)) == 2
    page.keyboard.press("Control+z")
    expect(used, "label", 1)

    # Traced by the general filament model; the one that was drawn is not shown twice.
    page.click("#trace")
    used.wait_for("#job", "traced on 2 micrographs")
    expect(used, "traced", 1)
    second = axes_of(2)[1]
    click(page, *second[4])
    expect(used, "rejected", 1)
    expect(used, "traced", 0)
    used.picture("filaments-rejected")
    assert len(read_filaments(server.project / "rejected_filaments.star")) == 1

    # Exported: segments of the drawn one, and of those of the other micrograph.
    page.fill("#segments", "20")
    page.click("#export")
    used.wait_for("#exported", "4 filaments")
    segments = starfile.read(server.project / "export/segments.star")["particles"]
    assert segments.groupby("rlnMicrographName")["rlnHelicalTubeID"].nunique().tolist() == [1, 3]
    page.select_option("#export-format", "box")
    page.click("#export")
    used.wait_for("#exported", "export/box")
    assert len([*(server.project / "export/box").glob("*.box")]) == 2

    # Kept again by another click.
    click(page, *second[4])
    expect(used, "rejected", 0)
    expect(used, "traced", 1)

    # Trained with the one that was drawn, and traced with that model.
    page.click("#train")
    used.wait_for("#job", "Model 1 is trained", PATIENCE)
    assert (server.project / "models/0001.safetensors").is_file()
    page.click("#trace")
    used.wait_for("#job", "traced on 2 micrographs")
    assert "models/0001.safetensors" in (server.project / "run.log").read_text()
    page.keyboard.press("n")
    used.wait_for("#micrograph-name", "mic_2.mrc")
    used.picture("filaments-traced")
    server.stop()

    # Opened again, it has all of that; with a read-only link nothing can be changed.
    again = serve(project=server.project)
    used = open_page(again.url)
    expect(used, "label", 1)
    assert "Model 1" in used.text("#model")
    used.page.click("#share-button")
    used.page.wait_for_function("document.getElementById('share-link').value !== ''")
    link = used.page.input_value("#share-link")
    reader = open_page(link)
    expect(reader, "label", 1)
    for x, y in ((40, 120), (250, 120), second[4]):
        click(reader.page, x, y)
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_timeout(300)
    assert reader.number("#label-count") == 1
    assert reader.number("#rejected-count") == 0
    assert not reader.page.locator("#train").is_visible()
    reader.picture("filaments-read-only")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Return a list of three micrographs with what a CTF estimation found."""
    folder = write_micrographs(tmp_path / "mics", 3)
    star = tmp_path / "micrographs_ctf.star"
    columns = {
        "rlnMicrographName": [str(folder / f"mic_{n}.mrc") for n in (1, 2, 3)],
        "rlnMicrographPixelSize": [PIXEL] * 3,
        "rlnDefocusU": [12000.0, 31000.0, 18000.0],
        "rlnDefocusV": [11900.0, 30900.0, 17900.0],
        "rlnDefocusAngle": [10.0, 20.0, 30.0],
        "rlnVoltage": [300.0] * 3,
        "rlnSphericalAberration": [2.7] * 3,
        "rlnAmplitudeContrast": [0.1] * 3,
        "rlnCtfMaxResolution": [4.0, 9.0, 5.0],
    }
    write_blocks(star, {"micrographs": columns})
    return star


def cells(page: Page, column: str) -> list[str]:
    """Return the cells of a column of the table from top to bottom."""
    page.wait_for_timeout(150)
    found = page.evaluate(
        """(column) => [...document.querySelectorAll(".table-row:not([hidden])")]
          .map((row) => [row.getBoundingClientRect().top, row.querySelector("." + column)])
          .map(([top, cell]) => [top, cell.textContent])""",
        column,
    )
    return [text for _, text in sorted(found)]


def test_what_is_excluded_in_the_table_or_rejected_is_in_no_export(
    listed: Path, serve: Serve, open_page: OpenPage
) -> None:
    server = serve(listed, "--filaments", "--width", WIDTH_ANGSTROM, "--threads", 1)
    used = open_page(server.url)
    page = used.page
    page.click("#trace")
    used.wait_for("#job", "9 filaments traced on 3 micrographs:")

    # The power spectrum, by its key, with the rings of the CTF.
    used.press("w")
    used.wait_for("#spectrum-message", "Defocus 1.20 µm", 10_000)
    assert page.locator("#spectrum-rings").is_enabled()
    used.picture("filaments-spectrum")
    used.press("w")

    # The table, by its key: sorted, filtered, with a note, and left again.
    used.press("m")
    used.wait_for("#table-count", "3 micrographs", 5000)
    page.wait_for_function("() => document.querySelectorAll('#table-head .cell').length > 9")
    assert cells(page, "traced") == ["2", "3", "4"]
    assert all(float(text) > 0.1 for text in cells(page, "length"))
    page.locator("#table-head .defocus button").click()
    assert cells(page, "name") == ["mic_2", "mic_3", "mic_1"]
    used.picture("filaments-table")
    page.locator("#table-rows").focus()
    used.press("Home")
    used.wait_for("#table-current", "mic_2", 5000)
    page.fill("#table-note", "thick ice")
    page.locator("#table-rows").focus()
    assert cells(page, "note") == ["thick ice", "", ""]
    page.fill("#table-filter", "CTF resolution > 8")
    used.wait_for("#table-count", "1 of 3 micrographs", 5000)
    page.click("#table-exclude")
    used.wait_for("#table-count", "1 of 3 micrographs, 1 excluded", 5000)
    page.fill("#table-filter", "traced > 100")
    used.wait_for("#table-count", "0 of 3 micrographs", 5000)
    page.fill("#table-filter", "")
    page.locator("#table-rows").focus()
    used.press("Enter")
    assert not page.locator("#table").is_visible()
    used.wait_for("#list-count", "3 micrographs, 1 excluded", 5000)
    used.wait_for("#job", "6 filaments traced on 2 micrographs, without 1 excluded", 5000)
    assert page.get_attribute("#exclude", "aria-pressed") == "true"

    # It can be undone, and done with the key as well.
    used.press("Control+z")
    used.wait_for("#job", "9 filaments traced on 3 micrographs:", 5000)
    used.press("x")
    used.wait_for("#job", "6 filaments traced on 2 micrographs", 5000)

    # One of the two filaments of the first micrograph is rejected.
    used.press("p")
    used.wait_for("#micrograph-name", "mic_1.mrc", 5000)
    used.wait_for("#traced-count", "2", 5000)
    rejected = axes_of(2)[1]
    click(page, *rejected[4])
    expect(used, "rejected", 1)
    used.wait_for("#job", "5 filaments traced", 5000)
    used.picture("filaments-excluded")
    for form in ("filaments", "start-end"):
        page.select_option("#export-format", form)
        page.click("#export")
        used.wait_for("#exported", "5 filaments on 2 micrographs")
    exported = read_filaments(server.project / "export/filaments.star")
    assert [Path(name).name for name in exported.micrographs] == ["mic_1.mrc", "mic_3.mrc"]
    (left,) = (one for one in exported if one.micrograph == exported.micrographs[0])
    assert abs(left.axis_px[:, 1].mean() - axes_of(2)[0][:, 1].mean()) < 5

    # Traced again, the excluded one is left out, and the rejected one does not come back.
    page.click("#trace")
    page.wait_for_function("() => document.getElementById('cancel').hidden === false")
    used.wait_for("#job", "5 filaments traced on 2 micrographs")
    again = read_filaments(server.project / "traced/filaments.star")
    assert len(again) == 6
    page.select_option("#export-format", "filaments")
    page.click("#export")
    used.wait_for("#exported", "5 filaments on 2 micrographs")
    assert len(read_filaments(server.project / "export/filaments.star")) == 5

    # The command for a cluster leaves out the same micrograph; none is configured here.
    page.fill("#threshold", "0.5")
    page.click("#cluster-command")
    used.wait_for("#cluster-text", "--cluster slurm --width", 5000)
    assert "--threshold=0.5" in used.text("#cluster-text")
    (left_out,) = (server.project / "cluster_picks/excluded.txt").read_text().splitlines()
    assert Path(left_out).name == "mic_2.mrc"
    assert not page.locator("#cluster-submit").is_visible()
    used.picture("filaments-cluster")


def test_what_is_painted_ends_filaments_and_can_be_undone(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = write_micrographs(tmp_path / "mics", 1)
    server = serve(folder, "--filaments", "--width", WIDTH_ANGSTROM, "--threads", 1)
    used = open_page(server.url)
    page = used.page
    first = axes_of(2)[0]

    def reach() -> float:
        found = read_filaments(server.project / "traced/filaments.star")
        return float(min(one.axis_px[:, 0].min() for one in found))

    # Before anything was traced, it is not known what is detected.
    used.press("g")
    assert page.get_attribute("#brush-paint", "aria-pressed") == "true"
    page.mouse.click(*on_screen(page, *first[0]))
    used.wait_for("#toast", "once this micrograph has been traced", 5000)
    used.press("Escape")
    page.click("#trace")
    used.wait_for("#job", "2 filaments traced on 1 micrograph:")
    used.wait_for("#contamination-share", "None found on this micrograph", 5000)
    assert reach() < 50

    # A broad stroke over the left ends of both filaments.
    used.press("g")
    page.locator("#brush-size").fill("60")
    page.mouse.move(*on_screen(page, 40, 30))
    page.mouse.down()
    page.mouse.move(*on_screen(page, 40, 230), steps=12)
    page.mouse.up()
    used.wait_for("#contamination-share", "as you edited it. Nothing is traced there.", 5000)
    used.wait_for("#list-count", "1 micrograph", 5000)
    masks = [*(server.project / "masks").rglob("*.png")]
    assert len(masks) == 1
    assert 0.05 < read_mask(masks[0])[0].mean() < 0.5
    used.picture("filaments-contamination")
    used.press("Escape")
    page.click("#trace")
    page.wait_for_function("() => document.getElementById('cancel').hidden === false")
    used.wait_for("#job", "2 filaments traced on 1 micrograph:")
    assert reach() > 60
    used.press("m")
    page.wait_for_function("() => document.querySelectorAll('#table-head .contamination').length")
    assert float(cells(page, "contamination")[0]) > 5
    used.press("Escape")

    # Ignored, filaments are traced as elsewhere; all of it can be undone.
    page.check("#ignore-contamination")
    page.wait_for_timeout(500)
    page.click("#trace")
    page.wait_for_function("() => document.getElementById('cancel').hidden === false")
    used.wait_for("#job", "2 filaments traced on 1 micrograph:")
    assert reach() < 50
    page.locator("#stage").focus()
    used.press("Control+z", "Control+z")
    used.wait_for("#contamination-share", "None found on this micrograph", 5000)
    page.wait_for_timeout(300)
    assert not [*(server.project / "masks").rglob("*.png")]
    used.press("Control+y")
    used.wait_for("#contamination-share", "as you edited it", 5000)

    # A traced filament is rejected, and kept again, by keys alone.
    used.press("j", "r")
    expect(used, "rejected", 1)
    expect(used, "traced", 1)
    used.picture("filaments-pointed-at")
    used.press("r")
    expect(used, "rejected", 0)
    used.press("k", "r")
    expect(used, "rejected", 1)
