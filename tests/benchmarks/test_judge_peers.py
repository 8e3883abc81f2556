"""The sets of picks that `judge_peers` compares, and what it says of them by the truth."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.accuracy.judge_peers import choose_surest, compare, draw, leave_out

from heliodor.data.coordinates.picks import Picks


def places(xy: list[list[float]], scores: list[float] | None = None, name: str = "a.mrc") -> Picks:
    return Picks.on(name, np.array(xy), None if scores is None else np.array(scores))


def test_the_surest_are_chosen_over_all_micrographs() -> None:
    first = places([[1, 1], [2, 2], [3, 3]], [0.5, 3.0, -1.0])
    table = Picks.concatenate([first, places([[4, 4], [5, 5]], [2.0, 0.4], "b.mrc")])
    chosen = choose_surest(table, 3)
    assert sorted(chosen.score) == [0.5, 2.0, 3.0]
    assert chosen.names() == ["a.mrc", "a.mrc", "b.mrc"]


def test_no_more_particles_are_drawn_than_there_are() -> None:
    particles = places([[n, 2 * n] for n in range(50)])
    few = draw(particles, 20)
    assert len(few) == len(np.unique(few.xy_px[:, 0])) == 20
    assert np.array_equal(draw(particles, 20).xy_px, few.xy_px)
    assert len(draw(particles, 99)) == 50


def test_one_pick_goes_with_each_known_particle() -> None:
    # Two picks at one particle: the surer one is that particle, the other a new pick.
    picks = places([[10, 10], [12, 10], [50, 50], [90, 90]], [1.0, 2.0, 3.0, 0.0])
    known = places([[11, 10], [90, 93]])
    left = leave_out(picks, known, 5.0)
    assert sorted(map(tuple, left.xy_px)) == [(10.0, 10.0), (50.0, 50.0)]
    other = Picks.concatenate([picks, places([[11, 10]], [4.0], "b.mrc")])
    assert len(leave_out(other, known, 5.0)) == 3


def test_false_picks_and_the_error_of_the_others() -> None:
    picks = places([[10, 10], [10, 12], [53, 50], [90, 90]], [2.0, 1.0, 3.0, 0.0])
    truth = places([[10, 11], [50, 50], [200, 200]])
    found = compare(picks, truth, 6.0)
    # One of the two picks at the first particle, and the last, are false.
    assert found == {"false": 0.5, "error_px": pytest.approx(2.0)}
