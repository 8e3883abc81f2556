"""Annotations: files that are always complete, whoever writes and whatever is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliodor.app.server.annotations import (
    KINDS,
    MAX_PER_MICROGRAPH,
    Annotation,
    Annotations,
)
from heliodor.data.coordinates.formats import read_picks, relion_star
from heliodor.data.coordinates.label_assignment import read_labels
from heliodor.data.coordinates.picks import Picks
from heliodor.data.micrographs.names import find_name_fault
from heliodor.data.micrographs.sources import find_sources
from heliodor.data.star import format_cell
from heliodor.errors import BadInput
from helpers.app import (
    DIAMETER,
    PIXEL_SIZE,
    open_app,
)
from helpers.cli import call


def _mark(x: float, y: float, kind: str = "particle", name: str = "a") -> dict[str, object]:
    return {"id": name, "x": x, "y": y, "kind": kind}


def _on_disk(project: Path, kind: str = "particle") -> dict[str, list[tuple[float, float]]]:
    picks = read_picks(project / KINDS[kind])
    return {name: [*map(tuple, own.xy_px.tolist())] for name, own in picks.split_by_micrograph()}


def test_both_files_are_there_from_the_start_and_can_be_read(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        visit.state.annotations.close()
        assert _on_disk(tmp_path / "project") == _on_disk(tmp_path / "project", "negative") == {}


def test_a_mark_is_in_its_file_when_it_is_acknowledged(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        name = visit.state.name(1)
        project = tmp_path / "project"
        visit.post("/api/micrographs/1/labels", add=[_mark(10.25, 20.5), _mark(1, 2, name="b")])
        assert _on_disk(project) == {name: [(10.25, 20.5), (1, 2)]}
        visit.post("/api/micrographs/1/labels", add=[_mark(7, 8, "negative", "c")], remove=["a"])
        assert _on_disk(project) == {name: [(1, 2)]}
        assert _on_disk(project, "negative") == {name: [(7, 8)]}
        said = visit.get("/api/micrographs/1/labels")
        assert (said["id"], said["x"], said["y"]) == (["b", "c"], [1, 7], [2, 8])
        assert said["kind"] == ["particle", "negative"]


def test_what_is_said_twice_is_done_once(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        address = "/api/micrographs/0/labels"
        first = visit.post(address, add=[_mark(1, 2)])["revision"]
        assert visit.post(address, add=[_mark(1, 2)])["revision"] == first
        assert visit.post(address, remove=["never-there"])["revision"] == first
        visit.post(address, remove=["a"])
        visit.post(address, remove=["a"])
        assert visit.get(address)["id"] == []


def test_ids_outlive_the_server(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        visit.post("/api/micrographs/0/labels", add=[_mark(1.5, 2, name="first")])
    with open_app(tmp_path) as visit:
        assert visit.get("/api/micrographs/0/labels")["id"] == ["first"]
        visit.post("/api/micrographs/0/labels", add=[_mark(1.5, 2, name="first")])
        assert visit.get("/api/micrographs")["labels"] == [1, 0, 0]


def can_be_written(name: str) -> bool:
    """Return whether a STAR file can hold a name."""
    with suppress(BadInput):
        return bool(format_cell("rlnMicrographName", name))
    return False


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_files_are_those_that_the_writer_of_star_files_makes(names: list[str]) -> None:
    names = [name for name in names if find_name_fault(name) is None and can_be_written(name)]
    marks = object.__new__(Annotations)
    marks._by_micrograph = {
        name: {"k": Annotation(1.5, 2.25 + i, "particle")} for i, name in enumerate(names)
    }
    marks._rows = {kind: {} for kind in KINDS}
    for name in names:
        marks._format_rows(name)
    xy = np.array([(1.5, 2.25 + i) for i in range(len(names))]).reshape(-1, 2)
    table = Picks.from_columns(names, xy, None, {"heliodorMarkId": np.array(["k"] * len(names))})
    # Three digits behind the point are enough for a mark.
    expected = re.sub(
        r"(?m)^(\d+\.\d{3})000\t(\d+\.\d{3})000\t", r"\1\t\2\t", relion_star.render_picks(table)
    )
    assert marks.render("particle").split("\n\n") == [*expected.rstrip("\n").split("\n\n"), ""]


def test_a_name_that_no_file_can_hold_is_refused_before_anything_is_saved(tmp_path: Path) -> None:
    marks = Annotations(tmp_path)
    with pytest.raises(BadInput, match="cannot hold"):
        marks.change("a\tb.mrc", {"k": Annotation(1, 2, "particle")}, ())
    assert marks.names() == []
    marks.close()
    Annotations(tmp_path).close()


def test_names_with_blanks_are_read_back(tmp_path: Path) -> None:
    marks = Annotations(tmp_path)
    names = ["a b.mrc", "data_1/x.mrc", "_y.mrc", "plain.mrc", "grid#2/a.mrc", "Tom's data/a.mrc"]
    for i, name in enumerate(names):
        marks.change(name, {"k": Annotation(i, i + 0.125, "particle")}, ())[1].result(60)
    marks.close()
    assert _on_disk(tmp_path) == {name: [(i, i + 0.125)] for i, name in enumerate(names)}
    again = Annotations(tmp_path)
    assert [again.of_micrograph(name) for name in names] == [
        {"k": Annotation(i, i + 0.125, "particle")} for i in range(len(names))
    ]
    again.close()


def test_a_label_file_of_old_is_taken_by_another_spelling_of_its_micrographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_app(tmp_path) as visit:
        visit.post("/api/micrographs/1/labels", add=[_mark(1, 2)])
    text = (tmp_path / "project/labels.star").read_text()
    (tmp_path / "project/labels.star").write_text(text.replace(f"{tmp_path}/", "elsewhere/"))
    with open_app(tmp_path) as visit:
        assert visit.get("/api/micrographs")["labels"] == [0, 1, 0]
        visit.state.annotations.close()
        assert [*_on_disk(tmp_path / "project")] == [visit.state.name(1)]


def test_a_damaged_file_of_labels_is_told_of_and_left(tmp_path: Path) -> None:
    with open_app(tmp_path):
        pass
    damaged = tmp_path / "project/labels.star"
    damaged.write_text("data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\none two\n")
    with pytest.raises(BadInput, match=r"labels\.star"), open_app(tmp_path):
        pass
    assert "one two" in damaged.read_text()


@pytest.mark.parametrize(
    "mark",
    [
        _mark(-1, 5),
        _mark(5, 600),
        _mark(float(10**300), 5),
        _mark(5, True),
        _mark("5", 5),  # type: ignore[arg-type]
        _mark(5, 5, "other"),
        _mark(5, 5, name=""),
        _mark(5, 5, name="../../etc"),
        _mark(5, 5, name="a\nb"),
        _mark(5, 5, name="x" * 65),
        {"id": "a", "x": 1, "y": 2},
        {"id": "a", "x": 1, "y": 2, "kind": "particle", "more": 1},
        "mark",
    ],
)
def test_a_bad_mark_is_refused_and_nothing_of_its_change_is_made(
    tmp_path: Path, mark: object
) -> None:
    with open_app(tmp_path) as visit:
        good = _mark(1, 2, name="good")
        said = visit.post("/api/micrographs/0/labels", 400, add=[good, mark])
        assert said["error"]
        assert visit.get("/api/micrographs/0/labels")["id"] == []


def test_there_is_an_end_to_marks(tmp_path: Path) -> None:
    marks = Annotations(tmp_path)
    many = {f"m{i}": Annotation(i, 0, "particle") for i in range(MAX_PER_MICROGRAPH)}
    marks.change("a.mrc", many, ())
    with pytest.raises(BadInput, match="20000 annotations"):
        marks.change("a.mrc", {"one": Annotation(0, 0, "particle")}, ())
    marks.change("a.mrc", {"one": Annotation(0, 0, "particle")}, ["m0"])[1].result(60)
    marks.close()
    assert len(read_picks(tmp_path / "labels.star")) == MAX_PER_MICROGRAPH


def test_what_cannot_be_written_is_not_acknowledged_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heliodor.app.server import annotations as module

    with open_app(tmp_path) as visit:
        visit.post("/api/micrographs/0/labels", add=[_mark(1, 2, name="before")])
        real = module.write_text

        def full(path: Path, text: str) -> None:
            raise BadInput(f"{path} cannot be written (No space left on device)")

        monkeypatch.setattr(module, "write_text", full)
        before = visit.get("/api/changes", since=0)["revision"]
        said = visit.post("/api/micrographs/0/labels", 422, add=[_mark(3, 4)], remove=["before"])
        assert "No space left" in said["error"]
        # The page reads again what is saved.
        assert visit.get("/api/micrographs/0/labels")["id"] == ["before"]
        assert visit.get("/api/micrographs")["labels"] == [1, 0, 0]
        assert visit.get("/api/changes", since=before)["revision"] > before + 1
        assert len(read_picks(tmp_path / "project/labels.star")) == 1
        monkeypatch.setattr(module, "write_text", real)
        visit.post("/api/micrographs/0/labels", add=[_mark(3, 4)])
        assert len(read_picks(tmp_path / "project/labels.star")) == 2


def test_fifty_at_once_lose_nothing_and_the_file_is_whole_all_the_time(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        path = tmp_path / "project/labels.star"
        ended = threading.Event()
        read = []

        def look() -> None:
            while not ended.is_set():
                read.append(len(read_picks(path)))

        def work(number: int) -> int:
            address = f"/api/micrographs/{number % 3}/labels"
            if number % 5 == 4:
                return visit.client.get(
                    f"/api/micrographs/{number % 3}/tiles/0/0/0.jpg"
                ).status_code
            add = [_mark(number, i, name=f"n{number}-{i}") for i in range(4)]
            codes = [
                visit.client.post(address, json={"add": add}).status_code,
                visit.client.post(address, json={"remove": [add[0]["id"]]}).status_code,
            ]
            return max(codes)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            with ThreadPoolExecutor(50) as pool:
                codes = [*pool.map(work, range(50))]
        finally:
            ended.set()
            watcher.join()
        assert codes == [200] * 50
        expected = {(n, i) for n in range(50) if n % 5 != 4 for i in range(1, 4)}
        there = {xy for own in _on_disk(tmp_path / "project").values() for xy in own}
        assert there == expected
        assert len(read) > 1  # none of which raised
        assert sum(visit.get("/api/micrographs")["labels"]) == len(expected)


def test_two_users_of_one_micrograph_see_the_same(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        address = "/api/micrographs/0/labels"
        visit.post(address, add=[_mark(1, i, name=f"old{i}") for i in range(20)])

        def user(own: str) -> None:
            for i in range(20):
                visit.post(address, add=[_mark(2, i, name=f"{own}{i}")], remove=[f"old{i}"])

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(user, ["left", "right"]))
        wanted = {f"{own}{i}" for own in ("left", "right") for i in range(20)}
        assert {*visit.get(address)["id"]} == wanted
    with open_app(tmp_path) as visit:
        assert {*visit.get(address)["id"]} == wanted


def test_training_reads_the_files(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        for number in (0, 2):
            marks = [_mark(50.5 + 9 * i, 60, name=f"p{i}") for i in range(3)]
            visit.post(
                f"/api/micrographs/{number}/labels", add=[*marks, _mark(9, 9, "negative", "n")]
            )
        sources = find_sources([str(tmp_path / "mics")])
        project = tmp_path / "project"
        labelled, notes = read_labels(project / "labels.star", sources, project / "negatives.star")
        assert [len(own.xy_px) for own in labelled] == [3, 0, 3]
        assert [len(own.negative_xy_px) for own in labelled] == [1, 0, 1]
        assert notes == []


@pytest.mark.slow
def test_a_training_of_the_command_line_goes_through_with_them(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        random = np.random.default_rng(1)
        for number in range(3):
            marks = [
                _mark(*random.uniform(60, 540, 2).round(2).tolist(), name=f"p{i}")
                for i in range(6)
            ]
            none = _mark(300, 300, "negative", "n")
            visit.post(f"/api/micrographs/{number}/labels", add=[*marks, none])
    project = tmp_path / "project"
    result = call(
        "train", "--micrographs", tmp_path / "mics", "--labels", project / "labels.star",
        "--negatives", project / "negatives.star", "--diameter", DIAMETER, "-o", tmp_path / "out",
        "--from", "scratch", "--network", "conv31", "--width", 2, "--epochs", 1,
        "--epoch-updates", 2, "--trust-labels", "--pixel-size", PIXEL_SIZE,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert (tmp_path / "out/model.safetensors").is_file()


_WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from heliodor.app.server.annotations import Annotation, Annotations
    marks = Annotations(Path(sys.argv[1]))
    for i in range(int(sys.argv[2]), 100_000):
        marks.change("a b.mrc", {f"m{i}": Annotation(i % 500, 1, "particle")}, ())[1].result()
        print(i, flush=True)
    """
)


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_what_was_acknowledged_outlives_being_killed(tmp_path: Path) -> None:
    expected = 0
    for turn in range(4):
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(expected)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + 0.037 * turn)
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
        acknowledged = int(said[-1]) + 1 if said else expected + 1
        there = len(read_picks(tmp_path / "labels.star"))
        assert acknowledged <= there <= acknowledged + 1
        expected = there
