"""Import of Topaz models (`.sav`); nothing in such a file is executed.

Two kinds of files are read: the state dictionaries that Topaz ships, and the whole modules that
its training saves. The architecture is recognized from the types and shapes of the layers, not
from the strides and dilations in the file, which differ if a module was saved in dense mode.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliodor.errors import BadInput
from heliodor.models.importers.safe_pickle import (
    PickledObject,
    TensorView,
    UnsupportedFile,
    escape_text,
)
from heliodor.models.importers.torch_archive import read_torch_archive
from heliodor.models.networks import (
    NETWORKS,
    Network,
    build_network,
    tensor_shapes,
)

#: Classes that are allowed in the file of a module, besides those of `topaz.model`.
_TORCH = re.compile(
    r"torch\.nn\.(modules\.)?(container\.Sequential|conv\.Conv(Transpose)?[23]d"
    r"|batchnorm\.BatchNorm[23]d|activation\.(PReLU|ReLU|LeakyReLU)|dropout\.Dropout"
    r"|pooling\.(Max|Avg)Pool[23]d)"
)
_TOPAZ = re.compile(r"topaz\.model\.(classifier|generative|features\.[a-z]+)\.[A-Za-z0-9]+")

#: Names of parts of layers: Topaz's, and those used here.
_RENAMED = {"bn": "norm", "bn0": "norm0", "bn1": "norm1", "proj": "project"}
#: Networks by their number of layers, with and without residual blocks.
_RESIDUAL = {5: "resnet8", 9: "resnet16"}
_PLAIN = {3: "conv31", 4: "conv63", 5: "conv127"}

#: Tensors by their torch names.
TensorViews = dict[str, TensorView]


@dataclass(frozen=True)
class TopazModel:
    """A network read from a Topaz file, with its properties."""

    network: Network
    #: Number of channels of the first layer.
    width: int
    #: Whether it has batch normalization; otherwise its convolutions have biases.
    norm: bool
    #: The file's SHA-256, hexadecimal.
    sha256: str


def read_topaz_model(path: str | Path) -> TopazModel:
    """Read a Topaz model: resnet8, resnet16, conv31, conv63 or conv127, for micrographs.

    Parameters
    ----------
    path
        A state dictionary, or a module saved by Topaz's training, from any version of torch.

    Returns
    -------
    TopazModel
        Its network is in evaluation mode. Scores are log-odds on images normalized like those it
        was trained on. Dropout and the decoder, if it was trained with one, are omitted.

    Raises
    ------
    BadInput
        If the file is missing or damaged, holds anything but such a model, or a network that
        this program does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"the Topaz model {path} does not exist; give the .sav file of a training")
    try:
        saved = read_torch_archive(path, _is_allowed_class)
        field: int | None = None
        if isinstance(saved.value, PickledObject):
            views, field = _views_from_module(saved.value)
        else:
            views = _views_from_state_dict(saved.value)
        name, views = _recognize_network(views)
        width, norm = views["layers.0.conv.weight"].shape[0], "layers.0.norm.weight" in views
        _check_shapes(name, width, norm, views)
        if sum(view.nbytes for view in views.values()) > path.stat().st_size:
            raise UnsupportedFile("it is smaller than its weights")
        network = build_network(name, width, norm=norm)
        if field is not None and field != network.receptive_field:
            raise UnsupportedFile(
                f"its receptive field is {field} pixels wide, that of {name} is not"
            )
        network.load_state_dict({key: saved.tensor(view) for key, view in views.items()})
    except UnsupportedFile as error:
        raise BadInput(f"{path} cannot be used as a Topaz model: {error}") from error
    if not network.is_finite():
        raise BadInput(f"the weights in {path} are not finite; use those of another epoch")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TopazModel(network.eval(), width, norm, digest)


def _is_allowed_class(name: str) -> bool:
    return bool(_TORCH.fullmatch(name) or _TOPAZ.fullmatch(name))


def _views_from_state_dict(value: Any) -> TensorViews:
    """Return the tensors of a state dictionary, which must show the layers of the network."""
    if not isinstance(value, dict) or not all(
        isinstance(view, TensorView) for view in value.values()
    ):
        raise UnsupportedFile("it contains neither a module nor a dictionary of tensors")
    views = {str(key): view for key, view in value.items()}
    places = {place for place, _ in _layers_by_position(views)}
    if places != set(range(len(places))):
        # Pooling and dropout have no weights and cannot be distinguished.
        raise UnsupportedFile(
            "its weights do not show all layers; use the .sav file that training saved"
        )
    return views


