from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.arrivals import (
    PATIENCE_SECONDS,
    RECENT_SECONDS,
    Arrivals,
    Look,
)
from heliodor.data.micrographs.sources import Source
from heliodor.data.star import write_blocks
from helpers.networks import noise, write_mrc


class Watched:
    """A folder that is looked at, with a clock that the test sets."""

    def __init__(self, folder: Path, inputs: str | None = None) -> None:
        self.now = 1000.0
        #: Size of the file of each micrograph when it was dealt with.
        self.known: dict[str, int] = {}
        self.arrivals = Arrivals(inputs or str(folder / "*.mrc"), self._is_known, lambda: self.now)

    def _is_known(self, source: Source) -> bool:
        if source.name not in self.known:
            return False
        return source.path.exists() and source.path.stat().st_size == self.known[source.name]

    def look(self, after: float = 1.0) -> Look:
        self.now += after
        return self.arrivals.look()

    def pick(self, look: Look) -> list[str]:
        for source in look.arrived:
            self.known[source.name] = source.path.stat().st_size
        return [source.path.name for source in look.arrived]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    write_mrc(tmp_path / "whole.mrc", noise((32, 32)), 2.0)
    return (tmp_path / "whole.mrc").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "in"
    own.mkdir()
    return own


def test_a_file_has_arrived_when_it_is_whole_and_has_not_changed(
    folder: Path, whole: bytes
) -> None:
    watched = Watched(folder)
    assert watched.look().sources == []  # no file matches yet
    for part in (0, 500, 1024, len(whole) - 1):
        (folder / "a.mrc").write_bytes(whole[:part])
        look = watched.look()
        assert look.changed
        assert look.arrived == []
        assert watched.look().arrived == []  # unchanged, but incomplete
    (folder / "a.mrc").write_bytes(whole)
    assert watched.look().arrived == []  # it may still be changing
    assert watched.pick(watched.look()) == ["a.mrc"]
    again = watched.look()
    assert (again.arrived, again.incomplete, again.changed) == ([], {}, False)


def test_a_file_that_never_becomes_whole_has_arrived_after_a_while(
    folder: Path, whole: bytes
) -> None:
    watched = Watched(folder)
    (folder / "cut.mrc").write_bytes(whole[:-1])
    (folder / "text.mrc").write_bytes(b"no micrograph")
    watched.look()
    waiting = watched.look(PATIENCE_SECONDS - 1)
    assert waiting.arrived == []
    assert [Path(name).name for name in waiting.incomplete] == ["cut.mrc", "text.mrc"]
    assert "truncated" in waiting.incomplete[str(folder / "cut.mrc")]
    assert watched.pick(watched.look(1.0)) == ["cut.mrc", "text.mrc"]
    # When it goes on after all, it arrives once more.
    (folder / "cut.mrc").write_bytes(whole)
    assert watched.look().arrived == []
    assert watched.pick(watched.look()) == ["cut.mrc"]


def test_a_file_that_changes_soon_after_it_arrived_arrives_again(
    folder: Path, whole: bytes
) -> None:
    watched = Watched(folder)
    (folder / "a.mrc").write_bytes(whole)
    watched.look()
    watched.pick(watched.look())
    watched.look()
    (folder / "a.mrc").write_bytes(whole + b"1")
    watched.look()
    assert watched.pick(watched.look()) == ["a.mrc"]
    # Long after, it is no longer looked at.
    watched.look()
    (folder / "a.mrc").write_bytes(whole + b"12")
    assert not watched.look(RECENT_SECONDS + 1).incomplete


def test_files_that_are_renamed_into_place_arrive(folder: Path, whole: bytes) -> None:
    watched = Watched(folder)
    hidden = folder / ".a.mrc.part"
    hidden.write_bytes(whole)
    assert watched.look().sources == []
    hidden.rename(folder / "a.mrc")
    watched.look()
    assert watched.pick(watched.look()) == ["a.mrc"]


def test_a_list_that_grows_may_be_ahead_of_its_files(folder: Path, whole: bytes) -> None:
    star = folder / "micrographs.star"
    watched = Watched(folder, str(star))
    assert watched.look().sources == []
    names = [str(folder / f"{stem}.mrc") for stem in "ab"]
    (folder / "a.mrc").write_bytes(whole)
    write_blocks(star, {"micrographs": {"rlnMicrographName": names}})
    first = watched.look()
    assert first.incomplete[names[1]] == f"{names[1]} does not exist"
    assert watched.pick(watched.look()) == ["a.mrc"]
    star.write_text("data_micrographs\n\nloop_\n")  # while it is being written again
    assert [source.name for source in watched.look().sources] == names
    (folder / "b.mrc").write_bytes(whole)
    write_blocks(star, {"micrographs": {"rlnMicrographName": names}})
    late = watched.look()
    assert late.changed
    assert watched.pick(watched.look()) == ["b.mrc"]
    # A file that stays away is incomplete, however long that takes.
    write_blocks(star, {"micrographs": {"rlnMicrographName": [*names, "missing.mrc"]}})
    watched.look()
    missing = watched.look(10 * PATIENCE_SECONDS)
    assert (missing.arrived, list(missing.incomplete)) == ([], ["missing.mrc"])
    assert not missing.changed


def test_each_file_arrives_once_however_its_pieces_are_written(folder: Path, whole: bytes) -> None:
    random = np.random.default_rng(0)
    watched = Watched(folder)
    written = {f"{number}.mrc": 0 for number in range(8)}
    arrived: list[str] = []
    while len(arrived) < len(written):
        growing = [name for name, size in written.items() if size < len(whole)]
        for name in random.permutation(growing)[:3]:
            written[name] = min(len(whole), written[name] + int(random.integers(1, 2500)))
            (folder / name).write_bytes(whole[: written[name]])
        look = watched.look()
        assert all(source.path.stat().st_size == len(whole) for source in look.arrived)
        arrived += watched.pick(look)
    assert sorted(arrived) == sorted(written)
