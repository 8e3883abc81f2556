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
from helpers.filament_network import SHAPE, WIDTH_ANGSTROM, axes_of, write_micrographs

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
