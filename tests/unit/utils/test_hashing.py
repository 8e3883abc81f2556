"""A fingerprint sees what happens to micrographs, and reads little of a large file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.errors import BadInput
from heliodor.utils.hashing import (
    BLOCK,
    BLOCKS,
    ENDS,
    SMALL,
    fingerprint_file,
    read_file_state,
    read_unchanged,
)

LARGE = 3 * SMALL + 12_345


def content(size: int, seed: int = 0) -> bytearray:
    return bytearray(np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes())


def test_the_same_content_has_the_same_wherever_it_lies(tmp_path: Path) -> None:
    for size in (0, 1, SMALL, SMALL + 1, LARGE):
        one, other = tmp_path / "one.mrc", tmp_path / "other.mrc"
        one.write_bytes(content(size))
        other.write_bytes(content(size))
        os.utime(other, (0, 0))
        assert fingerprint_file(one) == fingerprint_file(other)
        assert len(fingerprint_file(one)) == 64


@given(st.integers(1, 5000), st.data())
def test_any_byte_of_a_small_file_counts(size: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path, own = Path(folder) / "small", content(size)
        path.write_bytes(own)
        before = fingerprint_file(path)
        own[data.draw(st.integers(0, size - 1))] ^= 1
        path.write_bytes(own)
        assert fingerprint_file(path) != before


def test_of_a_large_file_count_size_ends_and_blocks(tmp_path: Path) -> None:
    path, own = tmp_path / "large", content(LARGE)
    path.write_bytes(own)
    before = fingerprint_file(path)
    room = LARGE - 2 * ENDS - BLOCK
    blocks = [ENDS + room * k // (BLOCKS - 1) for k in range(BLOCKS)]
    assert blocks[-1] + BLOCK == LARGE - ENDS
    for where in (0, ENDS - 1, blocks[0], blocks[30], blocks[-1], LARGE - ENDS, LARGE - 1):
        path.write_bytes(own[:where] + bytes([own[where] ^ 1]) + own[where + 1 :])
        assert fingerprint_file(path) != before, where
    for size in (LARGE - 1, LARGE // 2, SMALL):
        path.write_bytes(own[:size])
        assert fingerprint_file(path) != before
    path.write_bytes(own[: LARGE // 2] + bytes(LARGE - LARGE // 2))
    assert fingerprint_file(path) != before
    path.write_bytes(content(LARGE, seed=1))
    assert fingerprint_file(path) != before
    # What lies between two blocks does not count: the price of not reading everything.
    where = blocks[1] - 1
    path.write_bytes(own[:where] + bytes([own[where] ^ 1]) + own[where + 1 :])
    assert fingerprint_file(path) == before


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.mrc cannot be read"):
        fingerprint_file(tmp_path / "gone.mrc")
    with pytest.raises(BadInput, match="cannot be read"):
        fingerprint_file(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "growing.mrc"
    path.write_bytes(content(1000))
    seen: list[int] = []

    def read() -> bytes:
        own = path.read_bytes()
        seen.append(len(own))
        if len(seen) == 1:
            path.write_bytes(content(2000))  # as by another program
            raise BadInput("truncated")
        if len(seen) == 2:
            (tmp_path / "new").write_bytes(content(2000, seed=1))
            os.replace(tmp_path / "new", path)
        return own

    own, version = read_unchanged(path, read)
    assert seen == [1000, 2000, 2000]
    assert own == content(2000, seed=1)
    assert version is not None
    assert version.fingerprint == fingerprint_file(path)
    assert version.is_current()
    os.utime(path, (0, 0))  # the same content, as if copied again
    assert version.is_current()
    path.write_bytes(content(2000))
    assert not version.is_current()
    path.unlink()
    assert not version.is_current()


def test_a_file_that_never_comes_to_rest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.mrc"
    path.write_bytes(b"")

    def read() -> None:
        with path.open("ab") as stream:
            stream.write(b"more")

    with pytest.raises(BadInput, match=r"log\.mrc changed each of the 3 times"):
        read_unchanged(path, read)


def test_an_error_of_a_file_at_rest_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "broken.mrc"
    path.write_bytes(b"")
    calls = []

    def read() -> None:
        calls.append(1)
        raise BadInput("broken.mrc is empty")

    with pytest.raises(BadInput, match="is empty"):
        read_unchanged(path, read)
    with pytest.raises(BadInput, match="is empty"):
        read_unchanged(tmp_path / "gone.mrc", read)
    assert len(calls) == 2


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mrc")
    with pytest.raises(BadInput, match="not a regular file"):
        fingerprint_file(tmp_path / "pipe.mrc")


def test_the_state_of_a_file_changes_with_its_content_whatever_time_it_claims(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(content(50))
    state, status = read_file_state(path), path.stat()
    assert read_file_state(path) == state
    _, version = read_unchanged(path, lambda: None)
    assert version is not None
    assert version.state == state
    time.sleep(0.02)  # longer than the steps of the clock of the file system
    path.write_bytes(content(50, seed=1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_file_state(path) != state
    assert read_file_state(tmp_path) == read_file_state(tmp_path / "missing") == []
