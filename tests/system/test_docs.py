"""The commands on the pages of the documentation work as written there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
import typer.main

from heliodor.cli.main import app
from heliodor.data.coordinates.formats import (
    read_picks,
    relion_autopick,
    relion_star,
)
from heliodor.data.star import write_blocks
from helpers.cli import done
from helpers.doc_blocks import (
    ROOT,
    blocks,
    commands,
    walk,
)
from helpers.fake_schedulers import write_schedulers

HOSTS = ROOT / "docs" / "integrations"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        command = typer.main.get_command(app)
        arguments = words[1:]
        while hasattr(command, "commands"):
            name = arguments.pop(0)
            if name.startswith("--"):
                break
            assert name in command.commands, words
            command = command.commands[name]
        options = {name for parameter in command.params for name in parameter.opts}
        options |= {name.replace("-", "_").replace("__", "--", 1) for name in options}
        for word in arguments:
            if re.match(r"--?[a-z]", word):
                assert word in options | {"--help", "--version"}, words


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    """The site builds without warnings: no page, anchor or picture is missing."""
    pytest.importorskip("mkdocs", reason="the documentation site needs heliodor[docs]")
    pytest.importorskip("mkdocstrings", reason="the documentation site needs heliodor[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", tmp_path / "site"]
    settings = {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "site" / "commands" / "pick" / "index.html").exists()


@pytest.mark.slow
def test_tutorial(tmp_path: Path) -> None:
    """The first part works, and prints what the page quotes, up to the numbers."""
    page = ROOT / "docs" / "tutorial.md"
    (tmp_path / "work").mkdir()
    output = _without_numbers(walk(page, tmp_path / "work", tmp_path / "bin"))
    for line in "".join(blocks(page, "text")).splitlines():
        assert _without_numbers(line) in output, line


def _without_numbers(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"-?\d+(\.\d+)?", "0", text))


def test_blocks_are_those_of_one_language(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n```sh\none \\\n  more\n```\n```\nno\n```\n```python\nno\n```\n```sh\n```\n"
    )
    assert blocks(page) == ["one \\\n  more\n", "\n"]
    assert blocks(page, "python") == ["no\n"]
    page.write_text("```sh\none\n")
    with pytest.raises(AssertionError, match="does not end"):
        blocks(page)


def test_the_first_command_that_fails_ends_a_walk(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nx=1; heliodor --version\n```\n```sh\ntest $x = 2\ntouch never\n```\n")
    with pytest.raises(AssertionError, match="heliodor 0"):
        walk(page, tmp_path, tmp_path / "bin")
    assert not (tmp_path / "never").exists()


def relion_project(folder: Path) -> None:
    """A project with motion-corrected micrographs and manual picks in it."""
    job = folder / "MotionCorr/job002"
    look = ("--pixel-size", 7, "--size-px", "400x384", "--snr", 0.5, "--contaminants", 0)
    done("simulate", job, *look, "--count", 5, "--particles", 40, "--labels", 80)
    (job / "micrographs").rename(job / "Movies")
    table = folder / "CtfFind/job003/micrographs_ctf.star"
    table.parent.mkdir(parents=True)
    text = (job / "micrographs.star").read_text()
    table.write_text(text.replace("micrographs/", "MotionCorr/job002/Movies/"))
    names, files = [], []
    for name, own in read_picks(job / "labels.star").split_by_micrograph():
        names.append(f"MotionCorr/job002/Movies/{Path(name).name}")
        files.append(f"ManualPick/job004/Movies/{Path(name).stem}_manualpick.star")
        columns = {relion_star.X: own.xy_px[:, 0], relion_star.Y: own.xy_px[:, 1]}
        write_blocks(folder / files[-1], {"": columns})
    relion_autopick.write_coordinate_files(
        folder / "ManualPick/job004/manualpick.star", names, files
    )


@pytest.mark.slow
def test_relion(tmp_path: Path) -> None:
    project = tmp_path / "project"
    relion_project(project)
    output = walk(HOSTS / "relion.md", project, tmp_path / "bin")
    job = project / "External/job006"
    listed = starfile.read(job / "autopick.star")
    assert listed.iloc[0].tolist() == [
        "MotionCorr/job002/Movies/barrel_0001.mrc",
        "External/job006/Movies/barrel_0001_autopick.star",
    ]
    assert "distance of matched pairs: median" in output
    # The job and the command line leave the same picks, each of its own training.
    plain = (project / "heliodor/picks/picks.tsv").read_bytes()
    assert plain == (job / "picks.tsv").read_bytes()


@pytest.mark.slow
def test_cluster(tmp_path: Path) -> None:
    """However the work is divided, and whoever submits it, the picks are the same."""
    project = tmp_path / "project"
    relion_project(project)
    write_schedulers(tmp_path / "bin")
    output = walk(ROOT / "docs/cluster.md", project, tmp_path / "bin")
    subprocess.run(
        [sys.executable, "-c", "".join(blocks(ROOT / "docs/cluster.md", "python"))],
        cwd=project,
        env=os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )
    assert '"state": "finished"' in output
    assert "already picked: 5 of 5 micrographs" in output
    folders = [*(project / "heliodor").iterdir(), project / "External/job007"]
    assert len(folders) == 8
    assert len({(folder / "picks.tsv").read_bytes() for folder in folders}) == 1
    assert (project / "External/job007/RELION_JOB_EXIT_SUCCESS").exists()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with micrographs, labels.star, and the same labels as other programs have them."""
    folder = tmp_path / "scene"
    look = ("--pixel-size", 5, "--size-px", "480x400", "--snr", 1, "--contaminants", 0)
    done("simulate", folder, *look, "--count", 3, "--particles", 30, "--labels", 90)
    labels = folder / "labels.star"
    picks = read_picks(labels)
    relion_star.write_picks(labels, replace(picks, score=np.linspace(-1, 4, len(picks))))
    done("convert", labels, "-o", folder / "info", "--to", "eman2")
    shape = ("--shape-px", "480x400", "--pixel-size", 5)
    done("convert", labels, "-o", folder / "picked_particles.cs", *shape)
    return folder


@pytest.mark.parametrize(
    "page", ["../coordinates.md", pytest.param("scipion.md", marks=pytest.mark.slow)]
)
def test_pages_on_coordinates(page: str, scene: Path, tmp_path: Path) -> None:
    walk(HOSTS / page, scene, tmp_path / "bin")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["cryosparc.md", "eman2.md", "topaz.md"])
def test_pages_that_train(page: str, scene: Path, tmp_path: Path) -> None:
    done("convert", scene / "labels.star", "-o", scene / "labels_fullsize.txt")
    walk(HOSTS / page, scene, tmp_path / "bin")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python/index.md"])
def test_python_on_pages(page: str, scene: Path) -> None:
    shutil.copy(scene / "micrographs" / "barrel_0001.mrc", scene / "micrographs" / "001.mrc")
    script = "".join(blocks(ROOT / page, "python"))
    settings = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=scene,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(read_picks(scene / "picks.star")) > 0


def test_every_page_is_walked() -> None:
    walked = {"relion.md", "scipion.md", "cryosparc.md", "eman2.md", "topaz.md"}
    assert {page.name for page in HOSTS.glob("*.md")} <= walked
