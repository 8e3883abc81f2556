"""Helical segments in a real RELION: the priors that it computes, and straight averages. Slow."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from numpy.typing import NDArray
from scipy import ndimage

from heliodor.data.coordinates.writers import FORMATS, write_picks
from heliodor.data.filaments.filament import Filament, Filaments, to_points
from heliodor.data.filaments.segments import cut_segments, mask_whole_segments
from heliodor.data.filaments.writers import FORMATS as FILAMENT_FORMATS
from heliodor.data.filaments.writers import write_filaments
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.projection import add_projection
from helpers.cli import done

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("relion_preprocess") is None, reason="RELION is not installed"
    ),
]

SIDE, PIXEL, BOX, WIDTH_PX = 512, 4.0, 64, 12.0
RISE, UNITS = 5.0, 12
NAME = "micrographs/tube.mrc"
#: Straight tubes in several directions, and the points of a bent one.
STRAIGHT = [
    np.array([[60.0, 80.0], [440.0, 140.0]]),
    np.array([[450.0, 200.0], [300.0, 460.0]]),
    np.array([[80.0, 440.0], [80.5, 180.0]]),
]
ANGLES = np.linspace(0.2, 1.2, 9)
BENT = [np.array([30.0, 30.0]) + 380 * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])]


def draw(axes: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Return an image of dark tubes with two walls, in noise."""
    image = np.random.default_rng(1).normal(scale=0.5, size=(SIDE, SIDE))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    points = np.column_stack([columns.ravel(), rows.ravel()]).astype(float)
    for axis in axes:
        fine = np.concatenate([np.linspace(a, b, 60) for a, b in itertools.pairwise(axis)])
        distance = np.full(len(points), np.inf)
        for place in fine:
            np.minimum(distance, np.hypot(*(points - place).T), out=distance)
        wall = np.exp(-0.5 * ((distance - WIDTH_PX / 2) / 1.5) ** 2)
        image -= 2 * wall.reshape(SIDE, SIDE)
    return image.astype(np.float32)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("micrographs").mkdir()
    Path("micrographs.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnVoltage #4\n_rlnSphericalAberration #5\n"
        f"_rlnAmplitudeContrast #6\nopticsGroup1 1 {PIXEL} 300 2.7 0.1\n\n"
        f"data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n{NAME} 1\n"
    )
    return tmp_path


def make(axes: list[NDArray[np.float64]]) -> Filaments:
    with mrcfile.new(NAME, overwrite=True) as mrc:
        mrc.set_data(draw(axes))
        mrc.voxel_size = PIXEL
    own = tuple(Filament(NAME, axis, 7 + n, 48.0) for n, axis in enumerate(axes))
    return Filaments((NAME,), own, {NAME: PIXEL}, {NAME: (SIDE, SIDE)})


def extract(folder: str, suffix: str, *options: str) -> tuple[dict, NDArray[np.float32]]:
    """Let RELION extract helical segments; return their table and images."""
    shutil.rmtree("Extract", ignore_errors=True)
    command = ["relion_preprocess", "--i", "micrographs.star", "--extract"]
    command += ["--coord_dir", f"{folder}/", "--coord_suffix", suffix, "--invert_contrast"]
    command += ["--part_star", "Extract/particles.star", "--part_dir", "Extract/"]
    command += ["--extract_size", str(BOX), "--norm", "--bg_radius", "24", "--helix"]
    command += ["--helical_outer_diameter", "60", "--helical_bimodal_angular_priors", *options]
    subprocess.run(command, capture_output=True, text=True, check=True)
    (stack,) = Path("Extract").rglob("*.mrcs")
    table = starfile.read("Extract/particles.star")["particles"]
    return {c: table[c].to_numpy() for c in table.columns}, np.array(mrcfile.read(stack))


