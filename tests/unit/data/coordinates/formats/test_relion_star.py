"""STAR files with one row per particle."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings

from heliodor.data import star as blocks
from heliodor.data.coordinates.formats import read_picks, relion_autopick, relion_star
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs import star_list
from heliodor.errors import BadInput
from helpers.coordinate_files import BLOCK, NAMED, example, same, save, tables, write_list


@settings(max_examples=40)
@given(tables())
def test_star_round_trip(tmp_path_factory, picks):
    path = tmp_path_factory.getbasetemp() / "round.star"
    relion_star.write_picks(path, picks)
    same(relion_star.read_picks(path), picks)
    same(read_picks(path), picks)


def test_starfile_reads_what_we_write(tmp_path: Path):
    relion_star.write_picks(tmp_path / "a.star", example())
    table = starfile.read(tmp_path / "a.star")
    assert table["rlnMicrographName"].tolist() == ["M/a.mrc", "M/a.mrc", "M/c.mrc"]
    assert table["rlnCoordinateX"].tolist() == [1.5, 100, 3]
    assert table["rlnCoordinateY"].tolist() == [2.25, 200, 4]
    assert table["rlnAutopickFigureOfMerit"].tolist() == [-1.5, 0.25, 7]


def test_we_read_what_starfile_writes(tmp_path: Path):
    table = pd.DataFrame(
        {
            "rlnCoordinateX": [1.5, 2],
            "rlnCoordinateY": [3, 4.5],
            "rlnMicrographName": ["M/a b.mrc", "M/c.mrc"],
            "rlnAutopickFigureOfMerit": [0.5, -3],
            "rlnOpticsGroup": [2, 1],
            "aColumn": ["x", "y"],
        }
    )
    optics = pd.DataFrame({"rlnOpticsGroup": [1, 2], "rlnMicrographPixelSize": [0.8, 1.1]})
    starfile.write({"optics": optics, "particles": table}, tmp_path / "a.star")
    picks = read_picks(tmp_path / "a.star")
    assert picks.names() == ["M/a b.mrc", "M/c.mrc"]
    np.testing.assert_array_equal(picks.xy_px, [[1.5, 3], [2, 4.5]])
    np.testing.assert_array_equal(picks.score, [0.5, -3])
    assert picks.extra["aColumn"].tolist() == ["x", "y"]
    assert picks.extra["pixel_size_angstrom"].tolist() == [1.1, 0.8]


DETECTOR = "_rlnDetectorPixelSize #4\n_rlnMagnification #5\n"


@pytest.mark.parametrize(
    ("optics", "columns", "row", "of_picks", "of_micrographs"),
    [
        # Extracted and rescaled fourfold by RELION 3.0: 5 um / 12500 is 4 A, of the particle.
        ("", DETECTOR, "5.0 12500", None, 4.0),
        ("", "_rlnMicrographPixelSize #4\n", "1.1", 1.1, 1.1),
        # The pixel size of the movie, which motion correction may have binned.
        ("", "_rlnMicrographOriginalPixelSize #4\n", "0.55", None, None),
        ("", DETECTOR + "_rlnMicrographOriginalPixelSize #6\n", "5.0 12500 1.0", None, 4.0),
        ("", DETECTOR + "_rlnMicrographPixelSize #6\n", "5.0 12500 1.2", 1.2, 1.2),
        ("_rlnMicrographPixelSize #2\n1 0.8", "_rlnOpticsGroup #4\n", "1", 0.8, 0.8),
        ("_rlnMicrographOriginalPixelSize #2\n1 0.4", "_rlnOpticsGroup #4\n", "1", None, None),
        ("_rlnMicrographOriginalPixelSize #2\n1 0.4", "", "", None, None),
        (
            "_rlnMicrographOriginalPixelSize #2\n_rlnMicrographPixelSize #3\n1 0.4 0.8",
            "_rlnOpticsGroup #4\n",
            "1",
            0.8,
            0.8,
        ),
        ("_rlnImagePixelSize #2\n1 3.2", "_rlnOpticsGroup #4\n", "1", None, None),
    ],
)
def test_which_pixel_size_is_the_micrographs(
    tmp_path: Path, optics, columns, row, of_picks, of_micrographs
):
    block = f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n{optics}\n\n" if optics else ""
    table = NAMED.replace("data_", "data_particles") + columns + f"a.mrc 1 2 {row}\n"
    path = save(tmp_path / "a.star", block + table)
    assert star_list.read_micrographs(path) == [("a.mrc", of_micrographs)]
    sizes = read_picks(path).extra.get("pixel_size_angstrom")
    assert sizes is None if of_picks is None else sizes.tolist() == [of_picks]


def test_a_group_without_a_pixel_size_has_none(tmp_path: Path, capsys):
    optics = (
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n"
        "_rlnMicrographOriginalPixelSize #3\n1 0.8 0.4\n2 0 0.5\n\n"
    )
    table = NAMED.replace("data_", "data_particles") + "_rlnOpticsGroup #4\n"
    path = save(tmp_path / "a.star", optics + table + "a.mrc 1 2 1\nb.mrc 1 2 2\nc.mrc 1 2 3\n")
    assert read_picks(path).extra["pixel_size_angstrom"].tolist() == [0.8, None, None]
    assert capsys.readouterr().err == (
        f"note: {path} has 1 rows of the optics group 3, which its optics table does not have:"
        " their pixel size is not known from it\n"
    )
    assert [size for _, size in star_list.read_micrographs(path)] == [0.8, None, None]
    assert "only the pixel size of the movies (_rlnMicrographOriginalPixelSize 0.5)" in (
        capsys.readouterr().err
    )


GROUPS = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n_rlnVoltage #3\n"


@pytest.mark.parametrize("in_optics", ["1", "1.0", "01", "1.000000"])
@pytest.mark.parametrize("in_table", ["1", "1.0", "01", "1.000000"])
def test_optics_groups_are_compared_as_numbers(tmp_path: Path, in_optics, in_table, capsys):
    optics = f"{GROUPS}2 3.0 200\n{in_optics} 4.0 300\n\n"
    table = NAMED.replace("data_", "data_particles") + "_rlnOpticsGroup #4\n"
    path = save(tmp_path / "a.star", f"{optics}{table}a.mrc 1 2 {in_table}\nb.mrc 1 2 2\n")
    assert star_list.read_micrographs(path) == [("a.mrc", 4.0), ("b.mrc", 3.0)]
    picks = read_picks(path)
    assert picks.extra["pixel_size_angstrom"].tolist() == [4, 3]
    relion_star.write_picks(tmp_path / "b.star", picks)
    written = blocks.read_blocks(tmp_path / "b.star")
    assert written["optics"]["rlnOpticsGroup"].tolist() == ["1", "2"]
    assert written["optics"]["rlnVoltage"].tolist() == ["300", "200"]
    assert written["particles"]["rlnOpticsGroup"].tolist() == ["1", "2"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("optics", "column", "row", "sizes", "words"),
    [
        # One row without a number is for all.
        ("_rlnMicrographPixelSize #1\n4.0\n", "_rlnOpticsGroup #4\n", " 1", 4.0, ""),
        (GROUPS.split("loop_\n")[1] + "7 4.0 300\n", "", "", 4.0, ""),
        (
            "_rlnMicrographPixelSize #1\n4.0\n3.0\n",
            "_rlnOpticsGroup #4\n",
            " 1",
            None,
            "has 2 optics groups, but no _rlnOpticsGroup in its optics table",
        ),
        (
            GROUPS.split("loop_\n")[1] + "1 4.0 300\n2 3.0 300\n",
            "",
            "",
            None,
            "has 2 optics groups, but no _rlnOpticsGroup in its rows",
        ),
        # As in files written one behind another.
        (
            GROUPS.split("loop_\n")[1] + "1 4.0 300\n1.0 4.00 300\n",
            "_rlnOpticsGroup #4\n",
            " 1",
            4.0,
            "",
        ),
    ],
)
def test_optics_tables_with_and_without_groups(
    tmp_path: Path, capsys, optics, column, row, sizes, words
):
    table = NAMED.replace("data_", "data_particles") + column
    path = save(tmp_path / "a.star", f"data_optics\n\nloop_\n{optics}\n{table}a.mrc 1 2{row}\n")
    assert star_list.read_micrographs(path) == [("a.mrc", sizes)]
    said = capsys.readouterr().err
    assert words in said
    assert bool(words) == bool(said)
    found = read_picks(path).extra.get("pixel_size_angstrom")
    assert sizes is None if found is None else found.tolist() == [sizes]


def test_one_optics_group_with_two_values_is_refused(tmp_path: Path):
    table = NAMED.replace("data_", "data_particles") + "_rlnOpticsGroup #4\n"
    text = f"{GROUPS}1 4.0 300\n\n{table}a.mrc 1 2 1\n\n"
    path = save(tmp_path / "a.star", text + text.replace("4.0 300", "4.0 200"))
    for read in (read_picks, star_list.read_micrographs):
        with pytest.raises(BadInput, match=r"a\.star has the optics group 1 twice.*_rlnVoltage"):
            read(path)


def test_unknown_columns_survive_a_round_trip(tmp_path: Path):
    table = NAMED.replace("data_", "data_particles") + "_rlnAnglePsi #4\n_note #5\n_rlnClass #6\n"
    path = save(tmp_path / "a.star", table + 'a.mrc 1 2 45.5 "two words" 3\nb.mrc 3 4 -1 one 0\n')
    for _ in range(2):
        picks = read_picks(path)
        assert picks.extra["rlnAnglePsi"].tolist() == ["45.5", "-1"]
        assert picks.extra["note"].tolist() == ["two words", "one"]
        assert picks.extra["rlnClass"].tolist() == ["3", "0"]
        path = tmp_path / "b.star"
        relion_star.write_picks(path, picks)


def test_picks_without_scores_have_no_column_of_them(tmp_path: Path):
    relion_star.write_picks(tmp_path / "a.star", Picks.on("a", np.ones((2, 2))))
    assert "FigureOfMerit" not in (tmp_path / "a.star").read_text()
    assert np.isnan(read_picks(tmp_path / "a.star").score).all()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, end, mark):
    contents = mark + NAMED + "a.mrc 1.5 2\nb.mrc 3 4\n"
    picks = read_picks(save(tmp_path / "a.star", contents.replace("\n", end)))
    assert picks.names() == ["a.mrc", "b.mrc"]
    np.testing.assert_array_equal(picks.xy_px, [[1.5, 2], [3, 4]])


def test_spaces_comments_and_blank_lines_of_relion(tmp_path: Path):
    path = save(
        tmp_path / "a.star",
        "\n# version 30001\n\ndata_particles\n\nloop_ \n_rlnCoordinateX #1 \n_rlnCoordinateY #2 \n"
        "_rlnMicrographName #3 \n   1.000000     2.500000   a.mrc \n\t3\t4\t'b c.mrc'\n \n\n",
    )
    picks = read_picks(path)
    assert picks.names() == ["a.mrc", "b c.mrc"]
    np.testing.assert_array_equal(picks.xy_px, [[1, 2.5], [3, 4]])


@pytest.mark.parametrize("name", ["data_1/a.mrc", "data_1", "000012"])
def test_a_row_may_begin_as_a_block_does(tmp_path: Path, name):
    path = save(tmp_path / "a.star", NAMED + f"b.mrc 1 2\n{name} 3 4\n  {name} 5 6\n")
    assert read_picks(path).names() == ["b.mrc", name, name]
    assert read_picks(path).xy_px.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_micrographs_in_a_folder_that_is_called_as_a_block(tmp_path: Path):
    block = "data_micrographs\n\nloop_\n_rlnMicrographName #1\ndata_1/a.mrc\ndata_1/b.mrc\n"
    optics = "data_optics\n\nloop_\n_rlnMicrographPixelSize #1\n1.5\n\n"
    path = save(tmp_path / "a.star", optics + block)
    assert star_list.read_micrographs(path) == [("data_1/a.mrc", 1.5), ("data_1/b.mrc", 1.5)]
    files = {"data_1/a.mrc": tmp_path / "a_autopick.star"}
    picks = Picks.on("data_1/a.mrc", np.ones((1, 2)), np.zeros(1))
    relion_autopick.write_one_autopick(files["data_1/a.mrc"], picks)
    write_list(tmp_path, picks, files)
    same(read_picks(tmp_path), picks)


def test_an_empty_table_before_another_one(tmp_path: Path):
    contents = "# version 30001\n\n" + BLOCK + " \n\n# version 30001\n\ndata_b\n\n_c 1\n"
    picks = read_picks(save(tmp_path / "m_autopick.star", contents))
    assert picks.micrographs == ("m",)
    assert len(picks) == 0


def test_tables_that_were_written_one_behind_another(tmp_path: Path, capsys):
    text = "".join(NAMED + f"{name}.mrc {x} 2\n\n" for x, name in enumerate("abca"))
    picks = read_picks(save(tmp_path / "all.star", text))
    assert picks.names() == ["a.mrc", "b.mrc", "c.mrc", "a.mrc"]
    assert picks.x.tolist() == [0, 1, 2, 3]
    assert star_list.read_micrographs(tmp_path / "all.star") == [
        (name, None) for name in ("a.mrc", "b.mrc", "c.mrc")
    ]
    assert capsys.readouterr().err == ""
    save(tmp_path / "two.star", NAMED + "a.mrc 1 2\n\n" + NAMED + "_rlnClass #4\nb.mrc 1 2 3\n")
    for read in (read_picks, star_list.read_micrographs):
        with pytest.raises(BadInput, match=r"two\.star .* only some have _rlnClass"):
            read(tmp_path / "two.star")


def test_lists_that_were_written_one_behind_another(tmp_path: Path):
    head = "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    for name in "ab":
        save(tmp_path / f"{name}.star", BLOCK + "1 2\n")
    text = "".join(f"{head}{name}.mrc {name}.star\n\n" for name in "ab")
    assert read_picks(save(tmp_path / "both.star", text)).names() == ["a.mrc", "b.mrc"]


def test_coordinates_in_several_blocks_are_mentioned(tmp_path: Path, capsys):
    text = NAMED.replace("data_", "data_one") + "a.mrc 1 2\n\n"
    text += NAMED.replace("data_", "data_two") + "b.mrc 1 2\n\n"
    path = save(tmp_path / "a.star", text)
    assert read_picks(path).names() == ["a.mrc", "b.mrc"]
    assert star_list.read_micrographs(path) == [("a.mrc", None), ("b.mrc", None)]
    words = f"note: {path}: the blocks data_one and data_two of the file are read together\n"
    assert capsys.readouterr().err == words * 2
    text += NAMED.replace("data_", "data_particles") + "_rlnClass #4\nc.mrc 1 2 3\n"
    assert read_picks(save(path, text)).names() == ["c.mrc"]
    assert "only data_particles is read" in capsys.readouterr().err


def test_one_pick_may_be_no_loop(tmp_path: Path):
    path = save(tmp_path / "a.star", "data_\n\n_rlnCoordinateX 1.5\n_rlnCoordinateY 2\n")
    np.testing.assert_array_equal(read_picks(path).xy_px, [[1.5, 2]])


@pytest.mark.parametrize(("value", "row"), [("foo", 2), ("nan", 1), ("inf", 3), ("None", 2)])
@pytest.mark.parametrize("column", [1, 2])
def test_a_coordinate_that_is_no_number(tmp_path: Path, value, row, column):
    rows = [["a.mrc", "1", "2"] for _ in range(3)]
    rows[row - 1][column] = value
    contents = NAMED + "".join(" ".join(cells) + "\n" for cells in rows)
    letter = "XY"[column - 1]
    words = f"'{value}' for _rlnCoordinate{letter} in row {row} of"
    with pytest.raises(BadInput, match=words):
        read_picks(save(tmp_path / "a.star", contents))


def test_a_row_without_a_name_is_not_a_micrograph(tmp_path: Path):
    short = BLOCK + "_rlnMicrographName #3\n1 2 a.mrc\n3 4\n"
    with pytest.raises(BadInput, match=r"no _rlnMicrographName in row 2"):
        read_picks(save(tmp_path / "a.star", short))


def test_a_score_may_be_unknown(tmp_path: Path):
    path = save(
        tmp_path / "a.star", BLOCK + "_rlnAutopickFigureOfMerit #3\n1 2 nan\n3 4 0.5\n5 6 <NA>\n"
    )
    np.testing.assert_array_equal(read_picks(path).score, [np.nan, 0.5, np.nan])


def test_an_unreadable_file_does_not_spoil_the_next_one(tmp_path: Path):
    path = save(tmp_path / "a.star", NAMED + "a.mrc 1 2\nb.mrc 3 4 5\n")
    os.utime(path, (0, 0))
    with pytest.raises(BadInput, match="cannot be read as a STAR file"):
        read_picks(path)
    save(path, NAMED + "a.mrc 1 2\nb.mrc 3 4.5\n")  # fixed within the clock's resolution
    os.utime(path, (0, 0))
    assert read_picks(path).names() == ["a.mrc", "b.mrc"]
    save(path, (NAMED + "ä.mrc 1 2\n").encode("latin-1"))
    with pytest.raises(BadInput, match=r"cannot be read as a STAR file .*utf-8"):
        read_picks(path)


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("a.star", "", "is empty"),
        ("a.star", " \n\n", "is empty"),
        ("a.star", "data_\n\nloop_\n_rlnMicrographName #1\na.mrc\n", "no columns _rlnCoord"),
        ("a.star", "data_\n", "cannot be read"),
        ("a.star", "hello\n", "an unknown coordinate format"),
        ("a.mrc", b"\0\0\0\1", "not a text file"),
        ("a.tsv", "image_name\tscore\na\t1\n", "an unknown coordinate format"),
        ("a.txt", "name x y\na 1 2\n", "an unknown coordinate format"),
    ],
)
def test_files_without_coordinates(tmp_path: Path, name, contents, words):
    path = save(tmp_path / name, contents)
    with pytest.raises(BadInput, match=words) as caught:
        read_picks(path)
    assert name in str(caught.value)


def test_the_star_reader_alone(tmp_path: Path):
    for reader in (relion_star.read_picks, relion_star.read_blocks, star_list.read_micrographs):
        with pytest.raises(BadInput, match="does not exist"):
            reader(tmp_path / "a.star")
        with pytest.raises(BadInput, match="empty"):
            reader(save(tmp_path / "b.star", ""))
    assert list(relion_star.read_blocks(save(tmp_path / "c.star", NAMED + "a 1 2\n"))) == [""]


@pytest.mark.parametrize("quoted", [False, True])
def test_a_long_table_is_read_as_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoted: bool
) -> None:
    """Its rows are read a part at a time, and mean what they mean in the whole."""
    name = "'mic {}.mrc'" if quoted else "data_1/mic_{}.mrc"
    rows = [
        f"{name.format(i // 7)} {i}.25 {i * 2} 00{i % 5} {'nan' if i % 3 else i / 8} 1"
        for i in range(200)
    ]
    rows[50] = "# not a row"
    rows[120] = ""
    text = (
        "# by hand\n\ndata_optics\n\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 1.5\n\n"
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "_rlnGroup #4\n_rlnAutopickFigureOfMerit #5\n_rlnOpticsGroup #6\n"
        + "\n".join(rows)
        + "\n\n"
    )
    path = save(tmp_path / "a.star", text)
    whole, tables = relion_star.read_picks(path), blocks.read_blocks(path)
    assert len(whole) == 198
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 300)
    parted, again = relion_star.read_picks(path), blocks.read_blocks(path)
    assert parted.names() == whole.names()
    np.testing.assert_array_equal(parted.xy_px, whole.xy_px)
    np.testing.assert_array_equal(parted.score, whole.score)
    assert {k: v.tolist() for k, v in parted.extra.items()} == {
        k: v.tolist() for k, v in whole.extra.items()
    }
    assert again.keys() == tables.keys()
    for key, table in tables.items():
        assert again[key].columns == table.columns
        for column in table.columns:
            assert [*map(str, again[key][column])] == [*map(str, table[column])]
    save(path, text.replace(" 102 001", " x 001"))
    with pytest.raises(BadInput, match="'x' for _rlnCoordinateY in row 51"):
        relion_star.read_picks(path)


def test_a_long_table_takes_a_few_times_its_size(tmp_path: Path) -> None:
    row = "{:.3f} {:.3f} MotionCorr/job002/Movies/mic_{:05d}.mrc {:.6f} 1\n"
    head = "data_particles\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n"
    head += "_rlnAutopickFigureOfMerit\n_rlnOpticsGroup\n"
    text = head + "".join(row.format(i / 7, i / 3, i // 300, i / 9) for i in range(20_000))
    path = save(tmp_path / "a.star", text)
    relion_star.read_picks(save(tmp_path / "b.star", text[:2000]))  # what is imported late
    tracemalloc.start()
    try:
        assert len(relion_star.read_picks(path)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 9 * len(text)


def test_optics_without_the_pixel_size_of_micrographs_get_it(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.star",
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 300\n\n"
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n"
        "_rlnCoordinateY #3\n_rlnOpticsGroup #4\na.mrc 1 2 1\na.mrc 3 4 1\n",
    )
    picks = read_picks(path)
    sized = replace(picks, extra={**picks.extra, PIXEL_SIZE: np.array([1.5, 1.5])})
    relion_star.write_picks(tmp_path / "b.star", sized)
    blocks = starfile.read(tmp_path / "b.star")
    assert [*blocks["optics"]["rlnMicrographPixelSize"]] == [1.5]
    assert "rlnMicrographPixelSize" not in blocks["particles"]
