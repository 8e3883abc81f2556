"""convert and check on files of filaments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.frame_detection import Frame
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.errors import BadInput
from heliodor.workflows.convert import convert
from heliodor.workflows.settings import ConversionSettings
from helpers.cli import call, done
from helpers.networks import write_mrc

SHAPE = (300, 400)
BENT = np.array([[20.0, 30.0], [120.0, 60.0], [220.0, 40.0], [300.0, 90.0]])
LINE = np.array([[350.0, 20.0], [350.0, 280.0]])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two micrographs of 2 A per pixel, the first with two filaments."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_mrc(tmp_path / "m" / f"{name}.mrc", rng.normal(size=SHAPE).astype(np.float32), 2.0)
    table = Filaments(
        ("m/a.mrc",),
        (Filament("m/a.mrc", BENT, 5, 80.0), Filament("m/a.mrc", LINE, 2, 80.0)),
        {"m/a.mrc": 2.0},
    )
    (tmp_path / "axes.star").write_text(render_filaments(table))
    return tmp_path


def axes(where: str) -> list[np.ndarray]:
    return [one.axis_px for one in read_filaments(where)]


@pytest.mark.parametrize("to", ["start-end", "helix", "cbox", "cs"])
def test_through_another_format_and_back(folder, to):
    out = {"cs": "x.cs"}.get(to, "x")
    done("convert", "axes.star", "-o", out, "--to", to, "--micrographs", "m")
    done("convert", out, "-o", "back.star")
    for one, other in zip(axes("back.star"), [BENT, LINE], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_segments_for_relion(folder):
    done("convert", "axes.star", "-o", "segments.star", "--segments", "4.75x10")
    tables = starfile.read("segments.star")
    assert tables["optics"]["rlnMicrographPixelSize"].item() == 2
    rows = tables["particles"]
    straight = rows[rows["rlnHelicalTubeID"] == 2]
    assert len(straight) == int((260 * 2 - 0.475) / 47.5) + 1
    np.testing.assert_allclose(straight["rlnCoordinateY"].diff().dropna(), 23.75)
    assert {*straight["rlnAnglePsiPrior"]} == {-90}
    assert {*rows["rlnAngleTiltPrior"]} == {90}
    assert {*rows["rlnAnglePsiFlipRatio"]} == {0.5}
    assert {*rows["rlnOpticsGroup"]} == {1}
    np.testing.assert_allclose(
        straight["rlnHelicalTrackLengthAngst"], 47.5 * np.arange(len(straight))
    )
    # Segments stay segments, and are the same axes again.
    done("convert", "segments.star", "-o", "auto", "--to", "autopick")
    back = read_picks("auto", filaments=True)
    np.testing.assert_allclose(back.xy_px[:, 0], rows["rlnCoordinateX"])
    done("convert", "segments.star", "-o", "again.star", "--to", "filaments")
    assert [len(axis) for axis in axes("again.star")] == [
        (rows["rlnHelicalTubeID"] == tube).sum() for tube in (5, 2)
    ]


def test_segments_whose_boxes_are_cut_off_are_left_out_as_relion_does(folder):
    asked = ["--segments", "10", "--micrographs", "m"]
    done("convert", "axes.star", "-o", "all.star", *asked)
    done("convert", "axes.star", "-o", "whole.star", *asked, "--box-px", "64")
    before, after = (read_picks(name, filaments=True) for name in ("all.star", "whole.star"))
    inside = (before.x >= 32) & (before.x <= 368) & (before.y >= 32) & (before.y <= 268)
    assert 0 < inside.sum() < len(before)
    np.testing.assert_array_equal(after.xy_px, before.xy_px[inside])
    result = call("convert", "axes.star", "-o", "x.star", "--segments", "10", "--box-px", "64")
    assert "the size of m/a.mrc, which is not known" in result.sentence


def test_segments_as_particles_and_as_points_of_other_formats(folder):
    done("convert", "axes.star", "-o", "centers.csv", "--segments", "60")
    done("convert", "axes.star", "-o", "x.cbox", "--segments", "60", "--to", "cbox")
    boxes = read_picks(["x.cbox"], filaments=True)
    assert len(boxes) == len(Path("centers.csv").read_text().splitlines()) - 1
    assert boxes.extra["filamentid"].tolist()[0] == 5
    assert {*boxes.extra["box_px"]} == {40}  # 80 A


@pytest.mark.parametrize(
    ("options", "frame"),
    [
        (["--flip-y"], Frame(flip_y=True)),
        (["--flip-x"], Frame(flip_x=True)),
        (["--swap-xy"], Frame(swap=True)),
        (["--scale", "0.5"], Frame(scale=0.5)),
    ],
)
def test_flipped_filaments_and_flipped_segments_agree(folder, options, frame):
    shape = ["--shape-px", "400x300"]
    done("convert", "axes.star", "-o", "moved.star", *options, *shape)
    for one, other in zip(axes("moved.star"), [BENT, LINE], strict=True):
        np.testing.assert_allclose(one, frame.apply(other, SHAPE))
    spacing = ["--segments", "40"]
    done("convert", "moved.star", "-o", "first.star", *spacing)
    done("convert", "axes.star", "-o", "then.star", *spacing)
    done("convert", "then.star", "-o", "last.star", *options, *shape)
    first, last = (read_picks(name, filaments=True) for name in ("first.star", "last.star"))
    np.testing.assert_allclose(first.xy_px, last.xy_px, atol=1e-5)
    psi = [np.array(one.extra["rlnAnglePsiPrior"], float) for one in (first, last)]
    np.testing.assert_allclose((psi[0] - psi[1] + 180) % 360 - 180, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.csv"], "--segments"),
        (["-o", "x", "--to", "topaz"], "--segments"),
        (["-o", "x.cbox", "--fit", "--micrographs", "m"], "--fit finds the frame"),
        (["-o", "x.cbox", "--trust"], "--trust is for"),
        (
            ["-o", "x.cbox", "--picture", "x.png", "--micrographs", "m"],
            "--picture draws particles",
        ),
        (["-o", "x.star", "--box-px", "40"], "has no boxes"),
        (["-o", "x.star", "--segments", "0"], "not plausible"),
        (["-o", "x.star", "--segments", "5xA"], "rise x units"),
        (["-o", "x.star", "--threshold", "1"], "no scores"),
        (["-o", "x.cbox", "--micrographs", "m/b.mrc"], "none of the micrographs"),
    ],
)
def test_refusals(folder, arguments, words):
    before = sorted(Path().iterdir())
    result = call("convert", "axes.star", *arguments)
    assert result.code == 2
    assert words in result.sentence
    assert sorted(Path().iterdir()) == before


def test_particles_are_refused_as_filaments(folder):
    Path("p.csv").write_text("image_name,x_coord,y_coord\na,1,2\na,30,2\n")
    result = call("convert", "p.csv", "-o", "x", "--to", "helix")
    assert result.code == 2
    assert "holds particles, not filaments" in result.sentence
    convert(["p.csv"], Path("x.star"), settings=ConversionSettings(start_end=True))
    assert [axis.tolist() for axis in axes("x.star")] == [[[1, 2], [30, 2]]]


def test_check_names_filaments(folder):
    done("convert", "axes.star", "-o", "x", "--to", "helix")
    for given in ("axes.star", "x"):
        said = done("check", given, "--micrographs", "m").out
        assert "2 filaments on 1 micrographs" in said
        assert "error" not in said
    outside = Filaments(("m/a.mrc",), (Filament("m/a.mrc", BENT + np.array([0, 250]), 1),))
    Path("out.star").write_text(render_filaments(outside))
    result = call("check", "out.star", "--micrographs", "m")
    assert result.code == 2
    assert "outside their micrographs" in result.out


@pytest.mark.parametrize("command", ["train", "suggest"])
def test_filaments_are_no_labels(folder, command):
    where = ["-o", "model", "--diameter", "80"] if command == "train" else []
    result = call(command, "--micrographs", "m", "--labels", "axes.star", *where)
    assert result.code == 2
    assert "axes.star holds filaments, not particles" in result.sentence


def test_threshold_is_of_the_mean_score_of_a_filament(folder):
    own = [
        Filament("m/a.mrc", BENT + n, n + 1, point_scores=np.array([0.0, 1.0, 2.0, 1.0]) + n)
        for n in range(3)
    ]
    Path("scored.star").write_text(render_filaments(Filaments(("m/a.mrc",), tuple(own))))
    done("convert", "scored.star", "-o", "kept.star", "--threshold", "2")
    assert [one.tube_id for one in read_filaments("kept.star")] == [2, 3]
    with pytest.raises(BadInput, match="pixel size"):
        convert(["scored.star"], Path("s.star"), settings=ConversionSettings(segments_angstrom=9))


def test_segments_are_not_joined_with_axes_as_if_these_were_segments(folder):
    done("convert", "axes.star", "-o", "segments.star", "--to", "star", "--segments", 20)
    said = call("convert", "segments.star", "axes.star", "-o", "all.star").sentence
    assert said == (
        "segments.star holds helical segments, and axes.star does not; convert them one by one"
    )
    assert not Path("all.star").exists()
    done("convert", "segments.star", "-o", "again.star")
    assert len(read_picks("again.star", filaments=True)) == len(
        read_picks("segments.star", filaments=True)
    )
