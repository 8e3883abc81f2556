from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heliodor.data.coordinates.formats import read_picks
from heliodor.errors import BadInput
from heliodor.models.model_file import save_model
from heliodor.picking.settings import PickSettings
from heliodor.simulation.dataset import simulate
from heliodor.simulation.settings import SimulationSettings
from heliodor.utils.compute import ComputeSettings
from heliodor.workflows import watch as module
from heliodor.workflows.pick import pick
from heliodor.workflows.picking_setup import PickRequest
from heliodor.workflows.watch import EventWriter, watch
from helpers.cli import call
from helpers.networks import model, scrambled

CPU = ComputeSettings(device="cpu", threads=1)
#: The files that watch and pick write alike.
ALIKE = ("autopick.star", "picks.tsv", "micrographs.tsv")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six small micrographs."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    settings = SimulationSettings(
        particle="shell", count=6, shape=(256, 256), pixel_size_angstrom=5.0, seed=4,
        particles_per_micrograph=12,
    )  # fmt: skip
    simulate(folder, settings)
    return sorted((folder / "micrographs").glob("*.mrc"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that micrographs arrive in, below the current one."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    return Path("in")


def until_done(out: str, *, minutes: float = 0.02, **more: Any) -> list[dict[str, Any]]:
    """Watch until nothing has arrived for a second, and return the events."""
    request = PickRequest(None, "in/*.mrc", PickSettings(**more), diameter_angstrom=120.0)
    events = Path(f"{out}.jsonl")
    watch(request, out, CPU, 0.1, minutes, events)
    return [json.loads(line) for line in events.read_text().splitlines()]


def results(out: str) -> dict[str, str]:
    """Return the texts of the result files, without the name of their folder."""
    names = [*ALIKE, *(p.name for p in Path(out).glob("*_autopick.star"))]
    return {name: (Path(out) / name).read_text().replace(f"{out}/", "") for name in names}


def feed(folder: Path, recorded: list[Path], pause: float = 0.05) -> threading.Thread:
    """Write the micrographs in the background, half of them in pieces."""

    def write() -> None:
        for number, path in enumerate(recorded):
            content = path.read_bytes()
            if number % 2:
                (folder / f".{path.name}").write_bytes(content)
                (folder / f".{path.name}").rename(folder / path.name)
            else:
                with (folder / path.name).open("wb") as stream:
                    for start in range(0, len(content), len(content) // 3 + 1):
                        stream.write(content[start : start + len(content) // 3 + 1])
                        stream.flush()
                        time.sleep(pause)
            time.sleep(pause)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_the_results_are_those_of_pick_on_the_complete_micrographs(
    folder: Path, recorded: list[Path]
) -> None:
    (folder / "cut.mrc").write_bytes(recorded[0].read_bytes()[:5000])
    thread = feed(folder, recorded)
    events = until_done("live", minutes=0.06)
    thread.join()
    picked = [event for event in events if event["event"] == "picked"]
    assert sorted(event["micrograph"] for event in picked) == [f"in/{p.name}" for p in recorded]
    assert all(Path(event["coordinates"]).is_file() for event in picked)
    estimates = [event for event in events if event["event"] == "threshold"]
    assert estimates[-1]["micrographs"] == len(recorded)
    assert estimates[-1]["picks"] == len(read_picks("live/autopick.star"))
    pick(None, "in/*.mrc", "once", compute=CPU, diameter_angstrom=120.0)
    assert results("live") == results("once")
    # What was not complete at the end is listed as failed.
    assert (
        "in/cut.mrc\tincomplete: in/cut.mrc has less data" in Path("live/failed.tsv").read_text()
    )
    page = Path("live/watch.html").read_text()
    assert f"{len(recorded)} of {len(recorded) + 1} micrographs picked" in page
    assert "http-equiv" not in page  # it no longer changes
    # The record is one of picking.
    assert json.loads(Path("live/run.json").read_text())["command"] == "pick"


@pytest.mark.slow
def test_started_again_it_picks_only_what_is_new(folder: Path, recorded: list[Path]) -> None:
    for path in recorded[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    until_done("live")
    for path in recorded[4:]:
        (folder / path.name).write_bytes(path.read_bytes())
    Path("live.jsonl").unlink()
    events = until_done("live")
    names = [event["micrograph"] for event in events if event["event"] == "picked"]
    assert names == [f"in/{path.name}" for path in recorded[4:]]
    pick(None, "in/*.mrc", "once", compute=CPU, diameter_angstrom=120.0)
    assert results("live") == results("once")


@pytest.mark.slow
def test_the_threshold_changes_when_the_number_of_micrographs_has_doubled(
    folder: Path, recorded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 1)
    for path in recorded:
        (folder / path.name).write_bytes(path.read_bytes())
    events = until_done("live")
    seen = [e["micrographs"] for e in events if e["event"] == "threshold"]
    assert seen == [1, 2, 4, 6]  # the last at the end
    # Between two estimates all have the threshold of the first of them.
    threshold = 0.0
    for event in events:
        if event["event"] == "picked":
            assert event["threshold"] == threshold
        threshold = event["threshold"]


@pytest.mark.slow
def test_a_damaged_micrograph_is_mentioned_once_and_picked_when_it_is_replaced(
    folder: Path, recorded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliodor.data.micrographs.arrivals.PATIENCE_SECONDS", 0.3)
    (folder / recorded[0].name).write_bytes(recorded[0].read_bytes())
    (folder / recorded[1].name).write_bytes(b"no micrograph")

    def replace() -> None:
        events = Path("live.jsonl")
        while not (events.exists() and '"failed"' in events.read_text()):
            time.sleep(0.02)
        (folder / recorded[1].name).write_bytes(recorded[1].read_bytes())

    thread = threading.Thread(target=replace)
    thread.start()
    events = until_done("live", minutes=0.06)
    thread.join()
    failed = [event for event in events if event["event"] == "failed"]
    assert [event["micrograph"] for event in failed] == [f"in/{recorded[1].name}"]
    assert "damaged or incomplete MRC file" in failed[0]["reason"]
    assert [e["micrograph"] for e in events if e["event"] == "picked"][-1] == (
        f"in/{recorded[1].name}"
    )
    assert not Path("live/failed.tsv").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: until_done("live", mask=["m.mrc"]), "masks of your own cannot be given"),
        (lambda: until_done("live", minutes=-1.0), "must be more than 0"),
        (lambda: until_done("live"), "no MRC or TIFF file matches"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    folder: Path, change: Callable[[], Any], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence if "file" not in sentence else "none has arrived"):
        change()


def test_the_command_prints_a_line_for_each_micrograph(folder: Path, recorded: list[Path]) -> None:
    (folder / recorded[0].name).write_bytes(recorded[0].read_bytes())
    done = call(
        "watch", "in", "--diameter", 120, "-o", "live", "--every", 0.1, "--until", 0.02,
        "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["event"] for line in lines] == ["picked", "threshold"]
    assert lines[0]["micrograph"] == f"in/{recorded[0].name}"
    refused = call("watch", "in", "--diameter", 120, "-o", "live", "--every", 0)
    assert refused.code == 2
    assert "from 0.1 to 3600 s" in refused.sentence


def replace_model(path: Path, threshold: float, shift: float = 0.0) -> None:
    """Write a model for the micrographs of these tests, whose scores are shifted."""
    network = scrambled("conv31")
    assert network.classifier.bias is not None
    with torch.no_grad():
        network.classifier.bias.add_(shift)
    sizes = {"diameter_angstrom": 120.0, "working_pixel_size_angstrom": 10.0}
    save_model(path, model(network, threshold=threshold, **sizes))


def watch_with(path: Path, minutes: float = 0.05) -> list[dict[str, Any]]:
    """Watch with a model until nothing has arrived for a while, and return the events."""
    request = PickRequest(str(path), "in/*.mrc", PickSettings())
    watch(request, "live", CPU, 0.1, minutes, Path("live.jsonl"))
    return [json.loads(line) for line in Path("live.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_model_that_is_replaced_picks_all_in_the_end(
    folder: Path, recorded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AGAIN", 1)
    own = Path("m.safetensors")
    replace_model(own, 0.5)
    for path in recorded[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "damaged.mrc").write_bytes(b"x")
    monkeypatch.setattr("heliodor.data.micrographs.arrivals.PATIENCE_SECONDS", 0.3)
    lists = list[int]()

    def change() -> None:
        while not Path("live.jsonl").exists():
            time.sleep(0.02)
        while Path("live.jsonl").read_text().count('"picked"') < 4:
            time.sleep(0.02)
        time.sleep(0.3)
        replace_model(own, -0.25, 0.3)
        for path in recorded[4:]:
            (folder / path.name).write_bytes(path.read_bytes())
        while Path("live.jsonl").read_text().count('"picked"') < 10:
            lists.append(Path("live/autopick.star").read_text().count("_autopick.star"))
            time.sleep(0.02)

    thread = threading.Thread(target=change)
    thread.start()
    events = watch_with(own)
    thread.join()
    kinds = [event["event"] for event in events]
    place = kinds.index("model")
    assert events[place]["picked_before"] == 4
    later = [event["micrograph"] for event in events[place:] if event["event"] == "picked"]
    assert sorted(later) == [f"in/{path.name}" for path in recorded]
    thresholds = {event["threshold"] for event in events[place:] if event["event"] == "picked"}
    assert thresholds == {-0.25}
    # The list of RELION keeps micrographs that have picks of the earlier model.
    assert min(lists[:-1], default=4) >= 4
    picked = pick("m.safetensors", "in/*.mrc", "once", compute=CPU)
    assert results("live") == results("once")
    assert len(picked.picks)


@pytest.mark.slow
def test_a_model_that_cannot_be_used_is_not_taken(folder: Path, recorded: list[Path]) -> None:
    own = Path("m.safetensors")
    replace_model(own, 0.5)
    (folder / recorded[0].name).write_bytes(recorded[0].read_bytes())

    def change() -> None:
        while not Path("live.jsonl").exists():
            time.sleep(0.02)
        own.write_bytes(b"no model")

    thread = threading.Thread(target=change)
    thread.start()
    events = watch_with(own)
    thread.join()
    assert "model" not in [event["event"] for event in events]
    assert [event["event"] for event in events].count("picked") == 1


def test_events_are_not_appended_to_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(b"MRC\0")
    with pytest.raises(BadInput, match="is not a file of events"):
        EventWriter(path)
    assert path.read_bytes() == b"MRC\0"
    own = tmp_path / "events.jsonl"
    for _ in range(2):
        EventWriter(own).write("picked", micrograph="a.mrc")
    assert len(own.read_text().splitlines()) == 2
