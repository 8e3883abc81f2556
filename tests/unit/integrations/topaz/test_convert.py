from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.star_list import read_micrographs
from helpers.topaz_cli import (
    PICKS,
    RELION_STAR,
    good,
    refused,
    write_images,
)

#: What Topaz 0.3.20 writes for `PICKS` (with --to star, --to csv, and after scale_coordinates).
STAR = """data_images
loop_
_rlnAutopickFigureOfMerit #1
_rlnMicrographName #2
_rlnCoordinateX #3
_rlnCoordinateY #4
1.5\tb.mrc\t10\t21
-2.25\ta.mrc\t35\t40
0.125\tb.mrc\t101\t3
4.0\ta.mrc\t7\t9
"""
CSV = """filename,file_size,file_attributes,region_count,region_id,\
region_shape_attributes,region_attributes
b.png,-1,{},2,0,"{""name"":""point"",""cx"":10,""cy"":21}","{""score"":""1.5""}"
a.png,-1,{},2,0,"{""name"":""point"",""cx"":35,""cy"":40}","{""score"":""-2.25""}"
b.png,-1,{},2,1,"{""name"":""point"",""cx"":101,""cy"":3}","{""score"":""0.125""}"
a.png,-1,{},2,1,"{""name"":""point"",""cx"":7,""cy"":9}","{""score"":""4.0""}"
"""
QUARTER = PICKS.replace("\t10\t21", "\t2\t5").replace("\t35\t40", "\t9\t10")
QUARTER = QUARTER.replace("\t101\t3", "\t25\t1").replace("\t7\t9", "\t2\t2")
FOUR_TIMES = (
    "image_name\tx_coord\ty_coord\tscore\nb\t40\t84\t1.5\nb\t404\t12\t0.125\na\t28\t36\t4.0\n"
)
OLD_STAR = """data_images
loop_
_rlnImageName #1
_rlnMicrographName #2
_rlnCoordinateX #3
_rlnCoordinateY #4
_rlnParticleScore #5
_rlnVoltage #6
1@b.mrc\tb.mrc\t10\t21\t1.5\t300.0
1@a.mrc\ta.mrc\t35\t40\t-2.25\t300.0
1@b.mrc\tb.mrc\t101\t3\t0.125\t300.0
1@a.mrc\ta.mrc\t7\t9\t4.0\t300.0
"""


def blocks_of(path):
    return starfile.read(path, always_dict=True)


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text(PICKS)
    Path("r.star").write_text(RELION_STAR)


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("topaz convert p.txt", PICKS),
        ("topaz convert p.txt -x 4 -t 0", FOUR_TIMES),
        ("topaz convert p.txt --up-scale 8 --down-scale=2 -t 0", FOUR_TIMES),
        ("topaz convert p.txt --to star", STAR),
        ("topaz convert p.txt --to csv", CSV),
        ("topaz scale_coordinates p.txt", QUARTER),
        ("topaz coordinates_to_star p.txt --voltage 300", OLD_STAR),
    ],
)
def test_texts_that_topaz_writes(line: str, out: str) -> None:
    assert good(line).out == out


def test_numbers_are_whole_where_topaz_has_whole_ones() -> None:
    Path("f.txt").write_text("image_name\tx_coord\ty_coord\na\t10.5\t21.4\na\t7.5\t8\n")
    rows = "a\t10.5\t21.4\na\t7.5\t8.0\n"
    assert good("topaz convert f.txt").out == f"image_name\tx_coord\ty_coord\n{rows}"
    rows = "a\t35\t71\na\t25\t26\n"
    assert good("topaz scale_coordinates f.txt -s 3.3").out.endswith(rows)


@pytest.mark.parametrize("form", ["star", "csv", "txt"])
def test_there_and_back(form: str) -> None:
    good(f"topaz convert p.txt -o out.{form}")
    assert good(f"topaz convert out.{form} --to coord").out == PICKS


def test_line_of_relion_run_topaz() -> None:
    good(
        "topaz convert p.txt --threshold -1 --up-scale 2 --down-scale 1 --voltage -1"
        " --detector-pixel-size -1 --magnification -1 --amplitude-contrast -1 --boxsize 0"
        " --image-ext .mrc --verbose 1 --output F2.star"
    )
    table = blocks_of("F2.star")["images"]
    assert table["rlnMicrographName"].tolist() == ["b.mrc", "b.mrc", "a.mrc"]
    assert table["rlnCoordinateX"].tolist() == [20, 202, 14]
    assert table["rlnAutopickFigureOfMerit"].tolist() == [1.5, 0.125, 4.0]


