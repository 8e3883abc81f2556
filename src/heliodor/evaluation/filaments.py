"""Precision and recall of the length of found axes, and how broken and how inclined they are.

Axes are compared point by point: a point of one axis matches another axis where that is within a
distance and has the same direction to within an angle. Lengths therefore count, not filaments, and
where a filament is cut does not matter for precision and recall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from heliodor.conventions import FloatArray, IndexArray
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.geometry import (
    axial_difference_deg,
    direction_angle_deg,
    locate,
    measure_arc,
    project_on_axis,
)
from heliodor.errors import BadInput

#: The distance within which axes match, as a share of the width of the true filament.
MATCH_WIDTHS = 0.25
#: Axes that cross at more than this angle do not match.
MOST_ANGLE_DEG = 30.0
#: Distance between the points that are compared, as a share of the distance within which axes
#: match, and in pixels at least.
STEP_SHARE, LEAST_STEP_PX = 0.5, 0.5
#: A found filament is a piece of a true one if they match over as many times that distance.
LEAST_PIECE = 4.0


class MicrographLengths(NamedTuple):
    """Lengths on one micrograph, angstrom."""

    name: str
    n_found: int
    n_truth: int
    found: float
    #: Of the found axes, what matches; of filaments that are found twice only once.
    correct: float
    truth: float
    #: Of the true axes, what matches.
    detected: float


@dataclass(frozen=True)
class FilamentEvaluation:
    """The result of `evaluate_filaments`; nan where there is nothing to measure."""

    precision: float
    """Share of the found length that is correct."""
    recall: float
    """Share of the true length that is detected."""
    f1: float
    """Harmonic mean of precision and recall."""
    pieces: float
    """Mean number of found pieces of the true filaments that are found."""
    median_angle_error_deg: float
    """Of the direction of correct axes, 0 to 90."""
    median_distance_angstrom: float
    """Of correct axes from the true ones."""
    micrographs: tuple[MicrographLengths, ...]
    """The micrographs with true filaments, and all others that were asked for."""
    ignored_micrographs: int
    """Micrographs with found filaments that are not among them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON, None for those that are nan."""
        values = asdict(self) | {"micrographs": [row._asdict() for row in self.micrographs]}
        return {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()
        }


class _Samples(NamedTuple):
    """Points along axes, one after another."""

    xy_px: FloatArray
    angle_deg: FloatArray
    #: The length that a point stands for, pixels.
    length_px: FloatArray
    #: The position of its filament in a list.
    owner: IndexArray


class _Matches(NamedTuple):
    """For each sample of some axes: the axis of others that it matches, -1 for none."""

    other: IndexArray
    distance_px: FloatArray
    angle_error_deg: FloatArray


def evaluate_filaments(
    found: Filaments,
    truth: Filaments,
    pixel_sizes: dict[str, float],
    distance_angstrom: float | None = None,
    micrographs: Sequence[str] | None = None,
) -> FilamentEvaluation:
    """Compare found filaments with true ones.

    Parameters
    ----------
    found, truth
        Filaments on micrographs of the same names.
    pixel_sizes
        Angstrom per pixel of each micrograph.
    distance_angstrom
        Largest distance between matching axes; None takes a quarter of the width of each true
        filament.
    micrographs
        Names of the micrographs to evaluate; by default those with true filaments.

    Raises
    ------
    BadInput
        If the distance is not positive, the width of a filament is needed and unknown, or the
        pixel size of a micrograph is unknown.
    """
    if distance_angstrom is not None and not 0.0 < distance_angstrom < math.inf:
        raise BadInput(f"the match distance must be above 0 Å, not {distance_angstrom:g}")
    own_truth, own_found = dict(truth.split_by_micrograph()), dict(found.split_by_micrograph())
    names = list(own_truth) if micrographs is None else [*micrographs]
    rows, angles, distances, weights, pieces = [], [], [], [], []
    for name in names:
        true, seen = own_truth.get(name, ()), own_found.get(name, ())
        if name not in pixel_sizes and (true or seen):
            raise BadInput(f"the pixel size of {name} is unknown; give --pixel-size")
        pixel = pixel_sizes.get(name, 1.0)
        limits = np.array([_match_distance(one, distance_angstrom) for one in true]) / pixel
        step = max(LEAST_STEP_PX, STEP_SHARE * min(limits, default=LEAST_STEP_PX))
        of_found, of_truth = _sample(seen, step), _sample(true, step)
        # Each true filament allows its own distance, whichever of the two axes is asked.
        points = len(of_found.owner)
        matches = _match(of_found, true, np.broadcast_to(limits[:, None], (len(true), points)))
        points = len(of_truth.owner)
        own_limits = np.broadcast_to(limits[of_truth.owner], (len(seen), points))
        back = _match(of_truth, seen, own_limits)
        correct, counts = 0.0, []
        for number, one in enumerate(true):
            own = matches.other == number
            by_filament = np.bincount(
                of_found.owner[own], of_found.length_px[own], minlength=len(seen)
            )
            correct += min(float(by_filament.sum()), one.length_px)
            counts.append(int(np.count_nonzero(by_filament >= LEAST_PIECE * limits[number])))
        pieces += [count for count in counts if count]
        hit = matches.other >= 0
        angles.append(matches.angle_error_deg[hit])
        distances.append(matches.distance_px[hit] * pixel)
        weights.append(of_found.length_px[hit] * pixel)
        rows.append(
            MicrographLengths(
                name,
                len(seen),
                len(true),
                float(of_found.length_px.sum()) * pixel,
                correct * pixel,
                float(of_truth.length_px.sum()) * pixel,
                float(of_truth.length_px[back.other >= 0].sum()) * pixel,
            )
        )
    return _summarize(
        rows,
        _weighted_median(angles, weights),
        _weighted_median(distances, weights),
        float(np.mean(pieces)) if pieces else math.nan,
        sum(bool(own) for name, own in own_found.items() if name not in {*names}),
    )


def _match_distance(one: Filament, distance_angstrom: float | None) -> float:
    if distance_angstrom is not None:
        return distance_angstrom
    if not one.width_angstrom > 0.0:
        raise BadInput(
            f"the true filaments on {one.micrograph} have no width, of which the match distance is"
            " a quarter; give --match-distance"
        )
    return MATCH_WIDTHS * one.width_angstrom


def _sample(filaments: Sequence[Filament], step_px: float) -> _Samples:
    """Return the middles of short, equal parts of each axis."""
    parts = []
    for owner, one in enumerate(filaments):
        arc = measure_arc(one.axis_px)
        count = max(1, math.ceil(arc[-1] / step_px))
        along = (np.arange(count) + 0.5) * (arc[-1] / count)
        edge = np.clip(np.searchsorted(arc, along, side="right") - 1, 0, len(arc) - 2)
        angle = direction_angle_deg(np.diff(one.axis_px, axis=0))[edge]
        parts.append(
            (
                locate(one.axis_px, along),
                angle,
                np.full(count, arc[-1] / count),
                np.full(count, owner, dtype=np.intp),
            )
        )
    if not parts:
        return _Samples(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, np.intp))
    xy, angles, lengths, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Samples(xy, angles, lengths, owners)


def _match(samples: _Samples, others: Sequence[Filament], limits_px: FloatArray) -> _Matches:
    """Match points with the nearest axis that is near enough and has the same direction.

    Parameters
    ----------
    limits_px
        The largest distance, shape (number of other axes, number of points).
    """
    count = len(samples.owner)
    best = _Matches(
        np.full(count, -1, dtype=np.intp), np.full(count, np.inf), np.full(count, np.nan)
    )
    for number, one in enumerate(others):
        distance, along = project_on_axis(samples.xy_px, one.axis_px)
        arc = measure_arc(one.axis_px)
        edge = np.clip(np.searchsorted(arc, along, side="right") - 1, 0, len(arc) - 2)
        angle = direction_angle_deg(np.diff(one.axis_px, axis=0))[edge]
        error = axial_difference_deg(samples.angle_deg, angle)
        better = (
            (distance <= limits_px[number])
            & (error <= MOST_ANGLE_DEG)
            & (distance < best.distance_px)
        )
        best.other[better] = number
        best.distance_px[better] = distance[better]
        best.angle_error_deg[better] = error[better]
    return best


def _weighted_median(values: Sequence[FloatArray], weights: Sequence[FloatArray]) -> float:
    """Return the median of values by the lengths that they stand for."""
    joined = np.concatenate([np.zeros(0), *values])
    if not len(joined):
        return math.nan
    order = np.argsort(joined, kind="stable")
    total = np.cumsum(np.concatenate([np.zeros(0), *weights])[order])
    return float(joined[order][np.searchsorted(total, 0.5 * total[-1])])


def _summarize(
    rows: Sequence[MicrographLengths],
    angle: float,
    distance: float,
    pieces: float,
    ignored: int,
) -> FilamentEvaluation:
    found, correct, truth, detected = (
        math.fsum(getattr(row, name) for row in rows)
        for name in ("found", "correct", "truth", "detected")
    )
    precision = correct / found if found else math.nan
    recall = detected / truth if truth else math.nan
    f1 = 2.0 * precision * recall / (precision + recall) if precision + recall > 0.0 else math.nan
    return FilamentEvaluation(precision, recall, f1, pieces, angle, distance, tuple(rows), ignored)
