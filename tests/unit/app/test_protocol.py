"""The protocol and the wishes: what may come, in which order it is done, and what is said."""

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

from heliodor.app.engine.request_queue import Wishes
from heliodor.app.protocol import (
    Cancel,
    Events,
    Focus,
    Micrograph,
    Open,
    Score,
    Train,
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
    expected = Open(Path("P"), (Micrograph("A", Path("a.mrc")),), None, 150.0, None, 0, 2)
    assert read(**OPEN) == expected
    assert read(do="score", ids=[3, 1]) == Score((3, 1))
    assert read(do="focus", id=7) == Focus(7)
    assert read(do="cancel") == Cancel()
    train = read(do="train", number=2, labels={"10": [[5, 6], [1, 2]], "9": []}, out="o", seed=1)
    assert isinstance(train, Train)
    assert list(train.labels) == [9, 10]
    np.testing.assert_array_equal(train.labels[10], [[1, 2], [5, 6]])
    assert train.labels[9].shape == (0, 2)
    assert train.negatives == {}


@given(st.sampled_from(["open", "score", "focus", "train", "cancel", "else"]), anything)
def test_what_is_no_request_is_a_sentence(do: str, value: Any) -> None:
    names = ["ids", "id", "labels", "micrographs", "project", "diameter", "number", "out"]
    if do == "else":
        with pytest.raises(BadInput, match="no request"):
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
    events = Events(stream)
    events.say("progress", loss=float("nan"), curve=[(1, float("inf"))], file=Path("a"))
    threads = [
        threading.Thread(target=lambda: [events.say("scored", id=i) for i in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *rest = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first == {"event": "progress", "loss": None, "curve": [[1, None]], "file": "a"}
    assert len(rest) == 200


def test_nobody_listening_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    Events(stream).say("scored", id=1)


def drained(wishes: Wishes) -> list[int]:
    found = []
    while (taken := wishes.take_id()) is not None:
        found.append(taken)
    return found


@given(st.lists(st.integers(0, 9)), st.integers(0, 12))
def test_focus_comes_first_and_nothing_twice(ids: list[int], focus: int) -> None:
    wishes = Wishes()
    wishes.add(Score((99,)))
    wishes.add(Score(tuple(ids)))
    wishes.add(Focus(focus))
    once = list(dict.fromkeys(ids))
    assert drained(wishes) == [focus, *(i for i in once if i != focus)]
    # A new queue has it first again, if it is there.
    wishes.add(Score(tuple(ids)))
    first = [focus] if focus in once else []
    assert drained(wishes) == [*first, *(i for i in once if i != focus)]


def test_one_training_at_a_time() -> None:
    wishes = Wishes()
    train = Train(1, {}, {}, Path("o"), 0)
    wishes.add(Focus(4))
    assert drained(wishes) == [4]
    wishes.add(Cancel())
    assert not wishes.cancelled
    assert wishes.add(train)
    assert wishes.urgent
    assert not wishes.add(train)
    assert wishes.take_train() == train
    assert wishes.take_train() is None
    assert not wishes.add(train)
    wishes.add(Cancel())
    assert wishes.cancelled
    wishes.trained()
    assert not wishes.cancelled
    assert drained(wishes) == [4]
    assert wishes.add(train)


def test_another_project_drops_what_waited() -> None:
    wishes = Wishes()
    project = read(**OPEN)
    wishes.add(Score((1, 2)))
    wishes.add(Train(1, {}, {}, Path("o"), 0))
    wishes.add(project)
    assert wishes.take_open() == project
    assert wishes.take_open() is None
    # The training is still to be told of: as cancelled.
    assert wishes.take_train() is not None
    assert wishes.cancelled
    wishes.trained()
    assert drained(wishes) == []


def test_the_end_ends_a_wait() -> None:
    wishes = Wishes()
    threading.Timer(0.05, wishes.close).start()
    wishes.wait(60)
    assert wishes.closed
    assert wishes.cancelled