def test_metadata_becomes_columns() -> None:
    line = "topaz convert p.txt --to star --voltage 300 --detector-pixel-size 5"
    out = good(f"{line} --magnification 5e4 --amplitude-contrast 0.1").out
    assert "1.5\tb.mrc\t10\t21\t300.0\t5.0\t50000.0\t0.1\n" in out
    assert "_rlnAmplitudeContrast #8\n" in out


def test_boxes_of_each_micrograph() -> None:
    good("topaz convert p.txt -o boxes/ --boxsize 5 --suffix _s")
    # As Topaz has them, in a folder that it does not make.
    assert Path("boxes/a_s.box").read_text() == "33\t38\t5\t5\n5\t7\t5\t5\n"
    assert Path("boxes/b_s.box").read_text() == "8\t19\t5\t5\n99\t1\t5\t5\n"
    out = "image_name\tx_coord\ty_coord\na_s\t35\t40\na_s\t7\t9\nb_s\t10\t21\nb_s\t101\t3\n"
    assert good("topaz convert boxes/*.box --to coord").out == out
    assert good("topaz boxes_to_coordinates boxes/*.box").out == out
    good("topaz coordinates_to_boxes p.txt p.txt --destdir new/folder --boxsize 5")
    for name in "ab":
        same = Path(f"boxes/{name}_s.box").read_text()
        assert Path(f"new/folder/{name}.box").read_text() == same


def test_an_empty_box_file_among_many() -> None:
    Path("d").mkdir()
    for i in range(300):
        Path(f"d/{i:03}.box").write_text("" if i % 7 == 0 else f"{i} 10 4 4\n")
    rows = good("topaz convert d/*.box -o all.txt").out or Path("all.txt").read_text()
    assert len(rows.splitlines()) == 1 + 257
    assert "001\t3\t12\n" in rows
    assert len(good("topaz boxes_to_coordinates d/*.box").out.splitlines()) == 1 + 257
    assert good("topaz convert d/000.box --to coord").out.startswith("image_name\tx_coord")


def test_names_that_a_star_file_must_quote() -> None:
    names = ["_a", "#b", "O'Brien/c", "'d e'", "g/a#1", "two words"]
    rows = "".join(f"{name}\t1\t2\n" for name in names)
    Path("n.txt").write_text(f"image_name\tx_coord\ty_coord\n{rows}")
    good("topaz convert n.txt -o n.star")
    assert read_picks("n.star").names() == [f"{name}.mrc" for name in names]
    good("topaz convert n.star -o back.txt")
    assert Path("back.txt").read_text() == Path("n.txt").read_text()


@pytest.mark.parametrize("suffix", ["_manualpick.star", ".txt", "_info.json"])
def test_other_empty_files_among_many(suffix: str) -> None:
    head = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnMicrographName #3\n"
    filled = {
        "_manualpick.star": head + "1 2 b\n",
        ".txt": "image_name\tx_coord\ty_coord\nb\t1\t2\n",
        "_info.json": '{"boxes": [[1, 2, "manual"]]}',
    }[suffix]
    Path("e").mkdir()
    for name, text in (("a", ""), ("b", filled), ("c", "")):
        Path(f"e/{name}{suffix}").write_text(text)
    out = good("topaz convert e/* --to coord").out
    assert out == "image_name\tx_coord\ty_coord\nb\t1\t2\n"
    good("topaz convert e/* --to star -o all.star")
    assert blocks_of("all.star").popitem()[1]["rlnCoordinateX"].tolist() == [1]


def test_eman2_files_of_each_micrograph() -> None:
    good("topaz convert p.txt -o info/")
    boxes = json.loads(Path("info/a_info.json").read_text())["boxes"]
    assert boxes == [[35, 40, "manual"], [7, 9, "manual"]]
    assert good("topaz coordinates_to_eman2_json p.txt --destdir new").out == "4\n"
    assert json.loads(Path("new/a_info.json").read_text())["boxes"] == boxes
    assert good("topaz convert info/a_info.json --to coord").out.endswith("a\t35\t40\na\t7\t9\n")


def test_relion_star_with_optics_groups() -> None:
    out = good("topaz convert r.star --to coord").out
    assert out == (
        "image_name\tx_coord\ty_coord\tscore\nMotionCorr/job002/a\t11\t20\t1.0\n"
        "MotionCorr/job002/a\t31\t22\t3.0\nMotionCorr/job002/b\t5\t6\t2.0\n"
    )
    good("topaz convert r.star -t 2 -x 2 -o best.star")
    blocks = blocks_of("best.star")
    assert list(blocks) == ["optics", "particles"]
    assert blocks["particles"]["rlnCoordinateY"].tolist() == [44.5, 12.0]
    assert read_micrographs("best.star")[0] == ("MotionCorr/job002/a.mrc", 1.25)
    assert blocks["particles"].columns[0] == "rlnCoordinateX"
    assert good("topaz star_to_coordinates r.star").out == out


