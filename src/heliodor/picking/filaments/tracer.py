"""Trace the filaments of one micrograph: from maps to scored axes in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray, Shape
from heliodor.data.filaments.geometry import crop_axis, measure_length
from heliodor.models.filament_maps import FilamentMaps
from heliodor.picking.filaments.evidence import DirectionalEvidence, LatticePoints
from heliodor.picking.filaments.linking import link_traces
from heliodor.picking.filaments.refinement import ScoredAxis, refine
from heliodor.picking.filaments.tracing import Limits, trace_all

#: Evidence (a probability) with which a filament begins to be traced, and without which it ends.
HIGH, LOW = 0.35, 0.1
#: Axes that are nearer to each other than this, in widths, and whose angle has a smaller sine, are
#: those of one filament.
SAME_WIDTHS, SAME_SINE = 0.4, 0.5


@dataclass(frozen=True)
class Geometry:
    """What a filament is, in pixels of the micrograph."""

    width_px: float
    #: The longest part of a filament that the maps do not show.
    gap_px: float
    #: The smallest radius of curvature.
    radius_px: float
    #: Shorter filaments are left out.
    least_length_px: float


def trace_filaments(
    maps: FilamentMaps,
    geometry: Geometry,
    shape: Shape,
    blocked: NDArray[np.bool_] | None = None,
) -> list[ScoredAxis]:
    """Return the axes of filaments, the surest and longest first.

    Parameters
    ----------
    maps
        Of one micrograph.
    shape
        (height, width) of the micrograph in pixels, to which axes are cropped.
    blocked
        Points of the lattice where there are no filaments, such as contamination, shape (h, w).

    Returns
    -------
    list of ScoredAxis
        In pixels of the micrograph; scores are log-odds.
    """
    step = maps.spacing_px
    width = geometry.width_px / step
    points = LatticePoints.from_maps(maps, blocked)
    evidence = DirectionalEvidence.gather(points, width)
    limits = Limits(width, geometry.radius_px / step, HIGH, LOW)
    traces = trace_all(evidence, limits)
    axes = link_traces(traces, evidence, limits, geometry.gap_px / step)
    least = geometry.least_length_px / step
    refined = [
        one
        for axis in axes
        if (one := refine(axis, points, width)) is not None and measure_length(one.axis) >= least
    ]
    return _finish(_without_repetitions(refined, width, least), maps, geometry, shape)


def _finish(
    traced: Sequence[ScoredAxis], maps: FilamentMaps, geometry: Geometry, shape: Shape
) -> list[ScoredAxis]:
    """Return axes in pixels, without what is beyond the micrograph."""
    found = []
    for one in traced:
        axis = one.axis * maps.spacing_px + np.array(maps.first_px)
        for piece in crop_axis(axis, shape):
            if measure_length(piece) < geometry.least_length_px:
                continue
            nearest = np.hypot(*(piece[:, None] - axis[None]).transpose(2, 0, 1)).argmin(axis=1)
            found.append(ScoredAxis(piece, one.scores[nearest]))
    return sorted(found, key=lambda one: -_importance(one))


def _importance(one: ScoredAxis) -> float:
    """Return the expected length that has a filament."""
    return measure_length(one.axis) * float(np.mean(1.0 / (1.0 + np.exp(-one.scores))))


def _without_repetitions(
    traced: Sequence[ScoredAxis], width: float, least: float
) -> list[ScoredAxis]:
    """Return axes without their ends that lie on surer axes of the same direction.

    Those that mostly lie on others, or are then shorter than `least`, are left out.
    """
    kept: list[ScoredAxis] = []
    places: list[FloatArray] = []
    directions: list[FloatArray] = []
    for one in sorted(traced, key=lambda each: -_importance(each)):
        slopes = np.gradient(one.axis, axis=0)
        angle = np.arctan2(slopes[:, 1], slopes[:, 0])
        if places:
            tree = cKDTree(np.concatenate(places))
            distance, index = tree.query(one.axis)
            turn = np.abs(np.sin(angle - np.concatenate(directions)[index]))
            covered = (distance < SAME_WIDTHS * width) & (turn < SAME_SINE)
            free = np.flatnonzero(~covered)
            if covered.mean() > 0.5 or len(free) < 2:
                continue
            own = slice(int(free[0]), int(free[-1]) + 1)
            one, angle = ScoredAxis(one.axis[own], one.scores[own]), angle[own]
            if measure_length(one.axis) < least:
                continue
        kept.append(one)
        places.append(one.axis)
        directions.append(angle)
    return kept
