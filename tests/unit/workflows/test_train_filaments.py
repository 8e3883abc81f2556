from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor import train_filaments
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.errors import BadInput
from heliodor.models.filament_model_file import load_filament_model
from heliodor.simulation.dataset import simulate
from heliodor.simulation.settings import SimulationSettings
from heliodor.training.filaments.settings import FilamentRecipe
from heliodor.workflows import train_filaments as module
from heliodor.workflows.train_filaments import choose_width
from helpers.cli import call, done
from helpers.filaments import random_filament_model


@pytest.fixture(scope="module")
def fibrils(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated micrographs with labeled filaments."""
    folder = tmp_path_factory.mktemp("fibrils")
    settings = SimulationSettings(
        filament="tube", shape=(256, 256), pixel_size_angstrom=12.0, count=2, labels=3, seed=4
    )
    simulate(folder, settings)
    return folder


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = FilamentRecipe(updates=2, batch=1, side_px=96)
    monkeypatch.setattr(module, "RECIPE", recipe)


def train(folder: Path, out: Path, *words: object) -> tuple[object, ...]:
    return ("train", folder / "micrographs.star", "--labels", folder / "labels.star",
            "--filaments", "-o", out, *words)  # fmt: skip


def test_a_model_is_trained_and_described_and_trained_again(fibrils: Path, tmp_path: Path) -> None:
    done(*train(fibrils, tmp_path / "one", "--seed", 3))
    model = load_filament_model(tmp_path / "one" / "model.safetensors")
    # The width is that in the file of labels.
    assert model.card.width_angstrom == 180.0
    assert model.card.labelled_filaments == 3
    assert model.card.seed == 3
    assert model.card.labelled_length_angstrom > 3 * 2 * 180.0
    assert model.card.training_micrographs
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["command"] == "train"
    assert record["arguments"]["filaments"] is True
    shown = done("model", "show", tmp_path / "one" / "model.safetensors").out
    assert "width (Å)" in shown
    done("rerun", tmp_path / "one" / "run.json", "-o", tmp_path / "again")
    both = [(tmp_path / own / "model.safetensors").read_bytes() for own in ("one", "again")]
    assert both[0] == both[1]
    # The function does the same as the command.
    file = train_filaments(
        fibrils / "micrographs.star", fibrils / "labels.star", tmp_path / "api", seed=3, threads=1
    )
    assert file.read_bytes() == both[0]
    # It can be trained further, for another width.
    start = tmp_path / "one" / "model.safetensors"
    done(*train(fibrils, tmp_path / "more", "--from", start, "--width", 190))
    assert load_filament_model(tmp_path / "more" / "model.safetensors").card.width_angstrom == 190


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--negatives", "none.star"], "none.star"),
        (["--watch"], "leave it out with --filaments (--watch)"),
        (["--until", 3], "leave it out with --filaments (--until)"),
        (["--memory", 4], "leave it out with --filaments (--memory)"),
        (["--cluster", "local", "--watch"], "leave it out with --filaments (--watch)"),
        (["--diameter", 100], "leave it out with --filaments (--diameter)"),
        (["--from", "scratch"], "starts from a model of filaments"),
        (["--resume", "often"], "must be auto or never"),
        (["--width", 3], "not plausible"),
        (["--width", 20], "too coarse"),
    ],
)
def test_what_cannot_be_is_refused(
    fibrils: Path, tmp_path: Path, words: list[object], said: str
) -> None:
    result = call(*train(fibrils, tmp_path / "out", *words))
    assert result.code == 2
    assert said in result.sentence
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_rejected_axes_are_learned_from(fibrils: Path, tmp_path: Path) -> None:
    table = read_filaments(fibrils / "filaments.star")
    first, name = table.micrographs

    def write(file: str, micrograph: str) -> Path:
        own = tuple(one for one in table if one.micrograph == micrograph)[:2]
        sizes = {micrograph: table.pixel_sizes[micrograph]}
        (tmp_path / file).write_text(render_filaments(Filaments((micrograph,), own, sizes)))
        return tmp_path / file

    # Also those on a micrograph without labels.
    labels, negatives = write("labels.star", first), write("rejected.star", name)
    star = fibrils / "micrographs.star"
    words = ("train", star, "--labels", labels, "--filaments", "-o")
    said = done(*words, tmp_path / "with", "--negatives", negatives).err
    assert "and 2 rejected ones, on 2 micrographs" in said
    done(*words, tmp_path / "without")
    with_them = (tmp_path / "with/model.safetensors").read_bytes()
    assert with_them != (tmp_path / "without/model.safetensors").read_bytes()
    record = json.loads((tmp_path / "with/run.json").read_text())
    assert record["arguments"]["negatives"] == str(negatives)
    done("rerun", tmp_path / "with/run.json", "-o", tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == with_them
    file = train_filaments(star, labels, tmp_path / "api", threads=1, negatives=negatives)
    assert file.read_bytes() == with_them
    # Those of other micrographs are refused.
    negatives.write_text(negatives.read_text().replace(Path(name).stem, "another"))
    said = call(*words, tmp_path / "other", "--negatives", negatives).sentence
    assert f"{negatives} has no filaments on the micrographs given" in said


def test_labels_must_be_on_the_micrographs(fibrils: Path, tmp_path: Path) -> None:
    text = (fibrils / "labels.star").read_text()
    moved = tmp_path / "labels.star"
    moved.write_text(text.replace("tube_", "another_"))
    words = ("--labels", moved, "--filaments", "-o", tmp_path / "out")
    assert "no filaments on the micrographs given" in call(
        "train", fibrils / "micrographs.star", *words
    ).sentence  # fmt: skip
    said = call("train", fibrils / "micrographs.star", "--labels", moved, "--diameter", 99)
    assert "holds filaments, not particles" in said.sentence


def test_a_bad_micrograph_is_reported_at_the_end(fibrils: Path, tmp_path: Path) -> None:
    names = sorted({*re.findall(r"micrographs/\S+", (fibrils / "filaments.star").read_text())})
    labels = fibrils / "filaments.star"
    broken = fibrils / names[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:2000])
    try:
        result = call("train", fibrils / "micrographs.star", "--labels", labels, "--filaments",
                      "-o", tmp_path)  # fmt: skip
    finally:
        broken.write_bytes(whole)
    assert result.code == 3
    assert names[0] in (tmp_path / "failed.tsv").read_text()
    card = load_filament_model(tmp_path / "model.safetensors").card
    assert names[0] not in card.training_micrographs


def test_the_width_is_given_or_that_of_the_labels_or_of_the_start() -> None:
    start, trained = random_filament_model(), random_filament_model(width_angstrom=65.0)
    axis = np.array([[0.0, 0.0], [9.0, 9.0]])
    one, other = Filament("a", axis, 1, 70.0), Filament("a", axis, 2, 72.0)

    def table(*filaments: Filament) -> Filaments:
        return Filaments(("a",), filaments)

    unknown = table(Filament("a", axis, 1))
    assert choose_width(80.0, start, table(one), "f") == 80.0
    assert choose_width(None, trained, table(one, other), "f") == 71.0
    assert choose_width(None, trained, unknown, "f") == 65.0
    with pytest.raises(BadInput, match="how wide"):
        choose_width(None, start, unknown, "f")
    with pytest.raises(BadInput, match="from 70 to 200 Å wide"):
        choose_width(None, start, table(one, replace(other, width_angstrom=200.0)), "f")
