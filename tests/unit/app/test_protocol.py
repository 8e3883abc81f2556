"""The protocol and the requests: what may come, in which order it is done, and what is said."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.engine.request_queue import RequestQueue
from heliodor.app.protocol import (
    CancelRequest,
    EventWriter,
    FocusRequest,
    OpenRequest,
    ProjectMicrograph,
    ScoredEvent,
    ScoreRequest,
    TrainedEvent,
    TrainRequest,
    read_request,
)
from heliodor.errors import BadInput

OPEN = {
    "do": "open", "project": "P", "micrographs": [{"path": "a.mrc", "name": "A"}],
    "pixel_size": None, "diameter": 150, "model": None, "number": 0, "threads": 2,
}  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda own: st.lists(own, max_size=3) | st.dictionaries(st.text(max_size=5), own, max_size=3),
)


def read(**value: Any) -> Any:
    return read_request(json.dumps(value))


def test_requests_are_read() -> None:
    expected = OpenRequest(
        project=Path("P"), micrographs=(ProjectMicrograph(name="A", path=Path("a.mrc")),),
        diameter_angstrom=150.0, threads=2,
    )  # fmt: skip
    assert read(**OPEN) == expected
    assert read(do="score", ids=[3, 1]) == ScoreRequest(ids=(3, 1))
    assert read(do="focus", id=7) == FocusRequest(id=7)
    assert read(do="cancel") == CancelRequest()
    train = read(do="train", number=2, labels={"10": [[5, 6], [1, 2]], "9": []}, out="o", seed=1)
    assert isinstance(train, TrainRequest)
    assert list(train.labels) == [9, 10]
    np.testing.assert_array_equal(train.labels[10], [[1, 2], [5, 6]])
    assert train.labels[9].shape == (0, 2)
    assert train.negatives == {}


@given(st.sampled_from(["open", "score", "focus", "train", "cancel", "else"]), anything)
def test_what_is_no_request_is_a_sentence(do: str, value: Any) -> None:
    names = ["ids", "id", "labels", "micrographs", "project", "diameter", "number", "out"]
    if do == "else":
        with pytest.raises(BadInput, match="invalid request"):
            read(do=do, **dict.fromkeys(names, value))
        return
    with contextlib.suppress(BadInput):  # and nothing else
        read(do=do, **dict.fromkeys(names, value))


@given(st.text())
def test_any_line_is_read_or_refused(line: str) -> None:
    with pytest.raises(BadInput):
        read_request(line)


@pytest.mark.parametrize("x", [float("nan"), float("inf"), "1"])
def test_labels_are_numbers(x: Any) -> None:
    line = json.dumps({"do": "train", "number": 1, "out": "o", "labels": {"0": [[x, 2]]}})
    if x == "1":
        assert read_request(line)
    else:
        with pytest.raises(BadInput):
            read_request(line)


def test_what_is_said_is_json_whatever_it_is() -> None:
    stream = io.StringIO()
    events = EventWriter(stream)
    events.send(
        TrainedEvent(
            number=1, file=Path("a"), threshold=float("nan"), curve=[(1, float("inf"), None)]
        )
    )
    threads = [
        threading.Thread(
            target=lambda: [events.send(ScoredEvent(id=i, number=0)) for i in range(50)]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *rest = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first == {
        "event": "trained", "number": 1, "file": "a", "seconds": None, "threshold": None,
        "validation": None, "curve": [[1, None, None]], "calibration": None,
    }  # fmt: skip
    assert len(rest) == 200


def test_nobody_listening_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    EventWriter(stream).send(ScoredEvent(id=1, number=0))


def drained(requests: RequestQueue) -> list[int]:
    found = []
    while (taken := requests.take_id()) is not None:
        found.append(taken)
    return found


@given(st.lists(st.integers(0, 9)), st.integers(0, 12))
def test_focus_comes_first_and_nothing_twice(ids: list[int], focus: int) -> None:
    requests = RequestQueue()
    requests.add(ScoreRequest(ids=(99,)))
    requests.add(ScoreRequest(ids=tuple(ids)))
    requests.add(FocusRequest(id=focus))
    once = list(dict.fromkeys(ids))
    assert drained(requests) == [focus, *(i for i in once if i != focus)]
    # A new queue has it first again, if it is there.
    requests.add(ScoreRequest(ids=tuple(ids)))
    first = [focus] if focus in once else []
    assert drained(requests) == [*first, *(i for i in once if i != focus)]


def test_one_training_at_a_time() -> None:
    requests = RequestQueue()
    train = TrainRequest(number=1, labels={}, out=Path("o"))
    requests.add(FocusRequest(id=4))
    assert drained(requests) == [4]
    requests.add(CancelRequest())
    assert not requests.cancelled
    assert requests.add(train)
    assert requests.urgent
    assert not requests.add(train)
    assert requests.take_train() == train
    assert requests.take_train() is None
    assert not requests.add(train)
    requests.add(CancelRequest())
    assert requests.cancelled
    requests.finish_training()
    assert not requests.cancelled
    assert drained(requests) == [4]
    assert requests.add(train)


def test_another_project_drops_what_waited() -> None:
    requests = RequestQueue()
    project = read(**OPEN)
    requests.add(ScoreRequest(ids=(1, 2)))
    requests.add(TrainRequest(number=1, labels={}, out=Path("o")))
    requests.add(project)
    assert requests.take_open() == project
    assert requests.take_open() is None
    # The training is still to be told of: as canceled.
    assert requests.take_train() is not None
    assert requests.cancelled
    requests.finish_training()
    assert drained(requests) == []


def test_the_end_ends_a_wait() -> None:
    requests = RequestQueue()
    threading.Timer(0.05, requests.close).start()
    requests.wait(60)
    assert requests.closed
    assert requests.cancelled
