"""The benchmark of objectives: what its runs share, its tests, and a tiny run of all of it."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliodor.errors import BadInput

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def benchmarks() -> Any:
    """Let the benchmarks, which are scripts and no package, be imported."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def row(**changes: Any) -> dict[str, Any]:
    """What a run writes, as far as the report reads it."""
    usual = {
        "dataset": "trimer",
        "objective": "ge-binomial",
        "labels": 10,
        "draw": 0,
        "gamma": 0.0,
        "factor": 1.0,
        "recipe": "fast",
        "updates": None,
        "width": 32,
        "region_ap": 0.5,
        "particle_ap": 0.5,
        "training_cpu_seconds": 1.0,
        "judging_cpu_seconds": 1.0,
    }
    return usual | changes


def options(*words: str) -> Any:
    return script("objectives").parse(["--out", "out", *words])


def test_a_draw_depends_on_the_data_the_number_and_the_draw_alone() -> None:
    draw_labels = script("objectives").draw_labels
    truth = [np.random.default_rng(i).uniform(size=(40, 2)) for i in range(3)]

    def chosen(name: str, labels: int, draw: int) -> set[tuple[float, ...]]:
        parts = draw_labels(truth, name, labels, draw)
        assert len(parts) == len(truth)
        for part, whole in zip(parts, truth, strict=True):
            assert {*map(tuple, part)} <= {*map(tuple, whole)}
        return {tuple(xy) for part in parts for xy in part}

    first = chosen("trimer", 30, 0)
    assert len(first) == 30
    assert first == chosen("trimer", 30, 0)
    assert first != chosen("trimer", 30, 1)
    assert first != chosen("stick", 30, 0)
    assert len(chosen("trimer", 120, 0)) == 120
    with pytest.raises(BadInput, match="has 120 particles to train on, fewer than 121"):
        draw_labels(truth, "trimer", 121, 0)


def test_every_run_has_a_name_of_its_own_and_draws_come_last() -> None:
    objectives = script("objectives")
    runs = objectives.wanted_runs(options("--grid", "all", "--draws", "3"))
    # Per data set and draw: 5 objectives x 7 labels; 2 more weights of which one is double at
    # ten labels; 4 more factors at two numbers of labels.
    assert len(runs) == 3 * 3 * (5 * 7 + 2 * 7 - 1 + 4 * 2)
    others = objectives.wanted_runs(options("--grid", "all", "--draws", "3", "--updates", "9"))
    assert len({run.name for run in [*runs, *others]}) == 2 * len(runs)
    draws = [run.draw for run in runs]
    assert draws == sorted(draws)
    assert draws.count(0) == draws.count(2)


def test_what_training_cannot_do_is_refused() -> None:
    objectives = script("objectives")
    plain = objectives.Run("trimer", "pn", 10, 4, updates=7)
    settings = objectives.settings_for(plain)
    assert (settings.objective, settings.seed) == ("pn", 4)
    assert settings.epochs * settings.epoch_updates == 7
    with pytest.raises(BadInput):
        objectives.settings_for(objectives.Run("trimer", "pn", 10, 4, recipe="unheard-of"))


def test_paired_t_test_by_hand() -> None:
    paired = script("objectives_cells").Paired
    # Differences 1, 2, 3: mean 2, standard deviation 1, t = 2 sqrt(3); with two degrees of
    # freedom p = 1 - t / sqrt(2 + t^2).
    t = 2 * math.sqrt(3)
    test = paired.of({0: 2.0, 1: 4.0, 2: 6.0, 5: 9.0}, {2: 3.0, 1: 2.0, 0: 1.0, 4: 8.0})
    assert (test.difference, test.number) == (2.0, 3)
    assert test.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert test.mark == ""
    better, worse = {0: 0.80, 1: 0.81, 2: 0.82}, {0: 0.70, 1: 0.70, 2: 0.73}
    assert paired.of(better, worse).mark == "*"
    assert paired.of(worse, better).mark == "†"
    assert paired.of({0: 1.0}, {1: 1.0}) is None
    for one, other in (({0: 1.0}, {0: 0.5}), (better, better)):
        assert paired.of(one, other).p is None


def test_runs_are_sorted_into_their_grids() -> None:
    cells = script("objectives_cells")
    rows = [
        row(region_ap=0.1),
        row(gamma=1.0, region_ap=0.2),
        row(labels=100, gamma=0.1, region_ap=0.3),
        row(factor=0.5, region_ap=0.4),
        row(objective="pn", region_ap=0.6),
        row(objective="pn", draw=1, region_ap=None),
        row(dataset="stick", region_ap=0.7),
    ]
    assert cells.collect(rows, "region_ap", cells.by_objective) == {
        "trimer": {"ge-binomial": {10: {0: 0.1}}, "pn": {10: {0: 0.6}}},
        "stick": {"ge-binomial": {10: {0: 0.7}}},
    }
    assert cells.collect(rows, "region_ap", cells.by_gamma) == {
        "trimer": {
            "γ = 0": {10: {0: 0.1}},
            "γ = 1": {10: {0: 0.2}},
            "γ = 10/N": {10: {0: 0.2}, 100: {0: 0.3}},
        }
    }
    assert cells.collect(rows, "region_ap", cells.by_factor) == {
        "trimer": {"N = 10": {1.0: {0: 0.1}, 0.5: {0: 0.4}}}
    }


