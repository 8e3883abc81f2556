"""Training and picking as RELION jobs, both of which can be continued.

RELION continues a job by running the same command again; finished work is then skipped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heliodor import __version__
from heliodor.data.coordinates.formats import read_picks, relion_autopick, relion_suffix
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import Failure
from heliodor.errors import BadInput
from heliodor.integrations.relion.external_job import OutputKind, write_output_nodes
from heliodor.picking.settings import PickSettings
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.utils.files import create_output_folder, write_json
from heliodor.utils.hashing import digest
from heliodor.workflows.pick import pick
from heliodor.workflows.train import train

log = logging.getLogger(__name__)

#: File with the inputs of the model in a job's folder, and its digest.
TRAINED_WITH = ".training.json"


def pick_job(
    folder: Path,
    micrographs: str,
    model: str | Path | None,
    settings: PickSettings,
    pixel_size_angstrom: float | None,
    compute: ComputeSettings,
    command_line: str,
    diameter_angstrom: float | None = None,
    adapt: bool = False,
) -> list[Failure]:
    """Pick the micrographs that are not done yet, and list the coordinates for RELION.

    Returns
    -------
    list of Failure
        The micrographs that could not be used.
    """
    picked = pick(
        model,
        micrographs,
        folder,
        settings,
        pixel_size_angstrom,
        compute,
        command_line,
        diameter_angstrom=diameter_angstrom,
        adapt=adapt,
    )
    write_output_nodes(folder, [("autopick.star", OutputKind.COORDINATES)], micrographs)
    return picked.failures


def train_job(
    folder: Path,
    micrographs: str,
    labels: str,
    data: DataSettings,
    recipe: TrainingSettings,
    compute: ComputeSettings,
    command_line: str,
    negatives: str | None = None,
) -> list[Failure]:
    """Train a model, unless it is up to date, and list it for RELION.

    Parameters
    ----------
    labels
        Coordinates as RELION names them; see `resolve_labels`.

    Returns
    -------
    list of Failure
        The micrographs that could not be used.
    """
    folder = create_output_folder(folder)
    labels = resolve_labels(labels, micrographs, folder)
    made_with = _describe_inputs(micrographs, [labels, *([negatives] if negatives else [])])
    # With the seed too, as earlier versions wrote it: their models are still up to date.
    made_with |= {"data": asdict(data) | {"seed": recipe.seed}, "recipe": asdict(recipe)}
    model = folder / "model.safetensors"
    failures: list[Failure] = []
    if model.is_file() and _read_json(folder / TRAINED_WITH) == made_with | {
        "model": _hash_file(model)
    }:
        log.info(f"{model} is up to date (same data and settings); training skipped")
    else:
        trained = train(
            micrographs, labels, folder, data, recipe, compute, command_line, negatives
        )
        failures = trained.failures
        write_json(folder / TRAINED_WITH, made_with | {"model": _hash_file(model)})
    write_output_nodes(folder, [(model.name, OutputKind.MODEL)])
    return failures


def resolve_labels(labels: str, micrographs: str, folder: Path) -> str:
    """Return the coordinates as a file that heliodor can read.

    RELION 3.1 names the coordinates of a job by ``coords_suffix_manualpick.star``, which contains
    none: they are in files next to it, named after the micrographs with the suffix in its name.
    For such a file, write a list of them to the job's folder.

    Raises
    ------
    BadInput
        If none of the micrographs has a coordinate file there.
    """
    path = Path(labels)
    if not relion_suffix.has_its_name(path):
        return labels
    pairs = [
        (source.name, relion_suffix.coordinate_file(path, source.name).as_posix())
        for source in find_sources(micrographs)
    ]
    pairs = [(name, file) for name, file in pairs if Path(file).is_file()]
    if not pairs:
        raise BadInput(
            f"there is no coordinate file next to {labels} for any micrograph in {micrographs};"
            " give the micrographs that were picked"
        )
    listed = folder / "labels.star"
    relion_autopick.write_coordinate_files(
        listed, *([*column] for column in zip(*pairs, strict=True))
    )
    return str(listed)


def _describe_inputs(micrographs: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return what identifies the input of a training, for JSON."""
    tables = [read_picks(file) for file in labels]
    parts = [
        part
        for table in tables
        for part in ("\n".join(table.names()).encode(), table.xy_px.tobytes())
    ]
    return {
        "heliodor": __version__,
        "micrographs": [[s.name, s.pixel_size_angstrom] for s in find_sources(micrographs)],
        "labels": digest(parts),
    }


def _hash_file(model: Path) -> str:
    return digest([model.read_bytes()])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
