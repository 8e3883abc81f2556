"""Access to the page: what the browser keeps and sends, and what opens the page again."""

from __future__ import annotations

import http.server
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from browser.page import PageInUse, Truth, by_name

pytestmark = pytest.mark.slow

#: What the top of the page says in an old page after a restart of the server.
RESTARTED = "The server was restarted. Open the new address printed in the terminal."


def base_of(url: str) -> str:
    """Return an address without its token."""
    return url.partition("#")[0]


@contextmanager
def neighbor(page: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve a page on another port of the same host; yield its address and what it was sent."""
    sent: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append({"path": self.path, **self.headers})
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_browser_keeps_no_cookie_and_the_address_no_token(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    context = page.page.context
    assert context.cookies() == []
    assert page.page.url == f"{base_of(server.url)}#1"
    page.page.reload()
    page.wait_for_picture()
    assert page.page.url == f"{base_of(server.url)}#1"
    page.page.go_back()
    assert "token" not in page.page.url
    page.page.go_forward()
    # A second tab: the same address, and one without a token.
    for url in (server.url, base_of(server.url)):
        other: PageInUse = open_page(url, beside=page)
        assert "token" not in other.page.url
        assert other.text("#connection") == ""
    assert context.cookies() == []


def test_the_address_works_in_one_browser_only(
    serve: Any, open_page: Any, browser: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    open_page(server.url)
    stranger = browser.new_context()
    tab = stranger.new_page()
    try:
        for url in (server.url, base_of(server.url)):
            tab.goto(url)
            tab.locator("#connection", has_text="open the newest address").wait_for()
            assert tab.locator("#list .row").count() == 0
        output = server.process.stdout
        found = None
        while found is None:
            found = re.search(r"http://\S+/#token=\S+", output.readline())
        assert found.group() != server.url
        # Typed into the tab that is open, it changes only the part after the #.
        tab.goto(found.group())
        tab.locator("#list .row").first.wait_for()
        assert "token" not in tab.url
    finally:
        stranger.close()


def test_a_server_on_another_port_learns_and_loads_nothing(
    serve: Any, open_page: Any, simulated: Truth
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)
    session = page.page.evaluate("localStorage.getItem('heliodor session')")
    base = base_of(server.url)
    page.page.locator("#list .thumbnail").first.wait_for(state="visible")
    thumbnail = page.page.evaluate(
        "performance.getEntriesByType('resource').map((one) => one.name)"
        ".find((name) => name.includes('thumbnail'))"
    )
    markup = f"""<script>
        window.images = 0;
        window.statuses = [];
        for (const path of ["api/project", "api/micrographs", "static/main.js"])
          fetch("{base}" + path, {{ credentials: "include", mode: "no-cors" }})
            .then((response) => statuses.push(response.type), () => statuses.push("failed"));
      </script>
      <img src="{thumbnail}" onload="images++">
      <img src="{base}api/micrographs/0/thumbnail.jpg" onload="images++">"""
    with neighbor(markup) as (address, sent):
        tab = page.page.context.new_page()
        tab.goto(address)
        tab.wait_for_function("statuses.length === 3")
        tab.wait_for_load_state("load")
        assert tab.evaluate("statuses") == ["failed"] * 3
        assert tab.evaluate("images") == 0
        assert tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
            0, 0, ""
        ]  # fmt: skip
        page.page.goto(address)
    assert len(sent) >= 2
    for request in sent:
        assert "Cookie" not in request
        assert session not in str(request)
        assert base not in request.get("Referer", "")


def test_after_a_restart_an_old_page_says_so_and_the_new_address_saves_its_labels(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    os.link(simulated.files[0], folder / "m.mrc")
    words = (folder, "--diameter", 150, "--pixel-size", 4)
    server = serve(*words)
    page: PageInUse = open_page(server.url)
    page.page.wait_for_timeout(300)
    port = int(base_of(server.url).split(":")[2].strip("/"))
    server.stop()
    page.wait_for("#connection", "cannot be reached", 20_000)
    places = simulated.apart(0, 3)
    for x, y in places[:2]:
        page.click(x, y)
    # Another micrograph has come: m.mrc is the second one now.
    os.link(simulated.files[1], folder / "a.mrc")
    again = serve(*words, port=port)
    page.wait_for("#connection", RESTARTED, 20_000)
    assert page.page.locator("#toast").is_hidden()
    page.wait_for("#saving", "Not saved: 2", 10_000)

    # In another tab: the old one continues by itself.
    open_page(again.url, beside=page)
    page.wait_for("#list-count", "2 micrographs", 30_000)
    page.saved()
    labels = by_name(again.project / "labels.star")
    assert {name: len(xy) for name, xy in labels.items()} == {"m": 2}
    assert page.text("#connection") == ""

    # Or in the same tab, where only the part after the # changes.
    page.choose(1)
    page.wait_for_labels(2, 0)
    again.stop()
    page.wait_for("#connection", "cannot be reached", 20_000)
    page.click(*places[2])
    page.wait_for("#saving", "Not saved: 1", 10_000)
    third = serve(*words, port=port)
    page.wait_for("#connection", RESTARTED, 20_000)
    page.page.goto(third.url)
    page.wait_for_picture()
    page.saved()
    assert "token" not in page.page.url
    labels = by_name(third.project / "labels.star")
    assert {name: len(xy) for name, xy in labels.items()} == {"m": 3}


def test_thumbnails_come_from_the_cache_of_the_browser_after_a_reload(
    serve: Any, open_page: Any, simulated: Truth, tmp_path: Path
) -> None:
    server = serve(simulated.micrographs, "--diameter", 150)
    page: PageInUse = open_page(server.url)

    def transferred() -> list[int]:
        """Return the bytes of each thumbnail that came from the server."""
        page.page.wait_for_function(
            "() => [...document.querySelectorAll('#list .thumbnail')]"
            ".filter((image) => image.style.visibility === 'visible' && image.naturalWidth)"
            ".length === 4"
        )
        sizes: list[int] = page.page.evaluate(
            "performance.getEntriesByType('resource')"
            ".filter((one) => one.name.includes('thumbnail')).map((one) => one.transferSize)"
        )
        return sizes

    assert all(size > 0 for size in transferred())
    page.page.reload()
    assert transferred() == [0] * 4
