"""A crash costs a retry; a micrograph that crashes the program every time is one that failed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heliodor.cli import entry
from heliodor.data.micrographs.sources import Source
from heliodor.data.micrographs.working_images import WorkingImage, WorkingImages
from heliodor.integrations.relion.external_job import FAILURE, SUCCESS
from heliodor.models.model_file import save_model
from heliodor.picking.journal import NAME as JOURNAL
from heliodor.utils.crash_recovery import run_supervised
from heliodor.utils.signals import SIGNAL_EXIT_BASE
from helpers.cli import call, done
from helpers.networks import (
    discs,
    model,
    scattered,
    write_mrc,
)

#: Works as the program does, but dies on some micrographs: always, or the first time.
CALL = """
import os, signal, sys
from pathlib import Path
from heliodor.data.micrographs.working_images import WorkingImages
from heliodor.cli.main import main

get = WorkingImages.get

def crashing(self, source):
    once = Path(os.environ["ONCE"])
    if "always" in source.name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "once" in source.name and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return get(self, source)

WorkingImages.get = crashing
main()
"""
GUARD = """
import sys
from heliodor.utils.crash_recovery import run_supervised
sys.exit(run_supervised([sys.executable, "-c", sys.argv[1], *sys.argv[2:]]))
"""
NAMES = ("a", "once", "b", "always", "c", "d")


def tables(folder: Path) -> dict[str, bytes]:
    files = [*folder.rglob("*.star"), *folder.glob("*.tsv")]
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
    return {name: text.replace(str(folder).encode(), b"OUT") for name, text in found.items()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONCE", str(tmp_path / "was"))
    save_model(tmp_path / "m.safetensors", model(normalization={"mode": "standard"}))
    for seed, name in enumerate(NAMES):
        xy = scattered((72, 64), 6, 12, seed)
        write_mrc(tmp_path / f"mics/{name}.mrc", discs((72, 64), xy, seed=seed))
    return tmp_path


def words(out: str, threads: int, *names: str) -> list[str]:
    files = [f"mics/{name}.mrc" for name in names]
    command = ["pick", "--model", "m.safetensors", "--micrographs", *files, "-o", out]
    return [*command, "--threads", str(threads)]


def run(call: str, out: str, threads: int, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", GUARD, call, *words(out, threads, *names)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_crashes_cost_retries_and_one_micrograph(project: Path, threads: int) -> None:
    crashed = run(CALL, "out", threads, *NAMES)
    assert crashed.returncode == 3, crashed.stderr
    assert "killed by SIGSEGV" in crashed.stderr
    assert "killed by SIGKILL (out of memory?)" in crashed.stderr
    with (project / "out/failed.tsv").open() as stream:
        (failed,) = csv.DictReader(stream, delimiter="\t")
    assert failed["micrograph"] == "mics/always.mrc"
    assert "the program crashed on mics/always.mrc" in failed["reason"]
    # The others are as if they had been alone.
    done(*words("calm", 1, *(set(NAMES) - {"always"})))
    own, others = tables(project / "out"), tables(project / "calm")
    stars = {name for name in others if name.endswith("_autopick.star")}
    assert len(stars) == 5
    for name in stars:
        assert own[name] == others[name]
    # It is remembered, and forgotten where the file is another.
    assert run(CALL, "out", threads, *NAMES).stderr.count("died of") == 0
    (project / "mics/always.mrc").write_bytes((project / "mics/a.mrc").read_bytes())
    done(*words("out", threads, *NAMES))


@pytest.mark.slow
def test_a_job_of_relion_is_guarded_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"mics/{name}.mrc\n" for name in ("a", "once", "always"))
    (project / "mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n{rows}")
    words = ["relion", "pick", "--o", "job", "--in_mics", "mics.star", "--j", "1"]
    monkeypatch.setattr(entry, "_RUN", CALL)
    monkeypatch.setattr(sys, "argv", ["heliodor", *words, "--model", "m.safetensors"])
    with pytest.raises(SystemExit) as ended:
        entry.entry()
    assert ended.value.code == 3
    assert "mics/always.mrc\t" in (project / "job/failed.tsv").read_text()
    assert (project / "job" / SUCCESS).exists()
    assert len([*(project / "job").rglob("*_autopick.star")]) == 2


@pytest.mark.slow
def test_a_job_that_always_crashes_is_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "_RUN", "import os; os.kill(os.getpid(), 9)")
    for words in (["relion", "pick", "--o", str(tmp_path / "job")], ["pick", "-o", "out"]):
        monkeypatch.setattr(sys, "argv", ["heliodor", *words])
        with pytest.raises(SystemExit) as ended:
            entry.entry()
        assert ended.value.code == 128 + signal.SIGKILL
    assert [path.name for path in (tmp_path / "job").iterdir()] == [FAILURE]


def test_exit_codes_and_signals_pass_through(tmp_path: Path) -> None:
    assert run_supervised([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    release = "from heliodor.utils.signals import release_signals; release_signals(); "
    command = release + "import os; os.kill(os.getpid(), 15)"
    assert run_supervised([sys.executable, "-c", command]) == 128 + signal.SIGTERM
    waits = release + "import time, pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    waits += "; time.sleep(60)"
    there = tmp_path / "there"
    guard = subprocess.Popen([sys.executable, "-c", GUARD, waits, str(there)])
    limit = time.monotonic() + 60
    while not there.exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(60) == 128 + signal.SIGTERM


#: Records when it starts and when it can handle signals; then it waits for them.
LISTENING = """
import sys, time
from pathlib import Path
from heliodor.utils.signals import Stopped, handle_signals, take_save_request
folder = Path(sys.argv[1])
(folder / "started").touch()
time.sleep(0.2)
try:
    with handle_signals(restore_after_stop=False):
        (folder / "ready").touch()
        while not take_save_request():
            time.sleep(0.01)
        (folder / "saved").touch()
        time.sleep(60)
