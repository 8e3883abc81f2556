"""A wrong pixel size or diameter is noticed where the particles look twice or half as large."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliodor.simulation import SimulationSettings, simulate
from helpers.cli import done

DIAMETER = 120.0


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / "data"
    settings = SimulationSettings(
        particle="shell", count=3, shape=(512, 512), pixel_size_angstrom=3.0, seed=4, snr=0.2
    )
    simulate(folder, settings)
    return folder / "micrographs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pixel", "diameter", "sentence"),
    [
        (3.0, DIAMETER, None),
        (2.5, DIAMETER, None),
        (1.5, DIAMETER, "the particles look half as large as the diameter of 120 Å: with 60 Å"),
        (3.0, 2 * DIAMETER, "the particles look half as large as the diameter of 240 Å"),
        (6.0, DIAMETER, "the particles look twice as large as the diameter of 120 Å: with 240 Å"),
    ],
)
def test_particles_of_another_size_are_noticed(
    pixel: float, diameter: float, sentence: str | None, micrographs: Path, tmp_path: Path
) -> None:
    said = done(
        "pick", micrographs, "--diameter", diameter, "--pixel-size", pixel, "-o", tmp_path / "out"
    ).err
    assert ("the particles look" in said) is (sentence is not None)
    if sentence is not None:
        assert sentence in said
        assert "Check the pixel size of the micrographs (--pixel-size)" in said


def test_a_diameter_as_large_as_the_micrograph(micrographs: Path, tmp_path: Path) -> None:
    said = done("pick", micrographs, "--diameter", 1200, "-o", tmp_path / "out").err
    assert "the micrographs are only about 1,5" in said
    assert "too little for particles of 1200 Å" in said


def test_a_box_as_large_as_the_micrograph(micrographs: Path, tmp_path: Path) -> None:
    said = done(
        "pick", micrographs, "--diameter", DIAMETER, "--box-px", 9000, "-o", tmp_path / "out"
    ).err
    assert "nothing can be picked on" in said
    assert "too near to an edge for the box" in said


def test_empty_micrographs_show_no_size(tmp_path: Path) -> None:
    settings = SimulationSettings(
        count=2, shape=(320, 320), pixel_size_angstrom=5.0, seed=4, particles_per_micrograph=0
    )
    simulate(tmp_path / "empty", settings)
    said = done(
        "pick", tmp_path / "empty" / "micrographs", "--diameter", 120, "-o", tmp_path / "out"
    ).err
    assert "the particles look" not in said
