from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import KDTree

from heliodor.data.coordinates.whole_boxes import mask_whole_boxes
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.reconstruction.decoys import FEWEST, count_particles, draw_random_positions
from heliodor.reconstruction.micrograph_table import JudgedMicrograph
from heliodor.reconstruction.particles import RANDOM

SHAPE, BOX = (500, 700), 40
MICROGRAPHS = [JudgedMicrograph(Source(name, Path(name), name), SHAPE, 2.0) for name in ("a", "b")]


def draw(picks: int, diameter: float, seed: int = 0):
    rng = np.random.default_rng(1)
    index = np.sort(rng.integers(0, 2, picks))
    xy = rng.uniform(0, SHAPE[::-1], size=(picks, 2))
    return index, xy, draw_random_positions(MICROGRAPHS, index, xy, BOX, diameter, seed)


def test_random_positions_have_whole_boxes_far_from_picks() -> None:
    index, xy, found = draw(100, 30.0)
    assert len(found) == FEWEST
    assert set(found.kind) == {RANDOM}
    for number in (0, 1):
        own = found.xy_px[found.micrograph == number]
        assert len(own) == FEWEST // 2
        assert mask_whole_boxes(own, SHAPE, BOX).all()
        assert KDTree(xy[index == number]).query(own)[0].min() >= 30


def test_the_same_seed_draws_the_same_positions() -> None:
    np.testing.assert_array_equal(draw(50, 30.0)[2].xy_px, draw(50, 30.0)[2].xy_px)
    assert not np.array_equal(draw(50, 30.0)[2].xy_px, draw(50, 30.0, 1)[2].xy_px)


def test_crowded_micrographs_give_positions_between_the_picks() -> None:
    index, xy, found = draw(500, 30.0)
    nearest = [
        KDTree(xy[index == n]).query(found.xy_px[found.micrograph == n])[0].min() for n in (0, 1)
    ]
    assert 18 <= min(nearest)


def test_without_any_room_there_is_an_error() -> None:
    with pytest.raises(BadInput, match="no room"):
        draw(4000, 60.0)


@given(st.floats(1, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))
def test_particles_are_counted_between_none_and_all_picks(
    picks: float, false: float, above: float
) -> None:
    found = count_particles(picks, false, above, 100.0, 1e8)
    assert 0 <= found <= picks
    assert found >= min(max(picks - false, 0), picks) - 1e-9


def test_particles_above_leave_less_room_for_false_picks() -> None:
    assert count_particles(1000, 300, 0, 100.0, 3e7) == 700
    assert count_particles(1000, 300, 800, 100.0, 3e7) > 750
    assert count_particles(1000, 300, 800, 1.0, 1e12) == pytest.approx(700, abs=0.1)


def test_where_most_picks_are_false_their_number_does_not_grow_without_limit() -> None:
    """Bins of which nearly all picks are false add few particles to 800."""
    particles = 800.0
    for _ in range(5):
        particles += count_particles(1500, 2000, particles, 120.0, 1.34e8)
    assert particles < 1500
