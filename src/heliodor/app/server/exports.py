"""Export of picks or labels in every coordinate format."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heliodor.app.server.annotations import Annotations
from heliodor.app.server.predictions import (
    Predictions,
)
from heliodor.app.server.project import EXPORT, Project
from heliodor.app.server.provenance import describe_making
from heliodor.app.server.tiles import MicrographTiles
from heliodor.app.server.user_masks import UserMaskStore
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats.relion_autopick import render_autopick_list
from heliodor.data.coordinates.picks import (
    PIXEL_SIZE,
    PROBABILITY,
    Picks,
)
from heliodor.data.coordinates.writers import (
    FORMATS,
    Format,
    WriteContext,
    write_picks,
)
from heliodor.data.micrographs.relion_project import RelionProject
from heliodor.errors import BadInput
from heliodor.picking.corrections import SAME_DIAMETERS, correct_candidates
from heliodor.utils.files import atomic_write, create_subfolder, remove_subfolder, write_json

#: The box size in particle diameters.
BOX_DIAMETERS = 1.5
#: The names of the files that can be downloaded.
_FILE_NAME = re.compile(r"(picks|labels)(_[a-z0-9]+)?\.[a-z0-9]+", re.ASCII)


@dataclass(frozen=True)
class ExportResult:
    """What was written, for the page."""

    #: The file to download: the one written, or a zip file of the folder written.
    name: str
    #: The path of the file to use on this machine.
    path: Path
    #: How many of what were written, and what is missing; also in a JSON file beside it.
    made: dict[str, Any]


def export_file(
    what: str,
    name: str,
    project: Project,
    annotations: Annotations,
    predictions: Predictions,
    masks: UserMaskStore,
    tiles: MicrographTiles,
    failures: Mapping[int, str],
) -> ExportResult:
    """Write picks or labels of all micrographs in a format, and beside it what made them.

    Picks are the candidates at or above the threshold, without those on a negative, and the
    labeled particles with no such candidate nearby. Excluded micrographs are left out. A format
    of several files gives a folder and a zip file of it. The lists in the folder have the paths
    of the RELION project; those in the zip file are valid in the folder where it is unpacked.

    Parameters
    ----------
    failures
        Why micrographs cannot be used.

    Raises
    ------
    BadInput
        If there is nothing to export, or the format cannot hold it.
    """
    included = project.included
    tables = [
        _label_table(number, project, annotations)
        if what == "labels"
        else _pick_table(number, project, annotations, predictions)
        for number in included
    ]
    joined = Picks.concatenate(tables)
    if not len(joined):
        raise BadInput(
            "there are no picks yet: train first, or lower the threshold"
            if what == "picks"
            else "there are no labels yet: mark some particles first"
        )
    joined, context = _add_sizes(joined, project, tiles)
    picks = joined.round_values()
    made = describe_making(project, annotations, predictions, masks)
    made |= {
        "exported": what,
        "format": name,
        what: len(picks),
        "micrographs": int(np.count_nonzero(picks.counts())),
    }
    if what == "picks":
        made |= _describe_gaps(project, predictions, failures)
    coordinate_format = FORMATS[name]
    folder = project.folder / EXPORT
    if coordinate_format.file_of is None:
        path = folder / f"{what}{coordinate_format.suffix}"
        write_picks(path, picks, coordinate_format, context)
        write_json(folder / f"{what}_{name}.json", made)
        return ExportResult(path.name, path.absolute(), made)
    root = project.find_relion_project()
    relion = None if root is None else RelionProject.open(root, project.sources)
    made["relion_project"] = None if root is None else str(root)
    format_folder = folder / f"{what}_{name}"
    remove_subfolder(folder, format_folder.name)
    create_subfolder(folder, format_folder.name)
    context = replace(context, whole_paths=relion is None, project=relion)
    files = write_picks(format_folder, picks, coordinate_format, context)
    write_json(folder / f"{what}_{name}.json", made)
    archive_path = folder / f"{what}_{name}.zip"
    listed = format_folder / "autopick.star" if name == "autopick" else None
    with (
        atomic_write(archive_path) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in files:
            if file == listed:
                names = {} if relion is None else relion.names
                text = _list_for_zip(picks, coordinate_format, folder, format_folder, names)
                archive.writestr(file.relative_to(folder).as_posix(), text)
            else:
                archive.write(file, file.relative_to(folder).as_posix())
        archive.writestr(f"{format_folder.name}.json", json.dumps(made, indent=1))
    return ExportResult(archive_path.name, (listed or format_folder).absolute(), made)


def _list_for_zip(
    picks: Picks,
    autopick: Format,
    folder: Path,
    format_folder: Path,
    names: Mapping[str, str],
) -> str:
    """Return RELION's list of coordinate files with paths from where the zip file is unpacked."""
    assert autopick.file_of is not None
    counts = zip(picks.micrographs, picks.counts(), strict=True)
    files = {name: format_folder / autopick.file_of(name) for name, count in counts if count}
    return render_autopick_list(files, RelionProject(folder.absolute(), names))


