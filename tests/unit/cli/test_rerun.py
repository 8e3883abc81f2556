"""``heliodor rerun`` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.cli import call, done
from helpers.shell_jobs import MODEL


@pytest.mark.usefixtures("no_report")
def test_a_record_is_enough_to_run_it_again(
    brief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = done("rerun", brief / "run.json", "-o", "again").err
    assert "model.safetensors is identical to that of the first run" in said
    assert "picks.tsv is identical to that of the first run" in said
    for name in (MODEL, "picks.tsv", "micrographs.tsv", "evaluation.json", "curve.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (brief / name).read_bytes()


def test_what_is_no_record_is_not_run_again(outcome: Path, tmp_path: Path) -> None:
    record = json.loads((outcome / "run.json").read_text())
    for change, words in (
        ({"command": "evaluate"}, "only those of train, pick, run can be repeated"),
        ({"directory": str(tmp_path / "gone")}, "which does not exist"),
        ({"arguments": {}}, "which this version needs"),
        ({"directory": ""}, "which does not exist"),
        ({"directory": "/" + 300 * "x"}, "which does not exist"),
        ({"directory": 3}, "has an invalid value of directory: 3"),
        ({"digests": {"/etc/passwd": "ab"}}, "are not those of the results"),
        ({"threads": 10**9}, "at most 4096"),
        ({"arguments": record["arguments"] | {"width": 1.5}}, "invalid value of width: 1.5"),
        (
            {"arguments": record["arguments"] | {"micrographs": ["a", 3]}},
            "invalid value of micrographs: [",
        ),
        ({"arguments": record["arguments"] | {"labels": "a\0"}}, "invalid value of labels: "),
        ({"arguments": record["arguments"] | {"seed": True}}, "invalid value of seed: True"),
        ({"versions": 3}, "has an invalid value of versions: 3"),
    ):
        (tmp_path / "run.json").write_text(json.dumps(record | change))
        assert words in call("rerun", tmp_path / "run.json", "-o", tmp_path / "out").sentence
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert (
        "not a run.json" in call("rerun", tmp_path / "run.json", "-o", tmp_path / "out").sentence
    )
    same = call("rerun", outcome / "run.json", "-o", outcome).sentence
    assert "give another folder with -o" in same
