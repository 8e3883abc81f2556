"""Each piece of work is claimed by one process, and none is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.errors import BadInput
from heliodor.picking import claims
from heliodor.picking.claims import Claims, Member, Presence, find_active, list_members
from heliodor.utils.files import is_running

HERE = Member.this_process("claim")


def member(name: str, machine: str = "another machine") -> Member:
    return Member(f"host-{name}-ab", "host", 7, machine, "claim")


def without_links(*_: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, "there are no links here")


@pytest.fixture(params=["links", "no links"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a folder on a file system with hard links, or without."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", without_links)
    return tmp_path


def test_of_many_threads_each_claims_work_that_no_other_has(folder: Path) -> None:
    names, found, start = [str(n) for n in range(200)], list[list[str]](), threading.Barrier(8)

    def work(number: int) -> None:
        with Presence(folder, member(str(number))).kept() as presence:
            own = Claims(folder / "claims", presence)
            start.wait()
            mine = list[str]()
            # Each from another place, and two pairs from the same.
            first = number // 2 * 50
            while (name := own.take_free(names[first:] + names[:first])) is not None:
                mine.append(name)
            found.append(mine)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(name for mine in found for name in mine) == Counter(names)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=25))
def test_in_any_order_of_claims_and_deaths_nothing_is_lost_or_held_twice(
    steps: list[tuple[int, bool]],
) -> None:
    """Four processes claim ten pieces in turn; some die, and are replaced."""
    from tempfile import TemporaryDirectory

    names = [str(n) for n in range(10)]
    with TemporaryDirectory() as place:
        folder = Path(place)
        made = 0

        def begin() -> tuple[Presence, Claims]:
            nonlocal made
            made += 1
            presence = Presence(folder, member(str(made)))
            presence.path.write_text(json.dumps(vars(presence.member)))
            return presence, Claims(folder / "claims", presence)

        workers = [begin() for _ in range(4)]
        held: list[set[str]] = [set() for _ in workers]
        for who, dies in [*steps, *((n % 4, False) for n in range(40))]:
            presence, own = workers[who]
            if dies:
                presence.path.unlink()
                workers[who], held[who] = begin(), set()
                continue
            own.refresh()
            name = own.take_free(names) or own.take_abandoned(names)
            if name is not None:
                assert not any(name in others for others in held)
                held[who].add(name)
        assert sorted(name for own in held for name in own) == sorted(names)


def test_a_claim_costs_no_file_where_there_are_links(tmp_path: Path) -> None:
    with Presence(tmp_path, HERE).kept() as presence:
        own = Claims(tmp_path / "claims", presence)
        for n in range(20):
            assert own.take(str(n))
        inodes = {path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
        assert len(inodes) == 1
        own.remove()
        assert [path.name for path in tmp_path.iterdir()] == [presence.path.name]
    assert [*tmp_path.iterdir()] == []


def test_a_link_whose_answer_was_lost_is_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def twice(*arguments: Any) -> None:
        link(*arguments)
        link(*arguments)

    with Presence(tmp_path, HERE).kept() as presence:
        own = Claims(tmp_path / "claims", presence)
        monkeypatch.setattr(os, "link", twice)
        assert own.take("a")
        other = Presence(tmp_path, member("1"))
        with other.kept():
            assert not Claims(tmp_path / "claims", other).take("a")


def test_a_claim_ends_with_its_process_or_with_its_renewals(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Presence(folder, member("1")).kept() as first:
        one = Claims(folder / "claims", first)
        assert one.take("a")
        assert one.take("a")
        with Presence(folder, member("2")).kept() as second:
            two = Claims(folder / "claims", second)
            assert not two.take("a")
            assert two.holder("a") == first.member
            # By the clock of the file system.
            old = second.now() - claims.EXPIRY_SECONDS
            os.utime(first.path, (old + 5, old + 5))
            assert not two.take("a")
            os.utime(first.path, (old - 5, old - 5))
            assert two.take("a")
            assert two.holder("a") == second.member
            # The first may have been suspended; it has lost its claim for others.
            first.renew()
            with Presence(folder, member("3")).kept() as third:
                assert not Claims(folder / "claims", third).take("a")
            two.release("a")
        assert not list(folder.glob("host-2-*"))


def test_the_clock_of_a_host_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Presence(tmp_path, member("1")).kept() as first,
        Presence(tmp_path, member("2")).kept() as second,
    ):
        monkeypatch.setattr("time.time", lambda: 10.0**10)
        assert not second.is_gone(first.member)
        os.utime(first.path, (1, 1))
        monkeypatch.setattr("time.time", lambda: 0.0)
        assert second.is_gone(first.member)


def test_a_presence_is_renewed_while_the_process_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0.01)
    with Presence(tmp_path, HERE).kept() as presence:
        os.utime(presence.path, (1, 1))
        limit = threading.Event()
        for _ in range(1000):
            if presence.path.stat().st_mtime > 1:
                break
            limit.wait(0.01)
        else:
            pytest.fail("it was not renewed")
    assert not presence.path.exists()


@pytest.mark.skipif(not claims._machine(), reason="machines are known on Linux")
def test_a_process_of_this_machine_that_ended_is_known_at_once(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_running(ended.pid)
    dead = replace(HERE, name="host-9-cd", process=ended.pid)
    alive = replace(HERE, name="host-8-ef", process=os.getppid())
    elsewhere = replace(dead, name="host-6-aa", machine="another")
    with Presence(tmp_path, HERE).kept() as presence:
        for other in (dead, alive, elsewhere):
            (tmp_path / f"{other.name}.json").write_text(json.dumps(vars(other)))
        assert [presence.is_gone(own) for own in (dead, alive, elsewhere)] == [True, False, False]
    assert find_active(tmp_path) in (alive, elsewhere)
    for other in (alive, elsewhere):
        (tmp_path / f"{other.name}.json").unlink()
    assert find_active(tmp_path) is None


def test_one_that_was_restarted_after_a_crash_has_its_claims(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIODOR_CRASHES", "1")
    monkeypatch.setenv("HELIODOR_COMMAND", "abcd")
    before = Presence(folder, Member.this_process("claim"))
    before.path.write_text(json.dumps(vars(before.member)))
    assert Claims(folder / "claims", before).take("a")
    # Killed here: its presence stays.
    again = Member.this_process("claim")
    assert again == before.member
    with Presence(folder, again).kept() as presence:
        own = Claims(folder / "claims", presence)
        assert own.take_free(["a"]) is None
        assert own.take_abandoned(["a"]) == "a"
        assert own.take_abandoned(["a"]) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"name": 3}', b"[" * 10000, b"null"],
)
def test_damaged_presences_and_claims_expire(tmp_path: Path, content: bytes) -> None:
    with Presence(tmp_path, HERE).kept() as presence:
        own = Claims(tmp_path / "claims", presence)
        claim = tmp_path / "claims" / "a.0"
        claim.write_bytes(content)
        (tmp_path / "some-1-host.json").write_bytes(content)
        assert not own.take("a")
        assert own.holder("a") is None
        os.utime(claim, (1, 1))
        assert own.take("a")
    assert list_members(tmp_path) == {}


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    odd = replace(HERE, name="../../x")
    (tmp_path / "a.json").write_text(json.dumps(vars(odd)))
    assert Member.read(tmp_path / "a.json") is None


def test_a_folder_that_cannot_be_written_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Presence(tmp_path, HERE).kept() as presence:
        (tmp_path / "file").touch()
        with pytest.raises(BadInput, match="cannot be created"):
            Claims(tmp_path / "file", presence)
        own = Claims(tmp_path / "claims", presence)
        monkeypatch.setattr(claims, "link_or_copy", without_links)
        with pytest.raises(BadInput, match="cannot be written"):
            own.take_free(["a"])
    gone = Presence(tmp_path / "missing", HERE)
    with pytest.raises(BadInput, match="cannot be written"), gone.kept():
        pytest.fail("it is not there")
