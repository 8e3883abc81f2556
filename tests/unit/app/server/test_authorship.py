"""Who labeled and rejected what: kept beside the labels, never in them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from heliodor.app.server import authorship
from heliodor.app.server.annotations import Annotation
from heliodor.app.server.authorship import NAME, Authorship
from helpers.app import AppVisit, open_app

ONE, TWO = Annotation(1, 2, "particle"), Annotation(3, 4, "negative")


def labels_of(visit: AppVisit, number: int) -> dict[str, tuple[str, str | None]]:
    found = visit.get(f"/api/micrographs/{number}/labels")
    return dict(zip(found["id"], zip(found["kind"], found["by"], strict=True), strict=True))


def test_labels_have_who_and_when_and_their_files_do_not(tmp_path: Path) -> None:
    mark = {"x": 20, "y": 20, "kind": "particle"}
    with open_app(tmp_path) as visit:
        labels = "/api/micrographs/0/labels"
        visit.post(labels, add=[{"id": "a", **mark}], by="  Anna \n B. ")
        visit.post(labels, add=[{"id": "b", **mark}])
        visit.post(labels, add=[{"id": "c", **mark, "kind": "negative"}], by="Émile")
        assert labels_of(visit, 0) == {
            "a": ("particle", "Anna B."), "b": ("particle", None), "c": ("negative", "Émile"),
        }  # fmt: skip
        at = visit.get(labels)["at"]
        assert at[1] is None
        assert 0 <= at[2] - at[0] < 60
        entries = visit.get("/api/history")["entries"]
        assert [(one["by"], one["labeled"], one["rejected"]) for one in entries] == [
            ("Anna B.", 1, 0), ("", 1, 0), ("Émile", 0, 1),
        ]  # fmt: skip
        visit.post(labels, 400, by="x" * 41)
    project = tmp_path / "project"
    for name in ("labels.star", "negatives.star", "project.json", "app.log"):
        text = (project / name).read_text()
        assert "Anna" not in text
        assert "Émile" not in text
    with open_app(tmp_path) as visit:
        assert labels_of(visit, 0)["a"] == ("particle", "Anna B.")


def test_nothing_is_noted_before_somebody_gives_a_name(tmp_path: Path) -> None:
    found = Authorship(tmp_path)
    found.note("", "m.mrc", {"a": ONE}, ())
    assert not (tmp_path / NAME).exists()
    assert found.list_entries() == []


def test_the_author_is_who_changed_a_label_last(tmp_path: Path) -> None:
    found = Authorship(tmp_path)
    found.note("Anna", "m.mrc", {"a": ONE, "b": TWO}, ())
    found.note("Ben", "m.mrc", {"a": ONE}, ["a"])  # it was moved
    found.note("Ben", "m.mrc", {}, ["b"])
    for again in (found, Authorship(tmp_path)):
        author = again.of("a")
        assert author is not None
        assert author.name == "Ben"
        assert again.of("b") is None
        first, second = again.list_entries()
        assert (first["by"], first["labeled"], first["rejected"]) == ("Anna", 1, 1)
        # Two changes shortly after each other are one entry.
        assert (second["by"], second["labeled"], second["removed"]) == ("Ben", 1, 1)


def test_later_changes_are_entries_of_their_own_and_only_the_newest_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(authorship.time, "time", lambda: now)
    found = Authorship(tmp_path)
    for number in range(250):
        now += 100
        found.note("Anna", "m.mrc", {str(number): ONE}, ())
    entries = found.list_entries()
    assert len(entries) == authorship.SHOWN
    assert entries[-1]["at"] == now
    author = found.of("0")
    assert author is not None
    assert author.at == 1100


def test_damaged_lines_and_links_are_left_out(tmp_path: Path) -> None:
    Authorship(tmp_path).note("Anna", "m.mrc", {"a": ONE}, ())
    with (tmp_path / NAME).open("a") as stream:
        stream.write("[" * 100_000 + "\n")
        whole = {
            "at": 1,
            "by": "Cleo",
            "micrograph": "m.mrc",
            "add": {"c": "particle"},
            "remove": [],
        }
        for wrong in ({"at": math.nan}, {"at": math.inf}, {"by": "\ud800"}):
            stream.write(json.dumps(whole | wrong) + "\n")
        stream.write('[1]\n{"at": "x"}\n{"at": 1, "by": "Ben", "micro')
    found = Authorship(tmp_path)
    assert [entry["by"] for entry in found.list_entries()] == ["Anna"]
    found.note("Ben", "m.mrc", {"b": ONE}, ())
    author = Authorship(tmp_path).of("b")
    assert author is not None
    assert author.name == "Ben"
    other = tmp_path / "other"
    other.write_text(json.dumps({"at": 1}))
    (tmp_path / NAME).unlink()
    os.symlink(other, tmp_path / NAME)
    Authorship(tmp_path).note("Anna", "m.mrc", {"a": ONE}, ())
    assert other.read_text() == '{"at": 1}'
