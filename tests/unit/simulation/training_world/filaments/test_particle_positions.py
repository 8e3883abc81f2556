from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from heliodor.conventions import FloatArray
from heliodor.simulation.training_world.filaments.particle_positions import (
    CLOSE_DIAMETERS,
    MOST_CLOSE,
    draw_chains,
    draw_layer,
    draw_positions,
    draw_scattered,
)

SIDE, DIAMETER = 300, 15.0


def measure_gaps(xy: FloatArray) -> FloatArray:
    """Return the distance of each particle to the nearest other one, in diameters."""
    return np.asarray(cKDTree(xy).query(xy, k=2)[0][:, 1] / DIAMETER)


def test_particles_lie_inside_the_field() -> None:
    rng = np.random.default_rng(1)
    counts = []
    for _ in range(60):
        xy = draw_positions(rng, SIDE, DIAMETER * float(rng.uniform(0.4, 2.0)))
        assert xy.shape[1] == 2
        assert ((xy >= 0.0) & (xy < SIDE)).all()
        counts.append(len(xy))
    assert 100 < max(counts) <= MOST_CLOSE
    assert min(counts) < 20


@pytest.mark.parametrize("draw", [draw_chains, draw_layer])
def test_particles_in_chains_and_layers_lie_side_by_side(
    draw: Callable[[np.random.Generator, int, float], FloatArray],
) -> None:
    rng = np.random.default_rng(2)
    gaps = [
        np.median(measure_gaps(xy))
        for xy in (draw(rng, SIDE, DIAMETER) for _ in range(30))
        if len(xy) > 4
    ]
    assert len(gaps) > 20
    assert 0.6 < np.mean(gaps) < CLOSE_DIAMETERS[1]
    assert max(gaps) < CLOSE_DIAMETERS[1] + 0.1


def test_scattered_particles_do_not_depend_on_each_other() -> None:
    # Of n uniform points per area a, the mean distance to the nearest is half of sqrt(a / n).
    rng = np.random.default_rng(3)
    ratios = [
        measure_gaps(xy).mean() * DIAMETER / (0.5 * np.sqrt(SIDE**2 / len(xy)))
        for xy in (draw_scattered(rng, SIDE, DIAMETER) for _ in range(80))
        if len(xy) > 50
    ]
    assert len(ratios) > 5
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12)
