"""The benchmarks: of objectives, with a tiny run of all of it; of speed, without its peers."""

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

from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.errors import BadInput
from heliodor.picking.nms import suppress
from helpers.networks import scrambled

BENCHMARKS = Path(__file__).resolve().parents[2]


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
    return script("benchmarks.accuracy.objectives.run").parse(["--out", "out", *words])


def test_a_draw_depends_on_the_data_the_number_and_the_draw_alone() -> None:
    draw_labels = script("benchmarks.accuracy.objectives.run").draw_labels
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
    objectives = script("benchmarks.accuracy.objectives.run")
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
    objectives = script("benchmarks.accuracy.objectives.run")
    plain = objectives.Run("trimer", "pn", 10, 4, updates=7)
    settings = objectives.settings_for(plain)
    assert (settings.objective, settings.seed) == ("pn", 4)
    assert settings.epochs * settings.epoch_updates == 7
    with pytest.raises(BadInput):
        objectives.settings_for(objectives.Run("trimer", "pn", 10, 4, recipe="unheard-of"))


def test_paired_t_test_by_hand() -> None:
    paired = script("benchmarks.accuracy.objectives.cells").Paired
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
    cells = script("benchmarks.accuracy.objectives.cells")
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
    text = script("benchmarks.accuracy.objectives.report").report(tmp_path, tmp_path / "out")
    assert text.rstrip() == (tmp_path / "out" / "tables.md").read_text().rstrip()
    assert "| N | pn | nnpu | ge-binomial |" in text
    assert "| 10 | 0.710 ± 0.017 (3) | 0.500 (1) | 0.810 ± 0.010 (3) |" in text
    assert "| N | ge-binomial less pn | ge-binomial less nnpu |" in text
    assert "| 10 | +0.100 (3) 0.003 * | +0.300 (1) – |" in text
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"objectives.png", "autoencoder.png"}


@pytest.mark.slow
def test_a_tiny_comparison_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objectives, data = (
        script("benchmarks.accuracy.objectives.run"),
        script("benchmarks.accuracy.objectives.data"),
    )
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

    report = script("benchmarks.accuracy.objectives.report").report(tmp_path, tmp_path / "report")
    assert "### Region AP, tiny, by objective" in report
    assert "### Particle AP, tiny, by class prior" in report
    for name in ("objectives.png", "prior.png"):
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_updates_are_timed_by_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = script("benchmarks.speed.training")
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


# ---- speed ----


def test_a_process_is_measured_apart_from_the_one_that_starts_it() -> None:
    """Linux lets the peak of a process begin with that of its parent; ours must not show."""
    process = script("benchmarks.common.processes")
    ballast = np.ones(40_000_000)
    code = "import time; held = bytearray(b'x') * 30_000_000; time.sleep(0.1)"
    took = process.run([sys.executable, "-I", "-S", "-c", code])
    assert 0.1 < took.seconds < 60
    assert 30 < took.peak_mb < 100 < ballast.nbytes / 1e6
    with pytest.raises(RuntimeError, match=r"ended in 3: (.|\n)*gone wrong"):
        process.run([sys.executable, "-c", "print('gone wrong'); raise SystemExit(3)"])


def test_turns_tell_time_and_memory() -> None:
    process = script("benchmarks.common.processes")
    code = "import sys, time; sys.path.insert(0, sys.argv[1])\n"
    code += "from benchmarks.common.turns import serve\n"
    code += "held = bytearray(b'x') * 20_000_000\n"
    code += "def work(n):\n    bytearray(b'x') * (n * 10**7); time.sleep(0.05 * n)\nserve(work)"
    with process.Worker([sys.executable, "-c", code, str(BENCHMARKS)]) as worker:
        three, one = worker.turn(3), worker.turn(1)
    assert 0.15 < three.seconds < 60
    assert 0.05 < one.seconds < 60
    assert 29 < three.above_mb < 40
    assert 9 < one.above_mb < 20
    assert one.peak_mb == three.peak_mb > 49
    with process.Worker([sys.executable, "-c", "raise SystemExit(4)"]) as worker:
        with pytest.raises(RuntimeError, match="ended in 4"):
            worker.turn()
    order: list[str] = []
    runs = {"a": [3.0, 1.0, 2.0], "b": [9.0, 9.0, 9.0]}

    def take(name: str) -> Any:
        order.append(name)
        return process.Run(runs[name].pop(), 5.0 + len(runs[name]))

    took = process.in_turn({name: lambda name=name: take(name) for name in runs}, 3)
    assert order == ["a", "b"] * 3
    assert took["a"] == process.Run(2.0, 7.0, None)


