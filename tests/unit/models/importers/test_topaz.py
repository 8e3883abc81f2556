from __future__ import annotations

import builtins
import contextlib
import copy
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heliodor.errors import BadInput
from heliodor.models.importers.safe_pickle import UnsupportedFile, read_pickle
from heliodor.models.importers.topaz import TopazModel, read_topaz_model
from heliodor.models.networks import NETWORKS, Network
from heliodor.models.registry import find_named_model, named_model_path
from heliodor.picking.scoring import score_image
from helpers.networks import noise, scrambled
from helpers.topaz_files import (
    as_topaz,
    legacy_file,
    save,
    topaz_named,
    zip_file,
)


def same(read: TopazModel, network: Network, norm: bool) -> None:
    assert (read.network.name, read.width, read.norm) == (network.name, 2, norm)
    assert not read.network.training
    edge = network.receptive_field
    image = noise((edge + 3, edge + 6))
    np.testing.assert_array_equal(score_image(read.network, image), score_image(network, image))


def refused(path: Path, message: str = "Topaz model") -> str:
    with pytest.raises(BadInput, match=message) as caught:
        read_topaz_model(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    return said


# ---- what is read ----


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_whole_modules(name: str, norm: bool, legacy: bool, tmp_path: Path) -> None:
    network = scrambled(name, 2, seed=3, norm=norm)
    with topaz_named() as classes:
        path = save(as_topaz(network, classes), tmp_path / "m.sav", legacy)
    assert "topaz" not in sys.modules
    same(read_topaz_model(path), network, norm)


@pytest.mark.parametrize("name", ["resnet8", "resnet16", "conv31"])
@pytest.mark.parametrize("option", ["dropout", "filled", "old"])
def test_modules_with_dropout_filled_ones_and_old_ones(
    name: str, option: str, tmp_path: Path
) -> None:
    network = scrambled(name, 2, seed=4)
    with topaz_named() as classes:
        module = as_topaz(copy.deepcopy(network), classes, **{option: True})
        path = save(module, tmp_path / "m.sav")
    same(read_topaz_model(path), network, True)


@pytest.mark.parametrize("name", ["resnet8", "resnet16", "conv63"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_state_dictionaries(name: str, norm: bool, legacy: bool, tmp_path: Path) -> None:
    network = scrambled(name, 2, seed=5, norm=norm)
    with topaz_named() as classes:
        weights = as_topaz(network, classes).state_dict()
    if not norm and name == "resnet8":
        assert "features.features.2.proj.weight" in weights
        assert "features.features.4.conv.bias" in weights
    path = save(weights, tmp_path / "m.sav", legacy)
    same(read_topaz_model(path), network, norm)
    for protocol in (3, 4):
        torch.save(weights, path, pickle_protocol=protocol)
        same(read_topaz_model(path), network, norm)


def test_weights_of_half_precision_and_strided_ones(tmp_path: Path) -> None:
    network = scrambled("conv31", 2).half().float()
    with topaz_named() as classes:
        module = as_topaz(network, classes).half()
        path = save(module, tmp_path / "m.sav")
        expected = copy.deepcopy(network.float())
        same(read_topaz_model(path), expected, True)
        strided = module.to(memory_format=torch.channels_last)
        same(read_topaz_model(save(strided, path)), expected, True)


def test_ordered_dictionaries_of_python_2() -> None:
    class Ordered:
        def __init__(self, items: list[list[object]]) -> None:
            self.items = items

        def __reduce__(self) -> tuple[type, tuple[object, ...]]:
            return OrderedDict, (self.items,)

    for items in ([["a", 1], ["b", [2, 3]]], [], [["a", Ordered([["c", None]])]]):
        read = read_pickle(io.BytesIO(pickle.dumps(Ordered(items), 2)))
        expected = {str(key): value for key, value in items}
        assert list(read) == list(expected)
        if "b" in read:
            assert read == expected
    with pytest.raises(UnsupportedFile, match="keys"):
        read_pickle(io.BytesIO(pickle.dumps(Ordered([[(1, 2), 3]]), 2)))


def test_a_trained_decoder_is_left_out(tmp_path: Path) -> None:
    network = scrambled("conv31", 2)
    with topaz_named() as classes:
        module = as_topaz(network, classes)
        decoder = classes["topaz.model.generative.ConvGenerator"]()
        decoder.layers = nn.Sequential(nn.ConvTranspose2d(8, 4, 4), nn.LeakyReLU())
        module.generative = decoder
        path = save(module, tmp_path / "m.sav")
    same(read_topaz_model(path), network, True)


def test_the_file_is_known_by_its_hash(tmp_path: Path) -> None:
    with topaz_named() as classes:
        path = save(as_topaz(scrambled("conv31", 2), classes), tmp_path / "m.sav")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_topaz_model(path).sha256 == digest


# ---- what is refused ----


class Trap:
    """Something whose unpickling calls a function that leaves a folder behind."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def traps(folder: Path) -> dict[str, Trap]:
    code = f"__import__('os').mkdir({str(folder)!r})"
    return {
        "posix.system": Trap(os.system, f"mkdir {folder}"),
        "posix.mkdir": Trap(os.mkdir, str(folder)),
        "builtin__?s?.eval": Trap(builtins.eval, code),
        "builtin__?s?.exec": Trap(builtins.exec, code),
        "subprocess.Popen": Trap(subprocess.Popen, ["mkdir", str(folder)]),
    }


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("where", ["alone", "weight", "attribute", "bare"])
def test_a_file_that_would_run_something(
    legacy: bool, which: int, where: str, tmp_path: Path
) -> None:
    folder, path = tmp_path / "trap", tmp_path / "m.sav"
    trap = list(traps(folder).values())[which]
    value: object = trap
    with topaz_named() as classes:
        module = as_topaz(scrambled("conv31", 2), classes)
        if where == "weight":
            value = OrderedDict(module.state_dict(), zzz=trap)
        elif where == "attribute":
            module.features.trap = trap
            value = module
        if where == "bare":
            path.write_bytes(pickle.dumps(trap))
        else:
            save(value, path, legacy)
    refused(path, "not a torch file" if where == "bare" else "names .* nothing was executed")
    assert not folder.exists()
    if where == "weight" and which != 4:  # the trap is a trap
        torch.load(path, weights_only=False)
        assert folder.exists()


def short(text: str) -> bytes:
    """The instruction that puts a short text on the stack."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("form", [legacy_file, zip_file])
def test_programs_written_by_hand(form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    folder, path = tmp_path / "trap", tmp_path / "m.sav"
    argument = short(str(folder)) + b"\x85"
    mkdir = b"cposix\nmkdir\n" + argument + b"R"
    classifier = b"ctopaz.model.classifier\nLinearClassifier\n"
    programs = {
        "global": b"\x80\x02" + mkdir + b".",
        "by name": b"\x80\x04" + short("posix") + short("mkdir") + b"\x93" + argument + b"R.",
        # The name's parts are remembered long before they are put together.
        "remembered": b"\x80\x04"
        + short("posix")
        + b"\x940"
        + short("mkdir")
        + b"\x940h\x00h\x01\x93"
        + argument
        + b"R.",
        "in an identifier": b"\x80\x02(" + short("storage") + mkdir + b"tQ.",
        "as an identifier": b"\x80\x02" + mkdir + b"Q.",
        "in a class": b"\x80\x02" + short("module") + classifier + mkdir + b"\x87Q.",
        "instance": b"(" + b"S'" + str(folder).encode() + b"'\niposix\nmkdir\n.",
        "object": b"\x80\x02(cposix\nmkdir\n" + short(str(folder)) + b"o.",
        "registered": b"\x80\x02\x82\x01.",
        "text identifier": b"P" + str(folder).encode() + b"\n.",
        "keyword": b"\x80\x04cposix\nmkdir\n)}\x92.",
        "a part of a class": b"\x80\x04"
        + short("topaz.model.classifier")
        + short("LinearClassifier.os.mkdir")
        + b"\x93"
        + argument
        + b"R.",
        "a class that is called": b"\x80\x02" + classifier + argument + b"R.",
        "a class with arguments": b"\x80\x02" + classifier + argument + b"\x81.",
        "a tensor's function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + argument + b"R.",
        "its factory": b"\x80\x02ctopaz.model.factory\nload_model\n" + argument + b"R.",
        "torch.load": b"\x80\x02ctorch\nload\n" + argument + b"R.",
        "a number that is called": b"\x80\x02K\x01" + argument + b"R.",
        "a state for a class": b"\x80\x02" + classifier + b"}b.",
        "keys without end": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    }
    for program in programs.values():
        path.write_bytes(form(program))
        refused(path)
        assert not folder.exists()
    # What follows a blameless module is not run either.
    path.write_bytes(legacy_file(b"\x80\x02}.", programs["global"]))
    refused(path, "posix.mkdir")
    path.write_bytes(legacy_file(b"\x80\x02}.", b"\x80\x02])" + b"\x85" * 200_000 + b"a."))
    refused(path, "list of storages")
    path.write_bytes(programs["global"] * 3)
    refused(path, "not a torch file")
    assert not folder.exists()


def test_what_is_no_saved_module(tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    for raw in (b"", b"hello", b"\x80", b"PK\x03\x04", b"\x00" * 1000, b"\x80\x02}.", b"(" * 99):
        path.write_bytes(raw)
        refused(path, "cannot be used as a Topaz model")
    for value in (3, [1], {"a": 1}, torch.zeros(3), {"a": torch.zeros(2)}, {}):
        refused(save(value, path), "cannot be used as a Topaz model")
    path.write_bytes(zip_file(b"\x80\x02}.", zipfile.ZIP_DEFLATED))
    refused(path, "compressed")
    refused(tmp_path, "does not exist")
    refused(tmp_path / "none.sav", "does not exist")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("saved")
    with topaz_named() as classes:
        module = as_topaz(scrambled("conv31", 1), classes)
        return {legacy: save(module, folder / f"{legacy}.sav", legacy) for legacy in (True, False)}


@pytest.mark.parametrize("legacy", [True, False])
def test_truncated_files(legacy: bool, saved: dict[bool, Path], tmp_path: Path) -> None:
    raw, path = saved[legacy].read_bytes(), tmp_path / "m.sav"
    for length in {*range(0, len(raw), max(1, len(raw) // 60)), len(raw) - 1}:
        path.write_bytes(raw[:length])
        refused(path, "cannot be used as a Topaz model")


@settings(max_examples=300)
@given(data=st.data(), legacy=st.booleans())
def test_damaged_files_load_or_are_refused(
    data: st.DataObject, legacy: bool, saved: dict[bool, Path]
) -> None:
    raw, path = saved[legacy].read_bytes(), saved[legacy].with_name("damaged.sav")
    if legacy:
        program = bytearray(raw)
    else:
        with zipfile.ZipFile(saved[legacy]) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        (name,) = (name for name in parts if name.endswith("data.pkl"))
        program = bytearray(parts[name])
    for _ in range(data.draw(st.integers(1, 4))):
        program[data.draw(st.integers(0, min(len(program), 8000) - 1))] = data.draw(
            st.integers(0, 255)
        )
    if legacy:
        path.write_bytes(program)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for key, part in parts.items():
                archive.writestr(key, program if key == name else part)
    with contextlib.suppress(BadInput):
        read_topaz_model(path)


def test_networks_that_this_program_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "m.sav"
    with topaz_named() as classes:
        resnet = "topaz.model.features.resnet."
        pooling = as_topaz(scrambled("resnet8", 2), classes)
        pooling.features.features.insert(1, classes[f"{resnet}MaxPool"]())
        refused(save(pooling, path), "MaxPool")
        weights = pooling.state_dict()
        refused(save(weights, path), "do not show all layers")

        volume = as_topaz(scrambled("resnet8", 2), classes)
        volume.features.features[0].conv = nn.Conv3d(1, 2, 7)
        refused(save(volume, path), "tomograms")

        wide = as_topaz(scrambled("conv31", 2), classes)
        wide.features.features[3] = nn.Conv2d(2, 2, 5, bias=False)
        refused(save(wide, path), "unit scaling")

        odd = as_topaz(scrambled("resnet8", 2), classes)
        odd.features.width = 77
        refused(save(odd, path), "77 pixels")

        leaky = as_topaz(scrambled("resnet8", 2), classes)
        leaky.features.features[0].act = nn.LeakyReLU()
        refused(save(leaky, path), "LeakyReLU")

        short_one = as_topaz(scrambled("resnet8", 2), classes)
        del short_one.features.features[1]
        refused(save(short_one, path), "not one of conv31")

        features = as_topaz(scrambled("resnet8", 2), classes).features
        refused(save(features, path), "not a classifier")

        endless = as_topaz(scrambled("resnet8", 2), classes)
        endless.features.features.add_module("again", endless.features)
        refused(save(endless, path), "occurs twice")

        inner = nn.Sequential()
        for _ in range(30):
            inner = nn.Sequential(inner)
        deep = as_topaz(scrambled("conv31", 2), classes)
        deep.features.features.append(inner)
        refused(save(deep, path), "nested too deeply")

        broken = as_topaz(scrambled("conv31", 2), classes)
        with torch.no_grad():
            broken.classifier.weight[0, 0] = float("nan")
        refused(save(broken, path), "not finite")


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    path, one = tmp_path / "m.sav", torch.zeros(1)
    with topaz_named() as classes:
        weights = as_topaz(scrambled("conv31", 2, norm=False), classes).state_dict()
    weights["features.features.0.weight"] = one.expand(1024, 1, 7, 7)
    refused(save(weights, path), "outside its storage")


# ---- models by name ----


def test_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path / "models"))
    assert named_model_path("resnet8_u32") == tmp_path / "models" / "resnet8_u32.safetensors"
    assert find_named_model("resnet8_u32") is None
    named_model_path("resnet8_u32").parent.mkdir()
    named_model_path("resnet8_u32").touch()
    assert find_named_model("resnet8_u32") == named_model_path("resnet8_u32")
    (tmp_path / "outside.safetensors").touch()
    for name in ("../outside", "", ".", "/etc", "a/b", "a\n", "x" * 200):
        assert find_named_model(name) is None
        with pytest.raises(BadInput, match="not a valid model name"):
            named_model_path(name)
    monkeypatch.delenv("HELIODOR_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named_model_path("a") == tmp_path / ".config" / "heliodor" / "models" / "a.safetensors"


# ---- the program itself ----

SCORES = """
import importlib, sys, warnings
from unittest.mock import MagicMock
warnings.simplefilter("ignore")
import numpy as np, torch
torch.set_num_threads(1)
while True:  # what its other commands need may be missing
    try:
        from topaz.model.factory import load_model
        break
    except ModuleNotFoundError as error:
        if error.name.startswith("topaz"):
            raise
        sys.modules[error.name] = MagicMock()
model = load_model(sys.argv[1]).eval()
model.fill()
with torch.no_grad():
    scores = model(torch.from_numpy(np.load(sys.argv[2]))[None, None])
np.save(sys.argv[3], scores[0, 0].numpy())
"""


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], Path]:
    """A Python that has Topaz, its environment, and the folder of the package."""
    own = os.environ.get("HELIODOR_TOPAZ")
    if own:
        place = subprocess.run(
            [own, "-c", "import topaz; print(topaz.__path__[0])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        return own, dict(os.environ), Path(place)
    folder = tmp_path_factory.mktemp("topaz")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    got = subprocess.run([*command, "topaz-em", "-d", str(folder)], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if got.returncode or not wheels:
        pytest.skip("the package topaz-em cannot be had; set HELIODOR_TOPAZ to a Python with it")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    return sys.executable, {**os.environ, "PYTHONPATH": str(folder)}, folder / "topaz"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8_u32", "resnet16_u32", "resnet8_u64", "resnet16_u64"])
def test_shipped_models_score_as_in_topaz(
    name: str,
    reference: tuple[str, dict[str, str], Path],
    real_data: Path,
    tmp_path: Path,
) -> None:
    python, environment, package = reference
    read = read_topaz_model(package / "pretrained" / "detector" / f"{name}.sav")
    assert (f"{read.network.name}_u{read.width}", read.norm) == (name, False)
    edge = read.network.receptive_field // 2
    files = sorted((real_data / "fixtures").glob("*.mrc"))
    assert files
    for file in files:
        with mrcfile.open(file, permissive=True) as mrc:
            pixels = np.asarray(mrc.data, dtype=np.float32)
        image = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32)
        np.save(tmp_path / "image.npy", image)
        subprocess.run(
            [python, "-c", SCORES, name, tmp_path / "image.npy", tmp_path / "scores.npy"],
            check=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )
        theirs = np.load(tmp_path / "scores.npy")
        # It surrounds the image by zeros, and this program by its mirror image.
        padded = torch.from_numpy(np.pad(image, edge))[None, None]
        with torch.inference_mode():
            ours = read.network(padded, dense=True)[0].numpy()
        print(f"{name} on {file.name}: {np.abs(ours - theirs).max():.1e} of {np.ptp(theirs):.1f}")
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
        inner = slice(edge, -edge)
        mirrored = score_image(read.network, image)
        np.testing.assert_allclose(mirrored[inner, inner], theirs[inner, inner], rtol=0, atol=1e-4)
