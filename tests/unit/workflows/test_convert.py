"""convert and check: coordinates from any format into any other."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from heliodor.data.coordinates.formats import read_picks, relion_star
from heliodor.data.coordinates.frame_detection import Frame
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.transforms import apply_frame
from heliodor.data.coordinates.writers import (
    FORMATS,
    WriteContext,
    choose_format,
    write_picks,
)
from heliodor.data.micrographs.micrograph import read_micrograph
from heliodor.data.micrographs.names import micrograph_stem
from heliodor.errors import BadInput
from heliodor.models.model_file import save_model
from heliodor.workflows.convert import convert
from heliodor.workflows.settings import ConversionSettings
from helpers.cli import call, done
from helpers.cpu_time import at_most_reference_work
from helpers.networks import (
    discs,
    model,
    scattered,
    write_mrc,
)

SHAPE = (3000, 4000)
NAMES = ("Movies/a.mrc", "Movies/b.mrc", "Movies/c d.mrc")
#: Half a pixel, and float32 rounding of a fraction of 4,000; all others are exact.
TOLERANCE = {"box": 0.5 + 1e-9, "cs": 3e-4, "cbox": 1e-9}

positions = st.floats(0, 2999).map(float)
scores = st.floats(-20, 20)


@st.composite
def tables(draw):
    rows = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), positions, positions, scores), min_size=1)
    )
    return Picks.from_columns(
        [row[0] for row in rows],
        np.array([row[1:3] for row in rows]),
        np.array([row[3] for row in rows]),
    )


def given_for(picks: Picks) -> WriteContext:
    return WriteContext(
        64, dict.fromkeys(picks.micrographs, SHAPE), dict.fromkeys(picks.micrographs, 1.5)
    )


def by_stem(picks: Picks) -> dict[str, Picks]:
    return {micrograph_stem(name): own for name, own in picks.split_by_micrograph() if len(own)}


def same(back: Picks, picks: Picks, tolerance: float) -> None:
    """The same picks in the same order on each micrograph, which some formats know by stem."""
    assert by_stem(back).keys() == by_stem(picks).keys()
    for stem, own in by_stem(picks).items():
        other = by_stem(back)[stem]
        np.testing.assert_allclose(other.xy_px, own.xy_px, rtol=0, atol=tolerance)
        np.testing.assert_allclose(other.score, own.score, rtol=1e-5, atol=1e-5)


def place(folder: Path, name: str) -> Path:
    wanted = FORMATS[name]
    return folder / name if wanted.file_of else folder / f"x{wanted.suffix}"


@pytest.mark.parametrize(("one", "other"), list(itertools.product(FORMATS, FORMATS)))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_every_pair_of_formats(tmp_path_factory, one, other, picks):
    folder = tmp_path_factory.mktemp("pair")
    first, second = place(folder / "1", one), place(folder / "2", other)
    write_picks(first, picks, FORMATS[one], given_for(picks))
    middle = read_picks(first)
    tolerance = TOLERANCE.get(one, 0.0)
    same(middle, picks, tolerance)
    write_picks(second, middle, FORMATS[other], given_for(middle))
    same(read_picks(second), picks, tolerance + TOLERANCE.get(other, 0.0))


OPTICS = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
{}
data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnMicrographName #3
_rlnOpticsGroup #4
_rlnHelicalTubeID #5
_rlnAngleTiltPrior #6
_rlnAnglePsiPrior #7
_rlnHelicalTrackLengthAngst #8
_rlnAnglePsiFlipRatio #9
_myOwnColumn #10
{}
"""
HELICAL = "90.000000 -12.345678 314.159000 0.500000"


def optics(*rows: str) -> str:
    groups = "one 1 1.000000 300.0\ntwo 2 2.0 200\n"
    return OPTICS.format(groups, "\n".join(rows) + "\n")


