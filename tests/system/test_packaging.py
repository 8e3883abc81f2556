"""Installing: the files that other ways than pip need, and an installation without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from heliodor import __version__

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    """Return what pyproject.toml says about the package."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build_system() -> dict[str, Any]:
    """Return what pyproject.toml says about building the package."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]


def requirements() -> dict[str, str]:
    """Return the lowest versions of what the package needs, by name."""
    return dict(need.split(">=") for need in project()["dependencies"])


#: What conda-forge calls packages that have another name on PyPI.
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
#: The modules of EasyBuild that bring what has no module of its own.
BUNDLES = {
    "jinja2": "Python-bundle-PyPI",
    "numpy": "SciPy-bundle",
    "scipy": "SciPy-bundle",
    "starlette": "FastAPI",
    "tifffile": "scikit-image",
    "torch": "PyTorch",
    "typer": "FastAPI",
    "uvicorn": "FastAPI",
}


def lowest_versions(needs: list[str]) -> dict[str, str]:
    """Return the lowest versions in requirements like ``numpy>=1.26``, by the names of PyPI."""
    found = (re.fullmatch(r"([\w-]+) ?>=([\d.]+)", need) for need in needs)
    return {CONDA_NAMES.get(m[1], m[1]): m[2] for m in found if m}


def test_conda_installs_what_pip_would() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    needs = environment["dependencies"]
    assert lowest_versions([need for need in needs if isinstance(need, str)]) == requirements()
    assert needs[-1] == {"pip": ["--no-deps ."]}
    assert "pip" in needs
    (python,) = [need for need in needs if str(need).startswith("python=")]
    assert allows(python.removeprefix("python="))


def allows(python: str) -> bool:
    """Return whether the package can be installed into this version of Python."""
    lowest, above = re.findall(r"3\.(\d+)", project()["requires-python"])
    return int(lowest) <= int(python.split(".")[1]) < int(above)


def test_the_recipe_for_conda_builds_what_pip_would() -> None:
    text = (ROOT / "packaging" / "conda" / "meta.yaml").read_text()
    recipe = yaml.safe_load(jinja2.Template(text).render(PYTHON="python"))
    assert recipe["package"] == {"name": "heliodor", "version": __version__}
    needs = recipe["requirements"]
    python = "python " + project()["requires-python"]
    assert python in needs["host"]
    assert python in needs["run"]
    assert lowest_versions(needs["run"]) == requirements()
    assert set(build_system()["requires"]) <= set(needs["host"])
    scripts = [f"{name} = {target}" for name, target in project()["scripts"].items()]
    assert recipe["build"]["entry_points"] == scripts
    assert recipe["about"]["license"] == project()["license"]
    assert recipe["about"]["summary"] == project()["description"]


def test_easybuild_gets_what_pip_would() -> None:
    (path,) = (ROOT / "packaging" / "easybuild").iterdir()
    names: dict[str, Any] = {"SOURCE_TAR_GZ": "%(name)s-%(version)s.tar.gz"}
    exec(path.read_text(), names)  # as EasyBuild does
    assert (names["name"], names["version"]) == ("heliodor", __version__)
    assert path.stem == "heliodor-{}-{name}-{version}".format(__version__, **names["toolchain"])
    modules = {name.lower(): version for name, version in names["dependencies"]}
    assert allows(modules.pop("python"))
    needed = {BUNDLES.get(name, name).lower() for name in requirements()}
    assert needed == set(modules)
    for name, lowest in requirements().items():
        if name not in BUNDLES or name == "torch":
            version = modules[BUNDLES.get(name, name).lower()]
            assert as_numbers(version) >= as_numbers(lowest), name
    assert [name for name, _ in names["builddependencies"]] == build_system()["requires"]
    programs = {f"bin/{name}" for name in project()["scripts"]}
    assert set(names["sanity_check_paths"]["files"]) == programs


def as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_module_makes_the_programs_available(tmp_path: Path) -> None:
    """Lmod itself reads the module file, where it is installed."""
    lmod = Path(os.environ.get("LMOD_CMD", "/usr/share/lmod/lmod/libexec/lmod"))
    if not lmod.exists():
        pytest.skip("Lmod is not installed")
    place = tmp_path / "heliodor" / f"{__version__}.lua"
    place.parent.mkdir()
    place.write_text((ROOT / "packaging" / "heliodor.lua").read_text())
    settings = {"HOME": str(tmp_path), "MODULEPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        f'eval "$({lmod} bash load heliodor)" && echo "$PATH" && echo "$HELIODOR_SITE_MODELS"',
        shell=True, executable="bash", env=settings, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    path, models = ended.stdout.splitlines()
    assert path.startswith("/opt/heliodor/programs:")
    assert models == "/opt/heliodor/models"


def test_the_scripts_are_valid_shell() -> None:
    for script in sorted((ROOT / "scripts").glob("*.sh")):
        subprocess.run(["sh", "-n", script], check=True)
        assert os.access(script, os.X_OK)


#: Starts the app, reads its page, and interrupts it; the arguments are those of the app.
ASK_THE_APP = r"""
import re, signal, subprocess, sys, time, urllib.request
app = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
said = ""
while (found := re.search(r"http://\S+\s", said)) is None:
    line = app.stdout.readline()
    if not line:
        sys.exit(f"the app ended: {said}")
    said += line
