"""Attacks on the app: requests without access, or for what is not in the project."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from heliodor.app.server.access import MAX_BODY
from heliodor.app.server.access_keys import AccessKeys
from helpers.app import (
    BASE,
    AppVisit,
    TestClient,
    open_app,
)

#: The page and its scripts, which are the same for everybody.
OPEN_TO_ALL = ["/", "/static/main.js", "/static/no_such.js"]
ADDRESSES = [
    "/api/project",
    "/api/micrographs",
    "/api/changes?since=0",
    "/api/micrographs/0",
    "/api/micrographs/0/tiles/0/0/0.jpg",
    "/api/micrographs/0/labels",
    "/api/exports/picks.star",
    "/report/report.html",
    "/no/such/address",
]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppVisit]:
    folder = tmp_path_factory.mktemp("gate")
    with open_app(folder) as own:
        (folder / "project/secret.html").write_text("secret of the user")
        (folder / "secret.html").write_text("secret of the user")
        yield own


@pytest.fixture
def stranger(visit: AppVisit) -> TestClient:
    return TestClient(visit.client.app, BASE, headers={}, follow_redirects=False)


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_told_without_the_session_token(
    visit: AppVisit, stranger: TestClient, address: str
) -> None:
    session = visit.session
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {session[:-1]}"},
        {"Authorization": f"Basic {session}"},
        {"Authorization": f"Bearer {visit.keys.address_token}"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": "Bearer "},
        {"Cookie": f"heliodor_8765={session}"},
        {"Cookie": f"session={session}; token={session}"},
        {"Cookie": "\x7f;=;heliodor_8765"},
    ):
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = stranger.get(address, headers=raw)
        assert answer.status_code == 401, headers
        assert "open the newest address" in answer.json()["error"]
    joint = "&" if "?" in address else "?"
    assert stranger.get(f"{address}{joint}token={session}").status_code == 401


def test_the_page_itself_needs_no_token_and_contains_nothing_of_the_project(
    visit: AppVisit, stranger: TestClient
) -> None:
    for address in OPEN_TO_ALL:
        answer = stranger.get(address)
        assert answer.status_code == (404 if "no_such" in address else 200)
        assert answer.content == visit.client.get(address).content
        assert str(visit.state.project.folder) not in answer.text
        assert "set-cookie" not in answer.headers
        assert stranger.post(address, json={}).status_code == 401


def test_nothing_is_changed_without_the_session_token(
    visit: AppVisit, stranger: TestClient
) -> None:
    before = visit.get("/api/project")["settings"]
    mark = {"add": [{"id": "a", "x": 1, "y": 2, "kind": "particle"}]}
    assert stranger.post("/api/micrographs/0/labels", json=mark).status_code == 401
    assert stranger.post("/api/settings", json={"threshold": 7}).status_code == 401
    assert visit.get("/api/micrographs/0/labels")["id"] == []
    assert visit.get("/api/project")["settings"] == before


def test_the_token_of_the_address_is_exchanged_once(visit: AppVisit, stranger: TestClient) -> None:
    def exchange(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return stranger.post("/api/session", json={}, headers=headers)

    token = visit.keys.address_token
    for wrong in ("", "wrong", token[:-1], visit.session, "\xff"):
        raw = f"Bearer {wrong}".encode("latin-1")
        answer = stranger.post("/api/session", json={}, headers={"Authorization": raw})
        assert answer.status_code == 401
        assert "opened already" in answer.json()["error"]
    assert stranger.post("/api/session", json={"token": token}).status_code == 401
    assert stranger.get("/api/session").status_code == 405
    answer = exchange(token)
    assert answer.json() == {"session": visit.session, "rights": "all"}
    assert "set-cookie" not in answer.headers
    assert exchange(token).status_code == 401
    assert exchange(visit.keys.address_token).json() == {"session": visit.session, "rights": "all"}


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-site"}, {"Origin": "http://[::1]"}])
def test_another_page_cannot_exchange_a_token(
    visit: AppVisit, stranger: TestClient, headers: dict[str, str]
) -> None:
    token = visit.keys.address_token
    headers = {**headers, "Authorization": f"Bearer {token}"}
    assert stranger.post("/api/session", json={}, headers=headers).status_code == 403
    assert visit.keys.address_token == token


def test_a_link_on_another_page_leads_to_the_page_only(stranger: TestClient) -> None:
    follow = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    assert stranger.get("/", headers=follow).status_code == 200
    for address in ("/static/main.js", "/api/project", "/report/report.html"):
        assert stranger.get(address, headers=follow).status_code == 403


def test_a_signed_address_opens_what_it_was_signed_for_and_nothing_else(
    visit: AppVisit, stranger: TestClient
) -> None:
    signed = visit.keys.sign("/api/micrographs/0/thumbnail.jpg", "v=1")
    assert stranger.get(signed).status_code == 200
    assert stranger.head(signed).status_code != 401
    assert stranger.post(signed, json={}).status_code == 401
    query = signed.partition("?")[2]
    for other in (
        f"/api/micrographs/1/thumbnail.jpg?{query}",
        signed.replace("v=1", "v=2"),
        signed.replace("v=1&", ""),
        f"{signed}&v=2",
        signed.replace("expires=", "expires=1"),
        signed[:-1] + ("0" if signed[-1] != "0" else "1"),
        AccessKeys().sign("/api/micrographs/0/thumbnail.jpg", "v=1"),
    ):
        answer = stranger.get(other)
        assert answer.status_code == 401, other
        assert "expired" in answer.json()["error"]
    another_page = {"Sec-Fetch-Site": "same-site"}
    assert stranger.get(signed, headers=another_page).status_code == 403


def test_the_report_has_a_signed_address(tmp_path: Path) -> None:
    with open_app(tmp_path) as own:
        assert own.get("/api/project")["run"]["report"] is None
        folder = own.state.project.folder / "picks"
        folder.mkdir()
        (folder / "report.html").write_text("the report")
        with mock.patch.dict(own.state.batch_run._state, state="done"):
            address = own.get("/api/project")["run"]["report"]
            assert own.get("/api/changes", since=0)["run"]["report"] == address
        reader = TestClient(own.client.app, BASE)
        assert reader.get(address).text == "the report"
        assert reader.get(address.partition("?")[0]).status_code == 401


@pytest.mark.parametrize("query", ["&".join(f"a{i}=1" for i in range(2000)), "&" * 2000])
def test_a_query_of_thousands_of_fields_changes_nothing(stranger: TestClient, query: str) -> None:
    assert stranger.get(f"/?{query}").text == stranger.get("/").text
    assert stranger.get(f"/api/project?{query}").status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:1", 200),
        ("[::1]:8765", 200),
        ("localhost", 200),
        ("evil.example", 403),
        ("evil.example:8765", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8765", 403),
        ("127.0.0.1:8765@evil.example", 403),
        ("0.0.0.0:8765", 403),
        ("127.0.0.1:99999", 403),
        ("127.0.0.1:", 403),
        ("", 403),
    ],
)
def test_only_this_machine_is_meant(visit: AppVisit, host: str, status: int) -> None:
    assert visit.client.get("/api/project", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": BASE}, 200),
        ({"Origin": "http://localhost:8765"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "https://127.0.0.1:8765"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
          "Sec-Fetch-Dest": "document"}, 403),
    ],
)  # fmt: skip
def test_other_pages_are_refused(visit: AppVisit, headers: dict[str, str], status: int) -> None:
    assert visit.client.get("/api/project", headers=headers).status_code == status
    posted = visit.client.post("/api/settings", json={"threshold": 1}, headers=headers)
    assert posted.status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_page_cannot_post(visit: AppVisit, kind: str) -> None:
    answer = visit.client.post(
        "/api/settings", content=b'{"threshold":1}', headers={"Content-Type": kind}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(visit: AppVisit, method: str) -> None:
    assert visit.client.request(method, "/api/project").status_code == 405
    assert visit.client.get("/api/train").status_code == 405
    assert visit.client.post("/api/micrographs", json={}).status_code == 405


def test_every_answer_is_guarded(visit: AppVisit, stranger: TestClient) -> None:
    for client in (visit.client, stranger):
        for address in [*OPEN_TO_ALL, *ADDRESSES]:
            headers = client.get(address).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in headers


def test_files_have_their_types_and_an_etag(visit: AppVisit) -> None:
    for address, kind in (("/", "text/html"), ("/static/main.js", "text/javascript")):
        answer = visit.client.get(address)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        head = visit.client.head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == answer.headers["content-type"]
        etag = answer.headers["etag"]
        again = visit.client.get(address, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert "default-src 'self'" in again.headers["content-security-policy"]
    for folder in ("/static", "/static/", "/static/.", "/report", "/report/"):
        assert visit.client.get(folder).status_code == 404, folder


_PARTS = [
    "..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2f..", "%2fetc%2fpasswd", "%00", "0%00",
    "-1", "1e3", "0x1", "nan", "inf", "99999999999999999999", "3", "1.5", "%D9%A3", "a", "0;ls",
    "....%2f%2f", "%5c..%5c", "C:%5c",
]  # fmt: skip


@pytest.mark.parametrize("part", _PARTS)
def test_no_part_of_an_address_leads_elsewhere(visit: AppVisit, part: str) -> None:
    for address in (
        f"/api/micrographs/{part}",
        f"/api/micrographs/{part}/labels",
        f"/api/micrographs/{part}/picks",
        f"/api/micrographs/{part}/thumbnail.jpg",
        f"/api/micrographs/{part}/tiles/0/0/0.jpg",
        f"/api/micrographs/0/tiles/{part}/0/0.jpg",
        f"/api/micrographs/0/tiles/0/{part}/0.jpg",
        f"/api/micrographs/0/tiles/0/0/{part}.jpg",
        f"/api/exports/{part}",
        f"/api/exports/{part}%2fproject.json",
        f"/api/exports/{part}%2f{part}%2fproject.json",
        f"/report/{part}",
        f"/report/{part}%2fsecret.html",
        f"/report/{part}/{part}/secret.html",
        f"/static/{part}",
        f"/static/{part}/{part}/room.py",
        f"/static/{part}%2froom.py",
    ):
        if httpx.URL(BASE + address).path == "/":
            continue  # the client itself would make that of it
        answer = visit.client.get(address)
        assert answer.status_code in (404, 405), address
        assert "secret" not in answer.text
        assert "import" not in answer.text
    for address in ("labels", "done"):
        answer = visit.client.post(f"/api/micrographs/{part}/{address}", json={})
        assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "query",
    [
        "tiles/0/0/0.jpg?low_pass=nan", "tiles/0/0/0.jpg?low_pass=inf",
        "tiles/0/0/0.jpg?low_pass=-1", "tiles/0/0/0.jpg?low_pass=1e9",
        "tiles/0/0/0.jpg?low_pass=../..", "tiles/0/0/0.jpg?low_pass=",
    ],
)  # fmt: skip
def test_queries_are_checked(visit: AppVisit, query: str) -> None:
    answer = visit.client.get(f"/api/micrographs/0/{query}")
    assert answer.status_code == 400
    assert "low_pass" in answer.json()["error"]


@pytest.mark.parametrize(
    "address",
    [
        "/api/changes?since=-1", "/api/changes?since=nan", "/api/changes?since=1e9",
        "/api/changes?since=9999999999", "/api/gallery?start=-1", "/api/gallery?count=100000",
        "/api/questions?count=0x10", "/api/questions?count=99999",
    ],
)  # fmt: skip
def test_numbers_in_queries_are_checked(visit: AppVisit, address: str) -> None:
    assert visit.client.get(address).status_code == 400


_BODIES: list[tuple[str, Any]] = [
    *(("/api/settings", {"threshold": v}) for v in (1e9, "1", [1], True, {})),
    *(("/api/settings", {"diameter": v}) for v in (0, -5, 1e9, "120", None, True, [])),
    ("/api/settings", {"folder": "/etc"}),
    *(("/api/focus", {"id": v}) for v in (-1, 3, 1.0, "0", None, True, 10**30)),
    ("/api/train", {"out": "/etc/passwd"}),
    *(("/api/export", {"what": v, "format": "star"}) for v in ("../labels", None, 3, ["labels"])),
    *(("/api/export", {"what": "labels", "format": v}) for v in ("../star", "", None, 3, {})),
    ("/api/run", {"command": "ls"}),
    ("/api/crops", {}),
    ("/api/crops", {"at": [[0, 1]]}),
    ("/api/crops", {"at": [[-1, 1, 1]]}),
    ("/api/crops", {"at": [[0, "a", 1]]}),
    ("/api/crops", {"at": [[0, 1, 1]] * 101}),
    ("/api/micrographs/0/done", {"done": 1}),
    ("/api/micrographs/0/labels", {"add": {}}),
    ("/api/micrographs/0/labels", {"remove": "a"}),
    ("/api/micrographs/0/labels", {"remove": [3]}),
    ("/api/micrographs/0/labels", []),
]


@pytest.mark.parametrize(("address", "body"), _BODIES)
def test_bodies_are_checked(visit: AppVisit, address: str, body: Any) -> None:
    before = visit.get("/api/project")["settings"]
    answer = visit.client.post(address, json=body)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10
    assert visit.get("/api/project")["settings"] == before


@pytest.mark.parametrize(
    "text",
    [b"{", b"\xff\xfe", b'{"threshold": NaN}', b'{"threshold": Infinity}', b"[" * 100_000,
     b'{"threshold": 1e999}', b'{"threshold": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_is_refused(visit: AppVisit, text: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert visit.client.post("/api/settings", content=text, headers=headers).status_code == 400


def test_a_body_may_have_four_megabytes_however_it_comes(visit: AppVisit) -> None:
    headers = {"Content-Type": "application/json"}
    padded = json.dumps({"threshold": 1}).encode().ljust(MAX_BODY)
    assert visit.client.post("/api/settings", content=padded, headers=headers).status_code == 200

    def pieces() -> Iterator[bytes]:
        yield padded
        yield b" "

    for content in (padded + b" ", pieces()):
        answer = visit.client.post("/api/settings", content=content, headers=headers)
        assert answer.status_code == 413
    lying = {**headers, "Content-Length": "9" * 30}
    assert visit.client.post("/api/settings", content=b"{}", headers=lying).status_code == 413


def test_too_much_work_is_put_off_and_marks_are_not(
    visit: AppVisit, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    pictures = visit.state.tiles
    real = pictures.thumbnail

    def slow(*arguments: Any) -> bytes:
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(pictures, "thumbnail", slow)
    address = "/api/micrographs/0/thumbnail.jpg"
    with ThreadPoolExecutor(140) as pool:
        asked = [pool.submit(visit.client.get, address) for _ in range(140)]
        # All others wait: the first to be answered are those for which there was no room.
        put_off = [one.result() for one in islice(as_completed(asked, timeout=60), 10)]
        mark = {"id": "a", "x": 1, "y": 2, "kind": "particle"}
        visit.post("/api/micrographs/1/labels", add=[mark])
        go_on.set()
        codes = sorted(one.result().status_code for one in asked)
    assert [answer.status_code for answer in put_off] == [503] * 10
    assert {answer.headers["retry-after"] for answer in put_off} == {"1"}
    assert codes[0] == 200
    assert codes.count(200) == 130  # two at work, the rest in the line
    assert visit.get("/api/micrographs/1/labels")["id"] == ["a"]
