"""The jobs: their forms, the commands that they run, and what they show."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heliodor_jobs.pick_job import HeliodorPick
from heliodor_jobs.train_job import HeliodorTrain

IS_REAL = os.environ.get("HELIODOR_REAL_HOST") == "1"
PACKAGE = Path(__file__).resolve().parents[1]
JOB = "AutoPick/job003/"


def job_of(job_class, **values):
    job = job_class()
    job.output_dir = JOB
    for name, value in values.items():
        job.joboptions[name].value = value
    return job


def words_of(job):
    """Return the arguments of heliodor in the single command of a job."""
    assert [r for r in job.validate_joboptions() if r.type == "error"] == []
    (command,) = job.get_commands()
    words = command.get_final_command(job.output_dir)
    assert words[0] == sys.executable
    assert Path(words[1]).name == "run_heliodor.py"
    return words[2:]


def errors_of(job):
    return " ".join(str(r) for r in job.validate_joboptions() if r.type == "error")


def option(words, name):
    return words[words.index(name) + 1]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program named heliodor on the PATH; returns a function that writes it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = folder / "heliodor"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    return write


def run(job):
    command = job.get_commands()[0].get_final_command(job.output_dir)
    return subprocess.run(command, capture_output=True, text=True)


def test_the_pipeliner_finds_the_jobs():
    text = (PACKAGE / "pyproject.toml").read_text()
    _, _, entries = text.partition('[project.entry-points."ccpem_pipeliner.jobs"]\n')
    found = dict(line.split(" = ") for line in entries.split("\n\n")[0].splitlines())
    for job_class in (HeliodorPick, HeliodorTrain):
        place = found[f'"{job_class.PROCESS_NAME}"'].strip('"')
        module, _, name = place.partition(":")
        assert getattr(importlib.import_module(module), name) is job_class
    if IS_REAL:
        from pipeliner.job_factory import new_job_of_type

        assert isinstance(new_job_of_type("heliodor.autopick"), HeliodorPick)
        assert isinstance(new_job_of_type("heliodor.autopick.train"), HeliodorTrain)


def test_the_job_needs_the_program(program, monkeypatch):
    program("exit 0\n")
    assert HeliodorPick().jobinfo.is_available
    monkeypatch.setenv("PATH", "/nowhere")
    assert not HeliodorPick().jobinfo.is_available


def test_picking_with_the_general_model():
    job = job_of(HeliodorPick, input_file="CtfFind/job002/micrographs_ctf.star", diameter=180)
    words = words_of(job)
    assert words[:4] == ["pick", "CtfFind/job002/micrographs_ctf.star", "-o", JOB]
    assert option(words, "--diameter") == "180"
    assert option(words, "--device") == "cpu"
    assert option(words, "--bad-areas") == "leave-out"
    assert not {"--threshold", "--adapt", "--model"} & set(words)
    job.create_output_nodes()
    (node,) = job.output_nodes
    assert node.name == f"{JOB}autopick.star"
    assert node.type == "MicrographCoordsGroup.star.heliodor.autopick"


def test_every_option_of_picking_reaches_the_program():
    job = job_of(
        HeliodorPick, input_file="m.star", model_kind="own model", model_file="m.safetensors",
        threshold=-0.25, exclusion_radius=80, edge_margin=0, bad_areas="keep",
        max_contamination=0.3, use_gpu=True, gpu_id=2, nr_threads=8, other_args="--scores dense",
    )  # fmt: skip
    words = words_of(job)
    assert option(words, "--model") == "m.safetensors"
    assert option(words, "--threshold") == "-0.25"
    assert option(words, "--exclusion-radius") == "80"
    assert option(words, "--edge-margin") == "0"
    assert option(words, "--bad-areas") == "keep"
    assert option(words, "--max-contamination") == "0.3"
    assert option(words, "--device") == "cuda:2"
    assert option(words, "--threads") == "8"
    assert option(words, "--scores") == "dense"
    assert "--diameter" not in words
    job = job_of(HeliodorPick, input_file="m.star", diameter=90, adapt=True, max_fdr=0.1)
    words = words_of(job)
    assert option(words, "--max-fdr") == "0.1"
    assert "--adapt" in words


def test_every_option_of_training_reaches_the_program():
    job = job_of(
        HeliodorTrain, input_file="m.star", input_coords="ManualPick/job004/manualpick.star",
        diameter=150.5, expected_particles=40, recipe="quick", start_model="m.safetensors", seed=7,
    )  # fmt: skip
    words = words_of(job)
    assert words[:2] == ["train", "m.star"]
    assert option(words, "--labels") == "ManualPick/job004/manualpick.star"
    assert option(words, "--diameter") == "150.5"
    assert option(words, "--expected-particles") == "40"
    assert option(words, "--recipe") == "quick"
    assert option(words, "--from") == "m.safetensors"
    assert option(words, "--seed") == "7"
    assert option(words, "-o") == JOB
    job.create_output_nodes()
    (node,) = job.output_nodes
    assert node.name == f"{JOB}model.safetensors"
    assert node.type == "MlModel.safetensors.heliodor"
    job = job_of(HeliodorTrain, input_file="m.star", input_particles="p.star", diameter=150)
    assert option(words_of(job), "--labels") == "p.star"


def test_mistakes_in_the_forms_are_named():
    assert "Particle diameter" in errors_of(job_of(HeliodorPick, input_file="m.star"))
    own = job_of(HeliodorPick, input_file="m.star", model_kind="own model")
    assert "Own model" in errors_of(own)
    both = job_of(HeliodorPick, input_file="m.star", diameter=1, threshold=0, max_fdr=0.1)
    assert "not both" in errors_of(both)
    share = job_of(HeliodorPick, input_file="m.star", diameter=1, max_fdr=10)
    assert "cannot be greater than 1" in errors_of(share)
    none = job_of(HeliodorTrain, input_file="m.star", diameter=1)
    assert "either coordinates or particles" in errors_of(none)
    two = job_of(HeliodorTrain, input_file="m.star", diameter=1, input_coords="a.star",
                 input_particles="b.star")  # fmt: skip
    assert "either coordinates or particles" in errors_of(two)


def test_only_real_errors_fail_a_job(program):
    job = job_of(HeliodorPick, input_file="m.star", diameter=100)
    program('echo said; echo "$2" >&2; exit 3\n')
    result = run(job)
    assert result.returncode == 0
    assert result.stdout.splitlines() == ["said", "m.star"]
    assert result.stderr == ""
    program("echo first >&2; echo why >&2; exit 2\n")
    result = run(job)
    assert (result.returncode, result.stderr) == (2, "why\n")
    (Path("bin") / "heliodor").unlink()
    if shutil.which("heliodor") is None:
        assert "was not found" in run(job).stderr


def test_aborting_a_job_stops_the_program(program):
    program("trap 'touch stopped; exit 143' TERM\ntouch started\nwhile :; do sleep 0.05; done\n")
    job = job_of(HeliodorPick, input_file="m.star", diameter=100)
    command = job.get_commands()[0].get_final_command(job.output_dir)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(200):
        if Path("started").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert Path("stopped").exists()


def test_the_loss_and_failures_of_a_training_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(JOB).mkdir(parents=True)
    (Path(JOB) / "training.tsv").write_text("epoch\tloss\n1\t0.5\n2\t0.25\n")
    (Path(JOB) / "failed.tsv").write_text("micrograph\treason\na.mrc\tdamaged\n")
    job = job_of(HeliodorTrain)
    graph, failed = job.create_results_display()
    assert (graph.dobj_type, graph.yvalues) == ("graph", [[0.5, 0.25]])
    assert failed.title == "1 micrograph could not be used"
    assert failed.display_data == "a.mrc: damaged"
    assert job.gather_metadata() == {"Epochs": 2, "Loss": 0.25, "FailedMicrographs": 1}


@pytest.mark.slow
def test_training_and_picking_with_heliodor_itself(tmp_path, monkeypatch):
    """Picks appear on simulated micrographs, and the damaged micrograph is reported."""
    folder = os.environ.get("HELIODOR_BIN", Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    if shutil.which("heliodor") is None:
        pytest.skip("heliodor is not installed")
    monkeypatch.chdir(tmp_path)
    simulate = ["heliodor", "simulate", "sim", "--count", "3", "--size-px", "768x768"]
    subprocess.run([*simulate, "--pixel-size", "4", "--seed", "3", "--labels", "60"], check=True)
    monkeypatch.chdir(tmp_path / "sim")  # names in a project are relative to its folder
    names = sorted(path.name for path in Path("micrographs").glob("*.mrc"))
    Path("micrographs/bad.mrc").write_text("broken")
    text = Path("micrographs.star").read_text().rstrip()
    last = text.splitlines()[-1]
    Path("all.star").write_text(text + "\n" + last.replace(names[-1], "bad.mrc") + "\n")
    training = job_of(HeliodorTrain, input_file="all.star", input_coords="labels.star",
                      diameter=180, recipe="quick")  # fmt: skip
    training.output_dir = "AutoPick/job001/"
    assert errors_of(training) == ""
    _run_in_project(training)
    model = "AutoPick/job001/model.safetensors"
    picking = job_of(HeliodorPick, input_file="all.star", model_kind="own model",
                     model_file=model)  # fmt: skip
    picking.output_dir = "AutoPick/job002/"
    _run_in_project(picking)
    found = picking.gather_metadata()
    assert (found["PickedMicrographs"], found["FailedMicrographs"]) == (3, 1)
    particles = sum(
        line.split()[0].endswith(".mrc")
        for line in Path("truth.star").read_text().splitlines()
        if line.strip()
    )
    print(f"{found['ParticleCount']} picks of {particles} particles")
    assert 0.8 * particles < found["ParticleCount"] < 1.2 * particles
    shown = picking.create_results_display()
    assert [item.dobj_type for item in shown] == ["image", "histogram", "text"]
    assert "bad.mrc" in shown[2].display_data


def _run_in_project(job):
    Path(job.output_dir).mkdir(parents=True)
    result = run(job)
    assert result.returncode == 0, result.stdout + result.stderr
