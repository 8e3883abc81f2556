"""Where there is no room for a result, a command says so, and leaves no part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heliodor.models.model_file import save_model
from helpers import topaz_cli
from helpers.cli import Result, call, done
from helpers.full_disk import full_disk
from helpers.networks import discs, model, scattered, write_mrc

#: Less than any of the results below.
ROOM = 400


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "m.safetensors", model(normalization={"mode": "standard"}))
    xy = scattered((96, 96), 30, 9, 0)
    write_mrc(tmp_path / "mics/a.mrc", discs((96, 96), xy))
    rows = "".join(f"a\t{x:g}\t{y:g}\n" for x, y in np.round(xy))
    (tmp_path / "labels.txt").write_text(f"image_name\tx_coord\ty_coord\n{rows}")
    return tmp_path


TRAINING = "--effort quick --epochs 1 --epoch-updates 1 --diameter 24 --from scratch"


@pytest.mark.parametrize(
    "line",
    [
        "heliodor train --micrographs mics --labels labels.txt -o out " + TRAINING,
        "heliodor pick --model m.safetensors --micrographs mics -o out",
        "heliodor convert labels.txt -o out/a.star",
        "heliodor convert labels.txt -o out/a.csv",
        "heliodor convert labels.txt --micrographs mics -o out/a.cs",
        "heliodor simulate out --count 1 --size-px 128 --pixel-size 4",
        "heliodor-topaz convert labels.txt -o out/a.star",
        "heliodor-topaz extract -m m.safetensors -r 3 -t -6 mics/a.mrc -o out/a.txt",
        "heliodor-topaz preprocess mics/a.mrc -s 1 --format mrc -o out",
        "heliodor-topaz preprocess mics/a.mrc -s 1 --format tiff -o out",
        "heliodor-topaz preprocess mics/a.mrc -s 1 --format png -o out",
        "heliodor-topaz train --train-images mics --train-targets labels.txt -n 30 -o out/t.txt"
        " --num-epochs 1 --epoch-size 1 --radius 3 --save-prefix out/m",
    ],
)
def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(
    project: Path, line: str
) -> None:
    out = project / "out"
    out.mkdir()

    def run() -> Result:
        program, *words = line.split()
        return call(*words) if program == "heliodor" else topaz_cli.run(line)

    with full_disk(ROOM):
        ended = run()
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    last = ended.err.splitlines()[-1]
    assert "cannot be written" in last
    assert "File too large" in last or "disk may be full" in last
    left = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not [path for path in left if ".part" in path.name]
    # With room the same command makes the results, and what was there is as complete.
    ended = run()
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_with_room_again_a_training_gives_the_same_as_without(project: Path) -> None:
    job = ["train", "--micrographs", "mics", "--labels", "labels.txt", *TRAINING.split(), "-o"]
    done(*job, "usual")
    with full_disk(ROOM):
        call(*job, "out")
    done(*job, "out")
    usual, again = (Path(name, "model.safetensors").read_bytes() for name in ("usual", "out"))
    assert again == usual