def test_unknown_columns_and_optics_survive_from_star_to_star(tmp_path, capsys):
    rows = [
        f"10.5 20.25 M/a.mrc 2 1 {HELICAL} 00012345678901234567890",
        f'30 40 M/b.mrc 1 2 {HELICAL} "two words"',
    ]
    (tmp_path / "a.star").write_text(optics(*rows))
    convert([tmp_path / "a.star"], tmp_path / "b.star")
    before = starfile.read(tmp_path / "a.star", parse_as_string=["myOwnColumn"])
    after = starfile.read(tmp_path / "b.star", parse_as_string=["myOwnColumn"])
    columns = [c for c in before["particles"] if c != "rlnOpticsGroup"]
    assert {*columns} == {*after["particles"].columns} - {"rlnOpticsGroup"}
    for column in columns:
        assert after["particles"][column].tolist() == before["particles"][column].tolist()

    def voltages(tables):
        of = dict(
            zip(tables["optics"]["rlnOpticsGroup"], tables["optics"]["rlnVoltage"], strict=True)
        )
        return [of[group] for group in tables["particles"]["rlnOpticsGroup"]]

    assert voltages(after) == voltages(before) == [200, 300]
    # To RELION's folder and back the columns of helical segments are still there.
    convert([tmp_path / "b.star"], tmp_path / "auto", "autopick")
    back = read_picks(tmp_path / "auto", filaments=True)
    assert back.extra["rlnHelicalTubeID"].tolist() == ["1", "2"]
    said = capsys.readouterr().err
    # A file of coordinates has neither optics groups nor columns of unknown programs.
    (line,) = [line for line in said.splitlines() if "cannot hold" in line]
    assert "optics/rlnVoltage" in line
    assert "myOwnColumn" in line
    assert "rlnHelicalTubeID" not in line


def test_optics_groups_of_two_files_are_told_apart(tmp_path):
    row = f"1 2 M/{{}}.mrc 1 1 {HELICAL} x"
    (tmp_path / "a.star").write_text(optics(row.format("a")))
    (tmp_path / "b.star").write_text(optics(row.format("b")).replace("300.0", "120"))
    convert([tmp_path / "a.star", tmp_path / "b.star"], tmp_path / "c.star")
    tables = starfile.read(tmp_path / "c.star")
    assert tables["optics"]["rlnOpticsGroup"].tolist() == [1, 2]
    assert tables["optics"]["rlnVoltage"].tolist() == [300, 120]
    assert tables["particles"]["rlnOpticsGroup"].tolist() == [1, 2]
    rows = starfile.read(tmp_path / "a.star")["particles"].drop(columns="rlnOpticsGroup")
    starfile.write(rows, tmp_path / "d.star")
    with pytest.raises(BadInput, match="optics group"):
        convert([tmp_path / "a.star", tmp_path / "d.star"], tmp_path / "e.star")
    assert not (tmp_path / "e.star").exists()


def test_scaled_picks_say_their_new_pixel_size(tmp_path):
    (tmp_path / "a.star").write_text(optics(f"10 20 M/a.mrc 2 1 {HELICAL} x"))
    convert([tmp_path / "a.star"], tmp_path / "b.star", settings=ConversionSettings(scale=0.5))
    back = read_picks(tmp_path / "b.star", filaments=True)
    assert back.xy_px.tolist() == [[5, 10]]
    assert back.first_positive_values("pixel_size_angstrom") == {"M/a.mrc": 4.0}


