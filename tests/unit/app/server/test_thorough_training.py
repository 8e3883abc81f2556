"""A thorough training in the background: what it is told, its progress, its end and its model."""

from __future__ import annotations

import base64
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliodor.app.server.thorough_training import FEWEST_LABELS, ThoroughTraining, TrainingLog
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.micrographs.star_list import read_micrographs
from helpers.app import DIAMETER, HEIGHT, WIDTH, AppVisit, open_app
from helpers.fake_engine import places

AT = places((HEIGHT, WIDTH))

#: Stands for `heliodor`: says what it was told, and trains as told by the file beside it.
_TRAINER = textwrap.dedent(
    """
    import json, sys, time
    from pathlib import Path
    words = sys.argv[1:]
    out = Path(words[words.index("-o") + 1])
    Path("told.json").write_text(json.dumps(words))
    orders = json.loads(Path("orders.json").read_text())
    def say(event, **values):
        print(json.dumps({"event": event, **values}), file=sys.stderr, flush=True)
    say("message", level="info", text="epoch 1 of 2: loss 0.1, 3 s")
    while orders["wait"] and not Path("go").exists():
        time.sleep(0.02)
    if orders["says"]:
        say("message", level="error", text=f"heliodor: {orders['says']}")
    if orders["code"] == 0:
        calibration = {
            "score": [-10.0, 10.0], "log_odds": [-11.0, 9.0], "particles": 7.0, "micrographs": 3,
            "labels": [3.0, 4.0], "clear_above": 0.0, "repeats": [[-11.5, 8.5]],
            "repeat_score": [-10.0, 10.0],
        }
        card = {"threshold": 1.25, "calibration": calibration, **orders["card"]}
        (out / "run.json").write_text(json.dumps({"model": card}))
        (out / "model.safetensors").write_text("weights")
    sys.exit(orders["code"])
    """
)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainer.py").write_text(_TRAINER)
    return [sys.executable, str(tmp_path / "trainer.py")]


def _orders(wait: bool = False, code: int = 0, says: str = "", **card: Any) -> None:
    orders = {"wait": wait, "code": code, "says": says, "card": card}
    Path("orders.json").write_text(json.dumps(orders))


def _use(visit: AppVisit, trainer: list[str]) -> ThoroughTraining:
    """Let another command train thoroughly."""
    state = visit.state
    state.thorough_training = ThoroughTraining(
        state.project, state.engine, 2, state.lock, note=state.activity.write, command=trainer
    )
    return state.thorough_training


def _label(visit: AppVisit, number: int, count: int, kind: str = "particle") -> None:
    add = [
        {"id": f"{kind}{place}", "x": 20.0 + 50 * place, "y": 30.0 + number, "kind": kind}
        for place in range(count)
    ]
    visit.post(f"/api/micrographs/{number}/labels", add=add)


def _start(visit: AppVisit) -> dict[str, Any]:
    started = visit.post("/api/train/thorough", 202)
    assert started["state"] == "running"
    return started


def _ended(visit: AppVisit) -> dict[str, Any]:
    return visit.until(lambda news: news["thorough"]["state"] != "running")["thorough"]


def _value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_it_learns_from_the_same_labels_as_a_short_training(
    tmp_path: Path, trainer: list[str]
) -> None:
    with open_app(tmp_path, pixel_size=4.5) as visit:
        _use(visit, trainer)
        _orders()
        _label(visit, 0, FEWEST_LABELS)
        _label(visit, 1, 3, "negative")
        _label(visit, 2, 4)
        visit.post("/api/micrographs/2/excluded", excluded=True)
        _start(visit)
        assert _ended(visit)["state"] == "done"
    words = json.loads(Path("told.json").read_text())
    assert words[:3] == ["train", "--effort", "thorough"]
    assert _value(words, "--diameter") == repr(DIAMETER)
    assert _value(words, "--pixel-size") == "4.5"
    assert _value(words, "--threads") == "2"
    assert "--trust-labels" in words


def test_the_files_it_reads_name_the_micrographs_that_are_not_excluded(
    tmp_path: Path, trainer: list[str]
) -> None:
    with open_app(tmp_path) as visit:
        training = _use(visit, trainer)
        _orders(wait=True)
        _label(visit, 0, FEWEST_LABELS)
        _label(visit, 1, 3, "negative")
        _label(visit, 2, 4)
        visit.post("/api/micrographs/2/excluded", excluded=True)
        _start(visit)
        visit.until(lambda news: news["thorough"]["stage"] is not None)
        words = json.loads(Path("told.json").read_text())
        listed = _value(words, "--micrographs")
        mics = [str(tmp_path / f"mics/mic {n}.mrc") for n in range(3)]
        assert read_micrographs(listed) == [(name, None) for name in mics[:2]]
        assert [str(source.path) for source in find_sources(listed)] == mics[:2]
        labels = read_picks(_value(words, "--labels"))
        negatives = read_picks(_value(words, "--negatives"))
        assert ({*labels.names()}, len(labels)) == ({mics[0]}, FEWEST_LABELS)
        assert ({*negatives.names()}, len(negatives)) == ({mics[1]}, 3)
        np.testing.assert_allclose(labels.xy_px[0], (20, 30))
        assert "--pixel-size" not in words
        training.cancel()
        assert _ended(visit)["state"] == "cancelled"


