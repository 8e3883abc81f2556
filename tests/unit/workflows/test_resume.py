"""Commands that were cut short go on, and what is finished is not done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from heliodor.picking.settings import PickSettings
from heliodor.training import completion_record
from heliodor.training.checkpoint import NAME as CHECKPOINT
from heliodor.training.checkpoint import Checkpoint
from heliodor.training.completion_record import CompletionRecord
from heliodor.training.history import history_table
from heliodor.training.settings import DataSettings, TrainingSettings
from heliodor.utils import compute
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows import run
from heliodor.workflows import train as training_run
from heliodor.workflows.train import (
    MODEL,
    TrainingResult,
    train,
)
from helpers.cli import call
from helpers.networks import (
    discs,
    scattered,
    write_mrc,
)

HERE = Path(__file__).resolve().parents[3] / "src"
DATA = DataSettings(diameter_angstrom=60.0, working_pixel_size_angstrom=4.0, check_frame=False)
RECIPE = TrainingSettings(
    network="conv31", width=2, epoch_updates=5, epochs=2, batch=12, positives=4
)
CPU = ComputeSettings("cpu", 1)
Change = Callable[[Path], dict[str, Any]]


def lay(folder: Path) -> Path:
    """Write four micrographs, and labels on two of them."""
    rows = ["image_name\tx_coord\ty_coord"]
    for number in range(4):
        xy = scattered((128, 128), 14, 12, number)
        write_mrc(folder / "m" / f"{number}.mrc", discs((128, 128), xy, seed=number), 4.0)
        rows += [f"{number}\t{x:g}\t{y:g}" for x, y in xy[:6] if number % 2]
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with micrographs and labels, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return lay(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder in which a training has ended, to be copied."""
    folder = lay(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained()
    return folder


def trained(**changes: Any) -> TrainingResult:
    values: dict[str, Any] = {
        "micrographs": "m", "labels": "labels.tsv", "out": "out", "data": DATA, "recipe": RECIPE,
        "compute": CPU,
    }  # fmt: skip
    return train(**(values | changes))


def forbid(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count trainings, which are not to be."""
    begun: list[int] = []
    before = training_run.train_network

    def counted(*arguments: Any, **options: Any) -> Any:
        begun.append(1)
        return before(*arguments, **options)

    monkeypatch.setattr(training_run, "train_network", counted)
    return begun


def results(out: Path) -> dict[str, Any]:
    record = json.loads((out / "run.json").read_text())
    names = (MODEL, "training.tsv", completion_record.NAME)
    record["seconds"].pop("picking", None)
    return {name: (out / name).read_bytes() for name in names} | {
        "record": {key: record[key] for key in ("model", "notes", "failed", "seconds", "inputs")}
    }


def test_a_finished_training_is_left_as_it_is(
    ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m/bad.mrc").write_text("no micrograph")
    label("bad")
    label("stranger")
    first = trained()
    assert not Path("out", CHECKPOINT).exists()
    before = results(Path("out"))
    assert before["record"]["notes"]
    assert [row["micrograph"] for row in before["record"]["failed"]] == ["m/bad.mrc"]
    begun = forbid(monkeypatch)
    capsys.readouterr()
    again = trained()
    assert not begun
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "out/model.safetensors is up to date (same data and settings); training skipped"
    )
    assert results(Path("out")) == before
    assert again.model.card == first.model.card
    assert history_table(again.history) == history_table(first.history)
    assert again.images.working_pixel_size_angstrom == first.images.working_pixel_size_angstrom
    assert trained(resume=False).history[0].epoch == 1
    assert begun
    assert results(Path("out"))[MODEL] == before[MODEL]


def stroke(name: str) -> None:
    """Change one pixel of a micrograph."""
    with mrcfile.open(name, "r+") as mrc:
        mrc.data[5, 7] += 1


def label(name: str) -> None:
    with Path("labels.tsv").open("a") as stream:
        stream.write(f"{name}\t64.5\t60\n")


def break_model() -> None:
    """Change the last byte of the model."""
    content = Path("out", MODEL).read_bytes()
    Path("out", MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def negatives() -> dict[str, Any]:
    rows = "image_name\tx_coord\ty_coord\n1\t64\t64\n"
    Path("negatives.tsv").write_text(rows)
    return {"negatives": "negatives.tsv"}


CHANGES: dict[str, Callable[[], Any]] = {
    "a label": lambda: label("1"),
    "a pixel learnt from": lambda: stroke("m/3.mrc"),
    "a pixel calibrated on": lambda: stroke("m/2.mrc"),
    "another micrograph": lambda: write_mrc(Path("m/9.mrc"), discs((128, 128), np.zeros((0, 2)))),
    "one fewer": lambda: Path("m/2.mrc").unlink(),
    "negatives": negatives,
    "the seed": lambda: {"recipe": replace(RECIPE, seed=1)},
    "the number of particles": lambda: {"data": replace(DATA, expected_particles=20.0)},
    "the model": lambda: Path("out", MODEL).write_bytes(
        Path("out", MODEL).read_bytes()[:-1] + b"x"
    ),
    "no model": lambda: Path("out", MODEL).unlink(),
    "no receipt": lambda: Path("out", completion_record.NAME).unlink(),
    "a receipt cut short": lambda: os.truncate(Path("out", completion_record.NAME), 300),
    "a receipt of text": lambda: Path("out", completion_record.NAME).write_text("[" * 100_000),
    "a receipt of something else": lambda: Path("out", completion_record.NAME).write_text(
        "[1, 2]"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_of_another_training_or_model_it_is_trained_again(
    change: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    begun = forbid(monkeypatch)
    trained()
    assert not begun
    found = CHANGES[change]()
    options = found if isinstance(found, dict) else {}
    trained(**options)
    assert begun
    # And then that one is known.
    begun.clear()
    trained(**options)
    assert not begun


def test_what_decides_nothing_changes_nothing(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    begun = forbid(monkeypatch)
    trained(compute=ComputeSettings("cpu", 1, memory_gb=1.0), command_line="heliodor")
    for number in range(4):
        os.utime(f"m/{number}.mrc", (0, 0))
    Path("m").rename("moved")
    trained(micrographs="moved")
    assert begun  # the names are others, and a card tells the names
    Path("moved").rename("m")


def test_a_training_whose_images_lie_in_files_makes_the_same_model(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for normalization in ("micrograph", "joint"):
        data = replace(DATA, normalization=normalization)
        trained(out="whole", data=data)
        with monkeypatch.context() as patch:
            patch.setattr(compute, "WORK_GB", 1.0)  # and nothing is left for images
            limited = ComputeSettings("cpu", 1, memory_gb=1.0)
            assert limited.array_store(ground).budget_bytes == 0
            trained(compute=limited, data=data)
        assert Path("out", MODEL).read_bytes() == Path("whole", MODEL).read_bytes()


def test_a_receipt_of_other_places_is_none(ground: Path) -> None:
    trained()
    path = Path("out", completion_record.NAME)
    value = json.loads(path.read_text())
    for files in ({"99": "x"}, {"-1": "x"}, {"x": "y"}, [], None):
        path.write_text(json.dumps(value | {"files": files}))
        assert CompletionRecord.find(Path("out"), value["asked"], []) is None


# ---- run ----


def ran(**changes: Any) -> run.RunResult:
    values: dict[str, Any] = {
        "micrographs": "m", "labels": "labels.tsv", "out": "out", "data": DATA, "recipe": RECIPE,
        "compute": CPU,
    }  # fmt: skip
    return run.run(**(values | changes))


def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what reports show, but for seconds; none is drawn."""
    seen: list[str] = []

    def kept(path: Path, content: Any) -> None:
        history = [row | {"seconds": 0} for row in content.history]
        with np.printoptions(threshold=10**9, floatmode="unique"):
            seen.append(repr(replace(content, stage_seconds=[], started="", history=history)))

    monkeypatch.setattr("heliodor.report.report.write_report", kept)
    return seen


@pytest.mark.slow
def test_a_run_cut_short_while_picking_does_not_train_again(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = shown(monkeypatch)
    ran(out="whole")
    with monkeypatch.context() as patch:

        def cut(*arguments: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(run, "pick_step", cut)
        with pytest.raises(KeyboardInterrupt):
            ran()
    begun = forbid(monkeypatch)
    ran()
    assert not begun
    for name in (MODEL, "picks.tsv", "micrographs.tsv"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    assert seen[0] == seen[1]
    # A threshold of one's own is no reason to train again; another distance of the picks is.
    ran(settings=PickSettings(threshold=0.5))
    assert not begun
    ran(settings=PickSettings(exclusion_radius_angstrom=20.0))
    assert begun


@pytest.mark.slow
def test_cut_short_while_it_learns_a_run_goes_on(
    ground: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(monkeypatch)
    ran(out="whole")

    class Killed(BaseException):
        pass

    def due(self: Checkpoint, calls: list[int] = []) -> bool:  # noqa: B006
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "due", due)
        with pytest.raises(Killed):
            ran()
    assert Path("out", CHECKPOINT).exists()
    ran()
    assert "resuming after update 7 of 10" in capsys.readouterr().err
    assert not Path("out", CHECKPOINT).exists()
    for name in (MODEL, "picks.tsv"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()


# ---- the command line ----

WORDS = (
    "--micrographs m --labels labels.tsv --diameter 60 --working-pixel-size 4 --network conv31"
    " --width 2 --trust-labels --device cpu --threads 1"
).split()


@pytest.mark.parametrize("command", ["train", pytest.param("run", marks=pytest.mark.slow)])
def test_on_the_command_line(command: str, ground: Path) -> None:
    words = [command, *WORDS, "--epochs", "1", "--epoch-updates", "3", "-o", "out"]
    assert call(*words, "--resume", "often").sentence == (
        "--resume must be auto or never, not 'often'"
    )
    assert (
        "training needs 1 GB of memory or more, not 0.1 (--memory)"
        in call(*words, "--memory", "0.1").sentence
    )
    assert call(*words, "--memory", "nan").code == 2
    assert not Path("out").exists()
    assert "going on" not in call(*words, "--memory", "1").err
    first = Path("out", MODEL).read_bytes()
    assert "training skipped" in call(*words).err
    assert "training skipped" not in call(*words, "--resume", "never").err
    assert Path("out", MODEL).read_bytes() == first


def begun(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", "from heliodor.cli.main import main; main()", "train", *WORDS]
    return subprocess.Popen(
        [*script, "--epochs", "1", "--epoch-updates", "1000", "-o", "out", *words],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def heard(process: subprocess.Popen[str], word: str) -> None:
    """Wait until a process says something."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    pytest.fail(f"it ended without saying {word}")


def comes(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_real_process_told_to_save_killed_and_told_to_stop(ground: Path) -> None:
    recipe = TrainingSettings(network="conv31", width=2, epochs=1, epoch_updates=1000)
    trained(out="whole", data=DATA, recipe=recipe)
    there = Path("out", CHECKPOINT)
    # Asked to save, it saves and goes on; killed then, nothing of it is lost.
    with begun() as process:
        heard(process, "training at")
        time.sleep(1.0)
        assert not there.exists()
        process.send_signal(signal.SIGUSR1)
        comes(there)
        time.sleep(0.3)
        assert process.poll() is None
        process.kill()
    assert process.wait() == -signal.SIGKILL
    # Told to stop, it saves and ends soon, with a shell's code.
    kept = there.read_bytes()
    with begun() as process:
        heard(process, "resuming after update")
        time.sleep(0.3)
        process.terminate()
        code = process.wait(60)
        assert process.stderr is not None
        assert "stopped by SIGTERM; what was done is kept" in process.stderr.read()
    assert code == 128 + signal.SIGTERM
    assert there.read_bytes() != kept
    assert not Path("out", MODEL).exists()
    with begun() as process:
        heard(process, "resuming after update")
        heard(process, "wrote")
    assert process.wait() == 0
    assert not there.exists()
    assert Path("out", MODEL).read_bytes() == Path("whole", MODEL).read_bytes()
    one, other = (
        [line.split("\t") for line in Path(name, "training.tsv").read_text().splitlines()]
        for name in ("out", "whole")
    )
    assert [r[:2] + r[3:] for r in one] == [r[:2] + r[3:] for r in other]
    assert one[0][2] == "seconds"
