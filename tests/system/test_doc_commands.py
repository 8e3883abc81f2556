"""Every command line on the pages is run as it is written, or it is said here which test runs it.

The ```sh blocks of pages whose commands build on each other are walked by `test_docs`. All other
lines are run here, page by page, in a project that has what they name.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from heliodor.data.coordinates.formats import read_picks, relion_star
from helpers import fake_relion
from helpers.cli import done
from helpers.doc_blocks import ROOT, environment, fenced_blocks
from helpers.fake_slurm import HOLD, write_slurm
from helpers.networks import scrambled
from helpers.shell_jobs import SMALL
from helpers.topaz_files import as_topaz, save, topaz_named

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Pages whose ```sh blocks `test_docs` runs as one script.
WALKED = {"tutorial.md", "cluster.md", "coordinates.md"} | {
    page.name for page in (DOCS / "integrations").glob("*.md")
}
#: Lines of blocks that are no command lines of heliodor, and what runs them, or why nothing does.
OTHERS = {
    r"(heliodor-environment/bin/)?pip install [^P]|python3 -m venv |scripts/wheelhouse.sh ": (
        "test_packaging: test_it_installs_and_works_without_a_network_and_leaves_nothing"
    ),
    r"conda (env create|activate) ": (
        "needs the packages of conda-forge; test_packaging: test_conda_installs_what_pip_would"
    ),
    r"scipion3 installp ": "needs Scipion; contrib: test_protocols",
    r"pip install PATH|export PATH=": "needs CCP-EM; contrib: test_jobs",
    r"python -m benchmarks\.|       --datasets ": (
        "takes days, and downloads; benchmarks: test_objectives_and_speed"
    ),
    r"#|cd /path/|for seed in|done$": "the shell's own; the lines between are run",
    r"\{\"time\": ": "output",
    r"picks: submitted|0 of 4812|`heliodor pick` was|step     job|picking  71342|$": "output",
}
#: Lines of heliodor that are not run here, and what runs them.
ELSEWHERE = {
    "heliodor demo": (
        "takes minutes; test_packaging:"
        " test_it_installs_and_works_without_a_network_and_leaves_nothing"
    ),
}
#: What stands for something else in a synopsis. The port may be in use here.
STAND_INS = {
    "MICROGRAPHS... [--labels L] [--diameter D] [-o PROJECT] [--port 8765]": (
        "micrographs.star --labels labels.star --diameter 180 -o APP_PROJECT"
    ),
    "heliodor app -o PROJECT": "heliodor app -o APP_PROJECT",
}
#: Added to trainings on particles, which take minutes as they are; `test_docs` trains as the
#: tutorial and the pages on other programs say.
SHORT = "--network conv31 " + " ".join(map(str, SMALL))
#: The order of a page that says first how to get a result, and then how to make what is needed.
ORDERS = {
    "filaments.md": (
        "convert ManualPick", "(check|convert|pick micrographs.star|status) ", "simulate ",
        "train ", "pick fibrils/", "evaluate ",
    ),
}  # fmt: skip


def lines_of(page: Path) -> list[str]:
    """Return the command lines of a page that `test_docs` does not walk, each on one line."""
    texts = [
        text
        for language, text in fenced_blocks(page)
        if language == "" or (language == "sh" and page.name not in WALKED)
    ]
    return [
        re.sub(r" +", " ", line.strip()) if line.strip().startswith("heliodor ") else line
        for text in texts
        for line in re.sub(r"\\\n\s*", " ", text).splitlines()
    ]


def commands_of(page: Path) -> list[str]:
    """Return those of them that can be run here, once each."""
    found = [line for line in lines_of(page) if line.startswith("heliodor ")]
    for name, value in STAND_INS.items():
        found = [line.replace(name, value) for line in found]
    patterns = ORDERS.get(page.name, ("",))
    # A line that no pattern has ends the test with StopIteration.
    found.sort(
        key=lambda line: next(
            place for place, own in enumerate(patterns) if re.match(f"heliodor {own}", line)
        )
    )
    once = dict.fromkeys(line for line in found if line not in ELSEWHERE)
    return [shortened(line) for line in once]


def shortened(line: str) -> str:
    """Return a line with the options of a short training, where it trains on particles."""
    is_long = re.match(r"heliodor (train|run) ", line) and not re.search(
        "--filaments|--cluster", line
    )
    return re.sub(r"^heliodor \w+", rf"\g<0> {SHORT}", line) if is_long else line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_is_known_what_runs_each_line(page: Path) -> None:
    for line in lines_of(page):
        assert line.startswith("heliodor ") or any(re.match(own, line) for own in OTHERS), line


def test_the_tests_that_run_the_other_lines_exist() -> None:
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "contrib").rglob("test_*.py")]
    texts = {path.stem: path.read_text() for path in files}
    for reason in [*OTHERS.values(), *ELSEWHERE.values()]:
        for name in re.findall(r"\btest_\w+", reason):
            assert name in texts or any(f"def {name}(" in text for text in texts.values()), name
    for page in WALKED:
        assert re.search(rf'[/"]{page}"', texts["test_docs"]), page


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with small micrographs, labels and results by all names that the pages use."""
    folder = tmp_path_factory.mktemp("project")
    look = ("--pixel-size", 5, "--size-px", "480x400", "--snr", 0.5, "--contaminants", 0)
    done("simulate", folder / "simulated", *look, "--count", 5, "--particles", 40, "--labels", 80)
    own = folder / "simulated"
    for name in ("micrographs", "Micrographs", "MotionCorr/job002/Movies", "."):
        shutil.copytree(own / "micrographs", folder / name, dirs_exist_ok=True)
    shutil.copy(own / "micrographs.star", folder)
    shutil.copy(own / "labels.star", folder)
    listed = (own / "micrographs.star").read_text()
    listed = listed.replace("micrographs/", "MotionCorr/job002/Movies/")
    for name in (
        "CtfFind/job003/micrographs_ctf.star",
        "MotionCorr/job002/corrected_micrographs.star",
        "PROJECT/CtfFind/job003/micrographs_ctf.star",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(listed)
    shutil.copytree(folder / "MotionCorr", folder / "PROJECT" / "MotionCorr", dirs_exist_ok=True)
    moved = {"labels": "ManualPick/job004/manualpick.star", "truth": "checked.star"}
    for name, target in moved.items():
        picks = read_picks(own / f"{name}.star")
        moved_names = [f"MotionCorr/job002/Movies/{Path(m).name}" for m in picks.micrographs]
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        renamed = replace(picks, micrographs=moved_names)
        relion_star.write_picks(folder / target, renamed)
    shutil.copy(folder / "checked.star", folder / "topaz.star")
    twice = ("--scale", 2, "--box-px", 40, "--shape-px", "960x800")
    done("convert", own / "labels.star", "-o", folder / "BoxFiles", "--to", "box", *twice)
    training = ("--labels", own / "labels.star", "--diameter", 180, "--network", "conv31", *SMALL)
    done("train", own / "micrographs.star", *training, "-o", folder / "trained")
    for name in ("model.safetensors", "M"):
        shutil.copy(folder / "trained" / "model.safetensors", folder / name)
    with topaz_named() as classes:
        save(as_topaz(scrambled("resnet8", 2), classes), folder / "model_epoch10.sav")
    done(
        "pick",
        folder / "CtfFind/job003/micrographs_ctf.star",
        "--diameter",
        180,
        "-o",
        folder / "picks",
    )
    return folder


def write_maps(folder: Path) -> None:
    """Write a density map by the names that the page on judging uses."""
    blob = np.exp(-(np.hypot(*np.ogrid[-16:16, -16:16])[:, :, None] + np.zeros(32)) / 4)
    for name in ("initial.mrc", "InitialModel/job010/initial.mrc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(folder / name) as file:
            file.set_data(blob.astype(np.float32))
            file.voxel_size = 5.0


def write_filaments(folder: Path) -> None:
    """Write micrographs of filaments, and their ends as RELION has them from picking by hand."""
    look = ("--pixel-size", 5, "--size-px", "480x400", "--contaminants", 0, "--snr", 0.5)
    filaments = ("--filament", "amyloid", "--count", 2)
    done("simulate", folder / "amyloid", *look, *filaments)
    shutil.rmtree(folder / "micrographs")
    shutil.copytree(folder / "amyloid" / "micrographs", folder / "micrographs")
    shutil.copy(folder / "amyloid" / "micrographs.star", folder)
    ends = folder / "amyloid" / "filaments.star"
    done("convert", ends, "-o", folder / "ManualPick/job003", "--to", "start-end")
    # Stands for what another program has traced on the micrographs that the page simulates.
    done("simulate", folder / "other", "--filament", "amyloid", "--count", 1, "--overlap")
    shutil.copy(folder / "other" / "filaments.star", folder / "traced.star")


def run(line: str, folder: Path, bin_folder: Path) -> None:
    """Run a command line; one for CUDA must be refused where there is none."""
    line = line.removesuffix(" &")
    settings = environment(bin_folder) | {"seed": "1", "SLURM_ARRAY_TASK_ID": "1"}
    if re.match(r"heliodor (app|watch) |.* --watch$", line):
        run_for_a_while(line, folder, settings)
        return
    ended = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=settings, capture_output=True, text=True
    )
    if re.search(r"cuda:|--cluster local .*--gpus", line) and torch.cuda.device_count() < 2:
        assert ended.returncode == 2, f"{line}\n{ended.stdout}{ended.stderr}"
        assert re.search("cuda|GPU", ended.stderr), ended.stderr
    else:
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"


def run_for_a_while(line: str, folder: Path, settings: dict[str, str]) -> None:
    """Run a command that ends when it is interrupted: the app, until its page can be read."""
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=folder, env=settings, stdout=output, stderr=subprocess.STDOUT,
            # Shells let what they start in the background ignore interruptions.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            until = time.monotonic() + 600
            while not is_at_work(line, log.read_text()):
                assert process.poll() is None, f"{line}\n{log.read_text()}"
                assert time.monotonic() < until, f"{line}\n{log.read_text()}"
                time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
    assert "Traceback" not in log.read_text(), log.read_text()
    assert code in (0, 130), f"{line}: {code}\n{log.read_text()}"


def is_at_work(line: str, said: str) -> bool:
    """Return whether the app answers, a micrograph has been picked, or a model trained."""
    if not line.startswith("heliodor app"):
        return re.search(r'"event": "picked"|waiting for other labels', said) is not None
    found = re.search(r"http://\S+", said)
    if found is None:
        return False
    with urllib.request.urlopen(found[0]) as answer:
        assert answer.status == 200
        return "<html" in answer.read().decode().lower()


RUN_PAGES = [page for page in PAGES if commands_of(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.name)
def test_command_lines(page: Path, project: Path, tmp_path: Path) -> None:
    folder, programs = tmp_path / "project", tmp_path / "bin"
    shutil.copytree(project, folder)
    fake_relion.install(programs)
    # Jobs wait for ever: what they do is the subject of test_cluster and test_slurm.
    write_slurm(programs)
    (programs / HOLD).touch()
    if page.name == "judge.md":  # nor would *.mrc elsewhere be micrographs alone
        write_maps(folder)
    if page.name == "filaments.md":
        write_filaments(folder)
    for line in commands_of(page):
        make_way(line, project, folder)
        run(line, folder, programs)


def make_way(line: str, project: Path, folder: Path) -> None:
    """Remove the results that another line of the page has written to the same folder."""
    if re.match("heliodor judge picks", line) and not (folder / "picks/picks.tsv").exists():
        shutil.rmtree(folder / "picks", ignore_errors=True)
        shutil.copytree(project / "picks", folder / "picks")
    if re.match("heliodor (pick|watch|simulate|run) ", line):
        written = re.search(r" -o (\w+)( |$)", line) or re.match(r"heliodor simulate (\w+)", line)
        shutil.rmtree(folder / (written[1] if written else "picks"), ignore_errors=True)
