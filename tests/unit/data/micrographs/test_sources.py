from __future__ import annotations

import os
import tracemalloc
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliodor.data.micrographs.name_matching import _Folders, match_names
from heliodor.data.micrographs.names import (
    find_name_fault,
    is_gain_reference,
    movie_stem,
    use_slashes,
)
from heliodor.data.micrographs.sources import (
    Source,
    are_named_from_here,
    find_sources,
    leave_out_listed,
)
from heliodor.errors import BadInput


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder of one's own, so that relative names can be given."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(sources):
    return [source.name for source in sources]


def stems(sources):
    return [source.output_stem for source in sources]


def star(path, rows, columns="rlnMicrographName", optics=None, block="micrographs"):
    """Write a STAR file by hand, as RELION writes them."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lines = ["", "# version 30001", ""]
    if optics is not None:
        lines += ["data_optics", "", "loop_ ", "_rlnOpticsGroupName #1 ", "_rlnOpticsGroup #2 "]
        lines += ["_rlnMicrographPixelSize #3 "]
        lines += [f"  opticsGroup{group}  {group}  {size} " for group, size in optics]
        lines += [" ", "", "# version 30001", ""]
    lines += [f"data_{block}", "", "loop_ "]
    lines += [f"_{name} #{i} " for i, name in enumerate(columns.split(), 1)]
    lines += [f"{row} " for row in rows]
    Path(path).write_text("\n".join([*lines, " ", ""]), encoding="utf-8")
    return path


# What can be named


def test_a_file(here):
    touch("mics/a.mrc")
    (source,) = find_sources("mics/a.mrc")
    assert source == Source("mics/a.mrc", Path("mics/a.mrc"), "a", None)
    assert find_sources(Path("mics/a.mrc")) == [source]


def test_several_inputs_in_the_order_given(here):
    touch("b.mrc", "a.mrc", "mics/d.mrc", "mics/c.tif")
    assert names(find_sources(["b.mrc", "mics", "a.mrc"])) == [
        "b.mrc",
        "mics/c.tif",
        "mics/d.mrc",
        "a.mrc",
    ]


def test_a_folder_holds_what_can_be_read(here):
    touch("m/b.mrc", "m/a.MRC.GZ", "m/c.tif", "m/a.star", "m/notes.txt", "m/sub/d.mrc", "m/e.eer")
    sources = find_sources("m")
    assert names(sources) == ["m/a.MRC.GZ", "m/b.mrc", "m/c.tif"]
    assert stems(sources) == ["a", "b", "c"]
    assert find_sources(str(here / "m"))[1].path == here / "m" / "b.mrc"


def test_hidden_files_are_no_micrographs(here):
    touch("m/a.mrc", "m/._a.mrc", "m/.b.mrc.77.part.mrc", "m/.c.tif", "m/sub/._d.mrc")
    for typed in ("m", "m/*.mrc", "m/**/*.mrc", "m/*"):
        assert names(find_sources(typed)) == ["m/a.mrc"]
    with pytest.raises(BadInput, match="no MRC or TIFF file matches"):
        find_sources("m/.*.mrc")
    touch("n/._a.mrc")
    with pytest.raises(BadInput, match="contains no MRC or TIFF file"):
        find_sources("n")
    assert names(find_sources("m/._a.mrc")) == ["m/._a.mrc"]  # asked for by its name


RELION = ("_noDW", "_EVN", "_ODD", "_PS")


def test_by_products_of_motion_correction_are_left_out(here, capsys):
    touch(
        "m/a.mrc", "m/b_1.mrc", *(f"m/a{end}.mrc" for end in RELION), "m/b_1_PS.mrc", "m/c_PS.mrc"
    )
    for typed in ("m", "m/*.mrc", "*/*"):
        assert names(find_sources(typed)) == ["m/a.mrc", "m/b_1.mrc", "m/c_PS.mrc"]
        said = capsys.readouterr().err
        assert said.count("note: 5 files are by-products of motion correction") == 1
        assert "(such as m/a_EVN.mrc)" in said
    # They are used if they are asked for.
    assert names(find_sources("m/*_EVN.mrc")) == ["m/a_EVN.mrc"]
    assert names(find_sources(["m/a_noDW.mrc"])) == ["m/a_noDW.mrc"]
    assert capsys.readouterr().err == ""


def test_by_products_of_cryosparc_are_left_out(here, capsys):
    stem = "J3/000588255143468195995_a"
    touch(f"{stem}_background.mrc", f"{stem}_patch_aligned_doseweighted.mrc")
    assert names(find_sources("J3")) == [f"{stem}_patch_aligned_doseweighted.mrc"]
    assert "1 files are by-products" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["_DW", "_DWS", "_patch_aligned", "_PS", "_noDW"])
def test_two_micrographs_of_one_movie_are_mentioned(here, capsys, end):
    """Whatever the shell made of a pattern, or a list says, is used."""
    paths = ["m/a.mrc", f"m/a{end}.mrc", "m/b.mrc"]
    touch(*paths, "n/a_DW.mrc")
    assert names(find_sources([*paths, "n"])) == [*paths, "n/a_DW.mrc"]
    star("m.star", [*paths, "n/a_DW.mrc"])
    assert names(find_sources("m.star")) == [*paths, "n/a_DW.mrc"]
    words = "note: 1 micrographs seem to be of the same movies as others (such as m/a.mrc and"
    assert capsys.readouterr().err == f"{words} m/a{end}.mrc); all are used\n" * 2


def test_an_empty_folder_says_how_to_reach_deeper(here):
    touch("m/sub/d.mrc")
    with pytest.raises(BadInput, match=r"m/\*\*/\*\.mrc"):
        find_sources("m")
    assert names(find_sources("m/**/*.mrc")) == ["m/sub/d.mrc"]


def test_globs_keep_the_folders_below_their_fixed_part(here):
    touch("p/x/a.mrc", "p/y/a.mrc", "p/b.mrc", "p/z/a.txt", "p/w.mrc/c.tif")
    sources = find_sources("p/**/*.mrc")
    assert names(sources) == ["p/b.mrc", "p/x/a.mrc", "p/y/a.mrc"]
    assert stems(sources) == ["b", "x/a", "y/a"]
    assert stems(find_sources("p/x/?.mrc")) == ["a"]
    assert stems(find_sources("p/[xy]/a.mrc")) == ["x/a", "y/a"]
    assert stems(find_sources(str(here / "p*" / "x" / "*.mrc"))) == ["p/x/a"]
    assert stems(find_sources("*/b.mrc")) == ["p/b"]
    with pytest.raises(BadInput, match="no MRC or TIFF file matches"):
        find_sources("p/**/*.txt")


def test_a_name_with_brackets_that_exists_is_no_pattern(here):
    touch("grid[1]/a[2].mrc", "grid1/a2.mrc")
    assert names(find_sources("grid[1]/a[2].mrc")) == ["grid[1]/a[2].mrc"]


def test_lists(here):
    touch("a.mrc", "with space.mrc", "m/b.mrc", "ünïcode.mrc")
    Path("list.txt").write_bytes(
        "\ufeff# all of them\r\n  # and a comment\r\na.mrc\r\n\r\n with space.mrc \r\nm\r\n"
        "ünïcode.mrc\r\n".encode()
    )
    assert names(find_sources("@list.txt")) == [
        "a.mrc",
        "with space.mrc",
        "m/b.mrc",
        "ünïcode.mrc",
    ]
    Path("both.txt").write_text("@list.txt\nm/*.mrc\n")
    assert len(find_sources("@both.txt")) == 4


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("none.mrc\n", "none.mrc does not exist"),
        ("@list.txt\n", "names itself"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_lists_that_cannot_be_used(here, contents, words):
    Path("list.txt").write_bytes(contents.encode() if isinstance(contents, str) else contents)
    with pytest.raises(BadInput, match=words):
        find_sources("@list.txt")


@pytest.mark.parametrize("given", ["none.mrc", "none", "@none.txt", "none.star", "none/*.mrc", []])
def test_what_is_not_there(here, given):
    with pytest.raises(BadInput):
        find_sources(given)


def test_a_file_is_one_micrograph_however_it_is_named(here):
    touch("m/a.mrc", "m/b.mrc")
    Path("link.mrc").symlink_to("m/a.mrc")
    inputs = ["m/a.mrc", "m", "./m/../m/a.mrc", str(here / "m/b.mrc"), "link.mrc", "m/*.mrc"]
    assert names(find_sources(inputs)) == ["m/a.mrc", "m/b.mrc"]


# STAR files


def test_relion_3_0_has_one_block(here):
    touch("Movies/a.mrc", "Movies/b.mrc")
    columns = "rlnMicrographName rlnMagnification rlnDetectorPixelSize"
    rows = ["Movies/a.mrc 10000 5", "Movies/b.mrc 50000 7"]
    for block in ("", "images"):
        star("m.star", rows, columns, block=block)
        sources = find_sources("m.star")
        assert names(sources) == ["Movies/a.mrc", "Movies/b.mrc"]
        assert [source.pixel_size_angstrom for source in sources] == pytest.approx([5, 1.4])
    star("m.star", rows, "rlnMicrographName rlnMicrographPixelSize rlnVoltage", block="")
    assert find_sources("m.star")[0].pixel_size_angstrom == 10000


def test_relion_3_1_has_optics_groups(here):
    touch("a.mrc", "b.mrc", "c.mrc")
    star(
        "m.star",
        ["a.mrc 2", "b.mrc 1", "c.mrc 7"],
        "rlnMicrographName rlnOpticsGroup",
        [(1, 0.83), (2, 1.06)],
    )
    sources = find_sources("m.star")
    assert [source.pixel_size_angstrom for source in sources] == [1.06, 0.83, None]
    assert stems(sources) == ["a", "b", "c"]


def test_one_optics_group_is_everybodys(here):
    touch("a.mrc")
    star("m.star", ["a.mrc"], optics=[(1, 3.54)])
    assert find_sources("m.star")[0].pixel_size_angstrom == 3.54


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "None", "0.000000"])
def test_a_star_file_may_not_know_the_pixel_size(here, size):
    touch("a.mrc", "b.mrc")
    star("m.star", ["a.mrc 1", "b.mrc 1"], "rlnMicrographName rlnOpticsGroup", [(1, size)])
    assert find_sources("m.star")[0].pixel_size_angstrom is None
    star("m.star", [f"a.mrc {size}", "b.mrc 1.5"], "rlnMicrographName rlnMicrographPixelSize")
    assert [s.pixel_size_angstrom for s in find_sources("m.star")] == [None, 1.5]
    columns = "rlnMicrographName rlnDetectorPixelSize rlnMagnification"
    star("m.star", [f"a.mrc {size} 10000", f"b.mrc 5 {size}"], columns)
    assert [s.pixel_size_angstrom for s in find_sources("m.star")] == [None, None]


@pytest.mark.parametrize("where", ["here", "star", "project"])
def test_names_are_relative_to_the_project_or_to_the_star_file(tmp_path, monkeypatch, where):
    project = tmp_path / "project"
    path = star(project / "CtfFind/job003/micrographs_ctf.star", ["MotionCorr/job002/M/a.mrc"])
    root = {"here": tmp_path / "else", "star": path.parent, "project": project}[where]
    touch(root / "MotionCorr/job002/M/a.mrc")
    (tmp_path / "else").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "else")
    (source,) = find_sources(path)
    assert source.path.samefile(root / "MotionCorr/job002/M/a.mrc")
    assert source.name == "MotionCorr/job002/M/a.mrc"
    assert source.output_stem == "M/a"


def test_the_project_of_a_list_comes_before_the_current_folder(tmp_path, monkeypatch, capsys):
    """Its name in the current folder may be another micrograph of another project."""
    name = "MotionCorr/job002/M/a.mrc"
    for project in "AB":
        star(tmp_path / project / "CtfFind/job003/m.star", [name, "MotionCorr/job002/M/gone.mrc"])
        touch(tmp_path / project / name)
    monkeypatch.chdir(tmp_path / "A")
    found, missing = find_sources("../B/CtfFind/job003/m.star")
    assert os.path.samefile(found.path, tmp_path / "B" / name)
    assert (found.name, missing.path) == (name, Path("MotionCorr/job002/M/gone.mrc"))
    said = capsys.readouterr().err
    assert "note: 1 of the micrographs in ../B/CtfFind/job003/m.star are also in the" in said
    assert str(found.path) in said
    assert not are_named_from_here([found])
    # Each project by itself, and a link to the other one's file, are no choice.
    assert find_sources("CtfFind/job003/m.star")[0].path == Path(name)
    (tmp_path / "A" / name).unlink()
    (tmp_path / "A" / name).symlink_to(tmp_path / "B" / name)
    assert find_sources("../B/CtfFind/job003/m.star")[0].path == Path(name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("linked", ["file", "folder", "both"])
def test_a_list_may_be_given_through_a_link(tmp_path, monkeypatch, linked):
    name = "MotionCorr/job002/M/a.mrc"
    listed = star(tmp_path / "P/CtfFind/job003/m.star", [name])
    touch(tmp_path / "P" / name)
    links = tmp_path / "L"
    links.mkdir()
    (links / "m.star").symlink_to(listed)
    (links / "ctf").symlink_to("../P/CtfFind/job003")
    (links / "twice").symlink_to("ctf")
    given = {"file": "L/m.star", "folder": "L/ctf/m.star", "both": "L/twice/m.star"}[linked]
    monkeypatch.chdir(tmp_path)
    (found,) = find_sources(given)
    assert os.path.samefile(found.path, tmp_path / "P" / name)
    assert found.name == name


def test_links_to_one_file_are_used_once_and_not_silently(here, caplog):
    touch("m/a.mrc", "m/b.mrc")
    assert len(find_sources(["m", "m/a.mrc"])) == 2
    assert not caplog.records  # the same file given twice
    Path("m/c.mrc").symlink_to("a.mrc")
    assert [source.name for source in find_sources("m")] == ["m/a.mrc", "m/b.mrc"]
    assert "1 of the micrographs are links to others" in caplog.text
    assert "m/c.mrc to m/a.mrc" in caplog.text


def test_missing_micrographs_of_a_star_file_stay_listed_unless_all_are(here):
    touch("a.mrc")
    star("m.star", ["a.mrc", "gone.mrc"])
    assert names(find_sources("m.star")) == ["a.mrc", "gone.mrc"]
    star("m.star", ["gone.mrc", "gone2.mrc"])
    with pytest.raises(BadInput, match=r"none of the 2 micrographs.*gone\.mrc"):
        find_sources("m.star")


def test_names_that_look_like_numbers_or_hold_a_space(here):
    touch("000012", "000012.mrc", "1.50", "1e5", "my mic.mrc", "ü.mrc")
    star("m.star", ["000012", "000012.mrc", "1.50", "1e5", '"my mic.mrc"', "ü.mrc", "000012"])
    assert names(find_sources("m.star")) == [
        "000012",
        "000012.mrc",
        "1.50",
        "1e5",
        "my mic.mrc",
        "ü.mrc",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("hello\n", "not a STAR file"),
        ("data_\n\nloop_\n_rlnMicrographName #1\n", "lists no micrographs"),
        ("data_\n\nloop_\n_rlnCoordinateX #1\n1.0\n", "does not list micrographs"),
        ("data_\n\nloop_\n_rlnMicrographName #1\na.mrc b.mrc\n", "cannot be read"),
    ],
)
def test_star_files_that_list_nothing(here, text, words):
    Path("m.star").write_text(text)
    with pytest.raises(BadInput, match=words):
        find_sources("m.star")


def test_real_star_files(real_data):
    sources = find_sources(real_data / "betagal/train.star")
    assert len(sources) == 10
    assert {source.pixel_size_angstrom for source in sources} == {3.54}
    assert all(source.path.exists() for source in sources)
    from_folder = find_sources(real_data / "betagal/micrographs")
    assert set(match_names(names(sources), from_folder)) == set(names(sources))


# Where results go


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("MotionCorr/job002/Movies/a.mrc", "Movies/a"),
        ("MotionCorr/job1234/a.mrc", "a"),
        ("Import/job001/Movies/g1/a.b.mrc.gz", "Movies/g1/a.b"),
        ("Movies/a.mrc", "Movies/a"),
        ("Movies/a.tiff", "Movies/a"),
        ("Movies/FoilHole_1.2_3", "Movies/FoilHole_1.2_3"),
        ("/data/Movies/a.mrc", "data/Movies/a"),
        ("//data/Movies/a.mrc", "data/Movies/a"),
        ("../../etc/a.mrc", "etc/a"),
        ("Movies/../../../a.mrc", "Movies/a"),
        ("MotionCorr/job002/../../a.mrc", "a"),
        ("MotionCorr/job002//data/a.mrc", "data/a"),
        ("./a.mrc", "a"),
        ("a.mrc.GZ", "a"),
    ],
)
def test_stems_of_relion(here, name, stem):
    touch("there.mrc")
    star("m.star", [name, "there.mrc"])
    assert stems(find_sources("m.star")) == [stem, "there"]


parts = st.sampled_from(["..", ".", "", "a", "b.mrc", "job001", "Job", "~", "c.d", "..mrc", "..."])


@settings(max_examples=60)
@given(st.lists(parts, min_size=1, max_size=6).map("/".join))
def test_no_name_leads_out_of_the_output_folder(tmp_path_factory, name):
    if not name.strip("/"):
        return
    folder = tmp_path_factory.mktemp("s")
    touch(folder / "there.mrc")
    path = star(folder / "m.star", [name, "there.mrc"])
    if find_name_fault(name) is not None:
        with pytest.raises(BadInput, match="the name of a folder"):
            find_sources(path)
        return
    for source in find_sources(path):
        stem = PurePosixPath(source.output_stem)
        assert not stem.is_absolute()
        assert ".." not in stem.parts
        assert stem.name
        inside = (folder / "out" / f"{source.output_stem}_autopick.star").resolve()
        assert inside.is_relative_to((folder / "out").resolve())


def test_no_pattern_leads_out_of_the_output_folder_either(here):
    touch("a/b/c/d.mrc", "e/f.mrc")
    (source,) = find_sources("a/*/../../e/*.mrc")
    assert source.path.samefile("e/f.mrc")
    assert source.output_stem == "b/e/f"


def test_colliding_stems_are_told_apart(here):
    touch("A/x.mrc", "B/x.mrc", "A/y.mrc", "A/x.tif")
    sources = find_sources(["A/x.mrc", "B/x.mrc", "A/y.mrc", "A/x.tif"])
    assert len(set(stems(sources))) == 4
    assert stems(sources)[2] == "y"
    assert stems(sources)[0].endswith("here/A/x_mrc")
    assert stems(sources) == stems(find_sources(["A/x.mrc", "B/x.mrc", "A/y.mrc", "A/x.tif"]))


def test_even_stems_that_collide_again_are_told_apart(here):
    # All that a dot says is lost when the whole path becomes the stem.
    touch("A/b.c.mrc", "A/b_c.mrc", "B/b.c.mrc", "B/b_c.mrc")
    sources = find_sources(["A/b.c.mrc", "A/b_c.mrc", "B/b.c.mrc", "B/b_c.mrc"])
    assert len(set(stems(sources))) == 4


def test_micrographs_of_one_name_in_two_projects(tmp_path, here):
    for project in "pq":
        touch(tmp_path / project / "Movies/a.mrc")
        star(tmp_path / project / "m.star", ["Movies/a.mrc"])
    sources = find_sources([tmp_path / "p/m.star", tmp_path / "q/m.star"])
    assert len(set(names(sources))) == 2
    assert len(set(stems(sources))) == 2
    with pytest.raises(BadInput, match="could be"):
        match_names(["Movies/a.mrc"], sources)


# Which micrograph a table of coordinates means


def given_files(*paths):
    return [Source(path, Path(path), PurePosixPath(path).stem) for path in paths]


def matched(labels, *paths):
    return {name: found.name for name, found in match_names(labels, given_files(*paths)).items()}


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ("mic001", "/data/mics/mic001.mrc"),
        ("mic001.mrc", "/data/mics/mic001.mrc"),
        ("mic001.tif", "/data/mics/mic001.mrc"),
        ("micrographs/a.mrc", "/x/y/micrographs/a.mrc"),
        ("micrographs/a", "/x/y/micrographs/a.mrc.gz"),
        ("./micrographs/a.mrc", "/x/y/micrographs/a.mrc"),
        ("../micrographs/a.mrc", "/x/y/micrographs/a.mrc"),
        ("/x/y/micrographs/a.mrc", "micrographs/a.mrc"),
        ("MotionCorr/job002/Movies/a.mrc", "preprocessed/a.mrc"),
        ("MotionCorr/job002/Movies/a.mrc", "MotionCorr/job005/Movies/a.mrc"),
        ("Movies/a.tiff", "MotionCorr/job002/Movies/a.mrc"),
        ("Movies/a.eer", "MotionCorr/job002/Movies/a.mrc"),
        ("000012", "m/000012.mrc"),
        ("mic.001", "m/mic.001.mrc"),
        ("A/with space ü.mrc", "B/with space ü.mrc"),
    ],
)
def test_simple_names(label, path):
    assert matched([label], path, "/x/y/micrographs/other.mrc") == {label: path}


UID = "000000000123456789012_"


@pytest.mark.parametrize(
    "label",
    [
        f"J2/motioncorrected/{UID}m_patch_aligned_doseweighted.mrc",
        f"J2/motioncorrected/{UID}m_patch_aligned.mrc",
        f"J2/motioncorrected/{UID}m_rigid_aligned.mrc",
        f"J2/imported/{UID}m.tif",
        "m_patch_aligned_doseweighted",
        ">m.mrc",  # of an exported file
        f">{UID}m.mrc",
    ],
)
def test_names_of_cryosparc_mean_the_micrographs_of_relion(label):
    relion = "MotionCorr/job002/Movies/m.mrc"
    assert matched([label], relion, "MotionCorr/job002/Movies/n.mrc") == {label: relion}
    assert matched(["m"], label) == {"m": label}
    # A name that is the same comes first.
    own = f"J2/{label.rpartition('/')[2]}"
    assert matched([label], relion, own) == {label: own}


def test_a_suffix_of_cryosparc_alone_is_a_name():
    assert matched(["a/_patch_aligned.mrc"], "b/_patch_aligned.mrc", "b/c.mrc") == {
        "a/_patch_aligned.mrc": "b/_patch_aligned.mrc"
    }
    assert matched(["m_patch_aligned_x.mrc"], "m.mrc") == {}


@pytest.mark.parametrize("file_stem", ["grid_pick", "grid_pick.mrc"])
def test_the_whole_stem_of_a_coordinate_file_comes_first(file_stem):
    stems = {"grid": [file_stem]}

    def found(*paths):
        return match_names(["grid"], given_files(*paths), stems).get("grid")

    assert found("m/grid.mrc", "m/grid_pick.mrc").name == "m/grid_pick.mrc"
    assert found("m/grid_pick.mrc").name == "m/grid_pick.mrc"
    assert found("m/grid.mrc", "m/other.mrc").name == "m/grid.mrc"
    assert found("m/other.mrc") is None


def test_files_of_one_name_may_be_of_two_micrographs():
    stems = {"grid": ["grid_pick", "grid_manualpick"]}
    both = given_files("m/grid.mrc", "m/grid_pick.mrc")
    assert match_names(["grid"], both[:1], stems) == {"grid": both[0]}
    words = "grid_pick and grid_manualpick would both .* but one .* name of m/grid_pick.mrc"
    with pytest.raises(BadInput, match=words):
        match_names(["grid"], both, stems)


def test_a_dot_in_a_name_is_no_suffix():
    assert matched(["mic.001"], "m/mic.mrc") == {}
    assert matched(["mic.001", "mic.002"], "m/mic.mrc", "m/mic.001.mrc") == {
        "mic.001": "m/mic.001.mrc"
    }


def test_names_of_no_micrograph_are_left_out():
    assert matched(["other", "A/other.mrc", "A/x.mrc"], "A/x.mrc") == {"A/x.mrc": "A/x.mrc"}
    assert matched([], "A/x.mrc") == {}
    assert matched(["A/x.mrc"]) == {}


def test_the_whole_name_comes_first():
    paths = ["x.mrc", "A/x.mrc", "B/A/x.mrc"]
    assert matched(paths, *paths) == {path: path for path in paths}


def test_one_stem_in_two_folders_goes_by_the_folder():
    paths = ("/new/A/x.mrc", "/new/B/x.mrc")
    expected = {"A/x.mrc": "/new/A/x.mrc", "B/x.mrc": "/new/B/x.mrc"}
    assert matched(["A/x.mrc", "B/x.mrc"], *paths) == expected
    assert matched(["B/x.mrc", "A/x.mrc"], *paths[::-1]) == expected
    assert matched(["B/x.mrc"], *paths) == {"B/x.mrc": "/new/B/x.mrc"}
    for old in ("/old/", "old/deeper/"):
        labels = [f"{old}A/x", f"{old}B/x"]
        assert list(matched(labels, *paths).values()) == list(paths)
    job = "MotionCorr/job002/Movies/"
    assert matched([f"{job}A/x.mrc"], *paths) == {f"{job}A/x.mrc": "/new/A/x.mrc"}


@pytest.mark.parametrize(
    "labels",
    [["x"], ["x.mrc"], ["C/x.mrc"], ["raw/x.mrc", "raw/y.mrc"]],
)
def test_ambiguous_names_are_refused(labels):
    with pytest.raises(BadInput, match=r"could be .*A/x\.mrc or .*B/x\.mrc; add the folder"):
        matched(labels, "/d/A/x.mrc", "/d/B/x.mrc")


def test_one_folder_below_two_others_is_refused():
    with pytest.raises(BadInput, match="could be"):
        matched(["Movies/x.mrc"], "/g1/Movies/x.mrc", "/g2/Movies/x.mrc")


def test_the_suffix_decides_between_two_files_of_one_folder():
    paths = ("/d/A/x.mrc", "/d/A/x.tif")
    assert matched(["A/x.tif"], *paths) == {"A/x.tif": "/d/A/x.tif"}
    with pytest.raises(BadInput, match="could be"):
        matched(["A/x"], *paths)


def test_labels_of_a_micrograph_that_was_not_given_go_nowhere():
    # Only B/x is given, and the labels know both: A/x is another micrograph.
    for path in ("B/x.mrc", "/d/B/x.mrc", "/d/e/B/x.mrc"):
        assert matched(["A/x.mrc", "B/x.mrc"], path) == {"B/x.mrc": path}
        assert matched(["B/x.mrc", "A/x.mrc"], path) == {"B/x.mrc": path}
        assert matched(["p/A/x.mrc", "p/B/x.mrc"], path) == {"p/B/x.mrc": path}


def test_nor_where_their_folder_is_known_only_by_other_micrographs():
    # B/x has no labels, but B has: so A/x, which has, is not B/x.
    assert matched(["A/x.mrc", "B/y.mrc"], "/d/B/x.mrc", "/d/B/y.mrc") == {"B/y.mrc": "/d/B/y.mrc"}
    # A was given, without its x: so the labels' A/x is not B/x.
    assert matched(["A/x.mrc", "A/y.mrc"], "/d/A/y.mrc", "/d/B/x.mrc") == {"A/y.mrc": "/d/A/y.mrc"}
    # The same after both were moved.
    assert matched(["old/A/x.mrc", "old/B/y.mrc"], "/new/B/x.mrc", "/new/B/y.mrc") == {
        "old/B/y.mrc": "/new/B/y.mrc"
    }
    assert matched(["g1/Movies/x.mrc", "g2/Movies/y.mrc"], "/g2/Movies/x.mrc") == {}


def test_folders_that_were_flattened_into_one():
    assert matched(["d1/a.mrc", "d2/b.mrc"], "pre/a.mrc", "pre/b.mrc") == {
        "d1/a.mrc": "pre/a.mrc",
        "d2/b.mrc": "pre/b.mrc",
    }


def test_one_folder_that_was_divided():
    assert matched(["m/a.mrc", "m/b.mrc"], "/d/train/a.mrc", "/d/test/b.mrc") == {
        "m/a.mrc": "/d/train/a.mrc",
        "m/b.mrc": "/d/test/b.mrc",
    }


@pytest.mark.parametrize(
    "labels",
    [["A/x.mrc", "C/x.mrc"], ["x", "B/x.mrc"], ["x.mrc", "old/B/x.mrc"], ["g/B/x.mrc", "B/x.mrc"]],
)
def test_two_names_that_fit_one_micrograph_are_refused(labels):
    with pytest.raises(BadInput, match=r"of .*x.* and of .*x.* both match the micrograph"):
        matched(labels, "/d/g/B/x.mrc")


def test_two_spellings_of_one_name_are_one_micrograph(here):
    touch("B/x.mrc")
    labels = ["B/x.mrc", "./B/x.mrc", str(here / "B/x.mrc"), "B/../B/x.mrc"]
    assert set(matched(labels, "B/x.mrc")) == set(labels)
    assert set(matched(["B/x", "B/x.mrc"], "/d/B/x.mrc")) == {"B/x", "B/x.mrc"}


def test_symbolic_links(here):
    touch("data/A/x.mrc", "data/B/x.mrc")
    Path("mics").symlink_to("data/B")
    for label in ("mics/x.mrc", "B/x.mrc", "data/B/x.mrc", str(here / "data/B/x.mrc"), "x"):
        assert matched([label], "mics/x.mrc") == {label: "mics/x.mrc"}
    assert matched(["A/x.mrc", "B/x.mrc"], "mics/x.mrc") == {"B/x.mrc": "mics/x.mrc"}
    assert matched(["data/A/x.mrc", "mics/x.mrc"], "mics/x.mrc") == {"mics/x.mrc": "mics/x.mrc"}


def test_a_micrograph_given_from_within_its_folder(here, monkeypatch):
    touch("A/x.mrc", "B/x.mrc")
    monkeypatch.chdir("B")
    assert matched(["A/x.mrc", "B/x.mrc"], "x.mrc") == {"B/x.mrc": "x.mrc"}
    assert matched(["x"], "x.mrc") == {"x": "x.mrc"}


folders = st.sampled_from(["A", "B", "p/A", "q/B", "A/B", "/r/A", "/r/s/B", "C"])
files = st.sampled_from(["x.mrc", "y.mrc"])
paths = st.lists(st.tuples(folders, files).map("/".join), unique=True, max_size=5)


@given(paths, paths)
def test_micrographs_of_one_stem_are_never_mixed(labels, given):
    """Whatever is given and labeled, no micrograph gets the labels of another one's folder."""
    try:
        found = matched(labels, *given)
    except BadInput:
        return
    assert len(set(found.values())) == len(found)  # none answers to two names
    for label, path in found.items():
        assert PurePosixPath(label).name == PurePosixPath(path).name
        own, folder = PurePosixPath(label).parent, PurePosixPath(path).parent
        if path != label:
            assert label not in given
            assert path not in labels
        if own.name != folder.name:  # taken for moved: then neither folder has a namesake
            assert own.name not in {PurePosixPath(other).parent.name for other in given}
            assert folder.name not in {PurePosixPath(other).parent.name for other in labels}


