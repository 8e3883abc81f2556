"""A training that was cut short goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from heliodor.training import checkpoint as room
from heliodor.training.checkpoint import (
    FORMAT,
    Checkpoint,
    TrainingState,
)
from heliodor.training.history import Epoch
from heliodor.training.loop import TrainedNetwork, train_network
from heliodor.training.settings import TrainingSettings
from heliodor.training.trainer import Trainer, fingerprint_training
from heliodor.utils.signals import Stopped, handle_signals
from helpers.networks import labelled_discs

RADIUS, PRIOR = 2.0, 0.05
IMAGES = [labelled_discs((64, 72), 8, seed, 5) for seed in (1, 2)]
VALIDATION = [labelled_discs((64, 64), 8, 3)]
SMALL = TrainingSettings(
    network="conv31", width=2, epoch_updates=4, epochs=3, batch=8, positives=3
)
#: Recipes that differ in what has a state: decoder, dropout, schedule, moments, normalization.
RECIPES = {
    "pn-balanced": SMALL,
    "ge-binomial": replace(
        SMALL, objective="ge-binomial", autoencoder="auto", dropout=0.3, schedule="constant",
        side=1, near=0.0,
    ),
    "resnet8": replace(SMALL, network="resnet8", batch=6, dropout=0.2, l2=1e-3, norm=False),
}  # fmt: skip


class Killed(BaseException):
    """Ends a training as kill -9 does: nothing more is written."""


class Fragile(Checkpoint):
    """A checkpoint that is saved after some updates, and whose process is killed after one."""

    def __init__(self, path: Path, saved: set[int] = frozenset(), last: int = -1) -> None:  # type: ignore[assignment]
        super().__init__(path)
        self._saves, self._last, self._number = saved, last, 0

    def due(self) -> bool:
        self._number += 1
        if self._number == self._last:
            raise Killed
        return self._number in self._saves


def trained(
    recipe: TrainingSettings, checkpoint: Checkpoint | None, validating: bool
) -> TrainedNetwork:
    validation = VALIDATION if validating else []
    return train_network(IMAGES, validation, RADIUS, PRIOR, recipe, checkpoint=checkpoint)


def plain(trained: TrainedNetwork) -> tuple[object, ...]:
    """All of a result but the seconds."""
    history = [replace(epoch, seconds=0.0).as_dict() for epoch in trained.history]
    weights = {k: v.numpy().tobytes() for k, v in trained.network.state_dict().items()}
    return history, trained.best_epoch, weights


@functools.cache
def whole(name: str, validating: bool) -> tuple[object, ...]:
    """What comes of a training that nothing cuts short."""
    return plain(trained(RECIPES[name], None, validating))


@pytest.mark.slow
@settings(max_examples=10)
@given(
    st.sampled_from(sorted(RECIPES)),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 12), st.sets(st.integers(1, 12), max_size=3)), max_size=3),
)
def test_killed_anywhere_and_begun_again_it_is_the_same(
    name: str, validating: bool, lives: list[tuple[int, set[int]]]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / room.NAME
        for last, saved in lives:
            try:
                trained(RECIPES[name], Fragile(path, saved, last), validating)
            except Killed:
                continue
        assert plain(trained(RECIPES[name], Checkpoint(path), validating)) == whole(
            name, validating
        )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_each_update_can_be_the_last(name: str, tmp_path: Path) -> None:
    course = Trainer(IMAGES, RADIUS, PRIOR, RECIPES[name], "cpu")
    states = []
    for _ in range(4):
        course.update()
        states.append(course.state())
    for number, state in enumerate(states, 1):
        again = Trainer(IMAGES, RADIUS, PRIOR, RECIPES[name], "cpu")
        again.restore(state)
        for _ in range(4 - number):
            again.update()
        assert_same(again.state(), states[-1])


def assert_same(one: TrainingState, other: TrainingState) -> None:
    assert {**one.values, "seconds": 0} == {**other.values, "seconds": 0}
    assert one.tensors.keys() == other.tensors.keys()
    for key, tensor in one.tensors.items():
        assert tensor.numpy().tobytes() == other.tensors[key].numpy().tobytes(), key
        assert tensor.stride() == other.tensors[key].stride()


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / room.NAME
    first = trained(SMALL, Checkpoint(path), True)
    again = trained(SMALL, Fragile(path, last=1), True)
    assert plain(again) == plain(first)
    assert again.history == first.history


def test_told_to_stop_it_keeps_what_it_has_done(tmp_path: Path) -> None:
    path, told = tmp_path / room.NAME, []

    class Told(Checkpoint):
        def due(self) -> bool:
            told.append(1)
            if len(told) == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return False

    def work() -> None:
        with handle_signals():
            trained(SMALL, Told(path), False)

    with pytest.raises(Stopped) as stopped:
        work()
    assert stopped.value.code == 128 + signal.SIGTERM
    # The signal came after the sixth update and is heeded after the seventh.
    assert kept(path)["values"]["updates"] == 7
    assert plain(trained(SMALL, Checkpoint(path), False)) == whole("pn-balanced", False)


def test_asked_to_save_it_saves_and_goes_on(tmp_path: Path) -> None:
    path, saved = tmp_path / room.NAME, []

    class Watched(Checkpoint):
        def due(self) -> bool:
            if not saved:
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().due()

        def save(self, state: TrainingState) -> None:
            super().save(state)
            saved.append(state.values["updates"])

    with handle_signals():
        assert plain(trained(SMALL, Watched(path), False)) == whole("pn-balanced", False)
    assert saved == [1, 4, 8, 12]


def test_within_an_epoch_it_saves_now_and_then(tmp_path: Path) -> None:
    saved = []

    class Watched(Checkpoint):
        def save(self, state: TrainingState) -> None:
            saved.append(state.values["updates"])

    train_network(
        IMAGES, [], RADIUS, PRIOR, replace(SMALL, epochs=1),
        checkpoint=Watched(tmp_path / "x", every_seconds=0.0),
    )  # fmt: skip
    assert saved == [1, 2, 3, 4, 4]


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    there = Checkpoint(tmp_path / "file" / room.NAME)
    assert plain(trained(SMALL, there, False)) == whole("pn-balanced", False)
    assert capsys.readouterr().err.count("training continues") == 1


def kept(path: Path) -> Any:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[FORMAT])


def half_trained(path: Path) -> TrainingState:
    """Keep a training of six updates; return its state."""
    with pytest.raises(Killed):
        trained(SMALL, Fragile(path, {6}, 7), True)
    values = kept(path)["values"]
    with safe_open(path, framework="pt") as file:
        return TrainingState(values, {name: file.get_tensor(name) for name in file.keys()})


def test_the_file_is_readable_json_and_tensors(tmp_path: Path) -> None:
    state = half_trained(tmp_path / room.NAME)
    assert state.values["updates"] == 6
    assert len(state.values["history"]) == 1
    assert Epoch.from_dict(state.values["history"][0]).update == 4
    assert {"random.sampler", "random.near", "random.dropout", "costs"} <= state.tensors.keys()
    assert state.tensors["costs"].shape == (2, 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == [room.NAME]


@pytest.mark.parametrize(
    "change",
    [
        {"images": IMAGES[:1]},
        {"images": IMAGES[::-1]},
        {"images": [replace(IMAGES[0], xy_px=IMAGES[0].xy_px + 0.25), IMAGES[1]]},
        {"images": [replace(IMAGES[0], image=IMAGES[0].image + 1e-3), IMAGES[1]]},
        {"images": [replace(IMAGES[0], negative_xy_px=IMAGES[0].xy_px[:1]), IMAGES[1]]},
        {"images": [replace(IMAGES[0], picked_xy_px=IMAGES[0].xy_px[:1]), IMAGES[1]]},
        {"validation": []},
        {"radius_px": 2.5},
        {"prior": 0.06},
        {"settings": replace(SMALL, seed=1)},
        {"settings": replace(SMALL, weight_decay=0.0)},
        {"device": "cuda"},
    ],
)
def test_all_that_decides_on_the_result_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    own: dict[str, Any] = {
        "images": IMAGES, "validation": VALIDATION, "radius_px": RADIUS, "prior": PRIOR,
        "settings": SMALL, "device": "cpu",
    }  # fmt: skip
    assert fingerprint_training(**own) == fingerprint_training(**own)
    assert fingerprint_training(**own) != fingerprint_training(**(own | change))


def test_the_checkpoint_of_another_training_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / room.NAME
    half_trained(path)
    other = replace(SMALL, seed=5)
    assert plain(trained(other, Checkpoint(path), True)) == plain(trained(other, None, True))
    said = capsys.readouterr().err
    assert said.count("note: ") == 1
    assert "it was made with other data, settings or versions); training starts" in said


def test_on_demand_nothing_is_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / room.NAME
    half_trained(path)
    anew = Checkpoint(path, resume=False)
    assert not path.exists()
    assert plain(trained(SMALL, anew, True)) == whole("pn-balanced", True)
    assert "going on" not in capsys.readouterr().err


def forge(
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None],
) -> Callable[..., None]:
    """Return what changes a checkpoint's content, and makes the digest fit again."""

    def apply(path: Path, state: TrainingState) -> None:
        values = json.loads(json.dumps(state.values))
        tensors = {k: v.clone() for k, v in state.tensors.items()}
        change(values, tensors)
        head = kept(path) | {
            "values": values,
            "digest": room._digest(TrainingState(values, tensors)),
        }
        save_file(tensors, path, {FORMAT: json.dumps(head)})

    return apply


