"""Contamination in the report and the tables."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.micrograph_quality import MicrographMeasurements, assess_micrographs
from heliodor.report import report
from heliodor.report.gallery import draw_micrograph
from helpers.contamination import Mask
from helpers.reports import candidate_tables, gallery_item, minimal_report


def test_refused_micrographs_are_not_compared() -> None:
    counts = [100, 95, 104, 110, 99, 101, 97, 103, 0]
    tables = candidate_tables([[2.0] * count for count in counts])
    measured = {
        f"m{i:02d}.mrc": MicrographMeasurements(0.0, 0.0, 0.9 if i == 8 else 0.0) for i in range(9)
    }
    rows = assess_micrographs(tables, 0.0, measured, {"m08.mrc"})
    assert [row.flags for row in rows] == [()] * 8 + [("no picks: 90% of it is contamination",)]
    assert [row.refused for row in rows] == [False] * 8 + [True]
    assert assess_micrographs(tables, 0.0, measured)[8].flags == ("0 picks (median 100)",)


RED = (255, 82, 82)


def red(content: bytes) -> Mask:
    pixels = np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB"))
    return np.asarray((pixels == RED).all(axis=-1))


def test_bad_areas_are_outlined_in_pictures() -> None:
    mask = np.zeros((15, 20), np.bool_)
    mask[3:9, 5:12] = True
    areas = ContaminationMask(mask, 20.0, 0.14)
    shown = gallery_item(contamination=areas)  # 60 x 80 pixels of 5 A
    drawn = red(draw_micrograph(shown, 50.0))[:750]  # without the legend
    assert drawn.any()
    scale = 1000 / 80
    rows, columns = np.nonzero(drawn)
    # A lattice point is every fourth pixel: the outline passes halfway between two.
    expected = [(4.5 * 4 + 0.5) * scale, (11.5 * 4 + 0.5) * scale]
    assert abs(columns.min() - expected[0]) <= 4
    assert abs(columns.max() - expected[1]) <= 4
    assert abs(rows.min() - (2.5 * 4 + 0.5) * scale) <= 4
    assert abs(rows.max() - (8.5 * 4 + 0.5) * scale) <= 4
    middle = drawn[
        int(3.5 * 4 * scale) : int(8 * 4 * scale), int(6 * 4 * scale) : int(11 * 4 * scale)
    ]
    assert not middle.any()
    for uniform in (np.zeros_like(mask), np.ones_like(mask)):
        assert not red(
            draw_micrograph(
                gallery_item(contamination=ContaminationMask(uniform, 20.0, 1.0)), 50.0
            )
        )[:750].any()
    assert not red(draw_micrograph(gallery_item(), 50.0)).any()


def test_the_report_says_how_much_is_bad() -> None:
    areas = ContaminationMask(np.eye(4, dtype=np.bool_), 100.0, 0.25)
    measured = {
        "m00.mrc": MicrographMeasurements(0.0, 0.0, 0.25),
        "m01.mrc": MicrographMeasurements(0.0, 0.0, 0.75),
    }
    rows = assess_micrographs(candidate_tables([[2.0] * 5, []]), 0.0, measured, {"m01.mrc"})
    content = minimal_report(
        gallery=[gallery_item(contamination=areas)],
        quality=rows,
        picks_per_micrograph=[(row.name, row.picks) for row in rows],
    )
    page = report.render_report(content)
    assert "25% contamination" in page
    assert "outlined in red" in page
    assert "median 50%, at most 75%" in page
    assert '<td>m00.mrc</td><td class="number">25.0%</td><td class="number">5</td>' in page
    assert "no picks: 75% of it is contamination" in page
    plainly = report.render_report(
        minimal_report(
            gallery=[gallery_item()], picks_per_micrograph=[("m00.mrc", 5), ("m01.mrc", 0)]
        )
    )
    assert "contamination" not in plainly.lower()
