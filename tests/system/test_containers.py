"""Containers: the Dockerfile is built by Buildah, and the steps of Apptainer's file run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
#: The releases of Debian by the version of their Python, which must be that of the wheels.
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
#: The name of an image with `python3` and `pip`, in place of the one that the files name.
BASE = "python-base"


def sections(path: Path) -> dict[str, str]:
    """Return the header of a definition file as the section "", and its sections by name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in path.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            assert name not in found, f"{path} has two sections {name}"
            found[name] = []
        elif not line.lstrip().startswith("#"):
            found[name].append(line.strip())
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def test_both_files_start_from_the_same_image_and_make_the_same_program() -> None:
    docker = (PACKAGING / "Dockerfile").read_text()
    apptainer = sections(PACKAGING / "heliodor.def")
    (image,) = [line[6:] for line in apptainer[""].splitlines() if line.startswith("From: ")]
    assert f"\nARG BASE=docker.io/library/{image}\n" in docker
    install = "pip install --no-cache-dir --no-index --find-links /opt/wheels heliodor"
    assert install in docker
    assert install in apptainer["post"].splitlines()
    assert apptainer["environment"] == "export " + "".join(
        line[4:] for line in docker.splitlines() if line.startswith("ENV ")
    )
    assert apptainer["runscript"] == 'exec heliodor "$@"'
    assert 'ENTRYPOINT ["heliodor"]' in docker.splitlines()


def test_a_definition_file_is_divided_into_sections(tmp_path: Path) -> None:
    path = tmp_path / "own.def"
    path.write_text("From: a\n# note\n%post\n    one\n    # note\n    two\n\n%test\n    three\n")
    assert sections(path) == {"": "From: a", "post": "one\ntwo", "test": "three"}
    path.write_text("%post\n%post\n")
    with pytest.raises(AssertionError, match="two sections"):
        sections(path)


class Buildah:
    """Buildah with images in a folder of its own, and without anything of the kernel's.

    That it needs no overlay file system and no namespaces lets it run in containers too.
    """

    def __init__(self, folder: Path) -> None:
        self.store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        # Images have the configuration of pip of whoever uses them: here none.
        kept = ("PATH", "LANG", "TMPDIR")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}

    def __call__(self, command: str, *arguments: object, cwd: Path | None = None) -> str:
        """Run a command and return what it prints; it must not fail."""
        words = ["buildah", *self.store, "--storage-driver", "vfs", command]
        ended = subprocess.run(
            [*words, *map(str, arguments)],
            cwd=cwd, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        return ended.stdout.strip()

    def run(self, container: str, *command: object) -> str:
        """Run a command in a container and return what it prints."""
        return self("run", "--isolation", "chroot", container, "--", *command)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that building and installing needs, in place of a network."""
    folder = tmp_path_factory.mktemp("wheels")
    steps: list[list[str | Path]] = [
        [ROOT / "scripts" / "wheelhouse.sh", folder, "--constraint", ROOT / "constraints.txt"],
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, "hatchling"],
    ]
    for step in steps:
        made = subprocess.run(
            step, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"the packages cannot be downloaded: {made.stderr.strip()[-300:]}")
    # The image is to be built from the sources.
    for own in folder.glob("heliodor-*.whl"):
        own.unlink()
    return folder


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Buildah, with an image of Debian that has this version of Python as `BASE`."""
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("debootstrap needs root")
    release = RELEASES.get(sys.version_info[:2])
    if release is None:
        pytest.skip(f"no release of Debian has Python {sys.version_info[0]}.{sys.version_info[1]}")
    folder = tmp_path_factory.mktemp("buildah")
    debian = folder / "debian"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=python3,python3-venv", release, debian],
        capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"Debian cannot be downloaded: {made.stdout.strip()[-300:]}")
    # Like the official images of Python: `pip` and what it installs are in /usr/local.
    subprocess.run(["chroot", debian, "python3", "-m", "venv", "/usr/local"], check=True)
    engine = Buildah(folder)
    container = engine("from", "scratch")
    engine("add", container, debian, "/")
    engine("commit", "--rm", container, BASE)
    shutil.rmtree(debian)
    yield engine
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_dockerfile(buildah: Buildah, wheels: Path) -> None:
    """Its image has the program, built from the sources as wheels, and nothing of the build."""
    buildah(
        "build", "--isolation", "chroot", "--build-arg", f"BASE=localhost/{BASE}",
        "--build-arg", "PIP_OPTIONS=--no-index --find-links /given",
        "--volume", f"{wheels}:/given:ro", "--file", PACKAGING / "Dockerfile",
        "--tag", "heliodor", ROOT,
    )  # fmt: skip
    container = buildah("from", "localhost/heliodor")
    entry = buildah("inspect", "--format", "{{.OCIv1.Config.Entrypoint}}", container)
    assert entry == "[heliodor]"
    assert works(buildah, container)
    left = buildah.run(container, "find", "/opt", "-mindepth", 1, "-not", "-empty")
    assert left == ""


@pytest.mark.slow
def test_the_steps_for_apptainer(buildah: Buildah, wheels: Path) -> None:
    """The sections of the definition file, run one after another as Apptainer does."""
    parts = sections(PACKAGING / "heliodor.def")
    given = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/given\n"
    container = buildah("from", "--volume", f"{wheels}:/given:ro", f"localhost/{BASE}")
    for line in parts["files"].splitlines():
        source, target = line.split()
        buildah("copy", container, ROOT / source, target)
    buildah.run(container, "sh", "-ec", given + parts["post"])
    assert works(buildah, container)
    buildah.run(container, "sh", "-ec", f"{parts['environment']}\n{parts['test']}")
    script = f"{parts['environment']}\n{parts['runscript']}"
    said = buildah.run(container, "sh", "-ec", script, "sh", "--version")
    assert said.startswith("heliodor ")
    assert buildah.run(container, "ls", "/opt") == ""


def works(buildah: Buildah, container: str) -> bool:
    """Return whether the program simulates and picks in a container."""
    folder = "/tmp/simulated"
    look = ("--pixel-size", 7, "--size-px", "400x384", "--count", 1)
    buildah.run(container, "heliodor", "simulate", folder, *look)
    picking = ("pick", f"{folder}/micrographs.star", "--diameter", 150, "-o", "/tmp/picks")
    buildah.run(container, "heliodor", *picking)
    return int(buildah.run(container, "sh", "-c", "wc -l < /tmp/picks/picks.tsv")) > 1