with urllib.request.urlopen(found[0].strip(), timeout=60) as answer:
    page = answer.read().decode()
app.send_signal(signal.SIGINT)
rest, _ = app.communicate(timeout=60)
assert answer.status == 200 and "<html" in page.lower(), page[:500]
assert "Traceback" not in said + rest, said + rest
print(f"the app answered with {len(page)} characters and ended with {app.returncode}")
"""
#: Prints the interfaces of the network that a process sees.
INTERFACES = "import socket; print(*(name for _, name in socket.if_nameindex()))"


def without_network() -> list[str | Path]:
    """Return what to put in front of a command so that it sees no network but its own computer."""
    for unshare in (["unshare", "-n"], ["unshare", "-rn"]):
        words = [*unshare, "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]
        if shutil.which("unshare") is None or shutil.which("ip") is None:
            break
        if subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return [*words]
    pytest.skip("a process cannot be cut off from the network here: needs unshare and ip")


#: Part of new environments; a newer version takes its place if PyTorch needs that.
SETUPTOOLS = re.compile(r"/site-packages/(setuptools|pkg_resources|_distutils_hack|distutils-)")


#: What other programs keep for themselves, as docs/install.md says: matplotlib its list of fonts,
#: PyTorch an empty folder for compiled code, and pip asks Rust for its version where there is one.
OF_OTHERS = re.compile(r"\.(cache|config)/matplotlib|torchinductor_\w+$|\.rustup")


def files_below(folder: Path) -> set[str]:
    """Return the files and folders in a folder, but for setuptools and what Python compiles."""
    every = (path.relative_to(folder) for path in folder.rglob("*"))
    own = {str(path) for path in every if "__pycache__" not in path.parts}
    return {path for path in own if not SETUPTOOLS.search(path)}


@pytest.mark.slow
def test_it_installs_and_works_without_a_network_and_leaves_nothing(tmp_path: Path) -> None:
    """From the wheelhouse alone: install, doctor, demo, the app answers, uninstall."""
    cut_off = without_network()
    wheels, place, work = (tmp_path / name for name in ("wheelhouse", "environment", "work"))
    made = subprocess.run(
        [ROOT / "scripts" / "wheelhouse.sh", wheels, "--constraint", ROOT / "constraints.txt"],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"the packages cannot be downloaded: {made.stderr.strip()[-300:]}")
    assert "collected" in made.stdout
    venv.create(place, with_pip=True)
    at_first = files_below(place)
    # Neither an index nor a configuration of pip: only the folder.
    home, own = tmp_path / "home", tmp_path / "temporary"
    for folder in (home, own, work):
        folder.mkdir()
    clean = {
        "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(own),
        "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip

    def run(*words: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        ended = subprocess.run(
            [*cut_off, *words], cwd=work, env=clean, capture_output=True, text=True
        )
        assert ended.returncode in codes, f"{words}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        return ended.stdout

    python, pip, program = (place / "bin" / name for name in ("python", "pip", "heliodor"))
    assert run(python, "-c", INTERFACES).split() == ["lo"]
    run(pip, "install", "--quiet", "--no-cache-dir", "--no-index", "--find-links", wheels,
        "heliodor")  # fmt: skip
    installed = files_below(place)
    assert f"in {place}" in run(program, "doctor", codes=(0, 1))
    assert "Author: heliodor developers" in run(pip, "show", "heliodor")
    run(program, "demo")
    assert (work / "demo" / "results" / "report.html").stat().st_size > 0
    app = (program, "app", work / "demo" / "unseen" / "micrographs.star", "-o", "project")
    assert "the app answered" in run(python, "-c", ASK_THE_APP, *app, "--diameter", "150")

    assert files_below(place) == installed
    owned = run(pip, "freeze", "--exclude", "heliodor")
    assert "torch==" in owned
    run(pip, "uninstall", "--quiet", "--yes", "heliodor")
    assert not program.exists()
    left = [path for path in place.rglob("*heliodor*") if "site-packages" in path.parts]
    assert left == []
    assert run(pip, "freeze") == owned
    assert at_first <= files_below(place)
    # What others than heliodor brought goes as well: then the environment is as it was.
    names = [line.split("==")[0] for line in owned.splitlines()]
    run(pip, "uninstall", "--quiet", "--yes", *names)
    assert [path for path in files_below(place) - at_first if (place / path).is_file()] == []
    left_at_home = {path for path in files_below(home) if not OF_OTHERS.match(path)}
    assert left_at_home <= {".cache", ".config"}
    assert {path for path in files_below(own) if not OF_OTHERS.match(path)} == set()
    assert {path.name for path in work.iterdir()} == {"demo", "project"}
