"""Being an External job of RELION: exit files, output nodes, aborting and continuing."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks
from heliodor.errors import BadInput
from heliodor.integrations.relion import external_job
from heliodor.integrations.relion.external_job import (
    ABORT,
    ABORTED,
    FAILURE,
    OUTPUT_NODES,
    SUCCESS,
)
from heliodor.models.model_file import (
    NOVELTY_KEY,
    load_model,
    save_model,
)
from heliodor.models.novelty import NoveltyReference
from heliodor.picking import output_files
from heliodor.picking.journal import NAME as JOURNAL
from helpers.cli import (
    Result,
    call,
    done,
)
from helpers.networks import (
    discs,
    model,
    noise,
    scattered,
    write_mrc,
)

JOB = "External/job003/"
MICS = "CtfFind/job002/micrographs_ctf.star"
NAMES = [f"MotionCorr/job001/Movies/{name}.mrc" for name in ("a", "sub/a", "b", "c")]
PICK = ("relion", "pick", "--o", JOB, "--in_mics", MICS, "--model", "m.safetensors", "--j", 1)
EXITS = {SUCCESS, FAILURE, ABORTED}
RESULTS = ["autopick.star", "picks.tsv", "micrographs.tsv", OUTPUT_NODES]
RESULTS += [f"Movies/{name}_autopick.star" for name in ("a", "sub/a", "b", "c")]

JOB_STAR = "\n# version {version}\n\ndata_job\n\n_rlnJobType{label}   {type}\n"


def make_project(folder: Path, names: list[str] = NAMES, side: int = 72) -> Path:
    """A RELION project with a model in its root."""
    for seed, name in enumerate(names):
        xy = scattered((side, side - 8), 6, 12, seed)
        write_mrc(folder / name, discs((side, side - 8), xy, seed=seed))
    rows = "".join(f"{name} 1\n" for name in names)
    (folder / MICS).parent.mkdir(parents=True)
    (folder / MICS).write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 4.0\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{rows}"
    )
    reference = NoveltyReference.fit([noise((96, 96), 1)], 12)
    assert reference is not None
    own = {"background": -0.5, "extra": {NOVELTY_KEY: reference.as_dict()}}
    save_model(folder / "m.safetensors", model(normalization={"mode": "standard"}, **own))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path / "project"))
    return tmp_path / "project"


def exits(folder: str | Path = JOB) -> set[str]:
    """The files that tell RELION what became of a job, or ask it to stop."""
    return {p.name for p in Path(folder).iterdir() if p.name in EXITS | {ABORT}}


def bytes_of(folder: str | Path = JOB) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in RESULTS}


def changes() -> dict[str, int]:
    return {n: (Path(JOB) / n).stat().st_mtime_ns for n in RESULTS if n.startswith("Movies/")}


def journal() -> list[str]:
    return (Path(JOB) / JOURNAL).read_text().splitlines()


def entries(lines: list[str]) -> list[str]:
    """What a journal knows of micrographs, without the time at which it was found."""
    return [re.sub('"at": [^,]*, ', "", s) for s in lines if s.startswith('{"micrograph"')]


# ---- picking ----


def test_a_job_leaves_what_relion_reads(project: Path) -> None:
    result = done(*PICK)
    assert exits() == {SUCCESS}
    assert (Path(JOB) / SUCCESS).stat().st_size == 0
    assert result.err == ""  # what is in run.err looks like an error
    assert "picks on 4 micrographs" in result.out
    listed = starfile.read(f"{JOB}autopick.star", parse_as_string=[])
    assert listed["rlnMicrographName"].tolist() == NAMES
    files = listed["rlnMicrographCoordinates"].tolist()
    assert files == [
        f"{JOB}{n.removeprefix('MotionCorr/job001/').removesuffix('.mrc')}_autopick.star"
        for n in NAMES
    ]
    assert all(len(starfile.read(file)) > 3 for file in files)
    assert (Path(JOB) / "run.json").is_file()
    done("pick", "--model", "m.safetensors", "--micrographs", MICS, "-o", "plain")
    assert (project / JOB / "picks.tsv").read_bytes() == Path("plain/picks.tsv").read_bytes()


LABEL, NUMBER = "rlnPipeLineNodeTypeLabel", "rlnPipeLineNodeType"
V5 = "MicrographCoordsGroup.star.relion.autopick"
V4 = "MicrographsCoords.star.relion.autopick"


@pytest.mark.parametrize(
    ("version", "label", "file", "column", "value"),
    [
        (None, "", "autopick.star", LABEL, V5),
        (50001, "Label", "autopick.star", LABEL, V5),
        (30001, "Label", "autopick.star", LABEL, V4),
        (30001, "", "coords_suffix_autopick.star", NUMBER, 2),
    ],
)
def test_output_nodes_are_what_each_version_of_relion_reads(
    project: Path, version: int | None, label: str, file: str, column: str, value: object
) -> None:
    if version is not None:
        Path(JOB).mkdir(parents=True)
        kind = "relion.external" if label else 99
        told = JOB_STAR.format(version=version, label=label, type=kind)
        (Path(JOB) / "job.star").write_text(told)
    done(*PICK)
    nodes = starfile.read(f"{JOB}{OUTPUT_NODES}", always_dict=True)["output_nodes"]
    assert nodes.columns.tolist() == ["rlnPipeLineNodeName", column]
    assert nodes.to_numpy().tolist() == [[f"{JOB}{file}", value]]
    assert Path(JOB, file).is_file()
    if column == NUMBER:
        assert Path(JOB, file).read_text() == f"{MICS}\n"


def test_the_projects_pipeline_tells_relion_5_where_a_job_star_was_copied(project: Path) -> None:
    Path(JOB).mkdir(parents=True)
    copied = JOB_STAR.format(version=30001, label="Label", type="relion.external")
    (Path(JOB) / "job.star").write_text(copied)
    assert external_job.detect_relion_version(Path(JOB)) == 4
    Path("default_pipeline.star").write_text("\n# version 50001\n\ndata_pipeline_general\n")
    assert external_job.detect_relion_version(Path(JOB)) == 5


def test_parameters_may_have_dashes_or_underscores(project: Path) -> None:
    for name in ("--exclusion_radius", "--exclusion-radius"):
        done(*PICK, name, 24, "--threshold", "-1.5", "--edge_margin", 20)
        (kept,) = {tuple(bytes_of().items())}
        assert '"exclusion_radius_angstrom": 24.0' in journal()[0]
        assert '"edge_margin_angstrom": 20.0' in journal()[0]
        shutil.rmtree(JOB)
    assert dict(kept).keys() == set(RESULTS)


@pytest.mark.parametrize(
    ("gpu", "device"), [(("--gpu", 1), "cuda:1"), (("--gpu",), "cuda"), (("--gpu", "0"), "cuda:0")]
)
def test_gpu_names_a_device(project: Path, gpu: tuple[object, ...], device: str) -> None:
    said = call(*PICK[:-2], *gpu, "--j", 1)
    if said.code:
        assert f"the device '{device}' cannot be used" in said.sentence
        assert exits() == {FAILURE}


# ---- what goes wrong ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--in_movies", "m.star"), "--in_movies m.star means nothing to `relion pick`"),
        (("--in_parts", "p.star"), "leave that field of the Input tab empty"),
        (("--in_coords", "p.star"), "leave that field of the Input tab empty"),
        (("--in_3dref", "map.mrc"), "--in_3dref map.mrc"),
        (("--in_mask", "mask.mrc"), "--in_mask mask.mrc"),
        (("--in_tomograms", "t.star"), "--in_tomograms t.star"),
        (("--threshold",), "the parameter --threshold has no value"),
        (("--threshold", "--edge-margin", 3), "the parameter --threshold has no value"),
        (("--model", "nowhere.safetensors"), "nowhere.safetensors does not exist"),
        (("--in_mics", "none.star"), "none.star does not exist"),
        (("--j", 0), "at least 1"),
    ],
)
def test_what_cannot_be_used_is_said_and_fails_the_job(
    project: Path, arguments: tuple[object, ...], words: str
) -> None:
    result = call(*PICK, *arguments)
    assert result.code == 2
    assert words in result.sentence
    assert exits() == {FAILURE}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--treshold", 1),
        ("--threshold", "high"),
        ("stray",),
    ],
)
def test_words_that_no_command_understands_fail_the_job_too(
    project: Path, arguments: tuple[object, ...]
) -> None:
    assert call(*PICK, *arguments).code == 2
    assert exits() == {FAILURE}
    assert call("relion", "pock", *PICK[2:]).code == 2
    assert call("relion", "pick", "--o", JOB, "--j", 1).code == 2
    assert exits() == {FAILURE}


def test_a_crash_fails_the_job(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(*PICK)

    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(output_files, "write_picks", crash)
    with pytest.raises(ZeroDivisionError):
        call(*PICK)
    assert exits() == {FAILURE}
    monkeypatch.undo()
    os.chdir(project)
    done(*PICK)
    assert exits() == {SUCCESS}


def test_one_bad_micrograph_does_not_fail_the_job(project: Path) -> None:
    good = Path(NAMES[2]).read_bytes()
    Path(NAMES[2]).write_bytes(b"no micrograph")
    result = call(*PICK)
    assert result.code == 3
    assert exits() == {SUCCESS}
    assert NAMES[2] in (Path(JOB) / "failed.tsv").read_text()
    # Once it is mended, a continued job picks on it, and on it alone.
    Path(NAMES[2]).write_bytes(good)
    assert "already picked: 3 of" in done(*PICK).out
    assert not (Path(JOB) / "failed.tsv").exists()
    continued = bytes_of()
    shutil.rmtree(JOB)
    done(*PICK)
    assert bytes_of() == continued


def test_help_is_no_job(project: Path) -> None:
    for words in (("relion", "--help"), ("relion", "pick", "--help"), ("relion", "train", "-h")):
        done(*words)
    assert not Path("External").exists()


# ---- continuing ----


def test_a_continued_job_does_nothing_anew(project: Path) -> None:
    done(*PICK)
    before, then = bytes_of(), changes()
    assert "already picked: 4 of" in done(*PICK).out
    assert exits() == {SUCCESS}
    assert (bytes_of(), changes()) == (before, then)


def test_a_journal_of_another_form_is_begun_anew(project: Path) -> None:
    done(*PICK)
    whole, lines = bytes_of(), journal()
    head = json.loads(lines[0])
    older = [json.dumps({key: v for key, v in head.items() if key != "form"})]
    older += [json.dumps({**json.loads(line), "measured": None}) for line in lines[1:]]
    (Path(JOB) / JOURNAL).write_text("\n".join(older) + "\n")
    assert "done already" not in done(*PICK).out
    assert (bytes_of(), sorted(entries(journal()))) == (whole, sorted(entries(lines)))


def test_the_table_of_micrographs_has_what_was_measured(project: Path) -> None:
    done(*PICK)
    with (Path(JOB) / "micrographs.tsv").open() as stream:
        table = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["micrograph"] for row in table] == NAMES
    assert all(0 < float(row["unlike_training"]) <= 1 for row in table)
    assert all(-1 <= float(row["levelled_by"]) <= 1 for row in table)


def cut_off(line: str) -> str:
    return line[: len(line) // 2]


@pytest.mark.parametrize("mend", [lambda line: line, cut_off, lambda line: "{}"])
def test_an_interrupted_job_ends_as_if_nothing_had_interrupted_it(
    project: Path, mend: Callable[[str], str]
) -> None:
    done(*PICK)
    whole = bytes_of()
    # As it lay after two micrographs and a bit: the lists were not written, nor the last STARs.
    lines = journal()
    done_lines = [n for n, line in enumerate(lines) if line.startswith('{"micrograph"')]
    third = done_lines[2]
    (Path(JOB) / JOURNAL).write_text("\n".join([*lines[:third], mend(lines[third])]))
    for name in (*RESULTS[:4], "Movies/c_autopick.star"):
        (Path(JOB) / name).unlink()
    then = {name: (Path(JOB) / name).stat().st_mtime_ns for name in RESULTS[4:6]}
    assert "already picked: 2 of" in done(*PICK).out
    assert bytes_of() == whole
    assert {name: (Path(JOB) / name).stat().st_mtime_ns for name in RESULTS[4:6]} == then
    assert sorted(entries(journal())) == sorted(entries(lines))


def other_model() -> tuple[object, ...]:
    loaded = load_model("m.safetensors")
    with_weights = loaded.network.classifier.weight
    with_weights.data *= 1.01
    save_model("m.safetensors", loaded)
    return ()


def other_file() -> tuple[object, ...]:
    for name in NAMES:
        path = Path(name)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1  # a bit of the last pixel
        then = path.stat().st_mtime_ns
        path.write_bytes(data)
        os.utime(path, ns=(then, then))
    return ()


def other_pixel_size() -> tuple[object, ...]:
    Path(MICS).write_text(Path(MICS).read_text().replace("1 4.0", "1 4.1"))
    return ()


@pytest.mark.parametrize(
    "change",
    [
        other_model,
        other_file,
        other_pixel_size,
        lambda: ("--threshold", -9),
        lambda: ("--exclusion_radius", 30),
        lambda: ("--pixel_size", 4.2),
        lambda: ("--edge_margin", 30),
    ],
)
def test_what_was_made_with_something_else_is_made_anew(
    project: Path, change: Callable[[], tuple[object, ...]]
) -> None:
    done(*PICK)
    more = change()
    assert "done already" not in done(*PICK, *more).out
    changed = bytes_of()
    shutil.rmtree(JOB)
    done(*PICK, *more)
    assert bytes_of() == changed


@pytest.mark.parametrize("threshold", [-2, 0.5])
def test_another_threshold_needs_no_other_scores(project: Path, threshold: float) -> None:
    for name in NAMES:
        os.utime(name, ns=(1, 1))  # the same micrographs, copied
    done(*PICK)
    assert "already picked: 4 of" in done(*PICK, "--threshold", threshold).out
    changed = bytes_of()
    shutil.rmtree(JOB)
    done(*PICK, "--threshold", threshold)
    assert bytes_of() == changed


def test_picks_that_were_removed_are_made_again_and_edited_ones_stay(project: Path) -> None:
    done(*PICK)
    whole = bytes_of()
    removed, edited = Path(JOB, RESULTS[4]), Path(JOB, RESULTS[5])
    removed.unlink()
    edited.write_text(edited.read_text() + "\n")  # as by hand, in RELION's display
    said = done(*PICK).out
    assert "already picked: 4 of" in said
    assert "1 of the files *_autopick.star were changed since they were written" in said
    assert bytes_of()[RESULTS[4]] == whole[RESULTS[4]]
    assert bytes_of()[RESULTS[5]] == whole[RESULTS[5]] + b"\n"


def test_a_plain_picking_into_the_folder_may_be_continued_by_the_job(project: Path) -> None:
    done(*PICK)
    whole = bytes_of()
    plain = ("pick", "--model", "m.safetensors", "--micrographs", MICS, "-o", JOB)
    assert "already picked: 4 of" in done(*plain, "--threshold", 1).err
    assert bytes_of() != whole
    assert "already picked: 4 of" in done(*PICK).out
    assert bytes_of() == whole
    assert "done already" not in done(*plain, "--threshold", 1, "--resume", "never").err
    assert "already picked: 4 of" in done(*PICK).out
    assert bytes_of() == whole


def test_micrographs_that_came_later_are_added(project: Path) -> None:
    text = Path(MICS).read_text()
    Path(MICS).write_text(text.replace(f"{NAMES[1]} 1\n", ""))
    done(*PICK)
    Path(MICS).write_text(text)
    assert "already picked: 3 of" in done(*PICK).out
    continued = bytes_of()
    shutil.rmtree(JOB)
    done(*PICK)
    assert bytes_of() == continued


# ---- stopping ----

#: The program, which takes its time for each micrograph.
CALL = """
import time
from heliodor.picking.journal import Journal
add = Journal.add
Journal.add = lambda *arguments: (time.sleep(0.1), add(*arguments))[1]
from heliodor.cli.main import main
main()
"""
MANY = [f"MotionCorr/job001/Movies/{n:03d}.mrc" for n in range(60)]


def lines(project: Path) -> int:
    path = project / JOB / JOURNAL
    return 1 + path.read_bytes().count(b'\n{"micrograph"') if path.exists() else 0


def started(project: Path) -> subprocess.Popen[str]:
    """A picking that has done some of its micrographs, and has more before it."""
    before = max(1, lines(project))
    command = [sys.executable, "-c", CALL, *map(str, PICK)]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 60
    while lines(project) < before + 2:
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def ended(process: subprocess.Popen[str]) -> str:
    """What a stopped process said; it is no traceback."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    return out


