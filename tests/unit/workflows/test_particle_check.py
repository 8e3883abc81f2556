"""``check --diameter``: particles of another size or contrast are noticed."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.simulation import SimulationSettings, simulate
from helpers.cli import call, done


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small micrographs with 60 labels."""
    folder = tmp_path_factory.mktemp("check") / "data"
    settings = SimulationSettings(
        particle="shell", count=3, shape=(400, 400), pixel_size_angstrom=3.0, seed=4, snr=0.3,
        particles_per_micrograph=30, labels=60,
    )  # fmt: skip
    simulate(folder, settings)
    return folder


@pytest.mark.slow
def test_the_right_diameter_raises_no_doubt(data: Path) -> None:
    said = done(
        "check", data / "micrographs", data / "labels.star", "--micrographs",
        data / "micrographs", "--diameter", 120,
    ).out  # fmt: skip
    assert "nothing speaks against dark particles of 120 Å" in said


@pytest.mark.slow
def test_a_wrong_pixel_size_is_noticed_with_and_without_labels(data: Path) -> None:
    command = ("check", data / "micrographs", "--diameter", 120, "--pixel-size")
    for size, words in ((6, "the particles look twice as large"), (1.5, "half as large")):
        result = call(*command, size)
        assert result.code == 2
        assert words in result.out
    labels = ("check", data / "labels.star", "--micrographs", data / "micrographs")
    result = call(*labels, "--diameter", 250)
    assert result.code == 2
    assert "labels show particles of about" in result.out


def test_inverted_contrast_is_noticed(data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "micrographs").iterdir()):
        with mrcfile.open(path) as file:
            image, size = np.array(file.data), float(file.voxel_size.x)
        with mrcfile.new(tmp_path / path.name) as file:
            file.set_data(-image)
            file.voxel_size = size
    result = call("check", tmp_path, "--diameter", 120)
    assert result.code == 2
    assert "the contrast of the micrographs seems to be the opposite" in result.out


def test_headers_do_not_show_particles(data: Path) -> None:
    refused = call("check", data / "micrographs", "--diameter", 120, "--headers-only")
    assert refused.code == 2
    assert "leave out --headers-only or --diameter" in refused.sentence
