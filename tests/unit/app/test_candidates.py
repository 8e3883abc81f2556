"""Candidates of one micrograph come back from their file as they went in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.candidates import (
    Candidates,
    near,
    read_candidates,
    write_candidates,
)
from heliodor.errors import BadInput


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
    np.testing.assert_allclose(back.xy_px, own.xy_px, rtol=1e-6)
    np.testing.assert_allclose(back.score, own.score, rtol=1e-6)
    np.testing.assert_array_equal(back.bad, own.bad)
    np.testing.assert_array_equal(back.features, features)


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


@given(n=st.integers(0, 12), m=st.integers(0, 12), seed=st.integers(0, 99))
def test_what_is_near_is_within_the_distance(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers, so that many are exactly as far as the distance.
    xy, others = (random.integers(0, 20, (k, 2)).astype(float) for k in (n, m))
    away = np.hypot(*(xy[:, None] - others[None]).transpose(2, 0, 1))
    np.testing.assert_array_equal(near(xy, others, 5.0), (away <= 5).any(axis=1))
