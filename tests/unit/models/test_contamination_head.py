"""The second classifier of a network, which finds contamination."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from heliodor.errors import BadInput
from heliodor.models.inference_network import InferenceNetwork
from heliodor.models.model_file import MODEL_FORMAT, fingerprint_model, load_model, save_model
from heliodor.models.networks import NETWORKS, build_network, tensor_shapes
from heliodor.picking.score_maps import compute_score_maps
from heliodor.picking.scoring import score_with_contaminants
from heliodor.simulation import SimulationSettings, simulate_micrograph
from helpers.cli import done
from helpers.contamination import both_heads, names, plain
from helpers.networks import card, model, noise, scrambled, working


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("norm", [True, False])
def test_shapes_are_those_of_the_network_that_is_built(name: str, norm: bool) -> None:
    expected = tensor_shapes(name, 3, norm, contaminant=True)
    network = build_network(name, 3, norm=norm, contaminant=True)
    assert expected == {k: tuple(v.shape) for k, v in network.state_dict().items()}
    channels = network.classifier.in_channels
    more = {"contaminant.weight": (1, channels, 1, 1), "contaminant.bias": (1,)}
    assert expected == tensor_shapes(name, 3, norm) | more


def test_a_second_classifier_changes_no_number_that_is_drawn() -> None:
    drawn = []
    for contaminant in (False, True):
        torch.manual_seed(3)
        drawn.append(build_network("conv31", 4, contaminant=contaminant).state_dict())
    for key, value in drawn[0].items():
        assert torch.equal(drawn[1][key], value)


@settings(max_examples=20)
@given(name=names, dense=st.booleans(), more=st.integers(0, 20), seed=st.integers(0, 99))
def test_both_are_one_pass(name: str, dense: bool, more: int, seed: int) -> None:
    network = both_heads(name, 2, seed)
    side = network.receptive_field + more
    x = torch.from_numpy(noise((side, side), seed))[None, None].expand(2, 1, side, side)
    with torch.inference_mode():
        both = network.score_with_contaminants(x, dense)
        assert torch.equal(both[:, 0], network(x, dense))
        assert torch.equal(both[:, 0], plain(network)(x, dense))
        swapped = both_heads(name, 2, seed)
        assert network.contaminant is not None
        swapped.classifier = network.contaminant
        assert torch.equal(both[:, 1], swapped(x, dense))
    assert both.shape[:2] == (2, 2)
    with pytest.raises(ValueError, match="no classifier of contaminants"):
        plain(network).score_with_contaminants(x)
    with pytest.raises(ValueError, match="no classifier of contaminants"):
        InferenceNetwork(plain(network)).score_with_contaminants(x[0, 0])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_model_file_comes_back_with_both(name: str, tmp_path: Path) -> None:
    original = model(both_heads(name, 3), network=name, width=3, contaminant=True)
    save_model(tmp_path / "m.safetensors", original)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == original.card
    assert loaded.card.contaminant
    before, after = original.network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    shown = done("model", "show", tmp_path / "m.safetensors", "--json")
    assert json.loads(shown.out)["contaminant"] is True
    assert "contaminant" in done("model", "show", tmp_path / "m.safetensors").out


def test_an_old_card_has_none(tmp_path: Path) -> None:
    values = asdict(card())
    del values["contaminant"]
    path = tmp_path / "m.safetensors"
    save_file(model().network.state_dict(), path, metadata={MODEL_FORMAT: json.dumps(values)})
    assert load_model(path).card == card()
    assert not load_model(path).card.contaminant


@pytest.mark.parametrize(
    ("said", "there", "message"),
    [
        (True, False, "do not fit its model card"),
        (False, True, "do not fit its model card"),
        (1, True, "incompletely described"),
        ("yes", True, "incompletely described"),
        (None, False, "incompletely described"),
    ],
)
def test_a_card_that_says_otherwise(said: Any, there: bool, message: str, tmp_path: Path) -> None:
    network = both_heads("conv31") if there else scrambled("conv31")
    values = asdict(card()) | {"contaminant": said}
    path = tmp_path / "m.safetensors"
    save_file(network.state_dict(), path, metadata={MODEL_FORMAT: json.dumps(values)})
    with pytest.raises(BadInput, match=message):
        load_model(path)


def test_the_fingerprint_knows_it() -> None:
    first = model(both_heads("conv31"), contaminant=True)
    other = model(both_heads("conv31"), contaminant=True)
    assert fingerprint_model(first) != fingerprint_model(other)  # drawn anew
    other.network.load_state_dict(first.network.state_dict())
    assert fingerprint_model(first) == fingerprint_model(other)
    assert fingerprint_model(first) != fingerprint_model(model(plain(first.network)))


def test_an_onnx_file_has_both(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    network = both_heads("resnet8", 2)
    save_model(
        tmp_path / "m.safetensors", model(network, network="resnet8", width=2, contaminant=True)
    )
    done("model", "export", tmp_path / "m.safetensors", "-o", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [out.name for out in session.get_outputs()] == ["log_odds", "contaminant_log_odds"]
    for shape in ((70, 91), (81, 64)):
        image = noise(shape, 4)
        found = session.run(None, {"image": image[None, None]})
        assert [own.shape for own in found] == [(1, 1, *shape)] * 2
        maps = score_with_contaminants(network, image, 1)
        np.testing.assert_allclose(found[0][0, 0], maps.particle, atol=1e-4)
        assert maps.contaminant is not None
        step = network.stride
        np.testing.assert_allclose(found[1][0, 0, ::step, ::step], maps.contaminant, atol=1e-4)


@pytest.mark.slow
def test_a_head_trained_for_seconds_tells_simulated_carbon() -> None:
    shape = (384, 384)
    made = SimulationSettings(
        count=40, shape=shape, pixel_size_angstrom=6.0, contaminants=3.0, seed=2
    )
    mics = [simulate_micrograph(made, index) for index in range(3)]
    torch.manual_seed(0)
    network = build_network("resnet8", 4, contaminant=True).train()
    images = [(m.image - m.image.mean()) / m.image.std() for m in mics]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    edge, step = network.receptive_field // 2, network.stride
    x = [
        torch.from_numpy(np.pad(i.astype(np.float32), edge, mode="reflect"))[None, None]
        for i in images
    ]
    y = [torch.from_numpy(m.blocked[::step, ::step].astype(np.float32))[None] for m in mics]
    for turn in range(60):
        both = network.score_with_contaminants(x[turn % 3])
        loss = nn.functional.binary_cross_entropy_with_logits(both[:, 1], y[turn % 3])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    own = model(network, network="resnet8", width=4, diameter_angstrom=150.0, contaminant=True)
    seen = compute_score_maps(
        own, working(images[0].astype(np.float32), pixel=6.0), images[0].astype(np.float32)
    )
    assert seen.contamination is not None
    truth = mics[0].blocked[::step, ::step]
    overlap = (truth & seen.contamination.mask).sum() / (truth | seen.contamination.mask).sum()
    assert overlap > 0.4
