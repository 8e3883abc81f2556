"""Coordinate files as RELION's pickers leave them: a list, and one file per micrograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks, relion_star
from heliodor.data.coordinates.picks import Picks
from heliodor.errors import BadInput
from helpers.coordinate_files import BLOCK, example, same, save, write_autopick


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


LIST = (
    "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    "M/a.mrc a.star\nM/b.mrc b.star\nM/c.mrc c.star\n"
)


@pytest.mark.parametrize(
    "blank", ["", "\n\n", "# version 30001\n", BLOCK, BLOCK.replace("data_", "data_\n# none\n")]
)
def test_relion_lists_files_of_micrographs_without_picks(tmp_path: Path, blank, capsys):
    save(tmp_path / "a.star", blank)
    save(tmp_path / "b.star", BLOCK + "_rlnAutopickFigureOfMerit #3\n1 2 0.5\n3 4 1\n")
    save(tmp_path / "c.star", blank)
    picks = read_picks(save(tmp_path / "manualpick.star", LIST))
    assert picks.micrographs == ("M/a.mrc", "M/b.mrc", "M/c.mrc")
    assert picks.counts().tolist() == [0, 2, 0]
    assert picks.score.tolist() == [0.5, 1]
    assert capsys.readouterr().err == ""
    save(tmp_path / "b.star", blank)
    assert read_picks(tmp_path).counts().tolist() == [0, 0, 0]


def test_a_missing_file_of_a_list_stops_no_other(tmp_path: Path, capsys):
    save(tmp_path / "b.star", BLOCK + "1 2\n")
    path = save(tmp_path / "manualpick.star", LIST)
    picks = read_picks(path)
    assert dict(zip(picks.micrographs, picks.counts(), strict=True)) == {
        "M/a.mrc": 0,
        "M/b.mrc": 1,
        "M/c.mrc": 0,
    }
    assert capsys.readouterr().err == (
        f"note: {path} lists 2 coordinate files that do not exist (such as a.star): their"
        " micrographs count as without picks\n"
    )


def test_a_list_is_read_from_its_own_project(tmp_path: Path, monkeypatch, capsys):
    listed = LIST.partition("M/a.mrc")[0] + "M/a.mrc Pick/job004/M/a.star\n"
    for number, project in enumerate("AB", 1):
        save(tmp_path / project / "Pick/job004/M/a.star", BLOCK + "1 2\n" * number)
        path = save(tmp_path / project / "Pick/job004/manualpick.star", listed)
    (tmp_path / "link").symlink_to(path.parent)
    monkeypatch.chdir(tmp_path / "A")
    for given in (path, tmp_path / "link" / "manualpick.star", tmp_path / "link"):
        assert len(read_picks(given)) == 2
        said = capsys.readouterr().err
        assert said.count("1 of the coordinate files in") == 1
        assert "those of the list's own project are used" in said
    assert len(read_picks("Pick/job004")) == 1
    assert capsys.readouterr().err == ""


def test_a_damaged_file_of_a_list_is_named(tmp_path: Path):
    for name, text in (("a", BLOCK + "1 2\n"), ("b", "hello\n"), ("c", "")):
        save(tmp_path / f"{name}.star", text)
    with pytest.raises(BadInput, match=r"b\.star has no data_ block"):
        read_picks(save(tmp_path / "manualpick.star", LIST))


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
        ("mic_automatch.star", "mic"),
        ("mic_checked.star", "mic"),
        ("mic_topaz.star", "mic"),
        ("mic_extract.star", "mic"),
        ("mic_pick_extract.star", "mic_pick"),
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
