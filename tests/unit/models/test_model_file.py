from __future__ import annotations

import contextlib
import io
import json
import math
import pickletools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from heliodor.data.micrographs.modes import NORMALIZATION_MODES, NormalizationMode
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.models.filament_model_file import load_filament_model
from heliodor.models.model_file import (
    MODEL_FORMAT,
    Model,
    load_model,
    save_model,
)
from heliodor.models.networks import NETWORKS
from heliodor.models.novelty import NoveltyReference
from heliodor.picking.candidates import find_candidates
from heliodor.picking.score_maps import score_micrograph
from heliodor.picking.scoring import score_image
from heliodor.picking.settings import PickSettings
from helpers.full_disk import full_disk
from helpers.networks import (
    card,
    model,
    noise,
    scrambled,
    working,
)

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)

REFERENCE = NoveltyReference.fit([noise((160, 160), 1)], 20.0)
assert REFERENCE is not None
#: What a card says of its training images.
NOVELTY = REFERENCE.as_dict()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save_model(path, model())
    return path


def write(
    path: Path,
    values: dict[str, Any] | str | None = None,
    tensors: dict[str, torch.Tensor] | None = None,
    form: str = MODEL_FORMAT,
) -> Path:
    """Write a model file as this program does not: with any card, format and tensors."""
    text = values if isinstance(values, str) else json.dumps(values or asdict(card()))
    save_file(tensors or model().network.state_dict(), path, metadata={form: text})
    return path


def refuses(path: Path, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_a_model_comes_back_as_it_was(name: str, mode: NormalizationMode, tmp_path: Path) -> None:
    images = [10 + 3 * noise((50, 60), seed) for seed in (1, 2)]
    normalizer = Normalizer.fit(images, mode)
    original = model(
        scrambled(name, 3, seed=5),
        network=name,
        width=3,
        normalization=normalizer.as_dict(),
        validation_ap=1 / 3,
        threshold=-0.1,
        extra={"note": "ä", "deep": {"list": [1, 2.5, None]}},
    )
    save_model(tmp_path / "model.safetensors", original)
    loaded = load_model(str(tmp_path / "model.safetensors"))

    assert loaded.card == original.card
    assert loaded.network.name == name
    assert not loaded.network.training
    before, after = original.network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype
        assert torch.equal(after[key], value), key
    image = 10 + 3 * noise((40, 45), 3)
    expected = score_image(original.network, normalizer.apply(image))
    score = score_image(loaded.network, loaded.normalizer.apply(image))
    np.testing.assert_array_equal(score, expected)


def test_saving_the_same_model_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    for _ in range(5):
        save_model(folder / "again.safetensors", load_model(saved))
        assert (folder / "again.safetensors").read_bytes() == saved.read_bytes()
    assert [p.name for p in folder.iterdir()] == ["again.safetensors"]


def test_a_model_in_training_is_saved_without_change(tmp_path: Path) -> None:
    original = model(scrambled("conv31").train())
    save_model(tmp_path / "m.safetensors", original)
    assert original.network.training
    assert not load_model(tmp_path / "m.safetensors").network.training


def test_the_file_holds_no_pickle(saved: Path) -> None:
    raw = saved.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header.pop("__metadata__").keys() == {MODEL_FORMAT}
    # Header and tensors are the whole file.
    assert {entry["dtype"] for entry in header.values()} == {"F32", "I64"}
    used = sum(end - start for start, end in (e["data_offsets"] for e in header.values()))
    assert 8 + int.from_bytes(raw[:8], "little") + used == len(raw)
    for module in ("pickle", "cloudpickle", "dill"):
        assert module.encode() not in raw


@pytest.mark.parametrize("write_pickle", [torch.save, None])
def test_a_pickle_is_never_opened(write_pickle: Any, tmp_path: Path) -> None:
    path, trap = tmp_path / "model.safetensors", tmp_path / "trap"
    # A pickle that makes a folder when it is loaded.
    program = f"cposix\nmkdir\n(S'{trap}'\ntR.".encode()
    pickletools.dis(program, io.StringIO())  # it is a pickle indeed
    if write_pickle:
        write_pickle(scrambled("conv31").state_dict(), path)
    else:
        path.write_bytes(program)
    refuses(path, "damaged model file")
    assert not trap.exists()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_without_normalisation_comes_back(name: str, tmp_path: Path) -> None:
    network = scrambled(name, 2, norm=False)
    path = tmp_path / "m.safetensors"
    save_model(path, model(network, network=name, width=2, norm=False))
    loaded = load_model(path)
    assert loaded.card.norm is False
    assert not any("running" in key for key in loaded.network.state_dict())
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value), key
    save_model(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    # The card decides, and the weights must fit it.
    values = asdict(loaded.card) | {"norm": True}
    refuses(write(path, values, network.state_dict()), "do not fit")


def test_a_card_from_before_normalisation_was_a_choice(tmp_path: Path) -> None:
    values = asdict(card())
    del values["norm"]
    assert load_model(write(tmp_path / "m.safetensors", values)).card.norm is True


def test_a_forged_card_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card may ask for 17 GB, which are not asked for before the weights are seen to fit."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was built")

    monkeypatch.setattr("heliodor.models.model_file.build_network", never)
    values = asdict(card()) | {"network": "conv127", "width": 1024}
    refuses(write(tmp_path / "m.safetensors", values), "do not fit")
    tensors = {"layers.0.conv.weight": torch.zeros(1024, 1, 7, 7)}
    refuses(write(tmp_path / "m.safetensors", values, tensors), "do not fit")


