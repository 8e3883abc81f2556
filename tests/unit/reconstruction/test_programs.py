from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from heliodor.errors import BadInput
from heliodor.reconstruction.programs import FOR_CLASSES, FOR_MAPS, Command, RelionPrograms
from helpers.fake_relion import install


def script(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def shell(tmp_path: Path) -> RelionPrograms:
    """Return programs of which `sh` runs its first argument in a shell."""
    return RelionPrograms({"sh": script(tmp_path, "run_words", 'eval "$1"')}, "3.1.3")


def run(tmp_path: Path, *chains: list[tuple[str, tuple[str, ...]]], at_once: int = 1) -> None:
    commands = [[Command("sh", (words,), made) for words, made in chain] for chain in chains]
    logs = [tmp_path / f"log{index}" for index in range(len(chains))]
    shell(tmp_path).run(commands, tmp_path, logs, at_once)


def test_programs_are_found_in_a_folder_and_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(tmp_path / "bin", "5.0.1-commit-8ab5ec")
    found = RelionPrograms.find(folder, (*FOR_CLASSES, *FOR_MAPS))
    assert found.version == "5.0.1-commit-8ab5ec"
    assert set(found.paths) == {*FOR_CLASSES, *FOR_MAPS}
    monkeypatch.setenv("PATH", str(folder))
    assert RelionPrograms.find(None, FOR_CLASSES).paths["relion_refine"] == str(
        folder / "relion_refine"
    )


def test_the_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(tmp_path / "bin", leave_out=("relion_reconstruct",))
    RelionPrograms.find(folder, FOR_CLASSES)
    with pytest.raises(BadInput, match=r"relion_reconstruct is not in .*--relion"):
        RelionPrograms.find(folder, (*FOR_CLASSES, *FOR_MAPS))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="relion_preprocess is not on the PATH"):
        RelionPrograms.find(None, FOR_CLASSES)
    with pytest.raises(BadInput, match="is not a folder"):
        RelionPrograms.find(tmp_path / "none", FOR_CLASSES)


@pytest.mark.parametrize("version", ["3.0.8", "6.0.0", "2.1"])
def test_versions_whose_options_are_not_known_are_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(BadInput, match=f"is of RELION {version}"):
        RelionPrograms.find(install(tmp_path / "bin", version), FOR_CLASSES)


def test_a_program_that_is_not_relion_is_refused(tmp_path: Path) -> None:
    for name in FOR_CLASSES:
        script(tmp_path, name, "echo hello")
    with pytest.raises(BadInput, match="prints no version of RELION, but: hello"):
        RelionPrograms.find(tmp_path, FOR_CLASSES)


def test_commands_of_a_chain_run_in_order_and_leave_a_log(tmp_path: Path) -> None:
    run(tmp_path, [("echo one > a", ("a",)), ("cat a; cp a b", ("b",))])
    assert (tmp_path / "b").read_text() == "one\n"
    log = (tmp_path / "log0").read_text()
    assert "one" in log
    assert "echo one > a" in log


def test_no_more_programs_run_at_a_time_than_asked_for(tmp_path: Path) -> None:
    busy = "mkdir busy && sleep 0.2 && rmdir busy"
    run(tmp_path, *[[(busy, ())] for _ in range(3)])
    with pytest.raises(BadInput, match="exit code 1"):
        run(tmp_path, *[[(busy, ())] for _ in range(3)], at_once=3)


def test_a_failure_names_its_reason_and_ends_the_others(tmp_path: Path) -> None:
    started = time.monotonic()
    other = ("echo $$ > pid; exec sleep 60", ())
    bad = ("sleep 0.5; echo in: ml.cpp, line 3; echo ERROR:; echo no such map; exit 1", ())
    with pytest.raises(BadInput, match=r"exit code 1 \(no such map\).*log1"):
        run(tmp_path, [other], [bad], at_once=2)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_program_that_writes_nothing_has_failed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"did not write its results \(it printed nothing\)"):
        run(tmp_path, [("true", ("map.mrc",))])
