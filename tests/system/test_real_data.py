"""The main job on real micrographs, and its picks in a real RELION. Slow."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks
from helpers.cli import done

pytestmark = pytest.mark.slow


def test_the_main_job_on_beta_galactosidase(real_data: Path, tmp_path: Path) -> None:
    data = real_data / "betagal"
    out = tmp_path / "out"
    done(
        *("run", "--micrographs", data / "train.star", "--labels", data / "manual_positive.star"),
        *("--diameter", 180, "--expected-particles", 640, "--pick", data / "test.star"),
        *("--truth", data / "dense.star", "--match-distance", 70, "-o", out),
    )
    figures = json.loads((out / "evaluation.json").read_text())
    assert figures["micro"]["average_precision"] >= 0.80
    assert figures["best_f1"] >= 0.80
    # The model's own threshold is near the best one.
    assert figures["micro"]["f1"] >= figures["best_f1"] - 0.05


@pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="RELION is not installed")
@pytest.mark.parametrize("upside_down", [False, True])
def test_relion_extracts_centred_particles(
    upside_down: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done("simulate", ".", "--particle", "shell", "--count", 6, "--labels", 150, "--snr", 0.3)
    done(
        *("run", "--micrographs", "micrographs.star", "--labels", "labels.star"),
        *("--diameter", 120, "--expected-particles", 150, "--epochs", 4, "-o", "AutoPick/job001"),
    )
    if upside_down:
        for path in Path("AutoPick/job001/micrographs").glob("*_autopick.star"):
            table = starfile.read(path)
            table["rlnCoordinateY"] = 1023 - table["rlnCoordinateY"]
            starfile.write(table, path, overwrite=True)
    picks = read_picks("AutoPick/job001/autopick.star")
    box = 48
    command = ["relion_preprocess", "--i", "micrographs.star", "--extract"]
    command += ["--coord_dir", "AutoPick/job001/", "--coord_suffix", "_autopick.star"]
    command += ["--part_star", "Extract/particles.star", "--part_dir", "Extract/"]
    command += ["--extract_size", str(box), "--norm", "--bg_radius", "18", "--invert_contrast"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "WARNING" not in result.stdout + result.stderr
    stack = np.concatenate([mrcfile.read(p) for p in sorted(Path("Extract").rglob("*.mrcs"))])
    # RELION also extracts boxes that cross an edge, so every pick counts.
    assert len(stack) == len(picks)
    # Particles are bright now: their ring in the average stands out, or nothing does.
    average = stack.mean(axis=0)
    y, x = np.mgrid[:box, :box] - box // 2
    ring = average[(np.hypot(x, y) > 9) & (np.hypot(x, y) < 14)].mean()
    around = average[np.hypot(x, y) > 20]
    contrast = (ring - around.mean()) / around.std()
    assert contrast < 3 if upside_down else contrast > 10