def test_picks_in_painted_contamination_are_negatives(tmp_path: Path, trainer: list[str]) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _use(visit, trainer)
        _orders(wait=True)
        _label(visit, 0, FEWEST_LABELS)
        step, (x, y) = 20.0, AT[2]
        mask = np.zeros((int(HEIGHT / step), int(WIDTH / step)), bool)
        row, column = round(y / step), round(x / step)
        mask[row - 1 : row + 2, column - 1 : column + 2] = True
        bits = base64.b64encode(np.packbits(mask).tobytes()).decode()
        painted = {"rows": mask.shape[0], "columns": mask.shape[1], "step": step, "bits": bits}
        visit.post("/api/micrographs/1/contamination", ignore=False, mask=painted)
        _start(visit)
        negatives = read_picks(tmp_path / "project/thorough_training/negatives.star")
        np.testing.assert_allclose(negatives.xy_px, AT[[2]], atol=1e-3)
        assert {*negatives.names()} == {str(tmp_path / "mics/mic 1.mrc")}


def test_pixel_sizes_of_a_list_are_kept(tmp_path: Path, trainer: list[str]) -> None:
    with open_app(tmp_path):
        pass
    rows = [f"'{tmp_path}/mics/mic {n}.mrc' {4.0 + n}" for n in range(3)]
    head = ["data_micrographs", "loop_", "_rlnMicrographName #1", "_rlnMicrographPixelSize #2"]
    (tmp_path / "list.star").write_text("\n".join([*head, *rows, ""]))
    with open_app(tmp_path, inputs=[str(tmp_path / "list.star")]) as visit:
        _use(visit, trainer)
        _orders(wait=True)
        _label(visit, 0, FEWEST_LABELS)
        _start(visit)
        found = read_micrographs(tmp_path / "project/thorough_training/micrographs.star")
        assert [size for _, size in found] == [4.0, 5.0, 6.0]


