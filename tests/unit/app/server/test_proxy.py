"""The app as a process behind a reverse proxy, as Open OnDemand, JupyterHub and nginx are."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from helpers.app import micrographs
from helpers.proxy import free_port, proxy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends by signals")

PREFIX = "/node/c01/heliodor/"
NAME = "hub.example.org"


@contextmanager
def serving(folder: Path, port: int, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the app on a port; yield its process and what it says first."""
    micrographs(folder / "mics", 2)
    command = [sys.executable, "-m", "heliodor", "app", str(folder / "mics")]
    process = subprocess.Popen(
        [*command, "--port", str(port), "-o", str(folder / "project"), *more],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if "Ctrl-C" in line:
                break
        yield process, said
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        process.stderr.close()


def check_story(page: str, token: str, headers: dict[str, str]) -> None:
    """Open the page through a proxy in two tabs, change something, and try some attacks."""
    with httpx.Client(headers=headers, timeout=60) as client:
        answer = client.get(page)
        assert answer.status_code == 200
        links = re.findall(r'(?:href|src)="([^"#]+)"', answer.text)
        assert len(links) > 4
        for link in links:
            assert client.get(urljoin(page, link)).status_code == 200, link
        script = client.get(urljoin(page, "static/main.js")).text
        for link in re.findall(r'from "(\./[^"]+)"', script):
            assert client.get(urljoin(page, f"static/{link}")).status_code == 200, link

        def exchange() -> httpx.Response:
            authorization = {"Authorization": f"Bearer {token}"}
            return client.post(urljoin(page, "api/session"), json={}, headers=authorization)

        assert client.get(urljoin(page, "api/project")).status_code == 401
        session = exchange().json()["session"]
        assert exchange().status_code == 401
        client.headers["Authorization"] = f"Bearer {session}"
        with httpx.Client(headers=client.headers, timeout=60) as other:
            since = other.get(urljoin(page, "api/changes?since=0")).json()["revision"]
            mark = {"add": [{"id": "a", "x": 5, "y": 5, "kind": "particle"}]}
            path = urljoin(page, "api/micrographs/1/labels")
            assert client.post(path, json=mark).status_code == 200
            news = other.get(urljoin(page, f"api/changes?since={since}")).json()
            assert [row["labels"] for row in news["rows"] if row["id"] == 1] == [1]
            assert other.get(path).json()["x"] == [5]
        picture = client.get(urljoin(page, "api/micrographs/0/tiles/0/0/0.jpg"))
        assert picture.headers["content-type"] == "image/jpeg"

        # A page at another place, and what is too large.
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            answer = client.post(path, json=mark, headers={"Origin": origin})
            assert answer.status_code == 403, origin
        answer = client.post(path, json=mark, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        # The backend closes the connection before it has read it all, which a proxy may only see.
        large = client.post(path, content=b" " * 5_000_000)
        assert large.status_code in (413, 502)
        for part in ("static/../api/project", "static/%2e%2e/api/project", "report/..%2fproject"):
            assert client.get(urljoin(page, part) + "?x=../..").status_code in (200, 400, 404)
        client.headers["Authorization"] = "Bearer wrong"
        assert client.get(urljoin(page, "api/project")).status_code == 401
        assert client.get(urljoin(page, "static/%2e%2e/%2e%2e/api/project")).status_code >= 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strips", "keeps_host"), [(False, True), pytest.param(True, False, marks=pytest.mark.slow)]
)
def test_the_app_works_behind_a_proxy(tmp_path: Path, strips: bool, keeps_host: bool) -> None:
    port = free_port()
    with (
        proxy(port, PREFIX, strips, keeps_host) as front,
        serving(tmp_path, port, "--base-url", f"https://{NAME}{PREFIX}") as (_, said),
    ):
        found = re.search(rf"open    https://{NAME}{PREFIX}#token=([\w-]+)\n", said)
        assert found is not None
        assert "ssh" not in said
        headers = {"Host": NAME, "Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
        check_story(f"http://127.0.0.1:{front}{PREFIX}", found[1], headers)


_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{front};
    client_max_body_size 20m;
    client_body_buffer_size 20m;
    location {prefix} {{
      proxy_pass http://127.0.0.1:{port}{target};
      {host}
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, strips: bool, keeps_host: bool) -> Iterator[int]:
    """Run nginx without rights in front of a server; yields its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    front = free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder, front=front, port=port, prefix=PREFIX,
            target="/" if strips else "",
            host="proxy_set_header Host $http_host;" if keeps_host else "",
        )
    )  # fmt: skip
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(configuration)])
    try:
        end = time.monotonic() + 20
        while True:
            assert process.poll() is None, (folder / "error.log").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", front), timeout=1):
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        yield front
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize(("strips", "keeps_host"), [(False, True), (True, False)])
def test_the_app_works_behind_nginx(tmp_path: Path, strips: bool, keeps_host: bool) -> None:
    port = free_port()
    with (
        nginx(tmp_path / "nginx", port, strips, keeps_host) as front,
        serving(tmp_path, port, "--base-url", f"https://{NAME}{PREFIX}") as (_, said),
    ):
        found = re.search(r"#token=([\w-]+)\n", said)
        assert found is not None
        headers = {"Host": NAME, "Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
        check_story(f"http://127.0.0.1:{front}{PREFIX}", found[1], headers)


@pytest.mark.slow
def test_a_server_that_nobody_uses_stops(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port, "--idle-shutdown", "0.02", "--read-only-link") as (process, said):
        assert len(re.findall(r"#token=[\w-]{43}\n", said)) == 1
        assert process.wait(60) == 0
        assert process.stderr is not None
        rest = process.stderr.read()
        assert re.search(r"to look only +http://127\.0\.0\.1:\d+/#token=[\w-]{43}\n", rest)
        assert "stopping: not used for 0.02 minutes" in rest


@pytest.mark.parametrize(
    "words", [["--idle-shutdown", "0"], ["--device", "gpu:1"], ["--base-url", "a/b"]]
)
def test_what_cannot_be_is_refused(tmp_path: Path, words: list[str]) -> None:
    micrographs(tmp_path / "mics", 1)
    command = [sys.executable, "-m", "heliodor", "app", str(tmp_path / "mics"), *words]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "project")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert words[0] in done.stderr
    assert not (tmp_path / "project").exists()
