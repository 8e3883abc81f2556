from __future__ import annotations

import gzip
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.data.micrographs.sources import find_sources
from heliodor.data.star import read_blocks
from heliodor.errors import BadInput
from heliodor.reconstruction.micrograph_table import (
    MicrographTable,
    check_one_pixel_size,
    open_micrograph,
)

OPTICS = (
    "data_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n_rlnVoltage #3\n"
    "_rlnSphericalAberration #4\n_rlnAmplitudeContrast #5\na 1 300 2.7 0.1\nb 2 200 2.0 0.07\n\n"
)
ROWS = (
    "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n_rlnDefocusU #3\n"
    "_rlnDefocusV #4\n_rlnDefocusAngle #5\na.mrc 1 10000 9000 15\nb c.mrc 2 20000 19000 25\n"
).replace("b c.mrc", '"b c.mrc"')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.mrc", 2.0), ("b c.mrc", 2.0), ("coarse.mrc", 4.0)):
        with mrcfile.new(name) as mrc:
            mrc.set_data(np.zeros((20, 30), dtype=np.float32))
            mrc.voxel_size = size
    return tmp_path


def table_of(star: str | None) -> MicrographTable:
    if star is None:
        return MicrographTable([open_micrograph(s) for s in find_sources("*.mrc")[:2]], [])
    Path("m.star").write_text(star)
    opened = [open_micrograph(source) for source in find_sources("m.star")]
    return MicrographTable(opened, [Path("m.star")])


def test_optics_and_defocus_are_those_of_the_star_file(folder: Path) -> None:
    table = table_of(OPTICS + ROWS)
    assert table.has_ctf
    Path("out.star").write_text(table.text)
    blocks = read_blocks("out.star")
    optics, rows = blocks["optics"], blocks["micrographs"]
    assert [*optics["rlnVoltage"].astype(float)] == [300, 200]
    assert [*optics["rlnMicrographPixelSize"].astype(float)] == [2, 2]
    assert [*rows["rlnMicrographName"]] == ["micrographs/000000.mrc", "micrographs/000001.mrc"]
    assert [*rows["rlnDefocusV"].astype(float)] == [9000, 19000]
    assert [*rows["rlnOpticsGroup"].astype(int)] == [1, 2]


def test_a_table_of_relion_3_0_has_the_optics_in_its_rows(folder: Path) -> None:
    old = (
        "data_\n\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n"
        "_rlnDefocusAngle #4\n_rlnVoltage #5\n_rlnSphericalAberration #6\n"
        "_rlnAmplitudeContrast #7\na.mrc 10000 9000 15 300 2.7 0.1\n"
    )
    table = table_of(old)
    assert table.has_ctf
    assert "data_optics" in table.text
    assert "300" in table.text


@pytest.mark.parametrize("column", ["rlnDefocusAngle", "rlnVoltage"])
def test_without_one_of_the_columns_the_ctf_is_not_known(folder: Path, column: str) -> None:
    assert not table_of((OPTICS + ROWS).replace(f"_{column}", "_rlnOther")).has_ctf
    assert not table_of(None).has_ctf
    assert "rlnDefocusU" not in table_of(None).text


def test_links_lead_to_the_micrographs_whatever_their_names(folder: Path) -> None:
    table = table_of(OPTICS + ROWS)
    work = folder / "work"
    work.mkdir()
    table.link(work)
    table.link(work)
    assert os.path.samefile(work / table.name(1), "b c.mrc")
    (work / table.name(0)).unlink()
    (work / table.name(0)).symlink_to(folder / "coarse.mrc")
    table.link(work)
    assert os.path.samefile(work / table.name(0), "a.mrc")


def test_what_relion_cannot_read_is_refused(folder: Path) -> None:
    Path("a.tif").write_bytes(b"II*\0")
    with pytest.raises(BadInput, match="upside down"):
        open_micrograph(find_sources("a.tif")[0])
    Path("z.mrc").write_bytes(gzip.compress(Path("a.mrc").read_bytes()))
    with pytest.raises(BadInput, match="decompress"):
        open_micrograph(find_sources("z.mrc")[0])
    opened = [open_micrograph(source) for source in find_sources("*[ae].mrc")]
    with pytest.raises(BadInput, match=r"2 Å/pixel, coarse.mrc 4"):
        check_one_pixel_size(opened)
    assert check_one_pixel_size(opened[:1]) == 2
    assert open_micrograph(find_sources("a.mrc")[0], 3.0).pixel_size_angstrom == 3
