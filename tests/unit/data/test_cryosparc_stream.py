"""The compressed form of cryoSPARC's tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data import cryosparc_stream
from helpers import corpus
from helpers.file_bytes import stream


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x00", b""),
        (b"\x50hello", b"hello"),
        (b"\x1fa\x01\x00\x03\x20bc", b"a" * 23 + b"bc"),  # copies that overlap themselves
        (b"\x3aabc\x03\x00\x10d", b"abc" * 5 + b"abd"),
        (b"\xf0\x00" + b"x" * 15, b"x" * 15),
        (b"\xf0\xff\x00" + b"x" * 270, b"x" * 270),
    ],
)
def test_blocks_of_lz4(packed, plain):
    assert cryosparc_stream.decompress_lz4(packed, len(plain)) == plain
    for size in (len(plain) + 1, max(0, len(plain) - 1)):
        if size != len(plain):
            with pytest.raises(ValueError, match="compressed"):
                cryosparc_stream.decompress_lz4(packed, size)


def test_some_fields_are_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.cs"
    path.write_bytes(stream(corpus.cs_table(stems=("a",))))
    whole = cryosparc_stream.read_stream(path)
    some = cryosparc_stream.read_stream(path, ("location/micrograph_path", "uid"))
    assert set(some) == {"location/micrograph_path", "uid"}
    for name, values in some.items():
        np.testing.assert_array_equal(values, whole[name])
    assert cryosparc_stream.read_fields(path) == (frozenset(whole), 40)
