from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.reconstruction.programs import Command, RelionPrograms
from heliodor.reconstruction.steps import LOG, RECORD, Step, is_finished, run_steps


@pytest.fixture
def programs(tmp_path: Path) -> RelionPrograms:
    path = tmp_path / "run_words"
    path.write_text('#!/bin/sh\necho "$1" >> calls\neval "$1"\n')
    path.chmod(0o755)
    return RelionPrograms({"sh": str(path)}, "3.1.3")


def step(name: str, *words: str, **more: object) -> Step:
    commands = tuple(Command("sh", (each,), ()) for each in words)
    return Step(name, commands, **more)  # type: ignore[arg-type]


def calls(work: Path) -> list[str]:
    return (work / "calls").read_text().splitlines()


def test_finished_steps_are_not_done_again(tmp_path: Path, programs: RelionPrograms) -> None:
    steps = [step("a", "echo 1 > a/out"), step("b/1", "echo 2 > b/1/out")]
    seen: list[tuple[int, int]] = []
    run_steps(tmp_path, steps, programs, 2, lambda *progress: seen.append(progress))
    assert seen == [(1, 2), (2, 2)]
    assert all(is_finished(tmp_path, each) for each in steps)
    run_steps(tmp_path, steps, programs)
    assert len(calls(tmp_path)) == 2
    assert (tmp_path / "b/1/out").read_text() == "2\n"


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"in": "y"}},
        {"depends": ("other",)},
        {"commands": (Command("sh", ("cat a/in; true",), ()),)},
    ],
)
def test_a_step_is_done_again_if_what_it_follows_from_changes(
    tmp_path: Path, programs: RelionPrograms, changed: dict[str, object]
) -> None:
    first = step("a", "cat a/in > a/out", files={"in": "x"})
    run_steps(tmp_path, [first], programs)
    other = replace(first, **changed)  # type: ignore[arg-type]
    assert not is_finished(tmp_path, other)
    run_steps(tmp_path, [other], programs)
    assert is_finished(tmp_path, other)
    assert not is_finished(tmp_path, first)
    assert len(calls(tmp_path)) == 2


def test_a_step_that_failed_begins_with_an_empty_folder(
    tmp_path: Path, programs: RelionPrograms
) -> None:
    bad = step("a", "touch a/half; mkdir a/more; false")
    with pytest.raises(BadInput):
        run_steps(tmp_path, [bad], programs)
    assert not is_finished(tmp_path, bad)
    good = step("a", "ls a > a/seen")
    run_steps(tmp_path, [good], programs)
    assert (tmp_path / "a/seen").read_text().split() == [LOG, "seen"]


def test_only_what_is_needed_remains(tmp_path: Path, programs: RelionPrograms) -> None:
    own = step("a", "touch a/big a/map", files={"in": "x"}, keep=frozenset({"map"}))
    run_steps(tmp_path, [own], programs)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"map", "in", LOG, RECORD}


def test_a_damaged_record_is_no_record(tmp_path: Path, programs: RelionPrograms) -> None:
    own = step("a", "true")
    run_steps(tmp_path, [own], programs)
    (tmp_path / own.path(RECORD)).write_text('["')
    assert not is_finished(tmp_path, own)
