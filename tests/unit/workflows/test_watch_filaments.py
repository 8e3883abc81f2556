"""``heliodor watch --filaments``, with a stand-in for the network."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from heliodor.data.filaments.readers import read_filaments
from heliodor.picking.joined_journals import JoinedJournals
from heliodor.workflows import watch_filaments as module
from helpers.cli import call, done
from helpers.filament_network import WIDTH_ANGSTROM, KnownAxes, write_micrographs

WORDS = (
    "--filaments",
    "--width",
    WIDTH_ANGSTROM,
    "--threads",
    1,
    "--segments",
    "20x3",
    "--to",
    "box",
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_micrographs(tmp_path_factory.mktemp("recorded"), 4)
    return sorted(folder.glob("*.mrc"))


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> KnownAxes:
    known = KnownAxes()
    monkeypatch.setattr(
        "heliodor.workflows.tracing_setup.load_predictor", lambda model, width, device: known
    )
    return known


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that micrographs arrive in, below the current one."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    return Path("in")


def watch(
    out: str, *options: object, minutes: float = 0.02, code: int = 0
) -> list[dict[str, Any]]:
    """Watch until nothing has arrived for a while, and return the events."""
    ended = call(
        "watch", "in/*.mrc", *WORDS, "-o", out, "--every", 0.1, "--until", minutes, *options
    )
    assert ended.code == code, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def results(out: str) -> dict[str, bytes]:
    """Return the contents of the result files, without the name of their folder."""
    names = ["filaments.star", "segments.star", "micrographs.tsv"]
    for place in ("box", "segments"):
        paths = Path(out, place).rglob("*")
        names += [str(path.relative_to(out)) for path in paths if path.is_file()]
    return {name: Path(out, name).read_bytes().replace(f"{out}/".encode(), b"") for name in names}


def add(folder: Path, paths: list[Path]) -> None:
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())


def test_the_results_are_those_of_pick_on_the_complete_micrographs(
    folder: Path, recorded: list[Path], network: KnownAxes
) -> None:
    (folder / "cut.mrc").write_bytes(recorded[0].read_bytes()[:5000])
    add(folder, recorded[:2])
    later = threading.Timer(0.8, add, (folder, recorded[2:]))
    later.start()
    events = watch("live", minutes=0.03, code=3)
    later.join()
    picked = {e["micrograph"]: e["filaments"] for e in events if e["event"] == "picked"}
    assert picked == {f"in/mic_{n}.mrc": n + 1 for n in range(1, 5)}
    written = [event for event in events if event["event"] == "threshold"]
    assert [written[0]["micrographs"], written[-1]["micrographs"]] == [2, 4]
    assert written[-1]["filaments"] == len(read_filaments("live/filaments.star")) == 14
    assert network.calls == 4
    assert "in/cut.mrc\tincomplete" in Path("live/failed.tsv").read_text()
    page = Path("live/watch.html").read_text()
    assert "4 of 5 micrographs picked" in page
    assert "Filaments per micrograph" in page
    (folder / "cut.mrc").unlink()
    done("pick", "in/*.mrc", *WORDS, "-o", "once")
    assert results("live") == results("once")
    # A plain pick into the folder finds all traced.
    done("pick", "in/*.mrc", *WORDS, "-o", "live")
    assert network.calls == 8
    assert json.loads(done("status", "live", "--json").out)["done"] == 4


@pytest.mark.slow
def test_started_again_it_keeps_what_is_done(
    folder: Path, recorded: list[Path], network: KnownAxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    keep, kept = JoinedJournals.add, 0

    def die(self: Any, *arguments: Any) -> None:
        nonlocal kept
        keep(self, *arguments)
        kept += 1
        if kept == 2:
            raise Killed

    add(folder, recorded[:3])
    with monkeypatch.context() as patch:
        patch.setattr(JoinedJournals, "add", die)
        with pytest.raises(Killed):
            watch("live")
    events = watch("live")
    before = network.calls
    assert [event["micrograph"] for event in events if event["event"] == "picked"] == [
        "in/mic_3.mrc"
    ]
    assert len(read_filaments("live/filaments.star")) == 9
    # All is done: the results are written all the same.
    Path("live/filaments.star").unlink()
    watch("live")
    assert network.calls == before
    assert len(read_filaments("live/filaments.star")) == 9


def test_the_list_of_segments_is_never_half_written(
    folder: Path, recorded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 1)
    add(folder, recorded)
    sizes, ended = list[int](), threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                sizes.append(len(read_filaments("live/filaments.star")))
            except Exception as error:
                if Path("live/filaments.star").exists():
                    sizes.append(-1)
                    raise error
            time.sleep(0.01)

    reader = threading.Thread(target=look)
    reader.start()
    watch("live", minutes=0.01)
    ended.set()
    reader.join()
    assert sizes
    assert min(sizes) >= 2
    assert sizes[-1] == 14
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--diameter", 100), "--diameter"),
        (("--mask", "masks"), "masks of your own cannot be given"),
        (("--every", 0), "from 0.1 to 3600"),
        (("--scores", "dense"), "not for --filaments"),
    ],
)
def test_what_cannot_be_watched_is_refused(options: tuple[object, ...], sentence: str) -> None:
    refused = call("watch", "in", "--filaments", "--width", 60, "-o", "out", *options)
    assert refused.code == 2
    assert sentence in refused.sentence
    assert not Path("out").exists()


def test_without_micrographs_it_ends_with_an_error() -> None:
    refused = call("watch", "in/*.mrc", *WORDS, "-o", "out", "--until", 0.002)
    assert "no micrograph could be picked: none has arrived" in refused.sentence
