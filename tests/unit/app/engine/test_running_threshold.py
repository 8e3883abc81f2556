"""The threshold of the general model, from the start of a project to its next session."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heliodor.app.candidates import Candidates, read_candidates, write_candidates
from heliodor.app.engine import session as session_module
from heliodor.app.engine.main import serve
from heliodor.app.engine.request_queue import RequestQueue
from heliodor.app.engine.running_threshold import RunningThreshold
from heliodor.app.engine.session import Session
from heliodor.app.protocol import (
    EventWriter,
    OpenRequest,
    ProjectMicrograph,
    ScoreRequest,
    write_message,
)
from heliodor.errors import BadInput
from heliodor.evaluation.score_histogram import MicrographScores
from heliodor.models.pretrained import load_general_model, rescale_to_diameter
from heliodor.picking.decoy_sample import choose_decoy_micrographs
from helpers.networks import discs, model, scattered, write_mrc

DIAMETER, PIXEL, SHAPE = 60.0, 4.0, (130, 150)


def _scores(seed: int) -> MicrographScores:
    random = np.random.default_rng(seed)
    candidates = np.concatenate([random.normal(-3, 1.5, 60), random.normal(5, 1, 30)])
    return MicrographScores(candidates, random.normal(-3, 1.5, 60), 1e7)


def _running(count: int) -> RunningThreshold:
    general = rescale_to_diameter(load_general_model(), DIAMETER)
    names = [f"m{n}.mrc" for n in range(count)]
    return RunningThreshold(general, torch.device("cpu"), names)


def test_it_is_settled_by_the_micrographs_that_picking_uses() -> None:
    running = _running(40)
    names = [f"m{n}.mrc" for n in range(40)]
    assert {names[n] for n in running.chosen} == choose_decoy_micrographs(names)
    chosen = sorted(running.chosen)
    other = next(n for n in range(40) if n not in running.chosen)
    assert not running.claim(other)
    assert running.claim(chosen[0])
    assert not running.claim(chosen[0])
    estimates = [running.add(n, _scores(n)) for n in chosen[:-1]]
    given = [estimate for estimate in estimates if estimate is not None]
    assert [estimate.micrographs for estimate in given] == [1, 3, 8]
    assert not any(estimate.settled for estimate in given)
    assert running.missing == chosen[-1:]
    last = running.fail(chosen[-1])
    assert last is not None
    assert (last.settled, last.micrographs) == (True, len(chosen) - 1)
    assert running.fail(chosen[-1]) is None
    assert running.fail(other) is None


def test_the_order_of_the_micrographs_does_not_matter() -> None:
    results = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        running = _running(4)
        for n in order:
            estimate = running.add(n, _scores(n))
        assert estimate is not None
        assert estimate.settled
        assert estimate.calibration is not None
        results.append((estimate.threshold, estimate.calibration.curve.particles))
    assert results[0] == results[1]


def test_a_trained_model_has_its_own_threshold() -> None:
    trained = model(working_pixel_size_angstrom=8.0, diameter_angstrom=DIAMETER)
    running = RunningThreshold(trained, torch.device("cpu"), ["a.mrc"])
    assert not running.chosen
    assert not running.claim(0)


@pytest.fixture
def request_of(tmp_path: Path) -> OpenRequest:
    for name in ("scores", "previews"):
        (tmp_path / name).mkdir()
    listed = []
    for n in range(2):
        path = tmp_path / f"m{n}.mrc"
        write_mrc(path, discs(SHAPE, scattered(SHAPE, 18, 18, n), depth=4, seed=n), PIXEL)
        listed.append(ProjectMicrograph(name=path.name, path=path))
    return OpenRequest(project=tmp_path, micrographs=tuple(listed), diameter=DIAMETER, threads=1)


def _score(request: OpenRequest, ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Open a project, score micrographs, and return the thresholds that the engine sends."""
    said, requests = io.StringIO(), RequestQueue()
    session = Session.open(request, requests, EventWriter(said))
    requests.add(ScoreRequest(ids=ids))
    session.score()
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    return [event for event in events if event["event"] == "level"]


def test_what_is_not_to_be_scored_is_not_waited_for() -> None:
    """An excluded micrograph must not keep the threshold from being settled."""
    requests = RequestQueue()
    chosen = frozenset({1, 5, 7})  # 7 is excluded
    assert requests.take_id(chosen) is None
    requests.add(ScoreRequest(ids=(5, 1, 0, 2, 3)))
    assert not requests.take_end_of(chosen)
    assert [requests.take_id(chosen) for _ in range(3)] == [5, 1, None]
    assert requests.take_end_of(chosen)
    assert not requests.take_end_of(chosen)  # once for each list
    assert [requests.take_id() for _ in range(4)] == [0, 2, 3, None]
    requests.add(ScoreRequest(ids=()))
    assert requests.take_end_of(chosen)


def test_the_next_session_completes_what_the_last_one_began(
    request_of: OpenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _score(request_of, (0,))
    # The other one was not scored, and is not waited for.
    assert [(own["micrographs"], own["settled"]) for own in first] == [(1, False), (1, True)]
    second = _score(request_of, (1,))
    assert second[-1]["micrographs"] == 2
    assert second[-1]["settled"]

    def refuse(*_: Any) -> None:
        raise AssertionError("it was scored before")

    monkeypatch.setattr(session_module, "predict", refuse)
    third = _score(request_of, ())
    assert third == second[-1:]  # nothing provisional in between
    monkeypatch.undo()
    # Decoys that are missing are searched.
    kept = request_of.project / "scores" / "0.npz"
    found = read_candidates(kept)
    assert found.record is not None
    write_candidates(kept, found.at_least(-5.0))
    assert _score(request_of, ())[-1] == second[-1]
    restored = read_candidates(kept).record
    assert restored is not None
    assert restored.decoys is not None


def test_decoys_that_cannot_be_saved_are_used(
    request_of: OpenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, candidates: Candidates) -> None:
        assert candidates.record is not None
        if candidates.record.decoys is not None:
            raise BadInput(f"{path} cannot be written (No space left on device)")
        write_candidates(path, candidates)

    monkeypatch.setattr(session_module, "write_candidates", write)
    full = _score(request_of, (0, 1))[-1]
    assert (full["micrographs"], full["settled"]) == (2, True)
    monkeypatch.undo()
    assert _score(request_of, (0, 1))[-1] == full


def test_without_a_project_a_list_does_not_keep_the_engine_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = []
    wait = RequestQueue.wait

    def count(self: RequestQueue, seconds: float | None = None) -> None:
        waits.append(self)
        wait(self, seconds)

    monkeypatch.setattr(RequestQueue, "wait", count)

    def lines() -> Iterator[str]:
        yield write_message(ScoreRequest(ids=(0, 1, 2)))
        yield write_message(ScoreRequest(ids=()))
        time.sleep(0.5)  # an engine that does not wait would go round thousands of times

    serve(lines(), EventWriter(io.StringIO()))  # type: ignore[arg-type]
    assert len(waits) < 20
