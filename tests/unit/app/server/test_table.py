"""The table of micrographs: its columns, notes, exclusion of many, and power spectra."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heliodor.app.candidates import PickingRecord, read_candidates, write_candidates
from heliodor.app.server.project import SCORES as SCORE_FILES
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.data.star import write_blocks
from heliodor.picking.micrograph_quality import MicrographMeasurements
from helpers.app import HEIGHT, PIXEL_SIZE, WIDTH, AppVisit, micrographs, open_app
from helpers.fake_engine import SCORES


def wait_for_headers(app: AppVisit) -> dict:
    """Return the table once all headers have been read."""
    end = time.monotonic() + 60
    while app.get("/api/table")["pending"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    return app.get("/api/table")


def test_sizes_are_known_and_a_file_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics")
    (tmp_path / "mics" / "mic 9.mrc").write_bytes(b"nothing")
    with open_app(tmp_path) as app:
        table = wait_for_headers(app)
        assert table["width"] == [WIDTH] * 3 + [None]
        assert table["height"] == [HEIGHT] * 3 + [None]
        assert table["pixel_size"] == [PIXEL_SIZE] * 3 + [None]
        assert table["columns"] == []


def write_star(folder: Path, defocus: list[float]) -> Path:
    """Write a CTF fit of each micrograph in the folder of the project."""
    optics = {
        "rlnOpticsGroup": [1], "rlnMicrographPixelSize": [PIXEL_SIZE], "rlnVoltage": [300.0],
        "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1],
    }  # fmt: skip
    columns = {
        "rlnMicrographName": [str(folder / "mics" / f"mic {n}.mrc") for n in range(3)],
        "rlnOpticsGroup": [1] * 3,
        "rlnDefocusU": defocus, "rlnDefocusV": [u - 200 for u in defocus],
        "rlnDefocusAngle": [20.0] * 3,
    }  # fmt: skip
    path = folder / "micrographs_ctf.star"
    write_blocks(path, {"optics": optics, "micrographs": columns})
    return path


def test_the_columns_of_the_list_are_shown_and_read_again_when_it_changes(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics")
    star = write_star(tmp_path, [10000, 20000, 30000])
    with open_app(tmp_path, inputs=[str(star)]) as app:
        # The astigmatism is the same for all.
        (defocus,) = app.get("/api/table")["columns"]
        assert (defocus["title"], defocus["unit"]) == ("Defocus", "µm")
        assert defocus["values"] == pytest.approx([0.99, 1.99, 2.99])
        write_star(tmp_path, [11000, 20000, 30000])
        assert app.get("/api/table")["columns"][0]["values"][0] == pytest.approx(1.09)


def test_a_power_spectrum_has_the_rings_of_the_ctf(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics")
    star = write_star(tmp_path, [10000, 20000, 30000])
    with open_app(tmp_path, inputs=[str(star)]) as app:
        found = app.get("/api/micrographs/1/spectrum")
        with Image.open(io.BytesIO(base64.b64decode(found["image"]))) as image:
            assert image.size == (256, 256)
        assert found["nyquist_angstrom"] == pytest.approx(2 * PIXEL_SIZE)
        assert found["ctf"]["defocus_u_angstrom"] == 20000
        first = np.hypot(*np.array(found["rings"][0], dtype=float).T)
        # lambda d k^2 - Cs lambda^3 k^4 / 2 + asin(0.1)/pi = 1 at 1.99 um, to a per cent.
        expected = np.sqrt((1 - np.arcsin(0.1) / np.pi) / (0.0196875 * 19900)) * 2 * PIXEL_SIZE
        assert first == pytest.approx(expected, rel=0.02)
        assert app.client.get("/api/micrographs/7/spectrum").status_code == 404


def test_without_a_ctf_the_spectrum_has_no_rings(tmp_path: Path) -> None:
    with open_app(tmp_path) as app:
        found = app.get("/api/micrographs/0/spectrum")
        assert (found["ctf"], found["rings"]) == (None, [])
        assert found["image"]


def test_many_are_excluded_in_one_step(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        app.post("/api/excluded", ids=[0, 2], excluded=True)
        rows = app.get("/api/micrographs")
        assert rows["excluded"] == [True, False, True]
        assert app.get("/api/histogram")["micrographs"] == 1
        app.post("/api/excluded", ids=[0, 2], excluded=False)
        assert app.get("/api/micrographs")["excluded"] == [False] * 3
        app.post("/api/excluded", status=400, ids=[3], excluded=True)


def test_notes_are_kept_in_the_project(tmp_path: Path) -> None:
    with open_app(tmp_path) as app:
        app.post("/api/micrographs/1/note", note="  thick ice ")
        assert app.get("/api/micrographs")["note"] == ["", "thick ice", ""]
        app.post("/api/micrographs/1/note", status=400, note="x" * 2001)
    with open_app(tmp_path) as app:
        assert app.get("/api/micrographs")["note"] == ["", "thick ice", ""]
        app.post("/api/micrographs/1/note", note="")
    with open_app(tmp_path) as app:
        assert app.get("/api/micrographs")["note"] == [""] * 3


def test_particles_are_expected_where_probabilities_are_known(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        assert app.get("/api/micrographs")["particles"] == [None] * 3
        app.post(
            "/api/micrographs/0/labels", add=[{"id": "a", "x": 9, "y": 9, "kind": "particle"}]
        )
        app.post("/api/train", status=202)
        app.scored(model=1)
        # The calibrated log-odds of the fake model are its scores less 1.
        scores = SCORES + 1
        expected = np.sum(1 / (1 + np.exp(-(scores[scores >= -5] - 1))))
        assert app.get("/api/micrographs")["particles"] == pytest.approx([expected] * 3, abs=0.06)


def test_a_micrograph_with_few_picks_is_an_outlier_with_the_reason(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics", count=9)
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        app.post("/api/settings", threshold=-4.0)
        assert app.get("/api/outliers")["outliers"] == {}
        xy = app.get("/api/micrographs/4/picks")
        marks = [
            {"id": f"n{i}", "x": x, "y": y, "kind": "negative"}
            for i, (x, y) in enumerate(zip(xy["x"], xy["y"], strict=True))
        ]
        app.post("/api/micrographs/4/labels", add=marks)
        outliers = app.get("/api/outliers")["outliers"]
        assert [*outliers] == ["4"]
        assert outliers["4"][0].startswith("0 picks (median ")


def test_outliers_are_found_at_the_threshold_of_each_micrograph(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics", count=9)
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        app.post("/api/settings", threshold=-4.0)
        # The best candidate has a score of 6.
        app.post("/api/micrographs/4/offset", offset=9.5)
        outliers = app.get("/api/outliers")["outliers"]
        assert [*outliers] == ["4"]
        assert outliers["4"][0].startswith("1 pick (median ")


def test_what_was_measured_is_known_whatever_the_threshold(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics", count=9)
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        for number in range(9):
            path = app.state.project.path(SCORE_FILES, number)
            unlike = MicrographMeasurements(unlike_training=0.9 if number == 4 else 0.02)
            record = PickingRecord("", "", PIXEL_SIZE, 1.0, unlike, -9.0)
            write_candidates(path, replace(read_candidates(path), record=record))
            assert app.state.engine.load_candidates(number)
        app.post("/api/micrographs/4/offset", offset=0.25)
        outliers = app.get("/api/outliers")["outliers"]
        assert outliers == {"4": ["90% of it looks unlike the training micrographs"]}


def test_the_picks_of_an_excluded_micrograph_are_not_those_of_an_earlier_model(
    tmp_path: Path,
) -> None:
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        app.post("/api/excluded", ids=[0], excluded=True)
        assert app.get("/api/micrographs")["picks"][0] is not None
        app.post(
            "/api/micrographs/1/labels", add=[{"id": "a", "x": 9, "y": 9, "kind": "particle"}]
        )
        since = app.get("/api/micrographs")["revision"]
        app.post("/api/train", status=202)
        app.until(lambda news: app.get("/api/micrographs")["scored"] == [0, 1, 1])
        rows = app.get("/api/micrographs")
        assert rows["picks"][0] is None
        assert rows["particles"][0] is None
        assert None not in rows["picks"][1:]
        changes = app.get(f"/api/changes?since={since}")
        assert changes["all"] or 0 in [row["id"] for row in changes["rows"]]
        app.post("/api/excluded", ids=[0], excluded=False)
        app.scored(model=1)
        assert app.get("/api/micrographs")["picks"][0] is not None


def test_an_image_that_changes_has_a_new_spectrum(tmp_path: Path) -> None:
    with open_app(tmp_path) as app:
        before = app.get("/api/micrographs/0/spectrum")["image"]
        rows, columns = np.indices((HEIGHT, WIDTH))
        wave = 100 + 50 * np.cos(0.7 * columns + 0.3 * rows)
        write_mrc(tmp_path / "mics" / "mic 0.mrc", wave.astype(np.float32), PIXEL_SIZE)
        assert app.get("/api/micrographs/0/spectrum")["image"] != before
