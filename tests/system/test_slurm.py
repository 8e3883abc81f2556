"""Picking on a real SLURM, with a task that is killed and one that is requeued.

Needs SLURM's daemons and munge (Debian: slurm-wlm and munge) and to be root; otherwise skipped.
HELIODOR_TEST_COUNT and HELIODOR_TEST_SIDE_PX choose how many micrographs there are, and how large.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from heliodor.workflows.picking_status import PickingStatus, read_status
from helpers.cli import done
from helpers.doc_blocks import programs

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
#: The longest that anything is waited for, in seconds.
PATIENCE = 3600.0
#: Side of the micrographs that are simulated, and of those that are made of them.
SIMULATED = 1024
COUNT = int(os.environ.get("HELIODOR_TEST_COUNT", "24"))
SIDE = int(os.environ.get("HELIODOR_TEST_SIDE_PX", str(SIMULATED)))

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 \
ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.name != "posix" or os.geteuid() != 0 or any(not shutil.which(p) for p in PROGRAMS),
        reason="needs SLURM's daemons and munge, and to be root",
    ),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A SLURM of one node with four processors."""
    folder, host = tmp_path / "slurm", socket.gethostname().split(".")[0]
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True, mode=0o700)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o22 and not parent.stat().st_mode & 0o1000:
            pytest.skip(f"munge does not accept {parent}, which others can write")
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, folder=folder, port=free_port(), node_port=free_port())
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}",
         f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
         f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge/seed"],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]  # fmt: skip
    running = []
    try:
        for command in daemons:
            running.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(2)
        wait_until(lambda: "idle" in run("sinfo", "-h"))
        yield
    finally:
        subprocess.run(["scancel", "-u", "root"], capture_output=True)
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.5)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the results, with the name of the folder left out."""
    names = ["autopick.star", "picks.tsv", "micrographs.tsv"]
    names += [path.name for path in folder.glob("*_autopick.star")]
    return {n: (folder / n).read_bytes().replace(f"{folder.name}/".encode(), b"") for n in names}


def write_micrographs(folder: Path) -> None:
    """Simulate micrographs, and magnify them: each pixel becomes a square of pixels."""
    size = ("--size-px", f"{SIMULATED}x{SIMULATED}", "--pixel-size", 2.4)
    simulate = ("--count", COUNT, *size, "--seed", 5)
    done("simulate", folder, "--particle", "barrel", *simulate)
    times = SIDE // SIMULATED
    for path in (folder / "micrographs").glob("*.mrc"):
        with mrcfile.open(path) as file:
            image, pixel_size = np.array(file.data), float(file.voxel_size.x)
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(np.kron(image, np.ones((times, times), np.float32)))
            file.voxel_size = pixel_size / times


def test_an_array_with_a_killed_and_a_requeued_task_picks_what_one_process_picks(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    write_micrographs(tmp_path / "data")
    pick = ("pick", "data/micrographs", "--diameter", 150, "--threads", 1)
    done(*pick, "-o", "once")
    done(*pick, "-o", "array", "--cluster", "slurm", "--jobs", 4, "--time", 30)

    def status() -> PickingStatus:
        return read_status("array")

    wait_until(lambda: [*Path("array", ".picking").glob("*.jsonl")])
    wait_until(lambda: status().done >= 2)
    tasks = run("squeue", "-h", "-t", "R", "-o", "%i").split()
    at_work = [own for own in status().processes if own.state == "running"]
    os.kill(at_work[0].process, signal.SIGKILL)
    run("scontrol", "requeue", tasks[-1])
    wait_until(lambda: not run("squeue", "-h").strip())
    wait_until(lambda: status().state == "finished")
    assert status().done == COUNT
    assert contents(Path("array")) == contents(Path("once"))
