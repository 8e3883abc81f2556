"""Export of picks or labels in every coordinate format."""

from __future__ import annotations

import math
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from heliodor.app.candidates import near
from heliodor.app.server.annotations import Annotations
from heliodor.app.server.predictions import (
    SAME_DIAMETERS,
    MicrographPredictions,
    Predictions,
)
from heliodor.app.server.project import EXPORT, Project
from heliodor.app.server.tiles import MicrographTiles
from heliodor.conventions import FloatArray
from heliodor.data.coordinates.picks import (
    PIXEL_SIZE,
    PROBABILITY,
    Picks,
)
from heliodor.data.coordinates.writers import (
    FORMATS,
    WriteContext,
    write_picks,
)
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write

#: The box size in particle diameters.
BOX_DIAMETERS = 1.5
#: The names of the files that can be downloaded.
_FILE_NAME = re.compile(r"(picks|labels)(_[a-z0-9]+)?\.[a-z0-9]+", re.ASCII)


def export_file(
    what: str,
    name: str,
    project: Project,
    annotations: Annotations,
    predictions: Predictions,
    tiles: MicrographTiles,
) -> str:
    """Write picks or labels of all micrographs in a format, and return the file's name.

    Picks are the candidates at or above the threshold, without those in contamination or on a
    negative, and the labeled particles with no such candidate nearby. A format of several files
    gives a folder and a zip file of it.

    Raises
    ------
    BadInput
        If there is nothing to export, or the format cannot hold it.
    """
    tables = [
        _label_table(number, project, annotations)
        if what == "labels"
        else _pick_table(number, project, annotations, predictions)
        for number in range(len(project.sources))
    ]
    joined = Picks.concatenate(tables)
    if not len(joined):
        raise BadInput(
            "there are no picks yet: train first, or lower the threshold"
            if what == "picks"
            else "there are no labels yet: mark some particles first"
        )
    joined, context = _add_sizes(joined, project, tiles)
    coordinate_format = FORMATS[name]
    folder = project.folder / EXPORT
    if coordinate_format.file_of is None:
        (file,) = write_picks(
            folder / f"{what}{coordinate_format.suffix}",
            joined.round_values(),
            coordinate_format,
            context,
        )
        return file.name
    format_folder = folder / f"{what}_{name}"
    shutil.rmtree(format_folder, ignore_errors=True)
    format_folder.mkdir(parents=True)
    files = write_picks(format_folder, joined.round_values(), coordinate_format, context)
    archive_path = folder / f"{what}_{name}.zip"
    with (
        atomic_write(archive_path) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in files:
            archive.write(file, file.relative_to(format_folder).as_posix())
    return archive_path.name


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
    xy, score = select_picks(found, predictions.threshold(found.model, project.settings.threshold))
    missed = labels[~near(labels, xy, SAME_DIAMETERS * found.diameter_px)]
    # They are certainly particles, so they get the best score.
    best = score[0] if len(score) else found.score[0] if len(found.score) else math.nan
    scores = np.concatenate([score, np.full(len(missed), best)])
    table = Picks.on(name, np.concatenate([xy, missed]), scores)
    probabilities = predictions.calibration(found.model).probability(scores)
    if probabilities is None or not len(table):
        return table
    probabilities[len(xy) :] = 1.0
    return Picks(table.micrographs, table.micrograph_index, table.xy_px, table.score,
                 {PROBABILITY: np.round(probabilities, 4)})  # fmt: skip


def select_picks(found: MicrographPredictions, threshold: float) -> tuple[FloatArray, FloatArray]:
    """Return the positions and scores of the picks of a micrograph, by descending score."""
    mask = found.selectable & (found.score >= threshold)
    return found.xy_px[mask], found.score[mask]


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