@pytest.mark.slow
def test_betagal_boxes_agree_with_its_star(real_data, tmp_path, monkeypatch):
    data = real_data / "betagal"
    monkeypatch.chdir(tmp_path)
    said = done(
        *("convert", data / "box_files_fullsize", "-o", "half.star", "--scale", 0.5),
        *("--micrographs", data / "micrographs"),
    ).err
    assert "corners of boxes" in said
    assert "scaled by 0.5" in said
    assert "the coordinates match the images" in said
    truth = by_stem(read_picks(data / "manual_positive.star"))
    converted = by_stem(read_picks("half.star"))
    assert converted.keys() == truth.keys()
    for stem, own in truth.items():
        apart = np.abs(converted[stem].xy_px[:, None] - own.xy_px[None]).max(axis=2)
        assert len(own) == len(converted[stem])
        assert apart.min(axis=1).max() <= 0.75
        assert apart.min(axis=0).max() <= 0.75
    # In the wrong frame nothing is written; --fit finds the right one.
    boxes = data / "box_files_fullsize"
    refused = call("convert", boxes, "-o", "no.star", "--micrographs", data / "micrographs")
    assert refused.code == 2
    assert "scaled by 0.5" in refused.sentence
    assert not Path("no.star").exists()
    done("convert", boxes, "-o", "fit.star", "--fit", "--micrographs", data / "micrographs")
    assert Path("fit.star").read_bytes() == Path("half.star").read_bytes()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Two micrographs of discs below M/, and labels.star with all centers by stem."""
    monkeypatch.chdir(tmp_path)
    names, tables = [], []
    for seed, name in enumerate(("a", "b")):
        xy = scattered((300, 400), 40, 14, seed)
        write_mrc(Path(f"M/{name}.mrc"), discs((300, 400), xy, 2.0, seed=seed), 4.0)
        names.append(name)
        tables.append(Picks.on(name, xy, np.linspace(-1, 2, 40)))
    picks = Picks.concatenate(tables)
    relion_star.write_picks(Path("labels.star"), picks)
    return picks


def test_micrographs_give_names_sizes_and_pixel_sizes(scene, tmp_path):
    done("convert", "labels.star", "-o", "x.cs", "--micrographs", "M/*.mrc")
    back = read_picks("x.cs")
    assert back.micrographs == ("M/a.mrc", "M/b.mrc")
    assert back.first_positive_values("pixel_size_angstrom") == {"M/a.mrc": 4.0, "M/b.mrc": 4.0}
    assert back.first_positive_values("micrograph_width_px") == {"M/a.mrc": 400, "M/b.mrc": 400}
    np.testing.assert_allclose(back.xy_px, scene.xy_px, atol=1e-4)
    # From a .cs the shape is known: no micrographs are needed to flip.
    done("convert", "x.cs", "-o", "y.tsv", "--flip-y")
    np.testing.assert_allclose(read_picks("y.tsv").xy_px[:, 1], 299 - scene.xy_px[:, 1], atol=1e-4)


def test_flips_scales_shifts_thresholds_and_names(scene):
    options = [
        "--swap-xy",
        "--scale",
        2,
        "--flip-x",
        "--shape-px",
        "1000x800",
        "--shift-px",
        "1,-2",
    ]
    names = ["--root", "Micrographs", "--image-suffix", ".tif"]
    done("convert", "labels.star", "-o", "x.csv", *options, *names, "--threshold", 0.5)
    back, kept = read_picks("x.csv"), scene.select(scene.score >= 0.5)
    assert back.micrographs == ("Micrographs/a.tif", "Micrographs/b.tif")
    np.testing.assert_allclose(back.xy_px[:, 0], 999 - 2 * kept.xy_px[:, 1] + 1)
    np.testing.assert_allclose(back.xy_px[:, 1], 2 * kept.xy_px[:, 0] - 2)
    np.testing.assert_array_equal(back.score, kept.score)


def test_a_frame_that_pictures_contradict_is_not_written(scene):
    flip = ["--flip-y", "--micrographs", "M"]
    result = call("convert", "labels.star", "-o", "x.star", *flip)
    assert result.code == 2
    assert "y flipped" in result.sentence
    assert not Path("x.star").exists()
    done("convert", "labels.star", "-o", "x.star", *flip, "--trust")
    done("convert", "x.star", "-o", "y.star", "--fit", "--micrographs", "M")
    np.testing.assert_allclose(read_picks("y.star").xy_px, scene.xy_px)


def test_a_picture_shows_the_fullest_micrograph(scene):
    few = scene.select(np.arange(79))
    relion_star.write_picks(Path("few.star"), few)
    done("convert", "few.star", "-o", "x.tsv", "--micrographs", "M", "--picture", "look.png")
    with Pillow.open("look.png") as picture:
        assert picture.format == "PNG"
        # At the micrograph's own proportions, with a legend below.
        assert picture.width == 1000
        assert 750 <= picture.height <= 850
    assert call("convert", "few.star", "-o", "y.tsv", "--picture", "no.png").code == 2
    assert not Path("no.png").exists()


def test_uids_of_cryosparc_do_not_hinder_matching(scene):
    uid = "000588255143468195995_"
    picks = replace(scene, micrographs=tuple(f"J2/motioncorrected/{uid}{n}.mrc" for n in "ab"))
    relion_star.write_picks(Path("cs.star"), picks)
    done("convert", "cs.star", "-o", "x.star", "--micrographs", "M")
    assert read_picks("x.star").micrographs == ("M/a.mrc", "M/b.mrc")
    done("convert", "cs.star", "-o", "y.star", "--strip-uid", "--root", "Movies")
    assert read_picks("y.star").micrographs == ("Movies/a.mrc", "Movies/b.mrc")
    end = "_patch_aligned_doseweighted"
    corrected = tuple(f"J2/motioncorrected/{uid}{name}{end}.mrc" for name in "ab")
    relion_star.write_picks(Path("dw.star"), replace(scene, micrographs=corrected))
    done("convert", "dw.star", "-o", "z.star", "--micrographs", "M")
    assert read_picks("z.star").micrographs == ("M/a.mrc", "M/b.mrc")
    for options, left in ((["--strip-aligned"], ""), ([], end)):
        done("convert", "dw.star", "-o", "z.star", "--strip-uid", *options, "--root", "Movies")
        expected = tuple(f"Movies/{name}{left}.mrc" for name in "ab")
        assert read_picks("z.star").micrographs == expected


def test_one_micrograph_into_one_file(scene):
    done("convert", "labels.star", "-o", "two", "--to", "box", "--box-px", 30)
    assert sorted(p.name for p in Path("two").iterdir()) == ["a.box", "b.box"]
    done("convert", "two/a.box", "-o", "a.cbox")  # the box's side goes along
    assert read_picks("a.cbox").extra["box_px"].tolist() == [30.0] * 40
    done("convert", "two/*.box", "-o", "info", "--to", "eman2")
    assert len(json.loads(Path("info/a_info.json").read_text())["boxes"]) == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.star", "-o", "x.star"], "nothing.star does not exist"),
        (["labels.star", "-o", "x.what"], "give --to"),
        (["labels.star", "-o", "x", "--to", "what"], "must be one of star, autopick"),
        (["labels.star", "-o", "M"], "give --to"),
        (["labels.star", "-o", "M", "--to", "star"], "is a folder"),
        (["labels.star", "-o", "x.box", "--box-px", "10"], "must be a folder"),
        (["labels.star", "-o", "x", "--to", "box"], "--box-px"),
        (["labels.star", "-o", "x.cs"], "size of a is unknown"),
        (["labels.star", "-o", "x.star", "--flip-y"], "--shape-px"),
        (["labels.star", "-o", "x.star", "--fit"], "--micrographs"),
        (["labels.star", "-o", "x.star", "--fit", "--swap-xy", "--micrographs", "M"], "not both"),
        (["labels.star", "-o", "x.star", "--scale", "0"], "scale"),
        (["labels.star", "-o", "x.star", "--shift-px", "1"], "--shift-px"),
        (["labels.star", "-o", "x.star", "--shape-px", "0x5"], "--shape-px"),
        (["labels.star", "-o", "x.star", "--box-px", "0"], "box of 0"),
        (["labels.star", "-o", "x.star", "--image-suffix", "mrc"], "begin with a dot"),
        (["labels.star", "-o", "x.star", "--pixel-size", "-1"], "pixel size"),
        (
            ["labels.star", "labels2.star", "-o", "x.star", "--root", "M"],
            "would get the same name",
        ),
        (["labels.star", "-o", "x.csv", "--box-px", "10"], "no boxes"),
        (["labels.star", "-o", "x.star", "--box-px", "10"], "give --micrographs or --shape-px"),
        (["labels.star", "-o", "labels.star"], "would replace an input file"),
        (["labels.star", "-o", "x.star", "--micrographs", "N", "--fit"], "do not show"),
        (["unscored.star", "-o", "x.star", "--threshold", "1"], "no scores"),
        (["labels.star", "-o", "x.star", "--micrographs", "other.mrc"], "none of the micrographs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(scene, arguments, words):
    relion_star.write_picks(Path("unscored.star"), replace(scene, score=np.full(80, np.nan)))
    relion_star.write_picks(Path("labels2.star"), replace(scene, micrographs=("N/a", "N/b")))
    write_mrc(Path("other.mrc"), discs((64, 64), np.zeros((0, 2))))
    for name in ("a", "b"):
        write_mrc(Path(f"N/{name}.mrc"), discs((300, 400), np.zeros((0, 2)), seed=9))
    result = call("convert", *arguments)
    assert result.code == 2
    assert words in result.sentence
    assert not list(Path().glob("x*"))


def test_what_was_read_is_never_replaced(scene):
    """Done twice, a conversion in place would scale or flip twice."""
    done("convert", "labels.star", "-o", "info", "--to", "eman2")
    before = Path("info/a_info.json").read_bytes()
    result = call("convert", "info", "-o", "info", "--to", "eman2", "--scale", 2)
    assert result.code == 2
    assert "a_info.json would replace an input file" in result.sentence
    assert Path("info/a_info.json").read_bytes() == before
    done("convert", ".", "-o", "all.star")
    assert "all.star" in call("convert", ".", "-o", "all.star").sentence


def test_files_that_were_there_before_are_told(scene):
    Path("boxes").mkdir()
    Path("boxes/old.box").touch()
    arguments = ("convert", "labels.star", "-o", "boxes", "--to", "box", "--box-px", 30)
    assert "boxes already contained 1 other .box files" in done(*arguments).err
    Path("boxes/old.box").unlink()
    assert "other .box files" not in done(*arguments).err


@pytest.mark.parametrize("to", ["star", "csv", "cs"])
def test_the_pixel_size_given_is_written(scene, to):
    out = f"x.{to}"
    done("convert", "labels.star", "-o", out, "--pixel-size", 2.5, "--shape-px", "400x300")
    assert read_picks(out).first_positive_values("pixel_size_angstrom") == {"a": 2.5, "b": 2.5}
    done("convert", out, "-o", "y.star", "--pixel-size", 2.51)
    assert read_picks("y.star").first_positive_values("pixel_size_angstrom") == {
        "a": 2.51,
        "b": 2.51,
    }
    done("convert", out, "-o", "z.star", "--micrographs", "M")
    back = read_picks("z.star").first_positive_values("pixel_size_angstrom")
    assert back == {"M/a.mrc": 4.0, "M/b.mrc": 4.0}


def test_pixel_sizes_of_micrographs_are_no_lost_columns(scene):
    said = done("convert", "labels.star", "-o", "auto", "--to", "autopick", "--micrographs", "M")
    assert "cannot hold" not in said.err


def test_a_pixel_size_given_goes_into_optics_groups(tmp_path):
    (tmp_path / "a.star").write_text(optics(f"10 20 M/a.mrc 2 1 {HELICAL} x"))
    convert(
        [tmp_path / "a.star"],
        tmp_path / "b.star",
        settings=ConversionSettings(pixel_size_angstrom=0.9),
    )
    table = starfile.read(tmp_path / "b.star")["optics"]
    assert table["rlnMicrographPixelSize"].tolist() == [0.9]


def test_a_fitted_scale_counts_for_pixel_sizes(scene):
    """Micrographs whose headers say nothing have the picks' pixel size, scaled as was found."""
    for name in "ab":
        with mrcfile.open(f"M/{name}.mrc", mode="r+") as mrc:
            mrc.voxel_size = 0
    fine = replace(scene, xy_px=2 * scene.xy_px, extra={"pixel_size_angstrom": np.full(80, 2.0)})
    relion_star.write_picks(Path("fine.star"), fine)
    for out in ("x.cs", "x.star"):
        done("convert", "fine.star", "-o", out, "--fit", "--micrographs", "M")
        assert {*read_picks(out).first_positive_values("pixel_size_angstrom").values()} == {4.0}


