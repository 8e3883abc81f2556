"""Several processes are started by one command, on this computer or as a SLURM job array."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import submitit

from heliodor.cli.picking import _words_of_process
from heliodor.errors import BadInput
from heliodor.models.model_file import save_model
from heliodor.workflows import cluster
from heliodor.workflows.cluster import RequeuedCommand, cancel
from heliodor.workflows.cluster_settings import ClusterSettings
from helpers.cli import call, done
from helpers.networks import discs, model, scattered, write_mrc

SHAPE = (72, 64)
PICK = ("pick", "--model", "m.safetensors", "mics", "--threads", 1, "-o", "out")

#: Stands for sbatch: it starts all elements of the array and returns.
SBATCH = r"""#!@python@
import os, re, subprocess, sys
script = open(sys.argv[1]).read()
first, last = map(int, re.search(r"--array=.?(\d+)-(\d+)", script).groups())
for number in range(first, last + 1):
    own = {"SLURM_JOB_ID": str(18 + number), "SLURM_ARRAY_JOB_ID": "17"}
    own["SLURM_ARRAY_TASK_ID"] = str(number)
    subprocess.Popen(["bash", "-c", script], env={**os.environ, **own},
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 17")
"""
#: Stands for srun: it runs the command behind its own options.
SRUN = """#!@python@
import os, sys
words = sys.argv[sys.argv.index("@python@"):]
os.execv(words[0], words)
"""
SCANCEL = """#!@python@
import sys
open("scancelled", "w").write(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a model and micrographs, on a computer with SLURM."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scancel", SCANCEL)):
        (programs / name).write_text(text.replace("@python@", sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    save_model(tmp_path / "m.safetensors", model(normalization={"mode": "standard"}))
    for seed in range(6):
        image = discs(SHAPE, scattered(SHAPE, 6, 12, seed), seed=seed)
        write_mrc(tmp_path / f"mics/m{seed}.mrc", image)
    return tmp_path


def picks(out: str = "out") -> bytes:
    return Path(out, "picks.tsv").read_bytes()


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_the_script_of_a_job_array_is_shown(project: Path) -> None:
    options = "--cluster slurm --jobs 8 --partition gpu --gpus 1 --time 90 --memory 6 --account em"
    words = (*options.split(), "--setup", "module load cuda", "--array-parallelism", 2)
    script = done(*PICK, *words, "--dry-run").out
    lines = script.strip().splitlines()
    for option in (
        *("array=0-7%2", "partition=gpu", "gpus-per-node=1", "time=90", "mem=6GB", "account=em"),
        *("cpus-per-task=1", "requeue"),
    ):
        assert f"#SBATCH --{option}" in lines, script
    assert "module load cuda" in lines
    own = "pick --model m.safetensors mics --threads 1 -o out --part claim"
    assert lines[-1] == f"# {shlex.join([sys.executable, '-P', '-m', 'heliodor'])} {own}"
    assert not Path("out/.picking/submitted.json").exists()


def test_the_options_of_the_cluster_are_not_those_of_its_processes() -> None:
    words = [
        "pick",
        "--jobs",
        "3",
        "a.mrc",
        "--cluster=slurm",
        "--dry-run",
        "--setup=a b",
        "-o",
        "x",
    ]
    assert _words_of_process(words) == ["pick", "a.mrc", "-o", "x"]
    assert _words_of_process(["--gpus"]) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--jobs 3", "jobs is an option for a cluster; add --cluster local or slurm"),
        ("--partition gpu", "partition is an option for a cluster"),
        ("--cluster local --account x", "account is an option for slurm"),
        ("--cluster local --dry-run", "dry run is an option for slurm"),
        ("--cluster lsf", "the cluster must be local or slurm, not 'lsf'"),
        ("--cluster local --jobs 0", "jobs must be 1 or more"),
        ("--cluster slurm --time 1", "time must be 5 or more"),
        ("--cluster slurm --memory 0.1", "0.5 GB of memory or more"),
        ("--cluster slurm --part 1/2", "leave out --part"),
        ("--cluster slurm --resume never", "none of them can start over"),
        ("--cluster slurm --bad-area-masks", "which this model does not detect"),
    ],
)
def test_impossible_options_are_refused(project: Path, options: str, sentence: str) -> None:
    refused = call(*PICK, *options.split())
    assert refused.code == 2
    assert sentence in refused.sentence
    assert not Path("out/.picking/submitted.json").exists()