@pytest.mark.slow
def test_stopping_a_real_process_and_continuing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user aborts; continued, the scheduler ends it; continued, it ends well."""
    monkeypatch.setattr(sys.modules[__name__], "RESULTS", RESULTS[:4])
    stopped, whole = (make_project(tmp_path / name, MANY) for name in ("stopped", "whole"))
    process = started(stopped)
    (stopped / JOB / ABORT).touch()
    ended(process)
    assert exits(stopped / JOB) == {ABORTED}
    assert not (stopped / JOB / "autopick.star").exists()

    process = started(stopped)
    assert exits(stopped / JOB) == set()
    process.send_signal(signal.SIGTERM)
    assert "already picked:" in ended(process)
    assert exits(stopped / JOB) == {FAILURE}

    monkeypatch.chdir(stopped)
    assert 5 <= lines(stopped) < 1 + len(MANY)
    assert f"already picked: {lines(stopped) - 1} of" in done(*PICK).out
    assert exits() == {SUCCESS}
    assert not list(Path(JOB).rglob("*.part*"))
    monkeypatch.chdir(whole)
    done(*PICK)
    # Times of the files differ between the projects, so the model's results alone are compared.
    assert bytes_of(stopped / JOB) == bytes_of(whole / JOB)
    for name in MANY:
        star = f"Movies/{Path(name).stem}_autopick.star"
        assert (stopped / JOB / star).read_bytes() == (whole / JOB / star).read_bytes()


@pytest.mark.slow
def test_a_job_that_is_running_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "RESULTS", RESULTS[:4])
    monkeypatch.chdir(make_project(tmp_path / "project", MANY))
    process = started(Path.cwd())
    assert f"already running in {Path(JOB)} (process {process.pid} on" in call(*PICK).sentence
    assert exits() == set()
    # Killed with no time to say so, it is neither running nor ended.
    process.kill()
    process.communicate(timeout=60)
    assert exits() == set()
    assert "already picked:" in done(*PICK).out
    assert exits() == {SUCCESS}
    whole = bytes_of()
    shutil.rmtree(JOB)
    done(*PICK)
    assert bytes_of() == whole


def test_a_job_that_was_aborted_while_it_waited_does_not_begin(project: Path) -> None:
    Path(JOB).mkdir(parents=True)
    (Path(JOB) / ABORT).touch()
    assert call(*PICK).code == 128 + signal.SIGTERM
    assert exits() == {ABORTED}
    assert not (Path(JOB) / JOURNAL).exists()
    done(*PICK)
    assert exits() == {SUCCESS}


def test_signals_are_as_before_after_a_job(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with external_job.run_as_job(tmp_path / "job"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(BadInput), external_job.run_as_job(tmp_path / "job"):
        raise BadInput("x")
    assert signal.getsignal(signal.SIGTERM) is before


# ---- training ----

TRAIN = ("relion", "train", "--o", "External/job004/", "--in_mics", MICS, "--diameter", 28)
TRAIN += ("--expected_particles", 6, "--network", "conv31", "--working_pixel_size", 4)
TRAIN += ("--width", 2, "--epochs", 1, "--epoch_updates", 2, "--j", 1)
LEARNT = Path("External/job004")


def write_labels(suffix: str = "_manualpick") -> str:
    """What RELION's manual picking leaves: a file a micrograph, and a list of them."""
    rows = ""
    for seed, name in enumerate(NAMES):
        stem = name.removeprefix("MotionCorr/job001/").removesuffix(".mrc")
        path = Path(f"ManualPick/job002/{stem}{suffix}.star")
        path.parent.mkdir(parents=True, exist_ok=True)
        xy = scattered((72, 64), 6, 12, seed)
        path.write_text(
            "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
            + "".join(f"{x} {y}\n" for x, y in xy)
        )
        rows += f"{name} {path}\n"
    head = "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    Path("ManualPick/job002/manualpick.star").write_text(head + rows)
    Path("ManualPick/job002/coords_suffix_manualpick.star").write_text(f"{MICS}\n")
    return "ManualPick/job002/manualpick.star"