def test_rows_say_whether_their_bars_are_met() -> None:
    table, run = script("benchmarks.common.tables"), script("benchmarks.common.processes").Run
    met = table.at_least(4.0, 4.0, "ratio")
    missed = table.at_most(2.5, 2.0, "time / floor")
    rows = [
        table.Row("both", run(0.5, 100.0, 20.0), run(2.0, 400.0), 0.2, [met, missed]),
        table.Row("ours", run(12.0, 100.0)),
    ]
    lines = table.table(rows, "LoG").splitlines()
    assert lines[0].startswith("| what | LoG, s | heliodor, s | ratio | LoG, MB |")
    assert lines[2] == (
        "| both | 2.00 | 0.500 | 4.0 | 400 | 100 (20) | 0.200 | 2.50 |"
        " ratio at least 4 (is 4): met; time / floor at most 2 (is 2.5): **not met** |"
    )
    assert lines[3] == "| ours |  | 12.00 |  |  | 100 |  |  |  |"


def test_floors_are_those_of_the_files_and_of_the_network(tmp_path: Path) -> None:
    floors = script("benchmarks.speed.machine_limits")
    image = np.random.default_rng(0).standard_normal((24, 16)).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", image, 1.0)
    buffer = np.zeros_like(image)
    floors.read_and_transform([tmp_path / "a.mrc"], buffer, 1)
    np.testing.assert_array_equal(buffer, image)
    with pytest.raises(ValueError, match="is no"):
        floors.read(tmp_path / "a.mrc", np.zeros((24, 17), dtype=np.float32))
    # By hand, of a 9 x 9 image padded by 15: the sides of what each layer gives, densely.
    network = scrambled("conv31", 2)
    by_hand = 33**2 * 2 * 49 + 25**2 * 4 * 2 * 25 + 9**2 * 8 * 4 * 25 + 9**2 * 8
    assert floors.multiply_adds(network, (9, 9)) == by_hand
    assert not network.classifier.weight.is_meta


def test_scores_and_picks_are_compared(tmp_path: Path) -> None:
    scoring = script("benchmarks.speed.scoring")
    theirs = np.full((40, 40), -9.0, dtype=np.float32)
    theirs[10, 10], theirs[30, 10], theirs[20, 30] = 3.0, 2.0, -1.0
    ours = np.roll(theirs, 1, axis=0)
    ours[31, 10] = -2.0
    file = tmp_path / "image.npy"
    np.save(scoring.result_of(file, "topaz"), theirs)
    for mode, scores in (("same", theirs + 0.25), ("moved", ours)):
        np.save(scoring.result_of(file, mode), scores)
    same, moved = (scoring.sameness([file], mode, 5) for mode in ("same", "moved"))
    assert same.difference == pytest.approx(0.25)
    assert (same.shared, same.picks) == ({0.0: 1.0, -6.0: 1.0}, {0.0: 2, -6.0: 3})
    # One of two picks is no longer above the higher threshold; a pixel aside is the same.
    assert moved.shared == {0.0: 0.5, -6.0: 1.0}
    assert scoring.share(np.zeros((0, 2)), np.zeros((3, 2))) == 0.0
    assert scoring.share(np.zeros((0, 2)), np.zeros((0, 2))) == 1.0


def test_each_program_scores_and_suppresses_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our side of what is timed, served as the processes serve it."""
    inside = script("benchmarks.speed.in_process")
    scores = np.random.default_rng(1).standard_normal((30, 20)).astype(np.float32)
    np.save(tmp_path / "map.npy", scores)

    def at_once(work: Any) -> None:
        work(0)

    monkeypatch.setattr(inside, "serve", at_once)
    inside.main("suppression", "exact", "4", "0.5", str(tmp_path / "map.npy"))
    found = np.load(inside.result_of(tmp_path / "map.npy", "exact"))
    picks, values = suppress(scores, 4, 0.5)
    np.testing.assert_array_equal(found, np.column_stack([picks, values]))


def test_the_words_of_the_benchmark_of_speed(capsys: pytest.CaptureFixture[str]) -> None:
    speed = script("benchmarks.speed.run")
    options = speed.parse(["topaz", "--quick", "--only", "bulk", "start", "--threads", "1"])
    assert (options.quick, options.only, options.threads) == (True, ["bulk", "start"], 1)
    assert speed.parse(["topaz"]).only == list(speed.STAGES)
    with pytest.raises(SystemExit):
        speed.parse(["topaz", "--only", "unheard-of"])
    assert "unheard-of" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="must lie between 1 and"):
        speed.pin(0)
