"""Candidates of one micrograph come back from their file as they went in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.candidates import (
    Candidates,
    PickingRecord,
    read_candidates,
    write_candidates,
)
from heliodor.errors import BadInput
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.micrograph_quality import MicrographMeasurements


@given(n=st.integers(0, 20), k=st.integers(0, 5), seed=st.integers(0, 9))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, n: int, k: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, k)).astype(np.float16)
    own = Candidates(
        seed, random.normal(size=(n, 2)) * 1e3, random.normal(size=n), random.random(n) < 0.5,
        features, {"mean": 1.5},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("c") / "a.npz"
    write_candidates(path, own)
    back = read_candidates(path)
    assert (back.model, back.figures) == (own.model, own.figures)
    np.testing.assert_array_equal(back.xy_px, own.xy_px)
    np.testing.assert_array_equal(back.score, own.score)
    np.testing.assert_array_equal(back.bad, own.bad)
    np.testing.assert_array_equal(back.features, features)


def test_all_features_stay_with_their_candidates(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole, noise = (random.normal(size=(n, 6)).astype(np.float16) for n in (5, 3))
    own = Candidates(
        0, random.normal(size=(5, 2)), np.arange(5.0)[::-1], np.zeros(5, bool),
        whole[:, :2], {}, clean_score=np.arange(5.0), all_features=whole, feature_noise=noise,
    )  # fmt: skip
    path = tmp_path / "a.npz"
    write_candidates(path, own)
    back = read_candidates(path)
    assert back.all_features is not None
    np.testing.assert_array_equal(back.all_features, whole)
    assert read_candidates(path, with_all_features=False).all_features is None
    for found, rows in (
        (back.at_least(3.0), [0, 1]),
        (back.in_contamination(None, 1.0), [4, 3, 2, 1, 0]),
    ):
        assert found.all_features is not None
        assert found.feature_noise is not None
        np.testing.assert_array_equal(found.all_features, whole[rows])
        np.testing.assert_array_equal(found.all_features[:, :2], found.features)
        np.testing.assert_array_equal(found.feature_noise, noise)
    with np.load(path) as stored:
        values = dict(stored)
    earlier = {k: v for k, v in values.items() if k not in ("all_features", "feature_noise")}
    np.savez(path, **earlier)
    assert read_candidates(path).all_features is None
    for damaged in ({"all_features": whole[:4]}, {"feature_noise": noise[:, :5]}):
        np.savez(path, **(values | damaged))
        with pytest.raises(BadInput, match="not a file of candidates"):
            read_candidates(path)
    np.savez(path, **earlier, all_features=whole)
    with pytest.raises(BadInput, match="not a file of candidates"):
        read_candidates(path)


@given(n=st.integers(0, 20), seed=st.integers(0, 9), searched=st.booleans())
def test_what_picking_needs_is_read_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, searched: bool
) -> None:
    random = np.random.default_rng(seed)
    clean = np.sort(random.normal(0, 4, n))[::-1]
    lowered = random.random(n) * 3 * (random.random(n) < 0.3)
    order = np.argsort(-(clean - lowered), kind="stable")
    score = (clean - lowered)[order]
    mask = ContaminationMask(random.random((5, 7)) < 0.3, 28.0, 0.3)
    record = PickingRecord(
        "made", "fingerprint", 4.0, 1.5e6, MicrographMeasurements(0.25, None, 0.3), -3.0,
        np.where(lowered[order] > 0, -1.0, np.inf), random.normal(size=3) if searched else None,
    )  # fmt: skip
    own = Candidates(
        0, random.normal(size=(n, 2)) * 1e3, score, lowered[order] > 2,
        np.zeros((n, 2), np.float16), {}, "5-7", clean[order], mask, record,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("c") / "a.npz"
    write_candidates(path, own)
    back = read_candidates(path)
    result = back.as_result("m")
    assert result is not None
    kept = score >= -3.0
    np.testing.assert_array_equal(result.candidates.score, score[kept])
    np.testing.assert_array_equal(result.candidates.xy_px, own.xy_px[kept])
    np.testing.assert_array_equal(back.without_contamination, clean[order])
    assert (result.pixel_size_angstrom, result.area_angstrom2) == (4.0, 1.5e6)
    assert result.measured == record.measured
    assert result.contamination is not None
    np.testing.assert_array_equal(result.contamination.mask, mask.mask)
    assert (result.decoys is not None) == searched


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not a file of candidates"):
        read_candidates(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": np.array([np.inf, 1], np.float32)},
        {"xy_px": np.array([[np.nan, 1], [1, 2]], np.float32)},
        {"features": np.zeros(2, np.float16)},
        {"features": np.array(["a", "b"])},
        *(
            {"figures": np.frombuffer(text, np.uint8)}
            for text in (b"[1]", b'{"bad": "x"}', b'{"bad": true}', b"[" * 100_000)
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "a.npz"
    own = Candidates(
        1, np.ones((2, 2)), np.array([2.0, 1.0]), np.zeros(2, bool), np.zeros((2, 3), np.float16),
        {"bad": 0.5},
    )  # fmt: skip
    write_candidates(path, own)
    with np.load(path) as stored:
        values = dict(stored)
    np.savez(path, **values)
    assert read_candidates(path).figures == own.figures
    np.savez(path, **(values | changes))
    with pytest.raises(BadInput, match="not a file of candidates"):
        read_candidates(path)


def test_a_file_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_candidates(
        path,
        Candidates(
            1, np.ones((2, 2)), np.array([2.0, 1.0]), np.zeros(2, bool),
            np.zeros((2, 3), np.float16), {"bad": 0.5},
        ),
    )  # fmt: skip
    content = path.read_bytes()
    claim = content.replace(b"'shape': (2,), }             ", b"'shape': (20000000000000,), }")
    assert claim != content
    path.write_bytes(claim)
    with pytest.raises(BadInput, match="not a file of candidates"):
        read_candidates(path)