def test_star_files_are_joined() -> None:
    good("topaz convert r.star r.star -o two.star")
    assert len(blocks_of("two.star")["particles"]) == 6
    Path("s.star").write_text(RELION_STAR.replace("1 1.25", "1 1.5"))
    good("topaz convert r.star s.star -o three.star")
    blocks = blocks_of("three.star")
    assert blocks["optics"]["rlnMicrographPixelSize"].tolist() == [1.25, 1.5]
    assert blocks["particles"]["rlnOpticsGroup"].tolist() == [1, 1, 1, 2, 2, 2]
    good("topaz convert p.txt --to star -o p.star")
    good("topaz convert p.txt p.star -o both.txt")
    assert len(Path("both.txt").read_text().splitlines()) == 9


def test_star_particles_threshold() -> None:
    result = good("topaz star_particles_threshold r.star -t 2 -o best.star")
    assert "kept 2 of 3" in result.err
    assert blocks_of("best.star")["particles"]["rlnCoordinateX"].tolist() == [31, 5]
    Path("old.star").write_text(OLD_STAR)
    good("topaz star_particles_threshold old.star -t 1 -o new.star")
    table = blocks_of("new.star")[""]
    assert table["rlnAutopickFigureOfMerit"].tolist() == [1.5, 4]
    assert table["rlnImageName"].tolist() == ["1@b.mrc", "1@a.mrc"]
    assert good("topaz convert old.star --to coord").out == PICKS


def test_star_files_of_one_micrograph_stay_star_files() -> None:
    Path("a_autopick.star").write_text(
        "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnClassNumber\n1.5 2 3\n"
    )
    good("topaz convert a_autopick.star -o out.star -x 2")
    good("topaz split a_autopick.star -o d")
    table = blocks_of("out.star")[""]
    assert table.iloc[0].tolist() == [3, 4, "a.mrc", 3]
    assert blocks_of("d/a.star")[""]["rlnClassNumber"].tolist() == [3]


