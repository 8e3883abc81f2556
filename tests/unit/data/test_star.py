"""STAR files: blocks, tables and quoted values."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliodor.data.star import find_tables, read_blocks, stream_blocks, write_blocks
from heliodor.errors import BadInput
from helpers.coordinate_files import save

NAMES = [
    "O'Brien/m1.mrc",
    'O"Brien/m1.mrc',
    "g/a#1.mrc",
    "#a.mrc",
    "_a.mrc",
    ";a.mrc",
    "data_a",
    "a 'b.mrc",
    'a "b.mrc',
    "a' b.mrc",
    'a" b.mrc',
    "a' b\" c.mrc",
    "'whole'",
    '"whole"',
    "two words #1.mrc",
]


def read_column(path: Path, label: str = "name") -> list[str]:
    (table,) = read_blocks(path).values()
    return [str(value) for value in table[label]]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_as_they_were_written(tmp_path: Path, name: str, first: bool) -> None:
    columns = {"name": [name, "b.mrc", name], "x": [1, 2, 3]}
    write_blocks(tmp_path / "a.star", {"": columns if first else dict(reversed(columns.items()))})
    assert read_column(tmp_path / "a.star") == [name, "b.mrc", name]
    assert read_column(tmp_path / "a.star", "x") == ["1", "2", "3"]


@given(st.lists(st.text("ab #'\"_;$/.", min_size=1, max_size=8), min_size=1, max_size=6))
@example(["a' b", 'a" b', "#", "'", '"'])
def test_any_text_is_read_as_it_was_written(tmp_path_factory, values) -> None:
    path = tmp_path_factory.getbasetemp() / "any.star"
    write_blocks(path, {"": {"value": values, "x": range(len(values))}})
    assert read_column(path, "value") == values


@pytest.mark.parametrize(
    ("written", "name"),
    [
        # RELION puts a BEL before a quotation mark that would end the value.
        ('"a\a" b.mrc"', 'a" b.mrc'),
        ('"x\a" y\a" z"', 'x" y" z'),
        ("'a\a' b'", "a' b"),
        ('"a\' b\a" c"', "a' b\" c"),
        ("\"O'Brien's mic.mrc\"", "O'Brien's mic.mrc"),
        ("O'Brien/m1.mrc", "O'Brien/m1.mrc"),
        ("g/a#1.mrc", "g/a#1.mrc"),
    ],
)
def test_names_as_relion_writes_them(tmp_path: Path, written: str, name: str) -> None:
    head = "data_\n\nloop_\n_x #1\n_name #2\n"
    path = save(tmp_path / "a.star", f"{head}1 {written}\n2 b.mrc # a comment\n")
    assert read_column(path) == [name, "b.mrc"]


HEAD = "data_\n\nloop_ \n_x #1\n_y #2\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("loop_ \n", "loop_ \n\n") + "1 2\n3 4\n",
        HEAD.replace("loop_ \n", "loop_ \n# a comment\n") + "1 2\n3 4\n",
        HEAD.replace("loop_ \n", "; a comment\nloop_ \n; another\n") + "1 2\n3 4\n",
        HEAD.replace("_y", "\n# a comment\n\n; another\n_y") + "\n1 2\n# a comment\n\n3 4\n",
        HEAD + "1 2\n3 4\n\ndata_empty\n\n",
        HEAD + "1 2\n3 4\n\ndata_empty\n\nloop_\n_x #1\n",
    ],
)
def test_lines_that_relion_skips(tmp_path: Path, text: str) -> None:
    table = read_blocks(save(tmp_path / "a.star", text))[""]
    assert [*table["x"], *table["y"]] == ["1", "3", "2", "4"]


@pytest.mark.parametrize("name", ["nan", "NaN", "<NA>"])
def test_a_name_that_means_a_missing_number_is_in_quotes(tmp_path: Path, name: str) -> None:
    columns = {"rlnMicrographName": [name, "a.mrc", "b.mrc"], "x": [1.5, math.nan, 2.5]}
    write_blocks(tmp_path / "a.star", {"": columns})
    assert f'"{name}"' in (tmp_path / "a.star").read_text()
    assert read_column(tmp_path / "a.star", "rlnMicrographName") == [name, "a.mrc", "b.mrc"]
    assert read_column(tmp_path / "a.star", "x") == ["1.500000", "nan", "2.500000"]
    # Without quotes it is a missing value, as pandas writes it.
    text = (tmp_path / "a.star").read_text().replace('"', "")
    (tmp_path / "b.star").write_text(text)
    (table,) = read_blocks(tmp_path / "b.star").values()
    assert math.isnan(table["rlnMicrographName"][0])


def test_a_row_with_a_value_too_many_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", HEAD + "1 2\n3 4 5\n")
    with pytest.raises(BadInput, match="row 2 has 3 values for 2 columns"):
        read_blocks(path)


def rows_of(path: Path) -> dict[str, list[list[str]]]:
    """Return the rows of the blocks, read one at a time."""
    rows: dict[str, list[list[str]]] = {}
    for block in stream_blocks(path):
        rows.setdefault(block.name, []).extend(block.rows)
    return rows


@given(st.lists(st.text("ab #'\"_;$/.", min_size=1, max_size=8), min_size=1, max_size=6))
@example(["a' b", 'a" b', "#", "'", '"'])
@example(["nan", "<NA>"])
def test_rows_read_one_at_a_time_are_the_same(tmp_path_factory, values) -> None:
    path = tmp_path_factory.getbasetemp() / "streamed.star"
    columns = {"x": range(len(values)), "rlnMicrographName": values}
    write_blocks(path, {"": columns, "more": {"y": [1, 2]}, "none": {"z": []}})
    expected = [[str(number), value] for number, value in enumerate(values)]
    assert rows_of(path) == {"": expected, "more": [["1"], ["2"]], "none": []}


def test_a_byte_order_mark_alone_is_no_block(tmp_path: Path) -> None:
    assert rows_of(save(tmp_path / "a.star", b"\xef\xbb\xbf")) == {}
    assert rows_of(save(tmp_path / "b.star", b"\xef\xbb\xbfdata_x\n_y 1\n")) == {"x": [["1"]]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_pairs_comments_and_blocks_are_streamed(tmp_path: Path, end: str) -> None:
    text = "data_one\n\n_a 1\n_b 'two words' # c\n# c\n\ndata_two #\nloop_\n_x #1\n\n; c\n1 # c\n"
    text += "2\n"
    path = save(tmp_path / "a.star", (text + "data_one\n_a 3\n_b 4\n").replace("\n", end))
    assert rows_of(path) == {"one": [["1", "two words"], ["3", "4"]], "two": [["1"], ["2"]]}


@pytest.mark.parametrize(
    "text",
    ["data_\nloop_\n_x\n" + "1 " * 20_000, "data_\n_x 1\0\n", b"data_\nloop_\n_x\n1\n\xff\n"],
)
def test_what_cannot_be_streamed_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(BadInput, match=r"a\.star cannot be read as a STAR file"):
        rows_of(save(tmp_path / "a.star", text))


def test_blocks_of_one_name_are_joined(tmp_path: Path) -> None:
    swapped = HEAD.replace("_x #1\n_y #2", "_y #1\n_x #2")
    path = save(tmp_path / "a.star", f"{HEAD}1 2\n\n{swapped}4 3\n\n{HEAD}5 6\n")
    table = read_blocks(path, ["x", "y"])[""]
    assert table["x"].tolist() == [1, 3, 5]
    assert table["y"].tolist() == [2, 4, 6]


def test_blocks_of_one_name_with_different_columns_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", f"{HEAD}1 2\n\n{HEAD}_z #3\n1 2 3\n")
    with pytest.raises(BadInput, match=r"a\.star.*2 blocks data_ .*only some have _z; write"):
        read_blocks(path)


def test_blocks_with_the_same_columns_are_taken_together(tmp_path: Path) -> None:
    text = "".join(HEAD.replace("data_", f"data_{n}") + f"{n} 0\n\n" for n in (1, 2))
    table, note = find_tables(read_blocks(save(tmp_path / "a.star", text)), ("x", "y"))
    assert table is not None
    assert table["x"].tolist() == ["1", "2"]
    assert note == "the blocks data_1 and data_2 of the file are read together"


def test_of_different_blocks_the_preferred_one_is_taken(tmp_path: Path) -> None:
    text = HEAD.replace("data_", "data_1") + "1 0\n\n"
    text += HEAD.replace("data_", "data_2") + "_z #3\n2 0 0\n\n"
    text += HEAD.replace("data_", "data_3") + "\n\n" + HEAD.replace("_x", "_w") + "4 0\n"
    blocks = read_blocks(save(tmp_path / "a.star", text))
    for preferred, taken in (((), "1"), (("2",), "2"), (("3", "2"), "2")):
        table, note = find_tables(blocks, ("x", "y"), preferred)
        assert table is not None
        assert table["x"].tolist() == [taken]
        assert note == f"of the blocks data_1 and data_2 of the file only data_{taken} is read"
    assert find_tables(blocks, ("x", "z"))[1] is None
    assert find_tables(blocks, ("v",)) == (None, None)


def test_blank_lines_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    path.write_text("data_\n\nloop_\n_rlnCoordinateX #1\n1\n" + 300_000 * "\n" + "2\n")
    read_blocks(path)
    tracemalloc.start()
    table = read_blocks(path)[""]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table["rlnCoordinateX"].tolist() == ["1", "2"]
    assert peak < 5 * path.stat().st_size
