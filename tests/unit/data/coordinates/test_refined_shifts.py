"""Shifts of particles by 2D classification and refinement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.label_assignment import read_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.coordinates.refined_shifts import apply_refined_shifts
from heliodor.data.micrographs.sources import find_sources
from heliodor.workflows.convert import convert
from heliodor.workflows.evaluate import evaluate_files
from heliodor.workflows.settings import ConversionSettings
from helpers.coordinate_files import save

MICROGRAPH_ANGSTROM, IMAGE_ANGSTROM = 2.0, 3.0
#: Where the particles are, where their boxes are, and the shifts, in pixels of the micrograph.
CENTERS = np.array([[30.0, 20.0], [12.5, 40.0], [50.0, 8.0]])
SHIFTS = np.array([[3.0, -4.5], [-6.0, 0.0], [0.0, 0.0]])
BOXES = CENTERS + SHIFTS
NAMES = ["a.mrc", "a.mrc", "b.mrc"]


def star(columns: dict[str, object], optics: dict[str, float]) -> str:
    """Return a particle table of RELION."""
    shown = {"rlnMicrographName": NAMES, "rlnCoordinateX": BOXES[:, 0]}
    shown |= {"rlnCoordinateY": BOXES[:, 1], **columns}
    text = ""
    if optics:
        shown["rlnOpticsGroup"] = [1] * 3
        labels = "".join(f"_{label}\n" for label in ("rlnOpticsGroup", *optics))
        text = f"data_optics\n\nloop_\n{labels}1 {' '.join(map(str, optics.values()))}\n\n"
    rows = zip(*shown.values(), strict=True)
    text += "data_particles\n\nloop_\n" + "".join(f"_{label}\n" for label in shown)
    return text + "".join(" ".join(map(str, row)) + "\n" for row in rows)


IN_ANGSTROM = {
    "rlnOriginXAngst": SHIFTS[:, 0] * MICROGRAPH_ANGSTROM,
    "rlnOriginYAngst": SHIFTS[:, 1] * MICROGRAPH_ANGSTROM,
}
#: In pixels of rescaled particle images.
IN_PIXELS = {
    "rlnOriginX": SHIFTS[:, 0] * MICROGRAPH_ANGSTROM / IMAGE_ANGSTROM,
    "rlnOriginY": SHIFTS[:, 1] * MICROGRAPH_ANGSTROM / IMAGE_ANGSTROM,
}
MICROGRAPH, IMAGE = {"rlnMicrographPixelSize": 2.0}, {"rlnImagePixelSize": 3.0}
DETECTOR = {"rlnDetectorPixelSize": [6.0] * 3, "rlnMagnification": [20000.0] * 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two micrographs, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mrc", "b.mrc"):
        with mrcfile.new(name) as mrc:
            mrc.set_data(np.zeros((48, 64), np.float32))
            mrc.voxel_size = MICROGRAPH_ANGSTROM
    return tmp_path


@pytest.mark.parametrize(
    ("columns", "optics"),
    [
        (IN_ANGSTROM, MICROGRAPH | IMAGE),
        (IN_ANGSTROM | IN_PIXELS, MICROGRAPH),  # those in angstrom are certain
        (IN_PIXELS, MICROGRAPH | IMAGE),
        (IN_PIXELS | {"rlnMicrographPixelSize": [2.0] * 3} | DETECTOR, {}),
    ],
)
def test_shifts_of_relion_are_subtracted(folder: Path, columns, optics, capsys) -> None:
    picks = read_picks(save(folder / "p.star", star(columns, optics)))
    np.testing.assert_allclose(picks.xy_px, CENTERS)
    said = capsys.readouterr().err
    assert said.count("note") == 1
    assert "p.star: the refined shifts of 2 particles (rlnOrigin" in said
    assert "median 11.4 Å) are subtracted" in said
    # Not twice: what was subtracted is 0 in the table.
    picks.write(folder / "q.star")
    np.testing.assert_allclose(read_picks(folder / "q.star").xy_px, CENTERS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("columns", "optics"),
    [
        # As RELION extracts: without the pixel size of the micrograph.
        (IN_ANGSTROM, IMAGE | {"rlnMicrographOriginalPixelSize": 1.0}),
        (IN_ANGSTROM, {}),
        (IN_PIXELS, IMAGE),
        (IN_PIXELS | DETECTOR, {}),
    ],
)
def test_the_micrographs_may_have_the_pixel_size(folder: Path, columns, optics, capsys) -> None:
    save(folder / "p.star", star(columns, optics))
    save(folder / "truth.csv", "micrograph,x,y\n" + _rows(CENTERS))
    labeled, notes = read_labels("p.star", find_sources("."))
    np.testing.assert_allclose(np.concatenate([item.xy_px for item in labeled]), CENTERS)
    assert len(notes) == 1
    assert "shifts of 2 particles" in notes[0]
    for picks, truth in (("p.star", "truth.csv"), ("truth.csv", "p.star")):
        found, _, _ = evaluate_files(picks, truth, 1.0, micrographs=".")
        assert found.micro.f1 == 1
        assert found.median_distance < 1e-6
    convert(["p.star"], "x.csv", micrographs=".", settings=ConversionSettings(trust=True))
    np.testing.assert_allclose(read_picks("x.csv").xy_px, CENTERS)
    assert "are not subtracted" not in capsys.readouterr().err
    # Without micrographs the user may say it.
    for sizes in ({}, {"pixel_size_angstrom": 2.0}):
        convert(["p.star"], "y.csv", settings=ConversionSettings(**sizes))
        moved = read_picks("y.csv").xy_px
        np.testing.assert_allclose(moved, CENTERS if sizes else BOXES)
        said = capsys.readouterr().err
        words = "are not subtracted from their coordinates: the pixel size of a.mrc is not known"
        assert (words in said) == (not sizes)


def _rows(xy: np.ndarray) -> str:
    return "".join(f"{name},{x},{y}\n" for name, (x, y) in zip(NAMES, xy, strict=True))


def test_a_pixel_size_given_is_that_of_shifts(folder: Path) -> None:
    save(folder / "p.star", star(IN_ANGSTROM, {}))
    labeled, _ = read_labels("p.star", find_sources("."), None, 2 * MICROGRAPH_ANGSTROM)
    found = np.concatenate([item.xy_px for item in labeled])
    np.testing.assert_allclose(found, BOXES - SHIFTS / 2)


def test_shifts_in_pixels_of_unknown_images_stay(folder: Path) -> None:
    save(folder / "p.star", star(IN_PIXELS, MICROGRAPH))
    labeled, notes = read_labels("p.star", find_sources("."))
    np.testing.assert_allclose(np.concatenate([item.xy_px for item in labeled]), BOXES)
    assert notes == [
        "the refined shifts of 2 particles (rlnOriginX) are not subtracted from their coordinates:"
        " the table has no pixel size of the particle images"
    ]


@pytest.mark.parametrize("groups", [("alignments2D",), ("alignments2D", "alignments3D")])
@pytest.mark.parametrize("size", ["{}/psize_A", "blob/psize_A"])
def test_shifts_of_cryosparc_are_subtracted(folder: Path, groups, size, capsys) -> None:
    """The last alignment counts."""
    fields = [("uid", "<u8"), ("location/micrograph_path", "S20"), ("blob/psize_A", "<f4")]
    fields += [("location/micrograph_shape", "<u4", (2,)), ("location/micrograph_psize_A", "<f4")]
    fields += [("location/center_x_frac", "<f4"), ("location/center_y_frac", "<f4")]
    for group in groups:
        fields += [(f"{group}/shift", "<f4", (2,)), (f"{group}/psize_A", "<f4")]
    table = np.zeros(3, fields)
    table["uid"], table["location/micrograph_path"] = [1, 2, 3], NAMES
    table["location/micrograph_shape"] = 48, 64
    table["location/micrograph_psize_A"] = MICROGRAPH_ANGSTROM
    table["location/center_x_frac"] = BOXES[:, 0] / 64
    table["location/center_y_frac"] = BOXES[:, 1] / 48
    for number, group in enumerate(reversed(groups)):
        table[f"{group}/shift"] = SHIFTS * MICROGRAPH_ANGSTROM / IMAGE_ANGSTROM + number
        table[size.format(group)] = IMAGE_ANGSTROM
    with (folder / "p.cs").open("wb") as stream:
        np.save(stream, table)
    picks = read_picks(folder / "p.cs")
    np.testing.assert_allclose(picks.xy_px, CENTERS, atol=1e-5)
    assert f"shifts of 2 particles ({groups[-1]}/shift" in capsys.readouterr().err
    assert not picks.extra[f"{groups[-1]}/shift"].any()


def test_the_shifts_of_a_refinement_replace_those_of_a_classification() -> None:
    """Also where particles were extracted again at their centers, and its shifts are 0."""
    extra = {"alignments2D/shift": np.ones((2, 2)), "alignments2D/psize_A": np.ones(2)}
    picks = Picks.from_columns(["a", "a"], np.full((2, 2), 9.0), None, extra)
    moved, _ = apply_refined_shifts(picks, {"a": 2.0})
    assert moved.xy_px.tolist() == [[8.5, 8.5]] * 2
    refined = replace(picks, extra=extra | {"alignments3D/shift": np.zeros((2, 2))})
    assert apply_refined_shifts(refined, {"a": 2.0}) == (refined, None)


def test_tables_keep_the_columns_of_shifts(folder: Path) -> None:
    """A table that another program made of RELION's, for example."""
    head = "micrograph\tx\ty\tpixel_size_angstrom\trlnOriginXAngst\trlnOriginYAngst\n"
    rows = zip(NAMES, BOXES, SHIFTS * 2.0, strict=True)
    text = head + "".join(f"{name}\t{x}\t{y}\t2.0\t{u}\t{v}\n" for name, (x, y), (u, v) in rows)
    np.testing.assert_allclose(read_picks(save(folder / "p.tsv", text)).xy_px, CENTERS)


