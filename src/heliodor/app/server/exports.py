"""Handing over: picks or labels as files of every format there is."""

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

#: Boxes are so many diameters wide.
BOX_DIAMETERS = 1.5
#: The files that can be fetched.
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

    Picks are the candidates from the threshold on, neither in bad areas nor where the user said
    that there is none, and with them the labelled particles that none of them is near. A format
    of several files gives a folder, and a zip file of it.

    Raises
    ------
    BadInput
        If there are none, or the format cannot hold them.
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
    joined, given = _add_sizes(joined, project, tiles)
    wanted = FORMATS[name]
    folder = project.folder / EXPORT
    if wanted.file_of is None:
        (file,) = write_picks(folder / f"{what}{wanted.suffix}", joined.rounded(), wanted, given)
        return file.name
    several = folder / f"{what}_{name}"
    shutil.rmtree(several, ignore_errors=True)
    several.mkdir(parents=True)
    files = write_picks(several, joined.rounded(), wanted, given)
    packed = folder / f"{what}_{name}.zip"
    with (
        atomic_write(packed) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in files:
            archive.write(file, file.relative_to(several).as_posix())
    return packed.name


def find_export(project: Project, name: str) -> Path | None:
    """Return an exported file, None where there is none of that name."""
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
    labels, seen = annotations.positions(name, "particle"), predictions.get(number)
    if seen is None:
        return Picks.on(name, labels)
    xy, score = select_picks(seen, predictions.threshold(seen.model, project.settings.threshold))
    lost = labels[~near(labels, xy, SAME_DIAMETERS * seen.diameter_px)]
    # They are particles for sure: no threshold must part them from the best of the picks.
    best = score[0] if len(score) else seen.score[0] if len(seen.score) else math.nan
    scores = np.concatenate([score, np.full(len(lost), best)])
    table = Picks.on(name, np.concatenate([xy, lost]), scores)
    chances = predictions.calibration(seen.model).probability(scores)
    if chances is None or not len(table):
        return table
    chances[len(xy) :] = 1.0
    return Picks(table.micrographs, table.micrograph_index, table.xy_px, table.score,
                 {PROBABILITY: np.round(chances, 4)})  # fmt: skip


def select_picks(seen: MicrographPredictions, threshold: float) -> tuple[FloatArray, FloatArray]:
    """Return the places and scores of a micrograph's picks, by falling score."""
    mask = seen.selectable & (seen.score >= threshold)
    return seen.xy_px[mask], seen.score[mask]


def _add_sizes(
    picks: Picks, project: Project, tiles: MicrographTiles
) -> tuple[Picks, WriteContext]:
    """Add what some formats ask for: sizes of micrographs, pixels and boxes."""
    place = {source.name: number for number, source in enumerate(project.sources)}
    counts = dict(zip(picks.micrographs, picks.counts(), strict=True))
    shapes, sizes = {}, {}
    for name in picks.micrographs:
        if not counts[name]:
            continue
        try:
            shapes[name] = tiles.header(place[name]).shape
            sizes[name] = tiles.pixel_size(place[name])
        except BadInput:
            continue  # the format that needs it says so
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
