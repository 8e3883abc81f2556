"""Training again when labels change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heliodor.workflows import train_watch
from helpers.cli import call, done
from helpers.networks import discs, scattered, write_mrc

SHAPE = (72, 64)
#: A training that learns nothing, for what must hold of any.
TRAIN = (
    *("train", "mics", "--labels", "labels.csv", "--diameter", 60, "--threads", 1),
    *("--working-pixel-size", 7.5, "--network", "conv31", "--width", 2, "--epochs", 1),
    *("--epoch-updates", 3, "--expected-particles", 6),
)


@pytest.fixture
def write_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Change to a folder with micrographs; return what writes labels on the first of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_watch, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(train_watch, "SETTLED_SECONDS", 0.3)
    for seed in range(3):
        image = discs(SHAPE, scattered(SHAPE, 6, 12, seed), seed=seed)
        write_mrc(tmp_path / f"mics/m{seed}.mrc", image, 6.0)

    def write(count: int) -> None:
        rows = [f"m{s},{x},{y}" for s in range(count) for x, y in scattered(SHAPE, 6, 12, s)]
        Path("labels.csv").write_text("\n".join(["micrograph,x,y", *rows]) + "\n")

    return write


def trained(out: str) -> bytes:
    return Path(out, "model.safetensors").read_bytes()


@pytest.mark.slow
def test_each_model_is_that_of_a_training_with_the_labels_of_the_time(
    write_labels: Callable[[int], None],
) -> None:
    write_labels(2)
    done(*TRAIN, "-o", "two")
    write_labels(3)
    done(*TRAIN, "-o", "three")
    write_labels(2)
    models = list[bytes]()

    def change() -> None:
        path = Path("out/model.safetensors")
        while not path.exists():
            time.sleep(0.02)
        models.append(trained("out"))
        Path("labels.csv").write_text("not yet")  # is reported, and does not end it
        time.sleep(1.5)
        write_labels(3)

    thread = threading.Thread(target=change)
    thread.start()
    said = done(*TRAIN, "-o", "out", "--watch", "--until", 0.15).err
    thread.join()
    assert models == [trained("two")]
    assert trained("out") == trained("three")
    assert "not trained: labels.csv" in said
    assert said.count("the labels have changed; training again") == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--until 3", "an option of --watch"),
        ("--watch --until 0", "must be more than 0"),
        ("--watch --cluster slurm", "leave out --watch or --cluster"),
        ("--watch --labels nowhere.csv", "nowhere.csv"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    write_labels: Callable[[int], None], options: str, sentence: str
) -> None:
    write_labels(1)
    refused = call(*TRAIN, "-o", "out", *options.split())
    assert refused.code == 2
    assert sentence in refused.sentence
