"""The benchmark on real data: its labels, its table, and a run of all of it on a tiny set."""

from __future__ import annotations

import importlib
import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.star import write_blocks
from heliodor.errors import BadInput
from helpers.networks import discs, scattered, write_mrc

#: Pixels along a side, and particles, of a tiny micrograph at 4 A per pixel.
SIDE, PARTICLES = 160, 14


def script(name: str) -> Any:
    return importlib.import_module(f"benchmarks.{name}")


def figures(**changes: Any) -> dict[str, Any]:
    """What picking with one setting found, as far as the tables read it."""
    usual = {
        "ap": 0.8,
        "best_f1": 0.9,
        "best_threshold": -2.0,
        "f1": 0.9,
        "precision": 0.8,
        "recall": 0.7,
        "picks": 50,
        "truth": 100,
        "stated": {"precision": [0.85, 0.75, 0.95], "recall": None},
        "centers": [-0.01, 0.02, 0.05, 0.1],
    }
    return usual | changes


def case(name: str = "apoferritin", labels: int = 30, draw: int = 0) -> Any:
    return script("accuracy.real_data_cases").Case(name, "test", labels, draw)


def result(own: Any, seconds: float | None = 10.0, **changes: Any) -> tuple[Any, dict[str, Any]]:
    masks = {"leave-out": figures(**changes), "keep": figures(ap=0.85, f1=0.85)}
    return own, {"masks": masks, "training_cpu_seconds": seconds}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a folder of data that has one set, with five and three micrographs."""
    sets = script("common.real_sets")
    data = tmp_path / "data"
    names, rows = [f"micrographs/{kind}.mrc" for kind in "abcdefgh"], []
    for number, name in enumerate(names):
        xy = scattered((SIDE, SIDE), PARTICLES, 20, number)
        write_mrc(data / "apoferritin" / name, discs((SIDE, SIDE), xy, seed=number), 4.0)
        rows += [(name, float(x), float(y)) for x, y in xy]
    columns = dict(
        zip(
            ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"),
            map(list, zip(*rows, strict=True)),
            strict=True,
        )
    )
    write_blocks(data / "apoferritin" / "truth.star", {"particles": columns})
    for part, own in (("train", names[:5]), ("test", names[5:])):
        table = {"rlnMicrographName": own}
        write_blocks(data / "apoferritin" / f"{part}.star", {"micrographs": table})
    monkeypatch.setattr(sets, "DATA", data)
    real = sets.RealSet("apoferritin", 60.0, 4.0, complete=True)
    monkeypatch.setitem(sets.REAL_SETS, "apoferritin", real)
    return data


# ---- sets and labels ----


def test_nothing_is_both_trained_and_picked_on(tiny: Path) -> None:
    real = script("common.real_sets").REAL_SETS["apoferritin"]

    def stems(split: str, most: int | None = None) -> list[str]:
        return ["".join(source.path.stem for source in p) for p in real.parts(split, most)]

    assert stems("test") == ["abcde", "fgh"]
    # No test micrograph may help to choose constants.
    assert stems("train") == ["bd", "ace"]
    assert stems("test", 2) == ["abcde", "fg"]
    assert stems("train", 2) == ["bd", "ac"]


def test_labels_are_particles_of_the_micrographs_to_train_on(tiny: Path, tmp_path: Path) -> None:
    sets = script("common.real_sets")
    real = sets.REAL_SETS["apoferritin"]
    truth = read_picks(tiny / "apoferritin" / "truth.star")
    every = {
        (Path(n).stem, *xy) for n, xy in zip(truth.names(), truth.xy_px.tolist(), strict=True)
    }

    def drawn(draw: int) -> set[tuple[Any, ...]]:
        sets.write_task(real, "train", tmp_path, draw, 9)
        task = real.task("train", tmp_path, draw)
        table = read_picks(task.labels(9))
        assert len(table) == 9
        assert {source.path.stem for source in task.sources("learn")} == {*"bd"}
        assert {source.path.stem for source in task.sources("unseen")} == {*"ace"}
        assert task.sources("unseen")[0].pixel_size_angstrom == 4.0
        assert task.expected == PARTICLES
        rows = zip(table.names(), table.xy_px.tolist(), strict=True)
        return {(Path(name).stem, *xy) for name, xy in rows}

    first = drawn(0)
    assert first <= {row for row in every if row[0] in "bd"}
    assert drawn(0) == first
    assert drawn(1) != first
    with pytest.raises(BadInput, match=f"has {2 * PARTICLES} particles to train on, fewer than"):
        sets.write_task(real, "train", tmp_path, 0, 2 * PARTICLES + 1)


def test_each_case_once_and_one_draw_without_labels(tiny: Path, tmp_path: Path) -> None:
    cases = script("accuracy.real_data_cases").wanted_cases(
        ["apoferritin", "trpv1"], "test", [0, 30], 3
    )
    assert [(c.name, c.labels, c.draw) for c in cases] == [
        *(("apoferritin", 0, 0), ("apoferritin", 30, 0), ("trpv1", 0, 0), ("trpv1", 30, 0)),
        *(("apoferritin", 30, 1), ("trpv1", 30, 1), ("apoferritin", 30, 2), ("trpv1", 30, 2)),
    ]
    own = [c for c in cases if c.name == "apoferritin"]
    files = {c.file(tmp_path) for c in own}
    assert len(files) == len(own)
    # Another truth makes other results.
    with (tiny / "apoferritin" / "truth.star").open("a") as stream:
        stream.write("\n")
    assert not files & {c.file(tmp_path) for c in own}


# ---- what is stated ----


def test_what_a_program_does_not_state_is_unknown() -> None:
    stated = script("accuracy.real_data_cases").stated

    def estimate(*values: float) -> Any:
        return SimpleNamespace(**dict(zip(("value", "low", "high"), values, strict=True)))

    expected = SimpleNamespace(
        precision=estimate(0.8, 0.7, 0.9), recall=estimate(math.nan, 0.1, 0.2)
    )
    assert stated(expected, "precision") == [0.8, 0.7, 0.9]
    assert stated(expected, "recall") is None
    assert stated(None, "recall") is None
    assert stated(SimpleNamespace(), "recall") is None
    without_interval = SimpleNamespace(precision=estimate(0.8, math.nan, math.nan))
    assert stated(without_interval, "precision") == [0.8, None, None]


def test_a_true_value_is_inside_its_interval_or_not() -> None:
    inside = script("accuracy.real_data_tables").inside
    assert inside([0.8, 0.7, 0.9], 0.7) is True
    assert inside([0.8, 0.7, 0.9], 0.696) is True
    assert inside([0.8, 0.7, 0.9], 0.694) is False
    assert inside([0.99, 0.97, 0.998], 1.0) is True
    assert inside([0.8, None, None], 0.8) is None
    assert inside(None, 0.8) is None
    assert inside([0.8, 0.7, 0.9], None) is None


# ---- the table ----


def cells(text: str) -> list[dict[str, str]]:
    """Return the rows of a table by the head of the column."""
    head, _, *rows = ([c.strip() for c in r.strip("|").split("|")] for r in text.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_row_has_medians_and_the_worst_ratio() -> None:
    tables = script("accuracy.real_data_tables")
    results = [
        result(case("trpv1"), 30.0, f1=0.45, best_threshold=-14.0, picks=200),
        result(case("trpv1", draw=1), 10.0, f1=0.81, best_threshold=-13.95, centers=[None] * 4),
        result(case("trpv1", draw=2), 20.0, f1=0.90, stated={"precision": None, "recall": None}),
        result(case(labels=0), None, precision=None, f1=0.0, picks=0),
    ]
    zero, rows = cells(tables.table(results, {}))
    assert (zero["set"], zero["labels"], zero["draws"]) == ("apoferritin", "0", "1")
    assert (zero["training CPU s"], zero["true precision"], zero["F1 / best"]) == (
        "–",
        "–",
        "0.000",
    )
    assert (rows["set"], rows["labels"], rows["draws"]) == ("trpv1", "30", "3")
    assert (rows["F1 / best"], rows["worst"]) == ("0.900", "0.500")
    assert rows["at log-odds"] == "at most -13.9"
    assert rows["true precision"] == "0.800 (lower bound)"
    assert rows["stated precision"] == "0.85 (0.75 to 0.95), unknown in 1 of 3"
    assert rows["stated recall"] == "unknown"
    assert (rows["picks / truth"], rows["training CPU s"]) == ("0.50", "20")
    assert (rows["AP, keep"], rows["F1, keep"]) == ("0.850", "0.850")
    assert (rows["shift x, y"], rows["error: median, 90%"]) == ("-0.010, 0.020", "0.050, 0.100")


def test_an_adapted_model_has_its_own_row(tmp_path: Path) -> None:
    cases, tables = script("accuracy.real_data_cases"), script("accuracy.real_data_tables")
    wanted = cases.wanted_cases(["trpv1"], "test", [0, 30], 2, adapt=True)
    assert [(c.labels, c.draw, c.adapt) for c in wanted] == [
        *((0, 0, False), (0, 0, True), (30, 0, False), (30, 1, False))
    ]
    assert wanted[1].words == "trpv1, no labels, adapted"
    assert wanted[0].topaz_file(tmp_path, 10) != wanted[1].topaz_file(tmp_path, 10)
    rows = cells(tables.table([result(own) for own in wanted], {}))
    assert [row["labels"] for row in rows] == ["0", "0, adapted", "30"]


def test_a_model_without_masks_finds_the_same_without_them() -> None:
    tables = script("accuracy.real_data_tables")
    own, found = result(case())
    del found["masks"]["keep"]
    (row,) = cells(tables.table([(own, found)], {}))
    assert (row["AP, keep"], row["F1, keep"]) == ("0.800", "0.900")


def test_topaz_stands_beside_its_own_labels() -> None:
    tables = script("accuracy.real_data_tables")
    its = {"ap": 0.5, "best_f1": 0.6, "f1": 0.1, "cpu_seconds": 99.4}
    rows = cells(tables.table([result(case()), result(case("trpv1"))], {case("trpv1"): its}))
    assert [row["Topaz: AP"] for row in rows] == ["", "0.500"]
    assert [row["CPU s"] for row in rows] == ["", "99"]


def test_the_summary_says_which_bars_are_met() -> None:
    tables = script("accuracy.real_data_tables")
    results = [
        result(case(), precision=0.80, f1=0.9),
        result(case(draw=1), precision=0.65, f1=0.9),
        result(case("trpv1"), precision=0.5, f1=0.9 * 0.92),
    ]
    said = tables.summary(results)
    assert said[0].startswith("F1 / best F1, worst case at least 0.93 (is 0.92): **not met**")
    assert said[0].endswith("(trpv1, 30 labels, draw 0)")
    assert said[1] == "cases below 0.93: 1 of 3"
    assert said[2] == "F1 / best F1, median at least 0.97 (is 1): met"
    assert said[3].startswith("true precision in the stated interval: 1 of 3 (where the truth")
    assert said[4] == "true recall in the stated interval: 0 of 0, 3 unknown"
    assert said[5] == (
        "apoferritin, precision: |stated - true| median 0.125, at most 0.200;"
        " in the stated interval: 1 of 2"
    )
    assert said[6].startswith("apoferritin, recall: |stated - true| unknown;")


# ---- independence ----


def test_a_changed_or_missing_file_differs() -> None:
    module = script("accuracy.real_data_independence")
    one = {"a.star": b"1", "b.star": b"2"}
    assert module.differing_files(one, dict(one)) == []
    assert module.differing_files(one, {"a.star": b"1", "b.star": b"3"}) == ["b.star"]
    assert module.differing_files(one, {"c.star": b"1", **one}) == ["c.star"]
    assert module.differences({"a": 5, "b": 30}, {"a": 10, "b": 20, "c": 7}) == [0.5, 0.5]
    assert module.differences({"a": 2}, {"a": 0}) == [2.0]


def test_the_table_of_independence() -> None:
    module = script("accuracy.real_data_independence")
    found = {
        "name": "trpv1", "alone": {"a": 8, "b": 10}, "few": {}, "many": {"a": 10, "b": 10},
        "unreadable": {"a": 10, "b": 10}, "differing": [],
    }  # fmt: skip
    same, changed = (
        module.table([found | {"differing": wrong}]).splitlines()[2].split(" | ")
        for wrong in ([], ["a.star"])
    )
    assert same[2:6] == ["8", "–", "10", "10"]
    assert same[6:10] == ["0.100", "0.200", "–", "–"]
    assert same[10] == "identical |"
    assert changed[10] == "**1 differ**, such as a.star |"


# ---- the script ----


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_carried_out_by_one_process_or_several(workers: int) -> None:
    lines: list[str] = []
    carry_out_all = script("common.workers").carry_out_all
    carry_out_all([partial(str, number) for number in range(5)], workers, lines.append)
    assert sorted(lines) == [*"01234"]
    with pytest.raises(ValueError, match="invalid literal"):
        carry_out_all([partial(int, "a")], workers, lines.append)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sets", "t20s"], "invalid choice: 't20s'"),
        (["--labels", "-1"], "must be 0 or more, not -1"),
        (["--draws", "0"], "must be 1 or more, not 0"),
        (["--independence", "--labels", "30"], "does not use --labels"),
        (["--independence", "--topaz", "x"], "does not use --topaz"),
        (["--updates", "5"], "--updates is for --topaz"),
        (["--adapt", "--labels", "30"], "--adapt is for cases without labels"),
        (["--adapt", "--independence"], "--adapt is for cases without labels"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        script("accuracy.real_data").parse(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_quick_has_one_draw_unless_told_otherwise() -> None:
    parse = script("accuracy.real_data").parse
    assert (parse([]).draws, parse(["--quick"]).draws) == (3, 1)
    assert parse(["--quick", "--draws", "2"]).draws == 2
    assert parse(["--labels", "0"]).labels == [0]


@pytest.mark.slow
def test_a_tiny_set_end_to_end(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = script("accuracy.real_data").main
    out = tmp_path / "out"
    common = ["--out", str(out), "--workers", "1", "--sets", "apoferritin", "trpv1"]
    command = [*common, "--labels", "0", "20", "999", "--draws", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"no {tiny / 'trpv1'}: skipped" in said
    assert "apoferritin, 999 labels, draw 0 is skipped: " in said
    assert "2 cases, 2 to do" in said
    files = sorted((out / "cases").iterdir())
    assert len(files) == 2
    for path in files:
        found = json.loads(path.read_text())
        for own in found["masks"].values():
            assert own["truth"] == 3 * PARTICLES
            assert 0 < own["f1"] <= own["best_f1"] <= 1
            assert own["best_f1"] > 0.8
    assert "| apoferritin | 20 | 1 |" in said
    # What is there is not computed again.
    written = [path.stat().st_mtime_ns for path in files]
    assert main(command) == 0
    assert "2 cases, 0 to do" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in files] == written

    assert main([*common, "--independence"]) == 0
    (path,) = (out / "independence").iterdir()
    found = json.loads(path.read_text())
    assert (
        found["alone"].keys()
        == found["many"].keys()
        == found["unreadable"].keys()
        == {*"abcdefgh"}
    )
    assert len(found["few"]) == 6
    assert found["many"] == found["unreadable"]
    assert found["differing"] == []
    assert "| apoferritin | 8 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_micrograph_fails_its_cases_alone(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny / "apoferritin" / "micrographs" / "g.mrc").write_bytes(b"")
    main = script("accuracy.real_data").main
    words = ["--out", str(tmp_path / "out"), "--workers", "1", "--sets", "apoferritin"]
    assert main([*words, "--labels", "0"]) == 1
    said = capsys.readouterr().out
    assert "FAILED apoferritin, no labels: SystemExit: " in said
    assert "1 failed" in said
    assert not (tmp_path / "out" / "cases").exists()


def test_where_no_data_are_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script("common.real_sets"), "DATA", tmp_path / "none")
    assert script("accuracy.real_data").main(["--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("skipped (set HELIODOR_DATA)") == 4
    assert not (tmp_path / "out").exists()


def test_the_candidates_for_all_thresholds_are_matched_within_0_4_diameters() -> None:
    cases = script("accuracy.real_data_cases")
    picks = cases.Picks.on(
        "folder/a.mrc", np.array([[23.9, 0.0], [100.0, 100.1]]), np.array([1.0, 0.0])
    )
    task = SimpleNamespace(diameter=120.0, pixel=2.0)
    truth = {"a": np.array([[0.0, 0.0], [100.0, 76.0]])}
    assert cases.compare(picks, truth, task).n_true_positives == 1


def test_each_effort_has_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, tables = script("accuracy.real_data_cases"), script("accuracy.real_data_tables")
    wanted = cases.wanted_cases(["trpv1"], "test", [0, 30], 1, efforts=["normal", "thorough"])
    assert [(c.labels, c.effort) for c in wanted] == [
        (0, "normal"), (30, "normal"), (30, "thorough"),
    ]  # fmt: skip
    assert wanted[2].words == "trpv1, 30 labels, draw 0, thorough"
    monkeypatch.setattr(cases.RealSet, "fingerprint", lambda real: b"")
    assert len({case.file(tmp_path) for case in wanted}) == 3
    assert len({case.topaz_file(tmp_path, 500) for case in wanted[1:]}) == 1
    rows = cells(tables.table([result(own) for own in reversed(wanted)], {}))
    assert [row["labels"] for row in rows] == ["0", "30", "30, thorough"]
