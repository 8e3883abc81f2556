"""Model files: weights and a model card in one safetensors file, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.models.networks import (
    Network,
    build_network,
    check_network,
    has_finite_weights,
    tensor_shapes,
)
from heliodor.models.novelty import NoveltyReference
from heliodor.utils.files import atomic_write
from heliodor.utils.hashing import digest
from heliodor.utils.parsing import is_finite_number

#: The key of the card (JSON) in the file's metadata.
MODEL_FORMAT = "heliodor-model-1"
#: The key of the card of a model of filaments; see `filament_model_file`.
FILAMENT_FORMAT = "heliodor-filament-model-1"
#: The key in the card's `extra` of the description of the training images.
NOVELTY_KEY = "novelty"
#: The key in the card's `extra` of how a general model was trained.
GENERAL_KEY = "general"
#: The key in the card's `extra` of what a general model was adapted with.
ADAPTED_KEY = "adapted"
#: The key in the card's `extra` of how thoroughly a model was trained, if not as usual.
EFFORT_KEY = "effort"
#: The longest header (with the card) that is read; it has room for 100,000 micrograph names.
MAX_HEADER_BYTES = 2**24
#: The largest correction of centers that is plausible, in working pixels.
MOST_CORRECTION_PX = 5.0
#: The deepest nesting of a card that is read.
MAX_DEPTH = 20


@dataclass(frozen=True)
class ModelCard:
    """The description of a model: its network, its training, and what picking needs to know."""

    network: str
    width: int
    working_pixel_size_angstrom: float
    diameter_angstrom: float
    training_radius_angstrom: float
    normalization: dict[str, Any]
    #: The training objective; "imported" for another program's model, whose training is unknown
    #: and whose training figures are 0.
    objective: str
    #: pi, the fraction of positive regions among the unlabeled ones.
    class_prior: float
    expected_particles: float
    #: The default threshold, log-odds.
    threshold: float
    seed: int
    version: str
    #: Names of the micrographs used for training and for validation.
    training_micrographs: list[str]
    validation_micrographs: list[str]
    labelled_particles: int
    best_epoch: int
    updates: int
    #: Region average precision on the validation micrographs; None without validation.
    validation_ap: float | None
    #: Median log-odds of the training micrographs, to which the scores of others are shifted; None
    #: does not shift them.
    background: float | None = None
    #: The calibration of its scores, from `Calibration.as_dict`; None if unknown.
    calibration: dict[str, Any] | None = None
    #: Within this distance of the edges there were no labels, so nothing is picked there.
    edge_margin_angstrom: float = 0.0
    #: Added to the centers that the network finds, (x, y) in working pixels: it corrects a shift
    #: that was measured after the training.
    center_correction_px: list[float] = field(default_factory=lambda: [0.0, 0.0])
    #: Whether the network has batch normalization; otherwise its convolutions have biases.
    norm: bool = True
    #: Whether the network also detects contamination: carbon, ice, aggregates, gold.
    contaminant: bool = False
    #: Whether the model picks particles of any diameter: its lengths are then in working pixels
    #: until `pretrained.rescale_to_diameter` converts them to angstrom for one diameter.
    any_diameter: bool = False
    #: Whether micrographs with larger pixels than the working pixel size are upsampled.
    finer: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A network with its model card, ready to score."""

    network: Network
    card: ModelCard

    @property
    def normalizer(self) -> Normalizer:
        """The normalizer of the network's input."""
        return Normalizer.from_dict(self.card.normalization)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of its scores on micrographs like the training ones; None if unknown."""
        values = self.card.calibration
        return None if values is None else Calibration.from_dict(values)

    @property
    def without_labels(self) -> bool:
        """Whether it picks what looks like particles, as the general model does, adapted or not.

        Other models know what was labeled, and the scores of their labels.
        """
        return self.card.calibration is None and GENERAL_KEY in self.card.extra

    @property
    def novelty(self) -> NoveltyReference | None:
        """The description of its training images; None if the model has none."""
        values = self.card.extra.get(NOVELTY_KEY)
        return None if values is None else NoveltyReference.from_dict(values)


def save_model(path: str | Path, model: Model) -> None:
    """Write a model file atomically; the same model always gives the same bytes.

    Raises
    ------
    BadInput
        If the file cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    write_model_file(path, tensors, MODEL_FORMAT, asdict(model.card))


def write_model_file(
    path: str | Path, tensors: dict[str, Tensor], form: str, card: Mapping[str, Any]
) -> None:
    """Write weights with a card of a format, atomically."""
    # One entry only: safetensors writes several in random order.
    metadata = {form: json.dumps(card, allow_nan=False)}
    # Written by Python, whose errors say why: the library's own are of a type of their own.
    content = save(tensors, metadata)
    with atomic_write(path) as aside:
        aside.write_bytes(content)


def fingerprint_model(model: Model) -> str:
    """Return a hash of a model's weights and card."""
    return fingerprint_network(model.network, asdict(model.card))


def fingerprint_network(network: nn.Module, card: Mapping[str, Any]) -> str:
    """Return a hash of a network's weights and its card."""
    tensors = sorted(network.state_dict().items())
    weights = (tensor.detach().cpu().contiguous().numpy().tobytes() for _, tensor in tensors)
    return digest([json.dumps(card).encode(), *weights])


def is_filament_model(path: str | Path) -> bool:
    """Return whether a file is a model of filaments; not of particles, damaged or missing."""
    try:
        with safe_open(path, framework="pt") as file:
            return FILAMENT_FORMAT in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


