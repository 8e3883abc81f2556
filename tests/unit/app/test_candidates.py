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


@given(n=st.integers(0, 12), m=st.integers(0, 12), seed=st.integers(0, 99))
def test_what_is_near_is_within_the_distance(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers, so that many are exactly as far as the distance.
    xy, others = (random.integers(0, 20, (k, 2)).astype(float) for k in (n, m))
    away = np.hypot(*(xy[:, None] - others[None]).transpose(2, 0, 1))
    np.testing.assert_array_equal(near(xy, others, 5.0), (away <= 5).any(axis=1))
