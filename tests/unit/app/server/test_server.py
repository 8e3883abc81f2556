"""The app as a process: its start, its end, and being attacked or killed in between."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import httpx
import pytest

from heliodor.app.server.project import open_project
from heliodor.app.server.server import MAX_CONNECTIONS, import_labels
from heliodor.data.coordinates.formats import read_picks
from heliodor.data.micrographs.sources import find_sources
from heliodor.errors import BadInput
from helpers.app import micrographs
from helpers.cli import call
from helpers.networks import discs, scattered, write_mrc

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends by signals")


@dataclass
class Served:
    """A server that answers."""

    process: subprocess.Popen[str]
    said: str
    base: str
    session: str

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.session}"}
        return httpx.Client(base_url=self.base, headers=headers, timeout=60)

    def raw(self, request: bytes) -> bytes:
        """Send bytes, and return all that comes back."""
        port = int(self.base.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            with suppress(OSError):  # it may have heard enough
                line.sendall(request)
            answer = b""
            with suppress(ConnectionResetError):
                while part := line.recv(65536):
                    answer += part
        return answer

    def engines(self) -> list[int]:
        """Return the processes that this one has begun."""
        path = f"/proc/{self.process.pid}/task"
        lists = [Path(path, task, "children").read_text() for task in os.listdir(path)]
        return [int(number) for text in lists for number in text.split()]


_ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]{43})\n")


def _exchange(base: str, token: str) -> httpx.Response:
    """Exchange the token of an address, as the page does."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{base}/api/session", headers=headers, json={}, timeout=60)


@contextmanager
def _serving(
    folder: Path, *more: str, micrographs: str | None = None, here: Path | None = None
) -> Iterator[Served]:
    named = str(folder / "mics") if micrographs is None else micrographs
    command = [sys.executable, "-m", "heliodor", "app", *([named] if named else [])]
    process = subprocess.Popen(
        [*command, "--port", "0", "-o", str(folder / "project"), *more],
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said: list[str] = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line)
            if "Ctrl-C" in line:
                break
        found = _ADDRESS.search("".join(said))
        assert found is not None, said
        answer = _exchange(found[1], found[2])
        assert answer.status_code == 200, answer.text
        yield Served(process, "".join(said), found[1], answer.json()["session"])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _mark(number: int) -> dict[str, object]:
    return {"id": f"m{number}", "x": number % 700, "y": 5, "kind": "particle"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    micrographs(tmp_path / "mics")
    return tmp_path


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_server_says_where_it_is_and_ends_well(folder: Path, number: int) -> None:
    with _serving(folder) as served:
        port = served.base.rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port} " in served.said
        with served.client() as client:
            add = {"add": [_mark(1)]}
            assert client.post("/api/micrographs/0/labels", json=add).status_code == 200
            if sys.platform == "linux":
                assert served.engines()
                began = served.engines()
            else:
                began = []
        served.process.send_signal(number)
        assert served.process.wait(60) == 0
        assert "is saved" in served.process.stderr.read()  # type: ignore[union-attr]
        for one in began:
            with pytest.raises(ProcessLookupError):
                os.kill(one, 0)
    assert len(read_picks(folder / "project/labels.star")) == 1


def test_each_address_works_once_and_the_next_is_printed(folder: Path) -> None:
    with _serving(folder) as served:
        first = _ADDRESS.search(served.said)
        assert first is not None
        assert _exchange(served.base, first[2]).status_code == 401
        assert served.process.stderr is not None
        assert "opened in a browser" in served.process.stderr.readline()
        following = _ADDRESS.search(served.process.stderr.readline())
        assert following is not None
        assert following[1] == served.base
        assert following[2] != first[2]
        answer = _exchange(served.base, following[2])
        assert answer.json() == {"session": served.session, "rights": "all"}
        assert "set-cookie" not in answer.headers


