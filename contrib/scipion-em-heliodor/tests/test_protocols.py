"""The protocols: their forms, the commands that they run, and what they register."""

import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from scipion_host import IS_REAL, Project, connect, output_of

from heliodor_em.protocols import HeliodorProtPicking, HeliodorProtTraining

PACKAGE = Path(__file__).resolve().parents[1]

#: Does as heliodor does with the micrographs that it is given: those named bad* fail.
RECORDER = """#!{python}
import json, os, sys
words = sys.argv[1:]
folder = words[words.index("-o") + 1]
files = open(words[1][1:]).read().splitlines()
os.makedirs(folder, exist_ok=True)
with open("calls.jsonl", "a") as stream:
    stream.write(json.dumps(words) + "\\n")
failed = [f for f in files if os.path.basename(f).startswith("bad")]
good = [f for f in files if f not in failed]
if failed:
    with open(os.path.join(folder, "failed.tsv"), "w") as stream:
        stream.write("micrograph\\treason\\n" + "".join(f"{{f}}\\tdamaged\\n" for f in failed))
if "--no-such-option" in words:
    sys.exit(2)
if words[0] == "train":
    open(os.path.join(folder, "model.safetensors"), "w").close()
elif good:
    with open(os.path.join(folder, "picks.tsv"), "w") as stream:
        stream.write("micrograph\\tx_px\\ty_px\\tlog_odds\\tprobability\\tselected\\n")
        for f in good:
            stream.write(f"{{f}}\\t10.6\\t20.4\\t2.5\\t0.9\\t1\\n{{f}}\\t30\\t40\\t-2.5\\t0.1\\t0\\n")
sys.exit(0 if not failed else 3 if good else 2)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    program = tmp_path / "a folder" / "heliodor"
    program.parent.mkdir()
    program.write_text(RECORDER.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return _project(tmp_path, monkeypatch, program)


def _project(tmp_path, monkeypatch, program):
    monkeypatch.setenv("HELIODOR_PROGRAM", str(program))
    monkeypatch.chdir(tmp_path)
    if IS_REAL:
        import heliodor_em

        monkeypatch.setitem(heliodor_em.Plugin._vars, "HELIODOR_PROGRAM", str(program))
    return Project(tmp_path)


def micrographs(project, tmp_path, *names):
    source = tmp_path / "movies 100%"
    source.mkdir(exist_ok=True)
    for name in names:
        (source / name).write_bytes(_mrc())
    return project.micrographs([source / name for name in names])


def _mrc():
    """Return an MRC file of 64 x 64 pixels, as Scipion reads the size of the first micrograph."""
    header = bytearray(1024)
    header[0:16] = b"".join(n.to_bytes(4, "little") for n in (64, 64, 1, 2))
    header[28:40] = header[0:12]
    header[64:76] = b"".join(n.to_bytes(4, "little") for n in (1, 2, 3))
    header[208:212], header[212:216] = b"MAP ", b"DD\0\0"
    return bytes(header) + bytes(4 * 64 * 64)


def calls():
    return [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]


def option(words, name):
    return words[words.index(name) + 1]


def test_scipion_finds_the_plugin():
    text = (PACKAGE / "pyproject.toml").read_text()
    assert '[project.entry-points."pyworkflow.plugin"]\nheliodor_em = "heliodor_em"' in text
    if IS_REAL:
        from pwem import Domain

        found = importlib.metadata.entry_points(group="pyworkflow.plugin")
        assert "heliodor_em" in found.names
        assert Domain.getProtocols()["HeliodorProtPicking"] is HeliodorProtPicking
        assert "HeliodorModel" in Domain.getObjects()


def test_picks_become_coordinates_in_whole_pixels(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc", "bad.mrc", "c.mrc")
    picking = project.new(
        HeliodorProtPicking, diameter=180, threshold=-0.5, useGpu=False, numberOfThreads=3
    )
    connect(picking.inputMicrographs, mics)
    assert picking.validate() == []
    project.run(picking)
    found = output_of(picking, "outputCoordinates")
    found = found.get() if IS_REAL else found
    rows = [
        (c.getMicName(), *c.getPosition(), c._heliodorScore.get()) for c in found.iterCoordinates()
    ]
    assert rows == [("a.mrc", 11, 20, 2.5), ("c.mrc", 11, 20, 2.5)]
    assert found.getBoxSize() == 68
    (words,) = calls()
    assert words[0] == "pick"
    assert option(words, "--diameter") == "180"
    assert option(words, "--pixel-size") == "4"
    assert option(words, "--threshold") == "-0.5"
    assert option(words, "--threads") == "3"
    assert option(words, "--device") == "cpu"
    assert option(words, "--bad-areas") == "leave-out"
    assert "--adapt" not in words
    summary = "\n".join(picking.summary())
    assert "1 micrograph could not be used" in summary
    assert "bad.mrc: damaged" in summary


def test_each_batch_is_a_run_and_bad_ones_do_not_stop_the_others(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc", "bad1.mrc", "bad2.mrc", "d.mrc")
    picking = project.new(HeliodorProtPicking, diameter=100, streamingBatchSize=1, gpuList="2")
    connect(picking.inputMicrographs, mics)
    project.run(picking)
    assert len(calls()) == 4
    assert {option(words, "--device") for words in calls()} == {"cuda:2"}
    found = output_of(picking, "outputCoordinates")
    found = found.get() if IS_REAL else found
    assert [c.getMicName() for c in found.iterCoordinates()] == ["a.mrc", "d.mrc"]
    assert "2 micrographs could not be used" in "\n".join(picking.summary())


def test_an_error_of_the_program_fails_the_protocol(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc", "bad.mrc")
    picking = project.new(
        HeliodorProtPicking, diameter=100, useGpu=False, extraOptions="--no-such-option 'x y'"
    )
    connect(picking.inputMicrographs, mics)
    error = RuntimeError if IS_REAL else subprocess.CalledProcessError
    with pytest.raises(error, match="returned non-zero exit status 2"):
        project.run(picking)
    assert option(calls()[0], "--no-such-option") == "x y"


def test_every_option_of_the_picking_form_reaches_the_program(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc")
    (tmp_path / "my model.safetensors").touch()
    values = {"maxFdr": 0.1, "exclusionRadius": 80, "edgeMargin": 90.5, "maxContamination": 0.3}
    picking = project.new(
        HeliodorProtPicking, modelType=2, modelFile=str(tmp_path / "my model.safetensors"),
        boxSize=128, badAreas=1, useGpu=False, **values,
    )  # fmt: skip
    connect(picking.inputMicrographs, mics)
    assert picking.validate() == []
    project.run(picking)
    (words,) = calls()
    assert option(words, "--model") == str(tmp_path / "my model.safetensors")
    assert option(words, "--max-fdr") == "0.1"
    assert option(words, "--exclusion-radius") == "80"
    assert option(words, "--edge-margin") == "90.5"
    assert option(words, "--max-contamination") == "0.3"
    assert option(words, "--bad-areas") == "keep"
    assert "--diameter" not in words
    picking = project.new(HeliodorProtPicking, diameter=90, adapt=True, useGpu=False)
    connect(picking.inputMicrographs, mics)
    project.run(picking)
    assert "--adapt" in calls()[1]


def test_mistakes_in_the_forms_are_named(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc")

    def errors_of(**values):
        picking = project.new(HeliodorProtPicking, **values)
        connect(picking.inputMicrographs, mics)
        return " ".join(picking.validate())

    assert "needs the particle diameter" in errors_of()
    assert "Select a model" in errors_of(modelType=1)
    assert "does not exist" in errors_of(modelType=2, modelFile="none", boxSize=3)
    assert "Give the box size" in errors_of(modelType=2, modelFile=__file__)
    assert "not both" in errors_of(diameter=1, threshold=0, maxFdr=0.1)
    assert "between 0 and 1" in errors_of(diameter=1, maxFdr=10)
    assert "No closing quotation" in errors_of(diameter=1, extraOptions="'x")
    assert "a single GPU" in errors_of(diameter=1, gpuList="0,1")
    training = project.new(HeliodorProtTraining, start=2)
    connect(training.inputCoordinates, project.coordinates(mics, [(0, 1, 2)]))
    assert "Give the particle diameter" in " ".join(training.validate())
    assert "Select the trained model" in " ".join(training.validate())


def test_training_gets_the_coordinates_and_makes_a_model(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc", "b.mrc")
    training = project.new(
        HeliodorProtTraining, diameter=150.5, expectedParticles=40, recipe=1, start=1, seed=7,
        useGpu=False,
    )  # fmt: skip
    connect(training.inputCoordinates, project.coordinates(mics, [(1, 10, 20), (0, 30, 40)]))
    connect(training.inputNegatives, project.coordinates(mics, [(1, 5, 6)]))
    assert training.validate() == []
    project.run(training)
    (words,) = calls()
    a, b = Path(words[1][1:]).read_text().splitlines()
    assert (Path(a).name, Path(b).name) == ("a.mrc", "b.mrc")
    labels = Path(option(words, "--labels")).read_text()
    assert labels == f"micrograph\tx_px\ty_px\n{b}\t10\t20\n{a}\t30\t40\n"
    negatives = Path(option(words, "--negatives")).read_text()
    assert negatives == f"micrograph\tx_px\ty_px\n{b}\t5\t6\n"
    assert option(words, "--diameter") == "150.5"
    assert option(words, "--expected-particles") == "40"
    assert option(words, "--recipe") == "quick"
    assert option(words, "--from") == "scratch"
    assert option(words, "--seed") == "7"
    model = training.outputModel
    assert Path(model.getPath()).is_file()
    assert model.getDiameter() == 150.5

    picking = project.new(HeliodorProtPicking, modelType=1, useGpu=False)
    connect(picking.inputMicrographs, mics)
    connect(picking.inputModel, output_of(training, "outputModel"))
    assert picking.validate() == []
    project.run(picking)
    assert option(calls()[1], "--model") == model.getPath()
    assert picking.outputCoordinates.getBoxSize() == 58
    again = project.new(HeliodorProtTraining, diameter=150.5, start=2, useGpu=False)
    connect(again.inputCoordinates, output_of(picking, "outputCoordinates"))
    connect(again.startModel, output_of(training, "outputModel"))
    project.run(again)
    assert option(calls()[2], "--from") == model.getPath()


def test_training_without_particles_is_refused(project, tmp_path):
    mics = micrographs(project, tmp_path, "a.mrc")
    training = project.new(HeliodorProtTraining, diameter=100, useGpu=False)
    connect(training.inputCoordinates, project.coordinates(mics, []))
    with pytest.raises((ValueError, RuntimeError), match="no particles"):
        project.run(training)


def test_a_missing_program_is_named(monkeypatch):
    import heliodor_em

    monkeypatch.setitem(heliodor_em.Plugin._vars, "HELIODOR_PROGRAM", "/nowhere/heliodor")
    assert "/nowhere/heliodor was not found" in heliodor_em.Plugin.validateInstallation()[0]


@pytest.mark.slow
def test_training_and_picking_with_heliodor_itself(tmp_path, monkeypatch):
    """Most picks lie on simulated particles, and the damaged micrograph is reported."""
    program = os.environ.get("HELIODOR") or shutil.which(
        "heliodor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("heliodor is not installed")
    simulate = [program, "simulate", tmp_path / "sim", "--count", "3", "--size-px", "768x768"]
    subprocess.run([*simulate, "--pixel-size", "4", "--seed", "3"], check=True)
    files = sorted((tmp_path / "sim" / "micrographs").glob("*.mrc"))
    truth = _read_truth(tmp_path / "sim" / "truth.star")
    (tmp_path / "bad.mrc").write_bytes(_mrc()[:1100])
    project = _project(tmp_path, monkeypatch, program)
    mics = project.micrographs([*files, tmp_path / "bad.mrc"])
    centers = [
        (number, round(x), round(y))
        for number, file in enumerate(files)
        for x, y in truth[file.name][:20]
    ]
    training = project.new(
        HeliodorProtTraining, diameter=180, recipe=1, useGpu=False, numberOfThreads=1
    )
    connect(training.inputCoordinates, project.coordinates(mics, centers))
    project.run(training)
    picking = project.new(HeliodorProtPicking, modelType=1, useGpu=False, numberOfThreads=1)
    connect(picking.inputMicrographs, mics)
    connect(picking.inputModel, output_of(training, "outputModel"))
    project.run(picking)
    picks = [(c.getMicName(), *c.getPosition()) for c in picking.outputCoordinates]
    particles = sum(len(truth[file.name]) for file in files)
    near = sum(
        any((x - a) ** 2 + (y - b) ** 2 < 10**2 for a, b in truth[name]) for name, x, y in picks
    )
    print(f"{len(picks)} picks, {near} of them within 10 pixels of {particles} particles")
    assert near > 0.8 * len(picks)
    assert near > 0.7 * particles
    assert "bad.mrc" in "\n".join(picking.summary())


def _read_truth(path):
    found = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].endswith(".mrc"):
            found.setdefault(Path(words[0]).name, []).append((float(words[1]), float(words[2])))
    return found
