from __future__ import annotations

from pathlib import Path

import pytest

from helpers.topaz_cli import (
    PICKS,
    good,
    refused,
)

TARGETS = "image_name\tx_coord\ty_coord\nb\t12\t20\na\t35\t42\na\t90\t90\nc\t5\t5\n"
#: Topaz 0.3.20's table for these files; of its first line only the average precision.
CURVE = """threshold precision recall f1
4.0 0.0 0.0 0.0
1.5 0.5 0.25 0.3333333333333333
0.125 0.3333333333333333 0.25 0.28571428571428575
-2.25 0.5 0.5 0.5"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text(PICKS)
    Path("t.txt").write_text(TARGETS)


def _run(options: str = "") -> tuple[str, list[str], list[list[float]]]:
    out = good(f"topaz precision_recall_curve --predicted p.txt --targets t.txt -r 3 {options}")
    first, header, *rows = out.out.splitlines()
    return first, header.split("\t"), [[float(v) for v in row.split("\t")] for row in rows]


@pytest.mark.parametrize("options", ["", "--images union"])
def test_the_table_that_topaz_writes(options: str) -> None:
    first, header, rows = _run(options)
    title, *lines = CURVE.splitlines()
    assert header == title.split(" ")
    expected = [[float(value) for value in line.split(" ")] for line in lines]
    assert rows == [pytest.approx(row) for row in expected]
    # The distances of the two pairs are the square root of 5 and 2.
    assert first == f"# auprc=0.25, mae={(5**0.5 + 2) / 2!r}"


def test_only_micrographs_with_picks() -> None:
    rows = _run("--images predicted")[2]
    assert [row[2] for row in rows] == [0, pytest.approx(1 / 3), pytest.approx(1 / 3), 2 / 3]


def test_names_may_have_suffixes_on_one_side() -> None:
    Path("t.txt").write_text(TARGETS.replace("a\t", "a.mrc\t").replace("b\t", "b.tiff\t"))
    assert _run()[0].startswith("# auprc=0.25,")


@pytest.mark.parametrize(
    ("predicted", "targets", "word"),
    [
        ("p.txt", "other.txt", "no micrograph in common"),
        ("t.txt", "t.txt", "without scores"),
        ("none.txt", "t.txt", "cannot be read"),
    ],
)
def test_what_is_refused(predicted: str, targets: str, word: str) -> None:
    Path("other.txt").write_text(TARGETS.replace("a\t", "x\t").replace("b\t", "y\t"))
    line = f"topaz precision_recall_curve --predicted {predicted} --targets {targets} -r 3"
    assert word in refused(line)


def test_both_files_are_needed() -> None:
    assert "are needed" in refused("topaz precision_recall_curve --predicted p.txt -r 3")