@pytest.mark.slow
def test_attacks_by_raw_bytes(folder: Path) -> None:
    with _serving(folder) as served:
        port = served.base.rpartition(":")[2]
        head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {served.session}\r\n"
        end = f"{head}Connection: close\r\n\r\n"
        fine = served.raw(f"GET /api/project HTTP/1.1\r\n{end}".encode())
        assert fine.startswith(b"HTTP/1.1 200")
        for path in (
            "/static/../room.py", "/static/..%2froom.py", "/report/../project.json",
            "/report/..%2fproject.json", "/../../etc/passwd", "//etc/passwd",
            "/api/exports/..%2fproject.json", "/static/%00", "/report/%00.html",
        ):  # fmt: skip
            answer = served.raw(f"GET {path} HTTP/1.1\r\n{end}".encode())
            assert answer.startswith(b"HTTP/1.1 404"), path
        twice = f"GET /api/project HTTP/1.1\r\nHost: evil.example\r\n{end}"
        assert served.raw(twice.encode())[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403")
        absolute = "GET http://evil.example/api/project HTTP/1.1\r\nHost: evil.example\r\n"
        absolute += "Connection: close\r\n\r\n"
        assert served.raw(absolute.encode()).startswith(b"HTTP/1.1 403")
        for host in ("", "Host: evil.example\r\n"):
            answer = served.raw(f"GET / HTTP/1.0\r\n{host}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 403")
        assert served.raw(b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert served.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)[:10] in (b"HTTP/1.1 4", b"")


@pytest.mark.slow
def test_a_hundred_megabytes_are_refused_without_being_kept(folder: Path) -> None:
    with _serving(folder) as served:
        port = served.base.rpartition(":")[2]
        head = (
            "POST /api/settings HTTP/1.1\r\nContent-Type: application/json\r\n"
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {served.session}\r\n"
        )
        size = 100 * 2**20
        told = served.raw(f"{head}Content-Length: {size}\r\n\r\n".encode() + b" " * 2**16)
        assert told.startswith(b"HTTP/1.1 413")
        piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        streamed = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + piece * 100
        answer = served.raw(streamed)
        assert answer.startswith(b"HTTP/1.1 413") or answer == b""  # reset while still sending
        status = Path(f"/proc/{served.process.pid}/status")
        if status.is_file():
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]
            assert peak < 600_000
        with served.client() as client:
            assert client.get("/api/project").json()["settings"]["threshold"] is None


@pytest.mark.slow
def test_fifty_at_once_lose_nothing(folder: Path) -> None:
    with _serving(folder) as served, served.client() as client:

        def work(number: int) -> int:
            if number % 2:
                address = f"/api/micrographs/{number % 3}/tiles/0/0/0.jpg?low_pass={number}"
                return client.get(address).status_code
            add = {"add": [_mark(number)]}
            return client.post(f"/api/micrographs/{number % 3}/labels", json=add).status_code

        with ThreadPoolExecutor(50) as pool:
            codes = [*pool.map(work, range(50))]
        assert codes[::2] == [200] * 25
        assert {*codes[1::2]} <= {200, 503}
        there = read_picks(folder / "project/labels.star").xy_px[:, 0]
        assert sorted(there.tolist()) == [*range(0, 50, 2)]