def test_matching_many_micrographs_is_quick():
    given = [f"/d/g{i % 300}/m{i}.mrc" for i in range(3000)]
    labels = [f"old/g{i % 300}/m{i}.mrc" for i in range(3000)]
    assert len(matched(labels, *given)) == 3000


def agreement_by_definition(path, others):
    """Return what `_Folders.best` does, as its description says it."""
    others = [other for other in others if other]
    if any(path and (o[-len(path) :] == path or path[-len(o) :] == o) for o in others):
        return 1000
    shared = (n for n in range(len(path), 0, -1) if any(o[-n:] == path[-n:] for o in others))
    return next(shared, 0)


folder_paths = st.lists(st.sampled_from("abc"), max_size=4).map(tuple)


@given(folder_paths, st.lists(folder_paths, max_size=8))
def test_agreement_of_folders_is_counted_from_the_last(path, others):
    assert _Folders(others).best(path) == agreement_by_definition(path, others)


def test_names_in_very_deep_folders_take_memory_in_proportion():
    names = [f"m{i}/" + "a/" * 1900 + f"u{i}/x{i}.mrc" for i in range(40)]
    sources = given_files("m/x1.mrc", "m/y.mrc")
    tracemalloc.start()
    try:
        assert matched(names, "m/x1.mrc") == {names[1]: "m/x1.mrc"}
        match_names(names, sources)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * sum(map(len, names))


