"""Text tables of Topaz and heliodor, and CSV files."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats import tables as text
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from helpers.coordinate_files import example, ours, same, save, tables


@given(tables())
def test_text_round_trip(tmp_path_factory, picks):
    path = tmp_path_factory.getbasetemp() / "round.tsv"
    picks = Picks.concatenate(own for _, own in picks.split_by_micrograph())
    ours(path, picks)
    same(read_picks(path, candidates=True), picks)
    same(read_picks(path), picks.select(np.flatnonzero(picks.score >= 0)))


def test_what_our_table_looks_like(tmp_path: Path):
    ours(tmp_path / "picks.tsv", example())
    assert (tmp_path / "picks.tsv").read_text().splitlines() == [
        "micrograph\tx_px\ty_px\tlog_odds\tprobability\tselected\tpixel_size_angstrom",
        "M/a.mrc\t1.500\t2.250\t-1.500000\t0.182426\t0\t1.5",
        "M/a.mrc\t100.000\t200.000\t0.250000\t0.562177\t1\t1.5",
        "M/c.mrc\t3.000\t4.000\t7.000000\t0.999089\t1\t1.5",
    ]


def test_topaz_tables(tmp_path: Path):
    path = save(
        tmp_path / "a.txt",
        "image_name\tx_coord\ty_coord\tscore\n000012\t10\t20\t-1.5\ndata_1\t1e2\t3.5\tnan\n",
    )
    picks = read_picks(path)
    assert picks.names() == ["000012", "data_1"]
    np.testing.assert_array_equal(picks.xy_px, [[10, 20], [100, 3.5]])
    np.testing.assert_array_equal(picks.score, [-1.5, np.nan])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_quotes(tmp_path: Path, mark, end):
    rows = [
        '"Image_Name","X_Coord" ,"Y_coord","note"',
        '"a, b.mrc",1,2,"say ""hi"""',
        "",
        "ü,3,4,",
    ]
    path = save(tmp_path / "a.csv", mark + end.join([*rows, ""]))
    picks = read_picks(path)
    assert picks.names() == ["a, b.mrc", "ü"]
    np.testing.assert_array_equal(picks.xy_px, [[1, 2], [3, 4]])
    assert picks.extra["note"].tolist() == ['say "hi"', ""]
    assert np.isnan(picks.score).all()


@pytest.mark.parametrize("rows", ["1,2\n", ""])
def test_a_table_without_names_is_of_its_files_micrograph(tmp_path: Path, rows):
    picks = read_picks(save(tmp_path / "mic.001_picks.csv", "x,y\n" + rows))
    assert picks.micrographs == ("mic.001",)
    assert len(picks) == rows.count("\n")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,1", "line 3, has 2 columns where the header has 3"),
        ("a,1,2,3", "line 3, has 4 columns"),
        ("a,one,2", "line 3, has 'one'"),
        ("a,1,", "line 3, has ''"),
        ("a,1,nan", "line 3, has 'nan'"),
        ("a,1,inf", "line 3, has 'inf'"),
        (" ,1,2", "line 3, names no micrograph"),
        (b"\xe4,1,2", "save it as UTF-8"),
    ],
)
def test_tables_with_a_bad_row(tmp_path: Path, row, words):
    row = row.encode() if isinstance(row, str) else row
    path = save(tmp_path / "a.csv", b"image_name,x_coord,y_coord\na,1,2\n" + row + b"\na,3,4\n")
    with pytest.raises(BadInput, match=words):
        read_picks(path)


@pytest.mark.slow
def test_a_large_table_takes_little_memory(tmp_path: Path):
    n = 20_000
    picks = Picks.from_columns([f"M/{i // 5000}.mrc" for i in range(n)], np.ones((n, 2)))
    ours(tmp_path / "picks.tsv", replace(picks, score=np.linspace(9, -6, n)))
    text.read_picks(tmp_path / "picks.tsv")
    tracemalloc.start()
    try:
        assert len(text.read_picks(tmp_path / "picks.tsv")) == n
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * n  # bytes a row; as lists of cells it is several hundred


def test_a_score_in_a_table_may_be_unknown(tmp_path: Path):
    path = save(tmp_path / "a.csv", "name,x,y,score\na,1,2,n/a\na,3,4,\na,5,6,-1.5\n")
    np.testing.assert_array_equal(read_picks(path).score, [np.nan, np.nan, -1.5])


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch):
    path = save(tmp_path / "a.csv", "x,y\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match=r"a\.csv cannot be read \(Permission denied\)"):
        read_picks(path)


def test_the_text_reader_alone(tmp_path: Path):
    for contents in ("", "a,b\n1,2\n"):
        with pytest.raises(BadInput, match="no header with x and y"):
            text.read_picks(save(tmp_path / "a.csv", contents))
    with pytest.raises(BadInput, match="cannot be read"):
        text.read_picks(tmp_path / "none.csv")


def test_tables_that_were_written_one_behind_another(tmp_path: Path):
    text = "image_name\tx_coord\ty_coord\na\t1\t2\n" + "image_name\tx_coord\ty_coord\nb\t3\t4\n"
    picks = read_picks(save(tmp_path / "all.txt", text))
    assert picks.names() == ["a", "b"]
    assert picks.xy_px.tolist() == [[1, 2], [3, 4]]
    other = text.replace("image_name\tx_coord\ty_coord\nb", "image_name\ty_coord\tx_coord\nb")
    with pytest.raises(BadInput, match="line 3, has 'y_coord'"):
        read_picks(save(tmp_path / "other.txt", other))