@pytest.mark.slow
def test_a_killed_server_is_gone_on_with_where_it_was(folder: Path) -> None:
    acknowledged: list[int] = []
    with _serving(folder) as served:
        began = served.engines() if sys.platform == "linux" else []

        def write() -> None:
            with served.client() as client, suppress(httpx.TransportError):
                for number in range(100_000):
                    add = {"add": [_mark(number)], "remove": []}
                    assert client.post("/api/micrographs/1/labels", json=add).status_code == 200
                    acknowledged.append(number)

        writer = threading.Thread(target=write)
        writer.start()
        with served.client() as client:
            assert client.post("/api/settings", json={"threshold": 1.25}).status_code == 200
            client.post("/api/micrographs/2/done", json={"done": True})
        while len(acknowledged) < 60:
            time.sleep(0.01)
        served.process.send_signal(signal.SIGKILL)
        writer.join()
        end = time.monotonic() + 60
        for one in began:  # its engine ends by itself
            while Path(f"/proc/{one}/status").is_file() and time.monotonic() < end:
                if "Z (zombie)" in Path(f"/proc/{one}/status").read_text():
                    break
                time.sleep(0.05)
            else:
                assert not Path(f"/proc/{one}").exists()
    there = len(read_picks(folder / "project/labels.star"))
    assert len(acknowledged) <= there <= len(acknowledged) + 1
    with _serving(folder) as served, served.client() as client:
        rows = client.get("/api/micrographs").json()
        assert rows["labels"] == [0, there, 0]
        assert rows["done"] == [False, False, True]
        assert client.get("/api/project").json()["settings"]["threshold"] == 1.25
        again = {"add": [_mark(number) for number in range(there)]}
        assert client.post("/api/micrographs/1/labels", json=again).status_code == 200
        assert client.get("/api/micrographs").json()["labels"] == [0, there, 0]


def test_one_server_a_project(folder: Path) -> None:
    with _serving(folder):
        result = call("app", folder / "mics", "-o", folder / "project", "--port", 0)
        assert result.code == 2
        assert "already running in" in result.sentence


def test_a_port_in_use_is_told_of(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = call("app", folder / "mics", "-o", folder / "project", "--port", port)
    assert result.code == 2
    assert f"port {port}" in result.sentence


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--diameter", "5"], "plausible"),
        (["--pixel-size", "900"], "plausible"),
        (["--port", "70000"], "--port"),
        (["--threads", "0"], "threads"),
        (["--labels", "nowhere.star"], "nowhere.star"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, words: list[str], told: str) -> None:
    result = call("app", folder / "mics", "-o", folder / "project", *words)
    assert result.code == 2
    assert told in result.sentence


@pytest.mark.slow
def test_labels_begin_a_project_and_are_left_alone_after(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "image_name,x_coord,y_coord\nmic 0,10,20\nmic 0,30,40\nmic 2,50,60\n"
    )
    words = ("--labels", str(folder / "labels.csv"))
    with _serving(folder, *words) as served, served.client() as client:
        assert client.get("/api/micrographs").json()["labels"] == [2, 0, 1]
        own = client.get("/api/micrographs/0/labels").json()
        client.post("/api/micrographs/0/labels", json={"remove": own["id"]})
    with _serving(folder, *words) as served, served.client() as client:
        assert "not read again" in served.said
        assert client.get("/api/micrographs").json()["labels"] == [0, 0, 1]


@pytest.mark.parametrize(
    ("scale", "words"),
    [(1.0, ""), (0.125, "scaled by 8"), (0.5, "scaled by 2")],
)
def test_labels_in_another_frame_are_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: float, words: str
) -> None:
    rows = ["image_name,x_coord,y_coord"]
    sources = []
    for seed, name in enumerate("abc"):
        xy = scattered((300, 400), 40, 14, seed)
        image = discs((300, 400), xy, 2.0, seed=seed)
        sources.append(write_mrc(tmp_path / f"{name}.mrc", image, 4.0))
        rows += [f"{name},{x * scale},{y * scale}" for x, y in xy]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(rows) + "\n")
    state = mock.MagicMock()
    state.project.existed, state.sources = False, sources
    state.project.settings.pixel_size_angstrom = None
    import_labels(state, str(path))
    assert state.annotations.add_positions.call_count == 3
    said = capsys.readouterr().err
    assert words in said
    assert bool(said) == bool(words)


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    (folder / "project").mkdir()
    for text in ("[]", "{}", "no json", json.dumps({"form": 99})):
        (folder / "project/project.json").write_text(text)
        result = call("app", folder / "mics", "-o", folder / "project", "--port", 0)
        assert result.code == 2
        assert "project.json" in result.sentence