def test_one_line_of_pixel_sizes_that_differ(scene):
    picks = replace(scene, extra={"pixel_size_angstrom": np.full(80, 8.0)})
    relion_star.write_picks(Path("other.star"), picks)
    said = done("convert", "other.star", "-o", "x.star", "--micrographs", "M").err
    assert said.count("give --scale 2") == 1
    assert "1 more" in said


def test_a_micrograph_may_be_named_as_coordinate_files_are(scene):
    Path("M/a.mrc").rename("M/b_pick.mrc")
    own = dict(scene.split_by_micrograph())
    for name, file in (("a", "b_pick.star"), ("b", "b_manualpick.star")):
        relion_star.write_picks(Path("labels") / file, replace(own[name], micrographs=("x",)))
        text = Path("labels", file).read_text().replace("_rlnMicrographName", "_other")
        Path("labels", file).write_text(text)
    for file, micrograph in (("b_pick", "M/b_pick.mrc"), ("b_manualpick", "M/b.mrc")):
        done("convert", f"labels/{file}.star", "-o", "x.star", "--micrographs", "M")
        assert read_picks("x.star").micrographs == (micrograph,)
        assert "match the images" in done("check", f"labels/{file}.star", "--micrographs", "M").out
    refused = call("convert", "labels", "-o", "x.star", "--micrographs", "M")
    assert refused.code == 2
    assert "give these files one at a time" in refused.err


