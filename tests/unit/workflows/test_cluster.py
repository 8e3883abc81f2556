"""Several processes are started by one command, on this computer or as a SLURM job array."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from heliodor.errors import BadInput
from heliodor.models.model_file import save_model
from heliodor.workflows import cluster, cluster_jobs, site_settings
from heliodor.workflows.cluster import StepPlan, cancel
from heliodor.workflows.cluster_settings import ClusterSettings
from heliodor.workflows.picking_status import read_status
from heliodor.workflows.submissions import Step, Submission
from helpers.cli import call, done
from helpers.fake_slurm import HOLD, write_slurm
from helpers.networks import discs, model, scattered, write_mrc

SHAPE = (72, 64)
PICK = ("pick", "--model", "m.safetensors", "mics", "--threads", 1, "-o", "out")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a model and micrographs, on a computer with SLURM."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    write_slurm(programs)
    monkeypatch.setenv("HELIODOR_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(site_settings, "SITE_FILE", tmp_path / "etc/heliodor.toml")
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
    limit = time.monotonic() + 600
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
        ("--cluster slurm --resume never", "keep what has been found"),
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


def test_more_gpus_than_this_computer_has_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    said = call(*PICK, "--cluster", "local", "--gpus", 2).sentence
    assert "PyTorch can use 1 GPU on this computer, not 2" in said
    assert "--gpus" in said
    assert not Path("out").exists()


def test_a_job_array_is_cancelled_by_its_number(project: Path) -> None:
    where = project / "out/.picking"
    where.mkdir(parents=True)
    for jobs, code in ((("17_0", "17_1"), 0), (("17; rm -r x",), 2), ((), 2)):
        steps = [Step("training", ("16",)), Step("picking", jobs)]
        Submission.begin("slurm", "run", steps, 6).write(project / "out")
        assert call("cancel", "out").code == code
        assert Path("scancelled").read_text() == "16 17"
    (where / "submitted.json").write_text("[")
    assert "is damaged" in call("cancel", "out").sentence
    assert "is damaged" in call("status", "out").sentence


def test_jobs_that_wait_are_shown_and_can_be_cancelled(project: Path) -> None:
    Path("bin", HOLD).touch()
    done(*PICK, "--cluster", "slurm", "--jobs", 3)
    lines = done("status", "out").out.splitlines()
    assert lines[:2] == [
        "out: submitted",
        "0 of 6 micrographs done, 0 failed, 0 in progress, 6 remaining",
    ]
    assert lines[2].startswith("`heliodor pick` was submitted to SLURM ")
    assert lines[2].endswith(" ago; `heliodor cancel out` stops it")
    assert lines[-1].split() == ["picking", "17", "3", "3", "(Resources)", "0", "0"]
    status = json.loads(done("status", "out", "--json").out)
    (step,) = status["submission"]["steps"]
    assert (status["state"], step["waiting"], step["reasons"]) == ("submitted", 3, ["Resources"])
    assert "stopped 3 processes" in done("cancel", "out").err
    assert Path("scancelled").read_text() == "17"
    assert "nothing has been picked into out" in call("status", "out").sentence


def test_jobs_that_ended_without_results_are_shown_with_where_their_messages_are(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bin", HOLD).touch()
    done(*PICK, "--cluster", "slurm", "--jobs", 2)
    Path("bin/17.ended").write_text("1")
    text = done("status", "out").out
    assert "out: interrupted" in text
    assert "the messages of the processes are in out/.picking/jobs" in text
    assert text.splitlines()[-1].split() == ["picking", "17", "2", "0", "0", "2"]
    monkeypatch.setenv("PATH", "")
    text = done("status", "out").out
    assert "out: submitted" in text
    assert "SLURM cannot be asked from here (squeue)" in text
    assert text.splitlines()[-1].split() == ["picking", "17", "2", "?", "?", "?"]


def test_results_of_an_earlier_run_are_not_those_of_jobs_that_wait(project: Path) -> None:
    done(*PICK)
    write_mrc(Path("mics/m9.mrc"), discs(SHAPE, scattered(SHAPE, 6, 12, 9), seed=9))
    assert read_status("out").state == "finished"
    Path("bin", HOLD).touch()
    done(*PICK, "--cluster", "slurm", "--jobs", 2)
    status = read_status("out")
    assert (status.state, status.done, status.remaining) == ("submitted", 6, 1)
    done(*PICK)
    assert read_status("out").state == "finished"


def test_site_defaults_fill_what_is_not_chosen(project: Path) -> None:
    Path("config/heliodor").mkdir(parents=True)
    Path("config/heliodor/heliodor.toml").write_text(
        '[cluster]\npartition = "cryo"\njobs = 6\nsetup = ["module load a", "module load b"]\n'
    )
    options = ("--cluster", "slurm", "--dry-run")
    lines = done(*PICK, *options, "--jobs", 4).out.splitlines()
    assert {"#SBATCH --partition=cryo", "#SBATCH --array=0-3%4"} <= {*lines}
    place = lines.index("module load a")
    assert lines[place + 1] == "module load b"
    assert "#SBATCH --array=0-5%6" in done(*PICK, *options).out
    Path("config/heliodor/heliodor.toml").write_text("[cluster]\npartitions = 1\n")
    refused = call(*PICK, *options).sentence
    assert "config/heliodor/heliodor.toml has the unknown key 'partitions'" in refused


def test_a_run_is_three_jobs_of_which_each_waits_for_those_before(project: Path) -> None:
    Path("labels.csv").write_text("micrograph,x,y\nm0,20,20\nm1,30,30\nm2,40,30\n")
    job = ("run", "mics", "--labels", "labels.csv", "--diameter", 20, "--memory", 3, "-o", "out")
    options = ("--pixel-size", 1.5, "--threshold=-0.5", "--scores", "dense", "--threads", 2)
    script = done(*job, *options, "--cluster", "slurm", "--jobs", 5, "--dry-run").out
    parts = script.split("#!/bin/bash")[1:]
    assert len(parts) == 3
    for part, dependency in zip(
        parts,
        (None, "afterok:JOB-OF-TRAINING", "afterok:JOB-OF-TRAINING,afterany:JOB-OF-PICKING"),
        strict=True,
    ):
        assert ("--dependency=" in part) == (dependency is not None)
        assert dependency is None or f"#SBATCH --dependency={dependency}\n" in part
        assert "#SBATCH --mem=3GB" in part
    commands = [line for line in script.splitlines() if " -m heliodor " in line]
    words = [line.partition(" -m heliodor ")[2] for line in commands]
    own = shlex.join(map(str, (*job, *options)))
    assert words == [
        f"{own} --stop-after training",
        "pick --model out/model.safetensors -o out --threshold=-0.5 --scores=dense --threads=2"
        " --pixel-size=1.5 --micrographs mics --part claim",
        own,
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--cluster slurm --resume never", "keep what has been found"),
        ("--cluster slurm --stop-after training", "leave out --stop-after"),
        ("--stop-after picking", "must be training, not 'picking'"),
        ("--cluster slurm --labels nowhere.star", "nowhere.star"),
        ("--jobs 3", "add --cluster local or slurm"),
    ],
)
def test_impossible_options_of_run_are_refused(project: Path, options: str, sentence: str) -> None:
    Path("labels.csv").write_text("micrograph,x,y\nm0,20,20\n")
    job = ("run", "mics", "--labels", "labels.csv", "--diameter", 20, "-o", "out")
    refused = call(*job, *options.split())
    assert refused.code == 2
    assert sentence in refused.sentence
    assert not Path("out/.picking/submitted.json").exists()


@pytest.mark.slow
def test_processes_on_this_computer_leave_what_one_leaves(project: Path) -> None:
    Path("mics/m2.mrc").write_bytes(b"damaged")
    assert call(*PICK[:-1], "one").code == 3
    ended = call(*PICK, "--cluster", "local", "--jobs", 2)
    assert ended.code == 3, ended.err
    assert "started 1 process beside this one in out" in ended.err
    assert picks() == picks("one")
    # The results are there; processes that cannot work are an error all the same.
    wrong = call(*PICK, "--cluster", "local", "--jobs", 1, "--device", "cuda:99")
    assert "the device 'cuda:99' cannot be used" in wrong.sentence


@pytest.mark.slow
def test_this_process_does_what_the_others_leave(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other processes end at once; this one picks all micrographs, and merges them."""
    done(*PICK[:-1], "one")
    monkeypatch.setattr("heliodor.workflows.cluster.sys.executable", "/bin/true")
    assert (
        "started 2 processes beside this one" in done(*PICK, "--cluster", "local", "--jobs", 3).err
    )
    assert picks() == picks("one")
    assert not Path("out/.picking/submitted.json").exists()


