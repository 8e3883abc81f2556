from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.data.micrographs.acquisition import find_lists, read_acquisition
from heliodor.errors import BadInput

RELION = """
data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMicrographPixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
g1 1 0.885 300 2.7 0.1
g2 2 0.885 200 1.4 0.07

data_micrographs

loop_
_rlnMicrographName
_rlnOpticsGroup
_rlnCtfImage
_rlnDefocusU
_rlnDefocusV
_rlnCtfAstigmatism
_rlnDefocusAngle
_rlnCtfMaxResolution
_rlnAccumMotionTotal
_rlnBeamTiltX
m/a.mrc 1 a.ctf 15000 14000 1000 30 4.1 12.5 0.1
m/b.mrc 2 b.ctf 25000 24900 100 10 6.5 30.0 0.1
m/c.mrc 2 c.ctf nan 24900 100 10 6.5 30.0 0.1
"""


def test_the_numbers_of_relion(tmp_path: Path):
    star = tmp_path / "micrographs_ctf.star"
    star.write_text(RELION)
    found = read_acquisition([star])
    columns = {column.title: column for column in found.columns}
    # What is the same for all micrographs says nothing of one.
    assert [*columns] == ["Defocus", "Astigmatism", "CTF resolution", "Motion", "Optics group"]
    assert columns["Defocus"].values == pytest.approx({"m/a.mrc": 1.45, "m/b.mrc": 2.495})
    assert columns["Defocus"].unit == "µm"
    assert columns["Astigmatism"].values["m/a.mrc"] == 1000
    assert columns["CTF resolution"].values["m/c.mrc"] == 6.5
    assert found.ctf is not None
    assert {*found.ctf} == {"m/a.mrc", "m/b.mrc"}
    second = found.ctf["m/b.mrc"]
    assert (second.voltage_kv, second.spherical_aberration_mm) == (200, 1.4)
    assert (second.amplitude_contrast, second.defocus_angle_deg) == (0.07, 10)


def test_the_numbers_of_cryosparc(tmp_path: Path):
    fields = [
        ("uid", "<u8"), ("micrograph_blob/path", "S20"), ("micrograph_blob/psize_A", "<f4"),
        ("micrograph_blob/shape", "<u4", (2,)), ("ctf/df1_A", "<f4"), ("ctf/df2_A", "<f4"),
        ("ctf/df_angle_rad", "<f4"), ("ctf/accel_kv", "<f4"), ("ctf/cs_mm", "<f4"),
        ("ctf/amp_contrast", "<f4"), ("ctf_stats/ctf_fit_to_A", "<f4"),
        ("ctf_stats/ice_thickness_rel", "<f4"), ("ctf_stats/my_value", "<f4"),
    ]  # fmt: skip
    table = np.zeros(2, fields)
    table["micrograph_blob/path"] = [b">J1/a.mrc", b"J1/b.mrc"]
    table["uid"], table["ctf/df1_A"], table["ctf/df2_A"] = [1, 2], 20000, 18000
    table["ctf/df_angle_rad"] = np.pi / 6
    for field, value in (("accel_kv", 300), ("cs_mm", 2.7), ("amp_contrast", 0.1)):
        table[f"ctf/{field}"] = value
    table["ctf_stats/ctf_fit_to_A"] = [3.5, 4.5]
    table["ctf_stats/ice_thickness_rel"] = [1.0, 1.2]
    table["ctf_stats/my_value"] = [1, 2]
    path = tmp_path / "exposures.cs"
    with path.open("wb") as stream:
        np.save(stream, table)
    found = read_acquisition([path])
    titles = [column.title for column in found.columns]
    assert titles == ["Defocus", "CTF resolution", "Ice thickness", "My value"]
    assert found.ctf is not None
    assert found.ctf["J1/a.mrc"].defocus_angle_deg == pytest.approx(30, abs=1e-4)


def test_a_table_of_particles_says_nothing_of_micrographs(tmp_path: Path):
    star = tmp_path / "particles.star"
    rows = "a.mrc 1 2 15000 14000\na.mrc 3 4 15000 14000\n"
    names = ("MicrographName", "CoordinateX", "CoordinateY", "DefocusU", "DefocusV")
    heads = "".join(f"_rln{name}\n" for name in names)
    star.write_text(f"data_particles\n\nloop_\n{heads}{rows}")
    assert read_acquisition([star]).columns == ()


def test_lists_are_found_among_the_inputs_and_in_lists_of_names(tmp_path: Path):
    names = tmp_path / "names.txt"
    names.write_text(f"# a comment\nmore.star\n\n@{names}\nfolder\n")
    found = find_lists(["a.mrc", "b.cs", f"@{names}", "c/*.mrc", "@missing.txt"])
    assert [str(path) for path in found] == ["b.cs", "more.star"]


def test_a_damaged_list_is_reported(tmp_path: Path):
    star = tmp_path / "broken.star"
    star.write_text("data_\nloop_\n_rlnDefocusU\n15000\n")
    with pytest.raises(BadInput, match=r"broken\.star"):
        read_acquisition([star])
