"""evaluate on files of filaments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.writers import render_filaments
from helpers.cli import call, done

LINE = np.array([[20.0, 50.0], [220.0, 50.0]])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)

    def write(name: str, *filaments: Filament, pixel: float | None = 4.0) -> None:
        names = tuple(dict.fromkeys(one.micrograph for one in filaments))
        sizes = dict.fromkeys(names, pixel) if pixel else {}
        Path(name).write_text(render_filaments(Filaments(names, filaments, sizes)))

    scores = np.full(2, 1.5)
    half = np.array([[20.0, 52.0], [120.0, 52.0]])
    write(
        "truth.star", Filament("m/a.mrc", LINE, 1, 80.0), Filament("m/a.mrc", LINE + 60, 2, 80.0)
    )
    write(
        "found.star",
        Filament("elsewhere/a.mrc", half, 1, point_scores=scores),
        Filament("elsewhere/a.mrc", LINE + 200, 2, point_scores=-scores),
    )
    write("sizeless.star", Filament("m/a.mrc", LINE, 1, 80.0), pixel=None)
    write("binned.star", Filament("m/a.mrc", LINE, 1, 80.0), pixel=8.0)
    write("other.star", Filament("b.mrc", LINE, 1))
    Path("particles.csv").write_text("image_name,x_coord,y_coord\na,10,20\n")
    return tmp_path


def test_figures(folder):
    asked = ("evaluate", "--picks", "found.star", "--truth", "truth.star")
    figures = json.loads(done(*asked, "--json", "-o", "out").out)
    assert figures["precision"] == pytest.approx(1 / 3, abs=0.01)
    assert figures["recall"] == pytest.approx(0.25, abs=0.02)
    assert figures["median_distance_angstrom"] == pytest.approx(8)
    assert json.loads(Path("out/evaluation.json").read_text()) == figures
    record = json.loads(Path("out/evaluate.json").read_text())
    assert record["arguments"]["truth"] == "truth.star"
    sure = json.loads(done(*asked, "--json", "--threshold", "0").out)
    assert sure["precision"] == pytest.approx(1, abs=0.01)
    near = json.loads(done(*asked, "--json", "--match-distance", "4").out)
    assert near["recall"] == 0
    table = done(*asked).out
    assert "precision 0.333" in table
    assert "m/a.mrc" in table


@pytest.mark.parametrize(
    ("picks", "truth", "more", "words"),
    [
        ("found.star", "particles.csv", [], "--match-distance"),
        ("found.star", "particles.csv", ["--match-distance", "40"], "holds particles"),
        ("particles.csv", "truth.star", ["--match-distance", "40"], "holds particles"),
        ("particles.csv", "truth.star", [], "holds particles, not filaments"),
        ("found.star", "truth.star", ["--model", "m.safetensors"], "--model scores particles"),
        ("found.star", "nowhere.star", [], "does not exist"),
        ("other.star", "truth.star", [], "no filaments on the micrographs"),
        ("binned.star", "truth.star", [], "different pixel sizes"),
        ("sizeless.star", "sizeless.star", [], "--pixel-size"),
        ("truth.star", "truth.star", ["--threshold", "0"], "no scores"),
    ],
)
def test_refusals(folder, picks, truth, more, words):
    result = call("evaluate", "--picks", picks, "--truth", truth, *more)
    assert result.code == 2
    assert words in result.sentence


def test_a_pixel_size_that_is_given_is_used(folder):
    words = ("--picks", "sizeless.star", "--truth", "sizeless.star", "--pixel-size", "2", "--json")
    figures = json.loads(done("evaluate", *words).out)
    assert figures["recall"] == 1
    assert figures["micrographs"][0]["truth"] == pytest.approx(400)
