"""Which reader a file or folder gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates import formats
from heliodor.data.coordinates.formats import (
    describe_formats,
    find_files,
    mask_selected,
    read_picks,
    relion_star,
)
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from helpers.coordinate_files import BLOCK, NAMED, example, ours, same, save, write_autopick


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


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("{}_manualpick.star", BLOCK + "1 2\n"),
        ("{}.tsv", "x\ty\n1\t2\n"),
        ("{}.csv", "x,y\n1,2\n"),
        ("{}_picks.txt", "x\ty\n1\t2\n"),
        ("{}.box", "0 1 2 2\n"),
        (
            "{}.cbox",
            "data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_Width #3\n_Height #4\n"
            "0 1 2 2\n",
        ),
        ("{}_info.json", '{"boxes": [[1, 2, "manual"]]}'),
    ],
)
def test_an_empty_file_among_others_is_a_micrograph_without_picks(tmp_path: Path, name, filled):
    for stem, text in (("a", filled), ("b", ""), ("c", filled)):
        save(tmp_path / name.format(stem), text)
    pattern = tmp_path / name.format("*")
    for where in (tmp_path, pattern, [tmp_path / name.format(stem) for stem in "abc"]):
        picks = read_picks(where)
        assert picks.micrographs == ("a", "b", "c")
        assert picks.counts().tolist() == [1, 0, 1]
        assert picks.xy_px.tolist() == [[1, 2]] * 2
    assert "empty" not in describe_formats(find_files(tmp_path))


@pytest.mark.parametrize("name", ["a.star", "picks.tsv", "autopick.star", "a.cs", "a_info.json"])
def test_one_empty_file_is_refused(tmp_path: Path, name):
    path = save(tmp_path / name, "")
    with pytest.raises(BadInput, match=f"{name} is empty"):
        read_picks(path)
    if name in ("autopick.star", "a.cs"):  # not those of one micrograph
        save(tmp_path / "b.star", BLOCK + "1 2\n")
        with pytest.raises(BadInput, match=f"{name} is empty"):
            read_picks([tmp_path / "b.star", path])


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


def test_a_file_that_cannot_be_read_is_reported_by_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.box", "0 0 2 2\n")
    locked = save(tmp_path / "b.box", "0 0 2 2\n")

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(formats, "is_blank", refuse)
    assert not formats.is_empty_coordinate_file(locked)
    assert len(read_picks(tmp_path)) == 2
