"""The commands `model import`, `model export` and `model show`."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.conventions import TRAINING_RADIUS_FRACTION
from heliodor.data.micrographs.modes import NORMALIZATION_MODES
from heliodor.data.micrographs.normalization import Normalizer
from heliodor.errors import BadInput
from heliodor.models.importers.topaz import read_topaz_model
from heliodor.models.model_file import (
    Model,
    ModelCard,
    save_model,
)
from heliodor.models.onnx_export import export_onnx
from heliodor.models.pretrained import load_model_or_general
from heliodor.models.registry import named_model_path

log = logging.getLogger(__name__)

#: What a network asks of its input that has not seen this program's data sets.
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
    """Turn a Topaz model into one of this program.

    Parameters
    ----------
    file
        The `.sav` file; nothing in it is run.
    working_pixel_size_angstrom
        Sampling of the images that it was trained on.
    diameter_angstrom
        The longest diameter of the particles it is to find.
    out, name
        Where to write it: one of a file and a name in the folder of named models.
    threshold
        Log-odds from which a candidate is a pick.
    normalization
        How its input is normalised: micrograph, standard or none.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    BadInput
        If the file is no such model, or another value cannot be.
    """
    if (out is None) == (name is None):
        raise BadInput("give either a file with -o or a name with --name for the imported model")
    if normalization not in IMPORT_MODES:
        raise BadInput(
            f"the normalisation {normalization!r} of an imported model is none of"
            f" {', '.join(IMPORT_MODES)}"
        )
    lengths = {"working pixel size": working_pixel_size_angstrom, "diameter": diameter_angstrom}
    for what, length in lengths.items():
        if not 0 < length < 1e4:
            raise BadInput(f"a {what} of {length:g} A is not possible")
    target = named_model_path(name) if name is not None else Path(str(out))
    read = read_topaz_model(file)
    card = ModelCard(
        network=read.network.name,
        width=read.width,
        norm=read.norm,
        working_pixel_size_angstrom=working_pixel_size_angstrom,
        diameter_angstrom=diameter_angstrom,
        training_radius_angstrom=diameter_angstrom * TRAINING_RADIUS_FRACTION,
        normalization=Normalizer.fit([], normalization).as_dict(),
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
                "sha256": read.sha256,
                "architecture": f"{read.network.name} of {read.width} units,"
                f" batch normalisation {'on' if read.norm else 'off'}",
            }
        },
    )
    save_model(target, Model(read.network, card))
    log.info(f"{card.network} of {card.width} units from {file} in {target}")
    return target


def export_model(model: str | Path, out: str | Path) -> None:
    """Write a model as an ONNX file; see `export.export_onnx`."""
    export_onnx(load_model_or_general(model), out)
    log.info(f"the network of {model} in {out}")


def describe_model(model: str | Path) -> dict[str, Any]:
    """Return a model's card and what follows from its network, ready for JSON."""
    loaded = load_model_or_general(model)
    network = loaded.network
    return asdict(loaded.card) | {
        "receptive_field_px": network.receptive_field,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def render_table(values: dict[str, Any]) -> str:
    """Lay out a description for reading: a name and its value a line."""
    lines = list(_lines(values))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _lines(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in values.items():
        name = prefix + key.replace("_angstrom", " (A)").replace("_px", " (px)").replace("_", " ")
        if isinstance(value, dict):
            out += _lines(value, f"{name}: ")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            out.append((name, ", ".join(value) or "none"))
        elif isinstance(value, str):
            out.append((name, " ".join(value.split())))
        elif value is None or isinstance(value, bool):
            out.append((name, {None: "none", True: "yes", False: "no"}[value]))
        elif isinstance(value, float):
            out.append((name, f"{value:.6g}"))
        else:
            out.append((name, json.dumps(value)))
    return out