@pytest.mark.parametrize("name", ["scores", "previews", "thumbnails", "models", "export"])
def test_a_project_with_a_link_to_another_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "outside").mkdir()
    (folder / "room").mkdir()
    (folder / "room" / name).symlink_to(folder / "outside")
    ended = call("app", folder / "mics", "-o", folder / "room", "--port", 0)
    assert ended.code == 2
    assert f"room/{name} is a symbolic link" in ended.sentence
    assert [*(folder / "outside").iterdir()] == []


@pytest.mark.slow
def test_many_slow_connections_lock_nobody_out(folder: Path) -> None:
    with _serving(folder) as served, served.client() as client:
        port = int(served.base.rpartition(":")[2])
        lines = []
        try:
            for _ in range(MAX_CONNECTIONS + 50):
                lines.append(socket.create_connection(("127.0.0.1", port), timeout=60))
                lines[-1].sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            for _ in range(3):
                assert client.get("/api/project").status_code == 200
            closed = 0
            for line in lines[:51]:
                with suppress(ConnectionResetError):
                    line.setblocking(False)
                    with suppress(BlockingIOError):
                        line.recv(1)
                        closed += 1
                    continue
                closed += 1
            assert closed >= 50
        finally:
            for line in lines:
                line.close()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
        assert "Traceback" not in served.process.stderr.read()  # type: ignore[union-attr]


@pytest.mark.slow
def test_connections_that_do_not_read_lock_nobody_out(folder: Path) -> None:
    with _serving(folder) as served:
        port = int(served.base.rpartition(":")[2])
        head = f"GET /static/viewer.js HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        lines = []
        try:
            for _ in range(MAX_CONNECTIONS + 20):
                line = socket.socket()
                lines.append(line)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                line.connect(("127.0.0.1", port))
                line.setblocking(False)
                line.send(head.encode() * 60)
            time.sleep(5)  # until the buffers are full
            for _ in range(5):
                with served.client() as client:
                    assert client.get("/api/project").status_code == 200
        finally:
            for line in lines:
                line.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("diameter_angstrom", value) for value in ("180", -5, 0, True, 1e300, 1e-300, [])),
        *(("pixel_size_angstrom", value) for value in ("2", -1, True, 1e300)),
        *(("threshold", value) for value in ("1", 1e6, True, {})),
        *(("model", value) for value in ("1", -1, True, 1.5, None)),
        *(("inputs", value) for value in ("mics", [1], None, ["\0"])),
        *(("done", value) for value in ("a", [None])),
        ("scores_of", 1),
        ("form", 2),
    ],
)
def test_a_damaged_project_is_one_sentence(folder: Path, name: str, value: object) -> None:
    (folder / "project").mkdir()
    sources = find_sources(str(folder / "mics"))
    open_project(folder / "project", sources, [str(folder / "mics")])
    path = folder / "project/project.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(BadInput, match=r"project\.json is not a project of heliodor app"):
        open_project(folder / "project", sources, [str(folder / "mics")])


def test_a_project_nested_without_end_is_one_sentence(folder: Path) -> None:
    (folder / "project").mkdir()
    (folder / "project/project.json").write_text("[" * 200_000)
    ended = call("app", folder / "mics", "-o", folder / "project", "--port", 0)
    assert ended.code == 2
    assert "nested too deeply" in ended.sentence


def test_a_folder_in_place_of_labels_is_one_sentence(folder: Path) -> None:
    (folder / "project/labels.star").mkdir(parents=True)
    ended = call("app", folder / "mics", "-o", folder / "project", "--port", 0)
    assert ended.code == 2
    assert "labels.star is a folder" in ended.sentence