def test_the_report_tells_means_tests_and_marks(tmp_path: Path) -> None:
    values = {"ge-binomial": (0.80, 0.81, 0.82), "pn": (0.70, 0.70, 0.73), "nnpu": (0.5,)}
    (tmp_path / "runs").mkdir()
    for objective, own in values.items():
        for draw, value in enumerate(own):
            for gamma in (0.0, 1.0):
                found = row(objective=objective, draw=draw, gamma=gamma, region_ap=value)
                path = tmp_path / "runs" / f"{objective}_{gamma}_{draw}.json"
                path.write_text(json.dumps(found))
    text = script("objectives_report").report(tmp_path, tmp_path / "out")
    assert text.rstrip() == (tmp_path / "out" / "tables.md").read_text().rstrip()
    assert "| N | pn | nnpu | ge-binomial |" in text
    assert "| 10 | 0.710 ± 0.017 (3) | 0.500 (1) | 0.810 ± 0.010 (3) |" in text
    assert "| N | ge-binomial less pn | ge-binomial less nnpu |" in text
    assert "| 10 | +0.100 (3) 0.003 * | +0.300 (1) – |" in text
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"objectives.png", "autoencoder.png"}


def test_a_tiny_comparison_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objectives, data = script("objectives"), script("objectives_data")
    tiny = data.Simulated("trimer", training=2, test=1, side_px=200)
    monkeypatch.setitem(data.DATASETS, "tiny", tiny)
    monkeypatch.setattr(objectives, "PRIOR_LABELS", (4,))
    monkeypatch.setattr(objectives, "FACTORS", (0.5, 1.0))
    command = ["--out", str(tmp_path), "--datasets", "tiny", "--objectives", "pn", "ge-binomial"]
    command += ["--labels", "4", "--draws", "1", "--updates", "3", "--width", "4"]
    assert objectives.main(command) == 0
    assert objectives.main([*command, "--grid", "prior"]) == 0
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == 3
    for path in files:
        found = json.loads(path.read_text())
        assert 0 <= found["region_ap"] <= 1
        assert 0 < found["prior"] < 0.1
    written = [path.stat().st_mtime_ns for path in files]
    capsys.readouterr()
    assert objectives.main(command) == 0
    assert "2 are there already, 0 to do" in capsys.readouterr().out
    assert written == [path.stat().st_mtime_ns for path in files]
    # One that fails is told of, leaves no file and stops none of the others.
    assert objectives.main([*command, "--labels", "9999", "5"]) == 1
    told = capsys.readouterr().out
    assert "FAILED tiny_pn_n9999" in told
    assert len(list((tmp_path / "runs").iterdir())) == 5

    report = script("objectives_report").report(tmp_path, tmp_path / "report")
    assert "### Region AP, tiny, by objective" in report
    assert "### Particle AP, tiny, by class prior" in report
    for name in ("objectives.png", "prior.png"):
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_updates_are_timed_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = script("speed_training")
    monkeypatch.setattr(speed, "MICROGRAPHS", 2)
    monkeypatch.setattr(speed, "SIDE_PX", 64)
    images = speed.data(tmp_path)
    assert len((tmp_path / "targets.txt").read_text().splitlines()) == 2 * speed.LABELS + 1
    settings = speed.settings_for("conv31", updates=2, repeats=3)
    settings = replace(settings, width=2, batch=8, positives=2)
    turns: list[int] = []

    class Peer:
        def updates(self) -> tuple[float, float]:
            turns.append(len(turns))
            # The first turn warms up and does not count.
            return (0.5, 0.25) if len(turns) > 1 else (90.0, 90.0)

    took = speed.by_turns(images, settings, Peer())
    assert turns == [0, 1, 2, 3]
    assert (took.data, took.step) == (0.5, 0.25)
    assert 0 < took.own_data < took.own < 60
    # A convolution of 7 x 7 to 13 x 13 pixels, of 5 x 5 to 5 x 5 and to one, and the classifier:
    # forth, and back to the weights and but for the first to the images.
    layers = [7 * 7 * 2 * 13 * 13, 25 * 2 * 4 * 25, 25 * 4 * 8, 8]
    expected = 2 * 8 * (3 * sum(layers) - layers[0])
    assert speed.operations(images, settings) == expected