def average(table: dict, stack: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the segments turned by their psi priors, as RELION turns images.

    RELION's psi turns an image counter-clockwise where row 0 is at the top; a segment turned by
    minus its psi prior lies along the rows.
    """
    turned = [
        ndimage.rotate(image, -psi, reshape=False, order=1, mode="nearest")
        for image, psi in zip(stack, table["rlnAnglePsiPrior"], strict=True)
    ]
    return np.mean(turned, axis=0, dtype=np.float64)


def find_walls(image: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the brightest row above and below the middle for columns near the middle."""
    middle = slice(BOX // 2 - 16, BOX // 2 + 17)
    smooth = ndimage.gaussian_filter1d(image, 4, axis=1)[:, middle]
    half = BOX // 2
    return np.stack([smooth[:half].argmax(axis=0), half + smooth[half:].argmax(axis=0)])


@pytest.mark.parametrize("axes", [STRAIGHT, BENT], ids=["straight", "bent"])
def test_start_end_coordinates_and_segments(project: Path, axes) -> None:
    table = make(axes)
    picks = cut_segments(table, RISE * UNITS)
    write_filaments(Path("Pick"), to_points(table), FILAMENT_FORMATS["start-end"])
    write_picks(Path("Segments"), picks, FORMATS["autopick"])

    by_us, stack = extract("Segments", "_autopick.star")
    assert len(stack) == len(picks)
    np.testing.assert_allclose(
        by_us["rlnAnglePsiPrior"], picks.extra["rlnAnglePsiPrior"], atol=1e-4
    )
    np.testing.assert_allclose(by_us["rlnCoordinateX"], picks.x, atol=1e-4)
    assert {*by_us["rlnAnglePsiFlipRatio"]} == {0.5}
    assert {*by_us["rlnAngleTiltPrior"]} == {90.0}
    assert by_us["rlnHelicalTubeID"].tolist() == [*picks.extra["rlnHelicalTubeID"]]

    cutting = ["--helical_tubes", "--helical_cut_into_segments"]
    cutting += ["--helical_nr_asu", str(UNITS), "--helical_rise", str(RISE)]
    by_relion, of_relion = extract("Pick", "_manualpick.star", *cutting)
    if axes is STRAIGHT:
        for column in (
            "rlnCoordinateX", "rlnCoordinateY", "rlnAngleTiltPrior", "rlnAnglePsiPrior",
            "rlnHelicalTubeID", "rlnAnglePsiFlipRatio", "rlnHelicalTrackLengthAngst",
        ):  # fmt: skip
            np.testing.assert_allclose(by_us[column], by_relion[column], atol=1e-3, err_msg=column)
        np.testing.assert_array_equal(stack, of_relion)

    image = average(by_us, stack)
    walls = find_walls(image)
    # Two straight, parallel rows as far apart as the walls of the tube, around the middle.
    assert np.ptp(walls, axis=1).max() <= 1
    assert abs(np.median(walls[1] - walls[0]) - WIDTH_PX) <= 1
    assert abs(np.median(walls) - BOX / 2) <= 1
    # The other sign of psi does not align them.
    wrong = average({**by_us, "rlnAnglePsiPrior": -by_us["rlnAnglePsiPrior"]}, stack)
    rows = slice(BOX // 2 - 12, BOX // 2 + 13)
    assert image.mean(axis=1)[rows].std() > 2 * wrong.mean(axis=1)[rows].std()


def test_relion_extracts_every_segment_that_we_keep(project: Path) -> None:
    axis = np.array([[31.3, 300.0], [300.0, 480.9]])
    picks = cut_segments(make([axis, axis[:, ::-1] + 0.6]), RISE)
    whole = mask_whole_segments(picks.xy_px, (SIDE, SIDE), BOX)
    assert 0 < whole.sum() < len(picks)
    for kept in (picks, picks.select(whole)):
        write_picks(Path("Segments"), kept, FORMATS["autopick"])
        table, stack = extract("Segments", "_autopick.star")
        assert len(stack) == whole.sum()
        np.testing.assert_allclose(table["rlnCoordinateX"], picks.x[whole], atol=1e-4)


#: Of the simulated microtubules.
TUBULES, SPACING, TUBULE_BOX = FILAMENTS["microtubule"], 60.0, 128
#: Columns in a block whose walls are located together.
BLOCK = 16


def turn_with_relion(optics: object, particles: object, sign: float) -> NDArray[np.float64]:
    """Return the mean of the segments that RELION itself has turned by their psi priors."""
    turned = particles.copy()
    turned["rlnAnglePsi"] = sign * turned["rlnAnglePsiPrior"]
    turned["rlnOriginXAngst"] = turned["rlnOriginYAngst"] = 0.0
    starfile.write({"optics": optics, "particles": turned}, "turned.star", overwrite=True)
    command = ["relion_stack_create", "--i", "turned.star", "--o", "turned"]
    subprocess.run([*command, "--apply_transformation"], capture_output=True, check=True)
    return np.mean(mrcfile.read("turned.mrcs"), axis=0, dtype=np.float64)


def locate_walls(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows of the upper and lower wall, to fractions, for blocks of columns."""
    found = []
    for start in range(0, TUBULE_BOX, BLOCK):
        profile = ndimage.gaussian_filter1d(image[:, start : start + BLOCK].mean(axis=1), 2.0)
        rows = []
        for half in (slice(0, TUBULE_BOX // 2), slice(TUBULE_BOX // 2, TUBULE_BOX)):
            top = half.start + int(np.argmax(profile[half]))
            before, here, after = profile[top - 1 : top + 2]
            rows.append(top + 0.5 * (before - after) / (before - 2.0 * here + after))
        found.append(rows)
    return np.array(found).T


def draw_tubule() -> NDArray[np.float64]:
    """Return the density of a microtubule along x, averaged over rotations, without noise."""
    image = np.zeros((TUBULE_BOX, TUBULE_BOX), np.float32)
    stretch = TUBULES.build_stretch(3.0 * TUBULE_BOX * PIXEL)
    for turn in np.linspace(0.0, 360.0, 12, endpoint=False):
        angles = np.array([turn, 90.0, 180.0])
        add_projection(image, stretch, angles, np.full(2, TUBULE_BOX / 2), PIXEL)
    return image.astype(np.float64)


def test_traced_microtubules_have_straight_walls_on_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done("simulate", "set", "--filament", "microtubule", "--count", "3", "--seed", "110")
    monkeypatch.chdir("set")
    done("pick", "micrographs.star", "--filaments", "--width", "250", "-o", "picks",
         "--segments", f"{SPACING:g}")  # fmt: skip
    segments = starfile.read("picks/segments.star")["particles"]
    command = ["relion_preprocess", "--i", "micrographs.star", "--extract", "--invert_contrast"]
    command += ["--coord_dir", "picks/segments/", "--coord_suffix", "_autopick.star"]
    command += ["--part_star", "Extract/particles.star", "--part_dir", "Extract/"]
    command += ["--extract_size", str(TUBULE_BOX), "--norm", "--bg_radius", "50", "--helix"]
    command += ["--helical_outer_diameter", "300", "--helical_bimodal_angular_priors"]
    subprocess.run(command, capture_output=True, check=True)
    blocks = starfile.read("Extract/particles.star")
    optics, particles = blocks["optics"], blocks["particles"]

    # RELION extracts all but those whose boxes an edge cuts off, with their priors.
    xy = segments[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()
    whole = segments[mask_whole_segments(xy, (1024, 1024), TUBULE_BOX)]
    assert len(whole) > 150
    assert len(whole) < len(segments)
    assert len(particles) == len(whole)
    for column in (
        "rlnCoordinateX", "rlnCoordinateY", "rlnAnglePsiPrior", "rlnAngleTiltPrior",
        "rlnHelicalTubeID", "rlnHelicalTrackLengthAngst", "rlnAnglePsiFlipRatio",
    ):  # fmt: skip
        np.testing.assert_allclose(particles[column], whole[column], atol=2e-3, err_msg=column)
    assert {*particles["rlnMicrographName"]} == {*whole["rlnMicrographName"]}

    walls = locate_walls(turn_with_relion(optics, particles, 1.0))
    true = locate_walls(draw_tubule()).mean(axis=1)
    # Straight and parallel to within half a pixel over the box, around its middle.
    assert np.ptp(walls, axis=1).max() < 0.5
    assert np.ptp(walls[1] - walls[0]) < 0.5
    assert np.median(walls[1] - walls[0]) == pytest.approx(true[1] - true[0], abs=3.0)
    assert np.median(walls.mean(axis=0)) == pytest.approx(TUBULE_BOX / 2, abs=1.0)
    # The other sign of psi gives no straight walls.
    wrong = locate_walls(turn_with_relion(optics, particles, -1.0))
    assert np.ptp(wrong, axis=1).max() > 8.0
