"""Files as Topaz saves them, made without it: classes of its names around our layers."""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from heliodor.models.layers import Convolution, Residual
from heliodor.models.networks import Network

MODULES = ("classifier", "generative", "features", "features.basic", "features.resnet")
CLASSES = {
    "topaz.model.classifier": ("LinearClassifier",),
    "topaz.model.generative": ("ConvGenerator",),
    "topaz.model.features.basic": ("BasicConv", "Conv63"),
    "topaz.model.features.resnet": (
        *("BasicConv", "BasicConv2d", "ResidA", "MaxPool", "ResNet6", "ResNet8", "ResNet16"),
    ),
}


@contextmanager
def topaz_named() -> Iterator[dict[str, type[nn.Module]]]:
    """Give empty classes by the full names of Topaz's, which pickle under these names."""
    made = {
        f"{module}.{name}": type(name, (nn.Module,), {"__module__": module})
        for module, names in CLASSES.items()
        for name in names
    }
    modules = {
        name: types.ModuleType(name)
        for name in ("topaz", "topaz.model", *(f"topaz.model.{module}" for module in MODULES))
    }
    for full, cls in made.items():
        module, _, name = full.rpartition(".")
        setattr(modules[module], name, cls)
    with mock.patch.dict(sys.modules, modules):
        yield made


def as_topaz(
    network: Network,
    classes: dict[str, type[nn.Module]],
    dropout: bool = False,
    filled: bool = False,
    old: bool = False,
) -> nn.Module:
    """Build the module that Topaz would have saved, with the network's weights."""
    resnet, basic = "topaz.model.features.resnet.", "topaz.model.features.basic."
    parts: list[nn.Module] = []
    for layer in network.layers:
        part: nn.Module
        if isinstance(layer, Residual):
            part = classes[f"{resnet}ResidA"]()
            if layer.project is not None:
                part.proj = layer.project
            part.conv0, part.conv1 = layer.conv0, layer.conv1
            part.bn = isinstance(layer.norm0, nn.BatchNorm2d)
            if part.bn:
                part.bn0, part.bn1 = layer.norm0, layer.norm1
            part.act0, part.act1 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
            parts.append(part)
        elif network.name.startswith("resnet"):
            assert isinstance(layer, Convolution)
            part = classes[f"{resnet}{'BasicConv2d' if old else 'BasicConv'}"]()
            part.conv = layer.conv
            if isinstance(layer.norm, nn.BatchNorm2d):
                part.bn = layer.norm
            part.act = nn.ReLU(inplace=True)
            parts.append(part)
        else:
            assert isinstance(layer, Convolution)
            norm = [layer.norm] if isinstance(layer.norm, nn.BatchNorm2d) else []
            activation = nn.PReLU()
            activation.weight = layer.activation.get_parameter("weight")
            parts += [layer.conv, *norm, activation]
        if dropout:
            parts.append(nn.Dropout(0.5))
    names = {"resnet8": f"{resnet}ResNet8", "resnet16": f"{resnet}ResNet16"}
    features = classes[names.get(network.name, f"{basic}BasicConv")]()
    features.features = nn.Sequential(*parts)
    features.width = network.receptive_field
    features.latent_dim = network.classifier.in_channels
    if not old:
        features.dims = 2
    if filled:
        features.filled = True
        for module in features.modules():
            if isinstance(module, nn.Conv2d):
                module.dilation, module.stride = (4, 4), (1, 1)
    classifier = classes["topaz.model.classifier.LinearClassifier"]()
    classifier.features = features
    classifier.classifier = network.classifier
    return classifier


def save(value: object, path: Path, legacy: bool = False) -> Path:
    """Save as torch does, or as it did before its version 1.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes whose source is nowhere
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def legacy_file(program: bytes, keys: bytes = b"\x80\x02].") -> bytes:
    """Put a pickle where a file of torch before its version 1.6 has the module's."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    return b"".join(pickle.dumps(item, 2) for item in head) + program + keys


def zip_file(program: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Put a pickle where a file of torch since its version 1.6 has the module's."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        # Without a time of its own each call would make other bytes.
        archive.writestr(zipfile.ZipInfo("m/data.pkl"), program, compression)
        archive.writestr(zipfile.ZipInfo("m/data/0"), b"\0" * 64, compression)
    return out.getvalue()
