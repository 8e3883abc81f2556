"""What is found in the folder of a RELION project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.integrations import projects
from heliodor.integrations.projects import FoundSet
from heliodor.integrations.relion.project import find_sets, is_project
from helpers.corpus import loop
from helpers.projects import (
    MOVIES,
    coordinate_list,
    micrograph_list,
    particle_table,
    pipeline,
    relion_project,
    write,
)

SEGMENTS = loop(
    "CoordinateX CoordinateY MicrographName HelicalTubeID", "1 2 a.mrc 1\n", "particles"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "P", relion_project())


def found(folder: Path) -> dict[str, FoundSet]:
    return {str(s.path.relative_to(folder)): s for s in find_sets(folder).sets}


def test_all_sets_are_found_with_their_numbers(folder: Path) -> None:
    sets = found(folder)
    sizes = {name: (one.particles, len(one.micrographs)) for name, one in sets.items()}
    assert sizes == {
        "MotionCorr/job002/corrected_micrographs.star": (0, 4),
        "CtfFind/job003/micrographs_ctf.star": (0, 3),
        "ManualPick/job004/manualpick.star": (80, 3),
        "Extract/job005/particles.star": (120, 3),
        "Class2D/job006/run_it025_data.star": (120, 3),
        "Select/job007/particles.star": (80, 2),
    }
    assert next(iter(sets)) == "Select/job007/particles.star"  # the newest
    assert sets["CtfFind/job003/micrographs_ctf.star"].pixel_sizes == (4.0,)
    assert sets["CtfFind/job003/micrographs_ctf.star"].has_ctf
    assert sets["Extract/job005/particles.star"].pixel_sizes == ()
    corrected = sets["MotionCorr/job002/corrected_micrographs.star"]
    assert corrected.missing == (MOVIES.format(stem="d"),)
    assert not corrected.has_ctf


def test_the_newest_sets_are_chosen(folder: Path) -> None:
    project = find_sets(folder)
    listed, labels = project.choose_micrographs(), project.choose_coordinates()
    assert listed is not None
    assert listed.job == "CtfFind/job003"
    assert labels is not None
    assert labels.job == "Select/job007"


@pytest.mark.parametrize(
    "files",
    [
        {"default_pipeline.star": pipeline({"Select/job007": "Failed"})},
        {"default_pipeline.star": pipeline({"Select/job007": "3"}, old=True)},
        {"default_pipeline.star": "", "Select/job007/RELION_JOB_EXIT_ABORTED": ""},
        {"Select/job007/particles.star": loop("CoordinateX CoordinateY", "")},
        {"Select/job007/picks.tsv": "micrograph\n"},  # heliodor's own
        {"Select/job007/particles.star": SEGMENTS},
    ],
)
def test_sets_that_no_training_should_use_are_passed_over(folder: Path, files) -> None:
    labels = find_sets(write(folder, files)).choose_coordinates()
    assert labels is not None
    assert labels.job == "Class2D/job006"


def test_of_several_lists_of_one_job_the_largest_is_chosen(folder: Path) -> None:
    splits = {
        "Select/job008/micrographs_split1.star": micrograph_list("a"),
        "Select/job008/micrographs_split2.star": micrograph_list("bc"),
    }
    listed = find_sets(write(folder, splits)).choose_micrographs()
    assert listed is not None
    assert listed.path.name == "micrographs_split2.star"


def test_final_particles_come_before_those_of_iterations(folder: Path) -> None:
    table = particle_table(stems=("a",))
    names = ["run_it010_data.star", "run_ct10_it012_data.star", "run_data.star"]
    write(folder, {f"Refine3D/job009/{name}": table for name in names[:2]})
    assert find_sets(folder).sets[0].path.name == "run_ct10_it012_data.star"
    write(folder, {f"Refine3D/job009/{names[2]}": table})
    assert [s.path.name for s in find_sets(folder).sets if s.number == 9] == ["run_data.star"]


def test_links_and_damage_stop_nothing(folder: Path) -> None:
    (folder / "Extract/job098").symlink_to("..")
    (folder / "Extract/job099").symlink_to("job099")
    (folder / "Extract/alias").symlink_to("job005")
    damage = {
        "default_pipeline.star": b"data_x\0",
        "Refine3D/job020/run_data.star": b"data_\nloop_\n_rlnCoordinateX\n" + b"1 " * 20_000,
        "Refine3D/job021/run_data.star": b"\xff\xfe_rlnMicrographName data_\n_rlnCoordinateX 1",
        "Select/job022/particles.star": b"",
    }
    project = find_sets(write(folder, damage))
    assert len(project.sets) == 6
    assert {path.parent.name for path, _ in project.unread} == {"P", "job020", "job021"}
    assert len([s for s in project.sets if s.job == "Extract/job005"]) == 1


def test_coordinates_of_binned_micrographs_are_noticed(folder: Path) -> None:
    files = {
        "Select/job008/binned.star": particle_table(0.25),
        "Select/job008/fine.star": particle_table(2.0),
    }
    doubts = {name: one.find_doubts() for name, one in found(write(folder, files)).items()}
    assert "pixels of binned micrographs" in doubts["Select/job008/binned.star"][0]
    assert "pixels of less binned micrographs" in doubts["Select/job008/fine.star"][0]
    assert doubts["Extract/job005/particles.star"] == []


def test_pixel_sizes_of_jobs_are_compared(folder: Path) -> None:
    write(folder, {"CtfFind/job008/micrographs_ctf.star": micrograph_list(size="8.0")})
    groups = find_sets(folder).find_pixel_sizes()
    assert [(size, [s.job for s in sets]) for size, sets in groups] == [
        (8.0, ["CtfFind/job008"]),
        (4.0, ["CtfFind/job003", "MotionCorr/job002"]),
    ]


def test_coordinates_of_relion_3_are_counted(folder: Path) -> None:
    write(folder, {"ManualPick/job004/coords_suffix_manualpick.star":
                   "CtfFind/job003/micrographs_ctf.star\n"})  # fmt: skip
    (folder / "ManualPick/job004/manualpick.star").unlink()
    counted = found(folder)["ManualPick/job004/coords_suffix_manualpick.star"]
    assert (counted.particles, len(counted.micrographs)) == (80, 3)


def test_what_is_read_is_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "MOST_FILES", 2)
    sets = found(folder)
    assert sets["Class2D/job006/run_it025_data.star"].particles == 120
    assert sets["ManualPick/job004/manualpick.star"].particles is None
    assert "not counted" in sets["ManualPick/job004/manualpick.star"].describe()


def test_which_folders_are_projects(folder: Path, tmp_path: Path) -> None:
    assert is_project(folder)
    (folder / "default_pipeline.star").unlink()
    assert is_project(folder)
    # RELION copies the pipeline into each job.
    write(folder / "CtfFind/job003", {"default_pipeline.star": pipeline({})})
    assert not is_project(folder / "CtfFind/job003")
    assert not is_project(folder / "CtfFind")
    assert not is_project(folder / "CtfFind/job003/micrographs_ctf.star")
    (tmp_path / "M").mkdir()
    write_mrc(tmp_path / "M/a.mrc", np.zeros((8, 8), np.float32), 1.5)
    assert not is_project(tmp_path / "M")


def test_a_list_of_files_that_are_gone_has_no_particles(folder: Path) -> None:
    write(folder, {"AutoPick/job010/autopick.star": coordinate_list("ab", "AutoPick/job010")})
    gone = found(folder)["AutoPick/job010/autopick.star"]
    assert gone.particles == 0
    assert not gone.is_usable
