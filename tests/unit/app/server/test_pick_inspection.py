"""Averages and groups of the picks."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliodor.app.candidates import read_candidates, write_candidates
from heliodor.app.server import pick_inspection
from helpers.app import HEIGHT, WIDTH, open_app
from helpers.fake_engine import places

AT = places((HEIGHT, WIDTH))


def test_the_picks_are_averaged_and_each_is_in_one_group(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        mark = {"x": float(AT[0, 0]), "y": float(AT[0, 1])}
        visit.post("/api/micrographs/0/labels", add=[{"id": "a", "kind": "negative", **mark}])
        visit.post("/api/micrographs/1/labels", add=[{"id": "b", "kind": "particle", **mark}])
        found = visit.get("/api/inspection")
        # Candidates 0, 2 and 3 of each micrograph are picks, but one was rejected.
        assert found["total"] == found["drawn"] == 8
        assert found["micrographs"] == 3
        members = [one for group in found["groups"] for one in group["members"]]
        where = {(one["micrograph"], round(one["x"])) for one in members}
        assert where == {
            (n, round(AT[i, 0])) for n in range(3) for i in (0, 2, 3) if (n, i) != (0, 0)
        }
        assert len(members) == 8
        labeled = [one["micrograph"] for one in members if one["kind"] == "particle"]
        assert labeled == [1]
        sizes = [len(group["members"]) for group in found["groups"]]
        assert sizes == sorted(sizes, reverse=True)


def test_averages_are_of_all_of_bands_and_of_what_is_below(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        found = visit.get("/api/inspection")
        kinds = [one["what"] for one in found["averages"]]
        assert kinds == ["all", "band", "band", "band", "band", "below"]
        for one in found["averages"]:
            gray = np.frombuffer(base64.b64decode(one["gray"]), np.uint8)
            assert gray.size == found["side"] ** 2
            assert (one["low"] >= 2.5) == (one["what"] != "below")
        bands = found["averages"][1:5]
        assert sum(one["count"] for one in bands) == found["averages"][0]["count"] == 9


def test_picks_are_grouped_without_features_that_are_damaged(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        path = tmp_path / "project/scores/1.npz"
        found = read_candidates(path)
        write_candidates(path, replace(found, features=np.full_like(found.features, np.nan)))
        groups = visit.get("/api/inspection")["groups"]
        assert sum(len(group["members"]) for group in groups) == 9


def test_picks_are_grouped_by_all_features_where_all_files_have_them(tmp_path: Path) -> None:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        random = np.random.default_rng(0)
        for number in range(3):
            path = tmp_path / f"project/scores/{number}.npz"
            found = read_candidates(path)
            whole = random.normal(30 * (number == 1), 0.1, (len(found.score), 6))
            noise = random.normal(0, 0.1, (16, 6)).astype(np.float16)
            whole = whole.astype(np.float16)
            found = replace(found, all_features=whole, feature_noise=noise)
            write_candidates(path, found)
        groups = visit.get("/api/inspection")["groups"]
        on = [{one["micrograph"] for one in group["members"]} for group in groups]
        assert on == [{0, 2}, {1}]
        # A file of an earlier version: none of the others' are used.
        write_candidates(path, replace(found, all_features=None, feature_noise=None))
        groups = visit.get("/api/inspection")["groups"]
        assert sum(len(group["members"]) for group in groups) == 9
        assert {1} not in [{one["micrograph"] for one in group["members"]} for group in groups]


def test_as_many_picks_are_drawn_from_each_micrograph_as_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick_inspection, "MAX_PICKS", 6)
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        rejected = [
            {"id": str(i), "kind": "negative", "x": float(AT[i, 0]), "y": float(AT[i, 1])}
            for i in (2, 3)
        ]
        for seed in range(3):
            found = visit.get(f"/api/inspection?seed={seed}")
            assert (found["total"], found["drawn"]) == (9, 6)
            members = [one["micrograph"] for group in found["groups"] for one in group["members"]]
            assert np.bincount(members).tolist() == [2, 2, 2]
        visit.post("/api/micrographs/1/labels", add=rejected)
        found = visit.get("/api/inspection")
        assert (found["total"], found["drawn"]) == (7, 6)
        members = [one["micrograph"] for group in found["groups"] for one in group["members"]]
        assert np.bincount(members)[1] == 1


def test_without_picks_a_sentence_says_so(tmp_path: Path) -> None:
    with open_app(tmp_path) as visit:
        answer = visit.client.get("/api/inspection")
        assert answer.status_code == 422
        assert "no picks yet" in answer.json()["error"]
