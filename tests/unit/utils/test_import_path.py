"""No command runs a file of the user that has the name of a module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from heliodor.app.server import batch_run, engine_client
from heliodor.utils.import_path import exclude_current_folder, python_command

#: Modules of Python and of other packages that the commands import.
NAMES = ("copy", "json", "logging", "numpy", "random", "shlex", "tempfile", "torch", "typer")
#: As the scripts that are installed start the programs.
PROGRAM = (sys.executable, "-c", "from heliodor.cli.entry import entry; entry()")
TOPAZ = (sys.executable, "-c", "from heliodor.integrations.topaz.entry import entry; entry()")


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with scripts of the user, which record that they are run."""
    for name in NAMES:
        line = f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n"
        (tmp_path / f"{name}.py").write_text(line)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ((*PROGRAM, "--version"), 0),
        # In a process of its own.
        ((*PROGRAM, "pick", "--micrographs", "no.mrc", "--diameter", "150", "-o", "out"), 2),
        ((sys.executable, "-m", "heliodor", "relion", "pick", "--in_mics", "no.star"), 2),
        ((*TOPAZ, "--version"), 0),
        (engine_client.COMMAND, 0),
        ((*batch_run.COMMAND, "convert", "no.star", "-o", "a.csv"), 2),
    ],
)
def test_files_in_the_current_folder_are_not_run(
    scripts: Path, command: Sequence[str], code: int
) -> None:
    """An empty entry, as `export PYTHONPATH=$PYTHONPATH:more` leaves it, is the current folder."""
    ours, theirs = os.pipe()
    if command == engine_client.COMMAND:  # it ends with its input; a command of the app is stopped
        os.close(theirs)
    with os.fdopen(ours) as stdin:
        ended = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": "" if "-m" in command else os.pathsep},
            stdin=stdin,
            capture_output=True,
            text=True,
        )
    if command != engine_client.COMMAND:
        os.close(theirs)
    assert not (scripts / "ran").exists(), (scripts / "ran").read_text()
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr


def test_only_the_current_folder_leaves_the_path(
    scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", str(scripts), "/other"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(scripts), "/other", "below"]))
    exclude_current_folder()
    assert sys.path == ["/other"]
    assert os.environ["PYTHONPATH"] == os.pathsep.join(["/other", "below"])


def test_where_the_package_is_in_the_current_folder_it_is_still_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Path(engine_client.__file__).parents[3]
    monkeypatch.chdir(source)
    monkeypatch.setattr(sys, "path", [str(source)])
    exclude_current_folder()
    assert sys.path == [str(source)]


def test_a_command_does_not_look_in_the_current_folder(scripts: Path) -> None:
    command = python_command("-c", "import sys; assert '' not in sys.path; import copy")
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    assert not (scripts / "ran").exists()
