from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.errors import BadInput
from heliodor.utils import files
from heliodor.utils.files import (
    LOCK_FILE,
    atomic_write,
    create_output_folder,
    create_subfolder,
    find_link,
    read_json,
    remove_partial_files,
    remove_subfolder,
    write_json,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "a.star"
    with atomic_write(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert aside.parent == path.parent
        assert aside.suffix == ".star"
        assert aside.name.startswith(".")
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as aside:
            aside.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_as_bad_input(tmp_path: Path):
    def fill() -> None:
        with atomic_write(tmp_path / "a.txt") as aside:
            aside.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match=r"a\.txt cannot be written \(No space"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deeper" / "a.txt"):
        with pytest.raises(BadInput, match="cannot be written"):
            write_text(place, "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_writing_again_replaces(tmp_path: Path):
    write_text(tmp_path / "a.txt", "1")
    write_text(str(tmp_path / "a.txt"), "ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "ü\n".encode()


def test_long_names(tmp_path: Path):
    name = "m" * 240 + ".star"
    write_text(tmp_path / name, "x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(values)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_json_keeps_the_order_and_has_no_nan(tmp_path: Path):
    write_json(tmp_path / "a.json", {"z": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "z": 1,\n  "a": "ü"\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))


def test_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = create_output_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert create_output_folder(str(folder)) == folder
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file, not a folder"):
        create_output_folder(tmp_path / "file")
    with pytest.raises(BadInput, match="cannot be created"):
        create_output_folder(tmp_path / "file" / "below")
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with pytest.raises(BadInput, match="is not writable"):
        create_output_folder(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="is not writable"):
        create_output_folder(tmp_path)
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(tmp_path / "a.txt", "x")
    tmp_path.chmod(0o700)


def test_only_partial_files_of_killed_processes_are_removed(tmp_path: Path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    running = os.getppid()
    for folder in (".", "mics", "run", "run/mics"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for process in (killed.pid, running):
            (tmp_path / folder / f".a.star.{process}.part.star").touch()
        (tmp_path / folder / ".notes.part").touch()
    (tmp_path / "run" / LOCK_FILE).touch()  # another command works there
    (tmp_path / "elsewhere").symlink_to(tmp_path / "run")
    remove_partial_files(tmp_path)
    left = {str(path.parent.relative_to(tmp_path)): 0 for path in tmp_path.rglob(".a.star.*")}
    for path in tmp_path.rglob(".a.star.*"):
        left[str(path.parent.relative_to(tmp_path))] += 1
    assert left == {".": 1, "mics": 1, "run": 2, "run/mics": 2}
    assert len([*tmp_path.rglob(".notes.part")]) == 4


def test_links_below_an_output_folder_are_found(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    out = tmp_path / "link_to_out"
    (tmp_path / "out").mkdir()
    out.symlink_to(tmp_path / "out")  # the folder itself may be one
    (out / "scores").symlink_to(tmp_path / "outside")
    assert find_link(out, out / "scores" / "1" / "a.star") == out / "scores"
    assert find_link(out, out / "models" / "a.star") is None
    assert create_subfolder(out, "models/1").is_dir()
    for name in ("scores", "scores/1"):
        with pytest.raises(BadInput, match="scores is a symbolic link"):
            create_subfolder(out, name)
    assert [*(tmp_path / "outside").iterdir()] == []


def test_threads_that_write_the_same_file_do_not_disturb_each_other(tmp_path: Path):
    path, together = tmp_path / "a.txt", threading.Barrier(4)

    def write(text: str) -> None:
        with atomic_write(path) as aside:
            aside.write_text(text)
            together.wait(10)
            assert aside.read_text() == text

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert path.read_text() in "abcd"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    "text", ["", "[NaN]", "[1e999]", '["\\ud800"]', "[" * 100_000, "\0", "[1", "9" * 5000]
)
def test_json_that_could_not_be_written_is_not_read(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        read_json(tmp_path / "a.json")


def test_results_of_before_are_removed_but_not_through_links(tmp_path: Path):
    remove_subfolder(tmp_path, "out")
    (tmp_path / "out" / "below").mkdir(parents=True)
    (tmp_path / "out" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").mkdir()
    with pytest.raises(BadInput, match="link is a symbolic link"):
        remove_subfolder(tmp_path, "out/link")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        remove_subfolder(tmp_path, "file")
    remove_subfolder(tmp_path, "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "precious"]
