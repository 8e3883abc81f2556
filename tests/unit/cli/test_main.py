"""The program itself: its help, its version and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heliodor import __version__
from heliodor.cli.main import _expand_home
from heliodor.conventions import WORKING_DIAMETER_PX
from helpers.cli import done

CALL = "from heliodor.cli.main import main; main()"


@pytest.mark.parametrize(("words", "most"), [(["--help"], 250), (["pick", "--help"], 350)])
def test_help_imports_little_and_nothing_slow(words: list[str], most: int) -> None:
    """How long it takes is measured by ``benchmarks.speed.run`` (start)."""
    report = f"import sys, atexit; atexit.register(lambda: print(*sys.modules)); {CALL}"
    said = subprocess.run(
        [sys.executable, "-c", report, *words], check=True, capture_output=True, text=True
    ).stdout
    assert "Usage: heliodor" in said
    assert ("--exclusion-radius" in said) == ("pick" in words)
    loaded = set(said.splitlines()[-1].split())
    assert "heliodor.cli.main" in loaded
    assert len(loaded) < most
    assert not loaded & {"torch", "numpy", "scipy", "pandas", "matplotlib", "mrcfile", "rich"}


def test_a_real_process_ends_with_a_sentence_and_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALL, "simulate", str(tmp_path / "set"), "--particle", "cat"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "'cat'" in ended.stderr
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "command",
    ["run", "train", "pick", "evaluate", "preprocess", "simulate", "demo"],
)
def test_every_command_has_help(command: str) -> None:
    said = done(command, "--help").out
    assert said.startswith(f"Usage: heliodor {command} ")


@pytest.mark.parametrize("command", ["run", "train"])
def test_help_names_every_network(command: str) -> None:
    said = " ".join(done(command, "--help").out.split())
    names = said.partition("--network NAME ")[2].partition("[")[0]
    assert all(name in names for name in WORKING_DIAMETER_PX)
    sizes = said.partition("--working-pixel-size ANGSTROM ")[2].partition("]")[0]
    for name, pixels in WORKING_DIAMETER_PX.items():
        assert re.search(rf"/ {pixels:g} for (\w+ and )?{name}\b", sizes), name


def test_version() -> None:
    assert done("--version").out == f"heliodor {__version__}\n"


def test_a_bar_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from heliodor.utils import console

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress("picking") as progress:
        tick: Callable[[int, int], None] = progress
        tick(1, 2)
        tick(2, 2)


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("~/a.star", "/home/me/a.star"),
        ("--labels=~/a.star", "--labels=/home/me/a.star"),
        ("@~/list.txt", "@/home/me/list.txt"),
        ("--micrographs=@~/list.txt", "--micrographs=@/home/me/list.txt"),
        ("a~/b.star", "a~/b.star"),
        ("x/~/b.star", "x/~/b.star"),
        ("-o", "-o"),
        ("~", "~"),
    ],
)
def test_the_home_folder_is_expanded_where_the_shell_leaves_it(
    word: str, expanded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert _expand_home(word) == expanded
    (tmp_path / "~").mkdir()
    for name in ("a.star", "list.txt"):
        (tmp_path / "~" / name).touch()
    assert _expand_home(word) == word  # a file of that very name
