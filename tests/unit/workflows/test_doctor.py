from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from heliodor.utils import threads
from heliodor.workflows import doctor
from heliodor.workflows.doctor import Finding, examine, render_findings
from helpers.cli import call


def find(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_the_command_shows_what_is_there() -> None:
    done = call("doctor")
    assert done.code in (0, 1)
    for word in ("Python", "torch", "threads", "million working pixels per second", "RELION"):
        assert word in done.out
    assert done.out.endswith("Nothing is wrong.\n") == (done.code == 0)


def test_json_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TEST_SIDE", 64)
    done = call("doctor", "--json")
    found = json.loads(done.out)
    assert found["findings"][0]["name"] == "heliodor"
    assert found["problems"] == sum(bool(row["problem"]) for row in found["findings"])
    assert (found["problems"] > 0) == (done.code == 1)


def test_a_gpu_that_pytorch_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TEST_SIDE", 64)
    monkeypatch.setattr(doctor, "_has_nvidia_device", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for built_for, words in ((None, "install a PyTorch with CUDA"), ("12.4", "CUDA_VISIBLE_DEV")):
        monkeypatch.setattr(torch.version, "cuda", built_for)
        findings = examine(0.0)
        assert words in find(findings, "cuda").problem
        text = render_findings(findings)
        assert "What is wrong\n- cuda: " in text
        assert "\n! cuda" in text


def test_little_memory_and_a_folder_that_cannot_be_written_are_problems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "TEST_SIDE", 64)
    monkeypatch.setattr(doctor, "_available_memory_gb", lambda: 1.5)
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "missing"))
    findings = examine(0.0)
    assert "less than 3 GB are free" in find(findings, "memory available").problem
    assert "cannot be written (No such file" in find(findings, "temporary files").problem


def test_damaged_models_of_a_user_and_of_the_site_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "TEST_SIDE", 64)
    monkeypatch.setenv("HELIODOR_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("HELIODOR_SITE_MODELS", os.pathsep.join([str(tmp_path / "site"), "x"]))
    for folder in ("own", "site"):
        (tmp_path / folder).mkdir()
    (tmp_path / "site" / "virus.safetensors").write_bytes(b"damaged")
    findings = examine(0.0)
    assert "virus.safetensors" in find(findings, "virus").problem
    shown = [f.value for f in findings if f.name == "models of the site"]
    assert shown == [f"1 in {tmp_path / 'site'}", "0 in x (no such folder)"]


@pytest.mark.parametrize(
    ("variables", "count", "words"),
    [
        ({}, 8, ["CPUs of this process: 8"]),
        ({"SLURM_CPUS_PER_TASK": "3"}, 3, ["CPUs of this process: 8", "SLURM_CPUS_PER_TASK = 3"]),
        ({"OMP_NUM_THREADS": "99"}, 8, ["CPUs of this process: 8", "OMP_NUM_THREADS = 99"]),
    ],
)
def test_the_number_of_threads_is_explained(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], count: int, words: list[str]
) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    assert threads.usable_cpus() == count
    assert threads.explain_usable_cpus() == words


def test_a_tool_on_the_path_is_shown_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "relion_preprocess"
    tool.write_text("#!/bin/sh\necho RELION version: 3.1.3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found: list[Any] = list(doctor._examine_tools())
    assert find(found, "RELION").value == f"{tool} (RELION version: 3.1.3)"


def test_the_files_of_settings_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "TEST_SIDE", 64)
    monkeypatch.setenv("HELIODOR_CONFIG", str(tmp_path / "site.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "site.toml").write_text('[cluster]\npartition = "gpu"\n')
    findings = examine(0.0)
    site, user = (find(findings, f"those of the {owner}") for owner in ("site", "user"))
    assert (site.value, site.problem) == (f"{tmp_path / 'site.toml'} (partition = gpu)", "")
    assert user.value == f"{tmp_path / 'heliodor/heliodor.toml'} (no such file)"
    (tmp_path / "site.toml").write_text("[cluster]\nqueue = 1\n")
    assert "unknown key 'queue'" in find(examine(0.0), "those of the site").problem
