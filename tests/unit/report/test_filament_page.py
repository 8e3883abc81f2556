from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image as Pillow

from heliodor.report.filament_page import (
    FilamentItem,
    FilamentReport,
    draw_filaments,
    render_filament_page,
)

ITEM = FilamentItem(
    "a <b>.mrc",
    np.random.default_rng(1).standard_normal((80, 120)).astype(np.float32),
    5.0,
    [np.array([[10.0, 10.0], [110.0, 60.0]])],
)
CONTENT = FilamentReport(
    title="2 filaments on 1 micrograph",
    command="heliodor pick a.mrc --filaments",
    warnings=["look at it"],
    skipped=[("bad.mrc", "it is damaged")],
    settings=[("Width", "70 Å")],
    key_figures=[("Filaments", "2")],
    width_angstrom=70.0,
    lengths_angstrom=np.array([1000.0, 3000.0]),
    straightness=np.array([0.9, 1.0]),
    scores=np.array([3.0, 2.0, -1.0]),
    threshold=0.5,
    profile=np.cos(np.linspace(-3, 3, 49)),
    profile_positions=np.linspace(-1.5, 1.5, 49),
    micrographs=[("a <b>.mrc", 2, 4000.0)],
    gallery=[ITEM],
)


def test_the_page_has_everything_and_is_always_the_same() -> None:
    page = render_filament_page(CONTENT)
    assert page == render_filament_page(CONTENT)
    for text in ("bad.mrc", "it is damaged", "look at it", "70 Å", "200 nm", "0.950", "400"):
        assert text in page, text
    assert "<b>" not in page
    assert page.count("data:image/svg+xml") == 4


def test_nothing_found_has_a_page_too() -> None:
    nothing = np.zeros(0)
    empty = replace(
        CONTENT, lengths_angstrom=nothing, straightness=nothing, scores=nothing, gallery=[],
        micrographs=[("a.mrc", 0, 0.0)], profile=np.full(49, np.nan), skipped=[],
    )  # fmt: skip
    page = render_filament_page(empty)
    assert "There are no filaments" in page
    assert "Skipped" not in page


def test_axes_are_drawn_where_they_are() -> None:
    picture = Pillow.open(io.BytesIO(draw_filaments(ITEM, 70.0))).convert("RGB")
    assert picture.size == (1000, 667)
    pixels = np.asarray(picture).astype(int)
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 120)
    rows, columns = np.nonzero(blue)
    x, y = (columns + 0.5) * 120 / 1000 - 0.5, (rows + 0.5) * 120 / 1000 - 0.5
    np.testing.assert_allclose(y, 10 + 0.5 * (x - 10), atol=1.0)
    assert x.min() < 12
    assert x.max() > 108
