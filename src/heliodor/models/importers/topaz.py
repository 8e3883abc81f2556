"""Models of Topaz (`.sav`) as networks of this program; nothing in such a file is run.

Two kinds of file are read: the state dictionaries that Topaz ships, and the whole modules that
its training saves. The architecture is told by the kinds of the layers and their shapes, never by
the strides and dilations in the file: a module that was saved while it scored densely has others.
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
    Refused,
    Thing,
    View,
    shown,
)
from heliodor.models.importers.torch_archive import read_saved
from heliodor.models.networks import (
    NETWORKS,
    Network,
    build,
    shapes,
)

#: Classes that may occur in the file of a module, beside those of `topaz.model`.
_TORCH = re.compile(
    r"torch\.nn\.(modules\.)?(container\.Sequential|conv\.Conv(Transpose)?[23]d"
    r"|batchnorm\.BatchNorm[23]d|activation\.(PReLU|ReLU|LeakyReLU)|dropout\.Dropout"
    r"|pooling\.(Max|Avg)Pool[23]d)"
)
_TOPAZ = re.compile(r"topaz\.model\.(classifier|generative|features\.[a-z]+)\.[A-Za-z0-9]+")

#: What this program's layers call what Topaz's call otherwise.
_RENAMED = {"bn": "norm", "bn0": "norm0", "bn1": "norm1", "proj": "project"}
#: Networks by the number of their layers: with residual blocks, and without.
_RESIDUAL = {5: "resnet8", 9: "resnet16"}
_PLAIN = {3: "conv31", 4: "conv63", 5: "conv127"}

#: Tensors by the names that torch gives them.
Views = dict[str, View]


@dataclass(frozen=True)
class TopazModel:
    """A network read from a file of Topaz, and what is known of the file."""

    network: Network
    #: Channels of the first layer.
    width: int
    #: Whether it normalises batches; else its convolutions carry biases.
    norm: bool
    #: The file's SHA-256, hexadecimal.
    sha256: str


def read_topaz(path: str | Path) -> TopazModel:
    """Read a Topaz model: resnet8, resnet16, conv31, conv63 or conv127, for micrographs.

    Parameters
    ----------
    path
        A state dictionary, or a module that a training of Topaz saved, of any version of torch.

    Returns
    -------
    TopazModel
        Its network is in evaluation mode. Scores are log-odds on images that are normalised as
        those it was trained on; dropout and a decoder that was trained with it are left out.

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
        saved = read_saved(path, _may_occur)
        field: int | None = None
        if isinstance(saved.value, Thing):
            views, field = _of_module(saved.value)
        else:
            views = _of_dictionary(saved.value)
        name, views = _recognised(views)
        width, norm = views["layers.0.conv.weight"].shape[0], "layers.0.norm.weight" in views
        _compare(name, width, norm, views)
        if sum(view.nbytes for view in views.values()) > path.stat().st_size:
            raise Refused("it is smaller than its weights")
        network = build(name, width, norm=norm)
        if field is not None and field != network.receptive_field:
            raise Refused(f"its window is {field} pixels wide, that of {name} is not")
        network.load_state_dict({key: saved.tensor(view) for key, view in views.items()})
    except Refused as error:
        raise BadInput(f"{path} cannot be used as a Topaz model: {error}") from error
    if not network.is_finite():
        raise BadInput(f"the weights in {path} are not finite; take those of another epoch")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TopazModel(network.eval(), width, norm, digest)


def _may_occur(name: str) -> bool:
    return bool(_TORCH.fullmatch(name) or _TOPAZ.fullmatch(name))


def _of_dictionary(value: Any) -> Views:
    """Return the tensors of a state dictionary; what its layers are must be plain from them."""
    if not isinstance(value, dict) or not all(isinstance(view, View) for view in value.values()):
        raise Refused("it holds neither a module nor a dictionary of tensors")
    views = {str(key): view for key, view in value.items()}
    places = {place for place, _ in _by_place(views)}
    if places != set(range(len(places))):
        # Pooling and dropout have no weights, and one cannot be told from the other.
        raise Refused(
            "its bare weights leave layers out; give the .sav file that a training saved"
        )
    return views


