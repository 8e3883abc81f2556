"""Submitting the picking of all micrographs to a cluster, and following the jobs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from heliodor.app.server.cluster_run import COMMAND, ClusterRun
from heliodor.data.filaments.filament import Filament, Filaments
from heliodor.data.filaments.writers import render_filaments
from heliodor.picking.contamination import ContaminationMask
from helpers.app import PIXEL_SIZE, AppVisit, open_app
from helpers.fake_slurm import HOLD, write_slurm

#: Does as `heliodor pick --cluster slurm` and `heliodor status` do; keeps its arguments.
HELIODOR = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (here / "calls").open("a") as stream:
    stream.write(json.dumps(words) + "\\n")
if (here / "trouble").exists():
    sys.stderr.write("note: something\\nheliodor: there is no SLURM on this computer\\n")
    sys.exit(2)
if words[0] == "pick":
    note = pathlib.Path(words[words.index("-o") + 1], ".picking", "submitted.json")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
else:
    step = {"name": "picking", "jobs": ["17_0", "17_1"], "waiting": 2, "running": 0, "ended": 0,
            "reasons": ["Priority"]}
    print(json.dumps({
        "state": (here / "state").read_text(), "micrographs": 3, "done": 1, "failed": 0,
        "remaining": 2, "micrographs_per_hour": 99.7, "submission": {"steps": [step]},
    }))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "heliodor.py").write_text(HELIODOR)
    (tmp_path / "state").write_text("submitted")
    return [sys.executable, str(tmp_path / "heliodor.py")]


def use_cluster(visit: AppVisit, command: list[str], is_configured: bool = True) -> ClusterRun:
    state = visit.state
    state.cluster_run = ClusterRun(
        state.project.folder, is_configured, state.activity.write, command
    )
    return state.cluster_run


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_jobs_are_submitted_once_and_followed(tmp_path: Path, command: list[str]) -> None:
    with open_app(tmp_path) as visit:
        use_cluster(visit, command)
        assert visit.get("/api/project")["can_submit"] is True
        assert visit.get("/api/run/cluster") == {"state": None, "text": "", "active": False}
        status = visit.post("/api/run/submit", status=202)
        folder = tmp_path / "project/cluster_picks"
        assert (status["state"], status["active"]) == ("submitted", True)
        assert status["text"].splitlines() == [
            f"{folder}: submitted", "1 of 3 micrographs done, 0 failed, 2 remaining",
            "100 micrographs per hour",
            "picking: job 17, 2 processes: 2 waiting (Priority), 0 running, 0 ended",
        ]  # fmt: skip
        assert visit.get("/api/run/cluster") == status
        # The same command as the one to be copied.
        pick, status_words = calls(tmp_path)
        assert status_words == ["status", "--json", str(folder)]
        copied = visit.post("/api/run/command")["command"]
        assert all(word in copied for word in pick)
        assert "--cluster slurm" in copied
        said = visit.post("/api/run/submit", status=409)["error"]
        assert f"heliodor cancel {folder}" in said
        assert [words[0] for words in calls(tmp_path)].count("pick") == 1
        (tmp_path / "state").write_text("finished")
        assert visit.post("/api/run/submit", status=202)["active"] is False
        assert [words[0] for words in calls(tmp_path)].count("pick") == 2
        assert any("submitted to the cluster" in line for line in visit.get("/api/log")["lines"])


def test_why_jobs_cannot_be_submitted_is_one_message(tmp_path: Path, command: list[str]) -> None:
    with open_app(tmp_path) as visit:
        use_cluster(visit, command)
        (tmp_path / "trouble").touch()
        said = visit.post("/api/run/submit", status=422)["error"]
        assert said == "there is no SLURM on this computer"
        assert visit.get("/api/run/cluster")["state"] is None
        (tmp_path / "trouble").unlink()
        visit.post("/api/run/submit", status=202)
        (tmp_path / "trouble").touch()
        visit.state.cluster_run.status(fresh=True)
        status = visit.get("/api/run/cluster")
        assert (status["state"], status["text"]) == (
            "unknown", "there is no SLURM on this computer",
        )  # fmt: skip


def test_only_one_request_waits_for_the_scheduler(tmp_path: Path, command: list[str]) -> None:
    """Otherwise many readers could keep the threads that save labels."""
    with open_app(tmp_path) as visit:
        run = use_cluster(visit, command)
        visit.post("/api/run/submit", status=202)
        known = run.status()
        with run._asking:  # as while another thread asks
            assert run.status() is known
        fresh = use_cluster(visit, command)
        with fresh._asking:
            assert visit.get("/api/run/cluster")["text"] == "asking the scheduler"
        assert visit.get("/api/run/cluster") == known


def test_without_a_configured_cluster_nothing_is_submitted(
    tmp_path: Path, command: list[str]
) -> None:
    with open_app(tmp_path) as visit:
        use_cluster(visit, command, is_configured=False)
        assert visit.get("/api/project")["can_submit"] is False
        assert "heliodor.toml" in visit.post("/api/run/submit", status=409)["error"]
        assert not (tmp_path / "calls").exists()


def test_the_command_line_says_whether_a_cluster_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heliodor.cli.app import _is_cluster_configured

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text("")
    assert not _is_cluster_configured()
    (tmp_path / "site.toml").write_text("[cluster]\npartition = 'gpu'\n")
    assert _is_cluster_configured()
    (tmp_path / "site.toml").write_text("[cluster]\npartitions = 'gpu'\n")
    assert not _is_cluster_configured()  # the file is wrong, which must not keep the app from it


def test_filaments_are_traced_on_the_cluster_with_what_the_page_shows(
    tmp_path: Path, command: list[str]
) -> None:
    with open_app(tmp_path, diameter=None, filament_width=80.0) as visit:
        run = use_cluster(visit, command)
        visit.post("/api/micrographs/1/excluded", excluded=True)
        visit.post("/api/micrographs/2/contamination", ignore=True)
        copied = visit.post("/api/filaments/command", threshold=0.5, min_length=300.0)["command"]
        status = visit.post("/api/filaments/submit", 202, threshold=0.5, min_length=300.0)
        folder = tmp_path / "project/cluster_picks"
        assert (status["state"], status["active"]) == ("submitted", True)
        assert run.status() == status
        pick = calls(tmp_path)[0]
        assert all(word in copied for word in pick)
        for words in (
            ["pick", "--filaments", "--report"], ["-o", str(folder)], ["--cluster", "slurm"],
            ["--width", "80.0"], ["--threshold=0.5"], ["--min-length", "300.0"],
            ["--mask", str(folder / "masks")], ["--bad-area-masks"],
        ):  # fmt: skip
            places = [n for n, word in enumerate(pick) if word == words[0]]
            assert any(pick[n : n + len(words)] == words for n in places), words
        assert (folder / "excluded.txt").read_text().splitlines() == [visit.state.name(1)]
        assert "have not ended" in visit.post("/api/filaments/submit", 409)["error"]
        # What the cluster has traced is shown, with the contamination that was detected.
        name, source = visit.state.name(0), visit.state.sources[0]
        mask = folder / "bad_areas" / f"{source.output_stem}.png"
        mask.parent.mkdir(parents=True)
        ContaminationMask(np.ones((3, 4), bool), 200.0 * PIXEL_SIZE, 1.0).write(mask)
        axis = np.linspace((100.0, 100.0), (600.0, 100.0), 9)
        table = Filaments((name,), (Filament(name, axis, 1, 80.0),), {name: PIXEL_SIZE})
        (folder / "filaments.star").write_text(render_filaments(table))
        assert visit.get("/api/filaments")["traced"] == [1, 0, 0]
        assert visit.get("/api/micrographs")["quality"] == [0.0, None, None]
        made = visit.post("/api/filaments/export", format="filaments")
        assert (made["filaments"], made["micrographs"]) == (1, 1)


def test_filaments_are_not_submitted_without_a_configured_cluster(
    tmp_path: Path, command: list[str]
) -> None:
    with open_app(tmp_path, diameter=None, filament_width=80.0) as visit:
        use_cluster(visit, command, is_configured=False)
        assert "heliodor.toml" in visit.post("/api/filaments/submit", 409)["error"]
        assert not (tmp_path / "calls").exists()
    other = tmp_path / "particles"
    other.mkdir()
    with open_app(other) as visit:
        assert "project of particles" in visit.post("/api/filaments/submit", 409)["error"]


@pytest.mark.slow
def test_jobs_of_slurm_are_shown_as_status_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slurm(tmp_path / "bin")
    (tmp_path / "bin" / HOLD).touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text("[cluster]\njobs = 3\n")
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        use_cluster(visit, [*COMMAND])
        status = visit.post("/api/run/submit", status=202)
        assert status["state"] == "submitted"
        said = "picking: job 17, 3 processes: 3 waiting (Resources), 0 running, 0 ended"
        assert said in status["text"].splitlines()
        assert "have not ended" in visit.post("/api/run/submit", status=409)["error"]
