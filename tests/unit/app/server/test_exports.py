"""Exports in every format, and picking all micrographs."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from heliodor.app.server.batch_run import BatchRun
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.writers import FORMATS
from helpers.app import (
    HEIGHT,
    WIDTH,
    AppVisit,
    micrographs,
    open_app,
)
from helpers.fake_engine import BEST, places

AT = places((HEIGHT, WIDTH))


def _fetch(visit: AppVisit, what: str, name: str, folder: Path) -> list[Path]:
    """Export, fetch, and return the files."""
    (file,) = visit.post("/api/export", what=what, format=name)["files"]
    answer = visit.client.get(f"/api/exports/{file}")
    assert answer.status_code == 200
    assert file in answer.headers["content-disposition"]
    folder.mkdir(exist_ok=True)
    if not file.endswith(".zip"):
        (folder / file).write_bytes(answer.content)
        return [folder / file]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(folder)
        return [folder / name for name in archive.namelist()]


def _mark(visit: AppVisit, number: int, x: float, y: float, kind: str) -> None:
    add = [{"id": f"{kind}{x:.0f}", "x": x, "y": y, "kind": kind}]
    visit.post(f"/api/micrographs/{number}/labels", add=add)


def test_picks_are_candidates_from_the_threshold_on_and_what_the_user_says(
    tmp_path: Path,
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _mark(visit, 0, AT[0, 0] + 5, AT[0, 1], "negative")  # near the best one
        _mark(visit, 0, AT[2, 0] + 5, AT[2, 1], "particle")  # is a pick already
        _mark(visit, 0, 700, 30, "particle")  # where no candidate is
        _mark(visit, 1, float(AT[8, 0]), float(AT[8, 1]), "particle")  # below the threshold
        visit.post("/api/settings", threshold=2.5)
        (file,) = _fetch(visit, "picks", "star", tmp_path / "out")
        own = dict(read_picks(file).split_by_micrograph())
        first, second, third = (own[visit.state.name(number)] for number in range(3))
        np.testing.assert_allclose(first.xy_px, [*AT[2:4], (700, 30)], atol=0.01)
        np.testing.assert_allclose(first.score, [BEST - 2, BEST - 3, BEST - 2])
        np.testing.assert_allclose(second.xy_px, [AT[0], *AT[2:4], AT[8]], atol=0.01)
        np.testing.assert_allclose(third.xy_px, [AT[0], *AT[2:4]], atol=0.01)
        labels = read_picks(_fetch(visit, "labels", "star", tmp_path / "out")[0])
        assert sorted(labels.counts().tolist()) == [1, 2]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("judged")
    with open_app(folder, with_engine=True) as visit:
        visit.scored()
        _mark(visit, 0, 700, 30, "particle")
        visit.post("/api/settings", threshold=2.5)
        yield visit


@pytest.mark.parametrize("what", ["picks", "labels"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_fetched_and_read(
    judged: AppVisit, tmp_path: Path, name: str, what: str
) -> None:
    files = _fetch(judged, what, name, tmp_path / "out")
    if name == "autopick":
        files = [file for file in files if file.name != "autopick.star"]
    picks = read_picks([file for file in files if file.stat().st_size])
    expected = np.concatenate([AT[[0, 2, 3]]] * 3 + [[(700, 30)]])
    if what == "labels":
        expected = np.array([(700, 30)])
    if name == "cs":  # in fractions of the micrograph, as 32-bit numbers
        xy = picks.xy_px if picks.xy_px.max() > 1 else picks.xy_px * [WIDTH, HEIGHT]
    else:
        xy = picks.xy_px
    assert len(xy) == len(expected)
    exact = 1.0 if name in ("box", "cbox") else 0.01
    far = np.abs(xy[:, None] - expected[None]).max(axis=2)
    assert (far.min(axis=0) <= exact).all()
    assert (far.min(axis=1) <= exact).all()


def test_where_there_is_nothing_a_sentence_says_so(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        for what, word in (("picks", "train first"), ("labels", "mark some")):
            said = visit.post("/api/export", 422, what=what, format="star")
            assert word in said["error"]
        assert visit.client.get("/api/exports/picks.star").status_code == 404


def test_links_in_the_export_folder_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.star").write_text("secret")
    with open_app(tmp_path) as visit:
        (tmp_path / "project/export/picks.star").symlink_to(tmp_path / "secret.star")
        assert visit.client.get("/api/exports/picks.star").status_code == 404
        (tmp_path / "project/picks").mkdir()
        (tmp_path / "project/picks/report.html").symlink_to(tmp_path / "secret.star")
        assert visit.client.get("/report/report.html").status_code == 404


#: Stands for `heliodor`: says what it was told, and picks as told by the file beside it.
_PICKER = textwrap.dedent(
    """
    import json, sys, time
    from pathlib import Path
    words = sys.argv[1:]
    out = Path(words[words.index("-o") + 1])
    out.mkdir(exist_ok=True)
    Path("told.json").write_text(json.dumps(words))
    orders = json.loads(Path("orders.json").read_text())
    journal = (out / ".picking.jsonl").open("w")
    journal.write('{"form": 4}\\n{"begun": ["a", false]}\\n')
    for number in range(orders["micrographs"]):
        journal.write('{"micrograph": "%d", "candidates": "%s"}\\n' % (number, "x" * 100_000))
        journal.flush()
    print("picking: on the way", file=sys.stderr, flush=True)
    while orders["wait"] and not Path("go").exists():
        time.sleep(0.02)
    if orders["code"] == 0:
        (out / "report.html").write_text("<title>report</title>")
        (out / "run.json").write_text("{}")
    print("heliodor: the end", file=sys.stderr, flush=True)
    sys.exit(orders["code"])
    """
)


@pytest.fixture
def picker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picker.py").write_text(_PICKER)
    return [sys.executable, str(tmp_path / "picker.py")]


def _orders(micrographs: int = 2, wait: bool = True, code: int = 0) -> None:
    orders = {"micrographs": micrographs, "wait": wait, "code": code}
    Path("orders.json").write_text(json.dumps(orders))


def test_the_whole_run_is_told_what_the_room_knows(tmp_path: Path, picker: list[str]) -> None:
    with open_app(tmp_path) as visit:
        run = visit.state.batch_run = BatchRun(visit.state.project, 2, picker)
        _orders()
        visit.post("/api/settings", threshold=-1.5)
        assert visit.post("/api/run", 202)["state"] == "running"
        assert "already" in visit.post("/api/run", 409)["error"]
        news = visit.until(lambda news: news["run"]["done"] == 2)
        assert (news["run"]["of"], news["run"]["report"]) == (3, None)
        visit.until(lambda news: news["run"]["says"] == "picking: on the way")
        Path("go").touch()
        news = visit.until(lambda news: news["run"]["state"] != "running")
        assert news["run"]["state"] == "done"
        page = visit.client.get(news["run"]["report"])
        assert page.headers["content-type"].startswith("text/html")
        assert "sandbox" in page.headers["content-security-policy"]
        words = json.loads(Path("told.json").read_text())
        assert words[0] == "pick"
        assert words[words.index("--micrographs") + 1 :] == [str(tmp_path / "mics")]
        assert words[words.index("--diameter") + 1] == "120.0"
        assert "--threshold=-1.5" in words
        assert "--model" not in words
        visit.state.project.change(model=3, threshold=None)
        run.start()
        run._watcher.join(60)  # type: ignore[union-attr]
        words = json.loads(Path("told.json").read_text())
        assert words[words.index("--model") + 1].endswith("models/0003.safetensors")
        assert not {"--diameter"} & {*words}
        assert not [word for word in words if word.startswith("--threshold")]


def test_a_run_that_fails_says_why_and_one_that_is_stopped_does_not(
    tmp_path: Path, picker: list[str]
) -> None:
    with open_app(tmp_path) as visit:
        visit.state.batch_run = BatchRun(visit.state.project, 2, picker)
        _orders(wait=False, code=2)
        visit.post("/api/run", 202)
        news = visit.until(lambda news: news["run"]["state"] != "running")
        assert (news["run"]["state"], news["run"]["says"]) == ("failed", "heliodor: the end")
        _orders()
        visit.post("/api/run", 202)
        visit.until(lambda news: news["run"]["done"] == 2)
        visit.post("/api/run/cancel")
        news = visit.until(lambda news: news["run"]["state"] != "running")
        assert news["run"]["state"] == "cancelled"
        visit.post("/api/run", 202)
        process = visit.state.batch_run._process
    assert process is not None
    assert process.poll() is not None  # it ended with the room


def test_names_without_end_go_into_a_list(tmp_path: Path, picker: list[str]) -> None:
    with open_app(tmp_path) as visit:
        many = tuple(f"{tmp_path}/mics/mic {i % 3}.mrc" for i in range(2000))
        visit.state.project.change(inputs=many)
        visit.state.batch_run = BatchRun(visit.state.project, 2, picker)
        _orders(wait=False)
        visit.post("/api/run", 202)
        visit.until(lambda news: news["run"]["state"] == "done")
        words = json.loads(Path("told.json").read_text())
        listed = words[words.index("--micrographs") + 1]
        assert tuple(Path(listed.removeprefix("@")).read_text().splitlines()) == many


def test_a_run_ends_with_the_server_that_was_killed(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics", 40)
    command = [
        sys.executable,
        "-m",
        "heliodor.app.server.child_process",
        "pick",
        "--diameter",
        "120",
    ]
    command += ["-o", str(tmp_path / "picks"), "--micrographs", str(tmp_path / "mics")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        assert "picking 40" in process.stderr.readline()
        process.stdin.close()  # as a server's pipe is when it is killed
        assert process.wait(60) == 128 + signal.SIGTERM
        assert "what was done is kept" in process.stderr.read()


def test_only_pages_pictures_and_tables_of_a_run_are_shown(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        picks = tmp_path / "project/picks"
        (picks / "below").mkdir(parents=True)
        for name in ("report.html", "run.json", ".hidden.html", "below/a.png", "picks.tsv"):
            (picks / name).write_text("x")
        shown = {
            name: visit.client.get(f"/report/{name}").status_code
            for name in ("report.html", "below/a.png", "picks.tsv", "run.json", ".hidden.html",
                         "below//a.png", "")
        }  # fmt: skip
        assert [*shown.values()] == [200, 200, 200, 404, 404, 404, 404]


@pytest.mark.slow
def test_the_whole_run_picks_with_the_general_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_app(tmp_path) as visit:
        visit.post("/api/run", 202)
        news = visit.until(lambda news: news["run"]["state"] != "running", 300)
        assert news["run"]["state"] == "done", news["run"]
        assert news["run"]["done"] == 3
        read = read_picks(tmp_path / "project/picks/picks.tsv", candidates=True)
        assert {*read.micrographs} <= {source.name for source in visit.state.sources}
