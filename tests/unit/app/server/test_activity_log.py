from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from heliodor.app.server import activity_log
from heliodor.app.server.activity_log import ActivityLog
from helpers.app import open_app


def test_lines_have_a_time_and_warnings_are_among_them(tmp_path: Path) -> None:
    log = ActivityLog(tmp_path)
    try:
        log.write("training of model 1 started\x1b[31m")
        logging.getLogger("heliodor.somewhere").warning("the disk is nearly full")
        logging.getLogger("heliodor.somewhere").info("open http://127.0.0.1/#token=secret")
    finally:
        log.close()
    logging.getLogger("heliodor.somewhere").warning("too late")
    first, second = log.read_end()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}  training of .*", first)
    assert "\x1b" not in first
    assert second.endswith("  warning: the disk is nearly full")


def test_a_long_log_is_begun_again_and_its_end_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_log, "MAX_BYTES", 1000)
    monkeypatch.setattr(activity_log, "_SHOWN_BYTES", 500)
    for _ in range(2):
        log = ActivityLog(tmp_path)
        try:
            for number in range(100):
                log.write(f"line {number}")
        finally:
            log.close()
    assert (tmp_path / "app.old.log").is_file()
    shown = log.read_end()
    assert shown[-1].endswith("line 99")
    assert 5 < len(shown) < 20
    assert all(re.fullmatch(r"\d{4}-.*  line \d+", line) for line in shown)


def test_what_is_done_is_in_the_log(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as app:
        app.scored()
        app.post(
            "/api/micrographs/0/labels", add=[{"id": "a", "x": 9, "y": 9, "kind": "particle"}]
        )
        app.post("/api/train", status=202)
        app.scored(model=1)
        app.post("/api/excluded", ids=[0, 1], excluded=True)
        app.post("/api/excluded", ids=[0], excluded=False)
        app.post("/api/export", what="picks", format="csv")
        app.post("/api/model", number=0)
        lines = [line[27:] for line in app.get("/api/log")["lines"]]
    wanted = [
        "computing on cpu", "all 3 micrographs are scored with the general model",
        "training of model 1 started: 1 label on 1 micrograph", "model 1 trained in 0.5 s",
        "all 3 micrographs are scored with model 1", "2 micrographs excluded",
        "1 micrograph included", "picks exported", "the general model is in use",
    ]  # fmt: skip
    places = [next(i for i, line in enumerate(lines) if line.startswith(w)) for w in wanted]
    assert places == sorted(places), lines
