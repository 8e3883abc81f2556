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
from hypothesis import strategies as st

from heliodor.data import star as blocks
from heliodor.data.coordinates.formats import (
    mask_selected,
    read_picks,
    relion_autopick,
    relion_star,
)
from heliodor.data.coordinates.formats import (
    tables as text,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs import star_list
from heliodor.errors import BadInput

BLOCK = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
NAMED = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"

# Beginnings that a STAR file gives a meaning to, numbers, and what has to be quoted.
names = st.sampled_from(
    ["Movies/a.mrc", "000012", "1.50", "my mic.mrc", "ü.mrc", "data_1/a.mrc", "_a.mrc", "loop_"]
)
numbers = st.floats(-9999, 9999).map(lambda value: round(value, 3))


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(names, numbers, numbers, numbers), max_size=8))
    xy = np.array([row[1:3] for row in rows], dtype=float).reshape(-1, 2)
    return Picks.from_columns([row[0] for row in rows], xy, np.array([r[3] for r in rows]))


def same(a, b):
    assert a.names() == b.names()
    np.testing.assert_allclose(a.xy_px, b.xy_px, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.score, b.score, rtol=0, atol=1e-6)


def save(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path


def example():
    xy = np.array([[1.5, 2.25], [100, 200], [3, 4]])
    score = np.array([-1.5, 0.25, 7.0])
    table = Picks.from_columns(["M/a.mrc", "M/a.mrc", "M/c.mrc"], xy, score)
    return Picks.concatenate([Picks.empty(["M/none.mrc"]), table])


# STAR, combined


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
        ("", "_rlnMicrographOriginalPixelSize #4\n", "0.55", 0.55, 0.55),
        ("", DETECTOR + "_rlnMicrographOriginalPixelSize #6\n", "5.0 12500 1.0", 1.0, 4.0),
        ("", DETECTOR + "_rlnMicrographPixelSize #6\n", "5.0 12500 1.2", 1.2, 1.2),
        ("_rlnMicrographPixelSize #2\n1 0.8", "_rlnOpticsGroup #4\n", "1", 0.8, 0.8),
        ("_rlnMicrographOriginalPixelSize #2\n1 0.4", "_rlnOpticsGroup #4\n", "1", 0.4, 0.4),
        ("_rlnMicrographOriginalPixelSize #2\n1 0.4", "", "", 0.4, 0.4),
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


def test_a_group_without_a_pixel_size_takes_the_originals(tmp_path: Path):
    optics = (
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n"
        "_rlnMicrographOriginalPixelSize #3\n1 0.8 0.4\n2 0 0.5\n\n"
    )
    table = NAMED.replace("data_", "data_particles") + "_rlnOpticsGroup #4\n"
    path = save(tmp_path / "a.star", optics + table + "a.mrc 1 2 1\nb.mrc 1 2 2\nc.mrc 1 2 3\n")
    assert read_picks(path).extra["pixel_size_angstrom"].tolist() == [0.8, 0.5, None]


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


# STAR, as RELION's pickers leave it


def write_list(folder, picks, files):
    counts = zip(picks.micrographs, picks.counts(), strict=True)
    relion_autopick.write_autopick_list(
        folder, {name: files[name] for name, count in counts if count}
    )


def write_autopick(folder, picks):
    files = {}
    for number, (name, own) in enumerate(picks.split_by_micrograph()):
        files[name] = folder / "M" / f"m{number}_autopick.star"
        relion_autopick.write_one_autopick(files[name], own)
    write_list(folder, picks, files)
    return files


def test_autopick_round_trip(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = write_autopick(Path("AutoPick/job007"), example())
    same(read_picks("AutoPick/job007/autopick.star"), example())
    same(read_picks("AutoPick/job007"), example())
    listed = starfile.read("AutoPick/job007/autopick.star", always_dict=True)["coordinate_files"]
    assert listed["rlnMicrographName"].tolist() == ["M/a.mrc", "M/c.mrc"]
    assert listed["rlnMicrographCoordinates"].tolist() == [
        "AutoPick/job007/M/m1_autopick.star",
        "AutoPick/job007/M/m2_autopick.star",
    ]
    # Without picks there is a file of the micrograph, but the list does not name it.
    empty = starfile.read(files["M/none.mrc"])
    assert len(empty) == 0
    assert "M/none.mrc" not in Path("AutoPick/job007/autopick.star").read_text()
    assert read_picks(files["M/none.mrc"]).micrographs == ("m0",)
    one = starfile.read(files["M/a.mrc"])
    assert list(one.columns) == [
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnAutopickFigureOfMerit",
        "rlnClassNumber",
        "rlnAnglePsi",
        "rlnParticleFigureOfMerit",
    ]
    assert set(one["rlnClassNumber"]) == {0}
    np.testing.assert_allclose(one["rlnParticleFigureOfMerit"], [0.182426, 0.562177], atol=1e-6)


@pytest.mark.parametrize("where", ["project", "job", "elsewhere"])
def test_an_autopick_list_is_read_from_anywhere(tmp_path: Path, monkeypatch, where):
    project, job = tmp_path / "project", tmp_path / "project/AutoPick/job007"
    project.mkdir()
    monkeypatch.chdir(project)
    write_autopick(Path("AutoPick/job007"), example())
    folder = {"project": project, "job": job, "elsewhere": tmp_path}[where]
    monkeypatch.chdir(folder)
    same(read_picks(job / "autopick.star"), example())


def test_the_same_picks_are_the_same_bytes(tmp_path: Path):
    for name in "ab":
        write_autopick(tmp_path / name, example())
        relion_star.write_picks(tmp_path / name / "all.star", example())
    for path in (tmp_path / "a").rglob("*.star"):
        if path.name != "autopick.star":
            other = tmp_path / "b" / path.relative_to(tmp_path / "a")
            assert path.read_bytes() == other.read_bytes()


def test_an_autopick_list_outside_the_project_names_whole_paths(tmp_path: Path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_autopick(tmp_path / "out", example())
    listed = starfile.read(tmp_path / "out/autopick.star", always_dict=True)["coordinate_files"]
    assert all(Path(file).is_absolute() for file in listed["rlnMicrographCoordinates"])
    same(read_picks(tmp_path / "out"), example())


def test_an_autopick_list_of_nothing(tmp_path: Path):
    write_autopick(tmp_path, Picks.empty(["a", "b"]))
    assert len(read_picks(tmp_path)) == 0


def test_a_manualpick_list(tmp_path: Path):
    save(tmp_path / "M/a_manualpick.star", BLOCK + "1 2\n3 4\n")
    save(
        tmp_path / "manualpick.star",
        "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
        "MotionCorr/job002/M/000012.mrc M/a_manualpick.star\n",
    )
    picks = read_picks(tmp_path)
    assert picks.names() == ["MotionCorr/job002/M/000012.mrc"] * 2


def test_lists_that_cannot_be_followed(tmp_path: Path):
    head = "data_coordinate_files\n\nloop_\n"
    path = save(tmp_path / "a.star", head + "_rlnMicrographCoordinates #1\nb.star\n")
    with pytest.raises(BadInput, match="no column _rlnMicrographName"):
        read_picks(path)
    columns = "_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    save(path, head + columns + "a.mrc gone.star\n")
    with pytest.raises(BadInput, match=r"gone\.star, which does not exist"):
        read_picks(path)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("mic_001_autopick.star", "mic_001"),
        ("mic_001_manualpick.star", "mic_001"),
        ("mic_001_topazpicks.star", "mic_001"),
        ("mic.001_picks.star", "mic.001"),
        ("mic.001.star", "mic.001"),
        ("000012.star", "000012"),
        ("mic_autopick.txt", "mic"),
    ],
)
@pytest.mark.parametrize("rows", ["1 2\n3 4\n", ""])
def test_the_file_name_tells_the_micrograph(tmp_path: Path, name, stem, rows):
    picks = read_picks(save(tmp_path / name, BLOCK + rows))
    assert picks.micrographs == (stem,)
    assert len(picks) == rows.count("\n")


def test_files_of_one_name_in_two_folders_are_two_micrographs(tmp_path: Path):
    for folder, x in (("A", 1), ("B", 2)):
        save(tmp_path / folder / "x_autopick.star", BLOCK + f"{x} {x}\n")
        save(tmp_path / folder / f"own{x}.star", BLOCK + f"{x} {x}\n")
    picks = read_picks(tmp_path / "*" / "*.star")
    assert sorted(picks.micrographs) == sorted(
        [str(tmp_path / "A/x"), str(tmp_path / "B/x"), "own1", "own2"]
    )
    assert picks.counts().tolist() == [1] * 4
    # In one folder, they are picks of one micrograph.
    save(tmp_path / "A" / "x_manualpick.star", BLOCK + "5 5\n")
    assert read_picks(tmp_path / "A" / "x*.star").micrographs == ("x",)


# STAR, as found in life


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


# Text


def ours(path, picks, threshold=0.0):
    sizes = dict.fromkeys(picks.micrographs, 1.5)
    text.write_picks(path, picks.split_by_micrograph(), threshold, sizes)


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


# Which files, and of which format


def test_the_format_is_told_by_the_content(tmp_path: Path):
    table = "image_name\tx_coord\ty_coord\na\t1\t2\n"
    for name in ("a.star", "a.txt", "a"):
        assert read_picks(save(tmp_path / name, table)).names() == ["a"]
        assert read_picks(save(tmp_path / name, NAMED + "b 1 2\n")).names() == ["b"]


def test_a_folder_is_all_its_coordinate_files(tmp_path: Path):
    save(tmp_path / "a_autopick.star", BLOCK + "1 2\n")
    save(tmp_path / "b.tsv", "micrograph\tx_px\ty_px\nb\t3\t4\n")
    save(tmp_path / "c.csv", "image_name,x,y\nc,5,6\n")
    save(tmp_path / "d.txt", BLOCK + "7 8\n")
    save(tmp_path / "run.json", "{}")
    save(tmp_path / "sub/e.star", BLOCK + "9 10\n")
    picks = read_picks(tmp_path)
    assert picks.names() == ["a", "b", "c", "d"]
    assert read_picks(str(tmp_path / "*.star")).names() == ["a"]
    assert sorted(read_picks(tmp_path / "**" / "*.star").names()) == ["a", "e"]


def test_the_candidates_of_a_folder_are_in_its_table(tmp_path: Path):
    write_autopick(tmp_path, example().select(np.flatnonzero(example().score >= 0)))
    ours(tmp_path / "picks.tsv", example())
    save(tmp_path / "training.tsv", "epoch\tloss\n1\t0.5\n")
    same(read_picks(tmp_path, candidates=True), example())
    assert read_picks(tmp_path).score.tolist() == [0.25, 7.0]
    (tmp_path / "picks.tsv").unlink()
    assert read_picks(tmp_path, candidates=True).score.tolist() == [0.25, 7.0]


def test_only_0_is_not_selected(tmp_path: Path):
    marks = ["0", "1", "", "2", " 0 ", "0.0", "yes"]
    rows = "".join(f"a,{i},0,{mark}\n" for i, mark in enumerate(marks))
    path = save(tmp_path / "a.csv", "name,x,y,selected\n" + rows)
    assert read_picks(path).xy_px[:, 0].tolist() == [1, 2, 3, 6]
    table = read_picks(path, candidates=True)
    assert mask_selected(table).tolist() == [False, True, True, True, False, False, True]
    without = Picks.on("b", np.ones((2, 2)))
    assert mask_selected(without).tolist() == [True, True]
    assert mask_selected(Picks.concatenate([table, without])).tolist()[-2:] == [True, True]
    # The column is carried through STAR files, as numbers.
    relion_star.write_picks(tmp_path / "a.star", table.select(np.array([0, 1])))
    assert read_picks(tmp_path / "a.star").xy_px[:, 0].tolist() == [1]


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path):
    save(tmp_path / "a.star", BLOCK + "1 2\n")
    save(tmp_path / "._a.star", b"\0\1\2")
    save(tmp_path / ".a.star.77.part.star", BLOCK)
    assert read_picks(tmp_path).micrographs == ("a",)


