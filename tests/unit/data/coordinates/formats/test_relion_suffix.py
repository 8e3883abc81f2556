"""RELION 3.1's coords_suffix files, which name the coordinate files of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.data.coordinates.formats import describe_formats, find_files, read_picks
from heliodor.errors import BadInput
from helpers.coordinate_files import BLOCK, save
from helpers.topaz_cli import good

NAMES = ["MotionCorr/job002/M/a.mrc", "MotionCorr/job002/M/b.mrc", "MotionCorr/job002/M/c.mrc"]
MICS = "CtfFind/job003/micrographs_ctf.star"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with picks on one micrograph, none on another and no file of the third."""
    rows = "".join(f"{name}\n" for name in NAMES)
    save(tmp_path / MICS, f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n{rows}")
    save(tmp_path / "ManualPick/job004/coords_suffix_manualpick.star", f"{MICS}\n")
    save(tmp_path / "ManualPick/job004/M/a_manualpick.star", BLOCK + "1 2\n3 4\n")
    save(tmp_path / "ManualPick/job004/M/b_manualpick.star", "")
    save(tmp_path / "ManualPick/job004/M/c_autopick.star", BLOCK + "5 6\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("where", [".", "ManualPick/job004/M"])
@pytest.mark.parametrize("given", ["file", "folder"])
def test_all_coordinate_files_are_read(project: Path, monkeypatch, where, given) -> None:
    monkeypatch.chdir(where)
    path = project / "ManualPick/job004/coords_suffix_manualpick.star"
    picks = read_picks(path if given == "file" else path.parent)
    assert dict(zip(picks.micrographs, picks.counts(), strict=True)) == {
        NAMES[0]: 2,
        NAMES[1]: 0,
        NAMES[2]: 0,
    }
    assert picks.xy_px.tolist() == [[1, 2], [3, 4]]
    assert describe_formats(find_files(path)) == "RELION 3.1's coordinates; centers"


def test_heliodor_topaz_reads_them_too(project: Path) -> None:
    path = "ManualPick/job004/coords_suffix_manualpick.star"
    assert good(f"topaz convert {path} --to coord").out.splitlines()[1:] == [
        "MotionCorr/job002/M/a\t1\t2",
        "MotionCorr/job002/M/a\t3\t4",
    ]
    good(f"topaz convert {path} -o all.star")
    assert read_picks("all.star").names() == [NAMES[0]] * 2


def test_a_list_in_the_same_folder_comes_first(project: Path) -> None:
    head = "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    row = f"{NAMES[2]} ManualPick/job004/M/c_autopick.star\n"
    save(project / "ManualPick/job004/autopick.star", head + row)
    assert read_picks("ManualPick/job004").names() == [NAMES[2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gone.star\n", "names the micrographs 'gone.star', which do not exist"),
        ("\0\n", "which do not exist"),
        ("ManualPick/job004/M/a_manualpick.star\n", "no column _rlnMicrographName"),
        ("", "is empty"),
    ],
)
def test_what_is_refused(project: Path, text, words) -> None:
    path = save(project / "ManualPick/job004/coords_suffix_manualpick.star", text)
    with pytest.raises(BadInput, match=words):
        read_picks(path)


def test_a_suffix_that_no_file_has(project: Path) -> None:
    path = save(project / "ManualPick/job004/coords_suffix_other.star", MICS)
    with pytest.raises(BadInput, match=r"no coordinate file next to .*coords_suffix_other\.star"):
        read_picks(path)


def test_a_damaged_coordinate_file_is_named(project: Path) -> None:
    save(project / "ManualPick/job004/M/b_manualpick.star", "hello\n")
    with pytest.raises(BadInput, match=r"b_manualpick\.star has no data_ block"):
        read_picks("ManualPick/job004/coords_suffix_manualpick.star")