def test_a_forged_header_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    # Lists without end in the card, which take thirty times as much to hold.
    text = json.dumps(
        {"__metadata__": {MODEL_FORMAT: '{"network": [' + "[]," * 6_000_000 + "[]]}"}}
    )
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    refuses(path, "too large")


def test_a_card_with_a_later_programs_fields_is_read(tmp_path: Path) -> None:
    values = asdict(card()) | {"of_tomorrow": [1]}
    assert load_model(write(tmp_path / "m.safetensors", values)).card == card()
    del values["extra"]
    assert load_model(write(tmp_path / "m.safetensors", values)).card == card()


def test_missing_files(tmp_path: Path) -> None:
    refuses(tmp_path / "nothing.safetensors", "does not exist")
    refuses(tmp_path, "is not a file")


def test_truncated_files(saved: Path, tmp_path: Path) -> None:
    raw, path = saved.read_bytes(), tmp_path / "m.safetensors"
    for length in (0, 1, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:length])
        refuses(path, "damaged model file")
    path.write_bytes(raw + b"\0")
    refuses(path, "damaged model file")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_headers(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw, path = bytearray(saved.read_bytes()), tmp_path / "m.safetensors"
    header = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    # A changed letter of a micrograph's name is no damage; anything else is a sentence.
    with contextlib.suppress(BadInput):
        load_model(path)


def test_what_training_looked_like_comes_back(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, model(extra={"novelty": NOVELTY}))
    own = load_model(path).novelty
    assert own is not None
    assert own.as_dict() == NOVELTY
    # Older models, and those of other programs, do not say.
    assert load_model(saved).novelty is None


def test_files_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for form in ("format", "heliodor-model-2", ""):
        refuses(write(path, form=form), "not a heliodor model")
    save_file({"a": torch.zeros(1)}, path)
    refuses(path, "not a heliodor model")
    path.write_text("hello", encoding="utf-8")
    refuses(path, "damaged model file")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"card"',
        "{}",
        "NaN",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"width": ' + "9" * 5000 + "}",
        json.dumps(asdict(card()))[:-20],
    ],
)
def test_cards_that_are_garbage(text: str, tmp_path: Path) -> None:
    refuses(write(tmp_path / "m.safetensors", text), "card in .* is damaged")


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": None},
        {"threshold": "0.5"},
        {"threshold": math.nan},
        {"threshold": math.inf},
        {"threshold": 10**400},
        {"threshold": 2**63},
        {"background": -(2**70)},
        {"working_pixel_size_angstrom": 0},
        {"working_pixel_size_angstrom": -4.0},
        {"working_pixel_size_angstrom": math.nan},
        {"working_pixel_size_angstrom": math.inf},
        {"diameter_angstrom": "40"},
        {"diameter_angstrom": 1e9},
        {"training_radius_angstrom": None},
        {"training_radius_angstrom": -1},
        {"width": 4.0},
        {"width": True},
        {"width": None},
        {"network": None},
        {"network": ["conv31"]},
        {"network": {}},
        {"norm": None},
        {"norm": 1},
        {"normalization": None},
        {"normalization": {}},
        {"normalization": {"mode": "joint"}},
        {"normalization": {"mode": ["joint"]}},
        {"normalization": {"mode": "joint", "weight": [1], "mu": [0, 1], "sigma": [1, 1]}},
        {"normalization": {"mode": "joint", "weight": [0.5, 0.5], "mu": [0, 1], "sigma": [0, 1]}},
        {"extra": None},
        {"extra": []},
        {"extra": {"novelty": {}}},
        {"extra": {"novelty": [1, 2]}},
        {"extra": {"novelty": NOVELTY | {"limit": math.nan}}},
        {"extra": {"novelty": NOVELTY | {"cell_px": 2**60}}},
        {"extra": {"novelty": NOVELTY | {"covariance": [[0.0]]}}},
        {"extra": {"novelty": NOVELTY | {"centre": [[math.inf] * 6] * 4}}},
    ],
)
def test_cards_with_impossible_values(change: dict[str, Any], tmp_path: Path) -> None:
    refuses(write(tmp_path / "m.safetensors", asdict(card()) | change), "is damaged")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(field=st.sampled_from(sorted(asdict(card()))), value=any_json)