@pytest.mark.parametrize("value", ["nan", "", "none"])
def test_particles_without_a_shift_stay(value: str) -> None:
    column = np.array([value, "4.0"], dtype=object)
    extra = {"rlnOriginXAngst": column, "rlnOriginYAngst": np.array(["0", "0"], dtype=object)}
    picks = Picks.from_columns(["a", "a"], np.full((2, 2), 9.0), None, extra)
    moved, note = apply_refined_shifts(picks, {"a": 2.0})
    assert moved.xy_px.tolist() == [[9, 9], [7, 9]]
    assert note is not None
    assert moved.extra["rlnOriginXAngst"].tolist() == [value, 0]
    for none in (Picks.empty(["a"]), picks.select(np.zeros(2, bool)), picks.select([0])):
        assert apply_refined_shifts(none, {"a": 2.0}) == (none, None)


@pytest.mark.parametrize(
    "sizes",
    [
        {"rlnImagePixelSize": ["1e300", "2", "1e300"]},
        {
            "rlnDetectorPixelSize": ["1e308", "2", "1e308"],
            "rlnMagnification": ["1e-3", "1e4", "1"],
        },
    ],
)
def test_shifts_too_large_for_a_number_are_not_applied(sizes: dict[str, list[str]]) -> None:
    """As in a damaged file, without a warning of NumPy."""
    columns = {"rlnOriginX": ["1e300", "1", "0"], "rlnOriginY": ["0", "0", "0"]} | sizes
    extra = {name: np.array(values, dtype=object) for name, values in columns.items()}
    picks = Picks.from_columns(["a"] * 3, np.full((3, 2), 9.0), None, extra)
    moved, _ = apply_refined_shifts(picks, {"a": 2.0})
    assert moved.xy_px.tolist() == [[9, 9], [8, 9], [9, 9]]
