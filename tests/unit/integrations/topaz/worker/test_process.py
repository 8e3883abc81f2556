from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from heliodor.errors import BadInput
from heliodor.integrations.topaz import parser
from heliodor.integrations.topaz.main import main
from heliodor.integrations.topaz.worker import (
    client,
    messages,
    registry,
)
from heliodor.integrations.topaz.worker import (
    process as worker,
)
from heliodor.models.model_file import Model, save_model
from helpers.cli import Result
from helpers.networks import (
    card,
    noise,
    scrambled,
    write_mrc,
)
from helpers.topaz_cli import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no local sockets")

#: RELION's line; the folder of the images is that of the picks.
LINE = "extract  -t -6 -r 4 -d -1 -x 4 -m {model} -o {out} {image}"
#: A call that ended well and had nothing to say.
DONE = Result(0, "", "")
PROGRAM = "from heliodor.integrations.topaz.main import main; raise SystemExit(main())"


class Job:
    """A job's folder, with images and a model, and workers that no other test has."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder, self.sockets = folder, sockets
        self.model = folder / "model.sav"
        self.teach(0)
        self.images = [self.image(f"rank00000{i}.mrc", seed=i) for i in range(4)]

    def teach(self, seed: int) -> None:
        """Write a model."""
        lengths = {"working_pixel_size_angstrom": 1.0, "diameter_angstrom": 15.0}
        own = card(**lengths, normalization={"mode": "standard"}, background=-1.0)
        save_model(self.model, Model(scrambled("conv31", seed=seed), own))

    def image(self, name: str, seed: int) -> Path:
        """Write an image."""
        return write_mrc(self.folder / name, noise((64, 48), seed), 1.0).path

    def words(self, image: Path, out: Path | None = None) -> list[str]:
        """Return the words of a command line."""
        line = LINE.format(model=self.model, out=out or self.out(image), image=image)
        return line.split()

    def out(self, image: Path) -> Path:
        return self.folder / f"{image.stem}.txt"

    def environment(self, **changes: str) -> dict[str, str]:
        without = {k: v for k, v in os.environ.items() if not k.startswith("HELIODOR_WORKER")}
        own = {"XDG_RUNTIME_DIR": str(self.sockets), "HELIODOR_WORKER_IDLE": "600"}
        return without | own | {"OMP_NUM_THREADS": "1"} | changes

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a client as a host does."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def call(self, *words: str, **changes: str) -> Result:
        """Do what a client does in this process, which has nothing to read anew."""
        with mock.patch.dict(os.environ, self.environment(**changes), clear=True):
            return run(shlex.join(["EXE", *words]))

    def cold(self, *words: str) -> Result:
        """Do the same without a worker."""
        return self.call(*words, HELIODOR_WORKER="0")

    def picks(self, image: Path) -> bytes:
        """Return the picks of a client without a worker."""
        out = self.folder / "cold" / "picks.txt"
        assert self.cold(*self.words(image, out)) == DONE
        return out.read_bytes()

    def workers(self) -> list[int]:
        """Return the workers that are there."""
        listing = ["ps", "-axww", "-o", "pid=,stat=,command="]
        listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        own = f"{self.sockets}/heliodor-"
        return [int(pid) for pid, state, line in rows if own in line and state[0] != "Z"]

    def files(self) -> list[str]:
        """Return what lies where the sockets are."""
        return sorted(path.name for path in self.sockets.glob("*/*"))

    def stop(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.sockets)


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    own = Job(tmp_path / "job", Path(tempfile.mkdtemp()))
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HELIODOR_WORKER")
    # As the program sets it before it looks for a worker of the same environment.
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield own
    own.stop()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Job, int]]:
    """Return a job with one worker, which is to be left as it is."""
    own = Job(tmp_path_factory.mktemp("warm"), Path(tempfile.mkdtemp()))
    assert own.call(*own.words(own.images[0])) == DONE
    (pid,) = own.workers()
    yield own, pid
    assert own.workers() == [pid]
    own.stop()


# ---- What a warm worker says and writes ----


def test_a_worker_gives_the_picks_of_a_process_of_its_own(
    warm: tuple[Job, int], tmp_path: Path
) -> None:
    job, pid = warm
    for image in job.images:
        assert job.call(*job.words(image)) == DONE
        assert job.out(image).read_bytes() == job.picks(image)
    assert len({job.out(image).read_bytes() for image in job.images}) == len(job.images)
    assert job.workers() == [pid]


def test_the_second_call_is_served_by_the_worker_of_the_first(
    warm: tuple[Job, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, pid = warm
    seen: list[dict[str, Any]] = []
    receive = messages.receive
    monkeypatch.setattr(
        messages, "receive", lambda connection: seen.append(receive(connection)) or seen[-1]
    )
    assert job.call(*job.words(job.images[1])) == DONE
    assert {message["alive"] for message in seen[:-1]} == {pid}
    assert seen[-1]["code"] == 0


def test_an_image_under_the_same_name_is_read_again(warm: tuple[Job, int]) -> None:
    # RELION's ranks write one micrograph after another into one file.
    job, _ = warm
    out = job.out(job.images[0])
    before = job.picks(job.images[0])
    job.image(job.images[0].name, seed=9)
    assert job.call(*job.words(job.images[0])) == DONE
    assert out.read_bytes() == job.picks(job.images[0]) != before


def test_another_format_into_a_folder_and_lines_on_standard_error(warm: tuple[Job, int]) -> None:
    job, _ = warm
    table = job.folder / "extracted_particles.txt"
    words = [*job.words(job.images[2], job.folder), "--format", "star", "-v", "-p", "64"]
    result = job.call(*words)
    served = table.read_text()
    table.unlink()
    assert result == job.cold(*words)
    assert served == table.read_text()
    assert served.startswith("data_images")
    note = "# note: no effect here: --patch-size\n"
    assert result == Result(0, "", f"{note}# scored {job.images[2]}\n")


def test_a_table_on_standard_output(
    warm: tuple[Job, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = warm
    monkeypatch.chdir(job.folder)
    words = job.words(job.images[2])
    at = words.index("-o")
    del words[at : at + 2]
    result = job.call(*words)
    assert result == job.cold(*words)
    assert result.out.startswith("image_name")


def test_what_cannot_be_used_gets_the_same_sentence(warm: tuple[Job, int]) -> None:
    job, _ = warm
    damaged = job.folder / "damaged.mrc"
    damaged.write_bytes(b"no micrograph" * 100)
    out = job.folder / "bad.txt"
    for image in (damaged, job.folder / "missing.mrc"):
        words = job.words(image, out)
        result = job.call(*words)
        assert result == job.cold(*words)
        assert result.code == 2
        assert result.err.splitlines()[-1].startswith("# error: none of the images")
    words = [*job.words(job.images[0], out), "--filaments"]
    assert job.call(*words) == job.cold(*words)
    assert not out.exists()


def test_an_output_that_cannot_be_written_gets_the_same_sentence(warm: tuple[Job, int]) -> None:
    job, _ = warm
    words = job.words(job.images[0], job.folder / ("x" * 300))
    result = job.call(*words)
    assert result == job.cold(*words)
    assert result.code == 2
    assert "cannot be written" in result.err


def test_the_client_s_folder_and_umask_are_its_own(warm: tuple[Job, int]) -> None:
    job, _ = warm
    expected = job.picks(job.images[3])
    line = LINE.format(model=job.model, out="relative.txt", image=job.images[3].name)
    command = ["sh", "-c", f'umask 077; exec "{sys.executable}" -c "{PROGRAM}" {line}']
    subprocess.run(command, cwd=job.folder, env=job.environment(), check=True)
    out = job.folder / "relative.txt"
    assert out.read_bytes() == expected
    assert out.stat().st_mode & 0o777 == 0o600


def test_nothing_of_the_client_is_held_open(job: Job) -> None:
    # What RELION, MPI and queues wait for: pipes of any number, standard ones too.
    reading, writing = os.pipe()
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *job.words(job.images[0])],
        capture_output=True,
        pass_fds=[writing],
        env=job.environment(),
    )
    os.close(writing)
    assert done.returncode == 0
    (pid,) = job.workers()
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert time.monotonic() - started < 60
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    # Sockets and locks are this user's alone.
    for path in job.sockets.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


# ---- Several at once ----


@pytest.mark.slow
def test_clients_that_call_at_once_are_all_served(job: Job) -> None:
    clients = [job.start(*job.words(image)) for image in job.images]
    for process in clients:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    for image in job.images:
        assert job.out(image).read_bytes() == job.picks(image)
    assert 1 <= len(job.workers()) <= len(clients)
    # No lock is left, and one worker is enough for one client at a time.
    before = job.workers()
    assert job.call(*job.words(job.images[0])) == DONE
    assert job.workers() == before


@pytest.mark.slow
def test_a_client_does_not_wait_for_another(job: Job) -> None:
    first, second = registry.list_slots(place(), client.make_worker_key(parse(job)))[:2]
    lock = first.acquire()
    assert lock is not None
    assert first.acquire() is None
    assert job.call(*job.words(job.images[0])) == DONE
    os.close(lock)
    assert not Path(first.address).exists()
    assert Path(second.address).exists()


def place() -> str:
    found = registry.find_slot_folder()
    assert found is not None
    return found


def parse(job: Job, *more: str) -> argparse.Namespace:
    return parser.parse([*job.words(job.images[0]), *more])


@pytest.mark.parametrize(
    "change",
    ["cpus", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "device", "threads", "model"],
)
def test_a_worker_shares_with_its_client_what_matters(
    change: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = client.make_worker_key(parse(job))
    assert before == client.make_worker_key(parse(job))
    more: list[str] = []
    if change == "cpus":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    elif change.isupper():
        monkeypatch.setenv(change, "3")
    elif change == "model":
        os.utime(job.model, ns=(1, 1))
    else:
        more = {"device": ["-d", "1"], "threads": ["-j", "2"]}[change]
    after = client.make_worker_key(parse(job, *more))
    assert after != before
    assert registry.list_slots("/", after) != registry.list_slots("/", before)


@pytest.mark.slow
def test_no_more_workers_than_may_be(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "max_workers", lambda: 2)
    found = place()
    listening = []
    for key in ("one", "another"):
        slot = registry.list_slots(found, key)[0]
        lock = slot.acquire()
        assert lock is not None
        listening.append(slot.listen())
        os.close(lock)
    assert job.call(*job.words(job.images[0])) == DONE
    assert job.out(job.images[0]).read_bytes() == job.picks(job.images[0])
    assert job.workers() == []
    # One of the two was killed.
    listening[0].close()
    assert job.call(*job.words(job.images[0])) == DONE
    assert len(job.workers()) == 1
    listening[1].close()


@pytest.mark.slow
def test_another_model_under_the_same_name(job: Job) -> None:
    image = job.images[0]
    assert job.call(*job.words(image)) == DONE
    before = job.out(image).read_bytes()
    job.teach(seed=1)
    assert job.call(*job.words(image)) == DONE
    assert job.out(image).read_bytes() == job.picks(image) != before


# ---- When something goes wrong ----


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_costs_no_picks(
    number: signal.Signals, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = job.images[0]
    receive = messages.receive

    def struck(connection: socket.socket) -> dict[str, Any]:
        message = receive(connection)
        os.kill(message["alive"], number)
        return message

    monkeypatch.setattr(messages, "receive", struck)
    monkeypatch.setattr(client, "ALIVE_TIMEOUT_S", 1.0)
    # Its first call, so that it is struck while it reads PyTorch.
    assert job.call(*job.words(image)) == DONE
    assert job.out(image).read_bytes() == job.picks(image)
    assert eventually(lambda: job.workers() == [])
    assert job.files() == []


@pytest.mark.slow
def test_a_client_that_is_killed_takes_nothing_with_it_and_writes_nothing(job: Job) -> None:
    assert job.call(*job.words(job.images[0])) == DONE
    (pid,) = job.workers()
    out = job.out(job.images[1])
    os.kill(pid, signal.SIGSTOP)
    process = job.start(*job.words(job.images[1]))
    try:
        (slot,) = [own for own in slots_in(job) if Path(own.address).exists()]
        assert eventually(lambda: is_taken(slot))
        time.sleep(0.3)  # until it has said what it wants
        process.kill()
        process.communicate()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: not is_taken(slot))
    assert job.call(*job.words(job.images[2])) == DONE
    assert job.workers() == [pid]
    assert not out.exists()
    assert not list(job.folder.glob(".*.part*"))


def slots_in(job: Job) -> list[registry.WorkerSlot]:
    return [
        registry.WorkerSlot(str(path.with_suffix(""))) for path in job.sockets.glob("*/*.lock")
    ]


def is_taken(slot: registry.WorkerSlot) -> bool:
    """Look at the system's list of locks: a lock taken for a look would be in a client's way."""
    inode = os.stat(slot.lock).st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(line[1] == "FLOCK" and line[5].endswith(f":{inode}") for line in locks)


@pytest.mark.slow
def test_a_worker_leaves_after_a_while_and_when_its_job_is_gone(job: Job, tmp_path: Path) -> None:
    assert job.call(*job.words(job.images[0]), HELIODOR_WORKER_IDLE="0.3") == DONE
    assert eventually(lambda: job.workers() == [] and job.files() == [])
    gone = tmp_path / "gone" / "picks.txt"
    assert job.call(*job.words(job.images[0], gone)) == DONE
    assert len(job.workers()) == 1
    shutil.rmtree(gone.parent)
    assert eventually(lambda: job.workers() == [] and job.files() == [])


@pytest.mark.slow
def test_stale_sockets_are_replaced_and_swept(job: Job) -> None:
    found = place()
    stale = registry.list_slots(found, client.make_worker_key(parse(job)))[0]
    other = registry.list_slots(found, "of a job that was killed")[3]
    for slot in (stale, other):
        lock = slot.acquire()
        assert lock is not None
        slot.listen().close()
        os.close(lock)
    assert job.call(*job.words(job.images[0])) == DONE
    assert len(job.workers()) == 1
    registry.remove_stale_slots(found)
    # That of the worker stays.
    assert [Path(found, name) for name in job.files()] != []
    assert not any(Path(path).exists() for path in (other.lock, other.address))
    assert len(job.workers()) == 1
    assert job.call(*job.words(job.images[1])) == DONE
    assert len(job.workers()) == 1


def test_no_worker_where_none_is_wanted(job: Job) -> None:
    image = job.images[0]
    assert job.call(*job.words(image), "--no-worker") == DONE
    assert job.cold(*job.words(image)) == DONE
    # Of many images in one call, nor beside each image.
    assert job.call(*job.words(image), str(job.images[1])).code == 0
    assert job.call(*job.words(image, job.folder / "each"), "--per-micrograph").code == 0
    assert job.workers() == []
    assert job.files() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("HELIODOR_WORKER", "off"), ("HELIODOR_WORKER_IDLE", "-1"), ("HELIODOR_WORKER_IDLE", "1m")],
)
def test_settings_that_mean_nothing_are_refused(
    name: str, value: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=f"{name} is '{value}'; set it to"):
        client.extract(parse(job))
    assert main(job.words(job.images[0])) == 2


# ---- The parts ----


def test_a_folder_that_others_can_open_is_not_used(job: Job) -> None:
    found = Path(place())
    assert found.parent == job.sockets
    found.chmod(0o777)
    assert registry.find_slot_folder() != str(found)
    found.chmod(0o700)
    found.rename(job.sockets / "elsewhere")
    found.symlink_to(job.sockets / "elsewhere")
    assert registry.find_slot_folder() != str(found)


def test_a_folder_whose_name_is_too_long_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    found = registry.find_slot_folder()
    assert found is None or not found.startswith(str(long))
    assert not list(long.iterdir())


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not say who it is")
def test_other_users_are_refused() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert messages.is_same_user(here)
        with mock.patch.object(os, "geteuid", return_value=os.getuid() + 1):
            assert not messages.is_same_user(here)


def test_messages_come_as_they_were_sent() -> None:
    here, there = socket.socketpair()
    with here, there:
        long = {"out": "a\tü\udcff\n" * 2**18, "code": -6.5, "none": None}
        sender = threading.Thread(target=messages.send, args=(here, long))
        sender.start()
        assert messages.receive(there) == long
        sender.join()
        for data in (b"[]", b"{"):
            here.sendall(struct.pack(">I", len(data)) + data)
            with pytest.raises(ValueError, match=r"object|Expecting"):
                messages.receive(there)
        here.sendall(struct.pack(">I", messages.LARGEST_BYTES + 1))
        with pytest.raises(ValueError, match="bytes"):
            messages.receive(there)
        here.sendall(b"\0\0")
        here.close()
        with pytest.raises(ConnectionResetError):
            messages.receive(there)


def test_a_worker_whose_program_has_changed_leaves_its_clients_to_themselves(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = registry.list_slots(place(), "a key")[0]
    lock = slot.acquire()
    assert lock is not None
    file = job.folder / "module.py"
    file.touch()
    stand_in = mock.Mock(__file__=str(file))
    monkeypatch.setitem(sys.modules, "heliodor.stand_in", stand_in)
    monkeypatch.chdir(job.folder)
    with slot.listen() as listening:
        own = worker.Worker(listening, slot, 60.0)
        request = {
            "cwd": str(job.folder),
            "job": str(job.folder),
            "args": vars(parse(job)) | {"radius": -1},
        }
        answer = own._perform(request)
        assert answer["code"] == 2
        assert "radius" in answer["err"]
        assert os.getcwd() == "/"
        os.utime(file, ns=(1, 1))
        assert "another" in own._perform(request)["failed"]
    os.close(lock)
    assert job.files() == []


def test_nothing_slow_is_imported_by_a_client() -> None:
    code = (
        "import sys, json; from heliodor.integrations.topaz import parser;"
        "from heliodor.integrations.topaz.worker import client;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    slow = {"torch", "numpy", "scipy", "pandas", "starfile", "mrcfile", "subprocess", "rich"}
    assert slow.isdisjoint(json.loads(said))
