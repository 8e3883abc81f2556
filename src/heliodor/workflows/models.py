"""The commands `model import`, `model export`, `model show` and `model list`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.conventions import TRAINING_RADIUS_FRACTION
from heliodor.data.micrographs.modes import NORMALIZATION_MODES
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.models import GENERAL_FILAMENT_MODEL, GENERAL_MODEL
from heliodor.models.filament_model_file import (
    FilamentModel,
    fingerprint_filament_model,
    load_filament_model,
)
from heliodor.models.filament_unet import REACH_PX
from heliodor.models.importers.topaz import TopazModel, read_topaz_model
from heliodor.models.model_file import (
    Model,
    ModelCard,
    fingerprint_model,
    is_filament_model,
    load_model,
    save_model,
)
from heliodor.models.onnx_export import export_onnx
from heliodor.models.pretrained import (
    FILAMENT_MODEL_NAME,
    GENERAL_MODEL_NAME,
    find_model_file,
    load_model_or_general,
)
from heliodor.models.registry import NamedModel, list_named_models, named_model_path
from heliodor.utils.console import align_columns

log = logging.getLogger(__name__)

#: Normalizations for a network that was not trained on data of this program.
IMPORT_MODES = tuple(mode for mode in NORMALIZATION_MODES if mode != "joint")


def import_model(
    file: str | Path,
    working_pixel_size_angstrom: float,
    diameter_angstrom: float,
    out: str | Path | None = None,
    name: str | None = None,
    threshold: float = 0.0,
    normalization: str = "micrograph",
) -> Path:
    """Convert a Topaz model into a model of this program.

    Parameters
    ----------
    file
        The `.sav` file; no code in it is run.
    working_pixel_size_angstrom
        Pixel size of the images that it was trained on.
    diameter_angstrom
        Longest diameter of the target particle.
    out, name
        Where to write it: either a file, or a name in the folder of named models.
    threshold
        Log-odds from which a candidate is a pick.
    normalization
        How the input of the network is normalized: micrograph, standard or none.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    BadInput
        If the file is not a Topaz model, or another value is not possible.
    """
    if (out is None) == (name is None):
        raise BadInput("give either a file with -o or a name with --name for the imported model")
    if normalization not in IMPORT_MODES:
        raise BadInput(
            f"the normalization of an imported model must be one of {', '.join(IMPORT_MODES)},"
            f" not {normalization!r}"
        )
    lengths = {"working pixel size": working_pixel_size_angstrom, "diameter": diameter_angstrom}
    for what, length in lengths.items():
        if not 0 < length < 1e4:
            raise BadInput(f"the {what} must be between 0 and 10,000 Å, not {length:g}")
    target = named_model_path(name) if name is not None else Path(str(out))
    imported = read_topaz_model(file)
    card = _card_of_import(
        imported,
        file,
        working_pixel_size_angstrom,
        diameter_angstrom,
        threshold,
        Normalizer.fit([], normalization),
    )
    save_model(target, Model(imported.network, card))
    log.info(f"imported {file} ({card.network}, width {card.width}) to {target}")
    return target


def _card_of_import(
    imported: TopazModel,
    file: str | Path,
    working_pixel_size_angstrom: float,
    diameter_angstrom: float,
    threshold: float,
    normalizer: Normalizer,
) -> ModelCard:
    """Return the card of an imported model; its training is not known."""
    return ModelCard(
        network=imported.network.name,
        width=imported.width,
        norm=imported.norm,
        working_pixel_size_angstrom=working_pixel_size_angstrom,
        diameter_angstrom=diameter_angstrom,
        training_radius_angstrom=diameter_angstrom * TRAINING_RADIUS_FRACTION,
        normalization=normalizer.as_dict(),
        objective="imported",
        class_prior=0.0,
        expected_particles=0.0,
        threshold=threshold,
        seed=0,
        version=__version__,
        training_micrographs=[],
        validation_micrographs=[],
        labelled_particles=0,
        best_epoch=0,
        updates=0,
        validation_ap=None,
        extra={
            "imported": {
                "program": "Topaz",
                "file": Path(file).name,
                "sha256": imported.sha256,
                # The spelling is part of the model files written so far.
                "architecture": f"{imported.network.name} of {imported.width} units,"
                f" batch normalization {'on' if imported.norm else 'off'}",
            }
        },
    )


def export_model(model: str | Path, out: str | Path) -> None:
    """Write the network of a model as an ONNX file; see `export_onnx`."""
    export_onnx(load_model_or_general(model), out)
    log.info(f"exported the network of {model} to {out}")


def describe_model(model: str | Path) -> dict[str, Any]:
    """Return the card of a model and the size of its network, ready for JSON."""
    path = find_model_file(model)
    if is_filament_model(path):
        return _describe(load_filament_model(path), 2 * REACH_PX)
    loaded = load_model_or_general(model)
    return _describe(loaded, loaded.network.receptive_field)


def _describe(model: Model | FilamentModel, receptive_field_px: int) -> dict[str, Any]:
    return asdict(model.card) | {
        "receptive_field_px": receptive_field_px,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
    }


def render_table(values: dict[str, Any]) -> str:
    """Return a description as text, one name and value per line."""
    lines = list(_lines(values))
    width = max(len(name) for name, _ in lines)
    # A name or a value with a line break must not look like several.
    return "\n".join(" ".join(f"{name:<{width}}  {value}".splitlines()) for name, value in lines)


def _lines(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = prefix + key.replace("_angstrom", " (Å)").replace("_px", " (px)").replace("_", " ")
        if isinstance(value, dict):
            lines += _lines(value, f"{name}: ")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            lines.append((name, ", ".join(value) or "none"))
        elif isinstance(value, str):
            lines.append((name, " ".join(value.split())))
        elif value is None or isinstance(value, bool):
            lines.append((name, {None: "none", True: "yes", False: "no"}[value]))
        elif isinstance(value, float):
            lines.append((name, f"{value:.6g}"))
        else:
            lines.append((name, json.dumps(value)))
    return lines


@dataclass(frozen=True)
class ListedModel:
    """A model that can be used by its name."""

    name: str
    file: str
    #: When the file was written: a day, ISO 8601.
    date: str
    #: Longest diameter of its particle; None for a model of any diameter or of filaments, or a
    #: damaged file.
    diameter_angstrom: float | None = None
    labelled_particles: int | None = None
    #: The version of heliodor that made it.
    version: str = ""
    #: The first letters of `fingerprint_model`, which the results of picking have too.
    fingerprint: str = ""
    #: Why it cannot be used.
    fault: str = ""
    #: Whether it finds filaments; then their width (None: any), and the number of labels.
    filaments: bool = False
    width_angstrom: float | None = None
    labelled_filaments: int | None = None


def list_models() -> list[ListedModel]:
    """Return the models that have a name: the general ones, the user's own, and the site's."""
    general = NamedModel(GENERAL_MODEL_NAME, GENERAL_MODEL, False)
    filaments = NamedModel(FILAMENT_MODEL_NAME, GENERAL_FILAMENT_MODEL, False)
    return [_list_model(named) for named in [general, filaments, *list_named_models()]]


def _list_model(named: NamedModel) -> ListedModel:
    try:
        date = datetime.fromtimestamp(named.path.stat().st_mtime).date().isoformat()
    except OSError:
        date = ""
    where = (named.name, str(named.path), date)
    hidden = "another model of this name comes first" if named.hidden else ""
    try:
        if is_filament_model(named.path):
            found = load_filament_model(named.path)
            return ListedModel(
                *where,
                version=found.card.version,
                fingerprint=fingerprint_filament_model(found)[:12],
                fault=hidden,
                filaments=True,
                width_angstrom=found.card.width_angstrom,
                labelled_filaments=found.card.labelled_filaments,
            )
        model = load_model(named.path)
    except BadInput as error:
        return ListedModel(*where, fault=str(error))
    card = model.card
    return ListedModel(
        *where,
        None if card.any_diameter else card.diameter_angstrom,
        card.labelled_particles,
        card.version,
        fingerprint_model(model)[:12],
        hidden,
    )


def render_models(models: Sequence[ListedModel]) -> str:
    """Return a list of models as a table."""
    rows = [("name", "date", "finds", "size", "labels", "version", "fingerprint", "file")]
    for own in models:
        length = own.width_angstrom if own.filaments else own.diameter_angstrom
        size = "any" if length is None else f"{length:g} Å"
        count = own.labelled_filaments if own.filaments else own.labelled_particles
        labels = "" if count is None else str(count)
        file = f"{own.file} ({own.fault})" if own.fault else own.file
        finds = "filaments" if own.filaments else "particles"
        about = (finds, size, labels) if own.version else ("", "", "")
        rows.append((own.name, own.date, *about, own.version, own.fingerprint, file))
    return "\n".join(align_columns(rows))
