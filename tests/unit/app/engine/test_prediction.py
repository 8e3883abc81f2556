"""What is known of the candidates of a micrograph."""

from __future__ import annotations

import numpy as np
import pytest

from heliodor.app.engine.prediction import _touches_dead_border

DIAMETER = 30.0


@pytest.mark.parametrize("side", ["top", "left"])
def test_candidates_beside_a_dead_border_are_known(side: str) -> None:
    image = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    xy = np.array([[150.0, 18.0], [150.0, 40.0], [2.0, 100.0], [298.0, 100.0]])
    assert not _touches_dead_border(xy, image, DIAMETER).any()
    if side == "top":
        image[:12] *= 1e-3
        expected = [True, False, False, False]
    else:
        image[:, :12] *= 1e-3
        expected = [False, False, True, False]
    assert _touches_dead_border(xy, image, DIAMETER).tolist() == expected