@pytest.mark.parametrize(
    ("stem", "is_one"),
    [
        ("gain", True),
        ("20210101_gain", True),
        ("GainRef", True),
        ("my-gain-reference", True),
        ("CountRef_x10_001", True),
        ("SuperRef_1", True),
        ("gain_of_function_0001", False),
        ("again", False),
        ("bargain_01", False),
    ],
)
def test_names_of_gain_references(stem: str, is_one: bool) -> None:
    assert is_gain_reference(stem) is is_one


@pytest.mark.parametrize(
    ("stem", "movie"),
    [
        ("a_DW", "a"),
        ("a_aligned_mic", "a"),
        ("a_aligned_mic_DW", "a"),
        ("a_patch_aligned_doseweighted_denoised", "a"),
        ("a_noDW", "a"),
        ("_DW", "_DW"),
        ("a_DWx", "a_DWx"),
    ],
)
def test_what_programs_append_to_the_names_of_movies(stem: str, movie: str) -> None:
    assert movie_stem(stem) == movie


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("C:\\M\\a.mrc", "C:/M/a.mrc"),
        ("\\\\host\\M\\a.mrc", "//host/M/a.mrc"),
        ("M\\a.mrc", "M/a.mrc"),
        ("M/a\\b.mrc", "M/a\\b.mrc"),
        ("M/a.mrc", "M/a.mrc"),
    ],
)
def test_paths_of_windows(name: str, path: str) -> None:
    assert use_slashes(name) == path


