"""`heliodor judge` with a real RELION. Slow."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.formats.relion_star import write_picks
from heliodor.data.coordinates.picks import Picks
from heliodor.reconstruction.fsc import correlate_shells
from heliodor.reconstruction.map_scores import Projector
from heliodor.reconstruction.programs import FOR_CLASSES, FOR_MAPS
from heliodor.simulation.builtin_particles import PARTICLES
from helpers.cli import done

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in (*FOR_CLASSES, *FOR_MAPS)),
        reason="RELION is not installed",
    ),
]

DIAMETER, PIXEL, SIDE = 120, 6.0, 512
#: Random positions with the lowest score, on each micrograph.
FALSE = 30


def write_map(path: Path, particle: str, side: int) -> Path:
    """Write a built-in particle as a map."""
    blobs = PARTICLES[particle].blobs
    edges = [(np.arange(side + 1) - side // 2 - 0.5) * PIXEL] * 3
    grid, _ = np.histogramdd(blobs.positions[:, ::-1], edges, weights=blobs.weights)
    with mrcfile.new(path) as mrc:
        mrc.set_data(gaussian_filter(grid, 1.5).astype(np.float32))
        mrc.voxel_size = PIXEL
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return simulated shells with picks, a third of them false, and a map of the shell."""
    folder = tmp_path_factory.mktemp("judge")
    shells = ("--particle", "shell", "--pixel-size", PIXEL, "--size-px", SIDE, "--snr", 0.5)
    done("simulate", folder, *shells, "--count", 4, "--particles", 70, "--contaminants", 0)
    rng, tables = np.random.default_rng(0), []
    for name, own in read_picks(folder / "truth.star").split_by_micrograph():
        tried = rng.uniform(20, SIDE - 20, size=(4000, 2))
        false = tried[KDTree(own.xy_px).query(tried)[0] > DIAMETER / PIXEL][:FALSE]
        score = np.repeat([2.0, 1.0], [len(own), len(false)])
        tables.append(Picks.on(name, np.concatenate([own.xy_px, false]), score))
    write_picks(folder / "picks.star", Picks.concatenate(tables))
    write_map(folder / "map.mrc", "shell", 32)
    return folder


def test_false_picks_and_maps_are_told_from_particles(folder: Path, tmp_path: Path) -> None:
    stars = ("--micrographs", folder / "micrographs.star", "--diameter", DIAMETER)
    maps = ("--symmetry", "O", "--sets", 1, "--splits", 2, "-o", tmp_path)
    judge = ("judge", folder / "picks.star", *stars, "--thresholds", "2,1", *maps)
    done(*judge, "--reference", folder / "map.mrc")
    found = json.loads((tmp_path / "judge.json").read_text())["judgement"]
    true, false = (each["junk"]["value"] for each in found["bins"])
    assert true < 0.15
    assert false > 0.7
    judged = [one["maps"] for one in found["sets"] if one["maps"] is not None]
    assert len(judged) == 1
    assert max(judged[0]["resolution_angstrom"]) < 40
    assert judged[0]["offset_angstrom"] < 2 * PIXEL
    true, false = (each["as_decoys_in_map"]["value"] for each in found["bins"])
    assert true < 0.15
    assert false > 0.7
    # From an initial model, with the classes that are there.
    done(*judge)
    again = json.loads((tmp_path / "judge.json").read_text())["judgement"]
    # The classes are the same, the maps with which picks are compared are not.
    for one, other in zip(again["bins"], found["bins"], strict=True):
        own, its = one.pop("as_decoys_in_map"), other.pop("as_decoys_in_map")
        assert own["value"] == pytest.approx(its["value"], abs=0.15)
        assert one == other
    assert list((tmp_path / "work/initial").glob("*.mrc"))
    (area,) = (one["maps"]["area"] for one in again["sets"] if one["maps"] is not None)
    assert np.mean(area) > 0.9 * np.mean(judged[0]["area"])


def test_few_small_images_without_symmetry_are_oriented(tmp_path: Path) -> None:
    """Their halves agree, which they did not when transforms were not padded."""
    big = ("--particle", "ribosome", "--pixel-size", PIXEL, "--size-px", 640, "--snr", 0.1)
    done("simulate", tmp_path, *big, "--count", 6, "--contaminants", 0, "--seed", 731)
    reference = write_map(tmp_path / "map.mrc", "ribosome", 80)
    stars = ("--micrographs", tmp_path / "micrographs.star", "--diameter", 250)
    maps = ("--reference", reference, "--sets", 1, "--splits", 2, "--image-px", 24)
    truth = read_picks(tmp_path / "truth.star").split_by_micrograph()
    parts = [Picks.on(name, own.xy_px, np.ones(len(own))) for name, own in truth]
    write_picks(tmp_path / "picks.star", Picks.concatenate(parts))
    out = tmp_path / "out"
    done("judge", tmp_path / "picks.star", *stars, "--thresholds", 0, *maps, "-o", out)
    found = json.loads((out / "judge.json").read_text())["judgement"]
    (judged,) = (one["maps"] for one in found["sets"])
    assert max(judged["resolution_angstrom"]) < 70
    assert judged["offset_angstrom"] < 8


@pytest.mark.skipif(shutil.which("relion_project") is None, reason="RELION is not installed")
@pytest.mark.parametrize("angles", [(30, 0, 0), (0, 40, 0), (20, 50, -70)])
def test_projections_are_those_of_relion(tmp_path: Path, angles: tuple[int, int, int]) -> None:
    density = np.zeros((32, 32, 32))
    places = np.random.default_rng(0).integers(9, 23, size=(12, 3))
    density[tuple(places.T)] = 1
    density = gaussian_filter(density, 1.5)
    with mrcfile.new(tmp_path / "map.mrc") as mrc:
        mrc.set_data(density.astype(np.float32))
        mrc.voxel_size = 4.0
    words = ["relion_project", "--i", "map.mrc", "--o", "image.mrc", "--angpix", "4"]
    for name, angle in zip(("rot", "tilt", "psi"), angles, strict=True):
        words += [f"--{name}", str(angle)]
    subprocess.run(words, capture_output=True, check=True, cwd=tmp_path)
    theirs = mrcfile.read(tmp_path / "image.mrc").squeeze()
    ours = np.fft.fftshift(np.fft.irfft2(Projector(density).project(angles), s=(32, 32)))
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.999


def test_the_correlation_is_that_of_relion(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    signal = gaussian_filter(rng.normal(size=(32, 32, 32)), 1.0)
    halves = [signal + 0.05 * rng.normal(size=signal.shape) for _ in range(2)]
    paths = [tmp_path / "one.mrc", tmp_path / "other.mrc"]
    for path, half in zip(paths, halves, strict=True):
        with mrcfile.new(path) as mrc:
            mrc.set_data(half.astype(np.float32))
            mrc.voxel_size = 4.0
    words = ["relion_image_handler", "--i", paths[0], "--fsc", paths[1], "--angpix", "4"]
    # It leaves a file without a name where it runs.
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    rows = [line.split() for line in said.splitlines() if line[:1] == " "]
    theirs = np.array([float(row[3]) for row in rows if len(row) == 4 and row[0].isdigit()])
    ours = correlate_shells(*halves, 4.0).correlation
    np.testing.assert_allclose(theirs[1:16], ours[1:16], atol=0.01)
