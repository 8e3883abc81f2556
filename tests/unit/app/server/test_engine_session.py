"""The engine as the server uses it: scores, trainings, and an engine that crashes."""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heliodor.app.candidates import Candidates, read_candidates
from heliodor.app.server.engine_client import RETRY_SECONDS, EngineClient, EngineFailures
from heliodor.app.server.predictions import (
    MicrographPredictions,
    ModelCalibration,
    Predictions,
)
from heliodor.data.micrographs.micrograph import write_mrc
from heliodor.errors import BadInput
from heliodor.evaluation.calibration import Calibration
from heliodor.evaluation.score_histogram import ScoreCounts
from heliodor.evaluation.thresholds import predict_performance
from heliodor.picking.corrections import near
from helpers.app import (
    DIAMETER,
    HEIGHT,
    PIXEL_SIZE,
    WIDTH,
    AppVisit,
    open_app,
)
from helpers.cpu_time import at_most_reference_work
from helpers.fake_engine import (
    BEST,
    CALIBRATION,
    CLEAN_SCORES,
    NUMBER,
    SCORES,
    places,
)
from helpers.full_disk import full_disk

AT = places((HEIGHT, WIDTH))
#: The candidates by descending score; the second one lies in contamination.
ORDER = np.argsort(-SCORES, kind="stable")


def _label(visit: AppVisit, number: int = 0, count: int = 2, kind: str = "particle") -> None:
    add = [
        {"id": f"{kind}-{i}", "x": float(AT[i, 0]), "y": float(AT[i, 1]), "kind": kind}
        for i in range(count)
    ]
    visit.post(f"/api/micrographs/{number}/labels", add=add)


def _trained(visit: AppVisit) -> dict[str, object]:
    visit.post("/api/train", 202)
    done = visit.until(lambda news: news["training"]["state"] not in ("running", "none"))
    return dict(done["training"])