def test_a_recalibration_changes_no_coordinates(scene):
    picks = replace(scene, extra={"pixel_size_angstrom": np.full(80, 4.24)})
    relion_star.write_picks(Path("old.star"), picks)
    said = done("convert", "old.star", "-o", "x.star", "--micrographs", "M").err
    assert "4.24 Å/pixel, the micrograph has 4 Å/pixel: their coordinates are not changed" in said
    assert "--scale" not in said
    np.testing.assert_array_equal(read_picks("x.star").xy_px, scene.xy_px)
    result = done("check", "old.star", "--micrographs", "M")
    assert "note: old.star: picks and micrographs have pixel sizes in Å of different" in result.out
    assert "(a: picks 4.24, micrograph 4, b: picks 4.24, micrograph 4)" in result.out


def test_the_pixel_size_of_the_movie_is_none_of_the_picks(scene):
    """As RELION's extraction writes it: that of the binned micrograph is left out."""
    movie = {
        "optics/rlnMicrographOriginalPixelSize": np.full(80, 2.0),
        "rlnOpticsGroup": np.full(80, 1),
    }
    relion_star.write_picks(Path("particles.star"), replace(scene, extra=movie))
    result = done("check", "particles.star", "--micrographs", "M")
    assert {level for level, _ in lines(result)} == {"good"}
    said = done("convert", "particles.star", "-o", "x.star", "--micrographs", "M").err
    assert "scale" not in said
    back = read_picks("x.star")
    np.testing.assert_array_equal(back.xy_px, scene.xy_px)
    assert {*back.first_positive_values("pixel_size_angstrom").values()} == {4.0}
    assert {*back.extra["optics/rlnMicrographOriginalPixelSize"]} == {"2.000000"}
    done("convert", "particles.star", "-o", "y.star")
    assert "pixel_size_angstrom" not in read_picks("y.star").extra
    refused = call("convert", "particles.star", "-o", "x.cs", "--shape-px", "400x300")
    assert refused.code == 2
    assert "pixel size of a is unknown" in refused.err


