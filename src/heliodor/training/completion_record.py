"""The completion record: which training made the model in a folder, so it runs only once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from heliodor import __version__
from heliodor.data.coordinates.label_assignment import LabeledSource
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.models.model_file import Model, fingerprint_model
from heliodor.picking.settings import PickSettings, settings_that_change_picks
from heliodor.training.history import Epoch
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.files import write_json
from heliodor.utils.hashing import digest, fingerprint_file

NAME: Final = ".trained.json"
#: Changes with the content of the record.
FORM: Final = 1
#: In place of the fingerprint of a micrograph that cannot be read.
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True)
class CompletionRecord:
    """The inputs of a finished training, and what it reported."""

    #: Fingerprint of settings, labels and names of micrographs; see `fingerprint_request`.
    request: str
    #: Fingerprints of the micrographs it read, by their index among those given.
    files: dict[int, str]
    #: Fingerprint of the model file.
    model: str
    working_pixel_size_angstrom: float
    history: list[Epoch]
    failures: list[Failure]
    notes: list[str]
    #: Duration of each stage.
    seconds: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write the record next to the model."""
        value = {
            "form": FORM,
            "asked": self.request,
            "files": {str(place): found for place, found in self.files.items()},
            "model": self.model,
            "working_pixel_size_angstrom": self.working_pixel_size_angstrom,
            "history": [epoch.as_dict() for epoch in self.history],
            "failures": [asdict(failure) for failure in self.failures],
            "notes": self.notes,
            "seconds": self.seconds,
        }
        write_json(folder / NAME, value)

    @classmethod
    def find(cls, folder: Path, asked: str, sources: Sequence[Source]) -> CompletionRecord | None:
        """Return the record of the very same training whose model is still in the folder.

        Parameters
        ----------
        folder
            Of the results.
        asked
            What `fingerprint_request` returns for this training.
        sources
            All micrographs given.

        Returns
        -------
        CompletionRecord or None
            None if the folder has none, or anything has changed since: a setting, a label, a
            micrograph that was read, the model.
        """
        try:
            value = json.loads((folder / NAME).read_text(encoding="utf-8"))
            if value["form"] != FORM or value["asked"] != asked:
                return None
            found = cls(
                request=asked,
                files={int(place): str(own) for place, own in value["files"].items()},
                model=str(value["model"]),
                working_pixel_size_angstrom=float(value["working_pixel_size_angstrom"]),
                history=[Epoch.from_dict(row) for row in value["history"]],
                failures=[Failure(str(o["name"]), str(o["reason"])) for o in value["failures"]],
                notes=[str(note) for note in value["notes"]],
                seconds={str(stage): float(own) for stage, own in value["seconds"].items()},
            )
            same = found.model == fingerprint_model_file(folder / "model.safetensors")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # missing or damaged: the model is trained again
        if not same or not all(0 <= place < len(sources) for place in found.files):
            return None
        return found if found.files == fingerprint_micrographs(found.files, sources) else None


def fingerprint_request(
    labelled: Sequence[LabeledSource],
    data: DataSettings,
    recipe: TrainingSettings,
    picking: PickSettings,
    device: torch.device,
    start: Model | None = None,
) -> str:
    """Return the fingerprint of a training's inputs, except the content of its micrographs.

    Parameters
    ----------
    labeled
        All micrographs given, those without labels too.
    picking
        Only the settings that a model's calibration depends on count.
    start
        The model that the training starts with, if any.
    """
    picking_values = list(settings_that_change_picks(picking).values())
    head: dict[str, Any] = {
        "heliodor": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "device": device.type,
        # With the seed too, as earlier versions wrote it: their models are still up to date.
        "data": asdict(data) | {"seed": recipe.seed},
        "recipe": asdict(recipe),
        "picking": [*picking_values[:3], picking.max_fdr, *picking_values[3:]],
        "micrographs": [
            [item.source.name, item.source.pixel_size_angstrom, item.pixel_size_angstrom]
            for item in labelled
        ],
    }
    labels = (xy for item in labelled for xy in (item.xy_px, item.negative_xy_px))
    start_fingerprint = [] if start is None else [fingerprint_model(start).encode()]
    return digest([json.dumps(head, sort_keys=True).encode(), *start_fingerprint, *labels])


def fingerprint_micrographs(places: Iterable[int], sources: Sequence[Source]) -> dict[int, str]:
    """Return the fingerprints of the micrographs at some places among all."""
    return {place: _fingerprint_micrograph(sources[place]) for place in places}


def find_indices(wanted: Iterable[Source], sources: Sequence[Source]) -> list[int]:
    """Return the places of some micrographs among all."""
    place: Mapping[Source, int] = {source: number for number, source in enumerate(sources)}
    return [place[source] for source in wanted]


def fingerprint_model_file(path: Path) -> str:
    """Return the fingerprint of a model file, all of which is read."""
    return digest([path.read_bytes()])


def _fingerprint_micrograph(source: Source) -> str:
    try:
        return fingerprint_file(source.path)
    except BadInput:
        return _UNREADABLE