def test_all_are_scored_and_counted_at_the_threshold(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        rows = visit.get("/api/micrographs")
        # The engine's own threshold is 2.5.
        expected = int((SCORES >= 2.5).sum())
        assert rows["picks"] == [expected] * 3
        assert rows["quality"] == [0.75] * 3
        before = visit.get("/api/changes", since=0)["revision"]
        visit.post("/api/settings", threshold=4.5)
        assert visit.get("/api/changes", since=before)["all"]
        assert visit.get("/api/micrographs")["picks"] == [1] * 3
        picks = visit.get("/api/micrographs/1/picks")
        assert (picks["state"], picks["model"], picks["probability"]) == ("ready", 0, None)
        np.testing.assert_allclose(picks["score"], SCORES[ORDER])
        xy = np.column_stack([picks["x"], picks["y"]])
        np.testing.assert_allclose(xy, AT[ORDER], atol=0.01)
        assert picks["bad"] == (ORDER == 1).astype(int).tolist()


def test_what_is_a_negative_is_no_pick(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        before = visit.get("/api/micrographs")["picks"][0]
        _label(visit, 0, 1, "negative")
        assert visit.get("/api/micrographs")["picks"][0] == before - 1
        items = visit.get("/api/gallery", count=6)["items"]
        said = {(item["micrograph"], item["score"]): item["kind"] for item in items}
        assert said[0, BEST] == "negative"
        assert said[1, BEST] is None
        visit.post("/api/micrographs/0/labels", remove=["negative-0"])
        assert visit.get("/api/micrographs")["picks"][0] == before


def test_a_training_gives_a_model_and_everything_is_scored_with_it(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        assert "particles" in visit.post("/api/train", 409)["error"]
        _label(visit)
        _label(visit, 2, 1, "negative")
        training = _trained(visit)
        assert (training["state"], training["number"]) == ("done", 1)
        assert training["curve"] == [[i, 1 / i, None] for i in range(1, 6)]
        visit.scored(1)
        project = tmp_path / "project"
        told = json.loads((project / "models/0001.safetensors").read_text())
        assert [*told["labels"]] == ["0"]
        np.testing.assert_allclose(told["labels"]["0"], AT[:2], atol=1e-3)
        np.testing.assert_allclose(told["negatives"]["2"], AT[:1], atol=1e-3)
        assert json.loads((project / "models/0001.json").read_text())["threshold"] == 3.5
        chances = visit.get("/api/micrographs/0/picks")["probability"]
        np.testing.assert_allclose(chances, 1 / (1 + np.exp(-SCORES[ORDER])), atol=1e-3)
        assert _trained(visit)["number"] == 2
        visit.scored(2)
    with open_app(tmp_path, with_engine=True) as visit:  # as it was left
        assert visit.get("/api/project")["engine"]["model"] == 2
        visit.scored(2)
        assert visit.state.predictions.calibration(2).threshold == 3.5


def test_a_training_can_be_cancelled_and_the_old_model_stays(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, hold_training=True) as visit:
        _label(visit)
        visit.until(lambda news: news["engine"]["state"] in ("scoring", "idle"))
        visit.post("/api/train", 202)
        assert "already" in visit.post("/api/train", 409)["error"]
        assert "is running" in visit.post("/api/settings", 409, diameter=200)["error"]
        visit.until(lambda news: news["training"]["update"] > 0)
        visit.post("/api/train/cancel")
        news = visit.until(lambda news: news["training"]["state"] != "running")
        assert news["training"]["state"] == "cancelled"
        assert news["engine"]["model"] == 0
        visit.override()
        visit.scored(0)


def test_what_cannot_be_trained_on_is_told(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, refuse="more labels are needed") as visit:
        visit.scored()
        _label(visit)
        training = _trained(visit)
        assert (training["state"], training["says"]) == ("refused", "more labels are needed")


@pytest.mark.slow
def test_an_engine_that_dies_is_started_again(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, die_training=True) as visit:
        visit.scored()
        _label(visit)
        training = _trained(visit)
        assert training["state"] == "refused"
        assert "signal 9" in str(training["says"])
        news = visit.until(lambda news: news["engine"]["state"] == "idle")
        assert news["engine"]["model"] == 0
        visit.override()
        assert _trained(visit)["state"] == "done"


def test_a_micrograph_that_kills_the_engine_is_left_out(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, die_on=[1], fail=[2]) as visit:
        visit.until(lambda news: news["engine"]["state"] == "idle")
        rows = visit.get("/api/micrographs")
        assert rows["scored"] == [0, None, None]
        assert "crashed twice" in rows["failed"][1]
        assert rows["failed"][2] == "micrograph 2 is no good"
        assert visit.get("/api/micrographs/1/picks")["state"] == "none"


@pytest.mark.parametrize("by", ["focus", "time", "training", "inclusion"])
def test_micrographs_are_tried_again_once_there_is_room(tmp_path: Path, by: str) -> None:
    with open_app(tmp_path, with_engine=True, full=[0, 1, 2]) as visit:
        visit.until(lambda news: news["engine"]["state"] == "idle")
        rows = visit.get("/api/micrographs")
        assert rows["failed"] == [f"{number}.npz cannot be written" for number in range(3)]
        assert visit.get("/api/micrographs/1/picks")["state"] == "none"
        visit.override()
        visit.get("/api/changes", since=0)
        assert visit.get("/api/changes", since=0)["engine"]["state"] == "idle"
        if by == "focus":
            visit.post("/api/focus", id=1)
        elif by == "time":
            visit.state.engine._failures._retry_at = 0.0
        elif by == "training":
            _label(visit)
            assert _trained(visit)["state"] == "done"
        else:
            for excluded in (True, False):
                visit.post("/api/micrographs/2/excluded", excluded=excluded)
        visit.scored(int(by == "training"))  # one that succeeds shows that the others will too
        assert visit.get("/api/micrographs")["failed"] == [None] * 3


def test_one_micrograph_at_a_time_is_tried_while_the_disk_is_full() -> None:
    now = 0.0
    failures = EngineFailures(lambda: now)
    assert failures.take_due() is None
    for number in (2, 1):
        failures.postpone(number)
    now = RETRY_SECONDS - 1
    assert failures.take_due() is None
    now = RETRY_SECONDS
    assert failures.take_due() == 1
    assert failures.take_due() is None
    failures.forget(1)
    now = 2 * RETRY_SECONDS
    assert failures.take_due() == 2
    failures.reset(micrographs=True)
    now = 3 * RETRY_SECONDS
    assert failures.take_due() is None


def test_a_micrograph_that_failed_is_scored_once_its_file_is_another(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, fail=[0]) as visit:
        visit.until(lambda news: news["engine"]["state"] == "idle")
        assert visit.get("/api/micrographs")["failed"][0] == "micrograph 0 is no good"
        visit.override()
        visit.post("/api/focus", id=0)
        assert visit.get("/api/changes", since=0)["engine"]["state"] == "idle"
        path = tmp_path / "mics/mic 0.mrc"
        path.unlink()
        visit.post("/api/focus", id=0)
        assert visit.get("/api/changes", since=0)["engine"]["state"] == "idle"
        replace_micrograph(tmp_path, 5)
        visit.scored()
        assert visit.get("/api/micrographs")["failed"] == [None] * 3


def test_an_engine_that_always_dies_is_left_alone_until_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliodor.app.server.engine_session._RESTART_SECONDS", 0.01)
    monkeypatch.setattr("heliodor.app.server.engine_session.MAX_FAILURES", 2)
    with open_app(tmp_path, with_engine=True, die_training=True) as visit:
        visit.scored()
        _label(visit)
        for _ in range(3):
            visit.until(lambda news: news["engine"]["state"] in ("idle", "failed"))
            assert _trained(visit)["state"] == "refused"
        news = visit.until(lambda news: news["engine"]["state"] == "failed")
        assert "3 times" in news["engine"]["says"]
        visit.override()
        # Training starts the engine again, and begins when it is ready.
        assert visit.client.post("/api/train", json={}).status_code == 202
        assert visit.client.post("/api/train", json={}).status_code == 409
        news = visit.until(lambda news: news["training"]["state"] not in ("running", "refused"))
        assert news["training"]["state"] == "done"


def test_a_training_that_waits_for_the_engine_can_be_cancelled(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:  # the engine has not been started
        _label(visit)
        assert visit.client.post("/api/train", json={}).status_code == 202
        assert visit.get("/api/changes", since=0)["training"]["state"] == "running"
        visit.client.post("/api/train/cancel", json={})
        assert visit.get("/api/changes", since=0)["training"]["state"] == "cancelled"
        visit.state.engine.start()
        visit.scored()
        assert visit.get("/api/changes", since=0)["training"]["state"] == "cancelled"


def test_a_project_that_the_engine_cannot_open_is_told_of(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, shut="the model is damaged") as visit:
        news = visit.until(lambda news: news["engine"]["state"] == "failed")
        assert news["engine"]["says"] == "the model is damaged"
        _label(visit)
        visit.override()
        visit.client.post("/api/train", json={})  # opens it anew
        visit.until(lambda news: news["engine"]["state"] == "idle")
        assert _trained(visit)["state"] == "done"


def test_the_micrograph_on_the_screen_comes_first(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, hold=[0, 1]) as visit:
        visit.until(lambda news: news["engine"]["state"] == "scoring")
        visit.post("/api/focus", id=2)
        visit.override(hold=[1])  # the engine finishes 0, and takes what comes next
        visit.until(lambda news: visit.get("/api/micrographs")["scored"].count(0) >= 2)
        assert visit.get("/api/changes", since=0)["engine"]["queue"] <= 1
        assert visit.get("/api/micrographs")["scored"] == [0, None, 0]
        visit.override()


def test_another_diameter_begins_with_the_general_model(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        _label(visit)
        visit.scored()
        _trained(visit)
        visit.scored(1)
        stamps = [path.stat().st_mtime_ns for path in (tmp_path / "project/scores").iterdir()]
        visit.post("/api/settings", diameter=150)
        visit.scored(0)
        now = [path.stat().st_mtime_ns for path in (tmp_path / "project/scores").iterdir()]
        assert min(now) > max(stamps)
        assert visit.state.predictions.get(0).diameter_px == pytest.approx(150 / PIXEL_SIZE)  # type: ignore[union-attr]
        _trained(visit)
        assert visit.get("/api/project")["engine"]["model"] == 2
    with open_app(tmp_path, diameter=None, with_engine=True) as visit:
        assert visit.get("/api/project")["settings"]["diameter"] == 150
        assert visit.get("/api/project")["engine"]["model"] == 2


def test_scores_of_before_are_not_made_again(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
    with open_app(tmp_path, with_engine=True, fail=[0, 1, 2]) as visit:
        visit.scored()
        assert visit.get("/api/micrographs")["failed"] == [None] * 3
    (tmp_path / "project/scores/1.npz").write_bytes(b"damaged")
    with open_app(tmp_path, with_engine=True, fail=[0, 2]) as visit:
        visit.scored()


def replace_micrograph(folder: Path, seed: int) -> float:
    """Write another image under the name of the first micrograph; return its mean."""
    image = np.random.default_rng(seed).normal(100 + seed, 10, (HEIGHT, WIDTH))
    write_mrc(folder / "mics/mic 0.mrc", image.astype(np.float32), PIXEL_SIZE)
    return float(image.mean())


def scored_mean(folder: Path) -> float:
    """Return the mean of the first micrograph as it was scored."""
    return float(read_candidates(folder / "project/scores/0.npz").figures["mean"])


def shown(visit: AppVisit) -> tuple[bytes, bytes]:
    """Return the thumbnail and a tile of the first micrograph."""
    names = ("thumbnail.jpg", "tiles/0/0/0.jpg")
    first, second = (visit.client.get(f"/api/micrographs/0/{name}").content for name in names)
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("by", ["focus", "picks", "changes", "export"])
def test_a_micrograph_that_was_replaced_is_shown_and_scored_anew(tmp_path: Path, by: str) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        before = shown(visit)
    mean = replace_micrograph(tmp_path, 5)
    with open_app(tmp_path, with_engine=True, fail=[1, 2]) as visit:
        visit.scored()  # the others are not scored again
        assert scored_mean(tmp_path) == pytest.approx(mean, abs=0.01)
        between = shown(visit)
        assert not {*before} & {*between}
        mean = replace_micrograph(tmp_path, 6)
        if by == "focus":
            visit.post("/api/focus", id=0)
        elif by == "picks":
            visit.get("/api/micrographs/0/picks")
        elif by == "export":
            said = visit.post("/api/export", 422, what="picks", format="star")["error"]
            assert "mic 0.mrc; export again" in said
        visit.until(lambda _: visit.state.predictions.get(0) is not None)
        visit.scored()
        assert scored_mean(tmp_path) == pytest.approx(mean, abs=0.01)
        assert not {*between} & {*shown(visit)}


def test_the_engine_ends_with_the_room(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        engine = visit.state.engine._engine
        assert engine is not None
        os.kill(engine.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


def test_the_gallery_is_in_order_and_crops_show_the_place(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        said = visit.get("/api/gallery", count=500)
        assert said["total"] == len(said["items"]) == 3 * NUMBER
        scores = [item["score"] for item in said["items"]]
        assert scores == sorted(scores, reverse=True)
        part = visit.get("/api/gallery", start=4, count=3)["items"]
        assert part == said["items"][4:7]
        bright = visit.state.project.path("previews", 0)
        picture = np.zeros((HEIGHT, WIDTH), np.uint8)
        x, y = AT[4]
        picture[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] = 255
        Image.fromarray(picture).save(bright, quality=100)
        answer = visit.client.post("/api/crops", json={"at": [[1, 5, 5]] * 11 + [[0, x, y]]})
        with Image.open(io.BytesIO(answer.content)) as opened:
            sheet = np.asarray(opened).astype(float)
        assert sheet.shape == (2 * 96, 10 * 96)
        crop = sheet[96:192, 96:192]
        rows, columns = np.nonzero(crop > 128)
        assert rows.mean() == pytest.approx(47.5, abs=1.5)
        assert columns.mean() == pytest.approx(47.5, abs=1.5)
        # A square of 7 pixels of 4 A, in crops of 1.5 diameters.
        side = 7 * PIXEL_SIZE / (1.5 * DIAMETER) * 96
        assert len(rows) == pytest.approx(side**2, rel=0.2)


def test_crops_need_no_preview(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        answer = visit.client.post("/api/crops", json={"at": [[0, 100, 100], [1, -50, 5000]]})
        assert answer.status_code == 200
        with Image.open(io.BytesIO(answer.content)) as opened:
            sheet = np.asarray(opened).astype(float)
        assert sheet[:96, :96].std() > 5
        assert abs(sheet[:96, 96:192] - 128).max() < 4  # beyond the picture


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_crops_are_made_from_the_micrograph_where_a_preview_is_damaged(
    tmp_path: Path, part: float
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        preview = tmp_path / "project/previews/0.jpg"
        preview.write_bytes(preview.read_bytes()[: int(part * preview.stat().st_size)])
        answer = visit.client.post("/api/crops", json={"at": [[0, 100, 100]]})
        with Image.open(io.BytesIO(answer.content)) as opened:
            assert np.asarray(opened).astype(float)[:96, :96].std() > 5
        assert visit.get("/api/inspection")["drawn"] == 9


def test_the_histogram_counts_what_can_be_picked(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        said = visit.get("/api/histogram")
        assert (said["model"], said["micrographs"], said["automatic"]) == (0, 3, 2.5)
        assert sum(said["counts"]) == 3 * NUMBER
        assert len(said["edges"]) == len(said["counts"]) + 1
        assert said["estimates"] is None


def test_questions_are_about_what_is_not_known_yet(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _label(visit, 0, 3)
        items = visit.get("/api/questions", count=10)["items"]
        assert items == visit.get("/api/questions", count=10)["items"]
        assert 5 < len(items) <= 10
        for item in items:
            here = np.array([[item["x"], item["y"]]])
            assert near(here, AT, 0.1).all()
            assert not near(here, AT[1:2], 1).any()  # in a bad area
            assert item["micrograph"] > 0 or not near(here, AT[:3], 1).any()
            assert item["why"]


def _seen(random: np.random.Generator, model: int = 1, count: int = 300) -> MicrographPredictions:
    score = random.normal(1, 4, count)
    found = Candidates(
        model, random.uniform(0, 4000, (count, 2)), score, random.random(count) < 0.1,
        np.zeros((count, 1), np.float16), {},
    )  # fmt: skip
    return MicrographPredictions.from_candidates(found, random.uniform(0, 4000, (20, 2)), 100.0)


def test_estimates_are_those_of_picking_with_their_ranges() -> None:
    random = np.random.default_rng(3)
    found = Predictions()
    for number in range(5):
        found.put(number, _seen(random))
    found.put(5, _seen(random, model=0))
    found.set_calibration(1, ModelCalibration.from_message({"calibration": CALIBRATION}))
    said = found.histogram(1)
    scores = np.concatenate([found.get(number).ascending_scores for number in range(5)])  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.histogram(scores, said["edges"])[0], said["counts"])
    calibration = Calibration.from_dict(CALIBRATION)
    estimates = said["estimates"]
    for place in (0, 10, 25):
        threshold = estimates["threshold"][place]
        expected = predict_performance(calibration, ScoreCounts.from_scores(scores), threshold)
        for name in ("precision", "recall"):
            own = getattr(expected, name)
            assert estimates[name][place] == pytest.approx(own.value, abs=0.005)
            assert estimates[f"{name}_low"][place] == pytest.approx(own.low, abs=0.005)
            assert estimates[f"{name}_high"][place] == pytest.approx(own.high, abs=0.005)
            assert own.low < own.high


def test_without_a_range_nothing_is_estimated() -> None:
    found = Predictions()
    found.put(0, _seen(np.random.default_rng(3)))
    alone = CALIBRATION | {"repeats": [], "repeat_score": [], "repeat_particles": []}
    found.set_calibration(1, ModelCalibration.from_message({"calibration": alone}))
    estimates = found.histogram(1)["estimates"]
    assert {*estimates["precision"], *estimates["recall"]} == {None}


def test_the_particles_of_some_micrographs_stand_for_all() -> None:
    random = np.random.default_rng(3)
    found = Predictions()
    for number in range(4):
        found.put(number, _seen(random))
    values = CALIBRATION | {"labels": [], "particles": 100.0, "repeat_particles": [90.0, 110.0]}
    message = {"calibration": values, "micrographs": 2}
    calibration = ModelCalibration.from_message(message).for_micrographs(4)
    assert calibration is not None
    assert calibration.curve.particles == 200.0
    assert [repeat.particles for repeat in calibration.repeats] == [180.0, 220.0]


@pytest.mark.parametrize("particles", [[1.0], [1.0, float("nan")]])
def test_an_incomplete_calibration_is_refused(particles: list[float]) -> None:
    values = CALIBRATION | {"repeat_particles": particles}
    with pytest.raises(ValueError, match="incomplete"):
        ModelCalibration.from_message({"calibration": values})


def test_thousands_of_micrographs_are_counted_quickly() -> None:
    random = np.random.default_rng(3)
    found = Predictions()
    own = _seen(random, count=500)
    for number in range(5000):
        found.put(number, own)
    with at_most_reference_work(20):
        total = sum(found.get(number).picks(1.5) for number in range(5000))  # type: ignore[union-attr]
    assert total == 5000 * int((own.ascending_scores >= 1.5).sum())
    with at_most_reference_work(20):
        found.histogram(1)


def test_one_can_go_back_to_any_model(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _label(visit)
        _label(visit, 2, 1, "negative")
        for number in (1, 2):
            _trained(visit)
            visit.scored(number)
        models = visit.get("/api/models")["models"]
        assert [model["number"] for model in models] == [0, 1, 2]
        first = models[1]
        assert (first["labels"], first["negatives"], first["from"]) == (2, 1, 0)
        assert (first["diameter"], first["validation"]) == (DIAMETER, 0.9)
        assert datetime.fromisoformat(first["date"]).tzinfo is not None
        visit.post("/api/model", number=1)
        visit.scored(1)
        assert visit.get("/api/histogram")["automatic"] == 3.5
        assert visit.post("/api/model", 404, number=7)["error"] == "there is no such model"
        # The next training starts from it, and overwrites nothing.
        assert _trained(visit)["number"] == 3
        visit.scored(3)
        assert visit.get("/api/models")["models"][3]["from"] == 1
        # A model of another diameter brings its diameter back.
        visit.post("/api/settings", diameter=150)
        visit.scored(0)
        visit.post("/api/model", number=2)
        visit.scored(2)
        assert visit.get("/api/project")["settings"]["diameter"] == DIAMETER
        visit.post("/api/model", number=0)
        visit.scored(0)


def test_scores_are_kept_when_micrographs_are_added_but_not_for_another_pixel_size(
    tmp_path: Path,
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
    kept = {n: (tmp_path / f"project/scores/{n}.npz").read_bytes() for n in range(3)}
    new = tmp_path / "mics/a first one.mrc"
    new.write_bytes((tmp_path / "mics/mic 0.mrc").read_bytes())
    with open_app(tmp_path, with_engine=True, hold=[0]) as visit:
        visit.until(lambda _: visit.get("/api/micrographs")["scored"][1:] == [0, 0, 0])
        assert visit.get("/api/micrographs")["scored"][0] is None
        for n in range(3):
            assert (tmp_path / f"project/scores/{n + 1}.npz").read_bytes() == kept[n]
        visit.override()
        visit.scored()
    with open_app(tmp_path, pixel_size=2.0):
        assert not [*(tmp_path / "project/scores").iterdir()]


def test_the_automatic_threshold_is_shown_as_such_once_it_is_settled(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, unsettled=True) as visit:
        visit.scored()
        assert visit.get("/api/histogram")["settled"] is False
    with open_app(tmp_path, with_engine=True) as visit:
        visit.until(lambda _: visit.get("/api/histogram")["settled"])


def test_what_is_excluded_counts_nowhere(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        for number in (0, 1):
            _label(visit, number)
        visit.post("/api/micrographs/1/excluded", excluded=True)
        rows = visit.get("/api/micrographs")
        assert rows["excluded"] == [False, True, False]
        assert visit.get("/api/histogram")["micrographs"] == 2
        items = visit.get("/api/gallery", count=500)["items"]
        assert {item["micrograph"] for item in items} == {0, 2}
        asked = visit.get("/api/questions", count=50)["items"]
        assert {item["micrograph"] for item in asked} == {0, 2}
        _trained(visit)
        told = json.loads((tmp_path / "project/models/0001.safetensors").read_text())
        assert [*told["labels"]] == ["0"]
        visit.until(lambda news: visit.get("/api/micrographs")["scored"] == [1, 0, 1])
    with open_app(tmp_path, with_engine=True) as visit:  # it is kept, and can be taken back
        assert visit.get("/api/micrographs")["excluded"] == [False, True, False]
        visit.post("/api/micrographs/1/excluded", excluded=False)
        visit.scored(1)
        assert visit.get("/api/histogram")["micrographs"] == 3


def test_contamination_is_outlined_and_can_be_ignored(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        before = visit.get("/api/micrographs/0/picks")
        outline = before["contamination"]
        assert (outline["rows"], outline["columns"], outline["step"]) == (6, 8, 400 / PIXEL_SIZE)
        bits = np.unpackbits(np.frombuffer(base64.b64decode(outline["bits"]), np.uint8), count=48)
        assert np.flatnonzero(bits).tolist() == [9]
        visit.post("/api/micrographs/0/contamination", ignore=True)
        rows = visit.get("/api/micrographs")
        assert rows["ignored"] == [True, False, False]
        assert rows["picks"] == [4, 3, 3]
        after = visit.get("/api/micrographs/0/picks")
        np.testing.assert_allclose(after["score"], CLEAN_SCORES)
        assert not any(after["bad"])
        visit.post("/api/micrographs/0/contamination", ignore=False)
        assert visit.get("/api/micrographs/0/picks") == before


def test_a_model_whose_record_cannot_be_written_is_not_used_and_the_next_one_is(
    tmp_path: Path,
) -> None:
    with open_app(tmp_path, with_engine=True, hold_training=True) as visit:
        visit.scored()
        _label(visit)
        visit.post("/api/train", 202)
        visit.until(lambda news: news["training"]["update"] > 0)
        record = tmp_path / "project/models/0001.json"
        record.mkdir()
        visit.override()
        _label(visit, 1)  # the engine looks at what it is to do when something arrives
        visit.post("/api/focus", id=1)
        visit.state.engine.update_queue()
        news = visit.until(lambda news: news["training"]["state"] != "running")
        assert news["training"]["state"] == "refused"
        assert f"{record} cannot be written" in news["training"]["says"]
        assert news["engine"]["model"] == 0
        visit.scored(0)
        record.rmdir()
        training = _trained(visit)
        assert (training["state"], training["number"]) == ("done", 2)
        visit.scored(2)


def test_a_threshold_that_cannot_be_written_is_used_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_app(tmp_path) as visit:
        (tmp_path / "project/models/0000.json").mkdir()
        visit.state.engine.start()
        visit.scored()
        assert visit.get("/api/micrographs")["picks"] == [int((SCORES >= 2.5).sum())] * 3
    assert "0000.json cannot be written" in caplog.text


def test_the_engine_runs_without_room_for_its_log(tmp_path: Path) -> None:
    ended: queue.Queue[int] = queue.Queue()
    with full_disk(0):
        EngineClient(lambda event: None, ended.put, tmp_path / "log", [sys.executable, "-c", ""])
    assert ended.get(timeout=60) == 0
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="folder cannot be written"):
        EngineClient(lambda event: None, ended.put, tmp_path / "folder", ["true"])


#: Numbers as they may stand in a damaged JSON file.
_HUGE = "1" + 400 * "0"


@pytest.mark.parametrize(
    "record",
    [
        '{"diameter": "x"}', '{"diameter": NaN}', '{"diameter": -5}', f'{{"diameter": {_HUGE}}}',
        '{"validation": NaN}', '{"labels": Infinity}', '{"date": "\\ud800"}', '{"date": ["x"]}',
        f'{{"threshold": {_HUGE}}}', '{"micrographs": Infinity}', "[[1, 2]]", "5", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_model_with_a_damaged_record_can_be_used(tmp_path: Path, record: str) -> None:
    with open_app(tmp_path) as visit:
        models = tmp_path / "project/models"
        (models / "0001.safetensors").write_text("a model")
        (models / "0001.json").write_text(record)
        visit.state.engine.start()
        visit.scored()
        assert [own["number"] for own in visit.get("/api/models")["models"]] == [0, 1]
        visit.post("/api/model", number=1)
        visit.scored(1)
    with open_app(tmp_path, with_engine=True) as visit:
        assert visit.get("/api/project")["engine"]["model"] == 1
        visit.scored(1)
