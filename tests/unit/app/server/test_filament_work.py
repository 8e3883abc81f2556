"""A project of filaments, through its HTTP interface; a stand-in traces and trains."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from heliodor.app.server.filament_work import FilamentWork
from heliodor.app.server.server import import_filaments
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.readers import read_filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.errors import BadInput
from heliodor.picking.contamination import ContaminationMask
from heliodor.picking.user_masks import read_mask
from helpers.app import PIXEL_SIZE, AppVisit, open_app
from helpers.cli import call

WIDTH = 80.0
#: Writes what the commands write: the prepared filaments, or a model.
STAND_IN = """
import shutil, sys, time
from pathlib import Path
words = sys.argv[1:]
here, out = Path(sys.argv[0]).parent, Path(words[words.index("-o") + 1])
print("heliodor: at work", flush=True)
if (here / "hold").exists():
    time.sleep(60)
if (here / "fail").exists():
    sys.exit("heliodor: it cannot be done")
if words[0] == "pick":
    (out / ".picking.jsonl").write_text('{"micrograph": "a"}\\n')
    if (here / "bad_areas").exists():
        shutil.copytree(here / "bad_areas", out / "bad_areas", dirs_exist_ok=True)
    shutil.copy(here / "traced.star", out / ".new")
    (out / ".new").rename(out / "filaments.star")
else:
    shutil.copy(words[words.index("--labels") + 1], out.parent / "learned.star")
    if "--negatives" in words:
        shutil.copy(words[words.index("--negatives") + 1], out.parent / "rejected.star")
    (out / "model.safetensors").write_text("model")
    (out / "run.json").write_text("{}")
