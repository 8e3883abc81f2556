"""What a model found on one micrograph, as a file between the process that scores and the rest."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heliodor.conventions import FloatArray
from heliodor.errors import BadInput
from heliodor.utils.files import atomic_write


@dataclass(frozen=True)
class Candidates:
    """The candidates of one micrograph, by falling score, and how the micrograph looks."""

    #: Number of the model, 0 being that which the project began with.
    model: int
    #: Centres (x, y) in the pixels of the original file, shape (n, 2).
    xy_px: FloatArray
    #: Log-odds, shape (n,).
    score: FloatArray
    #: Whether the centre lies in a bad area, shape (n,).
    bad: NDArray[np.bool_]
    #: What the network sees at each, shape (n, k), k the same for all of a project's files.
    features: NDArray[np.float16]
    #: Figures of the whole micrograph that tell micrographs apart, such as its mean, contrast and
    #: bad fraction; the same keys in all of a project's files.
    figures: dict[str, float]

    def __post_init__(self) -> None:
        n = len(self.score)
        if self.xy_px.shape != (n, 2) or self.bad.shape != (n,) or len(self.features) != n:
            raise ValueError("every column of a table of candidates needs the same length")


def near(xy_px: FloatArray, others: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Tell which places are no farther than a distance from any of others.

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

    # The tree leaves out what is just as far; a little more reach and one exact test do not.
    away, _ = cKDTree(others).query(xy_px, distance_upper_bound=distance * (1 + 1e-9))
    return np.asarray(away <= distance)


def write_candidates(path: Path, found: Candidates) -> None:
    """Write one micrograph's candidates, whole or not at all."""
    head = np.frombuffer(json.dumps(found.figures).encode(), dtype=np.uint8)
    with atomic_write(path) as aside, aside.open("wb") as stream:
        np.savez(
            stream,
            model=np.int64(found.model),
            xy_px=found.xy_px.astype(np.float32),
            score=found.score.astype(np.float32),
            bad=found.bad,
            features=found.features.astype(np.float16),
            figures=head,
        )


def read_candidates(path: Path) -> Candidates:
    """Read one micrograph's candidates.

    Raises
    ------
    BadInput
        If the file is none of `write_candidates`.
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
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{path} holds no candidates ({error}); remove it, and it is made again"
        ) from error
