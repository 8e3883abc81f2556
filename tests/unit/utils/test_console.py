"""Messages on every kind of stream."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heliodor.utils import console

CODE = (
    "import sys; from heliodor.utils import console; console.allow_any_terminal();"
    "console.show_messages(); import logging; logging.getLogger('heliodor.x').{level}({text!r});"
    "print({text!r})"
)


def shown(text: str, encoding: str, level: str = "info") -> tuple[str, str]:
    """What a process prints in an encoding: its standard error and its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(text=text, level=level)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    return done.stderr.decode(encoding).rstrip(), done.stdout.decode(encoding).rstrip()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "3.54 Å/pixel, 1024 × 1024, é"),
        ("latin-1", "3.54 Å/pixel, 1024 × 1024, é"),
        ("ascii", "3.54 A/pixel, 1024 x 1024, \\xe9"),
    ],
)
def test_what_a_terminal_cannot_show_is_replaced(encoding: str, expected: str) -> None:
    text = "3.54 Å/pixel, 1024 × 1024, é"
    assert shown(text, encoding) == (expected, expected)


def test_control_characters_are_shown_as_escapes() -> None:
    text = "a\x1b[2J\x9b\u202eb\tc\nd"
    assert shown(text, "utf-8")[0] == "a\\x1b[2J\\x9b\\u202eb\tc\nd"


def test_warnings_are_notes() -> None:
    assert shown("look", "utf-8", "warning")[0] == "note: look"
    assert shown("end", "utf-8", "error")[0] == "end"


def test_a_note_is_shown_once_per_command(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_messages()
    log = logging.getLogger("heliodor.x")
    for _ in range(2):
        with console.notes_shown_once():
            for _ in range(2):
                log.warning("look")
                log.info("read")
    log.warning("look")
    shown = ["note: look", "read", "read"]
    assert capsys.readouterr().err.splitlines() == [*shown, *shown, "note: look"]


def test_progress_is_ten_lines_or_so_in_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    console.show_messages()
    with console.progress("picking") as progress:
        for done in range(1, 1001):
            progress(done, 1000)
    lines = capfd.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[-1].startswith("picking: 1000 of 1000")


#: Shows progress, and waits in the middle until there is a file.
_PROGRESS = """
import sys, time
from pathlib import Path
from heliodor.utils.console import progress, show_messages
show_messages(style=sys.argv[2])
with progress("picking") as tell:
    tell(1, 3)
    while not Path(sys.argv[1], "gone").exists():
        time.sleep(0.01)
    tell(3, 3)
Path(sys.argv[1], "done").touch()
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no such terminals")
@pytest.mark.parametrize("style", ["auto", "lines", "json"])
def test_progress_goes_on_where_the_terminal_is_gone(tmp_path: Path, style: str) -> None:
    here, there = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRESS, str(tmp_path), style],
        stdin=there, stdout=there, stderr=there, start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(there)
    shown = b""
    while b"picking" not in shown:
        shown += os.read(here, 4096)
    os.close(here)
    (tmp_path / "gone").touch()
    process.wait(60)
    assert (tmp_path / "done").exists()


def test_nobody_is_shown_what_nobody_asked_for() -> None:
    code = (
        "import logging; from heliodor.utils import console;"
        "logging.getLogger('heliodor.x').info('hello');"
        "\nwith console.progress('work') as p: p(1, 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert isinstance(logging.getLogger("heliodor"), logging.Logger)


def test_progress_goes_where_logging_was_told_to_send_it() -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from heliodor.utils import console\n"
        "with console.progress('work') as p: p(1, 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"INFO:heliodor.utils.console:work: 1 of 1" in done.stderr


def test_nouns_agree_with_their_numbers() -> None:
    numbers = [console.count_of(number, "micrograph") for number in (0, 1, 2)]
    assert numbers == ["0 micrographs", "1 micrograph", "2 micrographs"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("name", "", "n"), ("a", "bc", "12")]
    assert console.align_columns(rows) == ["name      n", "a     bc  12"]