def test_training_leaves_a_model_and_is_not_repeated(project: Path) -> None:
    coords = ("--in_coords", write_labels())
    result = done(*TRAIN, *coords)
    assert exits(LEARNT) == {SUCCESS}
    assert "on 24 labeled particles" in " ".join(result.out.split())
    assert {"model.safetensors", "training.tsv", "run.json"} <= {p.name for p in LEARNT.iterdir()}
    nodes = starfile.read(LEARNT / OUTPUT_NODES, always_dict=True)["output_nodes"]
    assert nodes.to_numpy().tolist() == [
        ["External/job004/model.safetensors", "ParamsData.safetensors.heliodor.model"]
    ]
    made = (LEARNT / "model.safetensors").stat().st_mtime_ns
    again = done(*TRAIN, *coords)
    assert "training skipped" in again.out
    assert "epoch" not in again.out
    assert exits(LEARNT) == {SUCCESS}
    assert (LEARNT / "model.safetensors").stat().st_mtime_ns == made
    # With more labels, or told otherwise, it is another training.
    star = Path("ManualPick/job002/Movies/b_manualpick.star")
    star.write_text(star.read_text() + "50 50\n")
    assert "on 25 labeled particles" in " ".join(done(*TRAIN, *coords).out.split())
    assert "epoch 1 of 2" in done(*TRAIN, *coords, "--epochs", 2).out
    picking = ("--model", LEARNT / "model.safetensors", "--j", 1)
    done("relion", "pick", "--o", JOB, "--in_mics", MICS, *picking)


