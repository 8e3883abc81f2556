"""Rotations of the point groups, which build a particle from its asymmetric unit."""

from __future__ import annotations

import math
from functools import cache
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from heliodor.conventions import FloatArray


def rotation_about_z(angle_rad: FloatArray | float) -> FloatArray:
    """Return the rotation by an angle about z, shape (3, 3)."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def cyclic(fold: int) -> FloatArray:
    """Return the rotations of the cyclic group about z, shape (fold, 3, 3)."""
    return np.stack([rotation_about_z(2.0 * np.pi * step / fold) for step in range(fold)])


def dihedral(fold: int) -> FloatArray:
    """Return the rotations of the dihedral group (about z, two-fold on x), (2 fold, 3, 3)."""
    turns = cyclic(fold)
    return np.concatenate([turns, turns @ np.diag([1.0, -1.0, -1.0])])


def octahedral() -> FloatArray:
    """Return the 24 rotations of the cube: signed permutation matrices of determinant 1."""
    matrices = [
        np.eye(3)[list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return np.stack([matrix for matrix in matrices if np.linalg.det(matrix) > 0.0])


def tetrahedral() -> FloatArray:
    """Return the 12 rotations of the tetrahedron: even signed permutations, (12, 3, 3)."""
    kept = [m for m in octahedral() if np.prod(m[m != 0.0]) > 0.0]
    return np.stack(kept)


@cache
def icosahedral() -> FloatArray:
    """Return the 60 rotations of the icosahedron, shape (60, 3, 3).

    They map its twelve corners, (0, 1, golden ratio) with all signs and cyclic permutations, onto
    themselves, and are constructed from all pairs of neighboring corners.
    """
    golden = (1.0 + math.sqrt(5.0)) / 2.0
    corners = np.array(
        [
            np.roll([0.0, one, other * golden], turn)
            for one, other in product((1.0, -1.0), repeat=2)
            for turn in range(3)
        ]
    )
    near = np.abs(corners @ corners.T - golden) < 1e-9
    pairs = [(i, j) for i, j in permutations(range(12), 2) if near[i, j]]

    def frame(pair: tuple[int, int]) -> FloatArray:
        first, second = corners[pair[0]], corners[pair[1]]
        return np.stack([first, second, np.cross(first, second)], axis=1)

    start = np.linalg.inv(frame(pairs[0]))
    return np.stack([frame(pair) @ start for pair in pairs])


#: Functions that return the rotations of a point group, by Schoenflies symbol.
POINT_GROUPS: dict[str, Callable[[], FloatArray]] = {
    **{f"C{fold}": (lambda fold=fold: cyclic(fold)) for fold in (2, 3, 4)},  # type: ignore[misc]
    **{f"D{fold}": (lambda fold=fold: dihedral(fold)) for fold in (2, 3, 4, 5)},  # type: ignore[misc]
    "T": tetrahedral,
    "O": octahedral,
    "I": icosahedral,
}
