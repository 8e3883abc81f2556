"""The candidates of one micrograph, and the file in which the engine hands them to the server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write


@dataclass(frozen=True)
class Candidates:
    """The candidates of one micrograph by descending score, and figures of the micrograph."""

    #: The number of the model; 0 is the general model.
    model: int
    #: Centers (x, y) in the pixels of the original file, shape (n, 2).
    xy_px: FloatArray
    #: Log-odds, shape (n,).
    score: FloatArray
    #: Whether the center lies where contamination is certain, shape (n,).
    bad: NDArray[np.bool_]
    #: Features of the network, shape (n, k), with the same k in all files of a project.
    features: NDArray[np.float16]
    #: Figures of the whole micrograph, such as its mean, contrast and fraction of contamination;
    #: the same keys in all files of a project.
    figures: dict[str, float]
    #: The version of the micrograph's file; see `stamp_file`. Empty if it is not known.
    stamp: str = ""

    def __post_init__(self) -> None:
        n = len(self.score)
        if self.xy_px.shape != (n, 2) or self.bad.shape != (n,) or len(self.features) != n:
            raise ValueError("the columns of the candidates differ in length")
        if self.features.ndim != 2 or not np.issubdtype(self.features.dtype, np.floating):
            raise ValueError("the features are not a table of numbers")
        if not (np.isfinite(self.xy_px).all() and np.isfinite(self.score).all()):
            raise ValueError("a position or a score is not finite")
        if not isinstance(self.figures, dict) or not all(
            type(value) in (int, float) for value in self.figures.values()
        ):
            raise ValueError("the figures of the micrograph are not numbers")


def near(xy_px: FloatArray, others: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Return which positions lie within a distance of any of the others.

    Parameters
    ----------
    xy_px, others
        (x, y), shapes (n, 2) and (m, 2).
    distance
        In the same unit, inclusive.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    if not len(xy_px) or not len(others):
        return np.zeros(len(xy_px), dtype=bool)
    from scipy.spatial import cKDTree  # slow to import

    # The tree excludes positions exactly at the bound, so search slightly farther and compare.
    away, _ = cKDTree(others).query(xy_px, distance_upper_bound=distance * (1 + 1e-9))
    return np.asarray(away <= distance)


def write_candidates(path: Path, candidates: Candidates) -> None:
    """Write the candidates of one micrograph atomically."""
    figures = np.frombuffer(json.dumps(candidates.figures).encode(), dtype=np.uint8)
    with atomic_write(path) as aside, aside.open("wb") as stream:
        np.savez(
            stream,
            model=np.int64(candidates.model),
            xy_px=candidates.xy_px.astype(np.float32),
            score=candidates.score.astype(np.float32),
            bad=candidates.bad,
            features=candidates.features.astype(np.float16),
            figures=figures,
            stamp=np.frombuffer(candidates.stamp.encode(), dtype=np.uint8),
        )


def read_candidates(path: Path) -> Candidates:
    """Read the candidates of one micrograph.

    Raises
    ------
    BadInput
        If the file was not written by `write_candidates`, or is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Candidates(
                int(stored["model"]),
                stored["xy_px"].astype(np.float64),
                stored["score"].astype(np.float64),
                stored["bad"].astype(bool),
                stored["features"],
                json.loads(bytes(stored["figures"])),
                bytes(stored["stamp"]).decode("ascii"),
            )
    except Exception as error:  # NumPy and zipfile raise many types for damaged files
        raise BadInput(
            f"{path} is not a file of candidates ({error}); remove it, and it is written again"
        ) from error