def test_labels_of_relion_3_1_are_found_by_their_suffix(project: Path) -> None:
    listed = write_labels()
    done(*TRAIN, "--in_coords", listed)
    plain = (LEARNT / "model.safetensors").read_bytes()
    shutil.rmtree(LEARNT)
    done(*TRAIN, "--in_coords", "ManualPick/job002/coords_suffix_manualpick.star")
    assert (LEARNT / "model.safetensors").read_bytes() == plain
    assert len(read_picks(LEARNT / "labels.star")) == 24
    assert "training skipped" in done(*TRAIN, "--in_coords", LEARNT / "labels.star").out
    Path("ManualPick/job002/coords_suffix_other.star").write_text(f"{MICS}\n")
    result = call(*TRAIN, "--in_coords", "ManualPick/job002/coords_suffix_other.star")
    assert "no coordinate file next to" in result.sentence
    assert exits(LEARNT) == {FAILURE}


def test_relion_3_1_has_no_node_for_a_model(project: Path) -> None:
    LEARNT.mkdir(parents=True)
    (LEARNT / "job.star").write_text(JOB_STAR.format(version=30001, label="", type=99))
    done(*TRAIN, "--in_coords", write_labels())
    assert "model" not in (LEARNT / OUTPUT_NODES).read_text()


def test_extracted_particles_are_labels_too(project: Path) -> None:
    rows = [
        f"{name} {x} {y}\n"
        for seed, name in enumerate(NAMES)
        for x, y in scattered((72, 64), 6, 12, seed)
    ]
    Path("particles.star").write_text(
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        + "".join(rows)
    )
    result = done(*TRAIN, "--in_parts", "particles.star")
    assert "on 24 labeled particles" in " ".join(result.out.split())


def test_training_wants_labels_of_one_kind(project: Path) -> None:
    def refused(*arguments: object) -> Result:
        result = call(*TRAIN, *arguments)
        assert result.code == 2
        assert exits(LEARNT) == {FAILURE}
        return result

    either = "either coordinates or particles"
    assert either in refused().sentence
    assert either in refused("--in_coords", "a.star", "--in_parts", "b.star").sentence
    assert "means nothing" in refused("--in_movies", "a.star").sentence
    assert "a.star does not exist" in refused("--in_coords", "a.star").sentence