@pytest.mark.slow
def test_a_job_array_leaves_what_one_process_leaves(project: Path) -> None:
    done(*PICK[:-1], "one")
    said = done(*PICK, "--cluster", "slurm", "--jobs", 2).err
    assert "submitted job 17 with 2 processes" in said
    wait_for(project / "out/run.json")
    assert picks() == picks("one")


#: A training that learns nothing, for what must hold of any.
TRAINING = (
    *("--micrographs", "mics", "--labels", "labels.csv", "--diameter", 60, "--pixel-size", 6),
    *("--working-pixel-size", 7.5, "--network", "conv31", "--width", 2, "--epochs", 1),
    *("--epoch-updates", 3, "--expected-particles", 6, "--threads", 1),
)


def results(out: str) -> dict[str, bytes]:
    """Return the results, with the name of the folder left out; training.tsv has seconds."""
    names = ["model.safetensors", "autopick.star", "picks.tsv", "micrographs.tsv"]
    names += [str(path.relative_to(out)) for path in Path(out).rglob("*_autopick.star")]
    return {n: Path(out, n).read_bytes().replace(f"{out}/".encode(), b"") for n in sorted(names)}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_the_processes_of_a_run_leave_what_one_leaves(project: Path, where: str) -> None:
    lines = [
        f"m{seed},{x},{y}" for seed in range(3) for x, y in scattered(SHAPE, 6, 12, seed).tolist()
    ]
    Path("labels.csv").write_text("\n".join(["micrograph,x,y", *lines]) + "\n")
    # Settings of picking that a model's calibration depends on, too.
    job = ("run", *TRAINING, "--exclusion-radius", 40)
    done(*job, "-o", "one")
    said = done(*job, "-o", "out", "--cluster", where, "--jobs", 2).err
    if where == "slurm":
        assert "submitted jobs 17, 18, 19 with 4 processes" in said
        wait_for(project / "bin/19.ended")
        steps = read_status("out").submission.steps
        assert [(step.name, step.ended) for step in steps] == [
            ("training", 1), ("picking", 2), ("results", 1),
        ]  # fmt: skip
    assert results("out") == results("one")
    assert read_status("out").state == "finished"
    record = json.loads(Path("out/run.json").read_text())
    assert record["command"] == "run"
    # The last process found the model and the candidates.
    log = "\n".join(path.read_text() for path in Path("out/.picking/jobs").glob("*_log.err"))
    assert "training skipped" in log
    assert "already picked: 6 of 6 micrographs" in log


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_another_process_trains_as_this_one_does(project: Path, where: str) -> None:
    Path("labels.csv").write_text("micrograph,x,y\nm0,20,20\nm1,30,30\nm2,40,30\n")
    done("train", *TRAINING, "-o", "one")
    done("train", *TRAINING, "-o", "out", "--cluster", where)
    wait_for(project / "out/run.json")
    model = Path("one/model.safetensors").read_bytes()
    assert Path("out/model.safetensors").read_bytes() == model
    if where == "slurm":
        wait_for(project / "bin/17.ended")
        assert read_status("out").state == "finished"
    failed = call("train", *TRAINING, "-o", "out", "--cluster", "local", "--device", "cuda:99")
    assert "the process of the step 'training' failed" in failed.sentence


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
    assert process.returncode == 128 + signal.SIGTERM, said
    limit = time.monotonic() + 60
    while list(Path("out/.picking").glob("*-*-*.json")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    with pytest.raises(BadInput, match="no processes were started"):
        cancel("out")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")
def test_a_training_in_another_process_is_stopped(project: Path) -> None:
    Path("labels.csv").write_text("micrograph,x,y\nm0,20,20\nm1,30,30\nm2,40,30\n")
    out = str(project / "training")
    command = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "train"]
    words = [*map(str, TRAINING), "--epochs", "100000", "-o", out, "--cluster", "local"]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)

    def find_training() -> list[str]:
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        own = out.encode()
        return [c.decode() for c in commands if own in c and b"--cluster" not in c]

    wait_for(Path(out, ".training.safetensors"))
    assert any("heliodor" in own and "train" in own for own in find_training())
    cancel(out)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "the process of the step 'training' failed" in said
    limit = time.monotonic() + 60
    while find_training():
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert Path(out, ".training.safetensors").exists()


def test_the_settings_have_defaults_that_start_nothing() -> None:
    assert ClusterSettings().cluster is None


@pytest.mark.parametrize(
    ("options", "device", "works"),
    [
        ("--cluster local --jobs 2", "cpu", True),
        ("--cluster local --jobs 2", "cuda", False),
        ("--cluster slurm --jobs 2", "cpu", False),
    ],
)
def test_this_process_picks_where_it_uses_what_the_others_use(
    project: Path, monkeypatch: pytest.MonkeyPatch, options: str, device: str, works: bool
) -> None:
    plans = list[StepPlan]()

    def submit(command: str, own: list[StepPlan], *more: object) -> tuple[str, list[str]]:
        plans.extend(own)
        return "", []

    monkeypatch.setattr(cluster_jobs, "choose_device", lambda name: torch.device(device))
    monkeypatch.setattr(cluster_jobs, "submit", submit)
    done(*PICK, *options.split())
    assert [plan.own is not None for plan in plans] == [works]
