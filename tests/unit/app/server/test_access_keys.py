"""Tokens and signed addresses."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.server.access_keys import AccessKeys, Rights

HOUR = 3600


def is_valid(keys: AccessKeys, address: str, seconds: float) -> bool:
    """Return whether a signed address is valid at a time."""
    path, _, query = address.partition("?")
    with mock.patch.object(time, "time", return_value=seconds):
        return keys.is_signed(path, query)


def sign(keys: AccessKeys, path: str, seconds: float, query: str = "") -> str:
    """Return the address that is signed at a time."""
    with mock.patch.object(time, "time", return_value=seconds):
        return keys.sign(path, query)


def test_an_exchanged_token_is_replaced_and_the_next_is_announced() -> None:
    announced: list[str] = []
    keys = AccessKeys(announced.append)
    first = keys.address_token
    assert keys.exchange("wrong") is None
    assert announced == []
    session = keys.exchange(first)
    assert session is not None
    assert keys.rights(session.token) is session.rights is Rights.ALL
    assert announced == [keys.address_token]
    assert keys.exchange(first) is None
    assert keys.exchange(announced[0]) == session
    assert {keys.rights(token) for token in (first, *announced, "", "\xff")} == {None}


def test_two_servers_share_nothing() -> None:
    one, other = AccessKeys(), AccessKeys()
    session = one.exchange(one.address_token)
    assert session is not None
    assert other.rights(session.token) is None
    assert other.exchange(one.address_token) is None
    path, _, query = one.sign("/report/report.html").partition("?")
    assert one.is_signed(path, query)
    assert not other.is_signed(path, query)


@given(st.floats(0, 4e9))
def test_a_signed_address_is_valid_for_one_to_two_hours(seconds: float) -> None:
    keys = AccessKeys()
    address = sign(keys, "/a", seconds)
    assert is_valid(keys, address, seconds)
    assert is_valid(keys, address, seconds + HOUR - 1)
    assert not is_valid(keys, address, seconds + 2 * HOUR)


def test_a_signed_address_stays_the_same_within_an_hour() -> None:
    keys = AccessKeys()
    first = sign(keys, "/a", 10 * HOUR)
    assert sign(keys, "/a", 11 * HOUR - 1) == first
    assert sign(keys, "/a", 11 * HOUR) != first


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/b", "expires={e}&signature={s}"),
        ("/a/", "expires={e}&signature={s}"),
        ("/a?expires={e}", "signature={s}"),
        ("/a", "signature={s}"),
        ("/a", "expires={e}"),
        ("/a", "expires={e}1&signature={s}"),
        ("/a", "expires={e}&signature={s}0"),
        ("/a", "expires={e}&signature=" + "0" * 64),
        ("/a", "signature={s}&expires={e}"),
        ("/a", "v=1&expires={e}&signature={s}"),
        ("/a", "expires={e}&signature={s}&v=1"),
        ("/a", "expires=٣&signature={s}"),
    ],
)
def test_a_signed_address_that_was_changed_is_refused(path: str, query: str) -> None:
    keys = AccessKeys()
    address = keys.sign("/a")
    expires, _, signature = address.removeprefix("/a?expires=").partition("&signature=")
    assert keys.is_signed("/a", f"expires={expires}&signature={signature}")
    words = {"e": expires, "s": signature}
    assert not keys.is_signed(path.format(**words), query.format(**words))


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from(["", "v=1", "a=b&c=d"]))
def test_every_signature_differs_from_those_of_other_paths_and_queries(
    name: str, query: str
) -> None:
    keys = AccessKeys()
    signed = keys.sign(f"/{name}", query).partition("?")[2]
    assert keys.is_signed(f"/{name}", signed)
    assert not keys.is_signed(f"/{name}x", signed)
    assert not keys.is_signed(f"/{name}", f"x={signed}")
