"""What cannot be used is refused: one sentence, exit code 2, no traceback, no results.

And before the long work: training itself is made to fail here, so nothing may get that far.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import mrcfile
import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import save_file

from heliodor.cli.main import app
from heliodor.models.model_file import save_model
from heliodor.workflows import train
from helpers import networks
from helpers.cli import Result, call

PIXEL, DIAMETER, SIDE = 6.0, 120.0, 96
HEAD = "image_name,x_coord,y_coord\n"
STAR_HEAD = (
    "\ndata_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n{rows}\n"
)
STAR_MICROGRAPHS = (
    "\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 {size}\n\n"
    "\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{name} 1\n\n"
)


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def train_network(*arguments: object, **options: object) -> None:
        raise AssertionError("this should have been refused before the training")

    monkeypatch.setattr(train, "train_network", train_network)


def write_image(path: Path, data: Any, pixel_size: float | None = PIXEL) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        if pixel_size is not None:
            mrc.voxel_size = pixel_size


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files of every kind."""
    here = tmp_path_factory.mktemp("ground")
    image = networks.noise((SIDE, SIDE))
    write_image(here / "good.mrc", image)
    (here / "labels.csv").write_text(HEAD + "good,30,40\ngood,60,50\n")
    (here / "truth.csv").write_text(HEAD + "good,30,40\ngood,60,50\n")
    (here / "picks.csv").write_text(
        HEAD.strip() + ",score,pixel_size_angstrom\ngood,31,41,2.5,6\ngood,9,9,1.5,6\n"
    )
    scale = {"working_pixel_size_angstrom": PIXEL, "diameter_angstrom": DIAMETER}
    save_model(here / "model.safetensors", networks.model(**scale))

    # micrographs
    (here / "empty.mrc").touch()
    (here / "truncated.mrc").write_bytes((here / "good.mrc").read_bytes()[:9000])
    (here / "text.mrc").write_text("This is a text, however it is called.\n" * 100)
    write_image(here / "movie.mrc", np.stack([image] * 3))
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        write_image(here / "nan.mrc", np.full((SIDE, SIDE), np.nan, np.float32))
    write_image(here / "constant.mrc", np.full((SIDE, SIDE), 7, np.float32))
    write_image(here / "complex.mrc", image.astype(np.complex64))
    tifffile.imwrite(here / "colour.tif", np.zeros((SIDE, SIDE, 3), np.uint8), photometric="rgb")
    (here / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    write_image(here / "header0.mrc", image, None)
    write_image(here / "header1.mrc", image, 1.0)
    write_image(here / "coarse.mrc", image, 30.0)
    for name, size in (("star0.star", 0), ("star1000.star", 1000)):
        text = STAR_MICROGRAPHS.format(size=size, name="header0.mrc")
        (here / name).write_text(text)
    (here / "nothing_there.star").write_text(STAR_MICROGRAPHS.format(size=6, name="gone.mrc"))
    (here / "no_micrographs.star").write_text("\ndata_\n\nloop_\n_rlnCoordinateX #1\n1\n\n")
    (here / "empty_list.txt").write_text("# nothing yet\n\n")
    (here / "empty_folder").mkdir()

    # coordinates
    tables = {
        "zero_bytes.star": "",
        "blanks.csv": "  \n\n",
        "no_rows.csv": HEAD,
        "no_rows.star": STAR_HEAD.format(rows=""),
        "strangers.csv": HEAD + "other,30,40\n",
        "strangers.star": STAR_HEAD.format(rows="other.mrc 30 40\n"),
        "words.csv": HEAD + "good,thirty,40\n",
        "words.star": STAR_HEAD.format(rows="good.mrc thirty 40\n"),
        "nan.csv": HEAD + "good,nan,40\n",
        "inf.star": STAR_HEAD.format(rows="good.mrc inf 40\n"),
        "ragged.csv": HEAD + "good,30\n",
        "no_columns.csv": "a,b\n1,2\n",
        "prose.txt": "Dear diary, today I picked particles.\n",
        "outside.csv": HEAD + "good,3000,40\ngood,60,5000\n",
        "sizeless.csv": HEAD.strip() + ",score\ngood,31,41,2.5\n",
        "absurd.csv": HEAD.strip() + ",score,pixel_size_angstrom\ngood,31,41,2.5,n/a\n",
        "half_scored.csv": HEAD.strip() + ",score\ngood,31,41,2.5\ngood,9,9,\n",
    }
    for name, text in tables.items():
        (here / name).write_text(text)
    (here / "binary.star").write_bytes(b"\x00\x01" * 50)

    # models
    whole = (here / "model.safetensors").read_bytes()
    (here / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (here / "garbled.safetensors").write_bytes(b"\x07" * 500)
    (here / "no_bytes.safetensors").touch()
    save_file({"weight": torch.zeros(3)}, here / "foreign.safetensors")
    damaged = networks.model(**scale)
    damaged = replace(damaged, card=replace(damaged.card, threshold=1e999))
    with pytest.raises(ValueError, match="Out of range"):
        save_model(here / "damaged.safetensors", damaged)
    (here / "damaged.safetensors").write_bytes(whole.replace(b'conv31\\"', b'conv32\\"', 1))
    (here / "file").write_text("I am a file, not a folder.\n")
    return here


COMMANDS: dict[str, dict[str, str]] = {
    "run": {"--micrographs": "good.mrc", "--labels": "labels.csv", "--diameter": "120"},
    "train": {"--micrographs": "good.mrc", "--labels": "labels.csv", "--diameter": "120"},
    "pick": {"--micrographs": "good.mrc", "--model": "model.safetensors"},
    "evaluate": {"--picks": "picks.csv", "--truth": "truth.csv", "--match-distance": "48"},
    "preprocess": {"--micrographs": "good.mrc", "--working-pixel-size": "8"},
    "simulate": {"--count": "1", "--size-px": "64"},
    "demo": {},
}


@pytest.fixture
def out(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work within the ground, and look afterwards that nothing was written."""
    monkeypatch.chdir(ground)
    before = sorted(ground.rglob("*"))
    yield tmp_path / "out"
    # `pick` lists the micrographs with their reasons, also if all of them failed.
    left = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "failed.tsv"]
    assert left == []
    assert sorted(ground.rglob("*")) == before


def command(name: str, out: Path | str, **changes: object) -> Result:
    """Call a command that would succeed but for the changes; underscores stand for dashes."""
    options: dict[str, object] = dict(COMMANDS[name])
    options |= {f"--{key.replace('_', '-')}": value for key, value in changes.items()}
    typed = [part for key, value in options.items() for part in (key, value)]
    return call(name, *typed, *([out] if name == "simulate" else ["-o", out]))


def refused(result: Result, *said: str) -> None:
    assert result.code == 2, result.err
    assert result.out == ""
    for text in said:
        assert text in result.sentence
    # A sentence says more than a name and a word.
    assert len(result.sentence.split()) >= 5


# ---- micrographs ----

BAD_MICROGRAPHS = {
    "missing.mrc": "does not exist",
    "empty.mrc": "empty file",
    "truncated.mrc": "truncated",
    "text.mrc": "not a",
    "movie.mrc": "3 slices",
    "nan.mrc": "100% NaN",
    "constant.mrc": "every pixel is 7",
    "complex.mrc": "complex64",
    "colour.tif": "color image",
    "photo.jpg": "is a picture",
    "header0.mrc": "set the pixel size",
    "header1.mrc": "set the pixel size",
    "star0.star": "header0.mrc has no valid pixel size",
    "star1000.star": "header0.mrc has a pixel size of 1000 Å",
    "nothing_there.star": "gone.mrc",
    "no_micrographs.star": "_rlnMicrographName",
    "none*.mrc": "no MRC or TIFF file matches",
    "empty_folder": "no MRC or TIFF file",
    "@empty_list.txt": "is empty",
    "@no_list.txt": "cannot be read",
}


@pytest.mark.parametrize("micrograph", BAD_MICROGRAPHS)
@pytest.mark.parametrize("name", ["pick", "preprocess", "train", "run"])
def test_micrographs(name: str, micrograph: str, out: Path, tmp_path: Path) -> None:
    changes: dict[str, object] = {"micrographs": micrograph}
    if name in ("train", "run"):
        stem = "header0" if micrograph.startswith("star") else micrograph.partition(".")[0]
        changes["labels"] = tmp_path / "labels.csv"
        (tmp_path / "labels.csv").write_text(f"{HEAD}{stem},30,40\n")
    named = micrograph.lstrip("@").partition("*")[0]
    shown = "header0.mrc" if named.startswith("star") else named
    refused(command(name, out, **changes), shown, BAD_MICROGRAPHS[micrograph])


@pytest.mark.parametrize("micrograph", BAD_MICROGRAPHS)
def test_micrographs_to_pick_on_are_looked_at_before_training(micrograph: str, out: Path) -> None:
    refused(command("run", out, pick=micrograph), BAD_MICROGRAPHS[micrograph])


def test_an_empty_name_is_not_the_current_folder(out: Path) -> None:
    refused(command("pick", out, micrographs=""), "empty name")


def test_a_name_that_no_result_file_could_hold(out: Path, tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path / "micrograph") + b"\xe9.mrc")
    try:
        shutil.copy("good.mrc", name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    refused(command("pick", out, micrographs=name), "not in UTF-8", "rename")


def test_joint_normalisation_says_why_nothing_could_be_read(out: Path) -> None:
    changes = {"micrographs": "movie.mrc", "normalization": "joint"}
    refused(command("preprocess", out, **changes), "movie.mrc", "slices")


def test_micrographs_coarser_than_the_model(out: Path) -> None:
    for changes in ({"micrographs": "coarse.mrc"}, {"pixel_size": 30}):
        refused(command("pick", out, **changes), ".mrc has 30 Å/pixel", "model")


def test_micrographs_too_coarse_to_learn_from(out: Path) -> None:
    changes = {"pixel_size": 45}
    refused(command("train", out, **changes), "good.mrc has 45 Å/pixel")


# ---- coordinates ----

BAD_TABLES = {
    "missing.csv": "does not exist",
    "zero_bytes.star": "is empty",
    "blanks.csv": "is empty",
    "no_rows.csv": "no particles",
    "no_rows.star": "no particles",
    "strangers.csv": "good.mrc",
    "strangers.star": "good.mrc",
    "words.csv": "'thirty'",
    "words.star": "'thirty'",
    "nan.csv": "'nan'",
    "inf.star": "inf",
    "ragged.csv": "2 columns",
    "no_columns.csv": "an unknown coordinate format",
    "prose.txt": "an unknown coordinate format",
    "binary.star": "not a text file",
    "empty_folder": "no coordinate file",
    "none*.star": "no coordinate file",
}


@pytest.mark.parametrize("table", BAD_TABLES)
@pytest.mark.parametrize("name", ["train", "run"])
def test_labels(name: str, table: str, out: Path) -> None:
    refused(command(name, out, labels=table), table, BAD_TABLES[table])


@pytest.mark.parametrize("table", BAD_TABLES)
@pytest.mark.parametrize("name", ["run", "evaluate"])
def test_truth(name: str, table: str, out: Path) -> None:
    said = "strangers" if table.startswith("strangers") else BAD_TABLES[table]
    refused(command(name, out, truth=table), table, said)


@pytest.mark.parametrize("name", ["train", "run"])
def test_labels_outside_their_image(name: str, out: Path) -> None:
    said = ("2 of 2 labels", "good.mrc has 96 x 96 pixels", "a label at (")
    refused(command(name, out, labels="outside.csv"), *said)


@pytest.mark.parametrize("table", BAD_TABLES)
def test_picks(table: str, out: Path) -> None:
    said = {"no_rows.csv": "no picks", "no_rows.star": "no picks"}
    if table.startswith("strangers"):
        refused(command("evaluate", out, picks=table), "truth.csv", "other")
        changes = {"picks": table, "micrographs": "good.mrc"}
        refused(command("evaluate", out, **changes), table, "other", "good.mrc")
    else:
        result = command("evaluate", out, picks=table)
        refused(result, table, said.get(table, BAD_TABLES[table]))


def test_picks_without_pixel_size(out: Path) -> None:
    for picks in ("sizeless.csv", "absurd.csv"):
        refused(command("evaluate", out, picks=picks), "pixel size of good", "--pixel-size")


def test_picks_and_truth_made_on_images_of_different_binning(out: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(HEAD.strip() + ",pixel_size_angstrom\ngood,15,20,12\n")
    said = ("the picks have 6 Å/pixel on good, the ground truth 12", "different binning")
    refused(command("evaluate", out, truth=truth), *said)


def test_picks_of_which_some_have_no_score(out: Path) -> None:
    changes = {"picks": "half_scored.csv", "pixel_size": 6}
    refused(command("evaluate", out, **changes), "half_scored.csv", "1 of 2 picks without")


# ---- models ----

BAD_MODELS = {
    "missing.safetensors": "does not exist",
    "cut.safetensors": "damaged model file",
    "garbled.safetensors": "damaged model file",
    "no_bytes.safetensors": "damaged model file",
    "foreign.safetensors": "not a heliodor model",
    "damaged.safetensors": "conv32",
    "good.mrc": "damaged model file",
    "empty_folder": "is not a file",
}


@pytest.mark.parametrize("model", BAD_MODELS)
def test_models(model: str, out: Path) -> None:
    refused(command("pick", out, model=model), model, BAD_MODELS[model])
    assert not out.exists()
    changes = {"model": model, "micrographs": "good.mrc"}
    refused(command("evaluate", out, **changes), model, BAD_MODELS[model])


def test_the_region_ap_of_a_model_needs_micrographs(out: Path) -> None:
    refused(command("evaluate", out, model="model.safetensors"), "--micrographs")
    changes = {"model": "model.safetensors", "micrographs": "good.mrc", "pixel_size": 30}
    refused(command("evaluate", out, **changes), "good.mrc has 30 Å/pixel")


# ---- options ----

#: Commands, the option, what the sentence says of it, and values.
BAD_OPTIONS: list[tuple[str, str, str, tuple[object, ...]]] = [
    ("run train", "diameter", "diameter", (-150, 0, 2, 1e6, "nan", "inf", "-inf")),
    ("run train", "diameter", "larger than good.mrc (576 x 576 Å)", (700,)),
    ("run train", "expected_particles", "expected", (0, -5, "nan", "inf")),
    ("run train", "network", "one of conv31, conv63, conv127, resnet8", ("resnet1000", "")),
    ("run train", "objective", "not 'guess'", ("guess",)),
    ("run train preprocess", "normalization", "'magic'", ("magic",)),
    ("run train", "width", "width", (0, -1, 5000)),
    ("run train", "dropout", "dropout", (-0.1, 1, "nan", "inf")),
    ("run train", "epochs", "at least one epoch", (0, -3)),
    ("run train", "epoch_updates", "one update", (0,)),
    ("run train", "training_radius", "training", (0, -1, 500, "nan")),
    ("run train", "working_pixel_size", "working", (0, -1, 500, "nan")),
    ("run train", "validation_share", "validation", (-0.1, 1, 2, "nan")),
    ("run train simulate", "seed", "seed must", (-1,)),
    ("run train", "seed", "seed must", (2**63,)),
    ("run train pick preprocess evaluate", "pixel_size", "size", (-1, 0, 1000, "nan", "inf")),
    ("run train pick evaluate demo", "device", "--device", ("cuda:99",)),
    ("run train pick evaluate demo", "device", "must be one of auto, cpu", ("gpu", "meta", "")),
    ("run train pick evaluate preprocess demo", "threads", "threads", (0, -2)),
    ("run pick evaluate", "threshold", "--threshold", ("nan", "inf", "-inf")),
    ("run pick", "exclusion_radius", "exclusion", (-1, "nan", "inf")),
    ("run pick", "edge_margin", "edge", (-1, "nan", "inf")),
    ("run evaluate", "match_distance", "match", (-1, "nan", "inf")),
    ("preprocess", "working_pixel_size", "working", (0, -1, 1e6, "nan")),
    ("simulate", "particle", "'cat'", ("cat",)),
    ("simulate", "count", "number of micrographs", (0, -1)),
    ("simulate", "size_px", "like 1024 or 5760x4092", ("big", "100x", "1x2x3", "²x64", "-5x5")),
    ("simulate", "size_px", "side of a micrograph", ("0x0", "64x100000")),
    ("simulate", "pixel_size", "size", (0, -1, 80, "nan")),
    ("simulate", "snr", "n", (0, -1, "nan", "inf")),
    ("simulate", "particles", "number of particles", (-1,)),
    ("simulate", "defocus_min", "defocus", (5, -1, "nan")),
    ("simulate", "voltage", "voltage", (0, "inf")),
    ("simulate", "b_factor", "B-factor", (-1,)),
    ("simulate", "contaminants", "contaminants", (-1, 100, "nan", "wood=1", "gold=11")),
    ("simulate", "structure", "does not exist", ("absent.cif",)),
    ("simulate", "diameter", "structure", (100,)),
    ("simulate", "assembly", "structure", ("1",)),
    ("simulate", "contour", "structure", (1,)),
    ("simulate", "ice", "thickness", (0, 1000)),
    ("simulate", "ice_gradient", "gradient", (-1, 2)),
    ("simulate", "detector", "'film'", ("film",)),
    ("simulate", "orientations", "'up'", ("up",)),
    ("simulate", "labels", "number of labels", (-1,)),
]


@pytest.mark.parametrize(
    ("name", "option", "said", "value"),
    [
        (name, option, said, value)
        for names, option, said, values in BAD_OPTIONS
        for name in names.split()
        for value in values
    ],
)
def test_options(name: str, option: str, said: str, value: object, out: Path) -> None:
    result = command(name, out, **{option: value})
    refused(result, said)
    if value in ("nan", "inf", "-inf"):
        flag = f"--{option.replace('_', '-')}"
        reason = f"must be a finite number, not {value}"
        assert result.sentence in (f"{flag} {reason}", f"{option} {reason} ({flag})")


def float_options() -> list[tuple[str, str]]:
    """Every command and option that takes a number."""
    found = []
    for registered in app.registered_commands:
        function: Any = registered.callback
        hints = get_type_hints(function, include_extras=True)
        for name, hint in hints.items():
            if get_origin(hint) is Annotated and get_args(hint)[0] in (float, float | None):
                found.append((function.__name__, f"--{name.replace('_', '-')}"))
    return found


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_number_may_be_nan_or_infinite(value: str) -> None:
    options = float_options()
    assert len(options) > 30
    for name, option in options:
        refused(call(name, option, value), f"{option} must be a finite number, not {value}")


def test_misuse_of_the_command_line_is_explained(out: Path) -> None:
    for arguments in (
        ("pick", "--modell", "x"),
        ("pik",),
        ("train", "--diameter", "wide"),
        ("train", "--breadth", "nan"),
        ("train", "--micrographs", "good.mrc"),
        ("simulate", out, "--count"),
        ("pick", "--diameter"),
    ):
        result = call(*arguments)
        assert result.code == 2
        assert result.out == ""
        assert "Error: " in result.err
        assert "Traceback" not in result.err


# ---- places to write to ----


@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_is_a_file(name: str, out: Path) -> None:
    for place in ("file", "file/below", "good.mrc"):
        refused(command(name, place), place.partition("/")[0])
    assert Path("file").read_text() == "I am a file, not a folder.\n"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_may_not_be_written_to(name: str, out: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for place in (locked, locked / "below"):
        refused(command(name, place), "locked")


def test_a_name_too_long_for_the_file_system(out: Path) -> None:
    refused(command("pick", out, micrographs="x" * 300 + ".mrc"), "xxx")


def test_simulate_never_writes_over_a_set(out: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "truth.star").write_text("precious")
    refused(command("simulate", tmp_path / "old"), "truth.star", "already exists")
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["truth.star"]


def test_the_ground_is_good_but_for_what_is_wrong(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands above fail for their defect alone."""
    monkeypatch.chdir(ground)
    for name in ("pick", "evaluate", "preprocess", "simulate"):
        result = command(name, tmp_path / name)
        assert result.code == 0, result.err
    for name, changes in (("train", {}), ("run", {"truth": "truth.csv", "pick": "good.mrc"})):
        with pytest.raises(AssertionError, match="before the training"):
            command(name, tmp_path / name, **changes)
