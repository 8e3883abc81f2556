"""How images agree with maps."""

from __future__ import annotations

import math
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from heliodor.data.micrographs.ctf import CtfParameters, compute_chi
from heliodor.errors import BadInput
from heliodor.reconstruction.map_scores import (
    ControlPlan,
    MapScores,
    Projector,
    render_map_scores,
    rotation_of,
    score_images,
)
from heliodor.reconstruction.particles import PICK, RANDOM, ImageSettings, ImageTable, Positions
from heliodor.reconstruction.steps import Step

SIDE, PIXEL = 32, 4.0
SETTINGS = ImageSettings(SIDE, SIDE, PIXEL, 80.0)


def blobs() -> np.ndarray:
    density = np.zeros((SIDE, SIDE, SIDE))
    places = np.random.default_rng(0).integers(11, 22, size=(10, 3))
    density[tuple(places.T)] = 1.0
    return gaussian_filter(density, 1.5)


def image_of(projector: Projector, angles: tuple[float, ...], factor: np.ndarray | float = 1.0):
    found = np.fft.irfft2(projector.project(angles) * factor, s=(SIDE, SIDE))
    return np.fft.fftshift(found)


def test_without_a_rotation_the_sum_along_z_is_projected() -> None:
    density = blobs()
    found = image_of(Projector(density), (0.0, 0.0, 0.0))
    assert np.corrcoef(found.ravel(), density.sum(axis=0).ravel())[0, 1] > 0.999


def test_a_tilt_by_90_degrees_shows_the_map_along_x() -> None:
    density = blobs()
    found = image_of(Projector(density), (0.0, 90.0, 0.0))
    # The image's x is the map's -z, and its y the map's y.
    side_view = np.roll(density.sum(axis=2)[::-1].T, 1, axis=1)
    assert np.corrcoef(found.ravel(), side_view.ravel())[0, 1] > 0.999


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_rotations_are_rotations(angles: tuple[float, float, float]) -> None:
    found = rotation_of(angles)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(found) == pytest.approx(1)
    # The same view turned in its plane: rotations about z add up.
    added = rotation_of((angles[0], 0.0, angles[2]))
    np.testing.assert_allclose(added, rotation_of((angles[0] + angles[2], 0, 0)), atol=1e-12)


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, ControlPlan, ImageTable]:
    """Return projections with their CTF and shifts, and noise, as RELION would list them."""
    ctf = CtfParameters(15000, 14000, 30, 300, 2.7, 0.1)
    density, rng = blobs(), np.random.default_rng(1)
    with mrcfile.new(tmp_path / "map.mrc") as mrc:
        mrc.set_data(density.astype(np.float32))
    projector = Projector(density)
    transfer = np.sin(compute_chi((SIDE, SIDE), PIXEL, ctf))
    angles = rng.uniform(-180, 180, size=(8, 3))
    shifts = rng.integers(-2, 3, size=(8, 2))
    stack = rng.normal(size=(8, SIDE, SIDE))
    for number in range(4):
        image = image_of(projector, angles[number], transfer)
        stack[number] = np.roll(image, -shifts[number][::-1], (0, 1))
    mrcfile.write(tmp_path / "images.mrcs", stack.astype(np.float32))
    names = np.array([f"{number + 1:06d}@images.mrcs" for number in range(8)], dtype=object)
    columns = {"rlnImageName": names, "rlnOpticsGroup": np.array([1] * 8)}
    for label, value in (("U", 15000), ("V", 14000), ("Angle", 30)):
        columns[f"rlnDefocus{label}"] = np.full(8, float(value))
    optics = {"rlnOpticsGroup": np.array([1]), "rlnVoltage": np.array([300.0]),
              "rlnSphericalAberration": np.array([2.7]),
              "rlnAmplitudeContrast": np.array([0.1])}  # fmt: skip
    kind = np.array([PICK] * 6 + [RANDOM] * 2)
    score = np.where(kind == PICK, 1.5, math.nan)
    positions = Positions(np.zeros(8, np.intp), np.full((8, 2), 50.0), kind, score)
    head = "\ndata_particles\n\nloop_\n_rlnImageName\n_rlnAngleRot\n_rlnAngleTilt\n"
    head += "_rlnAnglePsi\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
    rows = [
        " ".join([str(name), *map(str, own), *map(str, PIXEL * shift)])
        for name, own, shift in zip(names, angles, shifts, strict=True)
    ]
    (tmp_path / "c").mkdir()
    (tmp_path / "c/run_it001_data.star").write_text(head + "\n".join(reversed(rows)) + "\n")
    plan = ControlPlan(Step("c", ()), np.arange(8), "map.mrc", 12.0)
    return tmp_path, plan, ImageTable(optics, columns, positions)


def test_projections_agree_with_the_map_and_noise_does_not(
    scored: tuple[Path, ControlPlan, ImageTable],
) -> None:
    work, plan, images = scored
    found = score_images(work, plan, images, SETTINGS)
    assert found[:4].min() > 0.95
    assert np.abs(found[4:]).max() < 0.4
    joined = MapScores.join([plan], [found], images)
    # Two of six picks are noise. One of two random positions is below their median or at it.
    assert joined.share_of(np.arange(4)).value == 0
    table = render_map_scores(joined, images.positions, ["a.mrc"]).splitlines()
    assert len(table) == 9
    assert table[1].split("\t")[:5] == ["a.mrc", "50", "50", "pick", "1.5"]
    assert table[-1].split("\t")[3:5] == ["random", ""]


def test_the_only_image_of_a_stack_is_scored_as_among_others(
    scored: tuple[Path, ControlPlan, ImageTable],
) -> None:
    work, plan, images = scored
    among_others = score_images(work, plan, images, SETTINGS)
    stack = mrcfile.read(work / "images.mrcs")
    for number in range(8):
        mrcfile.write(work / f"{number}.mrcs", stack[number])
        images.columns["rlnImageName"][number] = f"000001@{number}.mrcs"
    table = work / "c/run_it001_data.star"
    rows = table.read_text()
    for number in range(8):
        rows = rows.replace(f"{number + 1:06d}@images.mrcs", f"000001@{number}.mrcs")
    table.write_text(rows)
    np.testing.assert_array_equal(score_images(work, plan, images, SETTINGS), among_others)


def test_a_map_of_another_size_is_refused(
    scored: tuple[Path, ControlPlan, ImageTable],
) -> None:
    work, plan, images = scored
    with mrcfile.new(work / "map.mrc", overwrite=True) as mrc:
        mrc.set_data(np.zeros((16, 16, 16), np.float32))
    with pytest.raises(BadInput, match="is not a map of 32 pixels"):
        score_images(work, plan, images, SETTINGS)
    (work / "map.mrc").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be read as a map"):
        score_images(work, plan, images, SETTINGS)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.integers(0, 100))
def test_the_share_of_picks_like_random_positions_is_found(share: float, seed: int) -> None:
    rng, count = np.random.default_rng(seed), 2000
    junk = round(share * count)
    kind = np.array([PICK] * count + [RANDOM] * count)
    score = np.concatenate([rng.normal(size=junk), rng.normal(6, 1, size=count - junk),
                            rng.normal(size=count)])  # fmt: skip
    rows = np.arange(2 * count)
    positions = Positions(np.zeros(2 * count, np.intp), np.zeros((2 * count, 2)), kind, score)
    images = ImageTable({}, {}, positions)
    plan = ControlPlan(Step("c", ()), rows, "map.mrc", 12.0)
    found = MapScores.join([plan], [score], images).share_of(rows[:count])
    assert found.value == pytest.approx(share, abs=max(0.02, 5 * found.error))
