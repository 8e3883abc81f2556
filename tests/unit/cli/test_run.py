"""``heliodor run`` from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heliodor import __version__
from heliodor.data.coordinates.formats import read_picks
from heliodor.models.model_file import load_model
from helpers.cli import call, done
from helpers.shell_jobs import (
    DIAMETER,
    MODEL,
    RECIPE,
    TINY,
    files_in,
    first,
    rows,
    training_data,
    true_xy,
)


def test_run_leaves_everything(outcome: Path) -> None:
    stars = {f"micrographs/{first(outcome, n).stem}_autopick.star" for n in (1, 2, 3)}
    assert files_in(outcome) == stars | {
        ".trained.json",
        "model.safetensors",
        "training.tsv",
        "autopick.star",
        "picks.tsv",
        "micrographs.tsv",
        "evaluation.json",
        "curve.tsv",
        "report.html",
        "run.json",
        ".picking.jsonl",
    }
    page = (outcome / "report.html").read_text()
    assert "shell_0001" in page
    assert page.rstrip().endswith("</html>")
    epochs = rows(outcome / "training.tsv")
    assert [e["epoch"] for e in epochs] == ["1", "2"]
    assert float(epochs[1]["loss"]) < float(epochs[0]["loss"])
    head, *curve = (outcome / "curve.tsv").read_text().splitlines()
    assert head == "log_odds\tprecision\trecall\tf1"
    scores = {float(row["log_odds"]) for row in rows(outcome / "picks.tsv")}
    assert len(curve) == pytest.approx(len(scores), rel=0.01)  # which are rounded there
    assert "curve" not in json.loads((outcome / "evaluation.json").read_text())


def test_run_finds_the_particles_of_micrographs_it_has_not_seen(outcome: Path) -> None:
    figures = json.loads((outcome / "evaluation.json").read_text())
    assert figures["micro"]["average_precision"] > 0.8
    assert figures["micro"]["f1"] > 0.7
    assert figures["region_average_precision"] > 0.4
    assert figures["n_truth"] == 36
    assert figures["ignored_micrographs"] == 0
    assert figures["distance"] == 0.4 * DIAMETER


def test_run_json_says_what_was_done(outcome: Path, learn: Path, unseen: Path) -> None:
    record = json.loads((outcome / "run.json").read_text())
    assert record["outliers"] == []
    given = record["arguments"]
    assert record["command"] == "run"
    assert record["command_line"].startswith("heliodor run --micrographs ")
    assert given["labels"] == str(learn / "labels.star")
    assert (given["seed"], given["diameter_angstrom"], given["epochs"]) == (3, DIAMETER, 2)
    assert given["match_distance_angstrom"] == 0.4 * DIAMETER
    assert record["inputs"] == {
        "training": [str(first(learn, n)) for n in range(1, 7)],
        "picking": [str(first(unseen, n)) for n in range(1, 4)],
    }
    assert record["versions"]["heliodor"] == __version__
    assert record["versions"].keys() >= {"python", "torch", "numpy", "scipy"}
    assert set(record["seconds"]) == {
        "reading",
        "training",
        "calibrating",
        "picking",
        "writing",
        "judging",
        "report",
    }
    assert all(seconds >= 0 for seconds in record["seconds"].values())
    assert record["failed"] == []
    picked = record["picks_per_micrograph"]
    assert record["picks"] == sum(picked.values()) == len(read_picks(outcome / "picks.tsv"))
    assert record["model"] == vars(load_model(outcome / MODEL).card)


def test_run_is_train_and_then_pick(
    brief: Path, learn: Path, unseen: Path, tmp_path: Path
) -> None:
    alone, picked = tmp_path / "train", tmp_path / "pick"
    done("train", *training_data(learn), *RECIPE, *TINY, "--seed", 3, "-o", alone)
    assert files_in(alone) == {MODEL, "training.tsv", "run.json", ".trained.json"}
    assert (alone / MODEL).read_bytes() == (brief / MODEL).read_bytes()
    stars = ("--micrographs", unseen / "micrographs.star")
    done("pick", "--model", alone / MODEL, *stars, "-o", picked)
    for name in ("picks.tsv", "micrographs.tsv"):
        assert (picked / name).read_bytes() == (brief / name).read_bytes()
    for number in (1, 2, 3):
        name = f"micrographs/{first(unseen, number).stem}_autopick.star"
        assert (picked / name).read_bytes() == (brief / name).read_bytes()


@pytest.mark.usefixtures("no_report")
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    learn: Path, tmp_path: Path
) -> None:
    files = ("picks.tsv", "micrographs.tsv", MODEL, "shell_0002_autopick.star")

    def bytes_of(name: str, seed: int) -> list[bytes]:
        out = tmp_path / name
        data = ("--micrographs", *(first(learn, n) for n in (1, 2, 3)))
        labels = ("--labels", learn / "labels.star")
        done("run", *data, *labels, *RECIPE, *TINY, "--seed", seed, "-o", out)
        return [(out / file).read_bytes() for file in files]

    one, again, other = bytes_of("one", 5), bytes_of("again", 5), bytes_of("other", 6)
    assert one == again
    assert all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("no_report")
def test_a_run_without_truth_forgets_the_figures_of_the_one_before(
    learn: Path, tmp_path: Path
) -> None:
    job = ("run", *training_data(learn), *RECIPE, *TINY, "-o", tmp_path)
    picked_on = ("--pick", first(learn))
    done(*job, *picked_on, "--truth", learn / "truth.star")
    assert files_in(tmp_path) >= {"evaluation.json", "curve.tsv"}
    done(*job, *picked_on)
    assert not files_in(tmp_path) & {"evaluation.json", "curve.tsv"}


def test_run_goes_on_without_a_bad_micrograph(
    learn: Path, tmp_path: Path, no_report: None
) -> None:
    for n in (1, 2, 3):
        shutil.copy(first(learn, n), tmp_path)
    bad = tmp_path / "shell_0002.mrc"
    bad.write_bytes(first(learn, 2).read_bytes()[:5000])
    out = tmp_path / "out"
    labels = ("--labels", learn / "labels.star")
    result = call("run", "--micrographs", tmp_path, *labels, *RECIPE, *TINY, "-o", out)
    assert result.code == 3
    assert "1 micrograph failed; see failed.tsv" in result.err
    (failed,) = rows(out / "failed.tsv")
    assert failed["micrograph"] == str(bad)
    assert "truncated" in failed["reason"]
    assert len(json.loads((out / "run.json").read_text())["failed"]) == 1
    picked = {row["micrograph"] for row in rows(out / "picks.tsv")}
    assert picked == {str(tmp_path / f"shell_000{n}.mrc") for n in (1, 3)}


def test_labels_of_micrographs_of_the_same_name_elsewhere_are_not_shown(
    learn: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every data set has a 0001.mrc; two to pick on that fit the labels' name are no error."""
    shown: list[Any] = []
    monkeypatch.setattr(
        "heliodor.report.report.write_report", lambda path, content: shown.append(content)
    )
    for folder, source in (("A", learn), ("B", learn), ("C", unseen)):
        (tmp_path / folder).mkdir()
        shutil.copy(first(source), tmp_path / folder / "x.mrc")
    labels = tmp_path / "labels.csv"
    xy = true_xy(learn)
    labels.write_text("image_name,x_coord,y_coord\n" + "".join(f"x,{x},{y}\n" for x, y in xy))
    job = ("run", "--micrographs", tmp_path / "A", "--labels", labels, *RECIPE, *TINY)
    done(*job, "--pick", tmp_path / "B", tmp_path / "C", "-o", tmp_path / "out")
    assert [item.labels_xy_px for item in shown[0].gallery] == [None, None]
    done(*job, "-o", tmp_path / "out")
    (item,) = shown[1].gallery
    assert len(item.labels_xy_px) == len(xy)


def test_a_run_can_stop_after_the_training_and_continue(
    learn: Path, unseen: Path, brief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliodor.report.report.write_report", lambda path, content: None)
    picked = ("--pick", unseen / "micrographs.star", "-o", tmp_path / "out")
    job = ("run", *training_data(learn), *RECIPE, *TINY, "--seed", 3, *picked)
    refused = call(*job, "--stop-after", "training", "--match-distance", 9)
    assert "needs a ground truth" in refused.sentence
    assert not (tmp_path / "out").exists()
    done(*job, "--stop-after", "training")
    assert files_in(tmp_path / "out") == {MODEL, "training.tsv", ".trained.json"}
    assert "training skipped" in done(*job).err
    for name in (MODEL, "picks.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (brief / name).read_bytes()
