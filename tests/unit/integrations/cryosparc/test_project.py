"""What is found in the folder of a cryoSPARC project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.integrations.cryosparc.project import find_sets, is_project
from heliodor.integrations.projects import FoundSet
from helpers.corpus import cs, cs_table
from helpers.cpu_time import at_most_reference_work
from helpers.projects import CORRECTED, cryosparc_project, exposures, job, write

EXPORT = "exports/groups/J7_particles_selected"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "CS-P", cryosparc_project())


def found(folder: Path) -> dict[str, FoundSet]:
    return {str(s.path.relative_to(folder)): s for s in find_sets(folder).sets}


def test_all_sets_are_found_with_their_numbers(folder: Path) -> None:
    sets = found(folder)
    sizes = {name: (one.particles, len(one.micrographs)) for name, one in sets.items()}
    assert sizes == {
        "J2/micrographs_rigid_aligned.cs": (None, 3),
        "J3/J3_passthrough_exposures.cs": (None, 3),
        "J5/picked_particles.cs": (120, 3),
        "J7/particles_selected.cs": (60, 2),
        "J7/particles_excluded.cs": (60, 2),
        f"{EXPORT}/J7_particles_selected_exported.cs": (60, 2),
    }
    assert all(not one.missing for one in sets.values())
    assert sets["J3/J3_passthrough_exposures.cs"].has_ctf
    assert not sets["J2/micrographs_rigid_aligned.cs"].has_ctf
    assert sets["J3/J3_passthrough_exposures.cs"].pixel_sizes == (4.0,)
    assert sets["J5/picked_particles.cs"].job == "J5 (blob_picker_gpu)"


def test_the_newest_sets_that_were_not_rejected_are_chosen(folder: Path) -> None:
    project = find_sets(folder)
    listed, labels = project.choose_micrographs(), project.choose_coordinates()
    assert listed is not None
    assert listed.path == folder / "J3/J3_passthrough_exposures.cs"
    assert labels is not None
    assert labels.path == folder / "J7/particles_selected.cs"
    write(folder, {"J9/job.json": job("extract", "failed"), "J9/x.cs": cs(cs_table(CORRECTED))})
    assert find_sets(folder).choose_coordinates() == labels


def test_filaments_are_not_chosen(folder: Path) -> None:
    particles = cs_table(CORRECTED)
    traced = np.zeros(len(particles), [*particles.dtype.descr, ("filament/filament_uid", "<u8")])
    for field in particles.dtype.names:
        traced[field] = particles[field]
    write(folder, {"J9/job.json": job("filament_tracer_gpu"), "J9/picked.cs": cs(traced)})
    assert found(folder)["J9/picked.cs"].unused == "filaments"
    labels = find_sets(folder).choose_coordinates()
    assert labels is not None
    assert labels.path == folder / "J7/particles_selected.cs"


def test_only_the_last_iteration_is_listed(folder: Path) -> None:
    tables = {f"J8/J8_{number:03}_particles.cs": cs(cs_table(CORRECTED)) for number in (0, 5, 20)}
    names = [name for name in found(write(folder, tables)) if name.startswith("J8/")]
    assert names == ["J8/J8_020_particles.cs"]


def test_damage_and_circles_stop_nothing(folder: Path) -> None:
    (folder / "J10").symlink_to(".")
    (folder / "exports/groups/J11_x").symlink_to("..")
    damage = {
        "J5/job.json": "{broken",
        "J7/job.json": "[" * 100_000,
        "J12/job.json": "[]",
        "J12/a.cs": b"no table",
        f"{EXPORT}/gone.csg": "results:\n  location:\n    metafile: '>gone.cs'\n",
    }
    project = find_sets(write(folder, damage))
    assert len(project.sets) == 6
    said = {path.name: why for path, why in project.unread}
    assert set(said) == {"job.json", "a.cs", "gone.csg"}
    assert "names gone.cs, which does not exist" in said["gone.csg"]
    labels = project.choose_coordinates()
    assert labels is not None
    assert labels.job == "J7"


@pytest.mark.parametrize("content", ["\n" * 900_000, "metafile: " * 90_000, "\n" * 2**21])
def test_long_descriptions_of_groups_are_read_quickly(folder: Path, content: str) -> None:
    write(folder, {f"{EXPORT}/long.csg": content})
    with at_most_reference_work(150):
        unread = find_sets(folder).unread
    assert [path.name for path, _ in unread] == ["long.csg"]


def test_micrographs_that_are_gone_are_missing(folder: Path) -> None:
    (folder / CORRECTED.format(stem="a")).unlink()
    without = {name for name, one in found(folder).items() if not one.missing}
    assert without == {"J7/particles_excluded.cs"}  # of other micrographs
    names = [f"J2/{number}.mrc" for number in range(5)]
    write(folder, {"J9/e.cs": cs(exposures(names, 4.0))})
    assert found(folder)["J9/e.cs"].missing == tuple(names)


@pytest.mark.parametrize("where", [".", "J7", "J3", EXPORT])
def test_projects_jobs_and_exports_are_recognized(folder: Path, where: str) -> None:
    assert is_project(folder / where)
    assert find_sets(folder / where).sets


def test_other_folders_are_not_recognized(folder: Path, tmp_path: Path) -> None:
    assert not is_project(folder / "J2/motioncorrected")
    write(tmp_path / "M", {"job.json": "{}", "a.mrc": b""})
    assert not is_project(tmp_path / "M")
    write(tmp_path / "tables", {"a.cs": cs(cs_table())})
    assert not is_project(tmp_path / "tables")