def test_a_broken_micrograph_stops_no_other(scene):
    Path("M/b.mrc").write_bytes(b"no")
    said = done("convert", "labels.star", "-o", "x.star", "--micrographs", "M").err
    assert "M/b.mrc" in said
    assert "match the images" in said
    np.testing.assert_array_equal(read_picks("x.star").xy_px, scene.xy_px)


def test_tiff_micrographs_are_upside_down_to_relion(scene):
    import tifffile

    for name in "ab":
        with mrcfile.open(f"M/{name}.mrc") as mrc:
            tifffile.imwrite(f"T{name}.tif", mrc.data)
        Path(f"T{name}.tif").rename(f"{name}.tif")
    for out, told in (("x.star", True), ("x.csv", False)):
        said = done("convert", "labels.star", "-o", out, "--micrographs", "*.tif").err
        assert ("upside down" in said) == told


def test_sizes_of_crYOLO_scale_and_angles_are_told(scene):
    table = replace(scene, extra={"EstWidth": np.full(80, 30.0), "Angle": np.arange(80.0)})
    write_picks(Path("c"), table, FORMATS["cbox"], WriteContext(32))
    said = done("convert", "c", "-o", "x.csv", "--scale", 2, "--flip-x", "--shape-px", "800x600")
    assert "Angle contain angles" in said.err
    extra = read_picks("x.csv").extra
    assert {*map(float, extra["EstWidth"])} == {60.0}
    assert {*map(float, extra["box_px"])} == {64.0}
    assert "Angle" not in done("convert", "c", "-o", "y.csv", "--scale", 2).err


def test_fields_of_cryosparc_survive_a_table(scene):
    uids = np.arange(80, dtype=np.uint64) + np.uint64(2**63)
    extra = {
        "uid": uids,
        "pick_stats/power": np.linspace(0, 1, 80, dtype=np.float32),
        "ctf/df1_A": np.linspace(1e4, 2e4, 80),
        "blob/path": np.array(["a b.mrc"] * 80, dtype=object),
    }
    given = WriteContext(None, {"a": (300, 400), "b": (300, 400)}, {"a": 4.0, "b": 4.0})
    write_picks(Path("x.cs"), replace(scene, extra=extra), FORMATS["cs"], given)
    for middle in ("x.star", "x.csv"):
        done("convert", "x.cs", "-o", middle)
        assert "cannot hold" not in done("convert", middle, "-o", "y.cs").err
        before, after = np.load("x.cs"), np.load("y.cs")
        for field in before.dtype.names:
            np.testing.assert_array_equal(after[field], before[field], err_msg=field)
            assert after.dtype[field].kind == before.dtype[field].kind


