"""`heliodor check` on the folder of a project."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.integrations import project_check
from heliodor.workflows import train
from helpers.cli import call, done
from helpers.corpus import loop
from helpers.projects import (
    MOVIES,
    cryosparc_project,
    micrograph_list,
    particle_table,
    relion_project,
    write,
)

PROJECTS = {"P": relion_project, "CS-P": cryosparc_project}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(Path("P"), relion_project())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
@pytest.mark.parametrize("inside", [False, True])
def test_the_commands_that_are_suggested_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, inside: bool
) -> None:
    """They work from where the check was done; training itself is left out."""

    def begin(*_: object, **__: object) -> None:
        raise BadInput("the training begins")

    monkeypatch.setattr(train, "train_network", begin)
    monkeypatch.setattr(train, "find_diameter_conflict", lambda *_, **__: None)
    write(tmp_path / name, PROJECTS[name]())
    monkeypatch.chdir(tmp_path / name if inside else tmp_path)
    said = done("check", "." if inside else name).out
    assert "match the images" in said
    suggest, learn, pick = (
        shlex.split(line.partition("next: heliodor ")[2])
        for line in said.splitlines()
        if "next: " in line
    )
    if not inside:  # it takes a while
        assert "longest diameter" in done(*suggest).out
    learn[learn.index("DIAMETER")] = "24"
    trained = call(*learn, "--from", "scratch", "--threads", 1)
    assert trained.sentence == "the training begins"
    assert pick[:3:2] == ["pick", learn[2]]


def test_what_was_taken_is_said(folder: Path) -> None:
    said = done("check", folder).out
    assert "P: a RELION project: 7 jobs, 2 lists of micrographs and 4 sets of coordinates" in said
    assert "CtfFind/job003/micrographs_ctf.star: taken as micrographs: the newest list" in said
    assert "Select/job007/particles.star: taken as labels: the newest coordinates" in said
    assert "others: P/Class2D/job006/run_it025_data.star, P/Extract" in said
    assert "1 of its 4 micrographs do not exist (MotionCorr/job002/Movies/d.mrc)" in said
    assert "80 particles on 2 micrographs, Select/job007" in said
    assert said.count("3 can be read") == 1


def test_a_given_diameter_and_pixel_size_are_in_the_commands(folder: Path) -> None:
    said = done("check", folder, "--pixel-size", 4, "--headers-only").out
    assert "--diameter DIAMETER --pixel-size 4 -o heliodor/model" in said
    found = json.loads(call("check", folder, "--diameter", 24, "--json").out)
    lines = [finding["sentence"] for finding in found]
    assert not any("heliodor suggest" in line for line in lines)
    assert any("--diameter 24 -o heliodor/model" in line for line in lines)


def test_problems_of_what_is_taken_are_errors(folder: Path) -> None:
    write(folder, {"Select/job008/particles.star": particle_table(0.25)})
    result = call("check", folder)
    assert result.code == 2
    assert "error: P/Select/job008/particles.star: the coordinates match the images when" in (
        result.out
    )
    (folder / MOVIES.format(stem="b")).write_bytes(b"no micrograph")
    assert "error: MotionCorr/job002/Movies/b.mrc" in call("check", folder).out


def test_a_list_that_cannot_be_used_hides_nothing(folder: Path) -> None:
    table = micrograph_list("a") + micrograph_list("b").replace("b.mrc", "b\x01.mrc")
    write(folder, {"Select/job008/micrographs.star": table})
    result = call("check", folder)
    assert result.code == 2
    assert "contains a line break, a tab or another control character" in result.out
    assert "ManualPick/job004/manualpick.star: 80 particles" in result.out


def test_pixel_sizes_that_disagree_are_named(folder: Path) -> None:
    write(folder, {"CtfFind/job008/micrographs_ctf.star": micrograph_list(size="8.0")})
    said = call("check", folder, "--headers-only").out
    assert "differ between jobs: 8 (CtfFind/job008), 4 (CtfFind/job003 and 1 more)" in said


def test_without_labels_the_general_model_is_suggested(folder: Path) -> None:
    for path in folder.rglob("*.star"):
        if path.parts[1] not in ("CtfFind", "MotionCorr"):
            path.unlink()
    said = done("check", folder).out
    assert "heliodor pick --micrographs P/CtfFind/job003/micrographs_ctf.star --diameter" in said
    assert "heliodor train" not in said


def test_given_micrographs_come_first(folder: Path) -> None:
    said = done("check", folder, "--micrographs", folder / "MotionCorr/job002/Movies").out
    assert "heliodor train --micrographs P/MotionCorr/job002/Movies --labels" in said
    assert "taken as micrographs" not in said
    assert said.count("3 can be read") == 1


def test_a_project_without_micrographs_says_so(folder: Path) -> None:
    for path in folder.rglob("*.mrc"):
        path.unlink()
    result = done("check", folder)
    assert "no list of existing micrographs was found" in result.out
    assert "next: " not in result.out


def test_many_sets_are_not_all_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_check, "MOST_LISTED", 2)
    monkeypatch.setattr(project_check, "MOST_UNREAD", 1)
    damaged = {f"Refine3D/job{n:03}/run_data.star": b"_rlnCoordinateX data_\n\xff" for n in (8, 9)}
    write(folder, {name: b"data_\n" + content for name, content in damaged.items()})
    empty = loop("CoordinateX CoordinateY", "")
    write(folder, {f"Select/job{number:03}/particles.star": empty for number in range(10, 14)})
    said = done("check", folder, "--headers-only").out
    assert "6 more sets of coordinates of older jobs" in said
    assert said.count("it is empty") == 2
    assert "2 more notes on sets of coordinates of older jobs" in said
    assert "1 more files were not read" in said


def test_an_exported_group_may_be_named_by_its_description(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(write(tmp_path / "CS-P", cryosparc_project()))
    (group,) = Path().rglob("*.csg")
    said = done("check", group, "--headers-only").out
    assert "a group exported from cryoSPARC: 1 job" in said
    assert "60 particles on 2 micrographs" in said


def test_files_and_projects_can_be_given_together(folder: Path) -> None:
    write(Path(), {"x.star": loop("CoordinateX CoordinateY", "1 2\n")})
    said = done("check", "x.star", folder, "--headers-only").out
    assert "x.star: 1 picks" in said
    assert "a RELION project" in said


def test_micrographs_beside_the_jobs_are_mentioned(folder: Path) -> None:
    (folder / "raw.mrc").write_bytes(b"")
    said = done("check", folder, "--headers-only").out
    assert "the folder is checked as a project; to check the micrographs in it" in said