def _views_from_module(classifier: PickledObject) -> tuple[TensorViews, int | None]:
    """Return the tensors of a whole module and the width of its receptive field, if stored."""
    features = _module_group(classifier, "_modules").get("features")
    if classifier.kind != "topaz.model.classifier.LinearClassifier":
        raise UnsupportedFile(f"it contains a {classifier.kind}, not a classifier of micrographs")
    if not isinstance(features, PickledObject):
        raise UnsupportedFile("its classifier has no network")
    views: TensorViews = {}
    for prefix, part in _walk_modules(classifier, "", set()):
        kind = part.kind.rpartition(".")[2]
        if "Pool" in kind or kind == "LeakyReLU":
            raise UnsupportedFile(
                f"its network has a layer {kind}, which heliodor's networks do not have"
            )
        for group in ("_parameters", "_buffers"):
            for key, view in _module_group(part, group).items():
                if isinstance(view, TensorView):
                    views[f"{prefix}{key}"] = view
                elif view is not None:
                    raise UnsupportedFile("one of its weights is not a tensor")
    field = features.state.get("width")
    return views, field if type(field) is int else None


def _module_group(module: PickledObject, group: str) -> dict[str, Any]:
    inside = module.state.get(group, {})
    if not isinstance(inside, dict):
        raise UnsupportedFile("one of its modules is damaged")
    return inside


def _walk_modules(
    module: PickledObject, prefix: str, seen: set[int]
) -> Iterator[tuple[str, PickledObject]]:
    """Yield a module and the modules in it, each only once, so that the walk always ends."""
    if id(module) in seen:
        raise UnsupportedFile("one of its modules occurs twice")
    if prefix.count(".") > 9:
        raise UnsupportedFile("its modules are nested too deeply")
    seen.add(id(module))
    yield prefix, module
    for key, inner in _module_group(module, "_modules").items():
        # The decoder of training with an autoencoder is not needed for scoring.
        if isinstance(inner, PickledObject) and f"{prefix}{key}" != "generative":
            yield from _walk_modules(inner, f"{prefix}{key}.", seen)


def _layers_by_position(views: TensorViews) -> list[tuple[int, TensorViews]]:
    """Return the position and the tensors of each layer, in order."""
    layers: dict[int, TensorViews] = {}
    for key, view in views.items():
        match = re.fullmatch(r"features\.features\.([0-9]{1,3})\.(.+)", key)
        if match:
            layers.setdefault(int(match[1]), {})[match[2]] = view
        elif key not in ("classifier.weight", "classifier.bias"):
            raise UnsupportedFile(
                f"it has weights called {escape_text(key)}, which its networks do not have"
            )
    return sorted(layers.items())


def _recognize_network(views: TensorViews) -> tuple[str, TensorViews]:
    """Return the name of a network, and its tensors under the names used here."""
    layers = [layer for _, layer in _layers_by_position(views)]
    if any(len(view.shape) == 5 for view in views.values()):
        raise UnsupportedFile("it is a model for tomograms; use one for micrographs")
    blocks = sum("conv0.weight" in layer for layer in layers)
    out: TensorViews = {key: view for key, view in views.items() if key.startswith("classifier")}
    if blocks:
        name = _RESIDUAL.get(len(layers), "")
        for i, layer in enumerate(layers):
            for key, view in layer.items():
                part, _, tensor = key.partition(".")
                out[f"layers.{i}.{_RENAMED.get(part, part)}.{tensor}"] = view
    else:
        depth = -1
        for layer in layers:
            weight = layer.get("weight")
            if weight is not None and len(weight.shape) == 4:
                part, depth = "conv", depth + 1
            else:
                part = "norm" if "running_mean" in layer else "activation"
            out |= {f"layers.{depth}.{part}.{tensor}": view for tensor, view in layer.items()}
        name = _PLAIN.get(depth + 1, "")
    first = out.get("layers.0.conv.weight")
    if not name or first is None or len(first.shape) != 4:
        raise UnsupportedFile(f"its network is not one of {', '.join(NETWORKS)}")
    return name, out


def _check_shapes(name: str, width: int, norm: bool, views: TensorViews) -> None:
    """Check the shapes before a network is built: a file could require one of any size."""
    try:
        expected = tensor_shapes(name, width, norm)
    except BadInput as error:
        raise UnsupportedFile(str(error)) from error
    found = {key: view.shape for key, view in views.items()}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    if found != {key: s for key, s in expected.items() if key in found or key not in optional}:
        raise UnsupportedFile(
            f"it looks like {name} with {width} units, but its weights do not fit; only networks"
            " whose units double (unit scaling 2) are supported"
        )
