"""The programs work, or say in a line why not, whatever their streams, locale and folder are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HELIODOR = "from heliodor.cli.entry import entry; entry()"
TOPAZ = "from heliodor.integrations.topaz.entry import entry; entry()"
#: Closes standard streams as `2>&-` does, and goes on as the program.
CLOSING = "import os, sys; [os.close(int(n)) for n in sys.argv[1]]; os.execv(sys.executable, "
CLOSING += "[sys.executable, '-c', *sys.argv[2:]])"
TABLE = "image_name,x_coord,y_coord\n日本,10,20\n"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "é.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def run(command: Sequence[object], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], encoding="utf-8", stderr=subprocess.PIPE, **more
    )


@pytest.mark.parametrize("closed", ["2", "012"])
@pytest.mark.parametrize("program", [HELIODOR, TOPAZ])
def test_closed_streams_do_not_matter(table: Path, program: str, closed: str) -> None:
    ended = run(["-c", CLOSING, closed, program, "convert", table, "-o", "out.txt"])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "日本" in Path("out.txt").read_text(encoding="utf-8")
    for text in (table.read_text(encoding="utf-8"), Path("out.txt").read_text(encoding="utf-8")):
        assert "wrote" not in text  # messages go nowhere, and not into a file


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        (HELIODOR, ["--version"]),
        (HELIODOR, ["check", "é.csv", "--json"]),
        (TOPAZ, ["--version"]),
        (TOPAZ, ["convert", "é.csv"]),
    ],
)
def test_a_full_disk_of_the_output_is_one_line(
    table: Path, program: str, words: list[str]
) -> None:
    with open("/dev/full", "w") as full:
        ended = run(["-c", program, *words], stdout=full)
    assert ended.returncode == 2
    assert "the output cannot be written (No space left" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_messages_that_cannot_be_written_stop_nothing(table: Path) -> None:
    command = [sys.executable, "-c", HELIODOR, "convert", str(table), "-o", "out.csv"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stderr=full).returncode == 0
    assert Path("out.csv").is_file()


@pytest.mark.parametrize("program", [HELIODOR, TOPAZ])
def test_a_current_folder_that_was_removed_is_one_line(tmp_path: Path, program: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os, sys; os.rmdir({str(gone)!r}); {program}"
    ended = run(["-c", code, "convert", tmp_path / "a.csv"], cwd=gone)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "the current folder cannot be used" in ended.stderr


@pytest.mark.parametrize("program", [HELIODOR, TOPAZ])
def test_names_are_utf_8_in_every_locale(table: Path, program: str) -> None:
    """Messages have the encoding of the locale."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["convert", table.name, "-o", "ü.txt"]
    ended = run(["-c", program, *words], env={**os.environ, **locale})
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert "日本" in Path("ü.txt").read_text(encoding="utf-8")
    assert ended.stderr.isascii()
