"""Model files: weights and a card in one safetensors file, no pickle anywhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.models.networks import (
    Network,
    build_network,
    check_network,
    tensor_shapes,
)
from heliodor.models.novelty import NoveltyReference
from heliodor.utils.files import atomic_write
from heliodor.utils.hashing import digest
from heliodor.utils.parsing import is_finite_number

#: Under this name the card lies in the file's metadata, as JSON.
MODEL_FORMAT = "heliodor-model-1"
#: Under this name lies in the card's `extra` what its training images look like.
NOVELTY_KEY = "novelty"
#: Under this name lies there how a model was trained that was not trained on labels.
GENERAL_KEY = "general"
#: A longer header, in which the card lies, is not read; the names of 100,000 micrographs fit in.
MAX_HEADER_BYTES = 2**24
#: Nor is a card whose parts lie deeper in each other than this.
MAX_DEPTH = 20


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it was trained on, and what it needs to be used rightly."""

    network: str
    width: int
    working_pixel_size_angstrom: float
    diameter_angstrom: float
    training_radius_angstrom: float
    normalization: dict[str, Any]
    #: What it was trained with; "imported" of another program's model, whose training is not
    #: known: the figures of it are then 0.
    objective: str
    #: pi, the fraction of positive regions among the unlabelled ones.
    class_prior: float
    expected_particles: float
    #: Log-odds from which a candidate is a pick unless the user says otherwise.
    threshold: float
    seed: int
    version: str
    #: Names of the micrographs trained on, and of those kept for validation.
    training_micrographs: list[str]
    validation_micrographs: list[str]
    labelled_particles: int
    best_epoch: int
    updates: int
    #: Region average precision on the validation micrographs' labels; None without any.
    validation_ap: float | None
    #: Median log-odds of the training micrographs, to which others are levelled; None: not.
    background: float | None = None
    #: What its scores mean, as `calibration.Calibration` says it; None where that is not known.
    calibration: dict[str, Any] | None = None
    #: Batch normalisation in the network; without it the convolutions carry biases.
    norm: bool = True
    #: Whether the network also tells contaminants: carbon, ice, aggregates, gold.
    contaminant: bool = False
    #: Whether the model picks particles of any diameter: its lengths are then in working pixels
    #: until `pretrained.rescale_to_diameter` converts them to angstrom for one diameter.
    any_diameter: bool = False
    #: Whether micrographs with larger pixels than its own are brought to these.
    finer: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A network with its card, ready to score."""

    network: Network
    card: ModelCard

    @property
    def normalizer(self) -> Normalizer:
        """What the network's input is normalised with."""
        return Normalizer.from_dict(self.card.normalization)

    @property
    def calibration(self) -> Calibration | None:
        """What its scores mean on micrographs like those it was trained on."""
        kept = self.card.calibration
        return None if kept is None else Calibration.from_dict(kept)

    @property
    def novelty(self) -> NoveltyReference | None:
        """What its training images look like; None of models that do not say."""
        own = self.card.extra.get(NOVELTY_KEY)
        return None if own is None else NoveltyReference.from_dict(own)


def save_model(path: str | Path, model: Model) -> None:
    """Write a model, whole or not at all; the same model gives the same bytes."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    # One entry only: safetensors writes several in an order that differs from run to run.
    metadata = {MODEL_FORMAT: json.dumps(asdict(model.card), allow_nan=False)}
    with atomic_write(path) as aside:
        save_file(tensors, aside, metadata=metadata)


def fingerprint_model(model: Model) -> str:
    """Return what tells one model from another: its weights and its card."""
    tensors = sorted(model.network.state_dict().items())
    weights = (tensor.detach().cpu().contiguous().numpy().tobytes() for _, tensor in tensors)
    return digest([json.dumps(asdict(model.card)).encode(), *weights])


def load_model(path: str | Path) -> Model:
    """Read a model written by `save_model`.

    Raises
    ------
    BadInput
        If the file is missing, is not a model of this program, or its parts disagree.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(
            f"the model {path} does not exist; give the model.safetensors of a training"
        )
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES and path.stat().st_size > MAX_HEADER_BYTES:
            raise BadInput(f"the card in {path} is longer than any; train the model again")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if MODEL_FORMAT not in metadata:
                raise BadInput(
                    f"{path} is a safetensors file, but not a model of this program; train one"
                )
            card = _parse_card(metadata[MODEL_FORMAT], path)
            misfit = f"the weights in {path} do not fit its card ({card.network})"
            # First the shapes: a forged file may ask for more memory than there is.
            expected = tensor_shapes(card.network, card.width, card.norm, card.contaminant)
            keys = set(file.keys())
            optional = {key for key in expected if key.endswith("num_batches_tracked")}
            if not expected.keys() - optional <= keys <= expected.keys():
                raise BadInput(misfit)
            if any(tuple(file.get_slice(key).get_shape()) != expected[key] for key in keys):
                raise BadInput(misfit)
            tensors = {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is not a whole model file ({error}); copy it again") from error
    network = build_network(card.network, card.width, norm=card.norm, contaminant=card.contaminant)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput(misfit) from error
    if not network.is_finite():
        raise BadInput(f"the weights in {path} are not finite; train the model again")
    return Model(network.eval(), card)


def _has_valid_training_record(card: ModelCard) -> bool:
    """Tell whether the fields that only people read are words and numbers."""
    words = (card.objective, card.version)
    numbers = [card.class_prior, card.expected_particles, card.seed, card.labelled_particles]
    numbers += [card.best_epoch, card.updates]
    if card.validation_ap is not None:
        numbers.append(card.validation_ap)
    names = (card.training_micrographs, card.validation_micrographs)
    return (
        all(isinstance(word, str) for word in words)
        and all(map(is_finite_number, numbers))
        and all(isinstance(own, list) and all(isinstance(n, str) for n in own) for own in names)
    )


def _nesting_depth(value: Any) -> int:
    """Return how deep lists and dictionaries lie in each other."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        parts = [v.values() if isinstance(v, dict) else v for v in layer]
        layer = [
            v for part in parts if not isinstance(part, str | int | float | None) for v in part
        ]
        depth += bool(layer)
    return depth


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
        if type(card.width) is not int or not isinstance(card.network, str):
            raise ValueError("the network is not described")
        if type(card.norm) is not bool or type(card.contaminant) is not bool:
            raise ValueError("the network is described by halves")
        if type(card.any_diameter) is not bool or type(card.finer) is not bool:
            raise ValueError("which micrographs it serves is not said")
        if not _has_valid_training_record(card):
            raise ValueError("what it was trained on is not told by words and numbers")
        # What is nested deeper than any card, or is no text, could not be shown or kept again.
        if _nesting_depth(values) > MAX_DEPTH:
            raise ValueError("its parts lie deeper in each other than those of any")
        json.dumps(values, ensure_ascii=False).encode()
        check_network(card.network, card.width)
        Normalizer.from_dict(card.normalization)
        if card.calibration is not None:
            Calibration.from_dict(card.calibration)
        if not isinstance(card.extra, dict):
            raise ValueError("what it says besides has no names")
        if card.extra.get(NOVELTY_KEY) is not None:
            NoveltyReference.from_dict(card.extra[NOVELTY_KEY])
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"the card in {path} is damaged ({error}); train the model again"
        ) from error
    return card
