"""cryoSPARC's tables in their two forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.cryosparc_table import load_table, read_header
from heliodor.errors import BadInput
from helpers import corpus
from helpers.file_bytes import stream

FORMS = {"plain": corpus.cs, "compressed": stream}


@pytest.fixture(params=FORMS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a.cs"
    path.write_bytes(FORMS[request.param](corpus.cs_table()))
    return path


def test_the_header_says_what_the_table_has(table: Path) -> None:
    header = read_header(table)
    whole = load_table(table)
    assert header.fields == set(whole)
    assert {len(column) for column in whole.values()} == {header.rows} == {120}


def test_fields_can_be_read_alone(table: Path) -> None:
    some = load_table(table, ("uid", "no/such_field"))
    np.testing.assert_array_equal(some["uid"], np.arange(120) + 1)
    assert set(some) == {"uid"}


def test_two_tables_one_behind_another_are_refused(table: Path) -> None:
    table.write_bytes(2 * table.read_bytes())
    with pytest.raises(BadInput, match="more behind its table"):
        load_table(table)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x95CSDAT\0", b"data_\n"])
def test_other_files_are_refused_by_their_headers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.cs").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.cs"):
        read_header(tmp_path / "a.cs")
