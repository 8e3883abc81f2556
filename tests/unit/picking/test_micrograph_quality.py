"""The table of micrographs: its rows, and which of them stand out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from heliodor.data.coordinates.picks import Picks
from heliodor.picking import micrograph_quality
from heliodor.picking.micrograph_quality import (
    COLUMNS,
    EDGES,
    MicrographMeasurements,
    MicrographQuality,
    assess_micrographs,
    write_micrographs,
)
from heliodor.report.report import render_report, render_section
from heliodor.report.sections import build_outlier_section
from helpers.reports import candidate_tables, minimal_report


def of_counts(counts: Sequence[int]) -> tuple[MicrographQuality, ...]:
    return assess_micrographs(candidate_tables([[2.0] * count for count in counts]), 0.0, {})


def outliers_html(rows: Sequence[MicrographQuality]) -> str:
    section = build_outlier_section(minimal_report(quality=rows))
    assert section is not None
    return render_section(section)


def flagged(rows: Sequence[MicrographQuality]) -> list[str]:
    return [row.name for row in rows if row.flags]


def of_shares(shares: Sequence[float | None]) -> tuple[MicrographQuality, ...]:
    measured = {
        f"m{i:02d}.mrc": MicrographMeasurements(share, 0.0) for i, share in enumerate(shares)
    }
    return assess_micrographs(candidate_tables([[2.0] * 20] * len(shares)), 0.0, measured)


def test_a_row_is_what_a_micrograph_has() -> None:
    scores = [5.0, 4.0, 3.0, 1.0, 0.9999, -0.5, -7.0]
    first, empty = assess_micrographs(
        candidate_tables([scores, []]), 1.0, {"m00.mrc": MicrographMeasurements(0.25, -0.5)}
    )
    assert (first.name, first.picks, first.candidates) == ("m00.mrc", 4, 7)
    assert first.quartiles == tuple(np.quantile([5, 4, 3, 1], [0.25, 0.5, 0.75]))
    assert first.histogram == (1, 0, 1, 2, 0, 2, 1, 0)
    assert first.measured == MicrographMeasurements(0.25, -0.5)
    assert (empty.name, empty.picks, empty.candidates) == ("m01.mrc", 0, 0)
    assert empty.quartiles is None
    assert empty.histogram == (0,) * 8
    assert empty.measured == MicrographMeasurements(None, None)


@given(st.lists(st.floats(-20, 20, width=32), max_size=40), st.floats(-6, 6))
def test_every_candidate_is_in_one_bin(scores: list[float], threshold: float) -> None:
    (row,) = assess_micrographs(candidate_tables([scores]), threshold, {})
    assert sum(row.histogram) == row.candidates == len(scores)
    inner, _ = np.histogram(scores, EDGES)
    # NumPy's last bin has its upper edge too.
    inner[-1] -= scores.count(EDGES[-1])
    assert row.histogram[1:-1] == tuple(inner)
    assert row.picks == sum(score >= threshold for score in scores)


def test_too_few_and_too_many_picks() -> None:
    usual = [100, 95, 104, 110, 99, 101, 97, 103, 92, 108]
    assert flagged(of_counts(usual)) == []
    rows = of_counts([*usual, 0, 1, 300])
    assert flagged(rows) == ["m10.mrc", "m11.mrc", "m12.mrc"]
    assert [row.flags for row in rows[-3:]] == [
        ("0 picks (median 100)",),
        ("1 pick (median 100)",),
        ("300 picks (median 100)",),
    ]
    # Of few micrographs nobody knows.
    assert flagged(of_counts([100, 95, 104, 110, 99, 101, 0])) == []


@given(st.lists(st.integers(0, 400), min_size=8, max_size=30))
def test_what_is_unusual_is_told_by_roots_and_medians(counts: list[int]) -> None:
    roots = np.sqrt(counts)
    spread = max(median_abs_deviation(roots, scale="normal"), 0.5)
    away = np.abs(roots - np.median(roots)) / spread
    for far, row in zip(away, of_counts(counts), strict=True):
        if abs(far - 3.5) > 0.01:  # scipy's constant has more digits
            assert bool(row.flags) == (far > 3.5)


def test_counts_that_vary_at_random_are_seldom_unusual() -> None:
    random = np.random.default_rng(0)
    for mean in (2, 20, 200):
        assert len(flagged(of_counts(random.poisson(mean, 2000).tolist()))) <= 12


def test_unlike_training_by_a_limit_of_the_set() -> None:
    assert flagged(of_shares([0.0] * 9 + [0.14])) == []
    rows = of_shares([0.0, 0.01, 0.0, 0.02, 0.0, 0.03, 0.01, 0.0, 0.16, None])
    assert flagged(rows) == ["m08.mrc"]
    assert rows[8].flags == ("16% of it looks unlike the training micrographs",)
    # Where many have carbon, more of it is usual.
    carbon = [0.0, 0.1, 0.2, 0.3, 0.1, 0.2, 0.25, 0.15, 0.05, 0.3]
    assert flagged(of_shares(carbon)) == []
    assert flagged(of_shares([*carbon, 0.9])) == ["m10.mrc"]
    # Few micrographs are judged too.
    assert flagged(of_shares([0.0, 0.01, 0.6])) == ["m02.mrc"]
    assert flagged(of_shares([0.6])) == []


def test_a_set_that_is_all_unlike_training_is_told_as_such() -> None:
    rows = of_shares([0.9, 1.0, 1.0, 0.95])
    assert flagged(rows) == []
    warning = micrograph_quality.describe_mismatch(rows)
    assert warning is not None
    assert warning.startswith("98% of the median micrograph looks unlike those")
    assert micrograph_quality.describe_mismatch(of_shares([0.0, 1.0, 0.1])) is None
    assert micrograph_quality.describe_mismatch(of_shares([None, None])) is None
    assert micrograph_quality.describe_mismatch(()) is None


def test_scores_unlike_the_others() -> None:
    random = np.random.default_rng(1)
    usual = [(random.normal(3 + shift, 1, 80)).tolist() for shift in random.normal(0, 0.2, 12)]
    assert flagged(assess_micrographs(candidate_tables(usual), -9, {})) == []
    rows = assess_micrographs(
        candidate_tables([*usual, random.normal(0.5, 1, 80).tolist()]), -9, {}
    )
    assert flagged(rows) == ["m12.mrc"]
    assert rows[-1].flags[0].startswith("median score of its picks 0.")
    better = random.normal(6, 1, 80).tolist()
    assert flagged(assess_micrographs(candidate_tables([*usual, better]), -9, {})) == []
    # The median of six picks is uncertain, that of four is none.
    wide = [-3.0, 0.0, 0.5, 1.0, 4.0, 5.0]
    assert flagged(assess_micrographs(candidate_tables([*usual, wide]), -9, {})) == ["m12.mrc"]
    assert assess_micrographs(candidate_tables([*usual, wide]), -9, {})[-1].flags == (
        "6 picks (median 80)",
    )
    few = assess_micrographs(candidate_tables([*usual, [-8.0] * 4]), -9, {})
    assert few[-1].flags == ("4 picks (median 80)",)


def test_scores_are_compared_without_the_offsets_of_thresholds() -> None:
    usual = [[2.0 + 0.01 * n + 0.1 * i for n in range(40)] for i in range(12)]
    lowered = [score - 5 for score in usual[0]]
    tables = candidate_tables([*usual, lowered])
    assert flagged(assess_micrographs(tables, -9, {})) == ["m12.mrc"]
    assert flagged(assess_micrographs(tables, -9, {}, offsets={"m12.mrc": 5.0})) == []


def test_scores_that_had_to_be_moved_far() -> None:
    moved = [0.0, 0.05, -0.05, 0.1, -0.1, 0.02, 0.0, 0.01, 1.0, -0.8]
    measured = {
        f"m{i:02d}.mrc": MicrographMeasurements(None, shift) for i, shift in enumerate(moved)
    }
    rows = assess_micrographs(candidate_tables([[2.0] * 20] * 10), 0.0, measured)
    assert [row.flags for row in rows[-2:]] == [
        ("its scores were leveled by +1.0 (usually +0.0)",),
        ("its scores were leveled by -0.8 (usually +0.0)",),
    ]
    assert flagged(rows) == ["m08.mrc", "m09.mrc"]


def test_the_table_on_disk(tmp_path: Path) -> None:
    measured = {
        "m00.mrc": MicrographMeasurements(0.0, -0.0),
        "m01.mrc": MicrographMeasurements(0.12345, 1.0, 0.25),
    }
    rows = assess_micrographs(candidate_tables([[1.23456, 0.5], [], [7.0] * 3]), 0.0, measured)
    write_micrographs(tmp_path / "micrographs.tsv", rows)
    lines = (tmp_path / "micrographs.tsv").read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert lines[1:] == [
        "m00.mrc\t2\t2\t\t0.684\t0.867\t1.051\t0.000\t0.000\t\t0,0,0,2,0,0,0,0\t",
        "m01.mrc\t0\t0\t\t\t\t\t1.000\t0.123\t0.250\t0,0,0,0,0,0,0,0\t",
        "m02.mrc\t3\t3\t\t7.000\t7.000\t7.000\t\t\t\t0,0,0,0,0,0,0,3\t",
    ]
    odd = Picks.on('a\t"b"\nc.mrc', np.zeros((1, 2)), np.zeros(1))
    write_micrographs(tmp_path / "odd.tsv", assess_micrographs(odd.split_by_micrograph(), 0.0, {}))
    with (tmp_path / "odd.tsv").open(newline="") as stream:
        read = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["micrograph"] for row in read] == ['a\t"b"\nc.mrc']


def test_what_is_said() -> None:
    usual = [100, 95, 104, 110, 99, 101, 97, 103, 92, 108]
    assert micrograph_quality.describe_outliers(of_counts(usual)) is None
    one = micrograph_quality.describe_outliers(of_counts([*usual, 0]))
    assert one == "1 of 11 micrographs is an outlier; see micrographs.tsv"
    two = micrograph_quality.describe_outliers(of_counts([*usual, 0, 500]))
    assert two == "2 of 12 micrographs are outliers; see micrographs.tsv"


def test_the_section_lists_those_that_stand_out_worst_first() -> None:
    assert build_outlier_section(minimal_report()) is None
    assert build_outlier_section(minimal_report(quality=of_counts([100] * 10))) is None
    counts = [100, 95, 104, 110, 99, 101, 97, 103, 92, 0, 400]
    measured = {
        "m10.mrc": MicrographMeasurements(0.8, None),
        "m09.mrc": MicrographMeasurements(0.0, None),
    }
    rows = assess_micrographs(candidate_tables([[2.0] * count for count in counts]), 0.0, measured)
    html = outliers_html(rows)
    assert "Outlier micrographs (2 of 11)" in html
    assert html.index("m10.mrc") < html.index("m09.mrc")
    assert "80% of it looks unlike the training micrographs" in html
    assert "m00.mrc" not in html
    assert html.count("data:image/svg+xml") == 1
    assert outliers_html(rows) == html
    assert html in render_report(minimal_report(quality=rows))
    assert "Outlier micrographs (" not in render_report(minimal_report(quality=rows[:3]))


def test_a_long_list_is_cut() -> None:
    rows = of_counts([100] * 600 + [0] * 250)
    html = outliers_html(rows)
    assert "The first 200 of 250" in html
    assert html.count("<tr>") == 201
