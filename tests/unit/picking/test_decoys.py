"""Decoys: what their number says of the contrast. Calibration with them has its own tests."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.evaluation.score_histogram import DatasetScores, MicrographScores
from heliodor.picking.decoys import MANY_DECOYS, describe_inverted_contrast


def scores(candidates: int, decoys: int | None, micrographs: int = 4) -> DatasetScores:
    """As many candidates and decoys at 1 log-odds on each micrograph, and more far below."""
    return DatasetScores.from_micrographs(
        [
            MicrographScores(
                np.concatenate([np.full(candidates, 1.0), np.full(500, -3.0)]),
                None if decoys is None else np.concatenate([np.full(decoys, 1.0), [-3.0] * 500]),
                1e6,
            )
            for _ in range(micrographs)
        ]
    )


@pytest.mark.parametrize(
    ("candidates", "decoys", "is_inverted"),
    [
        (60, 2, False),
        (2, 60, True),
        (40, 60, False),
        (0, MANY_DECOYS // 4 - 1, False),
        (5, None, False),
    ],
)
def test_decoys_that_outnumber_candidates(candidates, decoys, is_inverted):
    said = describe_inverted_contrast(scores(candidates, decoys))
    assert (said is not None) == is_inverted
    if said is not None:
        assert f"{4 * decoys} likely particles" in said
        assert f"only {4 * candidates} on" in said


def test_decoys_of_some_micrographs_are_compared_by_area():
    both = DatasetScores.from_micrographs(
        [
            MicrographScores(np.full(10, 1.0), np.full(40, 1.0) if i == 0 else None, 1e6)
            for i in range(4)
        ]
    )
    assert describe_inverted_contrast(both) is not None