def test_a_name_of_the_movie_never_precedes_a_closer_one() -> None:
    assert matched(["a_DW.mrc"], "a.mrc", "a_DW.mrc") == {"a_DW.mrc": "a_DW.mrc"}
    assert matched(["a.mrc"], "a_DW.mrc") == {"a.mrc": "a_DW.mrc"}
    with pytest.raises(BadInput, match="could be"):
        matched(["a.mrc"], "a_DW.mrc", "a_noDW.mrc")


def test_only_one_result_of_a_movie_is_used_for_a_micrograph() -> None:
    assert matched(["a_DW.mrc", "a.mrc"], "a.mrc") == {"a.mrc": "a.mrc"}
    assert matched(["a_DW.mrc", "a_noDW.mrc"], "a.mrc") == {"a_DW.mrc": "a.mrc"}


def test_names_that_exclude_no_micrograph_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [Source(name, tmp_path / name, name) for name in ("M/a.mrc", "M/b.mrc")]
    path = tmp_path / "exclude.txt"
    path.write_text("# bad ice\nM/a.mrc\n\n")
    assert leave_out_listed(sources, path) == sources[1:]
    assert not caplog.text
    path.write_text("a\nM/b.mrc\n")
    assert leave_out_listed(sources, path) == sources[:1]
    assert "1 of the names" in caplog.text
    assert "(such as a); names are like M/a.mrc" in caplog.text
