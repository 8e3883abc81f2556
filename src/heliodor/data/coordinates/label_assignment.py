"""Assignment: which labels lie on which micrograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from heliodor.conventions import FloatArray
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.picks import PIXEL_SIZE, Picks
from heliodor.data.micrographs.name_matching import match_names
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput


@dataclass(frozen=True)
class LabelledSource:
    """A micrograph and its labels in its own pixels, shape (n, 2)."""

    source: Source
    xy_px: FloatArray
    #: What the file of the labels says of the micrograph's sampling, angstrom per pixel.
    pixel_size_angstrom: float | None = None
    #: What is no particle, likewise.
    negative_xy_px: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))


def read_labels(
    labels: str | Path, sources: Sequence[Source], negatives: str | Path | None = None
) -> tuple[list[LabelledSource], list[str]]:
    """Read labels and give each micrograph its own; see `assign_labels`.

    Raises
    ------
    BadInput
        As reading and `assign_labels` do, with the files' names.
    """
    table = read_picks(labels)
    against = None if negatives is None else read_picks(negatives)
    try:
        return assign_labels(table, sources, against)
    except BadInput as error:
        where = labels if negatives is None else f"{labels}, {negatives}"
        raise BadInput(f"{where}: {error}") from error


def assign_labels(
    labels: Picks, sources: Sequence[Source], negatives: Picks | None = None
) -> tuple[list[LabelledSource], list[str]]:
    """Give each micrograph its labels.

    Parameters
    ----------
    labels
        Particles.
    sources
        Micrographs.
    negatives
        What the user says is no particle; it counts on micrographs with labels.

    Returns
    -------
    list of LabelledSource
        One a micrograph, in their order, many with no label at all.
    list of str
        A sentence where labels belong to none of the micrographs.

    Raises
    ------
    BadInput
        If there are no labels, or none belongs to any of the micrographs; likewise for
        negatives, where given.
    """
    own, sizes, notes = _by_source(labels, sources, "labels")
    against: dict[Source, FloatArray] = {}
    if negatives is not None:
        against, of_negatives, more = _by_source(negatives, sources, "negatives")
        notes += more
        sizes = of_negatives | sizes
        lost = sum(len(xy) for source, xy in against.items() if source not in own)
        if lost:
            notes.append(
                f"{lost} negatives on micrographs without labels were left aside: label some"
                " particles there too"
            )
    none = np.zeros((0, 2))
    return [
        LabelledSource(source, own.get(source, none), sizes.get(source), against.get(source, none))
        for source in sources
    ], notes


def _by_source(
    table: Picks, sources: Sequence[Source], what: str
) -> tuple[dict[Source, FloatArray], dict[Source, float], list[str]]:
    """Return the coordinates and the pixel sizes that a table has of each micrograph."""
    if not len(table):
        if what == "labels":
            raise BadInput("the labels hold no particles; label some first")
        raise BadInput(f"the {what} hold no coordinates; mark some first, or give none")
    found = match_names(table.micrographs, sources)
    own: dict[Source, list[FloatArray]] = {}
    said = table.measures(PIXEL_SIZE)
    sizes: dict[Source, float] = {}
    strangers, lost = [], 0
    for name, picks in table.by_micrograph():
        if name in found:
            own.setdefault(found[name], []).append(picks.xy_px)
            if name in said:
                sizes[found[name]] = said[name]
        elif len(picks):
            strangers.append(name)
            lost += len(picks)
    joined = {source: np.concatenate(parts) for source, parts in own.items()}
    joined = {source: xy for source, xy in joined.items() if len(xy)}
    if not joined:
        raise BadInput(
            f"none of the {len(table)} {what} belongs to the micrographs given: the {what}"
            f" name {table.micrographs[0]}, the micrographs are like {sources[0].name}; give"
            " those that were labelled"
        )
    notes = []
    if strangers:
        notes.append(
            f"{lost} {what} on {len(strangers)} other micrographs (such as {strangers[0]}) were"
            " left aside: no micrograph given has their name and folder"
        )
    return joined, sizes, notes
