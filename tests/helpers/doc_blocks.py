"""Pages of the documentation, done as they say: their ```sh blocks, run one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: Path, language: str = "sh") -> list[str]:
    """The fenced blocks of one language, in the page's order."""
    found: list[str] = []
    lines: list[str] | None = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if lines is None:
            if line.strip() == f"```{language}":
                lines = []
        elif line.strip() == "```":
            found.append("\n".join(lines) + "\n")
            lines = None
        else:
            lines.append(line)
    assert lines is None, f"{page} has a block that does not end"
    return found


def programs(folder: Path) -> Path:
    """A folder with the programs that an installation would put on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, target in project["scripts"].items():
        module, function = target.split(":")
        call = f"import sys; sys.argv[0] = '{name}'; from {module} import {function}; {function}()"
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{call}" "$@"\n')
        path.chmod(0o755)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment of a user who has the program installed, with one thread a process."""
    paths = [str(programs(folder)), os.environ["PATH"]]
    source = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join(source),
        "OMP_NUM_THREADS": "1",
    }


def walk(page: Path, folder: Path, programs_folder: Path) -> str:
    """Run a page's blocks as one script in a prepared folder; the first failure ends it.

    Returns
    -------
    str
        All that was said, each command behind a ``+``.
    """
    script = "".join(blocks(page))
    assert script, f"{page} has no ```sh block"
    ended = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(programs_folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout
