from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from heliodor.errors import BadInput
from heliodor.models import GENERAL_FILAMENT_MODEL, GENERAL_MODEL
from heliodor.models.filament_model_file import (
    FilamentModel,
    fingerprint_filament_model,
    load_filament_model,
    round_weights,
    save_filament_model,
    set_width,
)
from heliodor.models.model_file import FILAMENT_FORMAT, is_filament_model, load_model
from heliodor.models.pretrained import (
    find_model_file,
    load_filament_model_for_picking,
    load_filament_model_or_general,
    load_model_or_general,
)
from helpers.filaments import random_filament_model


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    model = random_filament_model(width_angstrom=70.0)
    round_weights(model.network)
    for name in ("a", "b"):
        save_filament_model(tmp_path / name, model)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = load_filament_model(tmp_path / "a")
    assert read.card == model.card
    assert fingerprint_filament_model(read) == fingerprint_filament_model(model)
    assert is_filament_model(tmp_path / "a")
    assert not is_filament_model(GENERAL_MODEL)
    assert not is_filament_model(tmp_path / "none")


def test_the_kinds_of_models_are_not_confused(tmp_path: Path) -> None:
    path = tmp_path / "filaments.safetensors"
    save_filament_model(path, random_filament_model())
    with pytest.raises(BadInput, match="is a model of filaments"):
        load_model(path)
    with pytest.raises(BadInput, match="is a model of particles"):
        load_filament_model(GENERAL_MODEL)
    with pytest.raises(BadInput, match="general model of particles"):
        load_filament_model_or_general("general")
    with pytest.raises(BadInput, match="is a model of filaments"):
        load_model_or_general("filaments")
    with pytest.raises(BadInput, match="does not exist"):
        load_filament_model(tmp_path / "none")


def test_the_general_filament_model_is_small_and_finds_any_width() -> None:
    assert GENERAL_FILAMENT_MODEL.stat().st_size < 1_000_000
    assert find_model_file("filaments") == GENERAL_FILAMENT_MODEL
    model = load_filament_model_or_general(None)
    assert model.card.width_angstrom is None
    assert model.card.labelled_filaments == 0
    with pytest.raises(BadInput, match="needs the width"):
        load_filament_model_for_picking(None, None)
    assert load_filament_model_for_picking("filaments", 80.0).card.width_angstrom == 80.0


def test_the_width_is_that_of_the_model() -> None:
    own = random_filament_model(width_angstrom=70.0)
    assert set_width(own, None, "it") is own
    assert set_width(own, 70.0, "it") is own
    with pytest.raises(BadInput, match="70 Å wide; leave out the width"):
        set_width(own, 90.0, "it")
    with pytest.raises(BadInput, match="not plausible"):
        set_width(random_filament_model(), 5.0, "it")


@pytest.mark.parametrize(
    "change",
    [
        {"network": "other"},
        {"channels": 3},
        {"channels": "4"},
        {"channels": 6},
        {"width_angstrom": -1.0},
        {"width_angstrom": "wide"},
        {"working_width_px": 0.0},
        {"slope": 0.0},
        {"shift": None},
        {"normalization": {"mode": "odd"}},
        {"training_micrographs": "a"},
        {"training_micrographs": [1]},
        {"seed": 1.5},
        {"extra": []},
    ],
)
def test_damaged_cards_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    model = random_filament_model()
    path = tmp_path / "model.safetensors"
    card = asdict(model.card) | change
    tensors = {key: value.half() if value.is_floating_point() else value
               for key, value in model.network.state_dict().items()}  # fmt: skip
    save_file(tensors, path, {FILAMENT_FORMAT: json.dumps(card)})
    with pytest.raises(BadInput, match=re.escape(str(path))):
        load_filament_model(path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    model = random_filament_model()
    path = tmp_path / "model.safetensors"
    save_filament_model(path, model)
    whole = path.read_bytes()
    for content in (b"", whole[:-10], b"\xff" * 100, whole[:50]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="damaged"):
            load_filament_model(path)
    with torch.no_grad():
        model.network.head.weight[0, 0] = float("inf")
    save_filament_model(path, FilamentModel(model.network, replace(model.card)))
    with pytest.raises(BadInput, match="not finite"):
        load_filament_model(path)
