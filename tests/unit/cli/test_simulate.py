"""``heliodor simulate`` and ``heliodor demo`` from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import pytest
import starfile

from heliodor.data.coordinates.formats import read_picks
from heliodor.report import report
from heliodor.simulation import SimulationSettings
from heliodor.training.settings import TrainingSettings
from heliodor.workflows import demo
from helpers.cli import call, done
from helpers.shell_jobs import PIXEL, SHELLS, files_in


def test_simulate_writes_what_was_asked_for(tmp_path: Path) -> None:
    options = ("--count", 2, "--size-px", "200x160", "--particles", 5, "--labels", 7, "--seed", 4)
    result = done("simulate", tmp_path, *SHELLS, *options)
    assert f"2 micrographs with 10 particles in {tmp_path}" in result.err
    images = {f"micrographs/shell_000{n}.mrc" for n in (1, 2)}
    assert files_in(tmp_path) == images | {"micrographs.star", "truth.star", "labels.star"}
    for name in images:
        with mrcfile.open(tmp_path / name) as mrc:
            assert mrc.data.shape == (160, 200)
            assert float(mrc.voxel_size.x) == pytest.approx(PIXEL)
    listed = starfile.read(tmp_path / "micrographs.star")
    assert set(listed["micrographs"]["rlnMicrographName"]) == images
    assert listed["optics"]["rlnMicrographPixelSize"].tolist() == [PIXEL]
    truth, labels = read_picks(tmp_path / "truth.star"), read_picks(tmp_path / "labels.star")
    assert truth.counts().tolist() == [5, 5]
    assert len(labels) == 7
    assert {tuple(xy) for xy in labels.xy_px.tolist()} <= {
        tuple(xy) for xy in truth.xy_px.tolist()
    }
    assert (truth.xy_px < [200, 160]).all()


def test_simulate_options_reach_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heliodor import simulation

    seen: list[SimulationSettings] = []

    def make(out: Path, settings: SimulationSettings, progress: object) -> simulation.SimulatedSet:
        seen.append(settings)
        return simulation.SimulatedSet(out, out, out, None, 1, 1, 0)

    monkeypatch.setattr("heliodor.simulation.dataset.simulate", make)
    typed = "--particle stick --count 3 --size-px 128 --pixel-size 5 --particles 0 --snr 0.3"
    typed += " --defocus-min 0.5 --defocus-max 3 --voltage 200 --b-factor 80 --contaminants 2"
    done("simulate", tmp_path, *typed.split(), "--orientations", "preferred", "--overlap")
    assert seen == [
        SimulationSettings(
            particle="stick",
            count=3,
            shape=(128, 128),
            pixel_size_angstrom=5.0,
            particles_per_micrograph=0,
            snr=0.3,
            defocus_min_um=0.5,
            defocus_max_um=3.0,
            voltage_kv=200.0,
            b_factor=80.0,
            contaminants=2.0,
            orientations="preferred",
            overlap=True,
        )
    ]


def test_demo_does_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimulationSettings(
        particle="shell",
        count=3,
        shape=(256, 256),
        pixel_size_angstrom=PIXEL,
        particles_per_micrograph=6,
        snr=0.5,
        contaminants=0.0,
        labels=9,
    )
    monkeypatch.setattr(demo, "TRAINING_SET", small)
    monkeypatch.setattr(demo, "TEST_SET", replace(small, count=2, labels=0, seed=1))
    recipe = TrainingSettings(width=2, epochs=1, epoch_updates=10)
    monkeypatch.setattr(demo, "RECIPE", recipe)
    monkeypatch.setattr(demo, "START", "scratch")
    shown: list[Any] = []
    write = report.write_report

    def write_report(path: Path, content: Any) -> None:
        shown.append(content)
        write(path, content)

    monkeypatch.setattr("heliodor.report.report.write_report", write_report)
    out = tmp_path / "demo"
    result = done("demo", "-o", out)
    written = out / "results" / "report.html"
    assert str(written) in result.err.splitlines()[0]
    assert written.is_file()
    assert f"report: {out / 'results' / 'report.html'}" in result.err
    made = {"model.safetensors", "picks.tsv", "evaluation.json", "report.html", "run.json"}
    assert files_in(out / "results") >= made
    record = json.loads((out / "results" / "run.json").read_text())
    assert record["arguments"]["diameter_angstrom"] == 120.0
    assert record["evaluation"]["n_truth"] == 12
    # The two sets call their micrographs the same; labels of one are not those of the other.
    assert [item.labels_xy_px for item in shown[0].gallery] == [None, None]
    again = call("demo", "-o", out)
    assert again.code == 2
    assert "earlier demonstration" in again.sentence
