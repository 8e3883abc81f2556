"""``heliodor evaluate`` from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.models.model_file import load_model
from heliodor.picking.score_maps import score_micrograph
from helpers.cli import call, done
from helpers.shell_jobs import (
    DIAMETER,
    HEIGHT,
    MODEL,
    PIXEL,
    WIDTH,
    WORKING,
    Rows,
    files_in,
    first,
    rows,
    true_xy,
)


def judge(picks: Path, truth: Path, *options: object) -> dict[str, Any]:
    """Return the figures that ``evaluate --json`` prints."""
    asked = ("--picks", picks, "--truth", truth, "--match-distance", 48, *options)
    figures: dict[str, Any] = json.loads(done("evaluate", *asked, "--json").out)
    return figures


def agree(figures: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("n_picks", "n_truth", "n_true_positives", "distance"):
        assert figures[name] == expected[name]
    for mean in ("micro", "macro"):
        assert figures[mean] == pytest.approx(expected[mean], abs=1e-4)
    assert figures["best_f1"] == pytest.approx(expected["best_f1"], abs=1e-4)
    assert len(figures["micrographs"]) == len(expected["micrographs"])


def test_evaluate_says_what_run_said(outcome: Path, unseen: Path, tmp_path: Path) -> None:
    expected = json.loads((outcome / "evaluation.json").read_text())
    out = tmp_path / "figures"
    asked = ("--model", outcome / MODEL, "--micrographs", unseen / "micrographs.star", "-o", out)
    figures = judge(outcome / "picks.tsv", unseen / "truth.star", *asked)
    agree(figures, expected)
    region_ap = expected["region_average_precision"]
    assert figures["region_average_precision"] == pytest.approx(region_ap, abs=1e-12)
    assert files_in(out) == {"evaluation.json", "curve.tsv", "evaluate.json"}
    assert json.loads((out / "evaluation.json").read_text()) == figures
    assert "curve" not in figures
    record = json.loads((out / "evaluate.json").read_text())
    assert record["command"] == "evaluate"
    assert record["evaluation"] == figures
    assert record["arguments"]["picks"] == str(outcome / "picks.tsv")
    assert record["arguments"]["match_distance_angstrom"] == 48
    assert record["inputs"] == {"judging": [str(first(unseen, n)) for n in (1, 2, 3)]}
    # The folder of a run stands for all its candidates too.
    assert judge(outcome, unseen / "truth.star", *asked[:-2]) == figures


def test_region_ap_ranks_every_pixel(outcome: Path, unseen: Path) -> None:
    """Positive are the pixels within an eighth of the diameter of a particle's center."""
    loaded, labels, scores = load_model(outcome / MODEL), [], []
    images = WorkingImages(WORKING)
    for number in (1, 2, 3):
        image = images.get(find_sources(first(unseen, number))[0])
        height, width = image.shape
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        pixels = np.column_stack([x * WIDTH / width, y * HEIGHT / height]) * PIXEL
        apart = np.hypot(*(pixels[:, None] - true_xy(unseen, number)[None] * PIXEL).T).min(axis=0)
        labels.append(apart <= DIAMETER / 8)
        scores.append(score_micrograph(loaded, image).ravel())
    expected = average_precision_score(np.concatenate(labels), np.concatenate(scores))
    figures = json.loads((outcome / "evaluation.json").read_text())
    assert figures["region_average_precision"] == pytest.approx(expected, abs=2e-3)


def test_evaluate_prints_a_table(outcome: Path, unseen: Path) -> None:
    asked = ("--picks", outcome / "picks.tsv", "--truth", unseen / "truth.star")
    lines = done("evaluate", *asked, "--match-distance", 48).out.splitlines()
    assert lines[0].split() == ["micrograph", "picks", "truth", "found", "P", "R", "F1", "AP"]
    assert [line.split()[0] for line in lines[1:4]] == [
        f"micrographs/shell_000{n}.mrc" for n in (1, 2, 3)
    ]
    expected = json.loads((outcome / "evaluation.json").read_text())
    everything = next(line for line in lines if line.startswith("all (micro)")).split()
    assert [int(v) for v in everything[2:5]] == [
        expected[k] for k in ("n_picks", "n_truth", "n_true_positives")
    ]
    assert [float(v) for v in everything[5:]] == pytest.approx(
        list(expected["micro"].values()), abs=6e-4
    )


def test_evaluate_at_a_threshold(outcome: Path, unseen: Path) -> None:
    figures = judge(outcome / "picks.tsv", unseen / "truth.star", "--threshold", -3)
    scores = [float(r["log_odds"]) for r in rows(outcome / "picks.tsv")]
    assert figures["n_picks"] == sum(score >= -3 for score in scores)
    assert figures["threshold"] == -3
    usual = json.loads((outcome / "evaluation.json").read_text())
    assert figures["micro"]["recall"] >= usual["micro"]["recall"]
    ap = usual["micro"]["average_precision"]
    assert figures["micro"]["average_precision"] == pytest.approx(ap, abs=1e-4)


