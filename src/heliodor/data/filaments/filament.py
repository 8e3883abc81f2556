"""Filaments on micrographs: the table that readers, writers and commands share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from heliodor.conventions import FloatArray, Shape
from heliodor.data.coordinates.formats.filament_columns import TUBE
from heliodor.data.coordinates.picks import (
    BOX,
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    Picks,
    join_stems,
)
from heliodor.data.filaments.geometry import crop_axis, measure_length
from heliodor.errors import BadInput

#: Columns of a table of points, beside the identity: the place of the filament, and its width.
FILAMENT, WIDTH_ANGSTROM = "filament", "heliodorFilamentWidthAngst"


@dataclass(frozen=True, eq=False)
class Filament:
    """The axis of one filament, from its start to its end."""

    #: Name of the micrograph.
    micrograph: str
    #: Points (x, y) in pixels of the original file, shape (n, 2), n at least 2, none repeated.
    axis_px: FloatArray
    #: The identity of the filament: RELION's rlnHelicalTubeID, different on one micrograph.
    tube_id: int
    #: Width of the filament, nan where not known.
    width_angstrom: float = math.nan
    #: Log-odds at each point, nan where not known, shape (n,).
    point_scores: FloatArray | None = None
    #: Side of the boxes that its file draws around the axis, in pixels; nan where there are none.
    box_px: float = math.nan

    def __post_init__(self) -> None:
        axis = self.axis_px
        if axis.ndim != 2 or axis.shape[1] != 2 or len(axis) < 2:
            raise ValueError("the axis of a filament needs two points (x, y) or more")
        if not np.isfinite(axis).all():
            raise ValueError("the points of a filament must be finite")
        if np.any(np.all(np.diff(axis, axis=0) == 0.0, axis=1)):
            raise ValueError("the axis of a filament has a point twice in a row")
        if self.point_scores is not None and self.point_scores.shape != (len(axis),):
            raise ValueError("a filament needs one score for each of its points")

    @property
    def scores(self) -> FloatArray:
        """Log-odds at each point, nan where not known, shape (n,)."""
        return (
            np.full(len(self.axis_px), np.nan)
            if self.point_scores is None
            else (self.point_scores)
        )

    @property
    def score(self) -> float:
        """The mean of the known scores of its points, nan if there are none."""
        known = self.scores[~np.isnan(self.scores)]
        return float(known.mean()) if len(known) else math.nan

    @cached_property
    def length_px(self) -> float:
        """Length of the polyline in pixels."""
        return measure_length(self.axis_px)

    def reverse(self) -> Filament:
        """Return the filament with start and end exchanged."""
        return replace(self, axis_px=self.axis_px[::-1], point_scores=self.scores[::-1])

    def with_axis(self, axis_px: FloatArray) -> Filament:
        """Return the filament with another axis, whose points have no scores."""
        return replace(self, axis_px=axis_px, point_scores=None)


@dataclass(frozen=True, eq=False)
class Filaments:
    """The filaments of micrographs, some of which may have none."""

    #: Names of the micrographs, without repetition.
    micrographs: tuple[str, ...]
    #: In any order; those of one micrograph have different `tube_id`.
    filaments: tuple[Filament, ...]
    #: Angstrom per pixel of micrographs, where known.
    pixel_sizes: Mapping[str, float] = field(default_factory=dict)
    #: (height, width) of micrographs, where known.
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    #: As of `heliodor.data.coordinates.picks.Picks`.
    file_stems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({*self.micrographs}) != len(self.micrographs):
            raise ValueError("a micrograph is listed twice in a table of filaments")
        keys = {(one.micrograph, one.tube_id) for one in self.filaments}
        if len(keys) != len(self.filaments):
            raise ValueError("two filaments of a micrograph have the same identity")
        if not {one.micrograph for one in self.filaments} <= {*self.micrographs}:
            raise ValueError("a filament is on a micrograph that its table does not list")

    def __len__(self) -> int:
        return len(self.filaments)

    def __iter__(self) -> Iterator[Filament]:
        return iter(self.filaments)

    @classmethod
    def concatenate(cls, tables: Iterable[Filaments]) -> Filaments:
        """Join tables; filaments of one micrograph that share an identity get new ones."""
        tables = list(tables)
        names = dict.fromkeys(name for table in tables for name in table.micrographs)
        joined = make_tubes_different([one for table in tables for one in table])
        sizes = {k: v for table in tables for k, v in table.pixel_sizes.items()}
        shapes = {k: v for table in tables for k, v in table.shapes.items()}
        stems = join_stems(pair for table in tables for pair in table.file_stems.items())
        return cls(tuple(names), tuple(joined), sizes, shapes, stems)

    def split_by_micrograph(self) -> Iterator[tuple[str, tuple[Filament, ...]]]:
        """Yield the name of each micrograph with its filaments, in stable order."""
        own: dict[str, list[Filament]] = {name: [] for name in self.micrographs}
        for one in self.filaments:
            own[one.micrograph].append(one)
        yield from ((name, tuple(filaments)) for name, filaments in own.items())

    def keep_scored(self, threshold: float | None) -> Filaments:
        """Return the filaments whose mean score reaches a threshold, all if it is None.

        Raises
        ------
        BadInput
            If no filament has a score.
        """
        if threshold is None:
            return self
        if len(self) and all(math.isnan(one.score) for one in self):
            raise BadInput("the filaments have no scores; omit --threshold", parameter="threshold")
        kept = tuple(one for one in self if one.score >= threshold)
        return replace(self, filaments=kept)

    def rename_micrographs(self, names: Mapping[str, str]) -> Filaments:
        """Return the filaments with new names of micrographs; those without one keep theirs."""
        new = {name: names.get(name, name) for name in self.micrographs}
        renamed = [replace(one, micrograph=new[one.micrograph]) for one in self]
        return Filaments(
            tuple(dict.fromkeys(new.values())),
            tuple(make_tubes_different(renamed)),
            {new.get(name, name): size for name, size in self.pixel_sizes.items()},
            {new.get(name, name): shape for name, shape in self.shapes.items()},
            join_stems((new.get(name, name), stems) for name, stems in self.file_stems.items()),
        )

    def crop(self) -> Filaments:
        """Return the parts on the micrographs whose shapes are known.

        The first part of a filament that leaves its micrograph and returns keeps its identity.
        """
        kept = []
        for one in self.filaments:
            shape = self.shapes.get(one.micrograph)
            pieces = None if shape is None else crop_axis(one.axis_px, shape)
            if pieces is None or (len(pieces) == 1 and np.array_equal(pieces[0], one.axis_px)):
                kept.append(one)
            else:
                kept += [one.with_axis(piece) for piece in pieces]
        return replace(self, filaments=tuple(make_tubes_different(kept)))


def make_tubes_different(filaments: Sequence[Filament]) -> list[Filament]:
    """Return filaments with new identities where two of one micrograph share one."""
    used: dict[str, set[int]] = {}
    for one in filaments:
        used.setdefault(one.micrograph, set()).add(one.tube_id)
    given: dict[str, set[int]] = {}
    result = []
    for one in filaments:
        mine, all_used = given.setdefault(one.micrograph, set()), used[one.micrograph]
        if one.tube_id in mine:
            one = replace(one, tube_id=max(all_used) + 1)
            all_used.add(one.tube_id)
        mine.add(one.tube_id)
        result.append(one)
    return result


def to_points(table: Filaments) -> Picks:
    """Return the points of all axes as one table, which `from_points` turns back.

    So whatever moves or renames coordinates also moves and renames filaments.
    """
    filaments = table.filaments
    counts = [len(one.axis_px) for one in filaments]
    names = np.repeat([one.micrograph for one in filaments], counts).tolist()
    points = Picks.from_columns(
        names,
        np.concatenate([np.zeros((0, 2)), *(one.axis_px for one in filaments)]),
        np.concatenate([np.zeros(0), *(one.scores for one in filaments)]),
        {
            FILAMENT: np.repeat(np.arange(len(filaments)), counts),
            TUBE: np.repeat(np.array([one.tube_id for one in filaments], dtype=object), counts),
            WIDTH_ANGSTROM: np.repeat([one.width_angstrom for one in filaments], counts),
            BOX: np.repeat([one.box_px for one in filaments], counts),
            PIXEL_SIZE: np.array([table.pixel_sizes.get(name) for name in names], dtype=object),
            HEIGHT: np.array([table.shapes.get(name, (None,))[0] for name in names], dtype=object),
            WIDTH: np.array([table.shapes.get(name, (None,))[-1] for name in names], dtype=object),
        },
    )
    listed = replace(Picks.empty(table.micrographs), file_stems=table.file_stems)
    return Picks.concatenate([listed, points])


def from_points(points: Picks) -> Filaments:
    """Return the filaments of a table of points that `to_points` made."""
    filaments = []
    names = points.names()
    which = np.asarray(points.extra.get(FILAMENT, np.zeros(0, np.intp)))
    order = np.argsort(which, kind="stable")
    starts = np.flatnonzero(np.diff(which[order])) + 1
    for rows in np.split(order, starts) if len(order) else []:
        first = rows[0]
        scores = points.score[rows]
        filaments.append(
            Filament(
                names[first],
                points.xy_px[rows],
                int(points.extra[TUBE][first]),
                float(points.extra[WIDTH_ANGSTROM][first]),
                None if np.isnan(scores).all() else scores,
                float(points.extra[BOX][first]),
            )
        )
    heights, widths = points.first_positive_values(HEIGHT), points.first_positive_values(WIDTH)
    shapes = {
        name: (round(heights[name]), round(widths[name])) for name in heights if name in widths
    }
    return Filaments(
        points.micrographs,
        tuple(filaments),
        points.first_positive_values(PIXEL_SIZE),
        shapes,
        points.file_stems,
    )
