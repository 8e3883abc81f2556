from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.models.model_file import load_model, save_model
from heliodor.models.registry import find_named_model
from heliodor.picking.scoring import score_image
from helpers.cli import call, done
from helpers.networks import (
    card,
    disc_detector,
    discs,
    model,
    noise,
    scattered,
    scrambled,
    write_mrc,
)
from helpers.topaz_files import (
    as_topaz,
    save,
    topaz_named,
)

SIZES = ("--working-pixel-size", 4, "--diameter", 40)


@pytest.fixture(scope="module")
def sav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("topaz") / "model_epoch10.sav"
    with topaz_named() as classes:
        return save(as_topaz(scrambled("resnet8", 2, norm=False), classes), path)


def test_an_imported_model(sav: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "m.safetensors"
    said = done("model", "import", sav, "-o", out, *SIZES)
    assert said.out == ""
    assert str(out) in said.err
    loaded = load_model(out)
    assert (loaded.card.network, loaded.card.width, loaded.card.norm) == ("resnet8", 2, False)
    assert (loaded.card.working_pixel_size_angstrom, loaded.card.diameter_angstrom) == (4, 40)
    assert loaded.card.threshold == 0
    assert loaded.card.background is None
    assert loaded.card.training_micrographs == []
    assert loaded.normalizer == Normalizer("micrograph")
    origin = loaded.card.extra["imported"]
    assert origin["file"] == "model_epoch10.sav"
    assert origin["sha256"] == hashlib.sha256(sav.read_bytes()).hexdigest()
    assert origin["architecture"] == "resnet8 of 2 units, batch normalization off"
    image = noise((90, 80))
    expected = score_image(scrambled("resnet8", 2, norm=False), image)
    np.testing.assert_array_equal(score_image(loaded.network, image), expected)
    # The same file gives the same bytes.
    done("model", "import", sav, "-o", tmp_path / "again.safetensors", *SIZES)
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_an_imported_model_picks(tmp_path: Path) -> None:
    """Discs are found by a network that came as a file of Topaz."""
    network = scrambled("conv31", 1, norm=False)
    weights = network.state_dict()
    for value in weights.values():
        value.zero_()
    # The first layer sees discs, the others pass on what it says.
    disc = disc_detector().layers[0].conv.weight[0, 0]
    weights["layers.0.conv.weight"][0, 0] = disc[2:9, 2:9]
    weights["layers.1.conv.weight"][0, 0, 2, 2] = 1
    weights["layers.2.conv.weight"][0, 0, 2, 2] = 1
    weights["classifier.weight"][0, 0, 0, 0] = 4
    weights["classifier.bias"][0] = -6
    network.load_state_dict(weights)
    with topaz_named() as classes:
        path = save(as_topaz(network, classes), tmp_path / "m.sav")
    xy = scattered((128, 160), 6, 30, seed=2, edge=20)
    write_mrc(tmp_path / "mics" / "a.mrc", discs((128, 160), xy, depth=6))
    out = tmp_path / "m.safetensors"
    options = ("--normalization", "standard", "--threshold", -1)
    done("model", "import", path, "-o", out, "--working-pixel-size", 4, "--diameter", 40, *options)
    done("pick", "--model", out, "--micrographs", tmp_path / "mics", "-o", tmp_path / "out")
    picks = read_picks(tmp_path / "out" / "a_autopick.star")
    assert len(picks) == 6
    nearest = np.hypot(*(picks.xy_px[:, None] - xy[None]).transpose(2, 0, 1)).min(axis=0)
    assert nearest.max() < 2


@pytest.mark.parametrize("mode", ["standard", "none"])
def test_how_an_imported_models_input_is_normalised(mode: str, sav: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done("model", "import", sav, "-o", out, *SIZES, "--normalization", mode)
    assert load_model(out).normalizer == Normalizer(mode)


def test_a_model_imported_by_name(
    sav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path / "models"))
    done("model", "import", sav, "--name", "resnet8_u2", *SIZES)
    found = find_named_model("resnet8_u2")
    assert found == tmp_path / "models" / "resnet8_u2.safetensors"
    assert load_model(found).card.network == "resnet8"
    # It is used by its name, unless there is a file of that name.
    assert done("model", "show", "resnet8_u2").out == done("model", "show", found).out
    monkeypatch.chdir(tmp_path)
    Path("resnet8_u2").write_text("no model")
    assert call("model", "show", "resnet8_u2").code == 2


def test_the_list_has_the_models_of_the_user_and_of_the_site(
    sav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, site = tmp_path / "own", tmp_path / "site"
    monkeypatch.setenv("HELIODOR_MODELS", str(own))
    monkeypatch.setenv("HELIODOR_SITE_MODELS", str(site))
    done("model", "import", sav, "--name", "virus", *SIZES)
    site.mkdir()
    for name in ("virus", "enzyme"):
        (site / f"{name}.safetensors").write_bytes((own / "virus.safetensors").read_bytes())
    (site / "damaged.safetensors").write_bytes(b"")
    (site / "not a name!.safetensors").write_bytes(b"")
    listed = json.loads(done("model", "list", "--json").out)
    assert [(model["name"], Path(model["file"]).parent) for model in listed[2:]] == [
        ("virus", own), ("damaged", site), ("enzyme", site), ("virus", site)
    ]  # fmt: skip
    assert listed[0]["name"] == "general"
    assert listed[0]["diameter_angstrom"] is None
    assert listed[1]["name"] == "filaments"
    assert [model["filaments"] for model in listed] == [False, True, False, False, False, False]
    faults = [bool(model["fault"]) for model in listed]
    assert faults == [False, False, False, True, False, True]
    assert listed[2]["fingerprint"] == listed[4]["fingerprint"] != listed[0]["fingerprint"]
    table = done("model", "list").out
    assert "another model of this name comes first" in table
    assert len(table.splitlines()) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*SIZES, "-o", "m", "--name", "n"), "either a file with -o or a name"),
        ((*SIZES, "--name", "../n"), "'../n' is not a valid model name"),
        (
            (*SIZES, "-o", "m", "--normalization", "joint"),
            "must be one of micrograph, standard, none",
        ),
        ((*SIZES, "-o", "m", "--threshold", "nan"), "--threshold must be a finite number"),
        (
            ("--working-pixel-size", 0, "--diameter", 40, "-o", "m"),
            "working pixel size must be between 0 and 10,000 Å, not 0",
        ),
        (
            ("--working-pixel-size", 4, "--diameter", -1, "-o", "m"),
            "diameter must be between 0 and 10,000 Å, not -1",
        ),
    ],
)
def test_imports_that_cannot_be(
    options: tuple[object, ...],
    message: str,
    sav: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("model", "import", sav, *options)
    assert result.code == 2
    assert message in result.sentence
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_topaz_model(tmp_path: Path) -> None:
    (tmp_path / "m.sav").write_bytes(b"cposix\nsystem\n(S'touch trap'\ntR.")
    result = call("model", "import", tmp_path / "m.sav", "-o", tmp_path / "m.out", *SIZES)
    assert result.code == 2
    assert "m.sav cannot be used as a Topaz model" in result.sentence
    assert not (tmp_path / "m.out").exists()
    assert "does not exist" in call(
        "model", "import", tmp_path / "no.sav", "-o", tmp_path / "m.out", *SIZES
    ).sentence  # fmt: skip


def test_what_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, model(extra={"a": {"b": "c"}}))
    values = json.loads(done("model", "show", path, "--json").out)
    assert values.pop("receptive_field_px") == 31
    parameters = load_model(path).network.parameters()
    assert values.pop("parameters") == sum(parameter.numel() for parameter in parameters)
    assert values == asdict(card(extra={"a": {"b": "c"}}))
    lines = [
        " ".join(line.split()) for line in done("model", "show", path).out.strip().split("\n")
    ]
    assert len(lines) == len(values) + 2
    for line in (
        "network conv31",
        "working pixel size (Å) 4",
        "norm yes",
        "validation ap none",
        "training micrographs a.mrc, MotionCorr/job002/ü.mrc",
        "extra: a: b c",
        "receptive field (px) 31",
    ):
        assert line in lines
    assert "does not exist" in call("model", "show", tmp_path / "none").sentence


def test_text_of_a_model_does_not_control_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    changed = {"objective": evil, "extra": {evil: [evil], "b": "c\nnorm  no"}}
    save_model(path, model(**changed, training_micrographs=[f"{evil}\n.mrc"]))
    plain = tmp_path / "plain.safetensors"
    save_model(plain, model(extra={"a": ["b"], "b": "c"}))
    said = done("model", "show", path).out
    assert said.replace("\n", "").isprintable()
    assert r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e" in said
    assert len(said.splitlines()) == len(done("model", "show", plain).out.splitlines())


def test_an_exported_model(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    save_model(tmp_path / "m.safetensors", model())
    done("model", "export", tmp_path / "m.safetensors", "-o", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_size > 1000


@pytest.mark.parametrize("command", ["import", "export", "show"])
def test_every_command_has_help(command: str) -> None:
    said = done("model", command, "--help").out
    assert said.startswith(f"Usage: heliodor model {command} ")
