"""Corrections of picks by what a user labeled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.sources import Source
from heliodor.errors import BadInput
from heliodor.picking.contamination import DISTANCE, ContaminationMask
from heliodor.picking.corrections import (
    NO_CORRECTIONS,
    SAME_DIAMETERS,
    Corrections,
    correct_candidates,
    near,
)
from heliodor.picking.journal import MicrographResult
from heliodor.picking.micrograph_quality import MicrographMeasurements


@given(n=st.integers(0, 12), m=st.integers(0, 12), seed=st.integers(0, 99))
def test_what_is_near_is_within_the_distance(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers, so that many are exactly as far as the distance.
    xy, others = (random.integers(0, 20, (k, 2)).astype(float) for k in (n, m))
    away = np.hypot(*(xy[:, None] - others[None]).transpose(2, 0, 1))
    np.testing.assert_array_equal(near(xy, others, 5.0), (away <= 5).any(axis=1))


@given(seed=st.integers(0, 999), threshold=st.floats(-3, 3))
def test_no_pick_is_near_a_negative_and_every_particle_is_one(seed: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    xy, particles, negatives = (random.uniform(0, 100, (n, 2)) for n in (40, 6, 6))
    particles = particles[~near(particles, negatives, 20.0)]  # no user says both
    score = np.sort(random.normal(0, 2, 40))[::-1]
    rest, missed, best = correct_candidates(xy, score, particles, negatives, threshold, 10.0)
    picks = np.concatenate([xy[rest[score[rest] >= threshold]], missed])
    assert not near(picks, negatives, 10.0).any()
    assert near(particles, picks, 10.0).all()
    assert best >= threshold
    assert (best >= score).all()
    # Nothing else has changed.
    others = ~near(xy, negatives, 10.0)
    assert set(rest.tolist()) == set(np.flatnonzero(others).tolist())


def _result(contamination: ContaminationMask | None = None) -> MicrographResult:
    picks = Picks.on("a.mrc", np.array([[10.0, 10.0], [50.0, 50.0]]), np.array([3.0, -1.0]))
    measured = MicrographMeasurements()
    return MicrographResult(picks, 2.0, None, 1e4, measured, contamination)


def test_a_result_without_labels_stays_as_it_is() -> None:
    assert not NO_CORRECTIONS
    other = Corrections({"b.mrc": np.ones((1, 2))}, {})
    result = _result()
    assert other.apply("a.mrc", result, 0.0, 40.0) is result


def test_labels_are_added_with_the_best_score_and_their_distance_to_contamination() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, 9] = True
    own = Corrections({"a.mrc": np.array([[50.0, 51.0], [10.0, 11.0]])}, {})
    found = own.apply("a.mrc", _result(ContaminationMask(mask, 20.0, 0.01)), 0.0, 40.0).candidates
    # The first label is on a candidate below the threshold, the second on a pick.
    np.testing.assert_array_equal(found.score, [3.0, 3.0, -1.0])
    np.testing.assert_array_equal(found.xy_px[1], [50.0, 51.0])
    assert np.isfinite(float(found.extra[DISTANCE][1]))


def test_positions_are_read_by_the_names_of_the_micrographs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = "micrograph\tx_px\ty_px\nraw/a.mrc\t1\t2\nraw/z.mrc\t3\t4\n"
    (tmp_path / "labels.tsv").write_text(table)
    source = Source("MotionCorr/job002/raw/a.mrc", tmp_path / "a.mrc", "raw/a")
    found = Corrections.read(tmp_path / "labels.tsv", None, [source])
    assert [*found.particles] == [source.name]
    np.testing.assert_array_equal(found.particles[source.name], [[1.0, 2.0]])
    assert not found.negatives
    assert "1 positions" in caplog.text
    assert SAME_DIAMETERS == 0.4


def test_a_position_cannot_be_a_particle_and_a_negative(tmp_path: Path) -> None:
    head = "micrograph\tx_px\ty_px\n"
    (tmp_path / "labels.tsv").write_text(f"{head}a.mrc\t1\t2\na.mrc\t30\t40\n")
    (tmp_path / "negatives.tsv").write_text(f"{head}a.mrc\t30.4\t40\n")
    source = Source("a.mrc", tmp_path / "a.mrc", "a")
    with pytest.raises(BadInput, match=r"the same positions \(such as 30, 40 on a\.mrc\)"):
        Corrections.read(tmp_path / "labels.tsv", tmp_path / "negatives.tsv", [source])


def test_offsets_have_one_line_per_micrograph_and_may_have_comments(tmp_path: Path) -> None:
    path, source = tmp_path / "offsets.txt", Source("a.mrc", tmp_path / "a.mrc", "a")
    path.write_text("# mine\n\n0.5\ta.mrc\n0.5 a.mrc\n")
    assert Corrections.read(None, None, [source], path).offsets == {"a.mrc": 0.5}
    path.write_text("0.5\ta.mrc\n1\ta.mrc\n")
    with pytest.raises(BadInput, match=r"two offsets of a\.mrc"):
        Corrections.read(None, None, [source], path)


@given(
    offsets=st.dictionaries(st.text(min_size=1), st.floats(-20, 20), max_size=4),
    x=st.floats(0, 1e5),
)
def test_what_processes_agree_on_is_the_same_when_it_is_read_again(offsets, x):
    own = Corrections({"a.mrc": np.array([[x, 1 / 3]])}, {"ä.mrc": np.zeros((2, 2))}, offsets)
    read = Corrections.from_lists(json.loads(json.dumps(own.as_lists())))
    assert read.offsets == offsets
    for kind in ("particles", "negatives"):
        first, second = getattr(own, kind), getattr(read, kind)
        assert first.keys() == second.keys()
        for name, positions in first.items():
            np.testing.assert_array_equal(second[name], positions)
    with pytest.raises(ValueError, match="impossible"):
        Corrections.from_lists(own.as_lists() | {"offsets": {"a.mrc": float("inf")}})