def test_optics_groups_are_no_fields_of_cryosparc(tmp_path, capsys):
    particles = optics(f"10 20 M/a.mrc 2 1 {HELICAL} x").replace("HelicalTubeID", "ClassNumber")
    (tmp_path / "a.star").write_text(particles)
    settings = ConversionSettings(shape=(50, 60))
    convert([tmp_path / "a.star"], tmp_path / "b.cs", settings=settings)
    assert not [f for f in np.load(tmp_path / "b.cs").dtype.names if f.startswith("optics")]
    assert "optics/rlnVoltage" in capsys.readouterr().err
    convert([tmp_path / "b.cs"], tmp_path / "c.cs")  # sizes of micrographs are no lost columns
    assert "cannot hold" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "lost"),
    [("box", "eman2_type"), ("eman2", "box_tag"), ("cbox", "eman2_type"), ("autopick", "box_tag")],
)
def test_columns_that_are_lost_are_named(tmp_path, capsys, to, lost):
    extra = {
        "eman2_type": np.array(["manual"], dtype=object),
        "box_tag": np.array([-1], dtype=object),
        "box_px": np.array([10.0]),
    }
    picks = replace(Picks.on("a.mrc", np.ones((1, 2))), extra=extra)
    write_picks(tmp_path / "a.csv", picks, FORMATS["csv"])
    convert([tmp_path / "a.csv"], tmp_path / "out", to)
    assert lost in capsys.readouterr().err


@pytest.mark.parametrize("side", ["", "nan", "none", "-1"])
def test_boxes_without_a_side(tmp_path, side):
    (tmp_path / "a.csv").write_text(f"image_name,x,y,box_px\na,1,2,{side}\n")
    with pytest.raises(BadInput, match="--box-px"):
        convert([tmp_path / "a.csv"], tmp_path / "x", "box")
    (tmp_path / "a.csv").write_text(f"image_name,x,y,box_px\na,1,2,{side}\na,9,9,20\n")
    convert([tmp_path / "a.csv"], tmp_path / "x", "box")
    assert set(read_picks(tmp_path / "x").extra["box_px"]) == {20.0}


def test_many_micrographs_take_no_more_than_their_picks():
    """No step looks at all picks for each micrograph: 20,000 of them once took minutes."""
    number = 20_000
    picks = Picks.from_columns([str(i) for i in range(number)] * 5, np.ones((5 * number, 2)))
    with at_most_reference_work(150):
        apply_frame(picks, Frame(flip_y=True), dict.fromkeys(picks.micrographs, (9, 9)), (1, 0))


def test_names_of_formats_and_their_suffixes():
    assert choose_format(None, Path("a.STAR")).name == "star"
    assert choose_format(None, Path("a.txt")).name == "topaz"
    assert choose_format("autopick", Path("a.star")).name == "autopick"


# check


def lines(result) -> list[tuple[str, str]]:
    return [tuple(line.split(": ", 1)) for line in result.out.splitlines()]


def test_check_finds_nothing_wrong(scene):
    save_model("m.safetensors", model())
    result = done("check", "M", "labels.star", "m.safetensors", "--micrographs", "M")
    assert {level for level, _ in lines(result)} == {"good"}
    assert "match the images" in result.out
    assert "conv31" in result.out


def test_check_names_what_is_wrong(scene):
    Path("M/broken.mrc").write_bytes(b"no")
    write_mrc(Path("M/coarse.mrc"), discs((300, 400), np.zeros((0, 2))), 8.0)
    flipped = Frame(flip_y=True).apply(scene.xy_px, (300, 400))
    xy = np.concatenate([flipped, flipped[:2] + 1, [[900, 10]], [[5, 5]]])
    names = [*scene.names(), "a", "a", "a", "gone"]
    relion_star.write_picks(Path("bad.star"), Picks.from_columns(names, xy))
    Path("bad.safetensors").write_bytes(b"no")
    result = call("check", "bad.star", "bad.safetensors", "void.star", "--micrographs", "M")
    assert result.code == 2
    errors = "\n".join(text for level, text in lines(result) if level == "error")
    for words in (
        "broken.mrc",
        "(gone)",
        "1 on M/a.mrc",
        "2 on a",
        "y flipped",
        "bad.safe",
        "void",
    ):
        assert words in errors.replace("1 on a", "1 on M/a.mrc"), words
    notes = "\n".join(text for level, text in lines(result) if level == "note")
    assert "pixel sizes differ, from 4 to 8 Å" in notes


