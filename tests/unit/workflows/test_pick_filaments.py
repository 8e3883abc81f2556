"""``heliodor pick --filaments`` from end to end, with a stand-in for the network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

import heliodor
from heliodor.conventions import Image
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.errors import SOME_FAILED
from heliodor.models.filament_maps import FilamentMaps
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.user_masks import read_mask
from heliodor.simulation.dataset import simulate
from heliodor.simulation.filament_kinds import FILAMENTS
from heliodor.simulation.settings import SimulationSettings
from heliodor.workflows.filament_model import load_predictor
from helpers.cli import call, done
from helpers.filament_network import (
    PIXEL,
    WIDTH_ANGSTROM,
    KnownAxes,
    draw,
    truth,
    write_micrographs,
)

NUMBER = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_micrographs(tmp_path_factory.mktemp("mics"), NUMBER)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> KnownAxes:
    known = KnownAxes()
    monkeypatch.setattr(
        "heliodor.workflows.tracing_setup.load_predictor", lambda model, width, device: known
    )
    return known


def pick(folder: Path, out: Path, *options: object) -> str:
    return done(
        "pick", folder, "--filaments", "--width", WIDTH_ANGSTROM, "-o", out, *options
    ).err  # fmt: skip


def test_all_results(folder: Path, tmp_path: Path, network: KnownAxes) -> None:
    out = tmp_path / "out"
    formats = ("start-end", "box", "helix", "cbox", "cs")
    wanted = [word for name in formats for word in ("--to", name)]
    said = pick(folder, out, "--segments", "20x3", "--report", *wanted)
    assert "5 filaments" in said
    found = read_filaments(out / "filaments.star")
    assert len(found) == 5
    assert not np.isnan([one.score for one in found]).any()
    true = tmp_path / "true.star"
    true.write_text(render_filaments(truth(folder, NUMBER)))
    values = json.loads(
        done("evaluate", "--picks", out / "filaments.star", "--truth", true, "--json").out
    )
    assert values["precision"] > 0.9
    assert values["recall"] > 0.9
    assert values["pieces"] == 1.0
    assert values["median_angle_error_deg"] < 1.0
    segments = starfile.read(out / "segments.star")["particles"]
    assert {"rlnHelicalTubeID", "rlnAnglePsiPrior", "rlnHelicalTrackLengthAngst"} <= {*segments}
    steps = np.diff(segments["rlnHelicalTrackLengthAngst"])
    assert np.allclose(steps[steps > 0], 60.0)
    # RELION extracts from coordinate files.
    listed = starfile.read(out / "segments" / "autopick.star")
    assert {*listed["rlnMicrographName"]} == {*segments["rlnMicrographName"]}
    for name, path in zip(listed["rlnMicrographName"], listed["rlnMicrographCoordinates"],
                          strict=True):  # fmt: skip
        own = segments[segments["rlnMicrographName"] == name]
        table = starfile.read(path)
        for column in ("rlnCoordinateX", "rlnAnglePsiPrior", "rlnHelicalTubeID",
                       "rlnHelicalTrackLengthAngst"):  # fmt: skip
            np.testing.assert_allclose(table[column], own[column], atol=1e-4)
    for name in formats:
        place = out / name
        where = place / "filaments.cs" if name == "cs" else place
        again = read_filaments(where)
        assert len(again) == 5, name
    table = (out / "micrographs.tsv").read_text().splitlines()
    assert [row.split("\t")[1] for row in table[1:]] == ["2", "3"]
    record = json.loads((out / "run.json").read_text())
    assert record["filaments"] == 5
    assert record["arguments"]["width_angstrom"] == WIDTH_ANGSTROM
    assert record["measured_width_angstrom"] == pytest.approx(WIDTH_ANGSTROM, rel=0.25)
    assert record["filaments_per_micrograph"] == dict.fromkeys(record["inputs"]["picking"], 0) | {
        str(folder / "mic_1.mrc"): 2, str(folder / "mic_2.mrc"): 3,
    }  # fmt: skip
    assert json.loads(done("status", out, "--json").out)["done"] == NUMBER
    page = (out / "report.html").read_text()
    assert "5 filaments on 2 micrographs" in page
    assert page.count("data:image/png") == 2
    # With other outputs nothing is traced again, and no file of the first run stays.
    pick(folder, out, "--threshold", 1)
    assert network.calls == NUMBER
    assert sorted(path.name for path in out.iterdir()) == [
        ".picking.jsonl", "filaments.star", "micrographs.tsv", "run.json",
    ]  # fmt: skip
    pick(folder, out, "--resume", "never")
    assert network.calls == 2 * NUMBER


def test_a_bad_micrograph_is_reported_at_the_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mrc").write_bytes((folder / "mic_1.mrc").read_bytes()[:3000])
    out = tmp_path / "out"
    result = call(
        "pick", folder / "mic_1.mrc", tmp_path / "bad.mrc", "--filaments", "--width",
        WIDTH_ANGSTROM, "-o", out,
    )  # fmt: skip
    assert result.code == SOME_FAILED
    assert "bad.mrc" in (out / "failed.tsv").read_text()
    assert len(read_filaments(out / "filaments.star")) == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--diameter", "100"),
        ("--adapt",),
        ("--labels", "labels.star"),
        ("--negatives", "labels.star"),
        ("--app-scores", "project"),
        ("--relion-project", "project"),
        ("--threshold-offsets", "offsets.txt"),
        ("--max-fdr", "0.1"),
        ("--scores", "dense"),
    ],
)
def test_options_for_particles_are_refused(folder: Path, tmp_path: Path, options: tuple) -> None:
    out = tmp_path / "out"
    result = call(
        "pick", folder, "--filaments", "--width", WIDTH_ANGSTROM, "-o", out, *options
    )  # fmt: skip
    assert result.code == 2
    assert options[0] in result.sentence
    assert not out.exists()


def test_options_of_filaments_need_filaments(folder: Path, tmp_path: Path) -> None:
    for options in (("--width", "60"), ("--to", "box"), ("--segments", "40")):
        result = call("pick", folder, "--diameter", 100, "-o", tmp_path / "out", *options)
        assert result.code == 2
        assert options[0] in result.sentence
        assert "--filaments" in result.sentence


def test_commands_that_cannot_trace_say_so(folder: Path) -> None:
    result = call("run", folder, "--filaments")
    assert result.code == 2
    assert "heliodor train --filaments, and traced with heliodor pick" in result.sentence


def test_a_folder_with_particles_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "picks.tsv").write_text("")
    result = call(
        "pick", folder, "--filaments", "--width", WIDTH_ANGSTROM, "-o", tmp_path
    )  # fmt: skip
    assert result.code == 2
    assert "another folder" in result.sentence


def test_no_filaments_are_written_as_an_empty_file(folder: Path, tmp_path: Path) -> None:
    said = pick(folder, tmp_path / "out", "--threshold", 100, "--segments", 60, "--to", "box")
    assert "no filaments were found" in said
    assert (tmp_path / "out" / "filaments.star").is_file()
    assert len(starfile.read(tmp_path / "out" / "segments.star", always_dict=True)) >= 1
    # With another threshold no coordinate files of the old one are left, nor without segments.
    place = tmp_path / "out" / "segments"
    pick(folder, tmp_path / "out", "--segments", 60)
    assert len([*place.rglob("*_autopick.star")]) == 2
    pick(folder, tmp_path / "out", "--threshold", 100, "--segments", 60)
    assert [*place.rglob("*_autopick.star")] == []
    pick(folder, tmp_path / "out")
    assert not place.exists()


def test_from_python(folder: Path, tmp_path: Path) -> None:
    images = [draw(2, 1), draw(3, 2)]
    found = heliodor.pick_filaments(images, width=WIDTH_ANGSTROM, pixel_size=PIXEL)
    files = heliodor.pick_filaments(str(folder), width=WIDTH_ANGSTROM, out=tmp_path / "out")
    assert len(found) == len(files) == 5
    for one, other in zip(found.filaments, files.filaments, strict=True):
        np.testing.assert_array_equal(one.axis_px, other.axis_px)
    assert len(found.candidates) >= 5
    assert found.measured_width_angstrom == files.measured_width_angstrom
    with pytest.raises(heliodor.HeliodorError, match="out"):
        heliodor.pick_filaments(images, width=60, pixel_size=PIXEL, to=["box"])
    with pytest.raises(heliodor.HeliodorError, match="pixel size"):
        heliodor.pick_filaments(images, width=60)


def test_a_run_can_be_repeated(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pick(folder, first, "--segments", "40")
    said = done("rerun", first / "run.json", "-o", second).err
    assert "filaments.star is identical" in said
    assert (second / "segments.star").read_bytes() == (first / "segments.star").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tube", "actin"])
def test_the_general_filament_model_traces_simulated_filaments(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliodor.workflows.tracing_setup.load_predictor", load_predictor)
    width = FILAMENTS[kind].width_angstrom
    made = simulate(
        tmp_path / "set", SimulationSettings(filament=kind, count=3, overlap=True, seed=140)
    )
    monkeypatch.chdir(made.folder)
    options = ("--filaments", "--width", width, "--report", "-o", tmp_path / "out")
    done("pick", "micrographs.star", *options)
    compared = done(
        "evaluate", "--picks", tmp_path / "out" / "filaments.star", "--truth", made.truth_star,
        "--json",
    )  # fmt: skip
    values = json.loads(compared.out)
    assert values["precision"] > 0.8
    assert values["recall"] > 0.75
    assert values["pieces"] < 1.3
    assert values["median_angle_error_deg"] < 2.0


def test_masks_show_what_was_detected_or_given_and_end_filaments(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = KnownAxes.predict

    def contaminated(self: KnownAxes, image: Image, pixel_size: float) -> FilamentMaps:
        maps = predict(self, image, pixel_size)
        contaminant = np.full(maps.axis.shape, -6.0)
        contaminant[:, : maps.axis.shape[1] // 2] = 6.0
        return replace(maps, contaminant=contaminant)

    monkeypatch.setattr(KnownAxes, "predict", contaminated)
    out = tmp_path / "out"
    pick(folder, out, "--bad-area-masks")
    for number in (1, 2):
        mask, size = read_mask(out / f"bad_areas/mic_{number}.png")
        assert mask.mean() == pytest.approx(0.5, abs=0.05)
        assert size is not None
    assert min(one.axis_px[:, 0].min() for one in read_filaments(out / "filaments.star")) > 120
    # One that the user gives replaces what is detected, also where it is empty.
    (tmp_path / "masks").mkdir()
    ContaminationMask(np.zeros((3, 4), bool), 240.0, 0.0).write(tmp_path / "masks/mic_1.png")
    pick(folder, out, "--bad-area-masks", "--mask", tmp_path / "masks")
    assert not read_mask(out / "bad_areas/mic_1.png")[0].any()
    found = {
        number: min(
            one.axis_px[:, 0].min()
            for one in read_filaments(out / "filaments.star")
            if f"mic_{number}" in one.micrograph
        )
        for number in (1, 2)
    }
    assert found[1] < 60
    assert found[2] > 120
    pick(folder, out)
    assert not (out / "bad_areas").exists()
