"""The figure of accuracy against the number of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.accuracy.labels import draw, gather
from benchmarks.accuracy.real_data_cases import Case
from PIL import Image


def test_medians_and_extremes_of_the_draws() -> None:
    results = {
        Case("trpv1", "test", labels, number): {"ap": ap}
        for labels, aps in ((30, (0.7, 0.75, 0.71)), (0, (0.6,)), (200, (0.8, 0.78)))
        for number, ap in enumerate(aps)
    }
    other = {Case("betagal", "test", 30, 0): {"ap": 0.1}}
    rows = gather(results | other, "trpv1", "ap")
    assert [n for n, *_ in rows] == [0, 30, 200]
    assert np.allclose([r[1:] for r in rows], [(0.6,) * 3, (0.71, 0.7, 0.75), (0.79, 0.78, 0.8)])


def test_the_figure_has_a_panel_for_each_set_and_measure(tmp_path: Path) -> None:
    own = {
        Case(name, "test", labels, 0): {"ap": 0.7 + labels / 1000, "best_f1": 0.7}
        for name in ("betagal", "trpv1")
        for labels in (0, 30, 200)
    }
    its = {Case("trpv1", "test", 200, 0): {"ap": 0.8, "best_f1": 0.7}}
    draw(own, its, tmp_path / "two.png")
    draw({c: r for c, r in own.items() if c.name == "trpv1"}, {}, tmp_path / "one.png")
    two, one = (
        np.asarray(Image.open(tmp_path / f"{n}.png").convert("RGB")) for n in ("two", "one")
    )
    assert two.shape[1] > 1.6 * one.shape[1]
    rust = (np.abs(two.astype(int) - (184, 80, 26)).sum(axis=2) < 30).any()
    assert rust  # Topaz
    assert not (np.abs(one.astype(int) - (184, 80, 26)).sum(axis=2) < 30).any()