@pytest.mark.slow
def test_a_client_that_leaves_early_is_no_error(folder: Path) -> None:
    with _serving(folder) as served, served.client() as client:
        port = int(served.base.rpartition(":")[2])
        head = f"POST /api/settings HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Authorization: Bearer {served.session}\r\nContent-Length: 100\r\n"
        head += "Content-Type: application/json\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(head.encode())
            assert client.get("/api/project").status_code == 200
        assert client.get("/api/project").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
        assert "Traceback" not in served.process.stderr.read()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_project_is_reopened_without_its_micrographs(folder: Path, tmp_path: Path) -> None:
    with _serving(folder, "--diameter", "120", micrographs="mics", here=folder) as served:
        with served.client() as client:
            names = client.get("/api/micrographs").json()["name"]
            add = {"add": [_mark(1)]}
            assert client.post("/api/micrographs/1/labels", json=add).status_code == 200
    assert names == [f"mics/mic {n}.mrc" for n in range(3)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with _serving(folder, micrographs="", here=elsewhere) as served, served.client() as client:
        rows = client.get("/api/micrographs").json()
        assert (rows["name"], rows["labels"]) == (names, [0, 1, 0])
        assert client.get("/api/project").json()["settings"]["diameter"] == 120


def test_without_micrographs_there_must_be_a_project(folder: Path) -> None:
    ended = call("app", "-o", folder / "new", "--port", 0)
    assert ended.code == 2
    assert "name its micrographs" in ended.sentence
    assert not (folder / "new").exists()


@pytest.mark.slow
def test_a_project_is_not_changed_by_the_way(folder: Path) -> None:
    with _serving(folder, "--diameter", "120"):
        pass
    before = (folder / "project/project.json").read_bytes()
    micrographs(folder / "others", 2)
    for words in ([folder / "others"], [folder / "mics", "--diameter", 150],
                  [folder / "mics", "--pixel-size", 2, "--diameter", 121]):  # fmt: skip
        ended = call("app", *words, "-o", folder / "project", "--port", 0)
        assert ended.code == 2
        assert "--replace" in ended.sentence
        assert (folder / "project/project.json").read_bytes() == before
    with _serving(folder, "--replace", micrographs=str(folder / "others")) as served:
        with served.client() as client:
            assert len(client.get("/api/micrographs").json()["name"]) == 2


@pytest.mark.slow
def test_labels_of_a_project_are_replaced_only_if_that_is_confirmed(folder: Path) -> None:
    rows = ["image_name\tx_coord\ty_coord", "mic 0\t30\t40", "mic 1\t50\t60"]
    labels = folder / "labels.txt"
    labels.write_text("\n".join(rows) + "\n")
    with _serving(folder, "--labels", str(labels)) as served, served.client() as client:
        assert client.get("/api/micrographs").json()["labels"] == [1, 1, 0]
        gone = [*client.get("/api/micrographs/0/labels").json()["id"]]
        client.post("/api/micrographs/0/labels", json={"remove": gone}).raise_for_status()
    # The same command again changes nothing.
    with _serving(folder, "--labels", str(labels)) as served, served.client() as client:
        assert client.get("/api/micrographs").json()["labels"] == [0, 1, 0]
    labels.write_text("\n".join([*rows, "mic 2\t70\t80"]) + "\n")
    words = ("app", folder / "mics", "-o", folder / "project", "--port", 0, "--labels", labels)
    ended = call(*words)
    assert ended.code == 2
    assert "already has labels" in ended.sentence
    assert "--replace" in ended.sentence
    with _serving(folder, "--labels", str(labels), "--replace") as served:
        with served.client() as client:
            assert client.get("/api/micrographs").json()["labels"] == [1, 1, 1]
    assert len(read_picks(folder / "project/labels-before-1.star")) == 1


def test_the_address_is_shown_to_a_quiet_user_and_in_no_log_file(folder: Path) -> None:
    log = folder / "messages.log"
    with _serving(folder, "--quiet", "--log-file", str(log)) as served:
        assert _ADDRESS.search(served.said)
    text = log.read_text()  # the file was begun
    assert "token" not in text