def test_any_value_in_any_field_loads_or_is_refused(
    field: str, value: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.safetensors", asdict(card()) | {field: value})
    try:
        loaded = load_model(path)
    except BadInput:
        return
    # What loads can pick.
    image = working(noise((40, 40)))
    find_candidates(loaded, image, score_micrograph(loaded, image), PickSettings())


@pytest.mark.parametrize(
    "field",
    sorted(
        set(asdict(card()))
        - {"extra", "background", "calibration", "norm", "contaminant", "any_diameter", "finer"}
        - {"edge_margin_angstrom", "center_correction_px"}
    ),
)
def test_a_card_without_one_of_its_fields(field: str, tmp_path: Path) -> None:
    values = asdict(card())
    del values[field]
    refuses(write(tmp_path / "m.safetensors", values), "is damaged")


@pytest.mark.parametrize("value", [[0.5], [0.5, "1"], [0.5, math.inf], [0.5, 6.0], 0.5, None])
def test_a_correction_of_centers_is_two_small_numbers(value: Any, tmp_path: Path) -> None:
    values = asdict(card()) | {"center_correction_px": value}
    refuses(write(tmp_path / "m.safetensors", values), "the correction of centers")


@pytest.mark.parametrize("change", [{"network": "resnet8"}, {"width": 5}])
def test_weights_of_another_network(change: dict[str, Any], tmp_path: Path) -> None:
    refuses(write(tmp_path / "m.safetensors", asdict(card()) | change), "do not fit")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "vgg"}, "one of conv31"),
        ({"network": "__import__('os')"}, "one of conv31"),
        ({"width": 0}, "width"),
        ({"width": -5}, "width"),
        ({"width": 10**9}, "width"),
    ],
)
def test_networks_that_do_not_exist(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    refuses(write(tmp_path / "m.safetensors", asdict(card()) | change), message)


def test_tensors_that_are_missing_too_many_or_misshapen(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.safetensors", model().network.state_dict()
    for key in whole:
        if not key.endswith("num_batches_tracked"):  # torch does without, and so does scoring
            fewer = {k: v for k, v in whole.items() if k != key}
            refuses(write(path, tensors=fewer), "do not fit")
    refuses(write(path, tensors=dict(whole) | {"more": torch.zeros(2)}), "do not fit")
    flat = dict(whole) | {"classifier.weight": whole["classifier.weight"].flatten()}
    refuses(write(path, tensors=flat), "do not fit")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["layers.0.conv.weight", "layers.2.norm.running_var"])
def test_weights_that_are_not_finite(key: str, value: float, tmp_path: Path) -> None:
    tensors = {k: v.clone() for k, v in model().network.state_dict().items()}
    tensors[key].view(-1)[-1] = value
    refuses(write(tmp_path / "m.safetensors", tensors=tensors), "not finite")


@pytest.mark.parametrize("most_bytes", [0, 1000])
def test_a_full_disk_leaves_the_old_file(saved: Path, tmp_path: Path, most_bytes: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved.read_bytes())
    with (
        full_disk(most_bytes),
        pytest.raises(BadInput, match=r"m\.safetensors cannot be written \(File too large"),
    ):
        save_model(path, model(scrambled("conv31", seed=9)))
    assert path.read_bytes() == saved.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_card_is_strict_json(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata[MODEL_FORMAT]) == asdict(card())
    # No reader but Python's takes a bare NaN.
    broken = Model(model().network, replace(card(), validation_ap=math.nan))
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "m.safetensors", broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("load", [load_model, load_filament_model])
def test_a_name_that_is_too_long_is_of_no_model(load) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load("x" * 5000)