def test_where_no_coordinates_are(tmp_path: Path):
    for where in (tmp_path, tmp_path / "*.star"):
        with pytest.raises(BadInput, match="contains no coordinate file"):
            read_picks(where)
    with pytest.raises(BadInput, match="does not exist"):
        read_picks(tmp_path / "none.star")


def test_one_bad_file_of_many_is_named(tmp_path: Path):
    save(tmp_path / "a.star", BLOCK + "1 2\n")
    save(tmp_path / "b.star", BLOCK + "1 x\n")
    with pytest.raises(BadInput, match=r"b\.star has 'x'"):
        read_picks(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "micrographs"),
    [
        ("dense.star", 9252, 14),
        ("manual_positive.star", 1886, None),
        ("manual_negative.star", 624, None),
        ("reference_cryolo.star", None, 9),
        ("reference_topaz.star", None, 9),
        ("reference_deeppicker.star", None, 9),
    ],
)
def test_real_star_files(real_data: Path, name, rows, micrographs):
    path = real_data / "betagal" / name
    picks = read_picks(path)
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith("micro")]
    assert len(picks) == len(lines) == (rows or len(lines))
    assert len(picks.micrographs) == (micrographs or len(picks.micrographs))
    assert picks.names() == [line[0] for line in lines]
    np.testing.assert_array_equal(picks.xy_px, [[float(v) for v in line[1:3]] for line in lines])
    assert picks.xy_px.min() >= 0
    assert picks.xy_px.max() < 2048
    if name.startswith("reference"):
        np.testing.assert_allclose(picks.score, [float(line[3]) for line in lines])