def test_the_model_is_in_the_list_and_not_in_use_until_the_user_says_so(
    tmp_path: Path, trainer: list[str]
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _use(visit, trainer)
        _orders()
        _label(visit, 0, FEWEST_LABELS)
        _label(visit, 1, 2)
        _start(visit)
        done = _ended(visit)
        assert (done["state"], done["number"], done["labels"]) == ("done", 1, FEWEST_LABELS + 2)
        general, model = visit.get("/api/models")["models"]
        assert general["trained"] is None
        assert (model["number"], model["trained"]) == (1, "thorough")
        assert (model["labels"], model["micrographs_labeled"]) == (FEWEST_LABELS + 2, 2)
        assert (model["from"], model["diameter"]) == (0, DIAMETER)
        assert model["validation"] is None
        assert model["date"]
        assert visit.get("/api/project")["engine"]["model"] == 0
        assert not (tmp_path / "project/thorough_training").exists()
        visit.post("/api/model", number=1)
        visit.scored(1)
        calibration = visit.state.predictions.calibration(1)
        assert calibration.threshold == 1.25
        assert calibration.settled
        assert calibration.probability(np.array([1.0])) == pytest.approx(0.5)
        log = "\n".join(visit.get("/api/log")["lines"])
        assert "thorough training started: 12 labels on 2 micrographs" in log
        assert "model 1 trained thoroughly" in log


def test_a_short_training_at_the_same_time_has_another_number(
    tmp_path: Path, trainer: list[str]
) -> None:
    with open_app(tmp_path, with_engine=True, hold_training=True) as visit:
        visit.scored()
        _use(visit, trainer)
        _orders()
        _label(visit, 0, FEWEST_LABELS)
        visit.post("/api/train", 202)
        _start(visit)
        assert _ended(visit)["number"] == 2
        visit.override()
        visit.post("/api/micrographs/2/excluded", excluded=True)  # the engine looks up at this
        visit.until(lambda news: news["training"]["state"] == "done")
        models = visit.get("/api/models")["models"]
        assert [(one["number"], one["trained"]) for one in models] == [
            (0, None), (1, None), (2, "thorough"),
        ]  # fmt: skip


def test_it_is_refused_without_enough_labels_and_while_one_runs(
    tmp_path: Path, trainer: list[str]
) -> None:
    with open_app(tmp_path) as visit:
        _use(visit, trainer)
        _orders(wait=True)
        assert "mark some particles" in visit.post("/api/train/thorough", 409)["error"]
        _label(visit, 0, FEWEST_LABELS - 1)
        assert f"at least {FEWEST_LABELS}" in visit.post("/api/train/thorough", 409)["error"]
        assert visit.get("/api/project")["thorough"]["fewest_labels"] == FEWEST_LABELS
        _label(visit, 1, 1)
        _start(visit)
        assert visit.state.is_busy()
        assert "already running" in visit.post("/api/train/thorough", 409)["error"]


def test_it_is_refused_without_a_diameter(tmp_path: Path, trainer: list[str]) -> None:
    with open_app(tmp_path, diameter=None) as visit:
        _use(visit, trainer)
        _label(visit, 0, FEWEST_LABELS)
        assert "diameter" in visit.post("/api/train/thorough", 409)["error"]


def test_a_failure_is_a_sentence(tmp_path: Path, trainer: list[str]) -> None:
    with open_app(tmp_path) as visit:
        _use(visit, trainer)
        _label(visit, 0, FEWEST_LABELS)
        _orders(code=2, says="no labeled micrograph can be used")
        _start(visit)
        ended = _ended(visit)
        assert (ended["state"], ended["says"]) == ("failed", "no labeled micrograph can be used")
        _orders(code=5)
        _start(visit)
        assert _ended(visit)["says"] == "exit code 5; see thorough_training.log"
        _orders(threshold=None)
        _start(visit)
        ended = _ended(visit)
        assert ended["state"] == "failed"
        assert "cannot be kept" in ended["says"]
        assert [one["number"] for one in visit.get("/api/models")["models"]] == [0]
    with open_app(tmp_path) as visit:  # what failed is not offered to be resumed
        assert visit.get("/api/project")["thorough"]["state"] == "none"


def test_one_that_ends_with_the_app_is_known_later(tmp_path: Path, trainer: list[str]) -> None:
    with open_app(tmp_path) as visit:
        training = _use(visit, trainer)
        _orders(wait=True)
        _label(visit, 0, FEWEST_LABELS)
        _start(visit)
        process = training._process
    assert process is not None
    assert process.poll() is not None  # it ended with the app
    with open_app(tmp_path) as visit:
        later = visit.get("/api/project")["thorough"]
        assert (later["state"], later["labels"]) == ("stopped", FEWEST_LABELS)
        _use(visit, trainer)
        _orders()
        _start(visit)
        assert _ended(visit)["state"] == "done"
    with open_app(tmp_path) as visit:
        assert visit.get("/api/project")["thorough"]["state"] == "none"


def test_a_damaged_record_of_a_stopped_training_is_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "project/thorough_training"
    folder.mkdir(parents=True)
    (folder / "made_with.json").write_text('{"labels": "many"}')
    with open_app(tmp_path) as visit:
        assert visit.get("/api/project")["thorough"]["state"] == "none"


def test_nothing_is_written_through_a_link(tmp_path: Path, trainer: list[str]) -> None:
    (tmp_path / "outside").mkdir()
    with open_app(tmp_path) as visit:
        (tmp_path / "project/thorough_training").symlink_to(tmp_path / "outside")
        _use(visit, trainer)
        _label(visit, 0, FEWEST_LABELS)
        assert "link" in visit.post("/api/train/thorough", 422)["error"]
    assert [*(tmp_path / "outside").iterdir()] == []


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _progress(what: str, done: int, total: int) -> str:
    return json.dumps({"event": "progress", "what": what, "done": done, "total": total}) + "\n"


def test_the_time_that_is_left_follows_from_the_shares_of_the_stages(tmp_path: Path) -> None:
    clock, path = _Clock(), tmp_path / "log"
    path.write_text("heliodor train\n")
    log = TrainingLog(path, clock=clock)

    def add(text: str, seconds: float) -> None:
        clock.now += seconds
        with path.open("a") as stream:
            stream.write(text)
        log.read()

    assert (log.stage, log.share, log.seconds_left()) == (None, 0.0, None)
    second = "training the second of four models, at coarser pixels"
    # The first training was resumed at its end: that it is done says nothing of the pace.
    add(_progress(second, 10, 100), 1.0)
    begun = log.share
    assert log.stage == "training the second of four models"
    assert log.seconds_left() is None
    add(_progress(second, 60, 100), 10.0)
    assert begun < log.share < 1
    expected = (1 - log.share) * 10.0 / (log.share - begun)
    assert log.seconds_left() == pytest.approx(expected)
    clock.now += 2.0
    assert log.seconds_left() == pytest.approx(expected - 2.0)
    add(_progress("calibrating", 5, 5), 1.0)
    assert log.share == pytest.approx(1.0)
    assert log.seconds_left() == pytest.approx(0.0, abs=1e-6)


def test_a_line_that_is_being_written_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = _progress("calibrating", 1, 2)
    path.write_text(line[:20])
    log = TrainingLog(path)
    log.read()
    assert log.stage is None
    path.write_text(line)
    log.read()
    assert log.stage == "calibrating scores"


def test_other_lines_of_a_log_are_no_progress(tmp_path: Path) -> None:
    path = tmp_path / "log"
    strange = [
        '{"event": "progress", "what": "picking", "done": null, "total": 3}', "[1]",
        _progress("something else", 1, 2), _progress("picking", 1, 0), "MemoryError",
    ]  # fmt: skip
    path.write_text("\n".join([*strange, ""]))
    log = TrainingLog(path)
    log.read()
    assert (log.stage, log.share, log.error) == (None, 0.0, None)
    assert log.other == "MemoryError"