def topaz_text(path: Path, table: Rows, score: bool = True) -> Path:
    """Write picks as Topaz does: stems, whole pixels."""
    lines = ["image_name\tx_coord\ty_coord" + "\tscore" * score]
    for row in table:
        x, y = (round(float(row[k])) for k in ("x_px", "y_px"))
        lines.append(f"{Path(row['micrograph']).stem}\t{x}\t{y}" + f"\t{row['log_odds']}" * score)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_the_picks_of_another_program(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    expected = json.loads((outcome / "evaluation.json").read_text())
    table = rows(outcome / "picks.tsv")
    truth = unseen / "truth.star"
    text = topaz_text(tmp_path / "topaz.txt", table)
    everything = judge(text, truth)
    assert everything["n_picks"] == len(table)
    ap = expected["micro"]["average_precision"]
    assert everything["micro"]["average_precision"] == pytest.approx(ap, abs=0.03)
    # Without scores there is one operating point.
    star = tmp_path / "other.star"
    own = read_picks(outcome / "picks.tsv")
    body = "".join(
        f"{n} {x:.2f} {y:.2f}\n" for n, (x, y) in zip(own.names(), own.xy_px, strict=True)
    )
    columns = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
    head = "".join(f"_{c} #{i}\n" for i, c in enumerate(columns, 1))
    star.write_text(f"\ndata_\n\nloop_\n{head}{body}\n")
    plain = judge(star, truth)
    assert plain["n_picks"] == expected["n_picks"]
    micro = plain["micro"]
    assert micro["f1"] == pytest.approx(expected["micro"]["f1"], abs=1e-9)
    assert micro["average_precision"] == pytest.approx(micro["precision"] * micro["recall"])
    relion = judge(outcome / "autopick.star", truth)
    assert relion["micro"]["f1"] == pytest.approx(expected["micro"]["f1"], abs=1e-9)


def test_micrographs_without_picks_count_as_missed_where_they_were_asked_for(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    some = [r for r in rows(outcome / "picks.tsv") if not r["micrograph"].endswith("3.mrc")]
    text = topaz_text(tmp_path / "picks.txt", some)
    truth = ("--truth", unseen / "truth.star", "--match-distance", 48, "--json")
    result = done("evaluate", "--picks", text, *truth)
    assert "no picks on them: 1 micrograph of the ground truth" in result.err
    assert json.loads(result.out)["n_truth"] == 24
    result = done("evaluate", "--picks", text, *truth, "--micrographs", unseen / "micrographs")
    assert json.loads(result.out)["n_truth"] == 36
    assert "note" not in result.err


def test_evaluate_measures_each_micrograph_by_its_own_pixels(tmp_path: Path) -> None:
    """The truth's optics groups hold though the picks call the micrographs otherwise."""
    truth, picks = tmp_path / "truth.star", tmp_path / "picks.csv"
    truth.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 2.0\n2 8.0\n\n"
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n"
        "_rlnCoordinateY #3\n_rlnOpticsGroup #4\nM/a.mrc 50 50 1\nM/b.mrc 50 50 2\n\n"
    )
    picks.write_text("image_name,x_coord,y_coord,score\na,60,50,1\nb,60,50,2\n")
    figures = judge(picks, truth)  # 20 A and 80 A beside the particle
    found = {row["name"]: row["n_true_positives"] for row in figures["micrographs"]}
    assert found == {"a": 1, "b": 0}
    assert judge(picks, truth, "--pixel-size", 2)["n_true_positives"] == 2


def test_evaluate_takes_pixel_sizes_from_the_micrographs_star(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    picks = topaz_text(tmp_path / "picks.txt", rows(outcome / "picks.tsv"))
    known = read_picks(unseen / "truth.star")
    truth = tmp_path / "truth.csv"
    body = [f"{n},{x},{y}\n" for n, (x, y) in zip(known.names(), known.xy_px, strict=True)]
    truth.write_text("image_name,x_coord,y_coord\n" + "".join(body))
    stars = ("--micrographs", unseen / "micrographs.star")
    assert judge(picks, truth, *stars)["micro"]["average_precision"] > 0.7
    result = call("evaluate", "--picks", picks, "--truth", truth, "--match-distance", 48)
    assert result.code == 2
    assert "--pixel-size" in result.sentence


def test_evaluate_scores_the_micrographs_it_can(
    outcome: Path, unseen: Path, tmp_path: Path
) -> None:
    good, bad = shutil.copy(first(unseen), tmp_path), tmp_path / first(unseen, 2).name
    bad.touch()
    asked = ("--picks", outcome / "picks.tsv", "--truth", unseen / "truth.star")
    asked = (*asked, "--match-distance", 48, "--model", outcome / MODEL)
    result = call("evaluate", *asked, "--micrographs", good, bad, "--json")
    assert result.code == 3
    assert f"skipped {bad}:" in result.err
    assert json.loads(result.out)["region_average_precision"] > 0.3
    out = tmp_path / "figures"
    assert call("evaluate", *asked, "--micrographs", good, bad, "-o", out).code == 3
    assert files_in(out) == {"evaluation.json", "curve.tsv", "evaluate.json"}
    failed = json.loads((out / "evaluate.json").read_text())["failed"]
    assert [row["micrograph"] for row in failed] == [str(bad)]
