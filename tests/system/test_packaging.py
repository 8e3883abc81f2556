"""Installing: the files that other ways than pip need, and an installation without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def requirements() -> dict[str, str]:
    """Return the lowest versions of what the package needs, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(need.split(">=") for need in project["dependencies"])


def test_conda_installs_what_pip_would() -> None:
    text = (ROOT / "environment.yml").read_text()
    found = dict(re.findall(r"- ([\w-]+)>=([\d.]+)", text))
    other_names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    assert {other_names.get(name, name): v for name, v in found.items()} == requirements()


def test_the_scripts_are_valid_shell() -> None:
    for script in sorted((ROOT / "scripts").glob("*.sh")):
        subprocess.run(["sh", "-n", script], check=True)
        assert os.access(script, os.X_OK)


@pytest.mark.slow
def test_it_installs_without_a_network_and_leaves_nothing(tmp_path: Path) -> None:
    wheels, place = tmp_path / "wheelhouse", tmp_path / "environment"
    made = subprocess.run(
        [ROOT / "scripts" / "wheelhouse.sh", wheels, "--constraint", ROOT / "constraints.txt"],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"the packages cannot be downloaded: {made.stderr.strip()[-300:]}")
    assert "collected" in made.stdout
    venv.create(place, with_pip=True)
    before = {path.name for path in (place / "bin").iterdir()}
    # Neither an index nor a configuration of pip: only the folder.
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    pip = [place / "bin" / "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-index", "--find-links", wheels, "heliodor"]
    subprocess.run(install, check=True, env=clean)
    program = place / "bin" / "heliodor"
    said = subprocess.run([program, "doctor"], env=clean, capture_output=True, text=True)
    assert said.returncode in (0, 1), said.stderr
    assert f"in {place}" in said.stdout
    shown = subprocess.run([*pip, "show", "heliodor"], env=clean, capture_output=True, text=True)
    assert "Author: heliodor developers" in shown.stdout
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "heliodor"], check=True, env=clean)
    assert not program.exists()
    left = [path for path in place.rglob("*heliodor*") if "site-packages" in path.parts]
    assert left == []
    assert before <= {path.name for path in (place / "bin").iterdir()}
    assert not (tmp_path / ".config").exists()
