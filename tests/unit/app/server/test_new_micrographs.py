"""Micrographs that arrive while the app is open."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from heliodor.app.micrograph_list import read_list
from heliodor.app.server import new_micrographs
from heliodor.data.micrographs.micrograph import write_mrc
from helpers.app import HEIGHT, PIXEL_SIZE, WIDTH, AppVisit, open_app


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_micrographs, "SHORT_SECONDS", 0.01)


def arrive(folder: Path, name: str) -> Path:
    """Write one more micrograph, whole."""
    path = folder / "mics" / name
    image = np.random.default_rng(len(name)).normal(100, 10, (HEIGHT, WIDTH))
    write_mrc(path, image.astype(np.float32), PIXEL_SIZE)
    return path


def wait_for_scores(app: AppVisit, count: int) -> dict:
    """Wait until so many micrographs are scored, and return the rows."""
    app.until(
        lambda news: (
            news["engine"]["state"] == "idle"
            and app.get("/api/micrographs")["scored"].count(0) == count
        )
    )
    return app.get("/api/micrographs")


def test_a_new_micrograph_is_added_at_the_end_and_nothing_else_changes(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        mark = {"id": "a", "x": 9, "y": 9, "kind": "particle"}
        app.post("/api/micrographs/2/labels", add=[mark])
        app.post("/api/micrographs/1/excluded", excluded=True)
        scores = app.state.project.folder / "scores"
        before = {path.name: path.stat().st_mtime_ns for path in scores.iterdir()}
        revision = app.get("/api/project")["revision"]
        arrive(tmp_path, "mic 0b.mrc")  # before others in the order of names
        assert app.post("/api/look") == {"added": 1}
        assert app.post("/api/look") == {"added": 0}
        assert app.get("/api/changes", since=revision)["all"] is True
        rows = wait_for_scores(app, 4)
        assert [Path(name).name for name in rows["name"]] == [
            "mic 0.mrc", "mic 1.mrc", "mic 2.mrc", "mic 0b.mrc",
        ]  # fmt: skip
        assert rows["labels"] == [0, 0, 1, 0]
        assert rows["excluded"] == [False, True, False, False]
        assert {name: (scores / name).stat().st_mtime_ns for name in before} == before
        assert app.get("/api/histogram")["micrographs"] == 3
        assert [own.path.name for own in read_list(app.state.project.folder)][-1] == "mic 0b.mrc"
    # After a restart the order is that of the names, and the scores belong to the same files.
    with open_app(tmp_path, with_engine=True, hold=[0, 1, 2, 3]) as app:
        app.until(lambda news: app.get("/api/micrographs")["scored"] == [0] * 4)
        rows = app.get("/api/micrographs")
        assert [Path(name).name for name in rows["name"]][1] == "mic 0b.mrc"
        assert rows["labels"] == [0, 0, 0, 1]


def test_a_file_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    with open_app(tmp_path) as app:
        whole = arrive(tmp_path, "mic 3.mrc")
        content = whole.read_bytes()
        whole.write_bytes(content[: len(content) // 2])
        assert app.post("/api/look") == {"added": 0}
        assert app.get("/api/project")["count"] == 3
        whole.write_bytes(content)
        assert app.post("/api/look") == {"added": 1}
        assert app.get("/api/micrographs/3")["width"] == WIDTH


def test_during_a_training_nothing_is_added(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, hold_training=True) as app:
        app.scored()
        mark = {"id": "a", "x": 9, "y": 9, "kind": "particle"}
        app.post("/api/micrographs/2/labels", add=[mark])
        app.post("/api/train", status=202)
        arrive(tmp_path, "mic 3.mrc")
        assert app.post("/api/look") == {"added": 0}
        app.post("/api/train/cancel")
        app.until(lambda news: news["training"]["state"] == "cancelled")
        assert app.post("/api/look") == {"added": 1}
        app.scored()
        assert app.get("/api/micrographs")["scored"] == [0] * 4


def test_the_folder_is_looked_at_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_micrographs, "INTERVAL_SECONDS", 0.02)
    with open_app(tmp_path) as app:
        app.state.new_micrographs.start()
        arrive(tmp_path, "mic 3.mrc")
        app.until(lambda news: app.get("/api/project")["count"] == 4)


def test_a_link_to_a_known_file_is_not_new(tmp_path: Path) -> None:
    with open_app(tmp_path) as app:
        (tmp_path / "mics" / "link.mrc").symlink_to(tmp_path / "mics" / "mic 0.mrc")
        assert app.post("/api/look") == {"added": 0}
        shutil.copy(tmp_path / "mics" / "mic 0.mrc", tmp_path / "mics" / "copy.mrc")
        assert app.post("/api/look") == {"added": 1}