"""


def line(y: float) -> np.ndarray:
    return np.linspace((100.0, y), (600.0, y), 9)


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[AppVisit]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    with open_app(tmp_path, diameter=None, filament_width=WIDTH) as opened:
        state = opened.state
        command = [sys.executable, str(tmp_path / "stand_in.py")]
        state.filaments = FilamentWork(
            state.project, state.tiles, state.masks, 1, command=command, touch=state.touch
        )
        names = [state.name(n) for n in range(3)]
        found = [
            Filament(names[micrograph], line(100.0 * n), n, WIDTH, np.full(9, 2.0))
            for micrograph in range(2)
            for n in range(1, 4)
        ]
        table = Filaments(tuple(names), tuple(found), dict.fromkeys(names, PIXEL_SIZE))
        (tmp_path / "traced.star").write_text(render_filaments(table))
        yield opened
        state.filaments.close()


def wait(visit: AppVisit, state: str = "done") -> dict[str, Any]:
    end = time.monotonic() + 30
    while (found := visit.get("/api/filaments"))["job"]["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert found["job"]["state"] == state, found
    return found


def new(number: int, kind: str, y: float) -> dict[str, Any]:
    return {"id": number, "kind": kind, "points": line(y).tolist()}


def kept(shown: dict[str, Any]) -> list[str]:
    return [one["is"] for one in shown["traced"]]


def test_the_page_is_that_of_filaments(visit: AppVisit) -> None:
    assert "filament_main.js" in visit.client.get("/").text
    said = visit.get("/api/filaments")
    assert (said["width"], said["model"], said["traced"]) == (WIDTH, 0, None)
    assert [one["name"] for one in said["formats"]][:3] == ["star", "start-end", "filaments"]
    shown = visit.get("/api/micrographs/0/filaments")
    assert shown == {
        "labels": [], "rejected": [], "traced": None, "width_px": WIDTH / PIXEL_SIZE,
        "contamination": None,
    }  # fmt: skip


def test_filaments_are_drawn_rejected_and_removed(visit: AppVisit) -> None:
    address = "/api/micrographs/0/filaments"
    visit.post("/api/filaments/trace")
    assert wait(visit)["traced"] == [3, 3, 0]
    assert kept(visit.get(address)) == ["kept"] * 3
    shown = visit.post(address, add=[new(5, "label", 104.0), new(6, "rejected", 200.0)])
    assert kept(shown) == ["drawn", "rejected", "kept"]
    assert [one["id"] for one in shown["labels"]] == [5]
    assert visit.get("/api/filaments")["labels"] == [1, 0, 0]
    assert kept(visit.get("/api/micrographs/1/filaments")) == ["kept"] * 3
    shown = visit.post(address, remove=[6], add=[])
    assert kept(shown) == ["drawn", "kept", "kept"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"points": [[1.0, 1.0]]}, "points"),
        ({"points": [[1.0, 1.0], [1.0, 1.0]]}, "two different points"),
        ({"points": [[1.0, 1.0], [5000.0, 1.0]]}, "x must be from"),
        ({"id": 0}, "id"),
        ({"id": 2**31}, "id"),
        ({"kind": "particle"}, "kind"),
    ],
)
def test_impossible_filaments_are_refused(
    visit: AppVisit, change: dict[str, Any], sentence: str
) -> None:
    body = {"add": [new(5, "label", 100.0) | change]}
    answer = visit.client.post("/api/micrographs/0/filaments", json=body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert visit.get("/api/filaments")["labels"] == [0, 0, 0]


def test_exports_have_what_was_drawn_and_what_is_left_of_the_traced(visit: AppVisit) -> None:
    project = visit.state.project.folder
    assert (
        "no filaments to export" in visit.post("/api/filaments/export", 422, format="box")["error"]
    )
    visit.post("/api/filaments/trace")
    wait(visit)
    visit.post(
        "/api/micrographs/0/filaments", add=[new(5, "label", 104.0), new(6, "rejected", 200.0)]
    )
    visit.post("/api/micrographs/1/excluded", excluded=True)
    assert "distance" in visit.post("/api/filaments/export", 422, format="star")["error"]
    made = visit.post("/api/filaments/export", format="star", segments=40.0)
    assert (made["filaments"], made["micrographs"]) == (2, 1)
    segments = starfile.read(made["path"])["particles"]
    assert len(segments) == made["segments"]
    assert sorted({*segments["rlnCoordinateY"].round().tolist()}) == [104.0, 300.0]
    for one in visit.get("/api/filaments")["formats"][1:]:
        made = visit.post("/api/filaments/export", format=one["name"])
        assert len(read_filaments(made["path"])) == 2, one
        assert Path(made["path"]).is_relative_to(project / "export")
    assert visit.post("/api/filaments/export", 400, format="csv")["error"].startswith("format")
    # What is excluded is not traced, and neither are micrographs that have arrived since.
    shutil.copy(visit.state.sources[0].path, visit.state.sources[0].path.with_name("new.mrc"))
    visit.post("/api/filaments/trace", threshold=0.5, min_length=300.0)
    wait(visit)
    said = (project / "run.log").read_text().splitlines()[0]
    for words in ("--threshold=0.5", "--min-length 300.0", f"--width {WIDTH}", "--exclude"):
        assert words in said
    left_out = (project / "traced/excluded.txt").read_text().splitlines()
    assert [Path(name).name for name in left_out] == ["mic 1.mrc", "new.mrc"]


def test_the_table_has_the_filaments_of_each_micrograph(visit: AppVisit) -> None:
    found = visit.get("/api/filaments")
    assert (found["traced"], found["length"]) == (None, None)
    visit.post("/api/filaments/trace")
    found = wait(visit)
    assert found["traced"] == [3, 3, 0]
    assert found["length"] == pytest.approx([3 * 500 * PIXEL_SIZE] * 2 + [0.0])
    visit.post(
        "/api/micrographs/0/filaments", add=[new(5, "label", 104.0), new(6, "rejected", 200.0)]
    )
    visit.post("/api/micrographs/1/note", note="thick ice")
    found = visit.get("/api/filaments")
    assert (found["traced"], found["labels"], found["rejected"]) == (
        [1, 3, 0], [1, 0, 0], [1, 0, 0],
    )  # fmt: skip
    assert found["length"] == pytest.approx([500 * PIXEL_SIZE, 1500 * PIXEL_SIZE, 0.0])
    assert found["revision"] == visit.get("/api/micrographs")["revision"]
    assert visit.get("/api/micrographs")["note"] == ["", "thick ice", ""]
    # One that cannot be read any more does not hide the others.
    visit.state.sources[1].path.write_bytes(b"damaged")
    assert visit.state.filaments is not None
    labels = visit.state.filaments.labels
    labels.change(visit.state.name(1), {5: ("label", line(104.0))}, [])
    found = visit.get("/api/filaments")
    assert (found["traced"], found["length"][1:]) == ([1, None, 0], [None, 0.0])


def test_the_table_and_the_power_spectrum_are_those_of_particles(visit: AppVisit) -> None:
    visit.get("/api/table")
    assert len(visit.get("/api/micrographs/0/spectrum")["image"]) > 1000
    page = visit.client.get("/").text
    script = visit.client.get("/static/filament_main.js").text
    for name in ("table-filter", "table-rows", "table-note", "spectrum-rings"):
        assert f'id="{name}"' in page
    for module in ("micrograph_table.js", "spectrum_view.js"):
        assert f'from "./{module}"' in script


def test_tracing_shows_contamination_and_honors_what_was_painted(
    visit: AppVisit, tmp_path: Path
) -> None:
    stem = visit.state.sources[0].output_stem
    detected = tmp_path / f"bad_areas/{stem}.png"
    detected.parent.mkdir(parents=True)
    ContaminationMask(np.ones((3, 4), bool), 200.0 * PIXEL_SIZE, 1.0).write(detected)
    visit.post("/api/filaments/trace")
    revision = wait(visit)["revision"]
    project = visit.state.project.folder
    said = (project / "run.log").read_text().splitlines()[0]
    assert "--bad-area-masks" in said
    assert "--mask" not in said
    assert visit.get("/api/micrographs")["quality"] == [0.0, None, None]
    assert visit.get("/api/micrographs/0/filaments")["contamination"]["rows"] == 3
    visit.post("/api/micrographs/0/contamination", ignore=True)
    assert visit.get("/api/filaments")["revision"] > revision
    visit.post("/api/filaments/trace")
    wait(visit)
    said = (project / "run.log").read_text().splitlines()[0]
    assert f"--mask {project / 'traced/masks'}" in said
    assert not read_mask(project / f"traced/masks/{stem}.png")[0].any()
    assert visit.get("/api/micrographs/0/filaments")["contamination"]["rows"] == 3


def test_only_micrographs_that_are_not_excluded_are_learned_from(visit: AppVisit) -> None:
    for number in (0, 1):
        visit.post(f"/api/micrographs/{number}/filaments", add=[new(5, "label", 104.0)])
    visit.post("/api/micrographs/0/excluded", excluded=True)
    visit.post("/api/filaments/train")
    wait(visit)
    folder = visit.state.project.folder
    learned = read_filaments(folder / "models/learned.star")
    assert learned.micrographs == (visit.state.name(1),)
    assert "--negatives" not in (folder / "run.log").read_text()
    # What was rejected on them is learned as well, on those without labels too.
    for number in (0, 1, 2):
        add = [new(6, "rejected", 200.0 + 50 * number)]
        visit.post(f"/api/micrographs/{number}/filaments", add=add)
    visit.post("/api/filaments/train")
    wait(visit)
    rejected = read_filaments(folder / "models/rejected.star")
    assert [one.axis_px[0, 1] for one in rejected] == [250.0, 300.0]
    assert rejected.micrographs == (visit.state.name(1), visit.state.name(2))
    visit.post("/api/micrographs/1/excluded", excluded=True)
    assert "not excluded" in visit.post("/api/filaments/train", 409)["error"]


def test_a_trained_model_is_kept_and_used(visit: AppVisit) -> None:
    assert "draw some" in visit.post("/api/filaments/train", 409)["error"]
    visit.post("/api/micrographs/0/filaments", add=[new(5, "label", 104.0)])
    visit.post("/api/filaments/train")
    assert wait(visit)["model"] == 1
    project = visit.state.project
    assert project.model_file(1).read_text() == "model"
    assert sorted(path.name for path in (project.folder / "models").iterdir()) == [
        "0001.json", "0001.safetensors", "learned.star",
    ]  # fmt: skip
    visit.post("/api/filaments/trace")
    wait(visit)
    said = (project.folder / "run.log").read_text().splitlines()[0]
    assert f"--model {project.model_file(1)}" in said
    assert "--width" not in said


def test_a_training_ends_where_the_project_cannot_be_written(visit: AppVisit) -> None:
    visit.post("/api/micrographs/0/filaments", add=[new(5, "label", 104.0)])
    settings = visit.state.project.folder / "project.json"
    settings.unlink()
    settings.mkdir()
    visit.post("/api/filaments/train")
    says = wait(visit, "failed")["job"]["says"]
    assert "the result cannot be kept" in says
    assert "project.json cannot be written" in says


def test_what_runs_can_be_stopped_and_failures_are_shown(visit: AppVisit, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    visit.post("/api/filaments/trace")
    assert visit.state.is_busy()
    assert "running already" in visit.post("/api/filaments/trace", 409)["error"]
    visit.post("/api/filaments/cancel")
    wait(visit, "cancelled")
    (tmp_path / "hold").unlink()
    (tmp_path / "fail").touch()
    visit.post("/api/filaments/trace")
    assert "cannot be done" in wait(visit, "failed")["job"]["says"]
    assert not visit.state.is_busy()


def test_a_project_keeps_its_kind_and_its_labels(tmp_path: Path) -> None:
    with open_app(tmp_path, diameter=None, filament_width=WIDTH) as visit:
        visit.post("/api/micrographs/0/filaments", add=[new(5, "label", 104.0)])
    with open_app(tmp_path, diameter=None) as visit:
        assert visit.get("/api/filaments")["labels"] == [1, 0, 0]
    with (
        pytest.raises(BadInput, match=r"80 Å wide, not 90 Å"),
        open_app(tmp_path, diameter=None, filament_width=90.0),
    ):
        pass
    other = tmp_path / "other"
    other.mkdir()
    with open_app(other) as visit:
        assert "project of particles" in visit.client.get("/api/filaments").json()["error"]
        assert "filament_main.js" not in visit.client.get("/").text
    with (
        pytest.raises(BadInput, match="a project of particles"),
        open_app(other, filament_width=90.0),
    ):
        pass


def test_labels_of_filaments_are_imported_once(visit: AppVisit, tmp_path: Path) -> None:
    work = visit.state.filaments
    assert work is not None
    import_filaments(visit.state, work, str(tmp_path / "traced.star"))
    assert visit.get("/api/filaments")["labels"] == [3, 3, 0]
    import_filaments(visit.state, work, str(tmp_path / "traced.star"))
    assert visit.get("/api/filaments")["labels"] == [3, 3, 0]
    table = Filaments(("elsewhere.mrc",), (Filament("elsewhere.mrc", line(50.0), 1),))
    (tmp_path / "elsewhere.star").write_text(render_filaments(table))
    with pytest.raises(BadInput, match="already has labels"):
        import_filaments(visit.state, work, str(tmp_path / "elsewhere.star"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--filaments",), "width of the filaments is missing"),
        (("--width", 60), "an option of --filaments"),
        (("--filaments", "--width", 3), "not plausible"),
        (("--filaments", "--width", 60, "--diameter", 100), "leave out the diameter"),
    ],
)
def test_impossible_options_are_refused(
    tmp_path: Path, visit: AppVisit, options: tuple[object, ...], sentence: str
) -> None:
    refused = call("app", tmp_path / "mics", "-o", tmp_path / "new", "--port", 0, *options)
    assert refused.code == 2
    assert sentence in refused.sentence