def test_mirrored_star_files_keep_their_columns() -> None:
    write_images(Path("images"), "a.mrc", "b.mrc")
    good("topaz convert r.star -o m.star --invert-y --imagedir images")
    blocks = blocks_of("m.star")
    assert blocks["particles"]["rlnCoordinateY"].tolist() == [44.8, 42.75, 59]
    assert blocks["particles"]["rlnOpticsGroup"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("ending", ["mrc", "tiff", "png"])
def test_invert_y(ending: str) -> None:
    write_images(Path("images"), "a.mrc", "b.mrc")
    for name in "ab":
        if ending != "mrc":
            good(f"topaz downsample images/{name}.mrc -s 1 -o images/{name}.{ending}")
    line = "topaz convert p.txt --invert-y --imagedir images --image-ext"
    mirrored = good(f"{line} .{ending}").out
    Path("mirrored.txt").write_text(mirrored)
    rows = _rows(Path("mirrored.txt"))
    assert [int(row["y_coord"]) for row in rows] == [65 - y for y in (21, 40, 3, 9)]
    assert good(f"{line} {ending}").out == mirrored
    assert good(f"{line}=*").out == mirrored
    good("topaz convert p.txt -o b/ --boxsize 4")
    good(f"topaz coordinates_to_boxes p.txt --destdir m --boxsize 4 --invert-y --imagedir images"
         f" --image-ext {ending}")  # fmt: skip
    assert Path("m/a.box").read_text() == "33\t23\t4\t4\n5\t54\t4\t4\n"
    back = good(f"topaz boxes_to_coordinates m/*.box --invert-y --imagedir images --image-ext"
                f" {ending}").out  # fmt: skip
    assert back == good("topaz boxes_to_coordinates b/*.box").out
    assert "give their folder" in refused("topaz convert p.txt --invert-y")
    assert "contains no image" in refused(f"{line} xyz")


def test_split_makes_its_folder() -> None:
    good("topaz split p.txt -o new/folder --suffix _x -t 0")
    header = "image_name\tx_coord\ty_coord\tscore\n"
    assert Path("new/folder/a_x.txt").read_text() == f"{header}a\t7\t9\t4.0\n"
    assert Path("new/folder/b_x.txt").read_text() == f"{header}b\t10\t21\t1.5\nb\t101\t3\t0.125\n"
    good("topaz split r.star -o stars")
    blocks = blocks_of("stars/MotionCorr/job002/a.star")
    assert blocks["particles"]["rlnCoordinateX"].tolist() == [10.6, 31]
    assert blocks["optics"]["rlnMicrographPixelSize"].tolist() == [1.25]
    Path("away.txt").write_text(f"{header}../../away\t1\t2\t3\n/abs/b\t1\t2\t3\n")
    good("topaz split away.txt -o inside")
    assert sorted(p.as_posix() for p in Path("inside").rglob("*.txt")) == [
        "inside/abs/b.txt",
        "inside/away.txt",
    ]


def test_names_of_digits_and_columns_without_meaning_stay() -> None:
    text = "image_name\tx_coord\ty_coord\tsource\tscore\n0012\t10\t21\ts\t1.5\n"
    Path("q.txt").write_text(text)
    good("topaz split q.txt -o d")
    assert Path("d/0012.txt").read_text() == text
    assert good("topaz scale_coordinates q.txt -s 2").out.endswith("0012\t20\t42\ts\t1.5\n")
    assert good("topaz convert q.txt").out.endswith("0012\t10\t21\t1.5\n")


def test_train_test_split() -> None:
    write_images(Path("images"), *(f"{name}.mrc" for name in "abcdef"))
    rows = [f"{name}\t{i}\t{10 * i}\n" for i, name in enumerate("fedcba")]
    Path("t").mkdir()
    Path("t/all.txt").write_text("image_name\tx_coord\ty_coord\n" + "".join(rows))
    good("topaz train_test_split t/all.txt -n 2 --seed 3 --image-dir images --image-ext mrc")
    names = {}
    for part in ("train", "test"):
        names[part] = [row["image_name"] for row in _rows(Path(f"t/all_{part}.txt"))]
        images = _rows(Path(f"t/image_list_{part}.txt"))
        assert [row["image_name"] for row in images] == names[part]
        for row in images:
            assert Path(row["path"]) == Path("images", f"{row['image_name']}.mrc").absolute()
    # What Topaz 0.3.20 chooses with this seed.
    assert names == {"test": ["d", "f"], "train": ["e", "b", "a", "c"]}
    good("topaz train_test_split t/all.txt -n 1")
    assert "at least 1 and not all" in refused("topaz train_test_split t/all.txt")
    assert "at least 1 and not all" in refused("topaz train_test_split t/all.txt -n 6")


def test_annotations_of_via() -> None:
    header = CSV.splitlines()[0]
    Path("v.csv").write_text(
        f"#{header}\n"
        'a.png,-1,{},3,0,"{""name"":""circle"",""cx"":3.5,""cy"":4,""r"":9}",{}\n'
        'a.png,-1,{},3,1,"{""name"":""rect"",""x"":10,""y"":20,""width"":8,""height"":5}",{}\n'
        "empty.png,-1,{},0,0,{},{}\n"
    )
    out = "image_name\tx_coord\ty_coord\na\t3.5\t4\na\t14.0\t22\n"
    assert good("topaz convert v.csv --to coord").out == out
    for shape in ('{""name"":""polyline""}', '{""cx"":""far""}', "no JSON"):
        Path("w.csv").write_text(f'{header}\na.png,-1,{{}},1,0,"{shape}",{{}}\n')
        assert "line 2" in refused("topaz convert w.csv --to coord")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("topaz convert none.txt", "none.txt cannot be read"),
        ("topaz convert p.txt r.star", "choose the output format with --to"),
        ("topaz convert p.txt --to box --boxsize 4", "give their folder"),
        ("topaz convert p.txt -o out.xyz", "unknown format of out.xyz"),
        ("topaz convert p.txt -o d/ --to box", "give --boxsize"),
        ("topaz convert p.txt -o x.box --boxsize 4", "give a folder for several micrographs"),
        ("topaz convert p.txt -s 0", "--down-scale must not be 0"),
        ("topaz split p.txt", "give it with -o"),
        ("topaz split b.box -o d", "split accepts only"),
    ],
)
def test_what_is_refused(line: str, word: str) -> None:
    Path("b.box").write_text("1 2 3 4\n")
    assert word in refused(line)


def test_one_micrographs_boxes_go_to_the_file_named() -> None:
    Path("one.txt").write_text("image_name\tx_coord\ty_coord\na\t35\t40\n")
    good("topaz convert one.txt -o out.box --boxsize 10")
    assert np.loadtxt("out.box").tolist() == [30, 35, 10, 10]
