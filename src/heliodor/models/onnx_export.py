"""Export of a model to ONNX, for other programs: the dense network."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from heliodor.errors import BadInput
from heliodor.models.model_file import MODEL_FORMAT, Model
from heliodor.models.networks import Network
from heliodor.utils.files import atomic_write

#: Version of the ONNX operators; every runtime since 2022 supports it.
OPSET = 17
#: The largest ONNX file, in bytes.
_MAX_BYTES = 2**31 - 2**20


class DenseNetwork(nn.Module):
    """A network that scores every pixel of an image, as `scoring.score_image` does."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Score images, shape (n, 1, h, w), padded by mirroring.

        Returns log-odds of the same shape, and those of contaminants if the network has them.
        """
        edge = self.network.receptive_field // 2
        padded = nn.functional.pad(image, (edge, edge, edge, edge), mode="reflect")
        if self.network.contaminant is not None:
            both = self.network.score_with_contaminants(padded, dense=True)
            return both[:, :1], both[:, 1:]
        scores: Tensor = self.network(padded, dense=True)
        return scores[:, None]


def export_onnx(model: Model, path: str | Path) -> None:
    """Write a model as ONNX, atomically.

    The graph takes ``image``, float32 of shape (n, 1, h, w): images at the model's working pixel
    size, normalized as its card describes, and not padded. It returns ``log_odds`` of the same
    shape, one per pixel, equal to those of `scoring.score_image`. A model that detects
    contamination has a second output ``contaminant_log_odds`` of the same shape. Both sides of an
    image must be longer than half the receptive field, because the graph mirrors the image at its
    edges. The model card is in the file's metadata, as JSON, under the same key as in model files.

    Raises
    ------
    BadInput
        If the package onnx is not installed, the model is too large, or the file cannot be
        written.
    """
    try:
        import onnx
    except ImportError as error:
        raise BadInput(
            "ONNX export needs the package onnx; run pip install heliodor[onnx]"
        ) from error
    size = sum(tensor.nbytes for tensor in model.network.state_dict().values())
    if size > _MAX_BYTES:
        raise BadInput(f"a model of {size / 2**30:.1f} GB is too large for an ONNX file")
    has_contaminants = model.network.contaminant is not None
    dense_network = DenseNetwork(model.network).eval()
    outputs = ["log_odds", *(["contaminant_log_odds"] if has_contaminants else [])]
    side = model.network.receptive_field + 1
    sides = {0: "n", 2: "h", 3: "w"}
    with atomic_write(path) as aside:
        with warnings.catch_warnings():
            # torch recommends its other exporter, which needs more packages.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                dense_network,
                (torch.zeros(1, 1, side, side),),
                str(aside),
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=outputs,
                dynamic_axes=dict.fromkeys(["image", *outputs], sides),
            )
        graph = onnx.load(str(aside))
        card = json.dumps(asdict(model.card), allow_nan=False)
        onnx.helper.set_model_props(graph, {MODEL_FORMAT: card})
        graph.doc_string = (
            "image: float32 (n, 1, h, w), normalized, not padded;"
            " log_odds: the same shape, of a particle centered on each pixel"
            + ("; contaminant_log_odds: of a contaminant there" if has_contaminants else "")
        )
        onnx.checker.check_model(graph)
        onnx.save(graph, str(aside))
