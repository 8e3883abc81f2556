from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.utils.parsing import (
    detect_encoding,
    is_finite_number,
    parse_number,
    read_text,
)


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\ufeff")))
def test_texts_are_read_in_both_encodings(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        raw = text.encode(encoding)
        assert raw.decode(detect_encoding(raw)) == text


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xfc")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("value", "number"), [("1.5", 1.5), (b"2", 2.0), (None, math.nan), ("1,5", math.nan)]
)
def test_only_numbers_are_numbers(value: object, number: float) -> None:
    assert parse_number(value) == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "is_number"),
    [
        (1, True), (-1.5, True), (1e308, True), (2**63 - 1, True), (2**63, False),
        (-(2**70), False), (10**400, False), (math.nan, False), (math.inf, False), (True, False),
        ("1", False), (None, False),
    ],
)  # fmt: skip
def test_numbers_from_json_can_be_calculated_with(value: object, is_number: bool) -> None:
    assert is_finite_number(value) == is_number
