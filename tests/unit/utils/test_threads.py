from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heliodor.errors import BadInput
from heliodor.utils import threads
from heliodor.utils.compute import set_threads
from heliodor.utils.threads import usable_cpus


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch):
    """Stand for a node of 64 cores, all of them this process's own."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    for variable in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)


def test_affinity(monkeypatch):
    assert usable_cpus() == 64
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {3, 5})
    assert usable_cpus() == 2


def test_without_affinity(monkeypatch):
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    assert usable_cpus() == 8
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


@pytest.mark.parametrize(("quota", "cpus"), [(4.0, 4), (2.7, 2), (0.5, 1), (200.0, 64)])
def test_the_quota_of_a_container(monkeypatch, quota, cpus):
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: quota)
    assert usable_cpus() == cpus


@pytest.mark.parametrize("variable", ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"])
@pytest.mark.parametrize(
    ("value", "cpus"), [("4", 4), ("100", 64), ("0", 64), ("", 64), ("all", 64), ("-2", 64)]
)
def test_the_share_of_a_job(monkeypatch, variable, value, cpus):
    monkeypatch.setenv(variable, value)
    assert usable_cpus() == cpus


def test_the_least_of_all_counts(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 7.0)
    assert usable_cpus() == 6


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", None), ("250000 100000\n", 2.5), ("nonsense", None), (None, None)],
)
def test_reading_the_quota(monkeypatch, tmp_path, text, quota):
    monkeypatch.undo()
    path = tmp_path / "cpu.max"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(threads, "Path", lambda _: Path(path))
    assert threads._cgroup_quota() == quota


def test_set_threads(monkeypatch):
    before = torch.get_num_threads()
    try:
        assert set_threads(2) == torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert set_threads() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_more_threads_than_any_computer_has():
    with pytest.raises(BadInput, match="at most 4096"):
        threads.resolve_threads(10**9)


@pytest.mark.parametrize("number", [0, -1])
def test_fewer_than_one_thread(number):
    with pytest.raises(BadInput, match="at least 1"):
        set_threads(number)


def test_linear_algebra_keeps_to_one_thread_unless_told_otherwise() -> None:
    """NumPy reads it as it is imported, so no program may have imported it before."""
    call = (
        "import sys, os; from {0} import main; assert 'numpy' not in sys.modules\ntry: main({1})"
    )
    call += "\nexcept SystemExit: pass\nprint(os.environ['OPENBLAS_NUM_THREADS'])"
    for module, given in (
        ("heliodor.cli.main", ""),
        ("heliodor.integrations.topaz.main", "['--version']"),
    ):
        for set_to, wanted in ((None, "1"), ("3", "3")):
            own = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
            own |= {} if set_to is None else {"OPENBLAS_NUM_THREADS": set_to}
            command = [sys.executable, "-c", call.format(module, given), "--version"]
            said = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
            assert said.stdout.split()[-1] == wanted