except Stopped as stopped:
    time.sleep(0.2)
    print(stopped, file=sys.stderr)
    raise
"""


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["started", "ready"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_at_any_moment_stops_both_processes(tmp_path: Path, name: str, when: str) -> None:
    number = getattr(signal, name)
    command = [sys.executable, "-c", GUARD, LISTENING, str(tmp_path)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as guard:
        wait_for(tmp_path / when)
        if name == "SIGINT":  # as Ctrl-C, to both
            os.killpg(guard.pid, number)
        else:
            guard.send_signal(number)
        _, said = guard.communicate(timeout=30)
    assert said == f"stopped by {name}\n"
    assert guard.returncode == SIGNAL_EXIT_BASE + number


@pytest.mark.parametrize("when", ["started", "ready"])
def test_a_request_to_save_is_not_lost_and_one_process_can_be_interrupted(
    tmp_path: Path, when: str
) -> None:
    command = [sys.executable, "-c", GUARD, LISTENING, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as guard:
        wait_for(tmp_path / when)
        guard.send_signal(signal.SIGUSR1)
        wait_for(tmp_path / "saved")
        guard.send_signal(signal.SIGINT)  # to this process alone, as `kill -INT` does
        assert guard.wait(30) == SIGNAL_EXIT_BASE + signal.SIGINT


@pytest.mark.skipif(sys.platform != "linux", reason="the death of a parent is told on Linux")
def test_what_works_dies_with_its_guard(tmp_path: Path) -> None:
    child = tmp_path / "child"
    write = "import os, pathlib, sys, time; p = pathlib.Path(sys.argv[1])"
    write += "; (p.with_suffix('.part')).write_text(str(os.getpid()))"
    write += "; p.with_suffix('.part').rename(p); time.sleep(60)"
    guard = subprocess.Popen([sys.executable, "-c", GUARD, write, str(child)])
    limit = time.monotonic() + 60
    while not child.exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    guard.kill()
    guard.wait()
    number = int(child.read_text())
    while time.monotonic() < limit:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("it lives on")


class Killed(BaseException):
    """Stands for a signal that ends the process: nothing catches it."""


def test_what_ends_where_nobody_guards_blames_no_micrograph(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = WorkingImages.get

    def dying(self: WorkingImages, source: Source) -> WorkingImage:
        if "always" in source.name:
            raise Killed
        return get(self, source)

    with monkeypatch.context() as patch:
        patch.setattr(WorkingImages, "get", dying)
        for _ in range(3):
            with pytest.raises(Killed):
                call(*words("out", 1, *NAMES))
    assert b"crashed" not in (project / "out" / JOURNAL).read_bytes()
    done(*words("out", 1, *NAMES))


@pytest.mark.slow
def test_a_killed_process_that_nobody_guards_blames_no_micrograph(project: Path) -> None:
    command = [sys.executable, "-c", CALL, "pick", "--model", "m.safetensors", "-o", "out"]
    command += ["--threads", "1", "--micrographs", *(f"mics/{name}.mrc" for name in NAMES)]
    for _ in range(3):
        assert subprocess.run(command, capture_output=True).returncode < 0
    assert b"crashed" not in (project / "out" / JOURNAL).read_bytes()
