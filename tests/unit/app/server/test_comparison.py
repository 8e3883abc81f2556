"""Two models compared on the same micrographs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from heliodor.app.server.comparison import Comparison
from helpers.app import AppVisit, open_app

#: Writes the picks that it was ordered to for each model; waits for a file if there is none.
_PICKER = """
import json, sys, time
from pathlib import Path
words = sys.argv[1:]
here = Path(__file__).parent
model = int(Path(words[words.index("--model") + 1]).stem) if "--model" in words else 0
with (here / "told.jsonl").open("a") as told:
    told.write(json.dumps(words) + "\\n")
while not (here / "go").exists():
    time.sleep(0.01)
orders = json.loads((here / "go").read_text())
if orders == "fail":
    sys.exit(1)
out = Path(words[words.index("-o") + 1])
out.mkdir(parents=True)
path = words[words.index("--micrographs") + 1]
rows = [f"{path}\\t{x}\\t{y}\\t{s}\\t0.5\\t{int(s > 0)}\\t4" for x, y, s in orders[str(model)]]
head = "micrograph\\tx_px\\ty_px\\tlog_odds\\tprobability\\tselected\\tpixel_size_angstrom"
(out / "picks.tsv").write_text("\\n".join([head, *rows]) + "\\n")
"""


@pytest.fixture
def app(tmp_path: Path) -> AppVisit:
    with open_app(tmp_path) as visit:
        state = visit.state
        (state.project.folder / "models" / "0001.safetensors").write_text("a model")
        (tmp_path / "picker.py").write_text(_PICKER)
        state.comparison = Comparison(
            state.project, state.annotations, state.tiles, 1,
            command=[sys.executable, str(tmp_path / "picker.py")],
        )  # fmt: skip
        yield visit


def wait(app: AppVisit) -> dict:
    """Wait until the comparison has ended, and return its state."""
    end = time.monotonic() + 60
    while (found := app.get("/api/comparison"))["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_what_both_have_and_what_one_has_is_told_apart(app: AppVisit, tmp_path: Path) -> None:
    # The diameter is 30 pixels: 12 pixels apart is the same particle.
    orders = {
        "0": [(100, 100, 3.0), (200, 200, 2.0), (300, 300, 1.0), (400, 400, -1.0)],
        "1": [(205, 205, 3.0), (400, 400, 2.0)],
    }
    (tmp_path / "go").write_text(json.dumps(orders))
    marks = [
        {"id": "a", "x": 400, "y": 398, "kind": "particle"},
        {"id": "b", "x": 101, "y": 100, "kind": "negative"},
    ]
    app.post("/api/micrographs/1/labels", add=marks)
    app.post("/api/comparison", 202, models=[0, 1], ids=[1])
    found = wait(app)
    assert found["state"] == "done", found
    (one,) = found["result"]
    general, trained = one["sides"]
    assert (one["id"], one["labels"], one["negatives"]) == (1, 1, 1)
    assert (general["x"], general["shared"]) == ([100, 200, 300], [0, 1, 0])
    assert (trained["x"], trained["shared"]) == ([205, 400], [1, 0])
    assert (general["labels_found"], trained["labels_found"]) == (0, 1)
    assert (general["negatives_picked"], trained["negatives_picked"]) == (1, 0)
    first, second = map(json.loads, (tmp_path / "told.jsonl").read_text().splitlines())
    for words in (first, second):
        assert words[0] == "pick"
        assert words[words.index("--pixel-size") + 1] == "4.0"
        assert words[words.index("--micrographs") + 1 :] == [str(tmp_path / "mics" / "mic 1.mrc")]
    assert first[first.index("--diameter") + 1] == "120.0"
    assert second[second.index("--model") + 1].endswith("models/0001.safetensors")
    # The models, scores and settings of the project are as before.
    assert app.state.project.settings.model == 0


def test_a_comparison_is_canceled_and_a_failure_is_shown(app: AppVisit, tmp_path: Path) -> None:
    app.post("/api/comparison", 202, models=[1, 0], ids=[0, 2])
    assert "already" in app.post("/api/comparison", 409, models=[0, 1], ids=[0])["error"]
    while not (tmp_path / "told.jsonl").exists():
        time.sleep(0.02)
    app.post("/api/comparison/cancel")
    assert wait(app)["state"] == "cancelled"
    (tmp_path / "go").write_text('"fail"')
    app.post("/api/comparison", 202, models=[1, 0], ids=[0])
    found = wait(app)
    assert found["state"] == "failed"
    assert "picking with model 1 failed" in found["says"]


@pytest.mark.parametrize(
    ("status", "models", "ids"),
    [(400, [0, 0], [0]), (404, [0, 7], [0]), (400, [0, 1], [9]), (400, [0, 1], []),
     (400, [0], [0]), (400, [0, -1], [0])],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    app: AppVisit, status: int, models: list[int], ids: list[int]
) -> None:
    app.post("/api/comparison", status, models=models, ids=ids)
    assert app.get("/api/comparison") == {"state": "none"}


def test_a_comparison_ends_where_nothing_can_be_written(app: AppVisit, tmp_path: Path) -> None:
    (tmp_path / "go").write_text(json.dumps({"0": [], "1": []}))
    folder = tmp_path / "project/comparison"
    (folder / "0001.log").mkdir(parents=True)
    app.post("/api/comparison", 202, models=[1, 0], ids=[0])
    found = wait(app)
    assert found["state"] == "failed"
    assert "0001.log cannot be written" in found["says"]
    (folder / "0001.log").rmdir()
    (tmp_path / "precious").write_text("precious")
    (folder / "0001.log").symlink_to(tmp_path / "precious")
    (folder / "0000").symlink_to(tmp_path)
    app.post("/api/comparison", 202, models=[1, 0], ids=[0])
    found = wait(app)
    assert "0000 is a symbolic link" in found["says"]
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "picker.py").exists()
