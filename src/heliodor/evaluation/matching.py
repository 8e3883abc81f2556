"""Matching picks with true particles, one to one, best picks first."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput

#: The default match distance, as a fraction of the particle diameter.
MATCH_FRACTION = 0.4


class Matching(NamedTuple):
    """Picks paired one to one with true particles.

    Attributes
    ----------
    is_true_positive
        Whether the pick enlarged the matching of the picks before it, shape (n,).
    truth_index
        The particle paired with each pick, -1 for a false positive, shape (n,).
    distance
        The distance to that particle, NaN for a false positive, shape (n,).
    """

    is_true_positive: NDArray[np.bool_]
    truth_index: NDArray[np.intp]
    distance: FloatArray


def match_picks(picks_xy: ArrayLike, truth_xy: ArrayLike, distance: float) -> Matching:
    """Match picks with true particles, one to one.

    Picks are taken in order. Each is a true positive if and only if it enlarges the matching,
    possibly by re-pairing earlier picks (an augmenting path). The first k picks, for every k,
    therefore contain as many true positives as any one-to-one matching of them can have. The
    pairs returned have the smallest total distance of all matchings of the true positives.
    Used for Bepler et al. 2019, Methods 9.

    Parameters
    ----------
    picks_xy
        (x, y) of the picks in descending order of score, shape (n, 2).
    truth_xy
        (x, y) of the particles, shape (m, 2).
    distance
        The largest distance of a pair, inclusive, in the unit of the coordinates.

    Raises
    ------
    BadInput
        If coordinates are not finite (x, y) pairs or `distance` is negative or not finite.
    """
    picks, truth = check_points(picks_xy, "picks"), check_points(truth_xy, "particles")
    edges = find_pairs_within(picks, truth, check_distance(distance))
    is_true_positive = find_true_positives(edges, len(picks), len(truth))
    truth_index, separation = pair_true_positives(edges, is_true_positive, len(truth))
    return Matching(is_true_positive, truth_index, separation)


class PairsInReach(NamedTuple):
    """The pairs within the match distance, sorted by pick and then by distance."""

    pick: NDArray[np.intp]
    truth: NDArray[np.intp]
    distance: FloatArray


def find_pairs_within(picks: FloatArray, truth: FloatArray, distance: float) -> PairsInReach:
    """Return all pairs of a pick and a particle within `distance`, per pick nearest first."""
    if len(picks) == 0 or len(truth) == 0:
        return PairsInReach(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
    # The tree compares squared distances: search slightly further, then compare the distances
    # that are reported.
    pairs = cKDTree(picks).sparse_distance_matrix(
        cKDTree(truth), distance * (1 + 1e-9), output_type="ndarray"
    )
    pick, particle = pairs["i"].astype(np.intp), pairs["j"].astype(np.intp)
    separation = np.hypot(*(picks[pick] - truth[particle]).T)
    near = separation <= distance
    pick, particle, separation = pick[near], particle[near], separation[near]
    order = np.lexsort((particle, separation, pick))
    return PairsInReach(pick[order], particle[order], separation[order])


def find_true_positives(edges: PairsInReach, n_picks: int, n_truth: int) -> NDArray[np.bool_]:
    """Return which picks, added in order, enlarge the maximum matching."""
    starts = np.searchsorted(edges.pick, np.arange(n_picks + 1)).tolist()
    neighbours = edges.truth.tolist()
    owner = [-1] * n_truth  # the pick that holds each particle
    held = [-1] * n_picks  # and the reverse
    seen_by = [-1] * n_truth  # the last search that reached the particle
    reached_from = [-1] * n_truth
    closed = n_picks
    for new in range(n_picks):
        frontier, seen, free = [new], list[int](), -1
        for pick in frontier:  # grows as it is read: a breadth-first search
            for particle in neighbours[starts[pick] : starts[pick + 1]]:
                if seen_by[particle] in (new, closed):
                    continue
                seen_by[particle], reached_from[particle] = new, pick
                if owner[particle] < 0:
                    free = particle
                    break
                seen.append(particle)
                frontier.append(owner[particle])
            if free >= 0:
                break
        if free < 0:
            # The owners of these particles have no alternatives, now or later: no search has to
            # visit them again, so all failing searches together are linear in the edges.
            for particle in seen:
                seen_by[particle] = closed
        while free >= 0:
            pick = reached_from[free]
            owner[free], held[pick], free = pick, free, held[pick]
    return np.array(held, dtype=np.intp) >= 0


def pair_true_positives(
    edges: PairsInReach, is_true_positive: NDArray[np.bool_], n_truth: int
) -> tuple[NDArray[np.intp], FloatArray]:
    """Pair all true positives with particles at the smallest total distance."""
    truth_index = np.full(is_true_positive.size, -1, dtype=np.intp)
    separation = np.full(is_true_positive.size, math.nan)
    if not is_true_positive.any():
        return truth_index, separation
    used = is_true_positive[edges.pick]
    # SciPy's older matching takes 32-bit indices only.
    row = (np.cumsum(is_true_positive) - 1)[edges.pick[used]].astype(np.int32)
    column = edges.truth[used].astype(np.int32)
    shape = (int(np.count_nonzero(is_true_positive)), n_truth)
    # A stored zero would mean no edge; adding 1 to each distance does not change the optimum.
    weights = coo_array((edges.distance[used] + 1.0, (row, column)), shape=shape)
    rows, columns = min_weight_full_bipartite_matching(weights.tocsr())
    truth_index[np.flatnonzero(is_true_positive)[rows]] = columns
    chosen = truth_index[edges.pick] == edges.truth
    separation[edges.pick[chosen]] = edges.distance[chosen]
    return truth_index, separation


def check_distance(distance: float) -> float:
    """Return the distance as a float; raise BadInput unless it is finite and 0 or more."""
    if not 0 <= distance < math.inf:
        raise BadInput(f"the match distance must be 0 or more and finite, not {distance}")
    return float(distance)


def check_points(xy: ArrayLike, what: str) -> FloatArray:
    """Return (n, 2) coordinates; raise BadInput unless they are finite pairs."""
    points = np.asarray(xy, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise BadInput(f"the {what} must be (x, y) pairs, but their shape is {points.shape}")
    if not np.isfinite(points).all():
        raise BadInput(f"the {what} have coordinates that are not finite")
    return points