def _describe_gaps(
    project: Project, predictions: Predictions, failures: Mapping[int, str]
) -> dict[str, Any]:
    """Return which micrographs have no picks of the model in use, and why."""
    failed, waiting, older = [], [], []
    for number in project.included:
        name, found = project.sources[number].name, predictions.get(number)
        if number in failures:
            failed.append({"name": name, "why": failures[number]})
        elif found is None:
            waiting.append(name)
        elif found.model != project.settings.model:
            older.append({"name": name, "model": found.model})
    return {"failed": failed, "not_scored_yet": waiting, "of_earlier_models": older}


def find_export(project: Project, name: str) -> Path | None:
    """Return the path of an exported file, or None if there is none of that name."""
    path = project.folder / EXPORT / name
    if not _FILE_NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
        return None
    return path


def _label_table(number: int, project: Project, annotations: Annotations) -> Picks:
    name = project.sources[number].name
    return Picks.on(name, annotations.positions(name, "particle"))


def _pick_table(
    number: int, project: Project, annotations: Annotations, predictions: Predictions
) -> Picks:
    name = project.sources[number].name
    labels, found = annotations.positions(name, "particle"), predictions.get(number)
    if found is None:
        return Picks.on(name, labels)
    threshold = predictions.threshold(found.model, project.settings.threshold)
    rest, missed, best = correct_candidates(
        found.xy_px, found.score, labels, annotations.positions(name, "negative"), threshold,
        SAME_DIAMETERS * found.diameter_px,
    )  # fmt: skip
    rest = rest[found.score[rest] >= threshold]
    scores = np.concatenate([found.score[rest], np.full(len(missed), best)])
    table = Picks.on(name, np.concatenate([found.xy_px[rest], missed]), scores)
    table = table.select(np.argsort(-scores, kind="stable"))
    probabilities = predictions.calibration(found.model).probability(table.score)
    if probabilities is None or not len(table):
        return table
    return Picks(table.micrographs, table.micrograph_index, table.xy_px, table.score,
                 {PROBABILITY: np.round(probabilities, 4)})  # fmt: skip


def _add_sizes(
    picks: Picks, project: Project, tiles: MicrographTiles
) -> tuple[Picks, WriteContext]:
    """Add the sizes of micrographs, pixels and boxes, which some formats need."""
    index = {source.name: number for number, source in enumerate(project.sources)}
    counts = dict(zip(picks.micrographs, picks.counts(), strict=True))
    shapes, sizes = {}, {}
    for name in picks.micrographs:
        if not counts[name]:
            continue
        try:
            shapes[name] = tiles.header(index[name]).shape
            sizes[name] = tiles.pixel_size(index[name])
        except BadInput:
            continue  # formats that need it raise an error
    extra = dict(picks.extra)
    names = picks.names()
    if all(name in sizes for name in counts if counts[name]):
        extra[PIXEL_SIZE] = np.array([sizes[name] for name in names])
    if PROBABILITY in extra:
        extra[PROBABILITY] = _as_floats(extra[PROBABILITY])
    diameter, box = project.settings.diameter_angstrom, None
    if diameter is not None and sizes:
        box = 2 * math.ceil(BOX_DIAMETERS * diameter / min(sizes.values()) / 2)
    table = Picks(picks.micrographs, picks.micrograph_index, picks.xy_px, picks.score, extra)
    return table, WriteContext(box, shapes, sizes)


def _as_floats(values: Iterable[object]) -> FloatArray:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