def test_check_compares_pixel_sizes(scene, tmp_path):
    done("convert", "labels.star", "-o", "x.cs", "--micrographs", "M", "--pixel-size", 2)
    result = call("check", "x.cs")
    assert result.code == 2
    assert "different pixel sizes" in result.out
    with mrcfile.open("M/a.mrc", mode="r+") as mrc:
        mrc.voxel_size = 0
    found = json.loads(call("check", "M", "--json", "--headers-only").out)
    assert any("have no pixel size (M/a.mrc)" in finding["sentence"] for finding in found)


def test_check_distance_in_angstrom(scene):
    assert call("check", "labels.star", "--micrographs", "M", "--distance", 90).code == 2
    assert call("check", "labels.star", "--micrographs", "M", "--distance", 50).code == 0
    assert "pixel size of a is not known" in call("check", "labels.star", "--distance", 50).out


def test_check_finds_micrographs_of_a_project_from_elsewhere(scene, tmp_path, monkeypatch):
    done("convert", "labels.star", "-o", "Pick/job001/x.star", "--micrographs", "M")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert "match the images" in done("check", "../Pick/job001/x.star").out


def test_check_says_which_files_of_a_folder_it_passed_over(scene):
    done("convert", "labels.star", "-o", "M", "--to", "box", "--box-px", 30)
    result = done("check", "M")
    assert "2 can be read" in result.out
    assert "2 .box files" in result.out


def test_check_counts_pairs_of_dense_picks_without_listing_them(scene, tmp_path):
    relion_star.write_picks(Path("dense.star"), Picks.on("a", np.full((20_000, 2), 5.0)))
    assert f"{20_000 * 19_999 // 2} on a" in call("check", "dense.star", "--headers-only").out


def test_check_reads_each_micrograph_once(scene, monkeypatch):
    read: list[str] = []

    def reading(path):
        read.append(Path(path).name)
        return read_micrograph(path)

    monkeypatch.setattr("heliodor.workflows.check.read_micrograph", reading)
    Path("mics.star").write_text("data_\n\nloop_\n_rlnMicrographName\nM/a.mrc\nM/b.mrc\n")
    result = done("check", "M", "mics.star", "labels.star", "--micrographs", "M")
    assert sorted(read) == ["a.mrc", "b.mrc"]
    assert result.out.count("can be read") == 1
    # With another pixel size they are compared again, but not read.
    Path("sized.star").write_text(
        "data_\n\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\nM/a.mrc 8\n"
    )
    read.clear()
    result = call("check", "M", "sized.star")
    assert sorted(read) == ["a.mrc", "b.mrc"]
    assert "M/a.mrc: 4 in the header, 8 expected" in result.out


def test_check_tells_what_is_wrong_with_given_micrographs(scene):
    result = call("check", "labels.star", "--micrographs", "M", "--diameter", 24)
    assert result.code == 2
    assert "error: 2 micrographs: no micrograph could be picked" in result.out
    assert "labels.star: 80 picks" in result.out


def test_check_reads_lists_of_micrographs(scene):
    Path("mics.star").write_text(
        "data_\n\nloop_\n_rlnMicrographName\nM/a.mrc\nM/a.mrc\nM/no.mrc\n"
    )
    result = call("check", "mics.star")
    assert result.code == 2
    assert "1 rows repeat a micrograph (M/a.mrc)" in result.out
    assert "M/no.mrc does not exist" in result.out


def test_picks_whose_boxes_an_edge_cuts_off_are_left_out_for_relion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    xy = np.array([[9.9, 50], [10, 50], [90.9, 50], [91, 50], [50, 9.5], [50, 110], [50, 111]])
    relion_star.write_picks(Path("a.star"), Picks.on("a.mrc", xy))
    given = ("a.star", "--shape-px", "100x120", "--box-px", 20)
    result = done("convert", *given, "-o", "whole.star")
    # Fractions are cut off; the box of 90 ends with pixel 99.
    assert read_picks("whole.star").xy_px.tolist() == [[10, 50], [90.9, 50], [50, 110]]
    assert "4 picks left out" in result.err
    done("convert", *given, "-o", "folder", "--to", "autopick")
    assert len(read_picks("folder")) == 3
