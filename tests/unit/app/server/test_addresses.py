"""Where the app is reached: base addresses, names of hosts, tunnels, read-only links."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliodor.app.server.addresses import Addresses
from heliodor.app.server.application import build_application
from heliodor.app.server.endpoints import AppContext
from heliodor.errors import BadInput
from helpers.app import AppVisit, micrographs, open_app

HUB = "https://hub.example.org"


@pytest.mark.parametrize(
    ("base", "path", "page"),
    [
        ("", "", "http://127.0.0.1:8765/"),
        ("/", "", "http://127.0.0.1:8765/"),
        ("/node/c01/{port}/", "/node/c01/8765", "http://127.0.0.1:8765/node/c01/8765/"),
        (f"{HUB}/user/me/proxy/{{port}}", "/user/me/proxy/8765", f"{HUB}/user/me/proxy/8765/"),
        ("http://hub.example.org:8080", "", "http://hub.example.org:8080/"),
    ],
)
def test_the_page_is_at_the_base_url(base: str, path: str, page: str) -> None:
    addresses = Addresses(base_url=base)
    assert (addresses.path(8765), addresses.page(8765)) == (path, page)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"base_url": "hub/app"}, "--base-url"),
        ({"base_url": "ftp://hub.example.org/"}, "--base-url"),
        ({"base_url": f"{HUB}/a?b=c"}, "--base-url"),
        ({"base_url": "//evil.example/a"}, "--base-url"),
        ({"base_url": "/a b/"}, "--base-url"),
        ({"allowed_hosts": ("hub.example.org:80",)}, "--allowed-host"),
        ({"allowed_hosts": ("https://hub",)}, "--allowed-host"),
        ({"host": ""}, "--host"),
        ({"host": "a b"}, "--host"),
    ],
)
def test_what_is_no_address_is_refused(values: dict, name: str) -> None:
    with pytest.raises(BadInput, match=name):
        Addresses(**values)


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("127.0.0.1:99", True), ("localhost", True), ("hub.example.org", True),
        ("HUB.example.org:443", True), ("other.org:1", True), ("hub.example.org.evil", False),
        ("hub.example.org:99999", False), ("evil@hub.example.org", False), ("", False),
    ],
)  # fmt: skip
def test_only_known_names_of_the_host_are_accepted(host: str, accepted: bool) -> None:
    addresses = Addresses(base_url=f"{HUB}/x/", allowed_hosts=("Other.org",))
    assert addresses.accepts_host(host) is accepted


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        (HUB, True), ("http://hub.example.org:81", True), ("http://127.0.0.1:8765", True),
        ("http://127.0.0.1:8766", False), ("http://localhost:8765", False),
        ("https://evil.example", False), ("https://hub.example.org.evil", False), ("null", False),
        ("https://hub.example.org@evil.example", False),
    ],
)  # fmt: skip
def test_only_pages_of_the_proxy_and_of_the_server_are_its_own(
    origin: str, accepted: bool
) -> None:
    addresses = Addresses(base_url=f"{HUB}/x/")
    assert addresses.accepts_origin(origin, "127.0.0.1:8765") is accepted


def test_a_server_for_other_machines_answers_to_its_own_names() -> None:
    name = socket.gethostname()
    assert not Addresses().accepts_host(name)
    open_to_all = Addresses(host="0.0.0.0")
    assert open_to_all.accepts_host(f"{name}:8765")
    assert not open_to_all.is_local
    assert open_to_all.page(8765) == f"http://{name}:8765/"
    assert open_to_all.describe_access(8765, "me", {}) == ""
    assert Addresses(host="::1").is_local


def test_the_tunnel_goes_through_the_login_node_of_the_job() -> None:
    node = socket.gethostname()
    said = Addresses().describe_access(8765, "me", {"SLURM_SUBMIT_HOST": "login1"})
    assert f"ssh -L 8765:127.0.0.1:8765 -J me@login1 me@{node}\n" in said
    plain = Addresses().describe_access(8765, "me", {"SLURM_SUBMIT_HOST": node})
    assert f"ssh -L 8765:127.0.0.1:8765 me@{node}\n" in plain
    assert "-J me@LOGIN_NODE" in plain
    assert Addresses(base_url=f"{HUB}/x").describe_access(8765, "me", {}) == ""


def test_a_port_in_use_and_an_address_of_another_machine_are_one_sentence() -> None:
    with Addresses().listen([0]) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} cannot be used"):
            Addresses().listen([port])
        with Addresses().listen([port, 0]) as other:
            assert other.getsockname()[1] != port
    with pytest.raises(BadInput, match="--host"):
        Addresses(host="no-such-host.invalid").listen([0])


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("host", ["hub.example.org", "127.0.0.1:8765"])
def test_behind_a_proxy_everything_is_below_the_base_url(
    tmp_path: Path, strips: bool, host: str
) -> None:
    micrographs(tmp_path / "mics")
    addresses = Addresses(base_url=f"{HUB}/user/me/app/")
    base = "" if strips else "/user/me/app"
    headers = {"host": host, "origin": HUB, "sec-fetch-site": "same-origin"}
    with open_app(tmp_path, addresses=addresses) as app:
        client = app.client
        client.headers.update(headers)
        assert client.get(f"{base}/").status_code == 200
        assert client.get(f"{base}/api/project").json()["count"] == 3
        answer = client.post(f"{base}/api/micrographs/1/excluded", json={"excluded": True})
        assert answer.status_code == 200
        signed = app.keys.sign("/report/report.html")
        report = app.state.project.folder / "picks"
        report.mkdir()
        (report / "report.html").write_text("<p>the report</p>")
        del client.headers["authorization"]
        assert "the report" in client.get(f"{base}{signed}").text
        assert client.get(f"{base}{signed}0").status_code == 401
        # Names and pages that nobody allowed are refused here as well.
        assert client.get(f"{base}/", headers={"host": "evil.example"}).status_code == 403
        answer = client.get(f"{base}/api/project", headers={"origin": "https://evil.example"})
        assert answer.status_code == 403


def test_without_the_slash_at_its_end_the_base_url_leads_to_the_page(tmp_path: Path) -> None:
    micrographs(tmp_path / "mics")
    with open_app(tmp_path, addresses=Addresses(base_url="/user/me/app")) as app:
        answer = app.client.get("/user/me/app", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "app/")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppVisit]:
    with open_app(tmp_path, with_engine=True) as visit:
        visit.scored()
        yield visit


def open_link(app: AppVisit, token: str) -> dict[str, str]:
    """Return the headers of the session for the token of an address."""
    answer = app.client.post("/api/session", json={}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    session, rights = answer.json()["session"], answer.json()["rights"]
    assert rights == "read"
    return {"authorization": f"Bearer {session}"}


CHANGES = [
    ("/api/micrographs/0/labels", {"add": [{"id": "a", "x": 1, "y": 1, "kind": "particle"}]}),
    ("/api/micrographs/0/done", {"done": True}),
    ("/api/micrographs/0/excluded", {"excluded": True}),
    ("/api/micrographs/0/note", {"note": "a"}),
    ("/api/micrographs/0/offset", {"offset": 0.5}),
    ("/api/micrographs/0/contamination", {"ignore": True}),
    ("/api/excluded", {"ids": [0], "excluded": True}),
    ("/api/settings", {"threshold": 1.0}),
    ("/api/focus", {"id": 0}),
    ("/api/look", {}),
    ("/api/model", {"number": 0}),
    ("/api/comparison", {"models": [0, 1], "ids": [0]}),
    ("/api/comparison/cancel", {}),
    ("/api/train", {}),
    ("/api/train/cancel", {}),
    ("/api/train/thorough", {}),
    ("/api/train/thorough/cancel", {}),
    ("/api/export", {"what": "picks", "format": "star"}),
    ("/api/run", {}),
    ("/api/run/command", {}),
    ("/api/run/submit", {}),
    ("/api/run/cancel", {}),
    ("/api/share", {"action": "show"}),
    ("/api/micrographs/0/filaments", {"remove": [1]}),
    ("/api/filaments/trace", {}),
    ("/api/filaments/train", {}),
    ("/api/filaments/cancel", {}),
    ("/api/filaments/export", {"format": "box"}),
    ("/api/filaments/command", {}),
    ("/api/filaments/submit", {}),
]


def test_who_has_a_read_only_link_sees_everything_and_changes_nothing(app: AppVisit) -> None:
    token = app.post("/api/share", action="show")["token"]
    assert app.post("/api/share", action="show")["token"] == token
    headers = open_link(app, token)
    before = app.get("/api/project")["revision"]
    for path in (
        "/api/project", "/api/micrographs", "/api/changes?since=0", "/api/table", "/api/outliers",
        "/api/micrographs/0/labels", "/api/micrographs/0/picks", "/api/histogram", "/api/models",
        "/api/micrographs/0/thumbnail.jpg", "/api/micrographs/0/spectrum", "/api/gallery",
    ):  # fmt: skip
        assert app.client.get(path, headers=headers).status_code == 200, path
    assert app.client.get("/api/project", headers=headers).json()["read_only"] is True
    assert app.get("/api/project")["read_only"] is False
    crops = app.client.post("/api/crops", json={"at": [[0, 9.0, 9.0]]}, headers=headers)
    assert crops.status_code == 200
    for path, body in CHANGES:
        answer = app.client.post(path, json=body, headers=headers)
        assert (answer.status_code, "read-only" in answer.text) == (403, True), path
    assert app.get("/api/project")["revision"] == before


def test_every_address_that_changes_something_is_among_them(app: AppVisit) -> None:
    context = AppContext(app.state, app.keys)
    try:
        routes = build_application(context).routes
    finally:
        context.workers.close()
    posts = {r.path.replace("{id}", "0") for r in routes if "POST" in (r.methods or ())}
    assert posts - {"/api/crops"} == {path for path, _ in CHANGES}


def test_a_link_works_for_many_until_it_is_replaced_or_removed(app: AppVisit) -> None:
    token = app.post("/api/share", action="show")["token"]
    first, second = open_link(app, token), open_link(app, token)
    assert app.client.get("/api/project", headers=second).status_code == 200
    new = app.post("/api/share", action="renew")["token"]
    assert new != token
    assert app.client.get("/api/project", headers=first).status_code == 401
    later = open_link(app, new)
    assert app.post("/api/share", action="stop")["token"] is None
    assert app.client.get("/api/project", headers=later).status_code == 401
    # The owner is not affected.
    assert app.get("/api/project")["count"] == 3
