"""Exports in every format, and picking all micrographs."""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heliodor.data.coordinates.formats import read_picks
from heliodor.data.coordinates.writers import FORMATS
from heliodor.data.micrographs.micrograph import write_mrc
from helpers.app import (
    DIAMETER,
    HEIGHT,
    WIDTH,
    AppVisit,
    micrographs,
    open_app,
)
from helpers.cli import done
from helpers.fake_engine import BEST, places
from helpers.fake_slurm import write_slurm

AT = places((HEIGHT, WIDTH))


def _fetch(visit: AppVisit, what: str, name: str, folder: Path) -> list[Path]:
    """Export, fetch, and return the files."""
    file = visit.post("/api/export", what=what, format=name)["file"]
    answer = visit.client.get(f"/api/exports/{file}")
    assert answer.status_code == 200
    assert file in answer.headers["content-disposition"]
    folder.mkdir(exist_ok=True)
    if not file.endswith(".zip"):
        (folder / file).write_bytes(answer.content)
        return [folder / file]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(folder)
        return [folder / name for name in archive.namelist() if "/" in name]


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
        np.testing.assert_allclose(first.xy_px, [(700, 30), *AT[2:4]], atol=0.01)
        np.testing.assert_allclose(first.score, [BEST, BEST - 2, BEST - 3])
        np.testing.assert_allclose(second.xy_px, [AT[0], AT[8], *AT[2:4]], atol=0.01)
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
        failed = [{"micrograph": "mic 2.mrc", "reason": "damaged"}] if orders["fail"] else []
        counts = {"mic 0.mrc": 7, "mic 1.mrc": 9}
        record = {"failed": failed, "picks_per_micrograph": counts, "picks": 16}
        record |= {"threshold": -1.5, "started": "2026-01-02T03:04:05+00:00"}
        (out / "run.json").write_text(json.dumps(record))
    print("heliodor: the end", file=sys.stderr, flush=True)
    sys.exit(orders["code"])
    """
)


@pytest.fixture
def picker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picker.py").write_text(_PICKER)
    return [sys.executable, str(tmp_path / "picker.py")]


def _orders(micrographs: int = 2, wait: bool = True, code: int = 0, fail: bool = False) -> None:
    orders = {"micrographs": micrographs, "wait": wait, "code": code, "fail": fail}
    Path("orders.json").write_text(json.dumps(orders))


def test_the_whole_run_is_told_what_the_room_knows(tmp_path: Path, picker: list[str]) -> None:
    with open_app(tmp_path) as visit:
        run = visit.use_picker(picker)
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


def _run(visit: AppVisit) -> tuple[dict[str, Any], list[str]]:
    """Pick all with the picker; return the state of the run, and what the picker was told."""
    visit.post("/api/run", 202)
    news = visit.until(lambda news: news["run"]["state"] != "running")
    return news["run"], json.loads(Path("told.json").read_text())


def _value(words: list[str], option: str) -> str | None:
    return words[words.index(option) + 1] if option in words else None


def test_a_run_is_told_all_that_the_page_shows(tmp_path: Path, picker: list[str]) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        visit.use_picker(picker)
        _orders(wait=False)
        words = _run(visit)[1]
        # The automatic threshold is settled, so the run gets the one that is shown.
        assert "--threshold=2.5" in words
        assert _value(words, "--app-scores") == str(tmp_path / "project")
        assert not {"--labels", "--negatives", "--exclude", "--mask"} & {*words}
        _mark(visit, 0, float(AT[0, 0]), float(AT[0, 1]), "negative")
        _mark(visit, 1, 30, 40, "particle")
        visit.post("/api/micrographs/2/excluded", excluded=True)
        visit.post("/api/micrographs/1/contamination", ignore=True)
        write_mrc(tmp_path / "mics" / "mic 9.mrc", np.ones((64, 64), np.float32), 4.0)
        words = _run(visit)[1]
        labels, negatives = (read_picks(_value(words, f"--{kind}") or "") for kind in
                             ("labels", "negatives"))  # fmt: skip
        np.testing.assert_allclose(labels.xy_px, [(30, 40)])
        np.testing.assert_allclose(negatives.xy_px, AT[:1], atol=1e-3)
        # What is excluded, and what came later, is left out.
        left_out = Path(_value(words, "--exclude") or "").read_text().splitlines()
        assert [Path(name).name for name in left_out] == ["mic 2.mrc", "mic 9.mrc"]
        masks = [*Path(_value(words, "--mask") or "").rglob("*.png")]
        assert [file.name for file in masks] == ["mic 1.png"]
        with Image.open(masks[0]) as mask:
            assert np.asarray(mask).max() == 0


def test_the_command_for_a_cluster_has_all_that_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _mark(visit, 0, float(AT[0, 0]), float(AT[0, 1]), "negative")
        _mark(visit, 1, 30, 40, "particle")
        visit.post("/api/micrographs/2/excluded", excluded=True)
        command = visit.post("/api/run/command")["command"]
        out = tmp_path / "project/cluster_picks"
        assert json.loads((out / "made_with.json").read_text())["threshold"] == 2.5
    change, _, picking = command.partition(" && ")
    words = shlex.split(picking)
    assert shlex.split(change) == ["cd", os.getcwd()]
    assert words[:2] == ["heliodor", "pick"]
    assert not {"--app-scores", "--threads"} & {*words}
    assert (_value(words, "-o"), _value(words, "--cluster")) == (str(out), "slurm")
    labels, negatives = (read_picks(_value(words, f"--{kind}") or "") for kind in
                         ("labels", "negatives"))  # fmt: skip
    np.testing.assert_allclose(labels.xy_px, [(30, 40)])
    np.testing.assert_allclose(negatives.xy_px, AT[:1], atol=1e-3)
    left_out = Path(_value(words, "--exclude") or "").read_text().splitlines()
    assert [Path(name).name for name in left_out] == ["mic 2.mrc"]
    write_slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text("[cluster]\njobs = 3\n")
    assert "#SBATCH --array=0-2%3" in done(*words[1:], "--dry-run").out


def test_a_finished_run_says_what_failed_and_what_has_changed_since(
    tmp_path: Path, picker: list[str]
) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        visit.use_picker(picker)
        visit.post("/api/settings", threshold=-1.5)
        _orders(wait=False, fail=True)
        run, _ = _run(visit)
        result = run["result"]
        assert (result["picks"], result["picked"], result["micrographs"]) == (16, 2, 3)
        assert result["failed"] == [{"name": "mic 2.mrc", "why": "damaged"}]
        assert (result["model"], result["threshold"]) == (0, -1.5)
        assert result["file"] == str(tmp_path / "project/picks/autopick.star")
        assert run["changes"] == []
        visit.post("/api/settings", threshold=1.0)
        _mark(visit, 0, 9, 9, "particle")
        visit.post("/api/micrographs/1/excluded", excluded=True)
        changes = visit.get("/api/changes", since=0)["run"]["changes"]
        assert changes == [
            "the threshold is 1.00 now", "labels have changed",
            "other micrographs are excluded",
        ]  # fmt: skip
        visit.state.project.change(model=4)
    with open_app(tmp_path) as visit:  # the model is missing, and the result is still there
        run = visit.get("/api/project")["run"]
        assert (run["state"], run["result"]["picks"]) == ("done", 16)
        assert "labels have changed" in run["changes"]


def test_an_export_says_what_made_it_and_what_is_missing(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True, fail=[2], hold=[1]) as visit:
        visit.until(lambda _: visit.get("/api/micrographs")["failed"][2] is not None
                    or visit.get("/api/micrographs")["scored"][0] is not None)  # fmt: skip
        visit.until(lambda _: visit.get("/api/micrographs")["scored"][0] == 0)
        said = visit.post("/api/export", what="picks", format="star")
        made = said["made"]
        assert said["path"] == str(tmp_path / "project/export/picks.star")
        assert (made["picks"], made["model"], made["threshold"]) == (3, 0, 2.5)
        assert made["threshold_is_automatic"]
        beside = json.loads((tmp_path / "project/export/picks_star.json").read_text())
        assert beside == made
        assert [Path(name).name for name in made["not_scored_yet"]][:1] == ["mic 1.mrc"]
        visit.override()
        visit.until(lambda _: visit.get("/api/micrographs")["failed"][2] is not None
                    or visit.get("/api/micrographs")["scored"][2] is not None)  # fmt: skip


def test_picks_of_an_earlier_model_are_marked_in_an_export(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _mark(visit, 0, 30, 40, "particle")
        visit.override(hold=[1])
        visit.post("/api/train", 202)
        visit.until(lambda _: visit.get("/api/micrographs")["scored"][0] == 1)
        older = visit.post("/api/export", what="picks", format="csv")["made"]["of_earlier_models"]
        assert older[0] == {"name": visit.state.name(1), "model": 0}
        visit.override()
        visit.scored(1)


def test_excluded_micrographs_are_in_no_export(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        _mark(visit, 1, 30, 40, "particle")
        visit.post("/api/micrographs/1/excluded", excluded=True)
        (file,) = _fetch(visit, "picks", "star", tmp_path / "out")
        assert {*read_picks(file).micrographs} == {visit.state.name(n) for n in (0, 2)}
        assert "no labels" in visit.post("/api/export", 422, what="labels", format="star")["error"]


def _list_of(text: str) -> list[tuple[str, str]]:
    rows = [line.split() for line in text.splitlines() if "_autopick.star" in line]
    return [(row[0], row[1]) for row in rows]


def test_lists_for_relion_have_the_paths_of_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relion = tmp_path / "relion"
    jobs = relion / "MotionCorr/job002"
    jobs.mkdir(parents=True)
    (relion / "default_pipeline.star").write_text("")
    micrographs(jobs / "mics")
    names = [f"MotionCorr/job002/mics/mic{n}.mrc" for n in range(3)]
    for n in range(3):
        (jobs / f"mics/mic {n}.mrc").rename(relion / names[n])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # the server does not run in the RELION project
    (relion / "mics").symlink_to(jobs / "mics")
    with open_app(relion, with_engine=True) as visit:
        visit.scored()
        assert visit.get("/api/project")["relion_project"] == str(relion)
        said = visit.post("/api/export", what="picks", format="autopick")
        assert said["path"] == str(relion / "project/export/picks_autopick/autopick.star")
        for name, file in _list_of(Path(said["path"]).read_text()):
            assert (relion / name).is_file()
            assert (relion / file).is_file()
            assert not Path(name).is_absolute()
            assert file.startswith("project/export/picks_autopick/")
        archive = visit.client.get(f"/api/exports/{said['file']}").content
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            opened.extractall(elsewhere)
        listed = _list_of((elsewhere / "picks_autopick/autopick.star").read_text())
        assert len(listed) == 3
        assert all((elsewhere / file).is_file() for _, file in listed)
        # Another project may be chosen; everything outside of it has whole paths.
        assert (
            "does not exist"
            in visit.post("/api/settings", 422, relion_project=str(tmp_path / "nowhere"))["error"]
        )
        visit.post("/api/settings", relion_project=str(elsewhere))
        said = visit.post("/api/export", what="picks", format="autopick")
        listed = _list_of(Path(said["path"]).read_text())
        assert all(Path(name).is_absolute() and Path(file).is_file() for name, file in listed)


def test_a_run_that_fails_says_why_and_one_that_is_stopped_does_not(
    tmp_path: Path, picker: list[str]
) -> None:
    with open_app(tmp_path) as visit:
        visit.use_picker(picker)
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
        visit.use_picker(picker)
        _orders(wait=False)
        visit.post("/api/run", 202)
        visit.until(lambda news: news["run"]["state"] == "done")
        words = json.loads(Path("told.json").read_text())
        listed = words[words.index("--micrographs") + 1]
        assert tuple(Path(listed.removeprefix("@")).read_text().splitlines()) == many


@pytest.mark.slow
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


_RUN = {"failed": [], "threshold": 0.5, "started": "now", "picks": 5, "picks_per_micrograph": {}}
_MADE_WITH = {"model": 0, "diameter_angstrom": DIAMETER, "threshold": 0.5}


@pytest.mark.parametrize(
    ("run", "made_with"),
    [
        ({"picks": math.inf}, {}), ({"threshold": math.nan}, {}), ({"threshold": 10**400}, {}),
        ({"started": "\ud800"}, {}), ({"failed": [5]}, {}), ({"picks_per_micrograph": 5}, {}),
        ({}, {"date": math.nan}), ({}, {"model": "\ud800"}), ({}, {"other": math.inf}),
    ],
)  # fmt: skip
def test_damaged_records_of_a_run_are_as_none(
    tmp_path: Path, run: dict[str, Any], made_with: dict[str, Any]
) -> None:
    folder = tmp_path / "project/picks"
    folder.mkdir(parents=True)
    (folder / "made_with.json").write_text(json.dumps(_MADE_WITH | made_with))
    (folder / "run.json").write_text(json.dumps(_RUN | run))
    with open_app(tmp_path) as visit:
        assert visit.get("/api/changes", since=0)["run"]["state"] == "none"


def test_a_run_of_before_is_shown_without_a_diameter(tmp_path: Path) -> None:
    folder = tmp_path / "project/picks"
    folder.mkdir(parents=True)
    (folder / "made_with.json").write_text(json.dumps(_MADE_WITH))
    (folder / "run.json").write_text(json.dumps(_RUN))
    with open_app(tmp_path, diameter=None) as visit:  # project.json was removed
        run = visit.get("/api/changes", since=0)["run"]
        assert (run["state"], run["result"]["picks"]) == ("done", 5)
        assert "the diameter is not set now" in run["changes"]


def test_nothing_is_written_through_links_to_other_folders(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        project = tmp_path / "project"
        (project / "picks").mkdir()
        for link in ("picks/masks", "export/picks_box"):
            (project / link).symlink_to(outside)
            path, body = (
                ("/api/run", {})
                if link == "picks/masks"
                else ("/api/export", {"what": "picks", "format": "box"})
            )
            assert f"{link} is a symbolic link" in visit.post(path, 422, **body)["error"]
            assert [file.name for file in outside.iterdir()] == ["precious"]
            (project / link).unlink()
        visit.post("/api/export", what="picks", format="box")
