from __future__ import annotations

import builtins
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliodor.errors import BadInput
from heliodor.models.model_file import MODEL_FORMAT
from heliodor.models.networks import NETWORKS
from heliodor.models.onnx_export import export_onnx
from heliodor.picking.scoring import score_image
from helpers.networks import (
    model,
    noise,
    scrambled,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("norm", [True, False])
def test_an_onnx_file_scores_as_this_program_does(name: str, norm: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    network = scrambled(name, 2, seed=1, norm=norm)
    path = tmp_path / "deep" / "m.onnx"
    export_onnx(model(network, network=name, width=2, norm=norm), path)
    assert [file.name for file in path.parent.iterdir()] == ["m.onnx"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # Images of other sizes than the one it was made with, more than one at a time.
    for shape in ((70, 91), (140, 65)):
        images = [noise(shape, seed) for seed in (1, 2)]
        (scores,) = session.run(["log_odds"], {"image": np.stack(images)[:, None]})
        assert scores.shape == (2, 1, *shape)
        for image, score in zip(images, scores[:, 0], strict=True):
            expected = score_image(network, image)
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(score, expected, rtol=0, atol=1e-5 * scale)


def test_the_card_goes_along(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    original = model(extra={"note": "ä"})
    export_onnx(original, tmp_path / "m.onnx")
    written = onnx.load(str(tmp_path / "m.onnx"))
    (entry,) = written.metadata_props
    assert entry.key == MODEL_FORMAT
    assert json.loads(entry.value) == asdict(original.card)
    assert not any(node.domain for node in written.graph.node)  # standard operators alone
    export_onnx(original, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_exporting_changes_nothing_in_the_model(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    original = model()
    before = {key: value.clone() for key, value in original.network.state_dict().items()}
    export_onnx(original, tmp_path / "m.onnx")
    assert all(value.equal(before[key]) for key, value in original.network.state_dict().items())
    assert not original.network.training


def test_without_the_package_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"pip install heliodor\[onnx\]"):
        export_onnx(model(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
