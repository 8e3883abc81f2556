"""Model files of filaments: weights and a card in one safetensors file, without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.models.filament_unet import FilamentNetwork, check_width, tensor_shapes
from heliodor.models.model_file import (
    FILAMENT_FORMAT,
    MODEL_FORMAT,
    check_model_path,
    fill_network,
    fingerprint_network,
    open_model_file,
    write_model_file,
)
from heliodor.utils.parsing import is_finite_number

#: Widths outside this range (angstrom) are treated as typing errors.
WIDTH_RANGE = (10.0, 2000.0)


@dataclass(frozen=True)
class FilamentCard:
    """The description of a model of filaments."""

    network: str
    #: Number of channels.
    channels: int
    #: Width of the filaments that it finds; None: any, which is given for picking.
    width_angstrom: float | None
    #: That width in pixels of the network's input.
    working_width_px: float
    normalization: dict[str, Any]
    #: Log-odds are multiplied by the first and the second is added, so that they are those of an
    #: axis being there.
    slope: float
    shift: float
    seed: int
    version: str
    updates: int
    #: What it learned from; empty for the general filament model.
    training_micrographs: list[str] = field(default_factory=list)
    labelled_filaments: int = 0
    labelled_length_angstrom: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FilamentModel:
    """A network of filaments with its card."""

    network: FilamentNetwork
    card: FilamentCard

    @property
    def normalizer(self) -> Normalizer:
        """The normalizer of the network's input."""
        return Normalizer.from_dict(self.card.normalization)


def save_filament_model(path: str | Path, model: FilamentModel) -> None:
    """Write a model file atomically; the same model always gives the same bytes.

    Weights are stored in half precision.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    tensors = {}
    for key, value in model.network.state_dict().items():
        kept = value.detach().cpu().contiguous()
        tensors[key] = kept.half() if kept.dtype.is_floating_point else kept
    write_model_file(path, tensors, FILAMENT_FORMAT, asdict(model.card))


def round_weights(network: FilamentNetwork) -> None:
    """Round weights in place to those that a model file stores."""
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dtype.is_floating_point:
                value.copy_(value.half())


def fingerprint_filament_model(model: FilamentModel) -> str:
    """Return a hash of a model's weights and card."""
    return fingerprint_network(model.network, asdict(model.card))


def load_filament_model(path: str | Path) -> FilamentModel:
    """Read a model written by `save_filament_model`.

    Raises
    ------
    BadInput
        If the file is missing, damaged, a model of particles or no model, or its weights do not
        fit its card.
    """
    path = Path(path)
    check_model_path(path, "heliodor train --filaments")
    with open_model_file(path) as file:
        metadata = file.metadata() or {}
        if FILAMENT_FORMAT not in metadata:
            what = (
                "is a model of particles; use a model of filaments, or leave out --filaments"
                if MODEL_FORMAT in metadata
                else "is a safetensors file, but not a heliodor model"
            )
            raise BadInput(f"{path} {what}")
        card = _parse_card(metadata[FILAMENT_FORMAT], path)
        misfit = f"the weights in {path} do not fit its model card; copy the file again"
        # Check the shapes first: a forged file could ask for too much memory.
        expected = tensor_shapes(card.channels)
        if set(file.keys()) != expected.keys():
            raise BadInput(misfit)
        if any(tuple(file.get_slice(key).get_shape()) != expected[key] for key in expected):
            raise BadInput(misfit)
        tensors = {key: file.get_tensor(key) for key in expected}
    network = FilamentNetwork(card.channels)
    fill_network(network, tensors, path, misfit)
    return FilamentModel(network.eval(), card)


def check_filament_width(width_angstrom: float) -> float:
    """Return the width of a filament, or raise BadInput if it is not plausible."""
    low, high = WIDTH_RANGE
    if not low <= width_angstrom <= high:
        raise BadInput(
            f"a filament width of {width_angstrom:g} Å is not plausible; it must be between"
            f" {low:g} and {high:g} Å",
            parameter="width",
        )
    return width_angstrom


def set_width(model: FilamentModel, width_angstrom: float | None, name: str) -> FilamentModel:
    """Return a model with the width of the filaments to find.

    Parameters
    ----------
    model
        A model for one width or for any.
    width_angstrom
        The width that the user gave, if any.
    name
        What to call the model in an error.

    Raises
    ------
    BadInput
        If the width is missing, not plausible, or differs from that of the model.
    """
    own = model.card.width_angstrom
    if width_angstrom is not None:
        check_filament_width(width_angstrom)
    if own is None:
        if width_angstrom is None:
            raise BadInput(
                f"{name} finds filaments of any width and needs the width of yours, in angstrom",
                parameter="width",
            )
        return FilamentModel(model.network, replace(model.card, width_angstrom=width_angstrom))
    if width_angstrom is not None and abs(width_angstrom - own) > 1e-3 * own:
        raise BadInput(
            f"{name} finds filaments that are {own:g} Å wide; leave out the width, or leave out"
            " the model to use the general filament model",
            parameter="width",
        )
    return model


def _parse_card(text: str, path: Path) -> FilamentCard:
    try:
        values = json.loads(text)
        known = {f.name for f in fields(FilamentCard)}
        card = FilamentCard(**{key: value for key, value in values.items() if key in known})
        if card.network != FilamentNetwork.name:
            raise ValueError(f"the network {card.network!r} is not known")
        if type(card.channels) is not int:
            raise ValueError("the network is not described")
        check_width(card.channels)
        if card.width_angstrom is not None:
            if not is_finite_number(card.width_angstrom):
                raise ValueError("the width is not a number")
            check_filament_width(card.width_angstrom)
        numbers = (card.slope, card.shift, card.labelled_length_angstrom, card.working_width_px)
        if not all(map(is_finite_number, numbers)):
            raise ValueError("a field is not a number")
        if not 1.0 < card.working_width_px < 1e3 or card.slope <= 0.0:
            raise ValueError("a field is out of its range")
        whole = (card.seed, card.updates, card.labelled_filaments)
        if not all(type(value) is int for value in whole) or not isinstance(card.version, str):
            raise ValueError("a field about its training has the wrong type")
        names = card.training_micrographs
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of micrographs are not a list")
        if not isinstance(card.extra, dict):
            raise ValueError("extra is not a dictionary")
        json.dumps(values, ensure_ascii=False).encode()
        Normalizer.from_dict(card.normalization)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"the model card in {path} is damaged ({error}); copy the file again or train the"
            " model again"
        ) from error
    return card