@contextmanager
def open_model_file(path: Path) -> Iterator[Any]:
    """Open a safetensors file; a card that is too large, or a damaged file, is an error.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES and path.stat().st_size > MAX_HEADER_BYTES:
            raise BadInput(
                f"the model card in {path} is too large, so the file is probably damaged; copy it"
                " again or train the model again"
            )
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is a damaged model file ({error}); copy it again") from error


def fill_network(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, misfit: str
) -> None:
    """Give a network the weights of a file.

    Parameters
    ----------
    misfit
        What to say if they do not fit.

    Raises
    ------
    BadInput
        If they do not fit, or are not finite.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput(misfit) from error
    if not has_finite_weights(network):
        raise BadInput(f"the weights in {path} are not finite; train the model again")


def check_model_path(path: Path, writer: str) -> None:
    """Refuse a model that is not a file.

    Parameters
    ----------
    writer
        What writes such models, for the message.

    Raises
    ------
    BadInput
        If it is missing, or a folder or something else that is not a regular file.
    """
    if not os.path.isfile(path):  # also for names that are too long
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise BadInput(f"the model {path} {what}; use the model.safetensors that {writer} writes")


def load_model(path: str | Path) -> Model:
    """Read a model written by `save_model`.

    Raises
    ------
    BadInput
        If the file is missing, damaged, not a heliodor model, or its weights do not fit its card.
    """
    path = Path(path)
    check_model_path(path, "training")
    with open_model_file(path) as file:
        metadata = file.metadata() or {}
        if FILAMENT_FORMAT in metadata:
            raise BadInput(
                f"{path} is a model of filaments, and a model of particles is needed; only"
                " pick and train use models of filaments, with --filaments"
            )
        if MODEL_FORMAT not in metadata:
            raise BadInput(
                f"{path} is a safetensors file, but not a heliodor model; use the"
                " model.safetensors that training writes"
            )
        card = _parse_card(metadata[MODEL_FORMAT], path)
        misfit = f"the weights in {path} do not fit its model card ({card.network})"
        # Check the shapes first: a forged file could ask for too much memory.
        expected = tensor_shapes(card.network, card.width, card.norm, card.contaminant)
        keys = set(file.keys())
        optional = {key for key in expected if key.endswith("num_batches_tracked")}
        if not expected.keys() - optional <= keys <= expected.keys():
            raise BadInput(misfit)
        if any(tuple(file.get_slice(key).get_shape()) != expected[key] for key in keys):
            raise BadInput(misfit)
        tensors = {key: file.get_tensor(key) for key in keys}
    network = build_network(card.network, card.width, norm=card.norm, contaminant=card.contaminant)
    fill_network(network, tensors, path, misfit)
    return Model(network.eval(), card)


def _has_valid_training_record(card: ModelCard) -> bool:
    """Return whether the fields that describe the training have the right types."""
    texts = (card.objective, card.version)
    numbers = [card.class_prior, card.expected_particles, card.seed, card.labelled_particles]
    numbers += [card.best_epoch, card.updates]
    if card.validation_ap is not None:
        numbers.append(card.validation_ap)
    names = (card.training_micrographs, card.validation_micrographs)
    return (
        all(isinstance(text, str) for text in texts)
        and all(map(is_finite_number, numbers))
        and all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in names)
    )


def _nesting_depth(value: Any) -> int:
    """Return how deeply lists and dictionaries are nested."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        parts = [v.values() if isinstance(v, dict) else v for v in layer]
        layer = [
            v for part in parts if not isinstance(part, str | int | float | None) for v in part
        ]
        depth += bool(layer)
    return depth


def _is_center_correction(value: Any) -> bool:
    """Return whether this is a shift of (x, y) that is plausible, in working pixels."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(is_finite_number(v) and abs(v) <= MOST_CORRECTION_PX for v in value)


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        values = json.loads(text)
        known = {f.name for f in fields(ModelCard)}
        card = ModelCard(**{key: value for key, value in values.items() if key in known})
        sizes = (
            card.working_pixel_size_angstrom,
            card.diameter_angstrom,
            card.training_radius_angstrom,
        )
        if not is_finite_number(card.threshold):
            raise ValueError("the threshold is not a number")
        if card.background is not None and not is_finite_number(card.background):
            raise ValueError("the background is not a number")
        if not all(isinstance(size, int | float) and 0 < size < 1e4 for size in sizes):
            raise ValueError("a length is not a positive number")
        margin = card.edge_margin_angstrom
        if not is_finite_number(margin) or not 0 <= margin < 1e5:
            raise ValueError("the edge margin is not a length")
        if not _is_center_correction(card.center_correction_px):
            raise ValueError("the correction of centers is not two numbers of pixels")
        if type(card.width) is not int or not isinstance(card.network, str):
            raise ValueError("the network is not described")
        if type(card.norm) is not bool or type(card.contaminant) is not bool:
            raise ValueError("the network is incompletely described")
        if type(card.any_diameter) is not bool or type(card.finer) is not bool:
            raise ValueError("any_diameter and finer must be true or false")
        if not _has_valid_training_record(card):
            raise ValueError("a field about its training has the wrong type")
        # Too deep nesting or invalid text could not be displayed or saved again.
        if _nesting_depth(values) > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        json.dumps(values, ensure_ascii=False).encode()
        check_network(card.network, card.width)
        Normalizer.from_dict(card.normalization)
        if card.calibration is not None:
            Calibration.from_dict(card.calibration)
        if not isinstance(card.extra, dict):
            raise ValueError("extra is not a dictionary")
        if card.extra.get(NOVELTY_KEY) is not None:
            NoveltyReference.from_dict(card.extra[NOVELTY_KEY])
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"the model card in {path} is damaged ({error}); copy the file again or retrain the"
            " model"
        ) from error
    return card
