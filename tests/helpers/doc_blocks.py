"""Commands on the pages of the documentation: run their ```sh blocks, and find all others."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fenced_blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of all fenced blocks, in the order of the page."""
    found: list[tuple[str, str]] = []
    language: str | None = None
    lines: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if language is None:
            if line.strip().startswith("```"):
                language, lines = line.strip()[3:], []
        elif line.strip() == "```":
            found.append((language, "\n".join(lines) + "\n"))
            language = None
        else:
            lines.append(line)
    assert language is None, f"{page} has a block that does not end"
    return found


def blocks(page: Path, language: str = "sh") -> list[str]:
    """Return the fenced blocks of one language, in the order of the page."""
    return [text for each, text in fenced_blocks(page) if each == language]


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command line of heliodor in the fenced blocks of a page."""
    shell = (text for language, text in fenced_blocks(page) if language in ("", "sh"))
    lines = [line for text in shell for line in text.replace("\\\n", " ").splitlines()]
    found = (shlex.split(line, comments=True) for line in lines if line.startswith("heliodor "))
    return [words[: words.index("|")] if "|" in words else words for words in found]


def programs(folder: Path) -> Path:
    """Fill a folder with the programs that an installation puts on the PATH."""
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
    """Return the environment of a user of the program, with one thread per process."""
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
        The whole output, each command behind a ``+``.
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
