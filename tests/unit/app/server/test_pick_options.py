"""What decides which candidates are picks: offsets, the largest FDR, and distances."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from heliodor.data.coordinates.formats import read_picks
from helpers.app import DIAMETER, HEIGHT, WIDTH, AppVisit, open_app
from helpers.fake_engine import BEST, places

AT = places((HEIGHT, WIDTH))


def _words(visit: AppVisit, tmp_path: Path) -> list[str]:
    """Return the arguments with which all would be picked."""
    code = "import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))"
    run = visit.use_picker([sys.executable, "-c", code, str(tmp_path / "words.json")])
    run.start()
    visit.until(lambda _: run.state()["state"] != "running")
    return list(json.loads((tmp_path / "words.json").read_text()))


def test_an_offset_moves_the_threshold_of_one_micrograph(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        visit.post("/api/micrographs/1/offset", offset=1.0)
        visit.post("/api/micrographs/2/offset", offset=-1.0)
        rows = visit.get("/api/micrographs")
        assert rows["offset"] == [0, 1, -1]
        assert rows["picks"] == [3, 2, 4]
        made = visit.post("/api/export", what="picks", format="star")
        names = [visit.state.name(number) for number in range(3)]
        assert made["made"]["threshold_offsets"] == {names[1]: 1.0, names[2]: -1.0}
        picks = dict(read_picks(made["path"]).split_by_micrograph())
        assert [len(picks[name]) for name in names] == [3, 2, 4]
        assert picks[names[1]].score.max() == pytest.approx(BEST - 1)
        words = _words(visit, tmp_path)
        listed = Path(words[words.index("--threshold-offsets") + 1]).read_text()
        assert listed == f"1.0\t{names[1]}\n-1.0\t{names[2]}\n"
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        assert visit.get("/api/micrographs")["picks"] == [3, 2, 4]
        visit.post("/api/micrographs/1/offset", offset=0.0)
        assert visit.get("/api/micrographs")["picks"] == [3, 3, 4]


def test_distances_have_everything_scored_again_and_reach_the_run(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "project/scores").iterdir()}
        said = visit.post("/api/settings", exclusion_radius=80.0, edge_margin=25.0)
        assert (said["exclusion_radius"], said["edge_margin"]) == (80.0, 25.0)
        visit.scored()
        after = {p: p.stat().st_mtime_ns for p in (tmp_path / "project/scores").iterdir()}
        assert after.keys() == before.keys()
        assert all(after[path] > before[path] for path in after)
        words = _words(visit, tmp_path)
        assert words[words.index("--exclusion-radius") + 1] == "80.0"
        assert words[words.index("--edge-margin") + 1] == "25.0"
        made = json.loads((tmp_path / "project/picks/made_with.json").read_text())
        assert (made["exclusion_radius_angstrom"], made["edge_margin_angstrom"]) == (80, 25)
        # The same again changes nothing.
        revision = visit.get("/api/changes", since=0)["revision"]
        visit.post("/api/settings", edge_margin=25.0)
        assert visit.get("/api/changes", since=0)["revision"] == revision
    with open_app(tmp_path, diameter=DIAMETER, with_engine=True) as visit:
        visit.scored()
        kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "project/scores").iterdir()}
        assert kept == after


def test_the_largest_fdr_moves_the_automatic_threshold(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        mark = {"id": "a", "x": float(AT[0, 0]), "y": float(AT[0, 1]), "kind": "particle"}
        visit.post("/api/micrographs/0/labels", add=[mark])
        visit.post("/api/train", 202)
        visit.scored(1)
        usual = visit.get("/api/histogram")["automatic"]
        visit.post("/api/settings", max_fdr=0.001)
        strict = visit.get("/api/histogram")["automatic"]
        visit.post("/api/settings", max_fdr=0.6)
        loose = visit.get("/api/histogram")["automatic"]
        assert strict > loose
        assert usual not in (strict, loose)
        rows = visit.get("/api/micrographs")["picks"]
        seen = visit.get("/api/micrographs/0/picks")["score"]
        assert rows[0] == int((np.array(seen) >= loose).sum())
        made = visit.post("/api/export", what="picks", format="star")["made"]
        assert made["threshold_max_fdr"] == 0.6
        assert made["threshold"] == loose
        visit.post("/api/settings", max_fdr=None)
        assert visit.get("/api/histogram")["automatic"] == usual


@pytest.mark.parametrize(
    "body", [{"max_fdr": 0.0}, {"max_fdr": 1.0}, {"edge_margin": -1.0}, {"exclusion_radius": 1e9}]
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, body: dict[str, float]) -> None:
    with open_app(tmp_path) as visit:
        visit.post("/api/settings", 400, **body)