def test_without_submitit_nothing_is_submitted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "install 'heliodor[cluster]'" in call(*PICK, "--cluster", "local").sentence


def test_without_slurm_nothing_is_submitted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "there is no SLURM on this computer" in call(*PICK, "--cluster", "slurm").sentence
    assert "no processes were started in out" in call("cancel", "out").sentence


def test_a_job_array_is_cancelled_by_its_number(project: Path) -> None:
    where = project / "out/.picking"
    where.mkdir(parents=True)
    for jobs, code in ((["17_0", "17_1"], 0), (["17; rm -r x"], 2)):
        (where / "submitted.json").write_text(json.dumps({"cluster": "slurm", "jobs": jobs}))
        assert call("cancel", "out").code == code
        assert Path("scancelled").read_text() == "17"
    (where / "submitted.json").write_text("[")
    assert "is damaged" in call("cancel", "out").sentence


def test_a_command_whose_time_is_up_is_stopped_and_queued_again() -> None:
    command = RequeuedCommand([sys.executable, "-c", "import time; time.sleep(60)"])
    errors = list[BaseException]()

    def run() -> None:
        try:
            command()
        except submitit.core.utils.FailedJobError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while command._process is None:
        time.sleep(0.01)
    again = command.checkpoint()
    thread.join(30)
    assert not thread.is_alive()
    assert command._process.returncode == -signal.SIGTERM
    assert len(errors) == 1
    assert isinstance(again.function, RequeuedCommand)
    assert again.function.command == command.command


@pytest.mark.parametrize(("code", "is_error"), [(0, False), (3, False), (2, True)])
def test_micrographs_that_failed_are_no_error_of_a_process(code: int, is_error: bool) -> None:
    command = RequeuedCommand([sys.executable, "-c", f"raise SystemExit({code})"])
    if is_error:
        with pytest.raises(submitit.core.utils.FailedJobError, match="ended with code 2"):
            command()
    else:
        assert command() == ""


@pytest.mark.slow
def test_processes_on_this_computer_leave_what_one_leaves(project: Path) -> None:
    Path("mics/m2.mrc").write_bytes(b"damaged")
    assert call(*PICK[:-1], "one").code == 3
    ended = call(*PICK, "--cluster", "local", "--jobs", 2)
    assert ended.code == 3, ended.err
    assert "started 2 processes in out" in ended.err
    assert picks() == picks("one")
    # The results are there; processes that cannot work are an error all the same.
    wrong = call(*PICK, "--cluster", "local", "--jobs", 1, "--device", "cuda:99")
    assert "the processes ended before" in wrong.sentence


@pytest.mark.slow
def test_a_job_array_leaves_what_one_process_leaves(project: Path) -> None:
    done(*PICK[:-1], "one")
    said = done(*PICK, "--cluster", "slurm", "--jobs", 2).err
    assert "submitted job 17 with 2 processes" in said
    wait_for(project / "out/run.json")
    assert picks() == picks("one")


@pytest.mark.slow
def test_processes_on_this_computer_are_stopped(project: Path) -> None:
    for seed in range(400):
        os.link("mics/m1.mrc", f"mics/n{seed}.mrc")
    command = [sys.executable, "-c", "from heliodor.cli.main import main; main()"]
    words = [*map(str, PICK), "--cluster", "local", "--jobs", "2", "--scores", "dense"]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not any(b'{"micro' in p.read_bytes() for p in Path("out").rglob("*.jsonl")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    cancel("out")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "the processes ended before all micrographs in out were done" in said
    limit = time.monotonic() + 60
    while list(Path("out/.picking").glob("*-*-*.json")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    with pytest.raises(BadInput, match="no processes were started"):
        cancel("out")


def test_the_settings_have_defaults_that_start_nothing() -> None:
    assert ClusterSettings().cluster is None