def _of_module(classifier: Thing) -> tuple[Views, int | None]:
    """Return the tensors of a whole module and, where it says so, the width of its window."""
    features = _inside(classifier, "_modules").get("features")
    if classifier.kind != "topaz.model.classifier.LinearClassifier":
        raise Refused(f"it holds a {classifier.kind}, not a classifier of micrographs")
    if not isinstance(features, Thing):
        raise Refused("its classifier has no network before it")
    views: Views = {}
    for prefix, part in _walk(classifier, "", set()):
        kind = part.kind.rpartition(".")[2]
        if "Pool" in kind or kind == "LeakyReLU":
            raise Refused(f"its network has a layer {kind}, and no network of this program does")
        for group in ("_parameters", "_buffers"):
            for key, view in _inside(part, group).items():
                if isinstance(view, View):
                    views[f"{prefix}{key}"] = view
                elif view is not None:
                    raise Refused("one of its weights is no tensor")
    field = features.state.get("width")
    return views, field if type(field) is int else None


def _inside(module: Thing, group: str) -> dict[str, Any]:
    inside = module.state.get(group, {})
    if not isinstance(inside, dict):
        raise Refused("one of its modules is damaged")
    return inside


def _walk(module: Thing, prefix: str, seen: set[int]) -> Iterator[tuple[str, Thing]]:
    """Visit a module and those in it, each once, or a file could ask for endless visits."""
    if id(module) in seen:
        raise Refused("one of its modules lies in two places")
    if prefix.count(".") > 9:
        raise Refused("its modules lie deeper in each other than those of any network")
    seen.add(id(module))
    yield prefix, module
    for key, inner in _inside(module, "_modules").items():
        # The decoder of a training with an autoencoder scores nothing.
        if isinstance(inner, Thing) and f"{prefix}{key}" != "generative":
            yield from _walk(inner, f"{prefix}{key}.", seen)


def _by_place(views: Views) -> list[tuple[int, Views]]:
    """Return the tensors of the layers in their order, each with its place among them."""
    layers: dict[int, Views] = {}
    for key, view in views.items():
        found = re.fullmatch(r"features\.features\.([0-9]{1,3})\.(.+)", key)
        if found:
            layers.setdefault(int(found[1]), {})[found[2]] = view
        elif key not in ("classifier.weight", "classifier.bias"):
            raise Refused(f"it has weights called {shown(key)}, which its networks do not have")
    return sorted(layers.items())


def _recognised(views: Views) -> tuple[str, Views]:
    """Return the name of a network, and its tensors under the names they have here."""
    layers = [layer for _, layer in _by_place(views)]
    if any(len(view.shape) == 5 for view in views.values()):
        raise Refused("it is a model for tomograms; give one for micrographs")
    blocks = sum("conv0.weight" in layer for layer in layers)
    out: Views = {key: view for key, view in views.items() if key.startswith("classifier")}
    if blocks:
        name = _RESIDUAL.get(len(layers), "")
        for i, layer in enumerate(layers):
            for key, view in layer.items():
                part, _, own = key.partition(".")
                out[f"layers.{i}.{_RENAMED.get(part, part)}.{own}"] = view
    else:
        depth = -1
        for layer in layers:
            weight = layer.get("weight")
            if weight is not None and len(weight.shape) == 4:
                part, depth = "conv", depth + 1
            else:
                part = "norm" if "running_mean" in layer else "activation"
            out |= {f"layers.{depth}.{part}.{own}": view for own, view in layer.items()}
        name = _PLAIN.get(depth + 1, "")
    first = out.get("layers.0.conv.weight")
    if not name or first is None or len(first.shape) != 4:
        raise Refused(f"its network is none of {', '.join(NETWORKS)}")
    return name, out


def _compare(name: str, width: int, norm: bool, views: Views) -> None:
    """Compare shapes before a network is built, for a file may ask for one of any size."""
    try:
        expected = shapes(name, width, norm)
    except BadInput as error:
        raise Refused(str(error)) from error
    found = {key: view.shape for key, view in views.items()}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    if found != {key: s for key, s in expected.items() if key in found or key not in optional}:
        raise Refused(
            f"it looks like {name} with {width} units, but its weights do not fit; this program"
            " has the networks whose units double (unit scaling 2)"
        )