def bytewise(change: Callable[[bytearray], object]) -> Callable[[Path, TrainingState], None]:
    def apply(path: Path, state: TrainingState) -> None:
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return apply


def header(path: Path, metadata: dict[str, str]) -> None:
    save_file({"a": torch.zeros(1)}, path, metadata)


DAMAGES: dict[str, Callable[[Path, TrainingState], object]] = {
    "empty": lambda path, state: path.write_bytes(b""),
    "text": lambda path, state: path.write_text("heliodor " * 100),
    "cut short": bytewise(lambda own: own.__delitem__(slice(len(own) // 2, None))),
    "cut by one": bytewise(lambda own: own.__delitem__(-1)),
    "longer": bytewise(lambda own: own.extend(b"0" * 4)),
    "a bit of a weight": bytewise(lambda own: own.__setitem__(-100, own[-100] ^ 1)),
    "zeros": bytewise(lambda own: own.__setitem__(slice(None), bytes(len(own)))),
    "a long header": bytewise(lambda own: own.__setitem__(slice(8), b"\xff" * 7 + b"\x3f")),
    "huge": lambda path, state: os.truncate(path, 2**40),
    "no metadata": lambda path, state: header(path, {}),
    "no JSON": lambda path, state: header(path, {FORMAT: "{"}),
    "deep JSON": lambda path, state: header(path, {FORMAT: "[" * 100_000}),
    "a list": lambda path, state: header(path, {FORMAT: "[1]"}),
    "a folder": lambda path, state: (path.unlink(), path.mkdir()),
    "no values": forge(lambda values, tensors: values.clear()),
    "no history": forge(lambda values, tensors: values.update(history=[])),
    "history of text": forge(lambda values, tensors: values.update(history="abc")),
    "an epoch of text": forge(lambda values, tensors: values["history"][0].update(loss="x")),
    "an epoch twice": forge(
        lambda values, tensors: values["history"].append(values["history"][0])
    ),
    "many updates": forge(lambda values, tensors: values.update(updates=10**9)),
    "updates of text": forge(lambda values, tensors: values.update(updates="6")),
    "a rate of text": forge(lambda values, tensors: values["groups"][0].update(lr="x")),
    "a rate that is none": forge(lambda values, tensors: values["groups"][0].update(lr=1e999)),
    "betas": forge(lambda values, tensors: values["groups"][0].update(betas=[2.0, 0.9])),
    "no groups": forge(lambda values, tensors: values.update(groups=[])),
    "another best": forge(lambda values, tensors: values.update(best=[0.5, 7])),
    "no best": forge(lambda values, tensors: values.update(best=None)),
    "no tensors": forge(lambda values, tensors: tensors.clear()),
    "one more": forge(lambda values, tensors: tensors.update(more=torch.zeros(3))),
    "nan": forge(lambda values, tensors: tensors["network.classifier.weight"].fill_(float("nan"))),
    "a shape": forge(lambda v, t: t.update({"network.classifier.bias": torch.zeros(2)})),
    "a type": forge(lambda v, t: t.update({"adam.0.step": torch.zeros((), dtype=torch.int64)})),
    "moments": forge(lambda v, t: t["adam.0.exp_avg_sq"].fill_(-1.0)),
    "a random state": forge(lambda v, t: t["random.near"].fill_(255)),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_or_forged_file_is_not_used(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / room.NAME
    DAMAGES[damage](path, half_trained(path))
    assert plain(trained(SMALL, Checkpoint(path), True)) == whole("pn-balanced", True)
    said = capsys.readouterr().err
    assert said.count("note: ") == (1 if damage != "a folder" else 2)
    assert "training starts from the beginning" in said
    assert "resuming after" not in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_gpu_goes_on_from_all_that_it_had(name: str) -> None:
    course = Trainer(IMAGES, RADIUS, PRIOR, RECIPES[name], "cuda")
    for _ in range(3):
        course.update()
    again = Trainer(IMAGES, RADIUS, PRIOR, RECIPES[name], "cuda")
    again.restore(course.state())
    assert_same(again.state(), course.state())
    course.update()
    again.update()
    for key, tensor in course.state().tensors.items():
        torch.testing.assert_close(again.state().tensors[key], tensor)
